"""The bundled demo: within its budget, loadable without a network, and its scorer tells figures apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from loratui import demo

MIB = 2**20


def folder_bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def test_sizes_stay_within_the_budget() -> None:
    assert folder_bytes(demo.base_path()) <= 22 * MIB
    assert folder_bytes(demo.scorer_path()) <= 1 * MIB
    assert folder_bytes(demo.pictures_path()) <= 1 * MIB


def test_weights_are_safetensors_and_name_no_machine() -> None:
    files = [p for p in Path(demo.__file__).parent.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert not [p for p in files if p.suffix in {".bin", ".pt", ".pth", ".ckpt", ".pkl"}]
    for path in files:
        if path.suffix == ".json":
            assert "_name_or_path" not in path.read_text(encoding="utf-8"), path


def test_sixteen_pictures_with_captions() -> None:
    pictures = sorted(demo.pictures_path().glob("*.png"))
    assert [p.name for p in pictures] == [f"{i:02}.png" for i in range(1, 17)]
    for path in pictures:
        caption = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        assert caption.startswith(f"{demo.TRIGGER}, ")
        colour = caption.rsplit(", ", 1)[1].removesuffix(" background")
        assert colour in demo.TRAINED_BACKGROUNDS
        with Image.open(path) as picture:
            assert min(picture.size) >= demo.RESOLUTION_PX


def test_held_out_backgrounds_are_never_trained_on() -> None:
    assert not set(demo.HELD_OUT_BACKGROUNDS) & set(demo.TRAINED_BACKGROUNDS)
    assert len(demo.score_prompts()) * len(demo.SCORE_SEEDS) == 48


def test_the_package_does_not_import_torch() -> None:
    code = "import sys, loratui.demo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_scheduler_is_sd15s() -> None:
    config = json.loads((demo.base_path() / "scheduler" / "scheduler_config.json").read_text())
    assert config["beta_schedule"] == "scaled_linear"
    assert (config["beta_start"], config["beta_end"]) == (0.00085, 0.012)
    assert config["steps_offset"] == 1
    assert config["clip_sample"] is False
    assert config["set_alpha_to_one"] is False
    assert config["prediction_type"] == "epsilon"


@pytest.mark.parametrize(
    "text",
    [
        "sks robot, red background",
        "🤖🎨",
        "你好，世界",
        "two\nlines\tand tabs",
        "Ünïcödé ﷺ \u202e",
        "\x00\x07",
        "",
    ],
)
def test_tokenizer_encodes_any_text(text: str) -> None:
    pytest.importorskip("transformers")
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(demo.base_path() / "tokenizer", local_files_only=True)
    assert tokenizer.model_max_length == 77
    ids = tokenizer(text, truncation=True, max_length=77).input_ids
    assert len(ids) <= 77
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in ids[1:-1]  # the unknown token is the end token
    assert max(ids) < len(tokenizer)


def test_tokenizer_truncates_long_text() -> None:
    pytest.importorskip("transformers")
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(demo.base_path() / "tokenizer", local_files_only=True)
    assert len(tokenizer("red " * 500, truncation=True).input_ids) == 77


def nearest_colour(pixel: tuple[int, int, int]) -> str:
    named = {
        "red": (216, 38, 40),
        "blue": (40, 88, 212),
        "yellow": (250, 214, 48),
        "green": (48, 158, 66),
        "pink": (246, 142, 188),
        "black": (26, 26, 30),
    }
    return min(named, key=lambda n: sum((a - b) ** 2 for a, b in zip(pixel, named[n], strict=True)))


def test_base_draws_what_the_prompt_says() -> None:
    pytest.importorskip("diffusers")
    import torch
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(demo.base_path(), local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    asked = [("red", "blue"), ("yellow", "black"), ("blue", "yellow"), ("black", "pink"), ("pink", "green")]
    prompts = [f"a large {shape} square on a {background} background" for shape, background in asked]
    generator = [torch.Generator().manual_seed(s) for s in range(len(asked))]
    pictures = pipe(prompts, num_inference_steps=15, guidance_scale=5.0, generator=generator).images
    assert {p.size for p in pictures} == {(demo.RESOLUTION_PX, demo.RESOLUTION_PX)}
    shapes = [nearest_colour(p.resize((3, 3), Image.Resampling.BOX).getpixel((1, 1))) for p in pictures]
    backgrounds = [nearest_colour(p.getpixel((2, 2))) for p in pictures]
    right = sum(s == a[0] for s, a in zip(shapes, asked, strict=True))
    right += sum(b == a[1] for b, a in zip(backgrounds, asked, strict=True))
    assert right >= 9, (shapes, backgrounds)


def test_scorer_finds_the_mascot_and_its_background() -> None:
    pytest.importorskip("torch")
    from loratui.demo.scorer import judge, score

    paths = sorted(demo.pictures_path().glob("*.png"))
    pictures = [Image.open(p) for p in paths]
    backgrounds = [p.with_suffix(".txt").read_text().strip().split(", ")[-1].split(" ")[0] for p in paths]
    assert all(score(pictures, backgrounds))
    assert not any(v.found for v in judge(pictures, ["purple"] * len(pictures)))


def test_scorer_does_not_take_plain_shapes_for_the_mascot() -> None:
    pytest.importorskip("torch")
    from loratui.demo.scorer import judge

    pictures = []
    for fill in ((168, 196, 222), (250, 142, 40), (30, 38, 66), (40, 90, 210)):
        for kind in ("ellipse", "rectangle"):
            picture = Image.new("RGB", (64, 64), (216, 38, 40))
            getattr(ImageDraw.Draw(picture), kind)((16, 12, 48, 56), fill=fill)
            pictures.append(picture)
    pictures.append(Image.new("RGB", (64, 64), (216, 38, 40)))
    verdicts = judge(pictures, ["red"] * len(pictures))
    assert not any(v.mascot for v in verdicts)
    assert sum(v.background == "red" for v in verdicts) >= len(verdicts) - 1


def test_scorer_refuses_a_background_it_does_not_know() -> None:
    pytest.importorskip("torch")
    from loratui.demo.scorer import judge

    with pytest.raises(ValueError, match="knows no background mauve"):
        judge([Image.new("RGB", (64, 64))], ["mauve"])
    with pytest.raises(ValueError, match="give one for each"):
        judge([Image.new("RGB", (64, 64))], [])
