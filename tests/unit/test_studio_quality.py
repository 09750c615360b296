"""Quality figures and perceptual hashes against plain loops; groups of near-duplicates."""

from __future__ import annotations

import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from loratui import demo
from loratui.dataset import duplicates as d
from loratui.dataset import quality as q


def photo(seed: int = 0, size: tuple[int, int] = (96, 64), level: float = 1.0) -> Image.Image:
    """Something with edges, gradients and texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    waves = sum(
        np.sin(x * rng.uniform(0.05, 0.4) + y * rng.uniform(0.05, 0.4) + rng.uniform(0, 6)) for _ in range(4)
    )
    base = 128 + 30 * waves + rng.normal(0, 12, (size[1], size[0]))
    base[size[1] // 3 : size[1] // 2, size[0] // 4 : size[0] // 2] = 240
    rgb = np.stack([base, base * 0.8, base * 0.6 + 30], axis=-1) * level
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


def slow_sharpness(image: Image.Image) -> float:
    ratio = max(image.size) / 64
    small = image.resize((int(image.width / ratio), int(image.height / ratio))) if ratio > 1 else image
    grey = small.convert("L")
    edges = list(grey.filter(ImageFilter.FIND_EDGES).tobytes())
    mean = sum(edges) / len(edges)
    b = 1 - math.exp(-0.01 * math.sqrt(sum((e - mean) ** 2 for e in edges) / len(edges)))
    histogram = [0] * 256
    for g in grey.tobytes():
        histogram[g] += 1
    average = sum(histogram) / 256
    s = 1 - math.exp(-0.01 * math.sqrt(sum((h - average) ** 2 for h in histogram) / 256))
    return b + (s if s > 0.18 else 0)


def slow_percentile(values: list[float], p: float) -> float:
    values = sorted(values)
    at = (len(values) - 1) * p / 100
    low = int(at)
    return values[low] + (at - low) * (values[min(low + 1, len(values) - 1)] - values[low])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("size", [(96, 64), (40, 50), (300, 200)])
def test_figures_are_those_of_plain_loops(seed: int, size: tuple[int, int]) -> None:
    image = photo(seed, size)
    found = q.measure(image)
    assert found.sharpness == pytest.approx(slow_sharpness(image), abs=1e-3)
    raw = image.tobytes()
    pixels = [raw[i : i + 3] for i in range(0, len(raw), 3)]
    light = [math.sqrt(0.241 * r * r + 0.691 * g * g + 0.068 * b * b) / 255 for r, g, b in pixels]
    assert found.bright_p99 == pytest.approx(slow_percentile(light, 99), abs=1e-4)
    assert found.bright_p5 == pytest.approx(slow_percentile(light, 5), abs=1e-4)
    grey = image.convert("L").tobytes()
    shares = [grey.count(v) / len(grey) for v in range(256)]
    assert found.information == pytest.approx(-0.1 * sum(s * math.log2(s) for s in shares if s), abs=1e-4)
    assert found.aspect == pytest.approx(min(size) / max(size), abs=1e-4)


def test_findings() -> None:
    assert q.measure(photo()).findings() == ()
    noise = np.random.default_rng(5).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    blurred = Image.fromarray(noise).resize((1500, 1200), Image.Resampling.BICUBIC)
    assert "blurry" in q.measure(blurred).findings()
    assert "dark" in q.measure(photo(level=0.25)).findings()
    assert q.measure(Image.new("RGB", (64, 64), "white")).findings() == ("light", "low-information")
    assert "dark" in q.measure(Image.new("RGB", (64, 64), "black")).findings()
    assert "odd-aspect" in q.measure(photo(size=(300, 100))).findings()
    assert q.measure(Image.new("RGB", (1, 1))).as_dict()["aspect"] == 1.0


def slow_hash(image: Image.Image) -> int:
    grey = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    raw = grey.tobytes()
    low = []
    for u in range(8):
        for v in range(8):
            total = 0.0
            for y in range(32):
                for x in range(32):
                    rows = math.cos(math.pi * u * (2 * y + 1) / 64)
                    total += raw[32 * y + x] * rows * math.cos(math.pi * v * (2 * x + 1) / 64)
            low.append(4 * total)
    ordered = sorted(low)
    median = (ordered[31] + ordered[32]) / 2
    out = 0
    for value in low:
        out = 2 * out + (value > median)
    return out


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_hash_is_that_of_plain_loops(seed: int) -> None:
    assert d.perceptual_hash(photo(seed)) == slow_hash(photo(seed))


def test_small_changes_keep_the_hash_near() -> None:
    image = photo(3, (240, 160))
    near = [
        image.resize((120, 80)),
        image.filter(ImageFilter.GaussianBlur(1)),
        image.point(lambda v: int(v * 0.9)),
    ]
    assert max(d.distance(d.perceptual_hash(image), d.perceptual_hash(n)) for n in near) <= d.SAME
    assert d.distance(d.perceptual_hash(image), d.perceptual_hash(photo(4, (240, 160)))) > d.REVIEW


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=12), st.integers(0, 2**32), st.integers(0, 12))
def test_pairs_are_those_of_all_with_all(hashes: list[int], seed: int, within: int) -> None:
    rng = random.Random(seed)
    for base in hashes[:4]:
        hashes = [*hashes, base ^ sum({1 << rng.randrange(64) for _ in range(rng.randrange(12))})]
    found = {(p.first, p.second, p.distance) for p in d.near_pairs(hashes, within)}
    slow = {
        (i, j, (hashes[i] ^ hashes[j]).bit_count())
        for j in range(len(hashes))
        for i in range(j)
        if (hashes[i] ^ hashes[j]).bit_count() <= within
    }
    assert found == slow


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 15), st.integers(0, 200))
def test_bands_find_what_all_with_all_finds(seed: int, within: int, count: int) -> None:
    rng = random.Random(seed)
    hashes = [rng.getrandbits(64) for _ in range(count)]
    for base in hashes[: count // 2]:  # near ones, equal ones, and bands that many share
        hashes.append(base ^ sum({1 << rng.randrange(64) for _ in range(rng.randrange(18))}))
        hashes.append(base & ~0xFFFF if rng.random() < 0.3 else base)
    words = np.array(hashes, dtype=np.uint64)
    quick, slow = d._by_bands(words, within), d._all_with_all(words, within)
    pairs = [sorted(zip(a.tolist(), b.tolist(), strict=True)) for a, b in (quick, slow)]
    assert pairs[0] == pairs[1]


def test_ten_thousand_are_quick() -> None:
    rng = random.Random(1)
    hashes = [rng.getrandbits(64) for _ in range(9_990)]
    hashes += [h ^ 7 for h in hashes[:10]]
    start = time.perf_counter()
    pairs = d.near_pairs(hashes, d.SAME)
    assert time.perf_counter() - start < 8
    assert {(p.first, p.second) for p in pairs} >= {(i, 9_990 + i) for i in range(10)}


def candidate(name: str, value: int, side: int = 100, sharp: float | None = None) -> d.Candidate:
    return d.Candidate(name, value, side, side, sharp)


def test_groups_keep_the_largest_and_sharpest() -> None:
    one = [
        candidate("a", 0, 100),
        candidate("b", 1, 200, 0.4),
        candidate("c", 3, 200, 0.6),
        candidate("z", 2**64 - 1),
    ]
    (group,) = d.groups(one)
    assert [c.path for c in group.members] == ["c", "b", "a"]
    assert group.sure and group.distance == 2


def test_groups_to_review_come_after_sure_ones() -> None:
    eight = 0xFF
    found = d.groups([candidate("a", 0), candidate("b", 1), candidate("c", eight << 8)])
    assert [(g.sure, [c.path for c in g.members]) for g in found] == [
        (True, ["a", "b"]),
        (False, ["a", "b", "c"]),
    ]
    assert not d.groups([candidate("a", 0), candidate("b", 2**64 - 1)])
    assert not d.groups([])


def drawing(seed: int) -> Image.Image:
    """Flat colours with hard edges."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (512, 512), (200, 210, 220))
    pen = ImageDraw.Draw(image)
    for _ in range(30):
        x, y, w, h = (int(v) for v in rng.integers(20, 300, 4))
        pen.rectangle((x, y, x + w, y + h), fill=tuple(int(v) for v in rng.choice([30, 120, 230], 3)))
    return image


