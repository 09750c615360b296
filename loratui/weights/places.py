"""Where the weights that a LoRA changes lie in a base: diffusers folders and original-layout files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loratui.errors import BaseModelError
from loratui.weights.base_layers import PREFIXES, read_layers
from loratui.weights.consumers import STRUCTURES, Structure, make_structure
from loratui.weights.header import Header, read_header
from loratui.weights.layouts import layer_names
from loratui.weights.tensors import Array, read

UNET_PREFIX = "model.diffusion_model."
_TEXT_PREFIX = {"lora_te": "cond_stage_model.", "lora_te1": "conditioner.embedders.",
                "lora_te2": "conditioner.embedders."}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """A weight in its file.

    Attributes:
        tensor: its name there.
        third: which third of a fused q, k, v matrix it is; -1 for all of it.
        rows: (first, count) of its rows in a fused matrix; None for all.
        turned: the original has its two halves (shift and scale) the other way around.
    """

    tensor: str
    third: int = -1
    rows: tuple[int, int] | None = None
    turned: bool = False


@dataclass(frozen=True, slots=True)
class BaseFiles:
    """A base's weight files.

    Attributes:
        path: folder or file.
        headers: relative path of each file of weights -> its header; "" for a single file.
        places: kohya name -> (relative path, place) for every weight that is there.
    """

    path: Path
    headers: dict[str, Header]
    places: dict[str, tuple[str, Place]]

    def weight(self, name: str) -> Array:
        """The weight of a module, fp32."""
        file, place = self.places[name]
        whole = read(self.headers[file], place.tensor)
        return turned(part_of(whole, place), place)


def part_of(whole: Array, place: Place) -> Array:
    """A view of the rows of a fused weight that a place means, or of all of it."""
    if place.rows is not None:
        return whole[place.rows[0] : place.rows[0] + place.rows[1]]
    if place.third < 0:
        return whole
    side = whole.shape[0] // 3
    return whole[place.third * side : (place.third + 1) * side]


def turned(values: Array, place: Place) -> Array:
    """Its halves as diffusers has them, and back."""
    return np.roll(values, values.shape[0] // 2, axis=0) if place.turned else values


def structure_of_base(path: Path, family: str) -> Structure:
    """The blocks of a base: from a folder's settings; single files are taken to be of the true model."""
    if not path.is_dir():
        return STRUCTURES[family]
    try:
        unet = json.loads((path / "unet" / "config.json").read_text(encoding="utf-8"))
        kinds, depth = unet["down_block_types"], unet.get("transformer_layers_per_block") or 1
        depths = [depth] * len(kinds) if isinstance(depth, int) else list(depth)
        layers = tuple(
            int(json.loads((path / t.peft / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"])
            for t in STRUCTURES[family].towers
        )
        levels = tuple(int(d) if "CrossAttn" in kind else 0 for kind, d in zip(kinds, depths, strict=True))
        return make_structure(family, levels, int(depths[-1]), int(unet["layers_per_block"]), layers)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BaseModelError(
            f"The settings in {path} cannot be read: {error}.", "Download it again."
        ) from error


def open_transformer(path: Path, family: str) -> BaseFiles:
    """Find the weights of a transformer's base, by diffusers' dotted names.

    Raises:
        BaseModelError: none are there, or its fp8 weights have scales beside them.
        WeightsError: a file cannot be read.
    """
    layers = read_layers(path, family)
    if layers is None:
        raise BaseModelError(
            f"{path} holds none of the weights that the LoRA changes.", "It is of another family."
        )
    headers: dict[str, Header] = {}
    places: dict[str, tuple[str, Place]] = {}
    if not path.is_dir():
        headers[""] = read_header(path)
        if any(n.endswith((".scale_weight", ".weight_scale")) for n in headers[""].tensors):
            raise BaseModelError(
                f"{path} holds fp8 weights with scales beside them.", "Take the bf16 file of the model."
            )
        turned = layer_names(family).turned
        last = layers.last_block + turned if turned else ""
        for original, fused in layers.names.originals.items():
            found = [
                p + original + ".weight" for p in PREFIXES if p + original + ".weight" in headers[""].tensors
            ]
            first = 0
            for name in fused if found else []:
                count = layers.shapes[name][0]
                rows = (first, count) if len(fused) > 1 else None
                places[f"transformer.{name}"] = ("", Place(found[0], -1, rows, name == last))
                first += count
        return BaseFiles(path, headers, places)
    for folder in ("transformer", "text_encoder", "text_encoder_2"):
        for file in _weight_files(path / folder):
            relative = f"{folder}/{file.name}"
            headers[relative] = read_header(file)
            for tensor in headers[relative].tensors:
                name = f"{folder}.{tensor.removesuffix('.weight')}"
                inside = folder != "transformer" or tensor.removesuffix(".weight") in layers.shapes
                if tensor.endswith(".weight") and inside:
                    places[name] = (relative, Place(tensor))
                    if folder != "transformer" and not tensor.startswith("text_model."):
                        places[name.replace(".", ".text_model.", 1)] = places.pop(name)
    return BaseFiles(path, headers, places)


def open_base(path: Path, structure: Structure) -> BaseFiles:
    """Find the weights of a base.

    Raises:
        BaseModelError: no weights of this structure are there.
        WeightsError: a file cannot be read.
    """
    if path.is_dir():
        found = _folder(path, structure)
    else:
        header = read_header(path)
        found = BaseFiles(path, {"": header}, {n: ("", p) for n, p in _original(header, structure).items()})
    if not found.places:
        raise BaseModelError(
            f"{path} holds none of the weights that the LoRA changes.", "It is of another family."
        )
    return found


def _folder(path: Path, structure: Structure) -> BaseFiles:
    headers: dict[str, Header] = {}
    places: dict[str, tuple[str, Place]] = {}
    parts = {"unet": "unet", **{tower.peft: tower.peft for tower in structure.towers}}
    for part in parts.values():
        for file in _weight_files(path / part):
            relative = f"{part}/{file.name}"
            headers[relative] = read_header(file)
            historic = any(n.startswith("text_model.") for n in headers[relative].tensors)
            for name, dotted in structure.kohya.items():
                host, module = dotted.split(".", 1)
                if host != part:
                    continue
                plain = module if host == "unet" or historic else module.removeprefix("text_model.")
                if f"{plain}.weight" in headers[relative].tensors:
                    places[name] = (relative, Place(f"{plain}.weight"))
    return BaseFiles(path, headers, places)


def _weight_files(folder: Path) -> list[Path]:
    """The plain variant of a component's weights, shards included."""
    files = sorted(folder.glob("*.safetensors"))
    plain = [f for f in files if f.name.count(".") == 1]
    return plain or files


def _original(header: Header, structure: Structure) -> dict[str, Place]:
    found: dict[str, Place] = {}
    for ours, theirs in structure.unet.items():
        _put(found, structure.names["unet." + ours], f"{UNET_PREFIX}{theirs}", header)
    for tower in structure.towers:
        for ours, theirs in tower.modules.items():
            # A1111 calls SDXL's embedders 0_transformer and 1_model; the file has a dot there.
            path = theirs.replace("_", ".", 1) if theirs[:2] in {"0_", "1_"} else theirs
            name = structure.names[f"{tower.peft}.{ours}"]
            stem = _TEXT_PREFIX[tower.kohya] + path
            if tower.openclip and ".attn." in stem and not stem.endswith("out_proj"):
                fused = f"{stem.rsplit('.', 1)[0]}.in_proj_weight"
                if fused in header.tensors:
                    found[name] = Place(fused, "qkv".index(stem.rsplit(".", 1)[1][0]))
            else:
                _put(found, name, stem, header)
    return found


def _put(found: dict[str, Place], name: str, stem: str, header: Header) -> None:
    if f"{stem}.weight" in header.tensors:
        found[name] = Place(f"{stem}.weight")
