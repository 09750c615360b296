"""How diffusers, ComfyUI and A1111 look up a LoRA's keys for SD1.x, SD2.x and SDXL, from their side.

Each consumer turns the names in a file into modules of the model it has loaded. The rules below are theirs,
worked out from a model's block structure and the original layout's names; nothing here comes from our
exporter, so agreement between the two says something.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

_LEAVES = (
    *(f"attn{n}.{p}" for n in (1, 2) for p in ("to_q", "to_k", "to_v", "to_out.0")),
    "ff.net.0.proj", "ff.net.2", "norm1", "norm2", "norm3",
)  # fmt: skip
"""Modules of one block of a spatial transformer; both layouts name them alike."""
_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
CLIP_MODULES = {
    "self_attn.q_proj": "attn.q_proj", "self_attn.k_proj": "attn.k_proj", "self_attn.v_proj": "attn.v_proj",
    "self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
}  # fmt: skip
"""Linear layers of a CLIP text layer: transformers' name -> OpenCLIP's."""


@dataclass(frozen=True)
class Tower:
    """A text encoder.

    Attributes:
        kohya: its names in kohya files start so.
        peft: its names in PEFT files start so.
        original: its modules in A1111 start so.
        layers: how many it has.
        openclip: whether the original has OpenCLIP's layout.
    """

    kohya: str
    peft: str
    original: str
    layers: int
    openclip: bool

    @cached_property
    def modules(self) -> dict[str, str]:
        """transformers module -> original module."""
        found = {}
        for layer in range(self.layers):
            for ours, theirs in CLIP_MODULES.items():
                name = f"text_model.encoder.layers.{layer}.{ours}"
                plain = f"transformer.resblocks.{layer}.{theirs}" if self.openclip else name
                found[name] = f"{self.original}.{plain}"
        return found


@dataclass(frozen=True)
class Structure:
    """The blocks of a U-Net and its text encoders.

    Attributes:
        depths: for each level from the picture inwards, blocks of each spatial transformer, 0 for none.
        middle: blocks of the spatial transformer in the middle.
        layers: residual layers per level on the way down.
        towers: the text encoders.
        sgm: kohya files name U-Net modules as the original layout does (SDXL).
    """

    depths: tuple[int, ...]
    middle: int
    layers: int
    towers: tuple[Tower, ...]
    sgm: bool = False

    @cached_property
    def unet(self) -> dict[str, str]:
        """diffusers module -> original module of the U-Net."""
        return dict(self._unet())

    def _unet(self) -> Iterator[tuple[str, str]]:
        # Counted as the original code counts: one list down, the middle, one list up.
        levels = len(self.depths)
        yield "time_embedding.linear_1", "time_embed.0"
        yield "time_embedding.linear_2", "time_embed.2"
        yield "conv_in", "input_blocks.0.0"
        if self.sgm:
            yield "add_embedding.linear_1", "label_emb.0.0"
            yield "add_embedding.linear_2", "label_emb.0.2"
        number = 1
        for level, depth in enumerate(self.depths):
            for layer in range(self.layers):
                yield from _residual(f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{number}.0")
                if depth:
                    yield from _transformer(
                        f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{number}.1", depth
                    )
                number += 1
            if level != levels - 1:
                yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{number}.0.op"
                number += 1
        yield from _residual("mid_block.resnets.0", "middle_block.0")
        yield from _transformer("mid_block.attentions.0", "middle_block.1", self.middle)
        yield from _residual("mid_block.resnets.1", "middle_block.2")
        number = 0
        for level, depth in enumerate(reversed(self.depths)):
            for layer in range(self.layers + 1):
                yield from _residual(f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{number}.0")
                if depth:
                    yield from _transformer(
                        f"up_blocks.{level}.attentions.{layer}", f"output_blocks.{number}.1", depth
                    )
                if layer == self.layers and level != levels - 1:
                    slot = 2 if depth else 1
                    yield f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{number}.{slot}.conv"
                number += 1
        yield "conv_norm_out", "out.0"
        yield "conv_out", "out.2"

    @cached_property
    def kohya(self) -> dict[str, str]:
        """Name in a kohya file -> dotted module (`unet.` or a text encoder's PEFT prefix in front)."""
        return {
            "lora_unet_" + (theirs if self.sgm else ours).replace(".", "_"): "unet." + ours
            for ours, theirs in self.unet.items()
        } | self._text

    @cached_property
    def known(self) -> dict[str, str]:
        """`kohya`, with the diffusers names that readers of SDXL files take as well."""
        return {"lora_unet_" + name.replace(".", "_"): "unet." + name for name in self.unet} | self.kohya

    @cached_property
    def names(self) -> dict[str, str]:
        """Dotted module -> its name in a kohya file."""
        return {dotted: name for name, dotted in self.kohya.items()}

    @cached_property
    def _text(self) -> dict[str, str]:
        return {
            f"{tower.kohya}_" + name.replace(".", "_"): f"{tower.peft}.{name}"
            for tower in self.towers
            for name in tower.modules
        }

    def canonical(self, name: str) -> str:
        """The name that a kohya file of ours has for a module named in any form; others stay as they are."""
        dotted = self.known.get(name, "") if name.startswith("lora_") else name.replace(".processor.", ".")
        return self.names.get(dotted) or self.names.get("unet." + dotted, name)

    @cached_property
    def comfyui(self) -> frozenset[str]:
        """Names in ComfyUI's key map: underscored diffusers or original names, and PEFT names without `.to_`.

        In its diffusers form it looks for `processor.to_q`, so attention keys of PEFT files match nothing.
        """
        names = set(self.known)
        names |= {"lora_unet_" + original.replace(".", "_") for original in self.unet.values()}
        for name in self.unet:
            theirs = name.replace(".to_", ".processor.to_")
            theirs = theirs.removesuffix(".0") if theirs.endswith(".to_out.0") else theirs
            names |= {"unet." + theirs}
        for tower in self.towers:
            names |= {f"{tower.peft}.{name}" for name in tower.modules}
            if tower is self.towers[0]:
                names |= {
                    f"{prefix}_" + name.replace(".", "_")
                    for name in tower.modules
                    for prefix in ("lora_te", "lora_te1")
                }
        return frozenset(names)

    @cached_property
    def a1111(self) -> frozenset[str]:
        """Names of modules as A1111 registers them: original names with underscores."""
        unet = {"diffusion_model_" + name.replace(".", "_") for name in self.unet.values()}
        text = {name.replace(".", "_") for tower in self.towers for name in tower.modules.values()}
        return frozenset(unet | text)

    def a1111_name(self, name: str) -> str:
        """A kohya name as A1111 rewrites it before the look-up; other names stay as they are."""
        if match := re.fullmatch(r"lora_unet_down_blocks_(\d+)_(attentions|resnets)_(\d+)_(.+)", name):
            level, kind, layer, rest = int(match[1]), match[2], int(match[3]), match[4]
            number = 1 + level * (self.layers + 1) + layer
            return f"diffusion_model_input_blocks_{number}_{_slot(kind)}_{_residual_rest(kind, rest)}"
        if match := re.fullmatch(r"lora_unet_mid_block_(attentions|resnets)_(\d+)_(.+)", name):
            kind, layer, rest = match[1], int(match[2]), match[3]
            number = 1 if kind == "attentions" else layer * 2
            return f"diffusion_model_middle_block_{number}_{_residual_rest(kind, rest)}"
        if match := re.fullmatch(r"lora_unet_up_blocks_(\d+)_(attentions|resnets)_(\d+)_(.+)", name):
            level, kind, layer, rest = int(match[1]), match[2], int(match[3]), match[4]
            number = level * (self.layers + 1) + layer
            return f"diffusion_model_output_blocks_{number}_{_slot(kind)}_{_residual_rest(kind, rest)}"
        if match := re.fullmatch(r"lora_unet_down_blocks_(\d+)_downsamplers_0_conv", name):
            return f"diffusion_model_input_blocks_{(int(match[1]) + 1) * (self.layers + 1)}_0_op"
        if match := re.fullmatch(r"lora_unet_up_blocks_(\d+)_upsamplers_0_conv", name):
            level = int(match[1])
            slot = 2 if tuple(reversed(self.depths))[level] else 1
            return f"diffusion_model_output_blocks_{level * (self.layers + 1) + self.layers}_{slot}_conv"
        for tower in self.towers:
            match = re.fullmatch(tower.kohya + r"_text_model_encoder_layers_(\d+)_(.+)", name)
            if match and not tower.openclip:
                return f"{tower.original}_text_model_encoder_layers_{match[1]}_{match[2]}"
            if match:
                rest = match[2].replace("self_attn", "attn")
                rest = rest.replace("mlp_fc1", "mlp_c_fc").replace("mlp_fc2", "mlp_c_proj")
                return f"{tower.original}_transformer_resblocks_{match[1]}_{rest}"
        # Names that are the original's already, as in SDXL files, only change their prefix.
        return name.replace("lora_unet_", "diffusion_model_", 1)


def _residual(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for name, original in _RESNET.items():
        yield f"{ours}.{name}", f"{theirs}.{original}"


def _transformer(ours: str, theirs: str, depth: int) -> Iterator[tuple[str, str]]:
    for name in ("norm", "proj_in", "proj_out"):
        yield f"{ours}.{name}", f"{theirs}.{name}"
    for block in range(depth):
        for leaf in _LEAVES:
            name = f"transformer_blocks.{block}.{leaf}"
            yield f"{ours}.{name}", f"{theirs}.{name}"


def _slot(kind: str) -> int:
    return 1 if kind == "attentions" else 0


def _residual_rest(kind: str, rest: str) -> str:
    if kind == "attentions":
        return rest
    return _RESNET[rest].replace(".", "_") if rest in _RESNET else rest


def _towers(family: str, layers: tuple[int, ...]) -> tuple[Tower, ...]:
    if family == "sdxl":
        return (
            Tower("lora_te1", "text_encoder", "0_transformer", layers[0], False),
            Tower("lora_te2", "text_encoder_2", "1_model", layers[-1], True),
        )
    if family == "sd2":
        return (Tower("lora_te", "text_encoder", "model", layers[0], True),)
    return (Tower("lora_te", "text_encoder", "transformer", layers[0], False),)


STRUCTURES: dict[str, Structure] = {
    "sd15": Structure((1, 1, 1, 0), 1, 2, _towers("sd15", (12,))),
    "sd2": Structure((1, 1, 1, 0), 1, 2, _towers("sd2", (23,))),
    "sdxl": Structure((0, 2, 10), 10, 2, _towers("sdxl", (12, 32)), sgm=True),
}
"""The true models."""


def structure_text(structure: Structure) -> str:
    """The `loratui_structure` metadata of a structure."""
    layers = [tower.layers for tower in structure.towers]
    return json.dumps({
        "attention": list(structure.depths), "middle": structure.middle, "layers": structure.layers,
        "text_layers": layers if len(layers) > 1 else layers[0],
    })  # fmt: skip


def make_structure(
    family: str, depths: tuple[int, ...], middle: int, layers: int, text_layers: tuple[int, ...]
) -> Structure:
    """A structure of a family with other blocks than the true model's."""
    return Structure(depths, middle, layers, _towers(family, text_layers), family == "sdxl")


def structure_from_text(text: str, family: str) -> Structure | None:
    """A structure from the `loratui_structure` metadata of a LoRA made on a base of another size, or None."""
    try:
        entry = json.loads(text)
        depths = tuple(int(a) for a in entry["attention"])
        layers, middle = int(entry["layers"]), int(entry.get("middle", 1))
        stated = entry["text_layers"]
        text_layers = tuple(int(n) for n in stated) if isinstance(stated, list) else (int(stated),)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not 1 <= len(depths) <= 8 or not 1 <= layers <= 8 or not 1 <= len(text_layers) <= 2:
        return None
    if not all(0 <= n <= 64 for n in (*depths, middle, *text_layers)):
        return None
    return make_structure(family, depths, middle, layers, text_layers)
