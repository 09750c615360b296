"""Optimizers: one file per group, each a torch-free dataclass of settings with a `build()`.

To add one: write the dataclass, add its row to `spec.OPTIMIZERS`; menus and tests find it there.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from loratui.optim.spec import OPTIMIZERS, OptimizerSpec, optimizer_spec

if TYPE_CHECKING:
    from loratui.config.schema import OptimizerConfig

__all__ = ["OPTIMIZERS", "OptimizerSettings", "OptimizerSpec", "optimizer_settings", "optimizer_spec"]


class OptimizerSettings(Protocol):
    """What a group's dataclass can do."""

    @classmethod
    def from_config(cls, config: OptimizerConfig) -> OptimizerSettings:
        """Take the settings that this optimizer has."""

    def build(self, groups: Iterable[Any]) -> Any:
        """Make the torch optimizer over parameter groups (imports torch).

        Raises:
            ConfigError: it does not take these settings.
            ModuleNotFoundError: its package is not installed.
        """


def optimizer_settings(config: OptimizerConfig) -> OptimizerSettings:
    """The settings object for `optimizer.name`.

    Raises:
        ConfigError: there is no such optimizer.
    """
    from loratui.errors import ConfigError

    spec = optimizer_spec(config.name)
    if spec is None:
        known = ", ".join(s.name for s in OPTIMIZERS)
        raise ConfigError(
            f"There is no optimizer named {config.name!r}.", f"Set optimizer.name to one of: {known}."
        )
    module, _, name = spec.settings.partition(":")
    kind: type[OptimizerSettings] = getattr(importlib.import_module(module), name)
    return kind.from_config(config)
