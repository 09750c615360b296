"""The layers of a diffusion transformer in a base's files, by diffusers' names, from headers alone.

Folders have diffusers' names already. Single files have the original's, whose fused matrices are cut as
`weights.layouts` says. Nothing is read but headers; torch is not needed.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from loratui.weights.header import Header, read_header
from loratui.weights.layouts import Names, names_of, part_sizes, true_counts

Shape = tuple[int, ...]
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "")
ELSEWHERE = ("first_stage_model.", "vae.", "text_encoders.", "text_encoder.", "conditioner.",
             "cond_stage_model.")  # fmt: skip
"""Beginnings of the tensors in single files that are not the denoiser's."""


@dataclass(frozen=True, slots=True)
class BaseLayers:
    """What a base's headers say.

    Attributes:
        shapes: diffusers' name of each layer of the blocks -> (out, in).
        blocks: kind of block -> how many.
        own: shape of each of the denoiser's tensors by its name in the base, prefix removed.
        denoiser: numbers of the denoiser.
        others: numbers of codec and text encoders that lie in the base.
        text: shapes of the text encoders' tensors by name, that lie in the base.
        names: of the layers, at these counts of blocks.
    """

    shapes: dict[str, Shape]
    blocks: dict[str, int]
    own: dict[str, Shape]
    denoiser: int
    others: int
    text: dict[str, Shape]
    names: Names

    @property
    def last_block(self) -> str:
        """The beginning of the names in the block that runs last."""
        kind, count = list(self.blocks.items())[-1]
        return f"{kind}.{count - 1}."

    def sizes(self, modules: list[str]) -> tuple[int, int] | None:
        """(in, out) of layers that are one matrix in a file; None where the base lacks one of them."""
        shapes = [self.shapes.get(name) for name in modules]
        if not shapes or any(s is None for s in shapes):
            return None
        known = [s for s in shapes if s is not None]
        return math.prod(known[0][1:]), sum(s[0] for s in known)


def read_layers(base: Path, family: str) -> BaseLayers | None:
    """The layers of a base of a family that `weights.layouts` has a table of; None where it has none of them.

    Raises:
        WeightsError: a file cannot be read.
        OSError: a folder cannot be read.
    """
    if base.is_dir():
        own = _of_folder(base / "transformer")
        elsewhere: dict[str, Shape] = {}
        for folder in sorted(base.glob("text_encoder*")) + [base / "vae"]:
            elsewhere |= {f"{folder.name}.{n}": s for n, s in _of_folder(folder).items()}
        shapes, blocks = _plain(own, family)
    else:
        own, elsewhere = _of_file(read_header(base), family)
        shapes, blocks = _cut(own, family)
    if not shapes:
        return None
    names = names_of(family, json.dumps(blocks))
    text = {n: s for n, s in elsewhere.items() if not n.startswith(("vae.", "first_stage_model."))}
    return BaseLayers(
        {n: shapes[n] for n in names.parts if n in shapes}, blocks, own, _numbers(own), _numbers(elsewhere),
        text, names,
    )  # fmt: skip


def _numbers(shapes: dict[str, Shape]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def _of_folder(folder: Path) -> dict[str, Shape]:
    """Shapes in a part's files: the plain variant where several lie side by side."""
    files = sorted(folder.glob("*.safetensors"))
    plain = [f for f in files if f.name.count(".") == 1]
    found: dict[str, Shape] = {}
    for path in plain or files:
        found |= {name: info.shape for name, info in read_header(path).tensors.items()}
    return found


def _of_file(header: Header, family: str) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """The denoiser's shapes, prefix removed, and the others'."""
    originals = [f"{name}.weight" for name in names_of(family).originals]
    prefix = next((p for p in PREFIXES if any(p + name in header.tensors for name in originals)), "")
    own: dict[str, Shape] = {}
    others: dict[str, Shape] = {}
    for name, info in header.tensors.items():
        if name.startswith(prefix) and not (prefix == "" and name.startswith(ELSEWHERE)):
            own[name.removeprefix(prefix)] = info.shape
        else:
            others[name] = info.shape
    return own, others


def _counts(names: list[str], starts: dict[str, str]) -> dict[str, int]:
    """Kind of block -> one more than the largest number behind its beginning."""
    found = {}
    for kind, start in starts.items():
        pattern = re.compile(re.escape(start) + r"\.(\d+)\.")
        numbers = [int(match[1]) for name in names if (match := pattern.match(name))]
        if numbers:
            found[kind] = max(numbers) + 1
    return found


def _plain(own: dict[str, Shape], family: str) -> tuple[dict[str, Shape], dict[str, int]]:
    blocks = _counts(list(own), {kind: kind for kind in true_counts(family)})
    parts = names_of(family, json.dumps(blocks)).parts
    return {name: own[f"{name}.weight"] for name in parts if f"{name}.weight" in own}, blocks


def _cut(own: dict[str, Shape], family: str) -> tuple[dict[str, Shape], dict[str, int]]:
    """The original's matrices as diffusers' layers."""
    starts: dict[str, str] = {}
    for name, part in names_of(family).parts.items():
        if (kind := name.partition(".0.")[0]) in true_counts(family):
            starts.setdefault(kind, part.original.partition(".0.")[0])
    blocks = _counts(list(own), starts)
    found: dict[str, Shape] = {}
    for original, layers in names_of(family, json.dumps(blocks)).originals.items():
        shape = own.get(f"{original}.weight")
        if shape is None:
            continue
        into = math.prod(shape[1:])
        for layer, rows in zip(layers, part_sizes(len(layers), shape[0], into), strict=True):
            found[layer] = (rows, into)
    return found, blocks