def textured(seed: int) -> Image.Image:
    """The spectrum of a photograph, with objects that cover each other."""
    rng = np.random.default_rng(seed)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(512)))
    f[0, 0] = 1
    base = np.fft.ifft2(np.fft.fft2(rng.normal(size=(512, 512))) / f**1.2).real
    base = 128 + 45 * (base - base.mean()) / base.std()
    y, x = np.mgrid[:512, :512]
    for _ in range(10):
        cx, cy, r = rng.integers(0, 512), rng.integers(0, 512), rng.integers(20, 90)
        inside = np.hypot(x - cx, y - cy) < r
        base = np.where(inside, rng.integers(40, 210) + (np.roll(base, int(cx)) - 128) / 2, base)
    return Image.fromarray(np.clip(base, 0, 255).astype(np.uint8)).convert("RGB")


def seen(image: Image.Image, radius: float, contrast: float) -> q.Quality:
    """Blurred, then pulled together around grey and rounded to 8 bits."""
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=float)
    return q.measure(Image.fromarray(np.clip(128 + (blurred - 128) * contrast, 0, 255).astype(np.uint8)))


@pytest.mark.parametrize("make", [drawing, textured])
@pytest.mark.parametrize("contrast", [1.0, 0.3, 0.15])
def test_blur_is_found_at_any_contrast_and_sharp_pictures_raise_no_alarm(make: Any, contrast: float) -> None:
    """Sharp and nearly sharp pictures pass, radii from 5 px on 512 are named."""
    for seed in (1, 2):
        assert [seen(make(seed), r, contrast).blurry for r in (0, 1)] == [False, False]
        assert [seen(make(seed), r, contrast).blurry for r in (5, 8, 12)] == [True, True, True]


