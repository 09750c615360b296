"""Names of the layers of diffusion transformers, as diffusers and as the original code has them. Torch-free.

They are in the head of each family's file (`families.spec.LayerNames`). All come from the originals' code and
the readers' own (diffusers' converters, ComfyUI's key maps), never from what is exported here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from loratui.families.spec import FAMILIES, LayerNames, row_of

_BEFORE = re.compile(r"(transformer\.|diffusion_model\.|lora_unet_)")


@dataclass(frozen=True, slots=True)
class Part:
    """Where a layer is in the original.

    Attributes:
        original: name of the matrix, with its block's number.
        index: which part of it, from 0.
        count: how many parts it has.
    """

    original: str
    index: int = 0
    count: int = 1


@dataclass(frozen=True)
class Names:
    """The layers of one family's denoiser.

    Attributes:
        family: its name.
        parts: diffusers' name -> its place in the original.
        forms: program -> the forms of names that it reads, of `peft`, `prefixed` (diffusers' names behind
            `diffusion_model.`, as ComfyUI's users have them), `original` and `kohya`.
    """

    family: str
    parts: dict[str, Part]
    forms: dict[str, tuple[str, ...]]

    @property
    def originals(self) -> dict[str, list[str]]:
        """The original's name -> diffusers' names, in order."""
        found: dict[str, list[str]] = {}
        for name, part in self.parts.items():
            found.setdefault(part.original, []).append(name)
        return {o: sorted(names, key=lambda n: self.parts[n].index) for o, names in found.items()}

    @property
    def kohya(self) -> dict[str, str]:
        """Name in a kohya file -> the original's."""
        return {"lora_unet_" + name.replace(".", "_"): name for name in self.originals}

    def readers(self) -> dict[str, frozenset[str]]:
        """Program -> module names that it has a place for."""
        named = {
            "peft": {"transformer." + name for name in self.parts},
            "prefixed": {"diffusion_model." + name for name in self.parts},
            "original": {"diffusion_model." + name for name in self.originals},
            "kohya": set(self.kohya),
        }
        return {
            program: frozenset(name for form in forms for name in named[form])
            for program, forms in self.forms.items()
        }


def families() -> list[str]:
    """The families that have a table."""
    return sorted(row.name for row in FAMILIES if row.names is not None)


@cache
def names_of(family: str, blocks: str = "") -> Names:
    """The table of a family.

    Args:
        family: one of `families()`.
        blocks: JSON of other counts of blocks than the true model's, as `loratui_structure` in metadata.
    """
    counts, forms, rows = _table(family)
    counts = counts | {k: n for k, n in _stated(blocks).items() if k in counts}
    parts: dict[str, Part] = {}
    for name, original, index, count in rows:
        for n in range(counts.get(name.partition(".{n}")[0], 1)):
            parts[name.replace("{n}", str(n))] = Part(original.replace("{n}", str(n)), index, count)
    return Names(family, parts, forms)


def layer_names(family: str) -> LayerNames:
    """What the head of a family's file says of its layers' names; of one of `families()`."""
    found = row_of(family).names
    assert found is not None, f"{family} has no table of names"
    return found


def part_sizes(count: int, rows: int, width: int) -> list[int]:
    """Rows of each part of a fused matrix: equal ones, or q, k and v of a square's side and the rest."""
    if count * width == rows or count < 4:
        return [rows // count] * count
    return [width] * (count - 1) + [rows - (count - 1) * width]


def true_counts(family: str) -> dict[str, int]:
    """Blocks of each kind in the largest true model."""
    return _table(family)[0]


Row = tuple[str, str, int, int]


@cache
def _table(family: str) -> tuple[dict[str, int], dict[str, tuple[str, ...]], list[Row]]:
    known = layer_names(family)
    rows: list[Row] = []
    for line in known.table.split("\n"):
        words = line.split()
        if words:
            index, count = (int(n) for n in words[2].split("/")) if len(words) > 2 else (0, 1)
            rows.append((words[0], words[1], index, count))
    return known.blocks, known.forms, rows


def _stated(text: str) -> dict[str, int]:
    try:
        found = json.loads(text) if text else {}
        return {str(k): int(n) for k, n in found.items() if 0 < int(n) <= 256}
    except (ValueError, TypeError, AttributeError):
        return {}


_MLP_IN = ("_mlp_0", "_mlp.0", "linear1")
"""Ends of the originals' names of the matrices that `LayerNames.mlp_ratios` is about."""


def family_by_names(
    modules: list[str], metadata: dict[str, str], sides: Mapping[str, tuple[int, int]] | None = None
) -> str:
    """The family whose table has most of these names; what the file says of itself decides a tie.

    Args:
        modules: names in the file.
        metadata: of the file.
        sides: name -> outputs and inputs, for families whose files differ in nothing else.

    Returns:
        The family; where no table has any of the names, the first of those whose blocks are named so.
    """
    scores = {}
    mlps = [side for name, side in (sides or {}).items() if name.endswith(_MLP_IN)]
    for family in families():
        ratios = layer_names(family).mlp_ratios
        if ratios and mlps and not any(out in {n * into for n in ratios} for out, into in mlps):
            continue
        readers = names_of(family, metadata.get("loratui_structure", "")).readers()
        known = frozenset().union(*readers.values())
        found = sum(name in known for name in modules)
        if found:
            scores[family] = (found, metadata.get("loratui_family", "") == family, -len(known))
    if scores:
        return max(scores, key=lambda f: scores[f])
    alike = (row.name for row in FAMILIES for start in _starts(row.name) if any(start in n for n in modules))
    return next(alike, next(row.name for row in FAMILIES if row.names is not None))


def is_transformer(name: str) -> bool:
    """Whether a module's name is of a diffusion transformer, not of a U-Net or a text encoder."""
    before = _BEFORE.match(name)
    if before is None or before[1] != "lora_unet_":
        return before is not None
    return name.removeprefix("lora_unet_").startswith(_all_starts())


def own_blocks(family: str) -> tuple[str, ...]:
    """The first words of the original's names of blocks, where they are not diffusers' too."""
    rows = _table(family)[2]
    found = {original.partition(".")[0] for _, original, _, _ in rows}
    return tuple(sorted(found - {name.partition(".")[0] for name, _, _, _ in rows}))


@cache
def _starts(family: str) -> tuple[str, ...]:
    """The first words of a transformer's names, in diffusers and in the original; none for a U-Net."""
    row = row_of(family)
    if row.names is None:
        return ()
    names = [name for found in _table(family)[2] for name in found[:2]]
    return tuple(sorted({name.partition(".")[0] for name in (*names, *row.marks)}))


@cache
def _all_starts() -> tuple[str, ...]:
    return tuple(start for row in FAMILIES for start in _starts(row.name))
