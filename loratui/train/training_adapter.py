"""A LoRA that lies under the base while it is trained, and never in what is drawn: `model.adapter`.

A base distilled to few steps forgets its distillation when it is trained. A training adapter undoes the
distillation first, so that a network on top learns the pictures alone; left out, the base draws in its few
steps again, with the network. It is not added into the weights, where bf16 would not let it be taken out bit
by bit and quantised weights would not take it in: y = W x + (alpha / rank) B A x, as W' = W + (alpha / rank)
B A would have it. Autograd keeps nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from loratui.errors import ConfigError, LoratuiError
from loratui.families.protocol import Parts
from loratui.weights import layouts
from loratui.weights.header import fingerprint, read_header
from loratui.weights.transformers import read_pairs
from loratui.weights.verify import modules_of

_KEY = "training_adapter"


class _Branch:
    """The update of one layer, beside it."""

    def __init__(self, switch: TrainingAdapter, down: Tensor, up: Tensor) -> None:
        self.switch, self.down, self.up = switch, down, up

    def __call__(self, layer: nn.Module, given: tuple[Any, ...], answer: Tensor) -> Tensor | None:
        """Add the update to what a layer answers."""
        if not self.switch.on:
            return None
        x = given[0]
        if self.down.device != x.device:
            self.down, self.up = self.down.to(x.device), self.up.to(x.device)
        down, up = self.down, self.up
        if not torch.is_autocast_enabled(x.device.type):
            down, up = down.to(x.dtype), up.to(x.dtype)
        more = nn.functional.linear(nn.functional.linear(x, down), up)
        return answer + more.to(answer.dtype)


class TrainingAdapter:
    """The adapter under a base.

    Attributes:
        on: whether it takes part.
        hash: of its file.
        layers: how many it changes.
    """

    def __init__(self, denoiser: nn.Module, family: str, source: Path) -> None:
        """Put it beside the layers of a denoiser that no network is in yet.

        Args:
            denoiser: of the base.
            family: its name.
            source: a LoRA file of the family, in any form that is known.

        Raises:
            ConfigError: the file cannot be read, or does not fit the base.
        """
        if family not in layouts.families():
            raise ConfigError("model.adapter is for diffusion transformers.", "Leave it empty.")
        try:
            header = read_header(source)
            _, modules, strange = modules_of(header)
            if strange or not modules:
                what = f"holds {strange[0]}, which is not of a LoRA" if strange else "holds no LoRA"
                raise ConfigError(f"{source} {what}.", "Name the file of a training adapter.")
            pairs = read_pairs(header, modules, family)
            self.hash = fingerprint(source)
        except LoratuiError as error:
            raise ConfigError(f"model.adapter: {error.message}", error.advice) from error
        self.on, self.layers = True, len(pairs)
        layers = dict(denoiser.named_modules())
        dtype = next(denoiser.parameters()).dtype
        for name, (down, up, alpha) in pairs.items():
            layer: Any = layers.get(name.removeprefix("transformer."))
            # A quantised layer tells its shape without making its weight.
            shape = () if layer is None else getattr(layer, "shape", None) or layer.weight.shape
            if tuple(shape) != (up.shape[0], down.shape[1]):
                raise ConfigError(
                    f"model.adapter: {source} does not fit the base at {name}.",
                    "It is the adapter of another model.",
                )
            scaled = torch.from_numpy(up * (alpha / down.shape[0])).to(dtype)
            layer.register_forward_hook(_Branch(self, torch.from_numpy(down.copy()).to(dtype), scaled))


def put_under(parts: Parts, family: str, source: Path) -> None:
    """Put a training adapter under a loaded base, quantised or not; see `TrainingAdapter`."""
    parts.extras[_KEY] = TrainingAdapter(parts.denoiser, family, source)


@contextmanager
def taken_out(parts: Parts) -> Iterator[None]:
    """Leave the training adapter out while the block lasts; nothing where there is none."""
    adapter: TrainingAdapter | None = parts.extras.get(_KEY)
    if adapter is None:
        yield
        return
    adapter.on = False
    try:
        yield
    finally:
        adapter.on = True


def base_print(parts: Parts) -> str:
    """What a checkpoint remembers of the base, and of the adapter under it."""
    adapter: TrainingAdapter | None = parts.extras.get(_KEY)
    return parts.base_hash[:16] + (f"+{adapter.hash[:16]}" if adapter is not None else "")
