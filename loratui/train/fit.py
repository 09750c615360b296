"""How the denoiser is made to fit the device: what of it is there, when, and what is kept for backward."""

from __future__ import annotations

from torch import nn

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
    if config.compile:
        compile_blocks(family.blocks(denoiser))


def compile_blocks(blocks: list[nn.Module]) -> None:
    """Compile blocks one by one: those of one class and shape share the code, and the rest stays as it is."""
    import torch._dynamo

    # One function has a version for each shape of its class and bucket; beyond the limit it is not compiled.
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, 4 * len(blocks))
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, 16 * len(blocks))
    for block in blocks:
        block.compile()


def is_compiling(error: BaseException) -> bool:
    """Whether an error comes from torch.compile itself."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
