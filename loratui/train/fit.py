"""How the denoiser is made to fit the device: what of it is there, when, and what is kept for backward."""

from __future__ import annotations

from loratui.config.schema import MemoryConfig
from loratui.errors import ConfigError
from loratui.families.protocol import Family, Parts
from loratui.train.device import Placement
from loratui.train.swap import Swap, spread


def fit(family: Family, parts: Parts, config: MemoryConfig, placement: Placement) -> None:
    """Put the denoiser, with its network in it, on the device in the way of the settings.

    Raises:
        ConfigError: it has fewer blocks than are to be swapped.
    """
    denoiser = parts.denoiser
    if config.blocks_to_swap:
        blocks = family.blocks(denoiser)
        if config.blocks_to_swap > len(blocks):
            raise ConfigError(
                f"memory.blocks_to_swap = {config.blocks_to_swap}, and this base has {len(blocks)} blocks.",
                f"Set it to at most {len(blocks)}.",
            )
        Swap(spread(blocks, config.blocks_to_swap), placement.device)
    denoiser.to(placement.device)
    if config.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    if config.attention == "sliced":
        denoiser.set_attention_slice("auto")
