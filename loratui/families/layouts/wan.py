"""Names of Wan's codec, which picture models took too, in its original code, against diffusers' names.

The original numbers residual blocks and samplers of the encoder in one list and those of the decoder in
another; diffusers nests the decoder's by level. Everything is worked out from the config, so any number of
levels and blocks will do.
"""

from __future__ import annotations

from typing import Any

MARK = "decoder.middle.0.residual.0.gamma"
"""A tensor that files in the original layout hold."""

_BLOCK = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}


def vae_modules(config: dict[str, Any]) -> dict[str, str]:
    """diffusers module prefix -> original module prefix, for every block of an AutoencoderKLQwenImage."""
    levels, blocks = len(config["dim_mult"]), config["num_res_blocks"]
    names = {"quant_conv": "conv1", "post_quant_conv": "conv2"}
    for side in ("encoder", "decoder"):
        names |= {
            f"{side}.conv_in": f"{side}.conv1",
            f"{side}.norm_out": f"{side}.head.0",
            f"{side}.conv_out": f"{side}.head.2",
            f"{side}.mid_block.resnets.0": f"{side}.middle.0",
            f"{side}.mid_block.attentions.0": f"{side}.middle.1",
            f"{side}.mid_block.resnets.1": f"{side}.middle.2",
        }
    for n in range(levels * (blocks + 1) - 1):
        names[f"encoder.down_blocks.{n}"] = f"encoder.downsamples.{n}"
    for level in range(levels):
        first = level * (blocks + 2)
        for n in range(blocks + 1):
            names[f"decoder.up_blocks.{level}.resnets.{n}"] = f"decoder.upsamples.{first + n}"
        names[f"decoder.up_blocks.{level}.upsamplers.0"] = f"decoder.upsamples.{first + blocks + 1}"
    return names


def vae_original_name(name: str, modules: dict[str, str]) -> str:
    """Original name (without prefix) of a diffusers tensor of the codec.

    Raises:
        KeyError: it is in none of the modules.
    """
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        start = modules.get(".".join(parts[:cut]))
        if start is not None:
            rest = parts[cut:]
            return ".".join([start, _BLOCK.get(rest[0], rest[0]), *rest[1:]])
    raise KeyError(name)


def infer_vae(shapes: dict[str, tuple[int, ...]], config: dict[str, Any]) -> dict[str, Any]:
    """Settings of the codec from the shapes in a file in the original layout (prefix removed).

    Args:
        shapes: by the original's names.
        config: of the true codec; its means and deviations of the latents are in no file.
    """
    base = shapes["encoder.conv1.weight"][0]
    start = "encoder.downsamples."
    samplers = sorted(
        int(n.split(".")[2]) for n in shapes if n.startswith(start) and n.endswith("resample.1.weight")
    )
    last = max(int(n.split(".")[2]) for n in shapes if n.startswith(start))
    widths = [shapes[f"{start}{n}.residual.6.weight"][0] for n in (*(s - 1 for s in samplers), last)]
    return config | {
        "base_dim": base,
        "z_dim": shapes["conv2.weight"][0],
        "dim_mult": [width // base for width in widths],
        "num_res_blocks": samplers[0] if samplers else last + 1,
        "temperal_downsample": [f"{start}{n}.time_conv.weight" in shapes for n in samplers],
    }
