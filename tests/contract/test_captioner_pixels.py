"""What each captioner makes of three committed pictures, against its authors' recipe written out here.

wide.png lies on its side, clear.png has transparent and half transparent parts, turned.jpg is turned by EXIF.
"""

from __future__ import annotations

import base64
import importlib
import io
import math
from pathlib import Path
from typing import Any

import caption_kit as kit
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from loratui.captioners.locate import locate
from loratui.captioners.spec import CAPTIONERS, ApiOptions, captioner_spec
from loratui.dataset.pixels import open_rgb

PICTURES = sorted((Path(__file__).parent.parent / "data" / "pictures").iterdir())
IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))
CLIP = (kit.CLIP_MEAN, kit.CLIP_STD)
HALF = (np.array([0.5] * 3), np.array([0.5] * 3))
GREY = 1.01
"""One grey level of 255, where an array of another library was resized."""


def upright(path: Path) -> Image.Image:
    """The picture as a person sees it, on white; no code of ours."""
    with Image.open(path) as image:
        image.load()
        if image.mode == "RGBA":
            ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
            return Image.alpha_composite(ground, image).convert("RGB")
        return (
            image.transpose(Image.Transpose.ROTATE_270) if path.name == "turned.jpg" else image.convert("RGB")
        )


def square(image: Image.Image, side: int) -> NDArray[np.float64]:
    """Squeezed into a square, bicubically."""
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float64)


def shortest_then_centre(image: Image.Image, side: int) -> NDArray[np.float64]:
    """CLIP's own: the shorter side to `side`, bicubically, then the centre."""
    width, height = image.size
    size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    scaled = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (round((n - side) / 2.0) for n in size)
    return np.asarray(scaled.crop((left, top, left + side, top + side)), dtype=np.float64)


def load(name: str, tmp_path: Path, **values: Any) -> Any:
    row = captioner_spec(name)
    assert row is not None
    folder = str(kit.MAKERS[name](tmp_path / name)) if name in kit.MAKERS else ""
    return importlib.import_module(row.module).load(row.options(**values), locate(row, folder))


def levels(made: Any, mean_std: tuple[Any, Any]) -> NDArray[np.float64]:
    """pixels_CHW in the model's units back to HWC grey levels 0 to 255."""
    mean, std = mean_std
    array = np.asarray(made, dtype=np.float64).transpose(1, 2, 0)
    return (array * std + mean) * 255


def test_there_are_three_pictures_and_all_are_seen_alike() -> None:
    assert [p.name for p in PICTURES] == ["clear.png", "turned.jpg", "wide.png"]
    for path in PICTURES:
        assert np.array_equal(np.asarray(open_rgb(path)), np.asarray(upright(path))), path.name


@pytest.mark.parametrize("name", [c.name for c in CAPTIONERS if c.module.endswith((".blip", ".blip2"))])
def test_blip_takes_a_squeezed_square(name: str, tmp_path: Path) -> None:
    captioner = load(name, tmp_path)
    for path in PICTURES:
        made = captioner.prepare(open_rgb(path))
        wanted = square(upright(path), made.shape[-1])
        assert np.abs(levels(made, CLIP) - wanted).max() <= GREY, path.name


@pytest.mark.parametrize("name", [c.name for c in CAPTIONERS if c.module.endswith((".clip", ".coca"))])
def test_clip_takes_the_centre(name: str, tmp_path: Path) -> None:
    captioner = load(name, tmp_path)
    for path in PICTURES:
        made = captioner.prepare(open_rgb(path))
        mean, std = CLIP
        wanted = (shortest_then_centre(upright(path), made.shape[-1]) / 255 - mean) / std
        assert np.abs(np.asarray(made).transpose(1, 2, 0) - wanted).max() <= 1e-5, path.name


def test_wd_takes_bgr_on_a_white_square(tmp_path: Path) -> None:
    captioner = load("wd", tmp_path)
    for path in PICTURES:
        image = upright(path)
        side = max(image.size)
        ground = np.full((side, side, 3), 255, dtype=np.uint8)
        top, left = (side - image.height) // 2, (side - image.width) // 2
        ground[top : top + image.height, left : left + image.width] = np.asarray(image)
        wanted = square(Image.fromarray(ground), captioner.side)[:, :, ::-1]
        made = captioner.prepare(open_rgb(path))
        assert made.dtype == np.float32 and np.array_equal(made, wanted), path.name


