"""A crop made by hand keeps to its picture and to the shape of its bucket, whatever keys are pressed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loratui.dataset.buckets import make_buckets
from loratui.dataset.cropping import Crop, snug
from loratui.dataset.framing import Frame, framed, kept, read_frame

KEYS = ("left", "right", "up", "down", "plus", "minus", "b", "B", "r", "R", "m")


def pressed(crop: Crop, key: str) -> Crop:
    steps = {
        "left": lambda: crop.moved(-0.1, 0),
        "right": lambda: crop.moved(0.1, 0),
        "up": lambda: crop.moved(0, -0.1),
        "down": lambda: crop.moved(0, 0.1),
        "plus": lambda: crop.resized(1.1),
        "minus": lambda: crop.resized(1 / 1.1),
        "b": lambda: crop.other_bucket(1),
        "B": lambda: crop.other_bucket(-1),
        "r": lambda: crop.turned(),
        "R": lambda: crop.turned(False),
        "m": lambda: crop.mirrored(),
    }
    return steps[key]()


sides = st.integers(40, 6000)
tables = st.sampled_from(
    [
        make_buckets(1024, 64, 512, 2048),
        make_buckets(512, 64, 256, 1024),
        make_buckets(64, 16, 32, 128),
        [(512, 512)],
    ]
)


@settings(deadline=None)
@given(sides, sides, tables, st.lists(st.sampled_from(KEYS), max_size=25))
def test_any_keys_leave_the_box_in_the_picture_and_in_the_shape_of_a_bucket(
    width: int, height: int, buckets: list[tuple[int, int]], keys: list[str]
) -> None:
    crop = Crop(width, height, buckets)
    for key in keys:
        before, by_hand = crop.bucket.size, crop.frame.box is not None
        crop = pressed(crop, key)
        if key in {"left", "right", "up", "down", "plus", "minus"} or (key == "m" and by_hand):
            assert crop.bucket.size == before  # the shape is locked
        if key in {"r", "R"} and by_hand:
            assert crop.bucket.size == before[::-1]
    left, top, right, bottom = crop.box
    assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
    bucket = crop.bucket
    assert bucket.size in buckets
    w, h = crop.size
    assert (right - left) * w / ((bottom - top) * h) == pytest.approx(bucket.width / bucket.height, rel=1e-3)
    # what the history keeps is what was seen: the same bucket and the same part, within a px of the scaled
    again = framed(width, height, read_frame(crop.frame.as_json()), buckets)
    assert again == bucket
    for edge, at, side in zip(kept(again), crop.box, again.scaled * 2, strict=True):
        assert edge == pytest.approx(at, abs=1.6 / side)


@settings(deadline=None)
@given(sides, sides, tables)
def test_cycling_through_all_shapes_comes_back(
    width: int, height: int, buckets: list[tuple[int, int]]
) -> None:
    crop, seen = Crop(width, height, buckets), []
    for _ in buckets:
        crop = crop.other_bucket(1)
        seen.append(crop.bucket.size)
    assert sorted(seen) == sorted(buckets)
    assert crop.other_bucket(1).other_bucket(-1).bucket.size == crop.bucket.size


@given(sides, sides, tables)
def test_the_first_box_is_what_the_bucket_keeps_by_itself(
    width: int, height: int, buckets: list[tuple[int, int]]
) -> None:
    crop = Crop(width, height, buckets)
    for edge, at, side in zip(kept(crop.bucket), crop.box, crop.bucket.scaled * 2, strict=True):
        assert edge == pytest.approx(at, abs=1.6 / side)
    assert crop.moved(0.3, 0.3).automatic() == crop and crop.turned().resized(0.5).plain() == crop


def test_a_shape_keeps_its_place_and_share() -> None:
    crop = Crop(1000, 1000, [(512, 1024), (768, 768), (1024, 512)]).resized(0.5).moved(-0.5, -0.5)
    assert crop.box == (0.0, 0.0, 0.5, 0.5) and crop.source == (500, 500)
    wide = crop.other_bucket(1)
    assert wide.bucket.size == (1024, 512) and wide.box == (0.0, 0.125, 0.5, 0.375)


def test_a_box_of_any_shape_is_cut_to_the_bucket() -> None:
    box = (0.0, 0.0, 0.5, 1.0)
    assert snug(100, 100, box, (64, 64)) == (0.0, 0.25, 0.5, 0.75)
    crop = Crop(100, 100, [(64, 64)], Frame(box=box))
    assert crop.moved(0, 0).frame.box == (0.0, 0.25, 0.5, 0.75)
