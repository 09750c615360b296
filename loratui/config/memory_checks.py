"""Rules across `[memory]`: what cannot go together, and what a family cannot give."""

from __future__ import annotations

from loratui.config.schema import RunConfig
from loratui.errors import Problem
from loratui.families.spec import family_spec


def check_memory(config: RunConfig) -> list[Problem]:
    """Errors about the trades of speed for memory."""
    found: list[Problem] = []
    memory, spec = config.memory, family_spec(config.model.family)
    if spec is not None and memory.blocks_to_swap > spec.blocks:
        message = f"{spec.title} has {spec.blocks} blocks, so {memory.blocks_to_swap} cannot be swapped."
        advice = f"Set it to at most {spec.blocks}."
        found.append(Problem("memory.blocks_to_swap", "too-many-blocks", "error", message, advice=advice))
    return found
