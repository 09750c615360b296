"""The weights that people get, where they differ from the ones that are trained: averages over the steps.

Two ways lead there: an exponential moving average (EMA) kept beside any optimizer, and schedule-free
optimizers, which train y and publish x (Defazio et al. 2024, eq. 4). Samples, checkpoints' LoRA files and the
export hold the published weights; a checkpoint then holds the trained ones too, so that a resume is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from loratui.errors import RunError
from loratui.train.adapter import Adapter


class Published:
    """Switches an adapter between trained and published weights.

    Attributes:
        decay: of the EMA, 0 for none.
        averages: whether the two kinds differ.
    """

    def __init__(self, adapter: Adapter, optimizer: Any, decay: float = 0.0) -> None:
        """Start the average at the adapter's weights."""
        self.adapter, self.optimizer, self.decay = adapter, optimizer, decay
        # Schedule-free optimizers alone have these two methods.
        self._switches = callable(getattr(optimizer, "eval", None)) and callable(
            getattr(optimizer, "train", None)
        )
        self.averages = self._switches or decay > 0
        self._ema = [p.detach().clone() for p in adapter.parameters()] if decay > 0 else []
        if self._switches:
            optimizer.train()

    def update(self, step: int) -> None:
        """Take a step's weights into the EMA.

        Args:
            step: optimizer steps done; the decay rises with it as (1 + step) / (10 + step), so that an early
                average is not one of the random start.
        """
        if self._ema:
            decay = min(self.decay, (1 + step) / (10 + step))
            now = [p.detach() for p in self.adapter.parameters()]
            torch._foreach_lerp_(self._ema, now, 1.0 - decay)

    @contextmanager
    def weights(self) -> Iterator[None]:
        """The published weights in the adapter, for as long as the block lasts."""
        if not self.averages:
            yield
            return
        parameters = self.adapter.parameters()
        trained = [p.detach().clone() for p in parameters]
        try:
            if self._switches:
                self.optimizer.eval()
            else:
                self._put(self._ema)
            yield
        finally:
            if self._switches:
                self.optimizer.train()
            self._put(trained)  # there and back again would lose the last bits

    def _put(self, tensors: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, tensor in zip(self.adapter.parameters(), tensors, strict=True):
                parameter.copy_(tensor)

    def everything(self) -> Iterator[Tensor]:
        """All tensors that change from step to step: weights, averages, the optimizer's state."""
        yield from self.adapter.parameters()
        yield from self._ema
        for _, entries in sorted(self.optimizer.state_dict()["state"].items()):
            # by name: a state that was read from a file has no order
            yield from (entries[name] for name in sorted(entries) if isinstance(entries[name], Tensor))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(published, trained) tensors for a checkpoint; no trained ones where they are the same."""
        trained = self.adapter.tensors() if self.averages else {}
        with self.weights():
            return self.adapter.tensors(), trained

    def load(self, published: dict[str, Tensor], trained: dict[str, Tensor]) -> None:
        """Take both kinds back from `state()`.

        Raises:
            KeyError, ValueError: tensors are missing, left over or of another shape.
            RunError: the checkpoint has no trained weights and needs them, or has them and should not.
        """
        if self.averages != bool(trained):
            raise RunError(
                "The checkpoint's averaged weights do not fit the settings.",
                "The settings of the run were changed.",
            )
        if self._ema:
            self.adapter.load(published)
            self._ema = [p.detach().clone() for p in self.adapter.parameters()]
        self.adapter.load(trained or published)
