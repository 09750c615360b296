"""What a LoRA file changes, module by module, as low-rank factors or as whole matrices; numpy alone.

W' = W + D for all types but DoRA, where W' = m (W + D) / ||W + D||. D is worked out in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from loratui.errors import WeightsError
from loratui.weights import layouts
from loratui.weights.consumers import STRUCTURES, Structure
from loratui.weights.header import Header, read_header
from loratui.weights.networks import network_of
from loratui.weights.tensors import Array, read
from loratui.weights.transformers import places, read_pairs, to_kohya
from loratui.weights.verify import Module, family_of, modules_of, structure_of


@dataclass(slots=True)
class Update:
    """One module's update.

    Attributes:
        name: of the module in a kohya file.
        parts: its tensors, by the part's name.
        alpha: its alpha; NaN where the file has none.
        kernel: size of the convolution's kernel, empty for a matrix.
    """

    name: str
    parts: dict[str, Array] = field(default_factory=dict)
    alpha: float = math.nan

    @property
    def kernel(self) -> tuple[int, ...]:
        """Kernel of a convolution, from whichever part has it; empty for a matrix."""
        for part in ("down", "lora_mid", "hada_t1", "lokr_t2", "lokr_w2"):
            if part in self.parts and self.parts[part].ndim == 4:
                return tuple(self.parts[part].shape[2:])
        return ()

    @property
    def rank(self) -> int:
        """Rank of a plain LoRA, 0 for other types."""
        return self.parts["down"].shape[0] if "down" in self.parts else 0

    def factors(self) -> tuple[Array, Array] | None:
        """(up, down) in float64 with up @ down = D, the scale in up; None where D has no such factors."""
        if not {"down", "up"} <= self.parts.keys() or set(self.parts) - {"down", "up", "dora_scale"}:
            return None
        down = self.parts["down"].astype(np.float64)
        up = self.parts["up"].astype(np.float64)
        scale = (self.alpha / down.shape[0]) if math.isfinite(self.alpha) else 1.0
        return up.reshape(up.shape[0], -1) * scale, down.reshape(down.shape[0], -1)

    def delta(self) -> Array:
        """D as a matrix [out, in times kernel], float64."""
        pair = self.factors()
        if pair is not None:
            return pair[0] @ pair[1]
        parts = {n: t.astype(np.float64) for n, t in self.parts.items()}
        if "hada_w1_a" in parts:
            rank = parts["hada_w1_b"].shape[0]
            halves = [_product(parts, f"hada_w{n}", parts.get(f"hada_t{n}")) for n in (1, 2)]
            return _flat(halves[0] * halves[1]) * self._scale(rank)
        if parts.keys() & {"lokr_w1", "lokr_w1_a"}:
            return self._kronecker(parts)
        raise WeightsError(f"{self.name} holds {', '.join(sorted(parts))}, which is not understood.")

    def _kronecker(self, parts: dict[str, Array]) -> Array:
        rank = next((parts[n].shape[0] for n in ("lokr_w2_b", "lokr_w1_b") if n in parts), 0)
        small = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
        large = parts.get("lokr_w2")
        if large is None:
            large = _product(parts, "lokr_w2", parts.get("lokr_t2"))
        scale = self._scale(rank) if rank else 1.0
        # Rows are [small out, large out], columns [small in, large in, kernel].
        whole = np.einsum("ab,cd->acbd", small, _flat(large)) * scale
        found: Array = whole.reshape(small.shape[0] * large.shape[0], -1)
        return found

    def _scale(self, rank: int) -> float:
        return self.alpha / rank if math.isfinite(self.alpha) else 1.0

    def apply(self, weight: Array, share: float = 1.0) -> Array:
        """W' of a weight, with `share` of the update, in the weight's shape."""
        flat = weight.astype(np.float64).reshape(weight.shape[0], -1)
        delta = self.delta()
        if delta.shape != flat.shape:
            raise WeightsError(
                f"{self.name} is for a weight of {delta.shape[0]} x {delta.shape[1]} numbers, the base's has"
                f" {flat.shape[0]} x {flat.shape[1]}.",
                "The LoRA is for another family or size of base.",
            )
        if "dora_scale" in self.parts:
            changed = flat + delta
            magnitude = self.parts["dora_scale"].astype(np.float64)
            if magnitude.size == flat.shape[0]:
                norm = np.linalg.norm(changed, axis=1, keepdims=True)
                whole = magnitude.reshape(-1, 1) * changed / norm
            else:
                raise WeightsError(f"{self.name} has magnitudes along its input, which are not merged here.")
            delta = whole - flat
        return (flat + share * delta).reshape(weight.shape)


@dataclass(frozen=True, slots=True)
class LoraFile:
    """An opened LoRA file.

    Attributes:
        header: of the file.
        family: `sd15`, `sd2`, `sdxl`, or a family of `weights.layouts`.
        structure: of the model it is for; None for transformers.
        network: its type, or empty for a mixture.
        names: canonical name -> module of the file: kohya's, of transformers diffusers' dotted one.
        rows: of transformers, name -> (first row, rows) of its part of the module's lora_up.
        form: `kohya` or `peft`, as the file's names are.
        made: updates that stand in no file as they are: see `in_form`.
    """

    header: Header
    family: str
    structure: Structure | None
    network: str
    names: dict[str, Module]
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    form: str = "kohya"
    made: dict[str, Update] = field(default_factory=dict)

    def update(self, name: str) -> Update:
        """The update of one module."""
        if name in self.made:
            return self.made[name]
        module = self.names[name]
        parts = {p: read(self.header, key) for p, key in module.keys.items()}
        alpha = float(parts.pop("alpha")) if "alpha" in parts else math.nan
        if name in self.rows:
            first, count = self.rows[name]
            parts["up"] = parts["up"][first : first + count]
        return Update(name, parts, alpha)

    def in_form(self, form: str) -> LoraFile:
        """Of a transformer: with a file's own names and matrices, fused ones in kohya's form."""
        if self.structure is not None:
            return self
        modules = {module.name: module for module in self.names.values()}
        pairs = read_pairs(self.header, modules, self.family)
        if form == "kohya":
            pairs = to_kohya(pairs, self.family, self.header.metadata.get("loratui_structure", ""))
        made = {n: Update(n, {"down": down, "up": up}, alpha) for n, (down, up, alpha) in pairs.items()}
        return replace(self, names={n: Module(n) for n in made}, rows={}, form=form, made=made)

    def __iter__(self) -> Iterator[Update]:
        """Updates one by one."""
        return (self.update(name) for name in self.names)


def open_lora(path: Path) -> LoraFile:
    """Open a LoRA file of a family whose names are known.

    Raises:
        WeightsError: it is none, or holds keys that belong to no network type.
    """
    header = read_header(path)
    form, modules, strange = modules_of(header)
    if not modules:
        raise WeightsError(f"{path} holds no LoRA keys.", "Name a LoRA file.")
    if strange:
        raise WeightsError(f"{path} holds {strange[0]}, which is not of a LoRA.")
    family = family_of(header, modules)
    if family in layouts.families():
        return _of_transformer(header, family, form, modules)
    if family not in STRUCTURES:
        known = ", ".join([*STRUCTURES, *layouts.families()])
        raise WeightsError(
            f"{path} is a LoRA of a family that is not known here ({family or 'unknown'}).",
            f"Files of {known} can be worked on.",
        )
    structure = structure_of(header, modules, family)[1]
    spec = network_of({part for m in modules.values() for part in m.parts})
    if spec is not None and spec.name == "oft":
        raise WeightsError(f"{path} is an OFT, which only PEFT computes.")
    names = {structure.canonical(name): module for name, module in modules.items()}
    stray = next((n for n in names if n not in structure.kohya), "")
    if stray:
        raise WeightsError(f"{path} has a module without a place in the model: {stray}.")
    return LoraFile(header, family, structure, spec.name if spec else "", names)


def _of_transformer(header: Header, family: str, form: str, modules: dict[str, Module]) -> LoraFile:
    """A transformer's file: each layer of diffusers' with its rows of the matrix it is in."""
    known = layouts.names_of(family, header.metadata.get("loratui_structure", ""))
    names: dict[str, Module] = {}
    rows: dict[str, tuple[int, int]] = {}
    for name, module in modules.items():
        if not {"down", "up"} <= module.parts or module.parts - {"down", "up", "alpha"}:
            raise WeightsError(f"{header.path}: {name} is not a pair of a LoRA.", f"{family} has LoRAs only.")
        layers, first = places(name, known), 0
        if not layers:
            raise WeightsError(f"{header.path} has a module without a place in the model: {name}.")
        sizes = layouts.part_sizes(len(layers), module.up[0], module.down[1])
        for layer, count in zip(layers, sizes, strict=True):
            names[layer], rows[layer] = module, (first, count)
            first += count
    return LoraFile(header, family, None, "lora", names, rows, form)


def reduce(up: Array, down: Array, rank: int = 0, energy: float = 0.0) -> tuple[Array, Array, float]:
    """The best approximation of up @ down of lower rank: its truncated singular value decomposition.

    Two QR decompositions and the SVD of a small core give it without the whole matrix.

    Args:
        up: [out, r].
        down: [r, in].
        rank: ranks to keep; 0 for as many as `energy` asks for.
        energy: share of the squared Frobenius norm to keep, 0 to 1.

    Returns:
        (up, down, kept share), the square roots of the singular values in either.
    """
    q_up, r_up = np.linalg.qr(up)
    q_down, r_down = np.linalg.qr(down.T)
    u, s, v = np.linalg.svd(r_up @ r_down.T)
    keep, share = kept(s, rank, energy)
    root = np.sqrt(s[:keep])
    return (q_up @ u[:, :keep]) * root, (root[:, None] * v[:keep]) @ q_down.T, share


def decompose(delta: Array, rank: int = 0, energy: float = 0.0) -> tuple[Array, Array, float]:
    """The same for a whole matrix, from the eigenvectors of the smaller Gram matrix in float64."""
    wide = delta.shape[0] <= delta.shape[1]
    small = delta if wide else delta.T
    values, vectors = np.linalg.eigh(small @ small.T)
    s = np.sqrt(np.clip(values[::-1], 0.0, None))
    vectors = vectors[:, ::-1]
    keep, share = kept(s, rank, energy)
    root = np.sqrt(s[:keep])
    left = vectors[:, :keep] * root
    right = (vectors[:, :keep] / np.where(root > 0, root, 1.0)).T @ small
    return (left, right, share) if wide else (right.T, left.T, share)


def kept(s: Array, rank: int, energy: float) -> tuple[int, float]:
    """How many singular values to keep, and the share of the squared norm that they hold."""
    total = float((s**2).sum())
    if total == 0.0:
        return 1, 1.0
    shares = np.cumsum(s**2) / total
    wanted = int(np.searchsorted(shares, energy - 1e-12) + 1) if energy else len(s)
    keep = max(1, min(wanted, rank or len(s), len(s)))
    return keep, float(shares[keep - 1])


def as_lora(up: Array, down: Array, kernel: tuple[int, ...]) -> tuple[Array, Array]:
    """Factors in the shapes of a LoRA file: matrices, or a convolution and a 1x1 one."""
    if not kernel:
        return up, down
    return up.reshape(*up.shape, 1, 1), down.reshape(down.shape[0], -1, *kernel)


def _product(parts: dict[str, Array], name: str, core: Array | None) -> Array:
    a, b = parts[f"{name}_a"], parts[f"{name}_b"]
    return a @ b if core is None else np.einsum("ijkl,ip,jr->prkl", core, a, b, optimize=True)


def _flat(values: Array) -> Array:
    return values.reshape(values.shape[0], -1)
