"""Any optimizer class of `pytorch-optimizer`, by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loratui.errors import ConfigError
from loratui.optim.options import make, parse

if TYPE_CHECKING:
    from loratui.config.schema import OptimizerConfig


@dataclass(frozen=True, slots=True)
class Other:
    """The class's own defaults, but for lr, weight_decay and the options."""

    name: str
    lr: float = 1e-4
    weight_decay: float = 0.01
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: OptimizerConfig) -> Other:
        """Take the settings that it has."""
        return cls(config.other, config.lr, config.weight_decay, parse(config.options))

    def build(self, groups: Iterable[Any]) -> Any:
        """Make the optimizer.

        Raises:
            ConfigError: there is no such class, or it needs more than the gradients of a step.
        """
        from pytorch_optimizer import get_supported_optimizers, load_optimizer

        known = get_supported_optimizers()
        plain = self.name.lower().replace("_", "").replace("-", "")
        if plain not in known:
            near = difflib.get_close_matches(plain, known, 3, 0.5)
            hint = f"Did you mean {', '.join(near)}?" if near else f"There are: {', '.join(known)}."
            raise ConfigError(f"pytorch-optimizer has no class named {self.name!r}.", hint)
        kind = load_optimizer(plain)
        closure = inspect.signature(kind.step).parameters.get("closure")
        if plain in {"adahessian", "sophiah", "lbfgs"} or (closure and closure.default is closure.empty):
            raise ConfigError(
                f"{self.name} needs more than the gradients of one backward pass.", "Take another optimizer."
            )
        takes = inspect.signature(kind).parameters
        decay = {"weight_decay": self.weight_decay} if "weight_decay" in takes else {}
        return make(kind, groups, self.options, lr=self.lr, **decay)
