"""What a network type answers; the adapter asks nothing else of it.

A type is one module with a `NETWORK` object. To add one: write the module, add a row to
`weights.networks.NETWORKS`; tests/contract/test_network_contract.py then runs on it by itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from loratui.config.schema import NetworkConfig
from loratui.errors import ConfigError
from loratui.weights.networks import network_spec

NAME = "default"
"""What peft calls the one adapter there is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is injected into one host.

    Attributes:
        ranks: module -> rank, in the host's order.
        alphas: module -> alpha.
        config: the settings.
    """

    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    config: NetworkConfig


class Network(Protocol):
    """One network type. `layer` is always a module that peft has put in."""

    def settings(self, plan: Plan, target_modules: str, rank_pattern: dict[str, int],
                 alpha_pattern: dict[str, float]) -> Any:  # fmt: skip
        """peft's config object for one host."""

    def initialise(self, layer: BaseTunerLayer, config: NetworkConfig, random: torch.Generator) -> None:
        """Give a layer its first values from `random` alone, such that it changes nothing yet."""

    def parts(self, layer: BaseTunerLayer) -> dict[str, nn.Parameter]:
        """Part of the name in files (`lora_down.weight`) -> trained parameter, in a fixed order."""

    def stored(self, part: str, tensor: Tensor) -> Tensor:
        """A parameter in the shape that files have it in."""

    def alpha(self, layer: BaseTunerLayer) -> float | None:
        """The alpha by which readers of the file get this layer's scale; None where files have none."""

    def is_fast(self, part: str) -> bool:
        """Whether LoRA+ gives a part its higher rate."""

    def dropping(self, layer: BaseTunerLayer) -> list[nn.Module]:
        """The modules whose train mode turns the dropouts on; nothing of the base may be among them."""

    def shrink(self, layer: BaseTunerLayer, limit: float) -> Tensor | None:
        """Scale the update's parts so that its norm is at most `limit`; None where that has no meaning.

        Returns:
            The norm before.
        """


def load_network(kind: str) -> Network:
    """Import the network type of that name.

    Raises:
        ConfigError: there is none.
    """
    spec = network_spec(kind)
    if spec is None:
        raise ConfigError(f"There is no network named {kind!r}.", "`loratui networks` lists them.")
    network: Network = importlib.import_module(spec.module).NETWORK
    return network


def draw_uniform(parameter: nn.Parameter, fan_in: int, random: torch.Generator) -> None:
    """Kaiming uniform with a = sqrt(5): uniform within 1 / sqrt(fan_in), drawn in fp32 on the CPU."""
    bound = 1.0 / fan_in**0.5
    draw = (torch.rand(parameter.shape, generator=random) * 2.0 - 1.0).mul_(bound)
    parameter.data = draw.to(parameter.device)


def zero(parameter: nn.Parameter) -> None:
    """Zeros in fp32."""
    parameter.data = torch.zeros_like(parameter, dtype=torch.float32)


def shrink_parts(parts: list[nn.Parameter], norm: Tensor, limit: float) -> None:
    """Multiply each factor so that the norm of their product falls to `limit`, if it is above: max-norm
    regularisation as sd-scripts does it, the same share for each factor.
    """
    ratio = (limit / norm.clamp_min(limit / 2.0)).clamp_max(1.0)
    with torch.no_grad():
        for part in parts:
            part.mul_(ratio ** (1.0 / len(parts)))
