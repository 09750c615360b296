"""The index: incremental, rebuilt when damaged, figures from processes that may be killed; and the rows."""

from __future__ import annotations

import os
import sqlite3
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from loratui.dataset.duplicates import groups
from loratui.dataset.headers import header_size
from loratui.dataset.index import Index
from loratui.dataset.measure_pool import Work, measure_all
from loratui.dataset.query import parse, select
from loratui.dataset.rows import Facts, candidates, make_rows
from loratui.dataset.scan import read_header
from loratui.errors import DatasetError


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (64, 48), **save: object) -> Path:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize(size, Image.Resampling.NEAREST).save(path, **save)  # type: ignore[arg-type]
    return path


@pytest.fixture
def data(tmp_path: Path) -> list[Path]:
    out = [picture(tmp_path / "data" / f"{i}.png", i) for i in range(5)]
    out[0].with_suffix(".txt").write_bytes(b"sks, cat\r\n")
    out[1].with_suffix(".caption").write_bytes("caf\xe9".encode("cp1252"))
    return out


def open_index(tmp_path: Path) -> Index:
    return Index(tmp_path / ".loratui" / "cache")


def test_only_what_changed_is_read_again(tmp_path: Path, data: list[Path]) -> None:
    index = open_index(tmp_path)
    first = index.refresh(data)
    assert (first.added, first.same) == (5, 0)
    row = index.get(data[0])
    assert row is not None and (row.width, row.height, row.caption, row.encoding) == (
        64,
        48,
        "sks, cat",
        "utf-8",
    )
    other = index.get(data[1])
    assert other is not None and (other.caption, other.encoding) == ("caf\xe9", "cp1252")
    assert other.caption_path == data[1].with_suffix(".caption")
    index.close()
    index = open_index(tmp_path)
    assert not index.refresh(data).anything and not index.rebuilt
    picture(data[2], 9, (80, 40))
    data[0].with_suffix(".txt").write_bytes(b"dog")
    data[3].with_suffix(".txt").write_bytes(b"new")
    data[1].with_suffix(".caption").unlink()
    report = index.refresh(data[:4])
    assert (report.changed, report.captions, report.removed, report.same) == (1, 3, 1, 0)
    assert {r.path.name: (r.width, r.caption) for r in index.rows()} == {
        "0.png": (64, "dog"),
        "1.png": (64, ""),
        "2.png": (80, ""),
        "3.png": (64, "new"),
    }


