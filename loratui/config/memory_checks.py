"""Rules across `[memory]`: what cannot go together, and what a family cannot give."""

from __future__ import annotations

import os
import shutil

from loratui.config.finding import error
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
        found.append(
            error("memory.blocks_to_swap", "too-many-blocks", message, advice,
                  {"memory.blocks_to_swap": spec.blocks})
        )  # fmt: skip
    if memory.compile and memory.blocks_to_swap:
        message = "compiled blocks cannot be swapped."
        fix = {"memory.compile": False}
        found.append(error("memory.compile", "compile-or-swap", message, "Keep one of them.", fix))
    return found


def check_compiler(config: RunConfig) -> list[Problem]:
    """Whether this machine can do what `memory.compile` asks for."""
    names = [os.environ.get("CXX", ""), "g++", "clang++"]
    if not config.memory.compile or any(shutil.which(name) for name in names if name):
        return []
    message = "torch.compile needs a C++ compiler, and neither g++ nor clang++ is on the PATH."
    advice = "Install one (`apt install g++`), or set memory.compile to false."
    return [error("memory.compile", "no-compiler", message, advice, {"memory.compile": False})]
