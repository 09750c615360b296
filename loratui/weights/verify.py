"""Says what a LoRA file is and which of its keys each consumer would load; torch-free, from its header.

The names come from `consumers` (the consumers' own rules over the original layouts), the sizes from
`tables/*.tsv` (what the reference trainer writes for the true models).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from loratui.errors import Problem
from loratui.weights import layouts
from loratui.weights.consumers import STRUCTURES, Structure, structure_from_text
from loratui.weights.header import Header, read_header
from loratui.weights.networks import NetworkSpec, network_of

TABLES = Path(__file__).parent / "tables"
CONSUMERS = ("diffusers", "comfyui", "a1111")
_KOHYA = re.compile(
    r"^(lora_[^.]+)\.(lora_down\.weight|lora_up\.weight|lora_mid\.weight|alpha|dora_scale|diff.*|hada_.*|lokr_.*|oft_.*)$"
)
_PEFT = re.compile(
    r"^(.+?)\.(?:lora_(A|B)(?:\.default)?\.weight|lora\.(down|up)\.weight"
    r"|lora_(magnitude_vector)(?:\.default)?(?:\.weight)?|(oft_R)(?:\.default)?\.weight|alpha)$"
)

_CLIP = re.compile(
    r"lora_te1_text_model_encoder_layers_\d+_(self_attn_(q|k|v|out)_proj|mlp_fc[12])"
    r"|text_encoder\.text_model\.encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])"
)


@dataclass(slots=True)
class Module:
    """One updated layer: `name` as it stands in the file, shapes of its matrices, part -> tensor name."""

    name: str
    down: tuple[int, ...] = ()
    up: tuple[int, ...] = ()
    alpha: bool = False
    keys: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def parts(self) -> set[str]:
        """Which tensors it has: down, up, alpha, and what other network types add."""
        return set(self.keys)

    @property
    def rank(self) -> int:
        """Rows of lora_down, or of what other network types have in its place; 0 when there is none."""
        for part in ("hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
            if part in self.shapes:
                return self.shapes[part][0]
        return self.down[0] if self.down else 0

    @property
    def width(self) -> int:
        """Features that come in, where one tensor tells: the text conditioning's width in attn2.to_k."""
        if len(self.down) > 1:
            return self.down[1]
        if "oft_R" in self.shapes:  # blocks of side b, each with b (b - 1) / 2 angles
            blocks, angles = self.shapes["oft_R"]
            return blocks * (1 + math.isqrt(1 + 8 * angles)) // 2
        size = self.size
        return size[0] if size else 0

    @property
    def size(self) -> tuple[int, int] | None:
        """Numbers that come in, kernel included, and that go out, from the shapes; None when unclear."""
        s = self.shapes
        if self.down and self.up:
            return math.prod(self.down[1:]), self.up[0]
        if {"hada_w1_a", "hada_w1_b"} <= s.keys():
            if "hada_t1" in s:
                kernel = math.prod(s["hada_t1"][2:])
                return s["hada_w1_b"][1] * kernel, s["hada_w1_a"][1]
            return s["hada_w1_b"][1], s["hada_w1_a"][0]
        first = s.get("lokr_w1") or (_product(s, "lokr_w1_a", "lokr_w1_b"))
        second = s.get("lokr_w2") or (_product(s, "lokr_w2_a", "lokr_w2_b"))
        if first and second and "lokr_t2" in s:
            kernel = math.prod(s["lokr_t2"][2:])
            return first[1] * s["lokr_w2_b"][1] * kernel, first[0] * s["lokr_w2_a"][1]
        if first and second:
            return first[1] * math.prod(second[1:]), first[0] * second[0]
        return None


@dataclass(frozen=True, slots=True)
class Verification:
    """What a file is, and who would load how much of it.

    Attributes:
        path: the file.
        family: `sd15`, `sd2`, another known name that cannot be checked here, or empty.
        format: `kohya` or `peft`.
        rank: the rank, the largest where they differ.
        network: its type (`lora`, `dora`, ...), or empty when it is a mixture or none we know.
        matched: consumer that loads this type -> (modules matched, of).
        problems: errors (a consumer would drop something), warnings and notes.
        modules: updated layers; of an embedding, its tensors.
        vectors: of an embedding (format `embedding`), how many tokens it takes; else 0.
    """

    path: Path
    family: str
    format: str
    rank: int
    matched: dict[str, tuple[int, int]]
    problems: tuple[Problem, ...]
    modules: int
    network: str = "lora"
    vectors: int = 0

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
            "network": self.network,
            "rank": self.rank,
            "modules": self.modules,
            **({"vectors": self.vectors} if self.vectors else {}),
            "matched": {name: list(pair) for name, pair in self.matched.items()},
            "ok": self.ok,
            "problems": [p.as_dict() for p in self.problems],
        }


