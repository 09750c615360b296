"""Whether a plan fits a card, and the changes that make it fit, before anything runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from loratui.errors import Problem
from loratui.plan.plan import Plan
from loratui.plan.smaller import SPARE, Smaller, smaller

ON_CPU = frozenset({"memory.blocks_to_swap", "optimizer.name"})
"""Steps down that spare a GPU's memory and not a machine's."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """A plan that needs more memory than there is.

    Attributes:
        needed_gib: the estimated peak.
        capacity_gib: what there is.
        steps: steps down, each on top of the last.
    """

    needed_gib: float
    capacity_gib: float
    steps: tuple[Smaller, ...]

    @property
    def fits(self) -> bool:
        """Whether all the steps together are enough."""
        return bool(self.steps) and self.steps[-1].fits

    @property
    def after_gib(self) -> float:
        """The estimated peak with all the steps."""
        return self.steps[-1].total_gib if self.steps else self.needed_gib

    @property
    def changes(self) -> dict[str, Any]:
        """Dotted path -> value of all the steps together."""
        return {path: value for step in self.steps for path, value in step.changes.items()}

    def problem(self, what: str) -> Problem:
        """The finding, for `what` as in `a card of 8 GiB`: an error, with what to change as its advice."""
        message = f"about {self.needed_gib:.1f} GiB are needed, too much for {what}."
        listed = ", ".join(str(step) for step in self.steps)
        if self.fits:
            advice = f"About {self.after_gib:.1f} GiB with {listed}."
        elif self.steps:
            advice = f"Still {self.after_gib:.1f} GiB with {listed}: take a smaller base or a larger card."
        else:
            advice = "Take a smaller base or a larger card."
        fix = self.changes if self.fits else {}
        return Problem("memory", "too-large", "error", message, advice=advice, fix=fix)


def shortage(
    plan: Plan, capacity_gib: float, leave: Collection[str] = (), needed_gib: float = 0.0
) -> Shortage | None:
    """What a plan lacks on a device of `capacity_gib`; None when it fits, or when its size is unknown.

    Args:
        plan: of the training.
        capacity_gib: memory of the device in GiB.
        leave: dotted paths of settings that shall stay as they are.
        needed_gib: a peak that is known better than from the sizes in the plan; 0 for none.
    """
    if plan.memory is None or plan.sizes is None:
        return None
    needed_gib = needed_gib or plan.memory.total_gib
    if needed_gib <= SPARE * capacity_gib:
        return None
    config = plan.config
    area = max((b.width * b.height for b in plan.buckets), default=config.data.resolution**2)
    steps = smaller(config, plan.sizes, area, capacity_gib * (1 << 30), leave, needed_gib)
    return Shortage(needed_gib, capacity_gib, tuple(steps))
