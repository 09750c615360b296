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
    if spec is not None and memory.blocks_to_swap > spec.most_blocks:
        found.append(too_many_blocks(spec.title, spec.most_blocks, memory.blocks_to_swap))
    if config.network.init == "loftq" and memory.base_weights == "full":
        message = "LoftQ begins with what quantising takes from the base, and memory.base_weights is full."
        advice = "Set memory.base_weights to nf4, int8 or fp8, or use pissa."
        found.append(
            error("network.init", "nothing-quantised", message, advice, {"memory.base_weights": "nf4"})
        )
    if config.network.init == "eva" and memory.processes > 1:
        message = "eva looks at whole batches, and several processes have parts of them."
        advice = "Use one process, or another network.init."
        found.append(error("network.init", "eva-alone", message, advice, {"network.init": "default"}))
    if memory.compile and memory.blocks_to_swap:
        message = "compiled blocks cannot be swapped."
        fix = {"memory.compile": False}
        found.append(error("memory.compile", "compile-or-swap", message, "Keep one of them.", fix))
    return [*found, *_processes(config)]


def too_many_blocks(what: str, blocks: int, asked: int) -> Problem:
    """The error that `what` has not as many blocks as are to be swapped."""
    path = "memory.blocks_to_swap"
    message = f"{what} has {blocks} blocks, so {asked} cannot be swapped."
    return error(path, "too-many-blocks", message, f"Set it to at most {blocks}.", {path: blocks})


def _processes(config: RunConfig) -> list[Problem]:
    """A batch is dealt to the processes, sample by sample."""
    found: list[Problem] = []
    count, batch = config.memory.processes, config.data.batch_size
    if batch % count:
        near = [n for n in (batch // count * count, -(-batch // count) * count) if n]
        message = f"data.batch_size {batch} cannot be dealt evenly to {count} processes."
        advice = (
            f"Set data.batch_size to {' or '.join(map(str, near))}: it counts the samples of all of them."
        )
        found.append(
            error("memory.processes", "not-divisible", message, advice, {"data.batch_size": near[-1]})
        )
    if count > 1 and config.memory.device.startswith("cuda:"):
        message = f"{config.memory.device} is one GPU, and {count} processes need one each."
        advice = "Use cuda; CUDA_VISIBLE_DEVICES chooses the GPUs."
        found.append(error("memory.device", "one-gpu", message, advice, {"memory.device": "cuda"}))
    return found


def check_compiler(config: RunConfig) -> list[Problem]:
    """Whether this machine can do what `memory.compile` asks for."""
    names = [os.environ.get("CXX", ""), "g++", "clang++"]
    if not config.memory.compile or any(shutil.which(name) for name in names if name):
        return []
    message = "torch.compile needs a C++ compiler, and neither g++ nor clang++ is on the PATH."
    advice = "Install one (`apt install g++`), or set memory.compile to false."
    return [error("memory.compile", "no-compiler", message, advice, {"memory.compile": False})]
