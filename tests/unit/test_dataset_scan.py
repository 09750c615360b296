"""Scans: what counts as a picture, kohya folders, captions, and a row for everything that is wrong."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from loratui.config.schema import DataConfig
from loratui.dataset.scan import Scan, Source, natural_key, read_header, scan, walk_sources

SMALL = DataConfig(resolution=64, bucket_step=16, min_bucket=32, max_bucket=128)


def picture(path: Path, size: tuple[int, int] = (64, 64), caption: str | None = "a cat") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
    return path


def look(folder: Path, **source: object) -> Scan:
    return scan([Source(folder, **source)], root=folder.parent, data=SMALL)  # type: ignore[arg-type]


def codes(found: Scan) -> dict[str, str]:
    return {p.path: p.code for p in found.problems}


def test_pictures_in_natural_order_with_captions(tmp_path: Path) -> None:
    for name in ("10.png", "2.jpg", "1.webp", "sub/3.bmp"):
        picture(tmp_path / "d" / name, caption=f"caption of {name}")
    found = look(tmp_path / "d")
    assert [p.rel for p in found.pictures] == ["d/1.webp", "d/2.jpg", "d/10.png", "d/sub/3.bmp"]
    assert found.pictures[2].caption == "caption of 10.png"
    assert found.problems == ()
    assert found.as_json()["images"] == 4


def test_what_others_leave_beside_pictures_is_no_picture(tmp_path: Path) -> None:
    picture(tmp_path / "d" / "a.png")
    for name in (
        "a-masklabel.png",
        "a-condlabel.png",
        "._a.png",
        ".hidden.png",
        "@eaDir/x.png",
        ".git/y.png",
    ):
        picture(tmp_path / "d" / name, caption=None)
    for name in ("a_0512x0768_sdxl.npz", "a_te_outputs.npz", "a_flux.npz", "Thumbs.db", "notes.md"):
        (tmp_path / "d" / name).write_text("x")
    found = look(tmp_path / "d")
    assert [p.rel for p in found.pictures] == ["d/a.png"]


def test_kohya_folders(tmp_path: Path) -> None:
    picture(tmp_path / "d" / "10_sks cat" / "a.png", caption=None)
    picture(tmp_path / "d" / "3_my_dog" / "b.png", caption="a dog")
    picture(tmp_path / "d" / "3_my_dog" / "deeper" / "no.png")
    picture(tmp_path / "d" / "0_zero" / "no.png")
    picture(tmp_path / "d" / "loose.png")
    found = look(tmp_path / "d", repeats=2)
    rows = {p.rel: (p.repeats, p.caption) for p in found.pictures}
    assert rows == {"d/10_sks cat/a.png": (20, "sks cat"), "d/3_my_dog/b.png": (6, "a dog")}
    skipped = {Path(p.path).name for p in found.problems if p.code == "not-in-kohya-folder"}
    assert skipped == {"0_zero", "loose.png"}
    assert found.buckets[0].repeated == 26


def test_every_problem_has_a_row(tmp_path: Path) -> None:
    d = tmp_path / "d"
    picture(d / "good.png")
    picture(d / "none.png", caption=None)
    picture(d / "empty.png", caption="  \n")
    picture(d / "bom.png").with_suffix(".txt").write_bytes(b"\xef\xbb\xbfx")
    picture(d / "latin.png").with_suffix(".txt").write_bytes(b"caf\xe9")
    picture(d / "lines.png", caption="one\ntwo")
    picture(d / "twin.png")
    picture(d / "twin.jpg")
    picture(d / "tiny.png", size=(20, 20))
    (d / "text.png").write_text("not a picture")
    (d / "zero.jpg").write_bytes(b"")
    whole = picture(d / "whole.jpg", size=(200, 200)).read_bytes()
    (d / "whole.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    Image.new("RGB", (8, 8)).save(
        d / "moves.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")]
    )
    found = look(d)
    by_name: dict[str, set[str]] = {}
    for problem in found.problems:
        by_name.setdefault(Path(problem.path).name, set()).add(problem.code)
    assert by_name.pop("moves.gif") >= {"animated", "missing-caption"}
    assert by_name == {
        "none.png": {"missing-caption"},
        "empty.png": {"empty-caption"},
        "bom.png": {"caption-bom"},
        "latin.png": {"caption-not-utf8"},
        "lines.png": {"caption-lines"},
        "twin.png": {"shared-caption"},
        "twin.jpg": {"shared-caption"},
        "tiny.png": {"small-image"},
        "text.png": {"corrupt-image"},
        "zero.jpg": {"corrupt-image"},
        "whole.jpg": {"truncated-image"},
    }
    kept = {p.path.name for p in found.pictures}
    assert kept.isdisjoint({"text.png", "zero.jpg", "whole.jpg"})
    assert {Path(p.path).name for p in found.errors} == {"text.png", "zero.jpg", "whole.jpg"}
    assert next(p for p in found.pictures if p.path.name == "lines.png").caption == "one two"


def test_a_bomb_is_refused_unread(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"0"))
        + chunk(b"IEND", b"")
    )
    assert codes(look(tmp_path / "d")) == {"d/bomb.png": "too-large"}


def test_link_loops_and_doubles_end(tmp_path: Path) -> None:
    d = tmp_path / "d"
    picture(d / "a.png")
    (d / "loop").symlink_to(d)
    (d / "self").symlink_to(d / "self")
    (d / "self.png").symlink_to(d / "self.png")
    found = scan([Source(d), Source(d)], root=tmp_path, data=SMALL)
    assert [p.rel for p in found.pictures] == ["d/a.png"]
    assert codes(found) == {"d/self.png": "corrupt-image"}


def test_names_of_every_kind(tmp_path: Path) -> None:
    d = tmp_path / "d"
    names = [
        "[red]x[b].png",
        "new\nline.png",
        "esc\x1b]52;c;x\x07.png",
        "e\u0301.png",
        "é.png",
        "猫😀.png",
        "a" * 251 + ".png",
    ]
    for name in names:
        picture(d / name, caption=None)
    raw = os.fsencode(d) + b"/bad\xff.png"
    Path(os.fsdecode(raw)).write_bytes((d / "é.png").read_bytes())
    found = look(d)
    assert {p.path.name for p in found.pictures} == {*names, "bad\udcff.png"}
    assert "name-not-utf8" in {p.code for p in found.problems}


@pytest.mark.parametrize("make", ["missing", "file"])
def test_a_source_that_is_no_folder(tmp_path: Path, make: str) -> None:
    if make == "file":
        (tmp_path / "d").write_text("x")
    found = look(tmp_path / "d")
    assert [p.code for p in found.errors] == ["missing-folder" if make == "missing" else "not-a-folder"]


def test_runs_inside_a_project_are_no_data(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "runs" / "r" / "samples" / "b.png")
    found = scan([Source(tmp_path)], root=tmp_path, data=SMALL)
    assert [p.rel for p in found.pictures] == ["a.png"]


def test_sizes_are_those_after_the_exif_turn(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "d").mkdir()
    Image.new("RGB", (120, 60)).save(tmp_path / "d" / "a.jpg", exif=exif)
    found = look(tmp_path / "d")
    assert (found.pictures[0].width, found.pictures[0].height) == (60, 120)
    assert (found.buckets[0].width, found.buckets[0].height) == (32, 128) or found.buckets[0].height > 64


def test_mutated_files_never_raise(tmp_path: Path) -> None:
    import random

    draw = random.Random(7)
    source = tmp_path / "s"
    source.mkdir()
    image = Image.effect_noise((48, 40), 60).convert("RGB")
    for suffix in ("png", "jpg", "webp", "gif", "bmp", "tif"):
        image.save(source / f"a.{suffix}")
    for number in range(240):
        path = sorted(source.iterdir())[number % 6]
        data = bytearray(path.read_bytes())
        for _ in range(draw.randint(1, 12)):
            data[draw.randrange(min(len(data), 200))] = draw.randrange(256)
        target = tmp_path / "d" / f"{number}{path.suffix}"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(bytes(data[: draw.randint(1, len(data))]))
    found = look(tmp_path / "d")
    assert len(found.pictures) + len(found.errors) == 240


def test_natural_keys_compare_any_names() -> None:
    names = ["a10", "a2", "A1", "1", "", "²", "9a", "a\udcff", "10", "٣"]
    shuffled = names[::-1]
    assert sorted(names, key=natural_key) == sorted(shuffled, key=natural_key)
    assert sorted(["p10.png", "p9.png"], key=natural_key) == ["p9.png", "p10.png"]


def test_only_headers_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in ("png", "jpg", "webp", "gif", "bmp", "tif"):
        picture(tmp_path / "d" / f"{suffix}.{suffix}", size=(200, 100))

    def refuse(self: object) -> None:
        raise AssertionError("a scan decoded a whole picture")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    found = look(tmp_path / "d")
    assert {(p.width, p.height) for p in found.pictures} == {(200, 100)}
    assert len(found.pictures) == 6
    assert read_header(tmp_path / "d" / "png.png") == ((200, 100), 1)
    assert len(list(walk_sources([Source(tmp_path / "d")]))) == 6
