"""Sizes of base and network from the shapes in the base's own file headers: no tensor is read.

A LoRA gives a matrix of `out x in` numbers two factors of rank r: r * in + out * r numbers. A 1,000 x 2,000
matrix has 2,000,000 numbers, its rank-2 factors 6,000. Convolutions wider than a pixel may have a rank of
their own. A base that is not here yet is taken to be of its family's true size (`weights/tables`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from loratui.config.patterns import last_match
from loratui.config.schema import NetworkConfig
from loratui.errors import LoratuiError
from loratui.families.spec import CaptionPart, family_spec, row_of
from loratui.plan.captions import captions_of
from loratui.weights import layouts
from loratui.weights.base_layers import read_layers
from loratui.weights.consumers import STRUCTURES
from loratui.weights.embedding_files import WIDTHS
from loratui.weights.header import read_header
from loratui.weights.verify import table

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
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
_TEXT = tuple(f".self_attn.{p}_proj.weight" for p in ("q", "k", "v", "out")) + (
    ".mlp.fc1.weight", ".mlp.fc2.weight", ".attn.out_proj.weight", ".mlp.c_fc.weight", ".mlp.c_proj.weight",
)  # fmt: skip
_FUSED = ".attn.in_proj_weight"
_WORDS = "token_embedding.weight"
_ORIGINAL = "model.diffusion_model."
_TEXT_PARTS = ("cond_stage_model.", "conditioner.embedders.")

_KNOWN_UNET = {"sd15": 859_520_964, "sd2": 865_910_724, "sdxl": 2_567_463_684}
_KNOWN_OTHERS = {"sd15": 207_000_000, "sd2": 424_000_000, "sdxl": 901_400_000}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts of numbers.

    Attributes:
        denoiser: of the U-Net.
        others: of codec and text encoder.
        layers: layers that get an update.
        lora: trainable numbers of the network, 0 where new tokens are trained alone.
        exact: counted from the base's own shapes, not from the table of its family.
        blocks: blocks of the denoiser that can be swapped, see `FamilySpec.blocks`.
        tokens: numbers of the new tokens, in all text encoders.
        captions: what the cache holds of a caption, as the base's own shapes tell; its family's without.
        example: (out, in) of the layer shape that most layers have, empty without a linear layer.
    """

    denoiser: int
    others: int
    layers: int
    lora: int
    exact: bool
    blocks: int
    example: Shape = ()
    tokens: int = 0
    captions: tuple[CaptionPart, ...] = ()


def sizes(base: Path | None, family: str, network: NetworkConfig) -> Sizes | None:
    """Sizes for a base, else for its family; None when neither is known."""
    if family in layouts.families():
        return _of_transformer(base, family, network) if base is not None else None
    if base is not None:
        try:
            denoiser, text, others = _shapes(base)
        except (LoratuiError, OSError):
            denoiser, text, others = {}, {}, 0
        if denoiser:
            chosen = [(f"lora_unet.{n}", s) for n, s in denoiser.items() if _chosen(n, network.target)]
            if network.text_encoder:
                chosen += list(_text_layers(text, family))
            total = sum(math.prod(shape) for shape in denoiser.values())
            # Patterns speak of diffusers' names, which a single file does not have.
            exact = not (network.ranks and base.is_file())
            word = sum(shape[1] for name, shape in text.items() if name.endswith(_WORDS))
            return _count(chosen, network, total, others, exact, row_of(family).blocks, word)
    if family not in STRUCTURES:
        return None
    rows = [(n, (up, *down)) for n, (down, up) in table(family).items() if _of_table(n, network)]
    known, word = (_KNOWN_UNET[family], _KNOWN_OTHERS[family]), sum(WIDTHS[family].values())
    return _count(rows, network, *known, False, row_of(family).blocks, word)


def _of_transformer(base: Path, family: str, network: NetworkConfig) -> Sizes | None:
    """Sizes for a diffusion transformer, from its base's headers; layers as its files name them.

    Layers that are one matrix in the files share their A: `in` counts once and the `out` of all.
    """
    spec = family_spec(family)
    try:
        found = read_layers(base, family)
    except (LoratuiError, OSError):
        return None
    if spec is None or found is None:
        return None
    files: dict[str, list[str]] = {}
    for name in found.shapes:
        idle = name.startswith(found.last_block) and spec.idle and name.endswith(spec.idle)
        if f".{name}".endswith(spec.layers[network.target]) and not idle:
            whole = found.names.parts[name].original if spec.files == "kohya" else name
            files.setdefault(whole, []).append(name)
    chosen: list[tuple[str, Shape]] = []
    for layers in files.values():
        size = found.sizes(layers)
        assert size is not None  # they are among its shapes
        chosen.append((f"lora_unet.{layers[0]}", (size[1], size[0])))
    if network.text_encoder:
        chosen += list(_text_layers(found.text, family))
    # Text encoders and codec often come from elsewhere: then those of the true model are counted.
    others = found.others or spec.others
    counted = _count(chosen, network, found.denoiser, others, True, sum(found.blocks.values()))
    return replace(counted, captions=captions_of(spec, found.own))


