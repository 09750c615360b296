"""Export of turned, cropped, masked pictures: named when left behind; with `bake` the very part is there."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_kit import picture
from app_kit import project as make_project
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from loratui.cli import main
from loratui.dataset.buckets import assign, buckets_of, make_buckets
from loratui.dataset.cropping import Crop
from loratui.dataset.exports import FORMATS
from loratui.dataset.framing import Frame, framed
from loratui.dataset.masks import Mask, mask_pixels, open_mask
from loratui.dataset.pixels import open_rgb, trained_pixels
from loratui.dataset.scan import Source, scan
from loratui.project.framing import set_frames
from loratui.project.history import History
from loratui.project.project import Project

FRAME = Frame(90, True, (0.0, 0.1, 0.75, 0.5))


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """01 is turned and cropped and has a mask file, 02 is mirrored, 03 has its alpha as mask, 04 is plain."""
    folder = make_project(tmp_path / "p", 4)
    data = folder / "dataset"
    picture(data / "01.png", (300, 200), 1)
    mask = Image.new("L", (150, 100), 0)
    mask.paste(255, (0, 0, 75, 100))
    mask.save(data / "01-masklabel.png")
    seen = Image.new("RGBA", (96, 64), (200, 10, 10, 0))
    seen.paste((10, 200, 10, 255), (0, 0, 48, 64))
    seen.save(data / "03.png")
    frames = {data / "01.png": FRAME, data / "02.png": Frame(0, True)}
    set_frames(History(folder), frames, alpha={data / "03.png": True})
    return folder


def ask(capsys: pytest.CaptureFixture[str], *argv: object) -> Any:
    capsys.readouterr()
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files(place: Path) -> dict[str, bytes]:
    """Name -> bytes of all that was written, whatever the layout."""
    if place.is_dir():
        masks = [*place.glob("masks/*/*.png"), *place.with_name(f"{place.name}-masks").glob("*.png")]
        return {p.name: p.read_bytes() for p in place.rglob("*") if p.is_file() and p not in masks} | {
            f"{p.stem}-masklabel.png": p.read_bytes() for p in masks
        }
    with zipfile.ZipFile(place) as archive:
        return {Path(name).name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("kind", [k if k != "kohya" else "kohya-folders" for k in FORMATS])
def test_without_bake_copies_are_as_the_files_and_what_is_missing_is_said(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    out = tmp_path / ("out.zip" if kind == "zip" else "out")
    done = ask(capsys, "export", root, "--format", kind, "--out", out)
    lost = {one["path"]: one["what"] for one in done["not_carried"]}
    more = ["mask"] if kind == "imagefolder" else []
    assert lost == {
        "01.png": ["turn", "mirror", "crop", *more],
        "02.png": ["mirror"],
        "03.png": ["alpha mask"],
    }
    assert done["baked"] == 0
    for number in range(1, 5):
        assert files(out)[f"{number:02d}.png"] == (root / "dataset" / f"{number:02d}.png").read_bytes()
    assert main(["export", str(root), "--format", kind, "--out", str(tmp_path / "again.zip")]) == 0
    said = capsys.readouterr().err
    assert "Not carried along for 3 pictures" in said and "--bake" in said and "03.png: alpha mask" in said


@pytest.mark.parametrize("kind", [k if k != "kohya" else "kohya-folders" for k in FORMATS])
def test_baked_copies_hold_what_is_trained_on(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    data = root / "dataset"
    before = {p.name: digest(p) for p in data.iterdir()}
    out = tmp_path / ("out.zip" if kind == "zip" else "out")
    done = ask(capsys, "export", root, "--format", kind, "--out", out, "--bake")
    assert done["baked"] == 3
    found = files(out)
    place = tmp_path / "read"
    place.mkdir()
    for name, raw in found.items():
        (place / name).write_bytes(raw)
    # upside up, the very pixels: the part of the turned picture that the crop keeps
    cut = Crop(300, 200, buckets_of(Project.open(root).resolve().data), FRAME)
    with Image.open(data / "01.png") as image:
        whole = image.convert("RGB").transpose(Image.Transpose.ROTATE_270)
    whole = whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width, height = whole.size
    left, top, right, bottom = cut.box
    edges = (round(left * width), round(top * height), round(right * width), round(bottom * height))
    kept = open_rgb(place / "01.png")
    assert kept.tobytes() == whole.crop(edges).tobytes() and kept.size != whole.size
    assert open_rgb(place / "02.png").tobytes() == (
        open_rgb(data / "02.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes()
    )
    assert found["04.png"] == (data / "04.png").read_bytes()  # nothing was done to it: copied
    assert open_rgb(place / "03.png").tobytes() == open_rgb(data / "03.png").tobytes()
    if kind == "imagefolder":
        assert {one["path"]: one["what"] for one in done["not_carried"]} == {
            "01.png": ["mask"],
            "03.png": ["mask"],
        }
        assert not [name for name in found if "masklabel" in name]
        names = [json.loads(line)["file_name"] for line in found["metadata.jsonl"].splitlines()]
        assert names == ["01.png", "02.png", "03.png", "04.png"]
    else:
        assert done["not_carried"] == []
        assert open_mask(Mask(place / "01-masklabel.png")).size == kept.size
        alpha = open_mask(Mask(place / "03-masklabel.png"))
        assert alpha.tobytes() == open_mask(Mask(data / "03.png", "alpha")).tobytes()
        assert found["01.txt"] == b"sks robot, picture 1\n"
    assert {p.name: digest(p) for p in data.iterdir()} == before


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    x, y = draw(st.integers(0, 50)) / 100, draw(st.integers(0, 50)) / 100
    w, h = draw(st.integers(30, 50)) / 100, draw(st.integers(30, 50)) / 100
    return Frame(draw(st.sampled_from((0, 90, 180, 270))), draw(st.booleans()), (x, y, x + w, y + h))


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames(), st.integers(450, 800), st.integers(450, 800))
def test_another_trainer_sees_nearly_the_same_pixels_and_mask(
    tmp_path: Path, frame: Frame, width: int, height: int
) -> None:
    """In the same bucket, within what a px of rounding at the edges can do."""
    from loratui.dataset.baking import baked_mask, baked_picture

    sizes = make_buckets(128, 32, 64, 256)
    path, place = tmp_path / "a.png", tmp_path / "b.png"
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], axis=2)
    Image.fromarray(smooth.astype(np.uint8)).save(path)
    Image.fromarray(smooth[:, :, 0].astype(np.uint8)).save(tmp_path / "m.png")
    cut = Crop(width, height, sizes, frame)
    place.write_bytes(baked_picture(path, frame, cut.box))
    here = framed(width, height, frame, sizes)
    with Image.open(place) as image:
        there = assign(*image.size, sizes)
    assert there.size == here.size
    ours = np.asarray(trained_pixels(path, here, frame), np.int16)
    theirs = np.asarray(trained_pixels(place, there), np.int16)
    assert np.abs(ours - theirs).max() <= 4
    mask = Mask(tmp_path / "m.png")
    (tmp_path / "n.png").write_bytes(baked_mask(mask, path, frame, cut.box))
    ours = np.asarray(mask_pixels(mask, here, frame), np.int16)
    theirs = np.asarray(mask_pixels(Mask(tmp_path / "n.png"), there), np.int16)
    assert np.abs(ours - theirs).max() <= 4


def test_what_cannot_be_decoded_is_left_out_and_named_and_the_others_go_on(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "dataset" / "02.png"
    Image.frombytes("RGB", (96, 64), bytes(range(256)) * 72).save(path)
    raw = bytearray(path.read_bytes())
    raw[60:200] = bytes(140)  # the header says it is a picture, what follows is not
    path.write_bytes(raw)
    out = tmp_path / "out"
    assert main(["export", str(root), "--format", "ai-toolkit", "--out", str(out), "--bake"]) == 1
    said = capsys.readouterr().err
    assert "left out: 02.png" in said and "Traceback" not in said
    assert sorted(p.name for p in out.glob("*.png") if "mask" not in p.name) == ["01.png", "03.png", "04.png"]
    assert not (out / "02.txt").exists() and not list(tmp_path.glob(".loratui-export-*"))


def test_baked_pictures_come_in_again(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a baked export holds is found as pictures and masks by our own scan."""
    out = tmp_path / "out"
    ask(capsys, "export", root, "--format", "kohya-folders", "--out", out, "--bake")
    found = scan([Source(out)], root=out)
    assert [p.path.name for p in found.pictures] == ["01.png", "02.png", "03.png", "04.png"]
    assert all(p.mask is not None for p in found.pictures), "white where nothing was masked"
