"""Qwen-Image's picture codec: that of a video model, which sees a picture as a video of one frame.

Its latents have a mean and a deviation for each channel instead of one scale. Read from diffusers folders and
from files in the original's layout, which is Wan's. Shapes: T frames, here always 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import AutoencoderKLQwenImage
from torch import Tensor

from loratui.errors import BaseModelError
from loratui.families.layouts import wan
from loratui.families.loading import (
    assemble,
    check_header,
    identity,
    read_json,
    read_tensors,
    weight_files,
)
from loratui.families.protocol import Parts

PREFIXES = ("first_stage_model.", "vae.", "")


def load_vae(source: Path, packaged: dict[str, Any]) -> tuple[AutoencoderKLQwenImage, str]:
    """The codec in fp32 from a diffusers folder or an original-layout file (of a codec or a whole base).

    Args:
        source: the folder or file.
        packaged: the family's settings of the codec, for what a file does not tell.

    Returns:
        The codec and its content hash.

    Raises:
        BaseModelError: something is missing or does not fit.
    """
    if source.is_dir():
        folder = source / "vae" if (source / "vae" / "config.json").is_file() else source
        config, files = read_json(folder / "config.json"), weight_files(folder)
        _check_kind(folder, config)
        codec = assemble(
            lambda: AutoencoderKLQwenImage.from_config(config), read_tensors(files), torch.float32, "VAE"
        )
        return codec, identity(files, config)
    found = check_header(source).tensors
    prefix = next((p for p in PREFIXES if p + wan.MARK in found), None)
    if prefix is None:
        raise BaseModelError(
            f"{source} holds no VAE of Qwen-Image's kind.",
            "Name one with model.vae: a diffusers folder of the family, or the .safetensors file of the VAE.",
        )
    shapes = {n[len(prefix) :]: info.shape for n, info in found.items() if n.startswith(prefix)}
    try:
        config = wan.infer_vae(shapes, packaged)
        modules = wan.vae_modules(config)
        with torch.device("meta"):
            names = list(AutoencoderKLQwenImage.from_config(config).state_dict())
        stored = read_tensors([source], prefix)
        tensors = {name: stored[wan.vae_original_name(name, modules)] for name in names}
    except KeyError as error:
        raise BaseModelError(
            f"{source} lacks the tensor {error} of the VAE.", "The file is incomplete."
        ) from error
    codec = assemble(lambda: AutoencoderKLQwenImage.from_config(config), tensors, torch.float32, "VAE")
    return codec, identity([source], config, "vae")


def _check_kind(folder: Path, config: dict[str, Any]) -> None:
    kind = str(config.get("_class_name", "")) or "nameless"
    if kind != AutoencoderKLQwenImage.__name__:
        raise BaseModelError(
            f"{folder} holds a VAE of another kind ({kind}).",
            "Take the vae folder of a Qwen-Image model in diffusers' form.",
        )


def encode_pictures(parts: Parts, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """See `Family.encode_pictures`."""
    posterior = parts.vae.encode(pixels_BCHW[:, :, None]).latent_dist
    mean_C11, std_C11 = _statistics(parts, pixels_BCHW)
    return (posterior.mean[:, :, 0] - mean_C11) / std_C11, posterior.std[:, :, 0] / std_C11


def decode_latents(parts: Parts, latents_BCHW: Tensor) -> Tensor:
    """See `Family.decode_latents`."""
    mean_C11, std_C11 = _statistics(parts, latents_BCHW)
    latents_BCTHW = (latents_BCHW * std_C11 + mean_C11)[:, :, None]
    pixels_BCTHW: Tensor = parts.vae.decode(latents_BCTHW, return_dict=False)[0]
    return pixels_BCTHW[:, :, 0]


def _statistics(parts: Parts, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, [C, 1, 1]."""
    config = parts.vae.config
    mean_C, std_C = (torch.tensor(v).to(like) for v in (config.latents_mean, config.latents_std))
    return mean_C[:, None, None], std_C[:, None, None]
