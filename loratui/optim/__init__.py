"""Optimizers: one file per group, each a torch-free dataclass of settings with a `build()`.

To add one: write the dataclass, add its row to OPTIMIZERS; menus and tests find it there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from loratui.config.schema import OptimizerConfig
from loratui.errors import ConfigError
from loratui.optim.adamw import AdamW


class OptimizerSettings(Protocol):
    """What a group's dataclass can do."""

    @classmethod
    def from_config(cls, config: OptimizerConfig) -> OptimizerSettings:
        """Take the settings that this optimizer has."""

    def build(self, groups: Iterable[Any]) -> Any:
        """Make the torch optimizer over parameter groups (imports torch)."""


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """A light row for menus.

    Attributes:
        name: the name in `optimizer.name`.
        title: for people.
        settings: the dataclass.
        notes: one line on when to take it.
    """

    name: str
    title: str
    settings: type[OptimizerSettings]
    notes: str = ""


OPTIMIZERS: tuple[OptimizerSpec, ...] = (
    OptimizerSpec("adamw", "AdamW", AdamW, "the safe choice; 8 bytes of state per trained weight"),
)


def optimizer_settings(config: OptimizerConfig) -> OptimizerSettings:
    """The settings object for `optimizer.name`.

    Raises:
        ConfigError: there is no such optimizer.
    """
    for spec in OPTIMIZERS:
        if spec.name == config.name:
            return spec.settings.from_config(config)
    known = ", ".join(spec.name for spec in OPTIMIZERS)
    raise ConfigError(
        f"There is no optimizer named {config.name!r}.", f"Set optimizer.name to one of: {known}."
    )
