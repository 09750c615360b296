"""FLUX.2's latents, ids of places, and what of its original layout is not in blocks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ENDS = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "time_guidance_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_guidance_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_guidance_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_guidance_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "double_stream_modulation_img.linear": "double_stream_modulation_img.lin",
    "double_stream_modulation_txt.linear": "double_stream_modulation_txt.lin",
    "single_stream_modulation.linear": "single_stream_modulation.lin",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
"""diffusers' module -> the original's."""


def norms(double: int, single: int) -> dict[str, str]:
    """The norms of queries and keys, whose weights the original calls scales."""
    found = {}
    for letter, word in (("q", "query"), ("k", "key")):
        for n in range(double):
            for ours, theirs in (("", "img"), ("added_", "txt")):
                name = f"transformer_blocks.{n}.attn.norm_{ours}{letter}"
                found[name] = f"double_blocks.{n}.{theirs}_attn.norm.{word}_norm"
        for n in range(single):
            name = f"single_transformer_blocks.{n}.attn.norm_{letter}"
            found[name] = f"single_blocks.{n}.norm.{word}_norm"
    return found


def image_ids(height: int, width: int, device: torch.device) -> Tensor:
    """(0, row, column, 0) of each token, [H / 2 * W / 2, 4]; sides in latent px."""
    rows, columns = torch.arange(height // 2, device=device), torch.arange(width // 2, device=device)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)
    return torch.nn.functional.pad(grid, (1, 1))


def text_ids(length: int, device: torch.device) -> Tensor:
    """(0, 0, 0, number) of each token, [L, 4]."""
    return torch.nn.functional.pad(torch.arange(length, device=device)[:, None], (3, 0))


def statistics(codec: Any, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation of latents, [C, H, W]: they differ by channel and by the place in a 2 x 2 patch."""
    found = []
    deviation = torch.sqrt(codec.bn.running_var + codec.config.batch_norm_eps)
    for values in (codec.bn.running_mean, deviation):
        patch_C22 = values.reshape(-1, 2, 2)
        found.append(patch_C22.repeat(1, height // 2 + 1, width // 2 + 1)[:, :height, :width])
    return found[0], found[1]