def _product(shapes: dict[str, tuple[int, ...]], a: str, b: str) -> tuple[int, ...] | None:
    return (shapes[a][0], *shapes[b][1:]) if a in shapes and b in shapes else None


@cache
def table(family: str) -> dict[str, tuple[tuple[int, ...], int]]:
    """kohya name -> (input side and kernel of lora_down, output side of lora_up) of a true model."""
    found = {}
    for line in (TABLES / f"{family}.tsv").read_text(encoding="utf-8").splitlines():
        name, down, up = line.split("\t")
        found[name] = (tuple(int(n) for n in down.split("x")), int(up))
    return found


def verify_file(path: Path, base: Path | None = None) -> Verification:
    """Check a LoRA file, or an embedding.

    Args:
        path: the file.
        base: a base of its family, folder or file: files of transformers are held against its layers.

    Raises:
        WeightsError: it, or a file of the base, cannot be read as a .safetensors file.
    """
    header = read_header(Path(path))
    fmt, modules, strange = modules_of(header)
    problems: list[Problem] = []

    def note(code: str, severity: Any, message: str, advice: str = "") -> None:
        problems.append(Problem(str(path), code, severity, message, advice=advice))

    if not modules:
        from loratui.weights.verify_embedding import verify_embedding

        if (embedding := verify_embedding(header)) is not None:
            return embedding
        note("not-a-lora", "error", "The file holds no LoRA keys.", "Name a LoRA file.")
        return Verification(header.path, "", "", 0, {}, tuple(problems), 0)
    family = family_of(header, modules)
    rank = max(m.rank for m in modules.values())
    if family in layouts.families():
        return _verify_transformer(header, family, fmt, modules, strange, problems, base)
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
    spec = network_of({part for m in modules.values() for part in m.parts})
    consumers = consumers_of(spec, fmt)
    if set(consumers) != set(CONSUMERS):
        note(
            "not-everywhere",
            "info",
            spec.note if spec is not None and spec.note else "Not for every program.",
        )
    matched, missed = _match(modules, fmt, structure, consumers)
    for consumer, names in missed.items():
        if names:
            note(
                "unmatched", "error",
                f"{consumer} drops {len(names)} of {len(modules)} modules, such as {names[0]}.",
                "Export it in kohya format: `loratui export FILE --format kohya`." if fmt == "peft" else "",
            )  # fmt: skip
    _check_modules(modules, fmt, structure, table(family) if true_size else {}, note)
    _check_finite(header, note)
    network = spec.name if spec is not None else ""
    return Verification(header.path, family, fmt, rank, matched, tuple(problems), len(modules), network)


def _verify_transformer(
    header: Header, family: str, fmt: str, modules: dict[str, Module], strange: list[str],
    problems: list[Problem], base: Path | None,
) -> Verification:  # fmt: skip
    """`verify_file` for the families of `layouts`: names by their tables, shapes, halves, ranks, numbers."""
    from loratui.weights.base_layers import read_layers
    from loratui.weights.layer_shapes import absent, wrong_shapes

    def note(code: str, severity: Any, message: str, advice: str = "") -> None:
        problems.append(Problem(str(header.path), code, severity, message, advice=advice))

    if strange:
        note("strange-keys", "error", f"{len(strange)} keys are not of a LoRA, such as {strange[0]}.")
    stated = header.metadata.get("loratui_structure", "")
    names = layouts.names_of(family, stated)
    layers = read_layers(base, family) if base is not None else None
    if stated and layers is None:
        message = f"Made for a model with {family}'s layout but of another size: its sizes are not known."
        note("other-size", "info", message, "`loratui verify FILE --base BASE` holds it against the base.")
    if base is not None and layers is None:
        note("other-base", "error", f"{base} holds no layers of {family}.", "Name the base it is for.")
    wrong = wrong_shapes(modules, names, layers)
    if wrong:
        message = f"{len(wrong)} modules have another shape than the model's, such as {wrong[0]}."
        note("wrong-shape", "error", message)
    gone = absent(modules, names, layers) if layers is not None else []
    if gone:
        note("no-layer", "error", f"{base} has no layer for {len(gone)} modules, such as {gone[0]}.")
    spec = network_of({part for m in modules.values() for part in m.parts})
    matched = {}
    for consumer, known in names.readers().items():
        missed = [name for name in modules if name not in known and not _CLIP.fullmatch(name)]
        matched[consumer] = (len(modules) - len(missed), len(modules))
        if missed:
            message = f"{consumer} drops {len(missed)} of {len(modules)} modules, such as {missed[0]}."
            note("unmatched", "error", message)
    scaled = [n for n, m in modules.items() if m.alpha]
    if fmt == "peft" and scaled:
        message = f"{len(scaled)} modules have an alpha, which diffusers does not take in PEFT files."
        note("peft-alpha", "warning", message, "`loratui export FILE --format peft` folds it in.")
    _check_pairs(modules, fmt, note)
    _check_finite(header, note)
    rank = max(m.rank for m in modules.values())
    network = spec.name if spec is not None else ""
    return Verification(header.path, family, fmt, rank, matched, tuple(problems), len(modules), network)


