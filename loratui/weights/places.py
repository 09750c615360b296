"""Where the weights that a LoRA changes lie in a base: diffusers folders and original-layout files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from loratui.errors import BaseModelError
from loratui.weights.consumers import STRUCTURES, Structure, make_structure
from loratui.weights.header import Header, read_header
from loratui.weights.tensors import Array, read

UNET_PREFIX = "model.diffusion_model."
_TEXT_PREFIX = {"lora_te": "cond_stage_model.", "lora_te1": "conditioner.embedders.",
                "lora_te2": "conditioner.embedders."}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """A weight: its name in its file, and which third of a fused q, k, v matrix it is (-1: all of it)."""

    tensor: str
    third: int = -1


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
        return third_of(whole, place.third)


def third_of(whole: Array, third: int) -> Array:
    """A view of the q, k or v third of a fused weight, or of all of it."""
    if third < 0:
        return whole
    side = whole.shape[0] // 3
    return whole[third * side : (third + 1) * side]


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
