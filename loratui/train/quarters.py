"""The loss by quarter of the timesteps: the plain curve is mostly which timesteps were drawn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from loratui.train.ranks import Ranks

EVERY = 50
"""Steps between two `quarters` events; an event of each step would say little and cost a wait."""


class Quarters:
    """Sums losses on the device; waits for it only when it tells.

    Attributes:
        total: T, the count of timesteps.
    """

    def __init__(self, total: int = 1000) -> None:
        self.total = total
        self._parts: list[tuple[Tensor, Tensor]] = []

    def add(self, t_B: Tensor, losses_B: Tensor) -> None:
        """Take the losses of a batch, weighted as they are trained on."""
        self._parts.append((t_B, losses_B))

    def tell(self, journal: Any, step: int, last: bool = False, ranks: Ranks | None = None) -> None:
        """Write the means since the last event when it is time: `loss` and `count` of each quarter."""
        if not (last or step % EVERY == 0):
            return
        ranks, parts, self._parts = ranks or Ranks(), self._parts or [(torch.empty(0),) * 2], []
        t, losses = (torch.cat(column).double().cpu() for column in zip(*parts, strict=True))
        good = losses.isfinite()  # a step that was left out
        t, losses = t[good], losses[good]
        quarter = (t * 4 / self.total).long().clamp(0, 3)
        count = ranks.sum(torch.bincount(quarter, minlength=4))
        total = ranks.sum(torch.zeros(4, dtype=torch.float64).index_add_(0, quarter, losses))
        if not count.any():
            return
        mean = total / count.clamp_min(1)
        pairs = zip(mean.tolist(), count.tolist(), strict=True)
        journal.write(
            "quarters", step=step, loss=[m if n else None for m, n in pairs], count=count.tolist(),
        )  # fmt: skip