@pytest.mark.parametrize("damage", ["garbage", "cut", "version", "columns", "empty", "flip"])
def test_a_damaged_index_is_rebuilt(tmp_path: Path, data: list[Path], damage: str) -> None:
    index = open_index(tmp_path)
    index.refresh(data)
    index.close()
    path = index.path
    raw = path.read_bytes()
    if damage == "garbage":
        path.write_bytes(os.urandom(8192))
    elif damage == "cut":
        path.write_bytes(raw[: len(raw) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flip":
        path.write_bytes(raw[:8192] + bytes(2000) + raw[10192:])
    else:
        with sqlite3.connect(path) as db:
            db.execute(
                "UPDATE about SET version = 99" if damage == "version" else "ALTER TABLE pictures ADD x"
            )
        db.close()
    index = open_index(tmp_path)
    assert index.refresh(data).added == 5 and len(index.rows()) == 5
    assert bool(index.rebuilt) == (damage != "empty")
    index.close()


def test_without_a_writable_cache_it_lives_in_memory(tmp_path: Path, data: list[Path]) -> None:
    (tmp_path / "file").write_text("not a folder")
    index = Index(tmp_path / "file" / "cache")
    assert index.refresh(data).added == 5


def test_what_cannot_be_read_is_named(tmp_path: Path, data: list[Path]) -> None:
    (tmp_path / "data" / "bad.png").write_bytes(b"no picture")
    odd = tmp_path / "data" / os.fsdecode(b"n\xff[b]\x1b\n.png")
    picture(tmp_path / "x.png").rename(odd)
    index = open_index(tmp_path)
    index.refresh([*data, tmp_path / "data" / "bad.png", odd, tmp_path / "gone.png"])
    bad = index.get(tmp_path / "data" / "bad.png")
    assert bad is not None and bad.code == "corrupt-image" and bad.width == 0
    found = index.get(odd)
    assert found is not None and found.width == 64
    assert index.get(tmp_path / "gone.png") is None


def test_content_is_hashed_once_and_forgotten_on_change(tmp_path: Path, data: list[Path]) -> None:
    import hashlib

    index = open_index(tmp_path)
    index.refresh(data)
    wanted = hashlib.sha256(data[0].read_bytes()).hexdigest()
    assert index.content_hash(data[0]) == wanted
    row = index.get(data[0])
    assert row is not None and row.content == wanted
    picture(data[0], 77)
    index.refresh(data)
    assert index.content_hash(data[0]) == hashlib.sha256(data[0].read_bytes()).hexdigest() != wanted


def test_figures_are_kept_and_rows_filter(tmp_path: Path, data: list[Path]) -> None:
    picture(tmp_path / "data" / "twin.png", 0, (128, 96))
    Image.new("RGB", (300, 64), "black").save(tmp_path / "data" / "dark.png")
    (tmp_path / "data" / "cut.png").write_bytes(data[0].read_bytes()[:-40] + b"IEND\xaeB`\x82")
    everything = sorted((tmp_path / "data").glob("*.png"))
    index = open_index(tmp_path)
    index.refresh(everything)
    assert index.unmeasured() == everything
    results = list(index.measure(workers=1, thumbnails=True))
    assert len(results) == 8 and {r.path.name for r in results if r.error} == {"cut.png"}
    assert index.thumbnail_path(data[0]).exists() and not index.unmeasured()
    index.close()
    index = open_index(tmp_path)
    index.refresh(everything)
    assert not index.unmeasured()
    pairs = groups(candidates(index.rows()))
    assert {Path(c.path).name for c in pairs[0].members} >= {"0.png", "twin.png"}
    assert Path(pairs[0].keep.path).name == "twin.png"
    facts = Facts(
        {tmp_path / "data": ("data", 10)},
        {"stars": {data[1]: 4}},
        pinned=frozenset({data[0].with_suffix(".txt")}),
        groups=tuple(pairs),
        findings={data[2]: ("trigger-missing",)},
    )
    rows = make_rows(index.rows(), tmp_path, facts)
    expected = {
        "problem:dark": {"dark.png"},
        "problem:trigger-*": {"2.png"},
        "stars:>=4": {"1.png"},
        "pinned:yes": {"0.png"},
        "dup:>=2 AND width:128": {"twin.png"},
        "tag:cat": {"0.png"},
        "captioned:yes": {"0.png", "1.png"},
        "repeats:10 AND name:dark": {"dark.png"},
        "path:data/3": {"3.png"},
        "aspect:>4": {"dark.png"},
    }
    for text, names in expected.items():
        assert {r.name for r in select(parse(text), rows)} == names, text
    assert all(r.bucket for r in rows)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tif"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8, 9])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_headers_agree_with_pillow(tmp_path: Path, suffix: str, orientation: int | None, mode: str) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x010F] = "maker"
    if orientation:
        exif[0x0112] = orientation
    options: list[dict[str, object]] = [{}, {"exif": exif.tobytes()}]
    if suffix == "webp":
        options.append({"lossless": True})
    if suffix == "jpg":
        options.append({"progressive": True, "exif": exif.tobytes(), "icc_profile": bytes(30_000)})
    for save in options:
        Image.effect_noise((123, 77), 40).convert(mode).save(path, **save)  # type: ignore[arg-type]
        assert header_size(path) == read_header(path), save


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif"])
def test_cut_and_odd_files_are_left_to_pillow(tmp_path: Path, suffix: str) -> None:
    path = picture(tmp_path / f"a.{suffix}", size=(300, 200))
    raw = path.read_bytes()
    for cut in (0, 1, 9, 20, 30, len(raw) // 2, len(raw) - 3):
        path.write_bytes(raw[:cut])
        assert outcome(header_size, path) == outcome(read_header, path), cut
    frames = [Image.new("RGB", (20, 10), c) for c in ("red", "blue")]
    if suffix in {"webp", "gif", "png"}:
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert outcome(header_size, path) == outcome(read_header, path)


def outcome(read: object, path: Path) -> object:
    try:
        return read(path)  # type: ignore[operator]
    except DatasetError as error:
        return error.problems[0].code


def test_a_worker_that_hangs_or_dies_is_replaced(tmp_path: Path, data: list[Path]) -> None:
    os.mkfifo(tmp_path / "slow.png")
    os.mkfifo(tmp_path / "dies.png")
    start = time.perf_counter()
    (slow, good) = measure_all([Work(tmp_path / "slow.png"), Work(data[0])], workers=1, seconds=1.0)
    assert slow.code == "too-slow" and good.quality is not None
    assert time.perf_counter() - start < 30
    ready = measure_all([Work(data[1]), Work(tmp_path / "dies.png"), Work(data[0])], workers=1, seconds=20)
    assert next(ready).quality is not None
    (child,) = [c for c in psutil.Process().children() if "measure_worker" in " ".join(c.cmdline())]
    child.kill()
    dead = next(ready)
    assert dead.code == "crashed-decoder" and "SIGKILL" in dead.error
    assert next(ready).quality is not None
    ready.close()
    assert not [c for c in psutil.Process().children() if "measure_worker" in " ".join(c.cmdline())]


def test_closing_ends_the_workers(tmp_path: Path, data: list[Path]) -> None:
    os.mkfifo(tmp_path / "slow.png")
    ready = measure_all([Work(data[0]), *[Work(tmp_path / "slow.png")] * 50], workers=1)
    next(ready)
    start = time.perf_counter()
    ready.close()
    assert time.perf_counter() - start < 5
    assert not [c for c in psutil.Process().children() if "measure_worker" in " ".join(c.cmdline())]


def test_pictures_are_asked_for_as_they_are_measured(data: list[Path]) -> None:
    asked: list[Path] = []

    def work() -> Iterator[Work]:
        for path in data * 2000:
            asked.append(path)
            yield Work(path)

    ready = measure_all(work(), workers=1)
    next(ready)
    ready.close()
    assert 1 <= len(asked) < len(data) * 2000
    assert list(measure_all(iter(()), workers=2)) == []


def test_a_bomb_hits_the_memory_limit_and_the_rest_goes_on(tmp_path: Path, data: list[Path]) -> None:
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(5_000_000))), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    bomb, good = measure_all([Work(tmp_path / "bomb.png"), Work(data[0])], workers=1, seconds=20)
    assert bomb.code == "too-large" and good.quality is not None


def test_a_thousand_headers(tmp_path: Path) -> None:
    raw = picture(tmp_path / "a.jpg", 1, (1024, 768), quality=90).read_bytes()
    paths = [tmp_path / "d" / f"{i}.jpg" for i in range(1000)]
    (tmp_path / "d").mkdir()
    for path in paths:
        path.write_bytes(raw)
    index = open_index(tmp_path)
    start = time.perf_counter()
    index.refresh(paths)
    cold = time.perf_counter() - start
    start = time.perf_counter()
    index.refresh(paths)
    rows = index.rows()
    warm = time.perf_counter() - start
    print(f"cold {1000 / cold:.0f}/s, warm {1000 / warm:.0f}/s")
    assert len(rows) == 1000 and cold < 4 and warm < 2


def test_a_sidecar_leads_to_its_pictures(tmp_path: Path) -> None:
    """By stem, exactly: `a.b.png` is not `a`'s; bytes that are no text too; folders by what lies in them."""
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    odd = Path(os.fsdecode(os.fsencode(data) + b"/\xff.png"))
    names = [data / "a.png", data / "a.JPG", data / "a.b.png", data / "a0.png", data / "sub" / "a.png", odd]
    for path in names:
        with open(path, "wb") as file:
            Image.new("RGB", (8, 8)).save(file, "PNG")
    index = Index(tmp_path / "cache")
    index.refresh(names)
    assert index.of_caption(data / "a.txt") == [data / "a.JPG", data / "a.png"]
    assert index.of_caption(data / "a.b.txt") == [data / "a.b.png"]
    assert index.of_caption(odd.with_suffix(".caption")) == [odd]
    assert index.of_caption(data / "sub.txt") == []
    assert index.holds_below(data / "sub") and index.holds_below(data)
    assert not index.holds_below(data / "su") and not index.holds_below(data / "a.png")
