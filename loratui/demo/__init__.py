"""The bundled demo: a tiny SD1.5-layout base model, sixteen pictures of a mascot, and a scorer.

Nothing here imports torch. The weights are package data, made by `tools/build_demo_base.py`.
"""

from __future__ import annotations

from pathlib import Path

TRIGGER = "sks robot"
"""The words that stand for the mascot in the captions of its pictures."""

RESOLUTION_PX = 64
"""The side of the pictures that the base draws: 16x16 latents at a scale of 4."""

TRAINED_BACKGROUNDS = ("blue", "yellow", "pink", "black", "grey", "brown", "white", "teal")
"""Background colours in the mascot's pictures."""

HELD_OUT_BACKGROUNDS = ("red", "green", "purple")
"""Background colours that the mascot is never shown on: the score asks for these."""

SCORE_SEEDS = tuple(range(16))
"""Seeds of the score's pictures, for each held-out background."""

SAMPLING_STEPS = 20
GUIDANCE_SCALE = 5.0


def base_path() -> Path:
    """Return the folder of the bundled diffusers pipeline."""
    return Path(__file__).parent / "base"


def pictures_path() -> Path:
    """Return the folder of the mascot's pictures with their `.txt` captions."""
    return Path(__file__).parent / "pictures"


def captioners_path() -> Path:
    """Return the folder of the demo's captioners: `blip` and `clip`, made by `tools/train_captioners.py`."""
    return Path(__file__).parent / "captioners"


def scorer_path() -> Path:
    """Return the folder of the scorer's weights."""
    return Path(__file__).parent / "scorer"


def score_prompts() -> list[tuple[str, str]]:
    """Return (prompt, background colour) for each held-out background."""
    return [(f"{TRIGGER}, {colour} background", colour) for colour in HELD_OUT_BACKGROUNDS]


def sample_prompts() -> list[str]:
    """Return the prompts to draw during the demo's training."""
    return [prompt for prompt, _ in score_prompts()]
