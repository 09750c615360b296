"""Out of memory: telling it from other errors, and saying what would have fitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch

from loratui.config.load import load_run
from loratui.config.schema import RunConfig
from loratui.errors import LoratuiError, OutOfMemoryError
from loratui.plan.memory import GIB
from loratui.plan.sizes import sizes
from loratui.plan.smaller import Smaller, smaller
from loratui.train.samples import read_manifest

if TYPE_CHECKING:
    from loratui.train.loop import Training

_CPU_SAYS = ("DefaultCPUAllocator", "not enough memory", "Cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device or the machine has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _CPU_SAYS)


def explain(error: BaseException, context: Any, training: Training | None) -> OutOfMemoryError:
    """The error for people: where it happened, with which settings, and what needs less.

    Args:
        error: for which `is_out_of_memory` holds.
        context: of the job.
        training: None when there was not yet one.
    """
    info, config = load_run(context.run.config_path)
    config = replace(config, model=replace(config.model, family=info.family or config.model.family))
    # What was being worked on counts, not the step that the last event told of.
    where = f"at step {training.step + 1}" if training is not None else "before the first step"
    saved = training.saved_step if training is not None else -1
    kept = f"the checkpoint of step {saved} is kept" if saved >= 0 else "nothing was saved yet"
    capacity = _capacity(config)
    used = (
        f"batch {config.data.batch_size}, {config.data.resolution} px, {config.memory.precision},"
        f" {config.optimizer.name}, {capacity / GIB:.1f} GiB"
    )
    return OutOfMemoryError(
        f"The memory ran out {where} ({used}); {kept}.",
        advise(steps_down(context, config, capacity), capacity),
    )


def steps_down(context: Any, config: RunConfig, capacity: float) -> list[Smaller]:
    """`smaller` for a run; empty when its base cannot be sized."""
    info, _ = load_run(context.run.config_path)
    size = sizes(Path(info.base_path), config.model.family, config.network)
    if size is None:
        return []
    try:
        buckets = [p.bucket.size for p in read_manifest(context.run.manifest_path)]
    except LoratuiError:
        buckets = []
    area = max((w * h for w, h in buckets), default=config.data.resolution**2)
    return smaller(config, size, area, capacity)


def advise(steps: list[Smaller], capacity: float) -> str:
    """One sentence of what to set, the first first."""
    if not steps:
        return "Nothing is left to lower; train a smaller base, or on a larger device."
    listed = "; ".join(f"{n}. {step}" for n, step in enumerate(steps, 1))
    last = steps[-1]
    sizes_ = f"about {last.total_gib:.1f} of {capacity / GIB:.1f} GiB"
    if not last.fits:
        return f"All of these would need {sizes_}, still too much: {listed}."
    return f"What should fit, one on top of the other ({sizes_}): {listed}. Then start again."


def _capacity(config: RunConfig) -> float:
    """Bytes of memory where the run computes."""
    if config.memory.device != "cpu" and torch.cuda.is_available():
        _, total = torch.cuda.mem_get_info()
        return float(total)
    return float(psutil.virtual_memory().total)
