"""A loss or gradient that is no number: nothing of its step is applied; stop, leave it out, or go back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from loratui.errors import NonFiniteError
from loratui.train.resume import restore

if TYPE_CHECKING:
    from loratui.train.loop import Training

MOST_SKIPPED = 10
"""Steps left out in a row before giving up: then it is no bad picture, but a broken network."""
MOST_ROLLBACKS = 3


def is_finite(t: Training, loss: float, norm: float) -> bool:
    """Whether a step may be applied.

    With fp16 an infinite gradient is how the scaler learns that its scale is too high; it skips that step.
    """
    return math.isfinite(loss) and (math.isfinite(norm) or t.placement.accelerator.scaler is not None)


def overcome(t: Training, loss: float, norm: float, pictures: list[Any]) -> bool:
    """Do what `optimizer.on_nan` says, with a warning that names step, pictures and learning rate.

    Returns:
        Whether the step was left out; False when the training went back to a checkpoint.

    Raises:
        NonFiniteError: the run is to stop, or the way out did not help.
    """
    what = "loss" if not math.isfinite(loss) else "gradient"
    names = ", ".join(dict.fromkeys(p.rel for p in pictures))
    lr = t.optimizer.param_groups[0]["lr"]
    message = (
        f"The {what} became {loss if what == 'loss' else norm} at step {t.step + 1}"
        f" (lr {lr:g}, pictures {names})"
    )
    way = t.config.optimizer.on_nan
    t.optimizer.zero_grad(set_to_none=True)
    if way == "skip" and t.skipped < MOST_SKIPPED:
        t.skipped += 1
        t.step += 1
        t.journal.write("warning", code="skipped-step", message=f"{message}; left out.", advice="")
        return True
    if way == "rollback" and t.saved_step >= 0 and t.rollbacks < MOST_ROLLBACKS:
        snapshot, _ = t.checkpoints.newest()
        if snapshot is not None:
            restore(t.published, t.placement.accelerator.scaler, snapshot)
            t.rollbacks += 1
            t.lr_scale *= 0.5
            t.step = t.saved_step = snapshot.step
            text = f"{message}; back at step {t.step} with {t.lr_scale:g} of the learning rate."
            t.journal.write("warning", code="rolled-back", message=text, advice="")
            t.context.rewind(t.step)
            t.journal.write("state", state="running")
            return False
    kept = f"step {t.saved_step} is kept" if t.saved_step >= 0 else "nothing was saved yet"
    given_up = f" after {t.skipped} steps left out" if t.skipped else ""
    given_up = f" after {t.rollbacks} roll-backs" if t.rollbacks else given_up
    raise NonFiniteError(
        f"{message}{given_up}; {kept}.",
        "Lower optimizer.lr or raise optimizer.warmup_steps"
        + (", and train in bf16 instead of fp16" if t.config.memory.precision == "fp16" else "")
        + "; then resume or start again. optimizer.on_nan can skip such steps or roll back.",
    )
