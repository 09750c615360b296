"""Buckets as sd-scripts builds them, and crops that stay inside the picture."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratui.config.schema import DataConfig
from loratui.dataset.buckets import Buckets, assign, buckets_of, make_buckets, place

STEPS = st.sampled_from([8, 16, 32, 64])
SIDES = st.integers(1, 20_000)


def test_sd_scripts_buckets_at_512() -> None:
    """The list that sd-scripts prints for 512 px, steps of 64, 256 to 1024."""
    assert make_buckets(512, 64, 256, 1024) == [
        (256, 832), (256, 896), (256, 960), (256, 1024), (320, 704), (320, 768), (384, 640), (448, 576),
        (512, 512),
        (576, 448), (640, 384), (704, 320), (768, 320), (832, 256), (896, 256), (960, 256), (1024, 256),
    ]  # fmt: skip


@given(STEPS, st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_sides_divide_and_areas_fit(step: int, resolution: int, low: int, high: int) -> None:
    low, high = sorted((low, high))
    buckets = make_buckets(resolution * step, step, low * step, high * step)
    assert buckets == sorted(set(buckets))
    assert (resolution * step, resolution * step) in buckets
    for width, height in buckets:
        assert width % step == 0
        assert height % step == 0
        assert width * height <= (resolution * step) ** 2
        assert (height, width) in buckets


@given(SIDES, SIDES, STEPS, st.integers(4, 32))
def test_the_crop_lies_inside_the_scaled_picture(width: int, height: int, step: int, cells: int) -> None:
    resolution = step * cells
    buckets = make_buckets(resolution, step, step * max(1, cells // 2), resolution * 2)
    bucket = assign(width, height, buckets)
    left, top, right, bottom = bucket.crop
    assert bucket.size in buckets
    assert 0 <= left < right <= bucket.scaled[0]
    assert 0 <= top < bottom <= bucket.scaled[1]
    assert (right - left, bottom - top) == bucket.size
    assert bucket.scaled[0] == bucket.width or bucket.scaled[1] == bucket.height, (
        "scaled no more than to cover"
    )
    assert 0 <= bucket.crop_share < 1
    # half a pixel of rounding either way
    assert abs(bucket.scaled[0] - width * bucket.upscale) <= 1
    assert abs(bucket.scaled[1] - height * bucket.upscale) <= 1


@given(SIDES, SIDES)
def test_no_other_bucket_is_nearer_in_aspect(width: int, height: int) -> None:
    buckets = make_buckets(512, 64, 256, 1024)
    chosen = assign(width, height, buckets)
    error = abs(chosen.width / chosen.height - width / height)
    if (width, height) not in buckets:
        assert error == min(abs(w / h - width / height) for w, h in buckets)


def test_an_exact_size_is_not_touched() -> None:
    bucket = assign(832, 256, make_buckets(512, 64, 256, 1024))
    assert (bucket.size, bucket.scaled, bucket.crop_share, bucket.upscale) == (
        (832, 256),
        (832, 256),
        0.0,
        1.0,
    )


def test_a_photo_at_512() -> None:
    bucket = assign(4000, 3000, make_buckets(512, 64, 256, 1024))
    assert bucket.size == (576, 448)
    assert bucket.scaled == (597, 448)
    assert bucket.crop == (10, 0, 586, 448)
    assert bucket.crop_share == pytest.approx(1 - 576 / 597)


def test_without_bucketing_everything_is_a_square() -> None:
    assert buckets_of(DataConfig(bucketing=False, resolution=512)) == [(512, 512)]
    bucket = place(1000, 500, (512, 512))
    assert bucket.scaled == (1024, 512)
    assert bucket.crop_share == pytest.approx(0.5)


@given(
    st.sampled_from([256, 448, 512, 1024]),
    st.sampled_from([16, 64]),
    st.one_of(st.floats(0.05, 20), st.tuples(st.integers(1, 3000), st.integers(1, 3000))),
)
def test_the_nearest_aspect_ratio_is_looked_up_as_all_would_be_compared(
    resolution: int, step: int, wanted: float | tuple[int, int]
) -> None:
    """Also exactly in the middle between two, and where two sizes have the same ratio."""
    sizes = [*make_buckets(resolution, step, step, 2 * resolution), (64, 64), (128, 128)]
    buckets = Buckets(sizes)
    aspect = wanted if isinstance(wanted, float) else wanted[0] / wanted[1]
    ratios = sorted({w / h for w, h in sizes})
    for ratio in (aspect, ratios[0], ratios[-1], (ratios[0] + ratios[1]) / 2):
        assert buckets.nearest(ratio) == min(sizes, key=lambda b: abs(b[0] / b[1] - ratio))
