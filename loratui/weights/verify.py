"""Says what a LoRA file is and which of its keys each consumer would load; torch-free, from its header.

The names come from `consumers` (the consumers' own rules over the original layouts), the sizes from
`tables/*.tsv` (what the reference trainer writes for the true models).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from loratui.errors import Problem
from loratui.weights.consumers import STRUCTURES, Structure, structure_from_text
from loratui.weights.header import Header, read_header

TABLES = Path(__file__).parent / "tables"
CONSUMERS = ("diffusers", "comfyui", "a1111")
_KOHYA = re.compile(
    r"^(lora_[^.]+)\.(lora_down\.weight|lora_up\.weight|lora_mid\.weight|alpha|dora_scale|diff.*|hada_.*|lokr_.*|oft_.*)$"
)
_PEFT = re.compile(
    r"^(.+?)\.(?:lora_(A|B)(?:\.default)?\.weight|lora\.(down|up)\.weight|lora_(magnitude_vector)(?:\.weight)?|alpha)$"
)


@dataclass(slots=True)
class Module:
    """One updated layer: `name` as it stands in the file, shapes of its matrices, part -> tensor name."""

    name: str
    down: tuple[int, ...] = ()
    up: tuple[int, ...] = ()
    alpha: bool = False
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> set[str]:
        """Which tensors it has: down, up, alpha, and what other network types add."""
        return set(self.keys)

    @property
    def rank(self) -> int:
        """Rows of lora_down, 0 when it is missing."""
        return self.down[0] if self.down else 0


@dataclass(frozen=True, slots=True)
class Verification:
    """What a file is, and who would load how much of it.

    Attributes:
        path: the file.
        family: `sd15`, `sd2`, another known name that cannot be checked here, or empty.
        format: `kohya` or `peft`.
        rank: the rank, the largest where they differ.
        matched: consumer -> (modules matched, of).
        problems: errors (a consumer would drop something), warnings and notes.
        modules: updated layers.
    """

    path: Path
    family: str
    format: str
    rank: int
    matched: dict[str, tuple[int, int]]
    problems: tuple[Problem, ...]
    modules: int

    @property
    def ok(self) -> bool:
        """Whether every consumer matches every module and no error was found."""
        complete = bool(self.matched) and all(n == of for n, of in self.matched.values())
        return complete and not any(p.severity == "error" for p in self.problems)

    def as_json(self) -> dict[str, Any]:
        """The object of `loratui verify --json`."""
        return {
            "path": str(self.path),
            "family": self.family,
            "format": self.format,
            "rank": self.rank,
            "modules": self.modules,
            "matched": {name: list(pair) for name, pair in self.matched.items()},
            "ok": self.ok,
            "problems": [p.as_dict() for p in self.problems],
        }


@cache
def table(family: str) -> dict[str, tuple[tuple[int, ...], int]]:
    """kohya name -> (input side and kernel of lora_down, output side of lora_up) of a true model."""
    found = {}
    for line in (TABLES / f"{family}.tsv").read_text(encoding="utf-8").splitlines():
        name, down, up = line.split("\t")
        found[name] = (tuple(int(n) for n in down.split("x")), int(up))
    return found


def verify_file(path: Path) -> Verification:
    """Check a LoRA file.

    Raises:
        WeightsError: it cannot be read as a .safetensors file.
    """
    header = read_header(Path(path))
    fmt, modules, strange = modules_of(header)
    problems: list[Problem] = []

    def note(code: str, severity: Any, message: str, advice: str = "") -> None:
        problems.append(Problem(str(path), code, severity, message, advice=advice))

    if not modules:
        note("not-a-lora", "error", "The file holds no LoRA keys.", "Name a LoRA file.")
        return Verification(header.path, "", "", 0, {}, tuple(problems), 0)
    family = family_of(header, modules)
    rank = max(m.rank for m in modules.values())
    if family not in STRUCTURES:
        name = family or "unknown"
        note("unchecked-family", "warning", f"Files of this family ({name}) cannot be checked yet.")
        return Verification(header.path, family, fmt, rank, {}, tuple(problems), len(modules))
    if strange:
        note("strange-keys", "error", f"{len(strange)} keys are not of a LoRA, such as {strange[0]}.")
    true_size, structure = structure_of(header, modules, family)
    if not true_size:
        note(
            "other-size",
            "info",
            f"Made for a model with {family}'s layout but of another size: names are checked, not sizes.",
        )
    matched, missed = _match(modules, fmt, structure)
    for consumer, names in missed.items():
        if names:
            note(
                "unmatched", "error",
                f"{consumer} drops {len(names)} of {len(modules)} modules, such as {names[0]}.",
                "Export it in kohya format: `loratui export FILE --format kohya`." if fmt == "peft" else "",
            )  # fmt: skip
    _check_modules(modules, fmt, structure, table(family) if true_size else {}, note)
    _check_finite(header, note)
    return Verification(header.path, family, fmt, rank, matched, tuple(problems), len(modules))


def modules_of(header: Header) -> tuple[str, dict[str, Module], list[str]]:
    """Format, modules by name, and keys of neither form."""
    modules: dict[str, Module] = {}
    strange: list[str] = []
    kohya = 0
    for key, info in header.tensors.items():
        if match := _KOHYA.match(key):
            kohya += 1
            part = {"lora_down.weight": "down", "lora_up.weight": "up"}.get(match[2], match[2])
        elif match := _PEFT.match(key):
            part = {"A": "down", "B": "up", "down": "down", "up": "up", "magnitude_vector": "dora_scale"}.get(
                match[2] or match[3] or match[4] or "", "alpha"
            )
        else:
            strange.append(key)
            continue
        module = modules.setdefault(match[1], Module(match[1]))
        module.keys[part] = key
        if part == "down":
            module.down = info.shape
        elif part == "up":
            module.up = info.shape
        elif part == "alpha":
            module.alpha = True
    return ("kohya" if kohya else "peft"), modules, strange


def family_of(header: Header, modules: dict[str, Module]) -> str:
    """The family, from widths of the text conditioning first, then from names and metadata."""
    names = modules.keys()
    if any("double_blocks" in n or "single_blocks" in n or "single_transformer_blocks" in n for n in names):
        return "flux"
    if any(n.startswith("lora_te2_") or "text_encoder_2" in n for n in names):
        return "sdxl"
    widths = {m.down[1] for n, m in modules.items() if re.search(r"attn2[._]to_[kv]$", n) and len(m.down) > 1}
    known = {768: "sd15", 1024: "sd2", 2048: "sdxl"}
    for width in widths:
        if width in known:
            return known[width]
    version = header.metadata.get("ss_base_model_version", "")
    if version.startswith("sdxl"):
        return "sdxl"
    if header.metadata.get("ss_v2") == "True" or version.startswith("sd_v2"):
        return "sd2"
    text = {m.down[1] for n, m in modules.items() if "self_attn" in n and len(m.down) > 1}
    if text == {1024}:
        return "sd2"
    if any(re.search(r"(down|up|mid)_blocks?[._]", n) or n.startswith("lora_te_") for n in names):
        return "sd15"
    return ""


def structure_of(header: Header, modules: dict[str, Module], family: str) -> tuple[bool, Structure]:
    """Whether the file is for the true model, and the blocks to look its names up in."""
    stated = structure_from_text(header.metadata.get("loratui_structure", ""), family)
    if stated is not None and stated != STRUCTURES[family]:
        return False, stated
    structure, sizes = STRUCTURES[family], table(family)
    fits = [
        sizes[kohya][0][0] == m.down[1]
        for n, m in modules.items()
        if len(m.down) > 1 and (kohya := structure.canonical(n)) in sizes
    ]
    # A file with a few wrong shapes is a broken one for the true model; with most wrong it is for another.
    return (not fits or 2 * sum(fits) >= len(fits)), structure


def _match(
    modules: dict[str, Module], fmt: str, structure: Structure
) -> tuple[dict[str, tuple[int, int]], dict[str, list[str]]]:
    """Consumer -> (matched, of), and the names each would drop."""
    missed: dict[str, list[str]] = {consumer: [] for consumer in CONSUMERS}
    for name in modules:
        if structure.canonical(name) not in structure.kohya:
            missed["diffusers"].append(name)
        if name not in structure.comfyui:
            missed["comfyui"].append(name)
        if fmt != "kohya" or structure.a1111_name(name) not in structure.a1111:
            missed["a1111"].append(name)
    return {c: (len(modules) - len(names), len(modules)) for c, names in missed.items()}, missed


def _check_modules(
    modules: dict[str, Module], fmt: str, structure: Structure,
    sizes: dict[str, tuple[tuple[int, ...], int]], note: Any,
) -> None:  # fmt: skip
    """Pairs, ranks, alpha, and shapes where the true sizes are known."""
    halves = [
        n
        for n, m in modules.items()
        if {"down", "up"} - m.parts and not any(p[:4] in {"hada", "lokr"} for p in m.parts)
    ]
    if halves:
        note("incomplete", "error", f"{len(halves)} modules lack one of their matrices, such as {halves[0]}.")
    uneven = [n for n, m in modules.items() if m.down and m.up and m.down[0] != m.up[1]]
    if uneven:
        note("uneven", "error", f"The matrices of {len(uneven)} modules differ in rank, such as {uneven[0]}.")
    if fmt == "kohya":
        bare = [n for n, m in modules.items() if not m.alpha]
        if bare:
            note(
                "no-alpha",
                "warning",
                f"{len(bare)} modules have no alpha: ComfyUI and A1111 then use a scale of 1.",
            )
    wrong = []
    for name, module in modules.items():
        size = sizes.get(structure.canonical(name))
        if size is not None and module.down and module.up:
            kernel = size[0][1:]
            if (
                module.down[1] != size[0][0]
                or module.up[0] != size[1]
                or tuple(module.down[2:]) not in {kernel, ()}
            ):
                wrong.append(name)
    if wrong:
        note(
            "wrong-shape",
            "error",
            f"{len(wrong)} modules have another shape than the model's, such as {wrong[0]}.",
        )


def _check_finite(header: Header, note: Any) -> None:
    """NaN or Inf anywhere in the file."""
    bad = [name for name, values in _floats(header) if not np.isfinite(values).all()]
    if bad:
        note(
            "not-finite",
            "error",
            f"{len(bad)} tensors hold NaN or Inf, such as {bad[0]}.",
            "Use an earlier checkpoint.",
        )


def _floats(header: Header) -> Any:
    kinds = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
    with header.path.open("rb") as file:
        for name, info in header.tensors.items():
            file.seek(info.start)
            raw = file.read(info.end - info.start)
            if info.dtype in kinds:
                yield name, np.frombuffer(raw, kinds[info.dtype])
            elif info.dtype == "BF16":  # the upper half of an fp32 number
                yield name, (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
