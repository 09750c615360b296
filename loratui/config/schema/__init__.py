"""The settings of a training run: frozen dataclasses, one section a file, a docstring under each field.

The docstrings are the help text of the form and of `loratui config schema`; they give units.
Torch-free. A resolved `RunConfig` is what run.toml holds and what the trainer obeys.

Each section's file holds its dataclass and four tables by field name: SHORT_NAMES (everyday name -> field),
RANGES (smallest and largest value, both allowed, None for no bound), POSITIVE (must be above zero) and
CHOICES (values of text fields whose list grows with a table). They are put together here by dotted path.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from loratui.config.schema import data as _data
from loratui.config.schema import memory as _memory
from loratui.config.schema import model as _model
from loratui.config.schema import network as _network
from loratui.config.schema import objective as _objective
from loratui.config.schema import optimizer as _optimizer
from loratui.config.schema import samples as _samples
from loratui.config.schema import saving as _saving
from loratui.config.schema.data import DataConfig
from loratui.config.schema.memory import MemoryConfig, Precision
from loratui.config.schema.model import ModelConfig
from loratui.config.schema.network import NetworkConfig, Target
from loratui.config.schema.objective import ObjectiveConfig
from loratui.config.schema.optimizer import OptimizerConfig, Schedule
from loratui.config.schema.samples import Sampler, SamplesConfig
from loratui.config.schema.saving import SavingConfig

__all__ = [
    "CHOICES", "POSITIVE", "RANGES", "SHORT_NAMES", "DataConfig", "MemoryConfig", "ModelConfig",
    "NetworkConfig", "ObjectiveConfig", "OptimizerConfig", "Precision", "RunConfig", "Sampler",
    "SamplesConfig", "SavingConfig", "Schedule", "Target", "choices",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """All settings of one run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    saving: SavingConfig = field(default_factory=SavingConfig)


_SECTIONS: dict[str, Any] = {
    "model": _model,
    "data": _data,
    "network": _network,
    "optimizer": _optimizer,
    "objective": _objective,
    "memory": _memory,
    "samples": _samples,
    "saving": _saving,
}

SHORT_NAMES: dict[str, str] = {
    short: f"{name}.{key}" for name, part in _SECTIONS.items() for short, key in part.SHORT_NAMES.items()
}
"""The everyday keys that `--set` also takes."""

RANGES: dict[str, tuple[float | None, float | None]] = {
    f"{name}.{key}": span for name, part in _SECTIONS.items() for key, span in part.RANGES.items()
}
"""Smallest and largest value of a number, both allowed; None for no bound."""

POSITIVE: frozenset[str] = frozenset(
    f"{name}.{key}" for name, part in _SECTIONS.items() for key in part.POSITIVE
)
"""Numbers that must be above zero."""

CHOICES: dict[str, tuple[str, ...]] = {
    f"{name}.{key}": values for name, part in _SECTIONS.items() for key, values in part.CHOICES.items()
}
"""Values of text fields whose list grows with the tables of networks and optimizers."""


def choices(annotation: Any) -> tuple[str, ...]:
    """The values a Literal field takes, empty for other types."""
    return (
        tuple(str(v) for v in get_args(annotation))
        if getattr(annotation, "__origin__", None) is Literal
        else ()
    )
