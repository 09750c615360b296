"""FLUX.1's latents as tokens, and what of its original layout is not in blocks; Chroma shares both."""

from __future__ import annotations

import torch
from torch import Tensor

ENDS = {
    "context_embedder": "txt_in",
    "x_embedder": "img_in",
    "proj_out": "final_layer.linear",
}
"""diffusers' module -> the original's."""
TIMES = {
    f"time_text_embed.{ours}.linear_{n}": f"{theirs}.{layer}"
    for ours, theirs in (
        ("timestep_embedder", "time_in"), ("text_embedder", "vector_in"), ("guidance_embedder", "guidance_in")
    )
    for n, layer in ((1, "in_layer"), (2, "out_layer"))
} | {"norm_out.linear": "final_layer.adaLN_modulation.1"}  # fmt: skip
"""What FLUX.1 has besides."""


def norms(double: int, single: int) -> dict[str, str]:
    """The norms of queries and keys, whose weights the original calls scales."""
    found = {}
    for n in range(double):
        for ours, theirs in (("", "img"), ("added_", "txt")):
            for letter, word in (("q", "query"), ("k", "key")):
                name = f"transformer_blocks.{n}.attn.norm_{ours}{letter}"
                found[name] = f"double_blocks.{n}.{theirs}_attn.norm.{word}_norm"
    for n in range(single):
        for letter, word in (("q", "query"), ("k", "key")):
            found[f"single_transformer_blocks.{n}.attn.norm_{letter}"] = f"single_blocks.{n}.norm.{word}_norm"
    return found


def pack(latents_BCHW: Tensor) -> Tensor:
    """Patches of 2 x 2 as tokens: [B, H / 2 * W / 2, 4 C]."""
    B, C, H, W = latents_BCHW.shape
    patches = latents_BCHW.reshape(B, C, H // 2, 2, W // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(B, H // 2 * (W // 2), 4 * C)


def unpack(tokens_BLD: Tensor, height: int, width: int) -> Tensor:
    """Tokens as latents [B, C, H, W]; sides in latent px."""
    B, _, D = tokens_BLD.shape
    patches = tokens_BLD.reshape(B, height // 2, width // 2, D // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(B, D // 4, height, width)


def image_ids(height: int, width: int, device: torch.device) -> Tensor:
    """(0, row, column) of each token, [H / 2 * W / 2, 3]; sides in latent px."""
    rows, columns = torch.arange(height // 2, device=device), torch.arange(width // 2, device=device)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)
    return torch.nn.functional.pad(grid, (1, 0)).float()


def text_ids(length: int, device: torch.device) -> Tensor:
    """Text has no place: zeros [L, 3]."""
    return torch.zeros(length, 3, device=device)