@pytest.mark.parametrize("make", [drawing, textured])
def test_a_sharp_subject_before_a_soft_background_is_not_blurred(make: Any) -> None:
    image = make(3)
    soft = image.filter(ImageFilter.GaussianBlur(14))
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).ellipse((150, 130, 330, 400), fill=255)
    soft.paste(image, (0, 0), mask.filter(ImageFilter.GaussianBlur(2)))
    assert not q.measure(soft).blurry


def test_flat_drawings_are_no_emptiness_and_emptiness_is() -> None:
    """The bundled pictures pass; one colour, almost one colour, and one small thing on it do not."""
    folder = Path(demo.__file__).parent / "pictures"
    for path in sorted(folder.glob("*.png")):
        assert "low-information" not in q.measure(Image.open(path).convert("RGB")).findings(), path.name
    blank = Image.new("RGB", (256, 256), (120, 130, 140))
    nearly = np.clip(np.random.default_rng(0).normal(120, 1, (256, 256, 3)), 0, 255).astype(np.uint8)
    dot = blank.copy()
    ImageDraw.Draw(dot).ellipse((100, 100, 125, 125), fill=(250, 0, 0))
    for image in (blank, Image.fromarray(nearly), dot):
        assert "low-information" in q.measure(image).findings()


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (700, 3), (33, 31)])
def test_pictures_of_any_shape_are_measured(size: tuple[int, int]) -> None:
    found = q.measure(Image.new("RGB", size, "grey"))
    assert 0 <= found.acuity <= 1 and 0 <= found.detail <= 1
