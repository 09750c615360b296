"""Turns, crops and masks as data: inside the picture, invertible, the same pixels for preview and trainer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from app_kit import picture, project
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from loratui.config.schema import RunConfig
from loratui.dataset.buckets import Bucket, buckets_of, make_buckets
from loratui.dataset.framing import (
    PLAIN,
    Frame,
    framed,
    kept,
    largest,
    moved,
    read_frame,
    resized,
)
from loratui.dataset.masks import Mask, MaskFinder, mask_pixels
from loratui.dataset.pixels import fit, trained_pixels, turned
from loratui.dataset.scan import SUFFIXES, Source, scan
from loratui.project import manifest
from loratui.project.framing import framing, set_alpha, set_frames
from loratui.project.history import Actor, History
from loratui.project.project import Project

SIDES = st.integers(16, 6000)
PLACES = st.floats(0, 1)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Any frame that the history may hold."""
    left, right = sorted((draw(st.integers(0, 10**6)), draw(st.integers(0, 10**6))))
    top, bottom = sorted((draw(st.integers(0, 10**6)), draw(st.integers(0, 10**6))))
    box = (left / 1e6, top / 1e6, right / 1e6, bottom / 1e6)
    whole = right - left < 20_000 or bottom - top < 20_000
    return Frame(draw(st.sampled_from((0, 90, 180, 270))), draw(st.booleans()), None if whole else box)


@settings(deadline=None)
@given(SIDES, SIDES, frames(), st.sampled_from((256, 512, 1024)), st.sampled_from((8, 32, 64)))
def test_a_crop_lies_inside_the_picture_and_fills_its_bucket(
    width: int, height: int, frame: Frame, resolution: int, step: int
) -> None:
    buckets = make_buckets(resolution, step, resolution // 2, resolution * 2)
    bucket = framed(width, height, frame, buckets)
    left, top, right, bottom = bucket.crop
    assert 0 <= left < right <= bucket.scaled[0] and 0 <= top < bottom <= bucket.scaled[1]
    assert (right - left, bottom - top) == bucket.size and bucket.size in buckets
    assert bucket.width % step == bucket.height % step == 0 and bucket.width * bucket.height <= resolution**2


@given(frames())
def test_turns_and_flips_invert(frame: Frame) -> None:
    assert frame.turned().turned(False) == frame.turned(False).turned() == frame
    assert frame.turned().turned().turned().turned() == frame
    assert frame.mirrored().mirrored() == frame.flipped().flipped() == frame
    assert read_frame(frame.as_json()) == frame


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(("turn", "back", "mirror", "flip")), max_size=6))
def test_what_is_seen_turns_as_the_keys_say(keys: list[str]) -> None:
    """A frame stands for the same pixels as the turns one after the other."""
    image = Image.fromarray(np.arange(7 * 5 * 3, dtype=np.uint8).reshape(5, 7, 3))
    seen, frame = image, PLAIN
    for key in keys:
        if key in {"turn", "back"}:
            frame = frame.turned(key == "turn")
            quarter = Image.Transpose.ROTATE_270 if key == "turn" else Image.Transpose.ROTATE_90
            seen = seen.transpose(quarter)
        else:
            frame = frame.mirrored() if key == "mirror" else frame.flipped()
            side = Image.Transpose.FLIP_LEFT_RIGHT if key == "mirror" else Image.Transpose.FLIP_TOP_BOTTOM
            seen = seen.transpose(side)
    assert turned(image, frame).tobytes() == seen.tobytes()
    assert frame.size(7, 5) == seen.size


@given(SIDES, SIDES, PLACES, PLACES, st.floats(-1, 1), st.floats(-1, 1), st.floats(0.1, 9))
def test_a_box_moves_and_grows_inside_the_picture_with_its_shape(
    width: int, height: int, x: float, y: float, right: float, down: float, by: float
) -> None:
    start = largest(width, height, (832, 1216), (x, y))
    for box in (start, resized(start, by), moved(resized(start, by), right, down)):
        assert all(0 <= edge <= 1 for edge in box) and box[0] < box[2] and box[1] < box[3]
    box = moved(start, right, down)
    shape = (box[2] - box[0]) * width / ((box[3] - box[1]) * height)
    assert shape == pytest.approx(832 / 1216, rel=0.01) or min(box[2] - box[0], box[3] - box[1]) < 0.001
    assert max(start[2] - start[0], start[3] - start[1]) == pytest.approx(1)


@pytest.mark.parametrize("value", [None, 3, {"turn": 45}, {"box": [0, 0, 2, 1]}, {"box": [0.5, 0, 0.5, 1]}])
def test_a_frame_that_is_none_changes_nothing(value: object) -> None:
    assert read_frame(value) == PLAIN