def consumers_of(spec: NetworkSpec | None, fmt: str) -> tuple[str, ...]:
    """The programs whose key tables a file is held against: those that load its type of network."""
    if spec is None or spec.name == "lora":
        return CONSUMERS
    if fmt != spec.format:
        return ("diffusers",) if spec.name == "dora" else ("peft",)
    return spec.loads


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
            theirs = match[2] or match[3] or match[4] or match[5] or "alpha"
            part = {"A": "down", "B": "up", "magnitude_vector": "dora_scale"}.get(theirs, theirs)
        elif key.startswith("bundle_emb."):  # embeddings that A1111 reads out of a LoRA file
            continue
        else:
            strange.append(key)
            continue
        module = modules.setdefault(match[1], Module(match[1]))
        module.keys[part] = key
        module.shapes[part] = info.shape
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
    if any(layouts.is_transformer(n) for n in names):
        sides = {n: (m.up[0], m.down[1]) for n, m in modules.items() if m.up and len(m.down) > 1}
        return layouts.family_by_names(list(names), header.metadata, sides)
    if any(n.startswith("lora_te2_") or "text_encoder_2" in n for n in names):
        return "sdxl"
    widths = {m.width for n, m in modules.items() if re.search(r"attn2[._]to_[kv]$", n)}
    known = {768: "sd15", 1024: "sd2", 2048: "sdxl"}
    for width in widths:
        if width in known:
            return known[width]
    version = header.metadata.get("ss_base_model_version", "")
    if version.startswith("sdxl"):
        return "sdxl"
    if header.metadata.get("ss_v2") == "True" or version.startswith("sd_v2"):
        return "sd2"
    text = {m.width for n, m in modules.items() if "self_attn" in n and m.width}
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
        (math.prod(sizes[kohya][0]), sizes[kohya][1]) == m.size
        for n, m in modules.items()
        if m.size and (kohya := structure.canonical(n)) in sizes
    ]
    # A file with a few wrong shapes is a broken one for the true model; with most wrong it is for another.
    return (not fits or 2 * sum(fits) >= len(fits)), structure


def _match(
    modules: dict[str, Module], fmt: str, structure: Structure, consumers: tuple[str, ...]
) -> tuple[dict[str, tuple[int, int]], dict[str, list[str]]]:
    """Consumer -> (matched, of), and the names each would drop."""
    missed: dict[str, list[str]] = {consumer: [] for consumer in (*CONSUMERS, "peft")}
    for name in modules:
        if structure.canonical(name) not in structure.kohya:
            missed["diffusers"].append(name)
        if name not in structure.comfyui:
            missed["comfyui"].append(name)
        if fmt != "kohya" or structure.a1111_name(name) not in structure.a1111:
            missed["a1111"].append(name)
        if fmt != "peft" or name not in structure.names:
            missed["peft"].append(name)
    missed = {consumer: missed[consumer] for consumer in consumers}
    return {c: (len(modules) - len(names), len(modules)) for c, names in missed.items()}, missed


def _check_modules(
    modules: dict[str, Module], fmt: str, structure: Structure,
    sizes: dict[str, tuple[tuple[int, ...], int]], note: Any,
) -> None:  # fmt: skip
    """Pairs, ranks, alpha, and shapes where the true sizes are known."""
    _check_pairs(modules, fmt, note)
    wrong = []
    for name, module in modules.items():
        true, own = sizes.get(structure.canonical(name)), module.size
        if true is None or own is None:
            continue
        kernel = tuple(module.down[2:]) if module.down else true[0][1:]
        pair = (math.prod(true[0]), true[1])
        # A 1x1 convolution may be stored as a matrix, so only the kernel's size may differ in form.
        if own != pair or kernel not in {true[0][1:], ()}:
            wrong.append(name)
    if wrong:
        note(
            "wrong-shape",
            "error",
            f"{len(wrong)} modules have another shape than the model's, such as {wrong[0]}.",
        )


def _check_pairs(modules: dict[str, Module], fmt: str, note: Any) -> None:
    """Both matrices, equal ranks, and an alpha in kohya files."""
    halves = [
        n
        for n, m in modules.items()
        if {"down", "up"} - m.parts and m.size is None and "oft_R" not in m.parts
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


def _check_finite(header: Header, note: Any) -> None:
    """NaN or Inf anywhere in the file."""
    if bad := non_finite(header):
        note(
            "not-finite",
            "error",
            f"{len(bad)} tensors hold NaN or Inf, such as {bad[0]}.",
            "Use an earlier checkpoint.",
        )


def non_finite(header: Header) -> list[str]:
    """Names of the tensors that hold NaN or Inf."""
    return [name for name, values in _floats(header) if not np.isfinite(values).all()]


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
