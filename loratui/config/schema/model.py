"""[model]: the base checkpoint."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The base checkpoint."""

    base: str = ""
    """Diffusers folder, single .safetensors file, Hub id, or `demo` for the bundled model."""
    family: str = "auto"
    """Model family (`loratui families`); `auto` reads it from the checkpoint."""
    vae: str = ""
    """Another VAE to use instead of the base's own: folder or .safetensors file; empty for none."""
    text: tuple[str, ...] = ()
    """Where text encoders and tokenizers are that the base lacks: a diffusers folder of the same family, or
    folders and .safetensors files of the single ones (`clip_l`, `t5xxl`), told apart by what is in them."""
    adapter: str = ""
    """LoRA file that lies under the base in training and is left out of samples: a training adapter, which
    distilled bases (turbo ones) need so that they keep their few steps; empty for none."""
    clip_skip: int = 1
    """SD1.x: layer of the text encoder that is used, counted from the end; anime bases often want 2."""


SHORT_NAMES: dict[str, str] = {
    "base": "base",
}
RANGES: dict[str, tuple[float | None, float | None]] = {"clip_skip": (1, 12)}
POSITIVE: frozenset[str] = frozenset()
CHOICES: dict[str, tuple[str, ...]] = {}