def _count(
    layers: list[tuple[str, Shape]], network: NetworkConfig, denoiser: int, others: int, exact: bool,
    blocks: int, word: int = 0,
) -> Sizes:  # fmt: skip
    """Sizes with these layers trained, and new tokens of `word` numbers each."""
    counts = []
    layers = [] if network.tokens_only else layers
    shapes: Counter[Shape] = Counter(shape for _, shape in layers if len(shape) == 2)
    for name, shape in layers:
        usual = (network.conv_rank or network.rank) if is_wide(shape) else network.rank
        rank = int(last_match(network.ranks, name.removesuffix(".weight"), usual))
        if rank:
            counts.append(numbers(shape, network, rank))
    example = max(shapes, key=lambda s: (shapes[s], s)) if shapes else ()
    return Sizes(denoiser, others, len(counts), sum(counts), exact, blocks, example, network.tokens * word)


def numbers(shape: Shape, network: NetworkConfig, rank: int) -> int:
    """Trained numbers for one layer of a weight's shape, as peft makes them for the network's type."""
    out, into, kernel = shape[0], shape[1], math.prod(shape[2:])
    lora = rank * numbers_per_rank(shape)
    tucker = network.tucker and kernel > 1
    if network.kind == "dora":
        return lora + out
    if network.kind == "loha":
        return 2 * (rank * rank * kernel + rank * (into + out)) if tucker else 2 * lora
    if network.kind == "oft":
        size = _block(into * kernel, network.block_size)
        return into * kernel // size * (size * (size - 1) // 2)
    if network.kind == "lokr":
        small_in, large_in = factors(into, network.factor)
        small_out, large_out = factors(out, network.factor)
        whole = not (network.decompose_both and rank < max(small_out, small_in) / 2)
        count = small_out * small_in if whole else rank * (small_out + small_in)
        if rank >= max(large_out, large_in) / 2:
            return count + large_out * large_in * kernel
        if tucker:
            return count + rank * rank * kernel + rank * (large_out + large_in)
        return count + rank * (large_out + large_in * kernel)
    return lora


def factors(dimension: int, factor: int) -> tuple[int, int]:
    """The two sizes LoKr splits a side into, the smaller first, as LyCORIS and peft choose them."""
    if factor > 0 and dimension % factor == 0:
        return factor, dimension // factor
    limit = factor if factor > 0 else dimension
    m, n = 1, dimension
    while m < n:
        new_m = m + 1
        while dimension % new_m:
            new_m += 1
        if new_m + dimension // new_m > m + n or new_m > limit:
            break
        m, n = new_m, dimension // new_m
    return min(m, n), max(m, n)


def _block(width: int, size: int) -> int:
    """The block size that peft takes for OFT: the nearest to `size` that divides the width."""
    if size >= width:
        return width
    higher = next(n for n in range(size, width + 1) if width % n == 0)
    lower = next(n for n in range(size, 0, -1) if width % n == 0)
    return lower if size - lower <= higher - size else higher


def numbers_per_rank(shape: Shape) -> int:
    """Numbers that each unit of rank adds for one layer: in (times the kernel) plus out."""
    return math.prod(shape[1:]) + shape[0]


def is_wide(shape: Shape) -> bool:
    """Whether a weight is a convolution that sees more than one pixel."""
    return len(shape) == 4 and math.prod(shape[2:]) > 1


def _chosen(name: str, target: str) -> bool:
    return name.endswith(_ENDINGS[target])


def _of_table(name: str, network: NetworkConfig) -> bool:
    """Whether a module of the reference trainer's list is trained."""
    if not name.startswith("lora_unet_"):
        return network.text_encoder
    kinds = ("_attn[12]_", "_ff_net_", "_proj_(in|out)$")
    kind = next((n for n, pattern in enumerate(kinds) if re.search(pattern, name)), 3)
    return kind <= list(_ENDINGS).index(network.target)


def _text_layers(text: Shapes, family: str) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of the text encoders' trained layers; fused q, k and v count as three."""
    numbered = [int(m[1]) for n in text if (m := re.search(r"resblocks\.(\d+)\.", n))]
    unused = f"resblocks.{max(numbered)}." if numbered and family == "sd2" else None  # stored, never run
    for name, shape in text.items():
        if unused is not None and unused in name:
            continue
        if name.endswith(_FUSED):
            for part in ("q", "k", "v"):
                yield f"lora_te.{name}.{part}", (shape[0] // 3, shape[1])
        elif name.endswith(_TEXT):
            yield f"lora_te.{name}", shape


def _shapes(base: Path) -> tuple[dict[str, Shape], dict[str, Shape], int]:
    """Shapes of denoiser and text encoders by name, and the count of numbers in all but the denoiser."""
    if base.is_file():
        tensors = {name: info.shape for name, info in read_header(base).tensors.items()}
        denoiser = {k: v for k, v in tensors.items() if k.startswith(_ORIGINAL)}
        text = {k: v for k, v in tensors.items() if k.startswith(_TEXT_PARTS)}
        return denoiser, text, sum(math.prod(v) for k, v in tensors.items() if k not in denoiser)
    denoiser, text, others = {}, {}, 0
    for path in _weight_files(base / "unet"):
        denoiser |= {name: info.shape for name, info in read_header(path).tensors.items()}
    for part in ("vae", "text_encoder", "text_encoder_2"):
        for path in _weight_files(base / part):
            tensors = {f"{part}.{name}": info.shape for name, info in read_header(path).tensors.items()}
            others += sum(math.prod(shape) for shape in tensors.values())
            text |= tensors if part != "vae" else {}
    return denoiser, text, others


def _weight_files(folder: Path) -> list[Path]:
    """The weights of one part: the plain variant where several lie side by side."""
    files = sorted(folder.glob("*.safetensors"))
    plain = [f for f in files if f.name.count(".") == 1]
    return plain or files
