"""Names of the latent-diffusion (CompVis/Stability) single-file layout against diffusers' names.

The original code numbers U-Net blocks in one list (`input_blocks.N`), diffusers nests them by level.
Everything is worked out from the component configs, so any number of blocks will do.
"""

from __future__ import annotations

from typing import Any

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {
    "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
    "query": "q", "key": "k", "value": "v", "proj_attn": "proj_out",
}  # fmt: skip


def unet_modules(config: dict[str, Any]) -> dict[str, str]:
    """diffusers module prefix -> original module prefix, for every block of a UNet2DConditionModel config."""
    layers = config["layers_per_block"]
    down, up = config["down_block_types"], config["up_block_types"]
    levels = len(down)
    names = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }
    if config.get("addition_embed_type"):  # SDXL's sizes, crop and pooled text
        names |= {"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
    for level in range(levels):
        for layer in range(layers):
            n = 1 + level * (layers + 1) + layer
            names[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{n}.0"
            if "CrossAttn" in down[level]:
                names[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{n}.1"
        if level < levels - 1:
            names[f"down_blocks.{level}.downsamplers.0.conv"] = (
                f"input_blocks.{(level + 1) * (layers + 1)}.0.op"
            )
        for layer in range(layers + 1):
            n = level * (layers + 1) + layer
            names[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{n}.0"
            if "CrossAttn" in up[level]:
                names[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{n}.1"
        if level < levels - 1:
            slot = 2 if "CrossAttn" in up[level] else 1
            names[f"up_blocks.{level}.upsamplers.0.conv"] = (
                f"output_blocks.{level * (layers + 1) + layers}.{slot}.conv"
            )
    return names


def vae_modules(config: dict[str, Any]) -> dict[str, str]:
    """diffusers module prefix -> original module prefix, for every block of an AutoencoderKL config."""
    layers = config["layers_per_block"]
    levels = len(config["block_out_channels"])
    names = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv", "bn": "bn"}
    for side in ("encoder", "decoder"):
        names |= {
            f"{side}.conv_in": f"{side}.conv_in",
            f"{side}.conv_out": f"{side}.conv_out",
            f"{side}.conv_norm_out": f"{side}.norm_out",
            f"{side}.mid_block.resnets.0": f"{side}.mid.block_1",
            f"{side}.mid_block.resnets.1": f"{side}.mid.block_2",
            f"{side}.mid_block.attentions.0": f"{side}.mid.attn_1",
        }
    for level in range(levels):
        mirrored = levels - 1 - level  # the original counts the decoder's blocks from the picture inwards
        for layer in range(layers):
            names[f"encoder.down_blocks.{level}.resnets.{layer}"] = f"encoder.down.{level}.block.{layer}"
        for layer in range(layers + 1):
            names[f"decoder.up_blocks.{level}.resnets.{layer}"] = f"decoder.up.{mirrored}.block.{layer}"
        if level < levels - 1:
            names[f"encoder.down_blocks.{level}.downsamplers.0.conv"] = (
                f"encoder.down.{level}.downsample.conv"
            )
            names[f"decoder.up_blocks.{level}.upsamplers.0.conv"] = f"decoder.up.{mirrored}.upsample.conv"
    return names


def unet_original_name(name: str, modules: dict[str, str]) -> str:
    """Original name (without prefix) of a diffusers U-Net tensor or module name."""
    return _translate(name, modules, _RESNET)


def vae_original_name(name: str, modules: dict[str, str]) -> str:
    """Original name (without prefix) of a diffusers VAE tensor or module name."""
    inner = {**_VAE_ATTENTION, "conv_shortcut": "nin_shortcut"}
    return _translate(name, modules, inner)


def _translate(name: str, modules: dict[str, str], inner: dict[str, str]) -> str:
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        original = modules.get(".".join(parts[:cut]))
        if original is None:
            continue
        rest = ".".join(parts[cut:])
        for ours, theirs in inner.items():
            if rest == ours or rest.startswith(ours + "."):
                rest = theirs + rest[len(ours) :]
                break
        return f"{original}.{rest}" if rest else original
    raise KeyError(name)
