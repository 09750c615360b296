"""Several resolutions at once, and small pictures that are not enlarged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from loratui.config.docs import field_table
from loratui.config.load import convert
from loratui.config.schema import DataConfig, RunConfig
from loratui.dataset.bucket_table import bucket_table
from loratui.dataset.buckets import ENLARGED, buckets_of
from loratui.dataset.framing import PLAIN, Frame, Grids, framed
from loratui.plan.plan import plan
from loratui.project import manifest
from loratui.project.project import Project

THREE = DataConfig(resolution=1024, also_at=(512, 768), max_bucket=2048)
SIDES = st.integers(16, 4000)


def test_a_picture_is_trained_at_each_resolution_it_is_large_enough_for() -> None:
    grids = Grids(THREE)

    assert [b.size for b in grids.buckets(2000, 2000)] == [(512, 512), (768, 768), (1024, 1024)]
    assert [b.size for b in grids.buckets(800, 800)] == [(512, 512), (768, 768)]
    assert [b.size for b in grids.buckets(300, 300)] == [(512, 512)]
    always = Grids(replace(THREE, upscale="always"))
    assert [b.size for b in always.buckets(300, 300)] == [(512, 512), (768, 768), (1024, 1024)]
    half = Frame(box=(0.0, 0.0, 0.4, 0.4))  # 800 px of the 2000 are left
    assert [b.size for b in grids.buckets(2000, 2000, half)] == [(512, 512), (768, 768)]


@given(SIDES, SIDES, st.sampled_from(["needed", "always", "never"]), st.booleans())
def test_at_every_resolution_the_bucket_is_the_one_it_would_have_alone(
    width: int, height: int, upscale: str, bucketing: bool
) -> None:
    data = replace(THREE, upscale=upscale, bucketing=bucketing)  # type: ignore[arg-type]
    found = Grids(data).buckets(width, height)

    alone = [Grids(replace(data, resolution=side, also_at=())).buckets(width, height)[0] for side in
             data.resolutions]  # fmt: skip
    assert found[0] == alone[0]
    assert set(found) <= set(alone)
    assert len({b.size for b in found}) == len(found)


@given(SIDES, SIDES, st.sampled_from([256, 512, 1024]), st.sampled_from([32, 64]), st.booleans())
def test_a_small_picture_gets_a_smaller_bucket_and_is_not_enlarged(
    width: int, height: int, resolution: int, step: int, bucketing: bool
) -> None:
    data = DataConfig(
        resolution=resolution, bucket_step=step, bucketing=bucketing, upscale="never", min_bucket=128,
        max_bucket=2 * resolution,
    )  # fmt: skip
    bucket = framed(width, height, PLAIN, buckets_of(data))
    plain = framed(width, height, PLAIN, buckets_of(replace(data, upscale="needed")))

    if plain.upscale <= ENLARGED:
        assert bucket == plain
        return
    assert bucket.width % step == bucket.height % step == 0
    assert bucket.width * bucket.height <= resolution**2
    assert max(bucket.size) <= data.max_bucket
    assert bucket.upscale <= ENLARGED or min(bucket.size) == step, (bucket, plain)
    assert bucketing or bucket.width == bucket.height
    # a step more on either side would not fit, for the picture or for the area
    if bucket.upscale == 1.0 and bucketing:
        assert width - bucket.width < step or height - bucket.height < step


def test_a_crop_by_hand_is_not_enlarged_either() -> None:
    buckets = buckets_of(DataConfig(resolution=512, upscale="never"))
    bucket = framed(1000, 1000, Frame(box=(0.0, 0.0, 0.3, 0.2)), buckets)

    assert bucket.size == (256, 192) and bucket.upscale <= 1.0
    left, top, right, bottom = bucket.crop
    assert left >= 0 and top >= 0 and right <= 310 and bottom <= 210


def project_of(root: Path, *sizes: tuple[int, int]) -> Project:
    folder = root.parent / "pictures"
    folder.mkdir(parents=True)
    for n, size in enumerate(sizes):
        Image.new("RGB", size, (10 * n, 90, 120)).save(folder / f"{n}.png")
    return Project.create(root, "", "sks", folder)


def test_plan_table_and_manifest_count_the_same_rows(tmp_path: Path) -> None:
    project = project_of(tmp_path / "p", (128, 128), (96, 96), (40, 40), (200, 100))
    data = DataConfig(resolution=128, also_at=(64,), bucket_step=32, min_bucket=32, max_bucket=256)
    config = replace(RunConfig(), data=replace(data, batch_size=2))
    scan = project.scan(config.data)

    rows = manifest.rows(scan.pictures, config)
    table = bucket_table(((p.width, p.height, p.frame, p.repeats) for p in scan.pictures), config.data)
    planned = plan(project, config, scan)

    assert sorted((r["rel"][-5:], *r["bucket"]) for r in rows) == [
        ("0.png", 64, 64), ("0.png", 128, 128), ("1.png", 64, 64), ("2.png", 64, 64),
        ("3.png", 64, 64), ("3.png", 160, 96),
    ]  # fmt: skip
    assert sum(b.repeated for b in planned.buckets) == len(rows) == sum(line.images for line in table)
    assert planned.per_epoch == sum(line.batches for line in table)
    assert {(b.width, b.height) for b in scan.buckets} == {tuple(r["bucket"]) for r in rows}
    assert planned.images == 4


def test_whole_numbers_are_read_from_lists_and_texts() -> None:
    info = field_table()["data.also_at"]

    assert (
        convert(info, [768, 1024])
        == convert(info, "768, 1024")
        == convert(info, "[768; 1024]")
        == (768, 1024)
    )
    assert convert(info, "") == () and convert(info, 768) == (768,)
    for wrong in ("a", [True], [0.5], [4], {"a": 1}):
        with pytest.raises(ValueError, match=r"whole number|from 8"):
            convert(info, wrong)
