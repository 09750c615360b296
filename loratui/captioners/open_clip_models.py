"""Loading open_clip models and their tokenizers from this disk, never with random weights."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratui.captioners.place import Place
from loratui.captioners.protocol import Source
from loratui.errors import BaseModelError, ConfigError

_PRECISIONS = {"torch.float32": "fp32", "torch.bfloat16": "bf16", "torch.float16": "fp16"}
_FIRST = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "open_clip_pytorch_model.safetensors")
_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth"})


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready for use: `preprocess` makes pixels_CHW of a picture, `tokenize` ids of texts.

    `recipe` is what makes the same weights compute otherwise: version and configuration.
    """

    model: Any
    preprocess: Any
    tokenize: Any
    weights: Path
    recipe: str


def load_open_clip(source: Source, architecture: str, where: Place) -> Loaded:
    """Load a model of a folder with open_clip_config.json, or a bare weight file of a known architecture.

    Raises:
        BaseModelError: weights are missing, damaged or of another architecture.
        ConfigError: a bare file without an architecture, or an unknown one.
    """
    import open_clip

    folder = source.folder
    assert folder is not None
    weights = source.weights or _chosen(folder)
    has_config = (folder / "open_clip_config.json").is_file()
    if not has_config and architecture not in open_clip.list_models():
        raise ConfigError(
            f"{weights} does not say what it is, and architecture is {architecture or 'not set'}.",
            "Set architecture to its open_clip name (ViT-L-14), or put its open_clip_config.json beside it.",
        )
    arguments = {
        "precision": _PRECISIONS[str(where.dtype)],
        "device": where.device,
        "require_pretrained": True,
    }
    try:
        if has_config:
            with _only(folder, weights) as place:
                name = f"local-dir:{place}"
                model, _, preprocess = open_clip.create_model_and_transforms(name, **arguments)
                tokenize = open_clip.get_tokenizer(name)
        else:
            model, _, preprocess = open_clip.create_model_and_transforms(
                architecture, pretrained=str(weights), **arguments
            )
            tokenize = open_clip.get_tokenizer(architecture)
    except Exception as error:  # torch, safetensors, json and open_clip each raise their own
        if "out of memory" in str(error):
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BaseModelError(
            f"{weights} cannot be loaded as an open_clip model: {first[:240]}.",
            "Fetch it again; it may be cut off, or of another architecture.",
        ) from error
    config = (folder / "open_clip_config.json").read_text("utf-8", "replace") if has_config else ""
    recipe = f"{open_clip.__version__} {config or architecture}"
    return Loaded(model.eval(), preprocess, tokenize, weights, recipe)


def _chosen(folder: Path) -> Path:
    """The weight file of a folder: open_clip's own before a copy for other programs."""
    for name in _FIRST:
        if (folder / name).is_file():
            return folder / name
    found = (p for p in folder.iterdir() if p.suffix in _SUFFIXES)
    return min(found, key=lambda p: (p.suffix != ".safetensors", p))


@contextlib.contextmanager
def _only(folder: Path, weights: Path) -> Iterator[Path]:
    """A folder like `folder` in which `weights` is the only weight file: open_clip takes the first."""
    inside = [p for p in folder.iterdir() if p.suffix in _SUFFIXES]
    if inside == [weights] and weights.suffix != ".pt":
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="loratui-") as made:
        place = Path(made)
        for path in folder.iterdir():
            if path.suffix not in _SUFFIXES:
                (place / path.name).symlink_to(path.resolve())
        suffix = ".bin" if weights.suffix == ".pt" else weights.suffix
        (place / f"weights{suffix}").symlink_to(weights.resolve())
        yield place
