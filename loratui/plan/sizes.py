"""Sizes of base and LoRA from the shapes in the base's own file headers: no tensor is read.

A matrix of `out x in` numbers gets two factors of rank r: r * in + out * r numbers. A 1,000 x 2,000 matrix
has 2,000,000 numbers, its rank-2 factors 6,000. Convolutions wider than a pixel may have a rank of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loratui.errors import LoratuiError
from loratui.weights.header import read_header

Shapes = Mapping[str, tuple[int, ...]]
_ATTENTION = tuple(f".attn{n}.{leaf}.weight" for n in (1, 2) for leaf in ("to_q", "to_k", "to_v", "to_out.0"))
_MLP = (".ff.net.0.proj.weight", ".ff.net.2.weight")
_PROJECTIONS = (".proj_in.weight", ".proj_out.weight")
# The residual blocks' layers and the samplers between them, first as diffusers and then as the original
# layout names them.
_CONVOLUTIONS = (
    ".conv1.weight", ".conv2.weight", ".conv_shortcut.weight", ".time_emb_proj.weight", ".conv.weight",
    ".in_layers.2.weight", ".out_layers.3.weight", ".skip_connection.weight", ".emb_layers.1.weight",
    ".op.weight",
)  # fmt: skip
_ENDINGS = {
    "attention": _ATTENTION,
    "attention+mlp": (*_ATTENTION, *_MLP),
    "full": (*_ATTENTION, *_MLP, *_PROJECTIONS),
    "full+conv": (*_ATTENTION, *_MLP, *_PROJECTIONS, *_CONVOLUTIONS),
}
_ORIGINAL = "model.diffusion_model."

_KNOWN: dict[str, dict[str, tuple[int, int, int]]] = {
    "sd15": {
        "attention": (128, 199_296, 0),
        "attention+mlp": (160, 374_016, 0),
        "full": (192, 423_936, 0),
        "full+conv": (278, 506_816, 544_000),
    },
    "sd2": {
        "attention": (128, 207_488, 0),
        "attention+mlp": (160, 382_208, 0),
        "full": (192, 432_128, 0),
        "full+conv": (278, 515_008, 544_000),
    },
    "sdxl": {
        "attention": (560, 1_451_520, 0),
        "attention+mlp": (700, 2_616_320, 0),
        "full": (722, 2_659_840, 0),
        "full+conv": (788, 2_718_400, 355_840),
    },
}
"""(layers, numbers per rank, numbers per rank of convolutions) of the published models, for a base that is
not here yet."""
_KNOWN_UNET = {"sd15": 859_520_964, "sd2": 865_910_724, "sdxl": 2_567_463_684}
_KNOWN_OTHERS = {"sd15": 207_000_000, "sd2": 424_000_000, "sdxl": 901_400_000}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts of numbers.

    Attributes:
        denoiser: of the U-Net.
        others: of codec and text encoder.
        layers: layers that get an update.
        lora: trainable numbers.
        exact: counted from the base's own shapes, not from the table of its family.
    """

    denoiser: int
    others: int
    layers: int
    lora: int
    exact: bool


def sizes(base: Path | None, family: str, target: str, rank: int, conv_rank: int = 0) -> Sizes | None:
    """Sizes for a base, else for its family; None when neither is known. A conv_rank of 0 is the rank."""
    conv_rank = conv_rank or rank
    if base is not None:
        try:
            denoiser, others = _shapes(base)
        except (LoratuiError, OSError):
            denoiser, others = {}, 0
        if denoiser:
            chosen = [shape for name, shape in denoiser.items() if _chosen(name, target)]
            lora = sum(numbers_per_rank(s) * (conv_rank if is_wide(s) else rank) for s in chosen)
            total = sum(math.prod(shape) for shape in denoiser.values())
            return Sizes(total, others, len(chosen), lora, True)
    known = _KNOWN.get(family, {}).get(target)
    if known is None:
        return None
    return Sizes(
        _KNOWN_UNET[family], _KNOWN_OTHERS[family], known[0], rank * known[1] + conv_rank * known[2], False
    )


def numbers_per_rank(shape: tuple[int, ...]) -> int:
    """Numbers that each unit of rank adds for one layer: in (times the kernel) plus out."""
    return math.prod(shape[1:]) + shape[0]


def is_wide(shape: tuple[int, ...]) -> bool:
    """Whether a weight is a convolution that sees more than one pixel."""
    return len(shape) == 4 and math.prod(shape[2:]) > 1


def _chosen(name: str, target: str) -> bool:
    return name.endswith(_ENDINGS[target])


def _shapes(base: Path) -> tuple[dict[str, tuple[int, ...]], int]:
    """Shapes of the denoiser by name, and the count of numbers in everything else."""
    if base.is_file():
        tensors = {name: info.shape for name, info in read_header(base).tensors.items()}
        denoiser = {k: v for k, v in tensors.items() if k.startswith(_ORIGINAL)}
        return denoiser, sum(math.prod(v) for k, v in tensors.items() if k not in denoiser)
    denoiser = {}
    for path in _weight_files(base / "unet"):
        denoiser |= {name: info.shape for name, info in read_header(path).tensors.items()}
    others = 0
    for part in ("vae", "text_encoder", "text_encoder_2"):
        for path in _weight_files(base / part):
            others += sum(math.prod(info.shape) for info in read_header(path).tensors.values())
    return denoiser, others


def _weight_files(folder: Path) -> list[Path]:
    """The weights of one part: the plain variant where several lie side by side."""
    files = sorted(folder.glob("*.safetensors"))
    plain = [f for f in files if f.name.count(".") == 1]
    return plain or files