def test_a_small_part_is_scaled_alone_to_the_same_pixels(tmp_path: Path) -> None:
    """The short way of a strong enlargement and the long one give the same picture."""
    picture(tmp_path / "a.png", (400, 300))
    with Image.open(tmp_path / "a.png") as image:
        image.load()
    bucket = framed(400, 300, Frame(box=(0.4, 0.4, 0.5, 0.5)), [(256, 256)])
    assert bucket.scaled[0] * bucket.scaled[1] > 16 * 400 * 300
    short = np.asarray(fit(image, bucket), np.int16)
    long = np.asarray(image.resize(bucket.scaled, Image.Resampling.LANCZOS).crop(bucket.crop), np.int16)
    assert np.abs(short - long).max() <= 1
    assert kept(bucket) == pytest.approx((0.4125, 0.4, 0.4875, 0.5), abs=0.001)


def test_a_frame_reaches_scan_and_manifest_and_the_trainers_key(tmp_path: Path) -> None:
    """The history keeps it, the manifest carries it, the key of the latents changes, undo takes it back."""
    pytest.importorskip("torch")
    from loratui.train.cache import Cache
    from loratui.train.samples import read_manifest

    root = project(tmp_path / "p", 2)
    config, opened = RunConfig(), Project.open(root)
    path = root / "dataset" / "01.png"
    before = path.read_bytes()

    def trained() -> tuple[dict[str, object], str, bytes]:
        rows = manifest.rows(opened.scan(config.data).pictures, config)
        import json

        (tmp_path / "m.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        one = read_manifest(tmp_path / "m.jsonl")[0]
        cache = Cache.__new__(Cache)
        cache.parts = type("P", (), {"vae_identity": "x"})()
        return (
            rows[0],
            cache.latent_key(one, False),
            trained_pixels(one.path, one.bucket, one.frame).tobytes(),
        )

    plain, key, _ = trained()
    history = History(root)
    frame = Frame(90, True, (0.25, 0.0, 0.75, 0.5))
    set_frames(history, {path: frame})
    row, other, pixels = trained()
    assert row["turn"] == 90 and row["mirror"] is True and (row["width"], row["height"]) == (64, 96)
    assert other != key and row["crop"] != plain["crop"]
    bucket = framed(96, 64, frame, buckets_of(config.data))
    with Image.open(path) as image:
        seen = fit(turned(image.convert("RGB"), frame), bucket)
    assert pixels == seen.tobytes()
    set_frames(history, {path: Frame(270)})
    assert trained()[1] not in {key, other}
    history.undo()
    history.undo()
    assert trained()[:2] == (plain, key) and framing(root) == ({}, frozenset())
    assert path.read_bytes() == before


def test_masks_are_found_and_lie_over_the_same_part(tmp_path: Path) -> None:
    """Beside, in a folder, in the alpha channel; a mask is no picture, a folder of pictures is no mask."""
    data = tmp_path / "d"
    (data / "masks").mkdir(parents=True)
    for name in ("a", "b", "c"):
        picture(data / f"{name}.png", (96, 64))
    Image.new("L", (96, 64), 9).save(data / "a-masklabel.png")
    Image.new("L", (96, 64), 9).save(data / "masks" / "b.jpg")
    clear = Image.new("RGBA", (96, 64), (9, 9, 9, 0))
    clear.paste((9, 9, 9, 255), (0, 0, 48, 64))
    clear.save(data / "c.png")
    found = scan([Source(data)], root=tmp_path, alpha={data / "c.png"})
    masks = {p.path.stem: p.mask for p in found.pictures}
    assert masks == {
        "a": Mask(data / "a-masklabel.png"),
        "b": Mask(data / "masks" / "b.jpg"),
        "c": Mask(data / "c.png", "alpha"),
    }
    assert MaskFinder(SUFFIXES).of(data / "c.png") is None
    bucket = Bucket(64, 64, (96, 64), (0, 0, 64, 64), 0, 1)
    mask = mask_pixels(Mask(data / "c.png", "alpha"), bucket)
    assert mask.getpixel((10, 10)) == 255 and mask.getpixel((60, 10)) == 0
    mirrored = mask_pixels(Mask(data / "c.png", "alpha"), bucket, Frame(mirror=True))
    assert mirrored.getpixel((10, 10)) == 0 and mirrored.getpixel((60, 10)) == 255
    for name in ("x", "y"):
        picture(data / "masks" / f"{name}.png")
    assert len(scan([Source(data)], root=tmp_path).pictures) == 6  # three that have no neighbour: carnival


def test_an_alpha_mask_is_a_note_with_undo(tmp_path: Path) -> None:
    root = project(tmp_path / "p", 2)
    path = root / "dataset" / "01.png"
    history = History(root)
    set_alpha(history, {path: True}, Actor("hand"))
    assert framing(root)[1] == {path}
    history.undo()
    assert framing(root)[1] == frozenset()