def test_florence2_takes_a_squeezed_square(tmp_path: Path) -> None:
    captioner = load("florence2", tmp_path)
    for path in PICTURES:
        made, size = captioner.prepare(open_rgb(path))
        assert size == upright(path).size
        assert np.abs(levels(made, IMAGENET) - square(upright(path), 64)).max() <= GREY, path.name


def test_joycaption_takes_siglips_square(tmp_path: Path) -> None:
    captioner = load("joycaption", tmp_path)
    for path in PICTURES:
        made = captioner.prepare(open_rgb(path))["pixel_values"][0]
        assert np.abs(levels(made, HALF) - square(upright(path), 24)).max() <= GREY, path.name


def test_qwen_takes_patches_of_the_whole_picture(tmp_path: Path) -> None:
    """Both sides to multiples of 28 within its range of pixels (56 x 56 at most here), patches of 14 px in
    groups of 2 x 2, each twice in time."""
    captioner = load("qwen-vl", tmp_path)
    for path in PICTURES:
        image = upright(path)
        height, width = smart_size(image.height, image.width, 28, 28 * 28, 56 * 56)
        wanted = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
        inputs = captioner.prepare(open_rgb(path))
        time, high, wide = inputs["image_grid_thw"][0].tolist()
        assert (time, high * 14, wide * 14) == (1, height, width)
        patches = np.asarray(inputs["pixel_values"], dtype=np.float64)
        grid = patches.reshape(high // 2, wide // 2, 2, 2, 3, 2, 14, 14)
        for moment in range(2):
            # (rows, columns, row in group, column in group, channel, y, x) -> (channel, height, width)
            one = grid[:, :, :, :, :, moment].transpose(4, 0, 2, 5, 1, 3, 6).reshape(3, height, width)
            assert np.abs(levels(one, CLIP) - wanted).max() <= GREY, path.name


def smart_size(height: int, width: int, factor: int, least: int, most: int) -> tuple[int, int]:
    """Qwen-VL's rule for the size of a picture."""
    high, wide = (max(factor, round(n / factor) * factor) for n in (height, width))
    if high * wide > most:
        beta = math.sqrt(height * width / most)
        high, wide = (max(factor, math.floor(n / beta / factor) * factor) for n in (height, width))
    elif high * wide < least:
        beta = math.sqrt(least / (height * width))
        high, wide = (math.ceil(n * beta / factor) * factor for n in (height, width))
    return high, wide


def test_the_server_gets_a_jpeg_of_at_most_so_many_px() -> None:
    module = importlib.import_module("loratui.captioners.openai_api")
    captioner = module.OpenAiApi(ApiOptions(endpoint="http://127.0.0.1:9", max_side=64))
    for path in PICTURES:
        head, _, data = captioner.prepare(open_rgb(path)).partition(",")
        assert head == "data:image/jpeg;base64"
        image = upright(path)
        factor = min(1.0, 64 / max(image.size))
        size = tuple(round(n * factor) for n in image.size)
        wanted = np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.float64)
        with Image.open(io.BytesIO(base64.b64decode(data))) as sent:
            assert sent.size == size and sent.format == "JPEG"
            assert np.abs(np.asarray(sent, dtype=np.float64) - wanted).mean() < 8, path.name


def test_no_captioner_is_left_out() -> None:
    known = {"blip", "blip2", "clip", "coca", "wd", "florence2", "joycaption", "qwen_vl", "openai_api"}
    assert {c.module.rsplit(".", 1)[1] for c in CAPTIONERS} <= known


@pytest.mark.parametrize("name", ["blip", "blip2", "florence2"])
def test_squeezed_pixels_are_the_processors_to_the_bit(name: str, tmp_path: Path) -> None:
    captioner = load(name, tmp_path)
    assert captioner.pixels.size is not None  # looked up, not asked of the processor
    for path in PICTURES:
        image = open_rgb(path)
        wanted = captioner.pixels.processor(images=[image], return_tensors="np")["pixel_values"][0]
        assert np.array_equal(captioner.pixels(image).numpy(), wanted), path.name


def test_a_processor_that_crops_is_asked_itself() -> None:
    from transformers import CLIPImageProcessorPil

    from loratui.captioners.squeeze import Squeeze

    processor = CLIPImageProcessorPil(size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16})
    squeeze = Squeeze(processor)
    assert squeeze.size is None and squeeze(open_rgb(PICTURES[0])).shape == (3, 16, 16)
