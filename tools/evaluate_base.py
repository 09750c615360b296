"""Measure how well the demo's base obeys prompts, with the judge that `train_judges.py` made."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch
from captions import held_out_prompt
from diffusers import DDIMScheduler, StableDiffusionPipeline
from figures import FIGURES, SHAPES
from PIL import Image
from scenes import COLOUR_NAMES, held_out
from train_codec import load_codec, measure, to_tensor
from train_judges import KINDS, load_judge

STEPS, GUIDANCE = 20, 5.0


@dataclass(frozen=True)
class Asked:
    """A prompt and what a picture of it has to show."""

    prompt: str
    kind: str
    colour: str
    background: str


def held_out_set(kinds: tuple[str, ...], n: int, seed: int = 2024) -> list[Asked]:
    """Return `n` prompts whose combination of kind, colour and background was never trained on."""
    rng = random.Random(seed)
    asked: list[Asked] = []
    while len(asked) < n:
        kind, colour, background = rng.choice(kinds), rng.choice(COLOUR_NAMES), rng.choice(COLOUR_NAMES)
        if colour != background and held_out(kind, colour, background):
            asked.append(Asked(held_out_prompt(kind, colour, background, rng), kind, colour, background))
    return asked


def load_pipeline(folder: Path) -> StableDiffusionPipeline:
    """Return the exported pipeline with DDIM and no progress bars."""
    diffusers.utils.logging.disable_progress_bar()
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generate(
    pipe: StableDiffusionPipeline,
    prompts: list[str],
    seeds: list[int],
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> list[Image.Image]:
    """Return one picture per prompt, each from its own seed."""
    pictures: list[Image.Image] = []
    for i in range(0, len(prompts), 24):
        generators = [torch.Generator().manual_seed(s) for s in seeds[i : i + 24]]
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            pictures += pipe(
                prompts[i : i + 24], num_inference_steps=steps, guidance_scale=guidance, generator=generators
            ).images
    return pictures


def obedience(work: Path, asked: list[Asked], pictures: list[Image.Image]) -> dict[str, float]:
    """Return the share of pictures with the right kind, colour and background."""
    judge = load_judge(work)
    logits = judge(to_tensor(pictures))
    right = {
        "kind": [KINDS[i] == a.kind for i, a in zip(logits["kind"].argmax(-1).tolist(), asked, strict=True)],
        "colour": [
            COLOUR_NAMES[i] == a.colour
            for i, a in zip(logits["colour"].argmax(-1).tolist(), asked, strict=True)
        ],
        "background": [
            COLOUR_NAMES[i] == a.background
            for i, a in zip(logits["background"].argmax(-1).tolist(), asked, strict=True)
        ],
    }
    right["all three"] = [all(r) for r in zip(*right.values(), strict=True)]
    return {k: round(sum(v) / len(v), 3) for k, v in right.items()}


def contact_sheet(pictures: list[Image.Image], columns: int, zoom: int = 2) -> Image.Image:
    """Return pictures side by side, enlarged without smoothing."""
    w, h = pictures[0].width * zoom + 4, pictures[0].height * zoom + 4
    sheet = Image.new("RGB", (w * columns, h * -(-len(pictures) // columns)), (16, 16, 18))
    for i, picture in enumerate(pictures):
        big = picture.resize((w - 4, h - 4), Image.Resampling.NEAREST)
        sheet.paste(big, (i % columns * w + 2, i // columns * h + 2))
    return sheet


def evaluate(work: Path, base: Path) -> None:
    """Write base/EVALUATION.json and contact sheets in the work folder."""
    pipe = load_pipeline(base)
    shapes = held_out_set(tuple(SHAPES), 200)
    figures = held_out_set(tuple(FIGURES), 100)
    drawn = generate(pipe, [a.prompt for a in shapes], list(range(200)))
    drawn_figures = generate(pipe, [a.prompt for a in figures], list(range(100)))
    contact_sheet(drawn[:96], 16).save(work / "sheet_shapes.png")
    contact_sheet(drawn_figures[:96], 16).save(work / "sheet_figures.png")
    progress = json.loads((work / "unet_progress.json").read_text())
    report = {
        "sampling": {"scheduler": "DDIM", "steps": STEPS, "guidance": GUIDANCE, "size_px": 64},
        "training": {
            "unet_steps": progress["step"],
            "batch": progress["batch"],
            "seconds": round(progress["seconds"]),
        },
        "codec_psnr_db": measure(load_codec(work)),
        "judge_accuracy": json.loads((work / "judge.json").read_text()),
        "obedience_200_held_out_shape_prompts": obedience(work, shapes, drawn),
        "obedience_100_held_out_figure_prompts": obedience(work, figures, drawn_figures),
    }
    (base / "EVALUATION.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=1))
