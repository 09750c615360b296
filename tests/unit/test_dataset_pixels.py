"""Pixels as the trainer sees them: orientation, transparency, odd modes, scaling, damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loratui.dataset.buckets import assign
from loratui.dataset.pixels import fit, open_rgb, oriented_size
from loratui.errors import DatasetError


def corners(image: Image.Image) -> list[tuple[int, int, int]]:
    w, h = image.size
    return [image.getpixel(p) for p in ((0, 0), (w - 1, 0), (0, h - 1), (w - 1, h - 1))]  # type: ignore[misc]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_exif_orientation_is_applied_as_pillow_does(tmp_path: Path, turn: int, suffix: str) -> None:
    from PIL import ImageOps

    image = Image.new("RGB", (24, 16))
    image.paste((255, 0, 0), (0, 0, 12, 8))
    image.paste((0, 255, 0), (12, 0, 24, 8))
    image.paste((0, 0, 255), (0, 8, 12, 16))
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / f"a.{suffix}"
    image.save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    ours = open_rgb(path)
    with Image.open(path) as theirs:
        expected = ImageOps.exif_transpose(theirs).convert("RGB")
    assert corners(ours) == corners(expected)
    with Image.open(path) as header:
        assert oriented_size(header) == ours.size == ((16, 24) if turn >= 5 else (24, 16))


def test_transparency_shows_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (8, 8), (0, 0, 0, 128)).save(tmp_path / "half.png")
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([255, 0, 0] * 256)
    palette.save(tmp_path / "palette.png", transparency=0)
    Image.new("LA", (8, 8), (0, 0)).save(tmp_path / "grey.png")
    assert corners(open_rgb(tmp_path / "clear.png"))[0] == (255, 255, 255)
    assert abs(corners(open_rgb(tmp_path / "half.png"))[0][0] - 127) <= 1
    assert corners(open_rgb(tmp_path / "palette.png"))[0] == (255, 255, 255)
    assert corners(open_rgb(tmp_path / "grey.png"))[0] == (255, 255, 255)


def test_deep_greys_keep_their_brightness(tmp_path: Path) -> None:
    deep = np.full((8, 8), 32768, np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "float.tif")
    Image.new("1", (8, 8), 1).save(tmp_path / "bit.png")
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "cmyk.jpg")
    for name, value in (("deep.png", 128), ("float.tif", 128), ("bit.png", 255), ("cmyk.jpg", 255)):
        pixel = corners(open_rgb(tmp_path / name))[0]
        assert all(abs(v - value) <= 1 for v in pixel), (name, pixel)


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert corners(open_rgb(tmp_path / "a.gif"))[0] == (255, 0, 0)


def test_fit_covers_and_crops_the_centre() -> None:
    image = Image.new("RGB", (300, 100), "red")
    image.paste((0, 0, 255), (100, 0, 200, 100))
    square = fit(image, (64, 64))
    assert square.size == (64, 64)
    assert all(blue > 230 and red < 25 for red, _, blue in corners(square)), "only the middle third is left"
    bucket = assign(300, 100, [(96, 32)])
    whole = fit(image, bucket)
    assert whole.size == (96, 32)
    assert corners(whole)[0][0] > 250
    same = Image.new("RGB", (64, 64))
    assert fit(same, (64, 64)) is same


def test_damage_is_one_clear_error(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    Image.effect_noise((64, 64), 80).save(good)
    data = good.read_bytes()
    for name, content in (("cut.png", data[: len(data) // 2]), ("text.png", b"hello"), ("empty.png", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DatasetError) as caught:
            open_rgb(tmp_path / name)
        assert name in caught.value.message
        assert "\n" not in caught.value.message
    with pytest.raises(DatasetError, match="not there any more"):
        open_rgb(tmp_path / "none.png")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_for_the_eye_is_decoded_at_a_fraction_and_looks_the_same(tmp_path: Path, mode: str) -> None:
    wave = np.add.outer(np.arange(900), np.arange(1200)) / 9
    grey = Image.fromarray((127 + 120 * np.sin(wave / 20)).astype(np.uint8))
    picture = Image.merge("RGB", (grey, grey.rotate(90), Image.new("L", grey.size, 90))).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", quality=95, exif=exif)
    whole, small = open_rgb(tmp_path / "a.jpg"), open_rgb(tmp_path / "a.jpg", least=300)
    assert whole.size == (900, 1200)
    # inks are mixed from all px
    assert small.size == (whole.size if mode == "CMYK" else (225, 300))
    assert open_rgb(tmp_path / "a.jpg", least=301).width >= 226
    a = np.asarray(small.resize((45, 60), Image.Resampling.BOX), np.float32)
    b = np.asarray(whole.resize((45, 60), Image.Resampling.BOX), np.float32)
    assert float(np.abs(a - b).mean()) < 3
