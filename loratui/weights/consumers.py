"""How diffusers, ComfyUI and A1111 look up a LoRA's keys for SD1.x and SD2.x, written from their side.

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
    "norm", "proj_in", "proj_out",
    *(f"transformer_blocks.0.attn{n}.{p}" for n in (1, 2) for p in ("to_q", "to_k", "to_v", "to_out.0")),
    "transformer_blocks.0.ff.net.0.proj", "transformer_blocks.0.ff.net.2",
    "transformer_blocks.0.norm1", "transformer_blocks.0.norm2", "transformer_blocks.0.norm3",
)  # fmt: skip
"""Modules of one spatial transformer; both layouts name them alike."""
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
class Structure:
    """The blocks of a U-Net and its text encoder.

    Attributes:
        attention: for each level from the picture inwards, whether it has spatial transformers.
        layers: residual layers per level on the way down.
        text_layers: layers of the text encoder.
        openclip: whether the text encoder has OpenCLIP's layout (SD2.x).
    """

    attention: tuple[bool, ...]
    layers: int
    text_layers: int
    openclip: bool

    @cached_property
    def unet(self) -> dict[str, str]:
        """diffusers module -> original module of the U-Net."""
        return dict(self._unet())

    def _unet(self) -> Iterator[tuple[str, str]]:
        # Counted as the original code counts: one list down, the middle, one list up.
        levels = len(self.attention)
        yield "time_embedding.linear_1", "time_embed.0"
        yield "time_embedding.linear_2", "time_embed.2"
        yield "conv_in", "input_blocks.0.0"
        number = 1
        for level, attends in enumerate(self.attention):
            for layer in range(self.layers):
                yield from _residual(f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{number}.0")
                if attends:
                    yield from _transformer(
                        f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{number}.1"
                    )
                number += 1
            if level != levels - 1:
                yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{number}.0.op"
                number += 1
        yield from _residual("mid_block.resnets.0", "middle_block.0")
        yield from _transformer("mid_block.attentions.0", "middle_block.1")
        yield from _residual("mid_block.resnets.1", "middle_block.2")
        number = 0
        for level, attends in enumerate(reversed(self.attention)):
            for layer in range(self.layers + 1):
                yield from _residual(f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{number}.0")
                if attends:
                    yield from _transformer(
                        f"up_blocks.{level}.attentions.{layer}", f"output_blocks.{number}.1"
                    )
                if layer == self.layers and level != levels - 1:
                    slot = 2 if attends else 1
                    yield f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{number}.{slot}.conv"
                number += 1
        yield "conv_norm_out", "out.0"
        yield "conv_out", "out.2"

    @cached_property
    def text(self) -> dict[str, str]:
        """transformers module -> original module of the text encoder (below its prefix)."""
        found = {}
        for layer in range(self.text_layers):
            for ours, theirs in CLIP_MODULES.items():
                name = f"text_model.encoder.layers.{layer}.{ours}"
                found[name] = (
                    f"model.transformer.resblocks.{layer}.{theirs}"
                    if self.openclip
                    else f"transformer.{name}"
                )
        return found

    @cached_property
    def kohya(self) -> dict[str, str]:
        """Name in a kohya file -> dotted module (`unet.` or `text_encoder.` in front)."""
        unet = {"lora_unet_" + name.replace(".", "_"): "unet." + name for name in self.unet}
        text = {"lora_te_" + name.replace(".", "_"): "text_encoder." + name for name in self.text}
        return unet | text

    @cached_property
    def comfyui(self) -> frozenset[str]:
        """Names in ComfyUI's key map: underscored diffusers or original names, and PEFT names without `.to_`.

        In its diffusers form it looks for `processor.to_q`, so attention keys of PEFT files match nothing.
        """
        names = set(self.kohya)
        names |= {"lora_te1_" + name.replace(".", "_") for name in self.text}
        names |= {"lora_unet_" + original.replace(".", "_") for original in self.unet.values()}
        for name in self.unet:
            theirs = name.replace(".to_", ".processor.to_")
            theirs = theirs.removesuffix(".0") if theirs.endswith(".to_out.0") else theirs
            names |= {"unet." + theirs}
        return frozenset(names | {"text_encoder." + name for name in self.text})

    @cached_property
    def a1111(self) -> frozenset[str]:
        """Names of modules as A1111 registers them: original names with underscores."""
        unet = {"diffusion_model_" + name.replace(".", "_") for name in self.unet.values()}
        return frozenset(unet | {name.replace(".", "_") for name in self.text.values()})

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
            slot = 2 if tuple(reversed(self.attention))[level] else 1
            return f"diffusion_model_output_blocks_{level * (self.layers + 1) + self.layers}_{slot}_conv"
        if match := re.fullmatch(r"lora_te_text_model_encoder_layers_(\d+)_(.+)", name):
            if not self.openclip:
                return f"transformer_text_model_encoder_layers_{match[1]}_{match[2]}"
            rest = (
                match[2]
                .replace("mlp_fc1", "mlp_c_fc")
                .replace("mlp_fc2", "mlp_c_proj")
                .replace("self_attn", "attn")
            )
            return f"model_transformer_resblocks_{match[1]}_{rest}"
        return name


def _residual(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for name, original in _RESNET.items():
        yield f"{ours}.{name}", f"{theirs}.{original}"


def _transformer(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for leaf in _LEAVES:
        yield f"{ours}.{leaf}", f"{theirs}.{leaf}"


def _slot(kind: str) -> int:
    return 1 if kind == "attentions" else 0


def _residual_rest(kind: str, rest: str) -> str:
    if kind == "attentions":
        return rest
    return _RESNET[rest].replace(".", "_") if rest in _RESNET else rest


STRUCTURES: dict[str, Structure] = {
    "sd15": Structure((True, True, True, False), 2, 12, False),
    "sd2": Structure((True, True, True, False), 2, 23, True),
}
"""The true models."""


def structure_from_text(text: str, family: str) -> Structure | None:
    """A structure from the `loratui_structure` metadata of a LoRA made on a base of another size, or None."""
    try:
        entry = json.loads(text)
        attention = tuple(bool(a) for a in entry["attention"])
        layers, text_layers = int(entry["layers"]), int(entry["text_layers"])
    except (ValueError, KeyError, TypeError):
        return None
    if not 1 <= len(attention) <= 8 or not 1 <= layers <= 8 or not 0 <= text_layers <= 64:
        return None
    return Structure(attention, layers, text_layers, STRUCTURES[family].openclip)
