"""What needs less memory than a training's settings, in the order in which to try it.

First what costs time only, then what changes a little of what is trained, last what changes much.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from loratui.config.schema import RunConfig
from loratui.plan.memory import GIB, estimate
from loratui.plan.sizes import Sizes

_EIGHT_BIT = {"adamw": "adamw8bit", "lion": "lion8bit"}
SPARE = 0.95
"""Share of the memory that may be planned for."""


@dataclass(frozen=True, slots=True)
class Smaller:
    """One step down, on top of those before it.

    Attributes:
        changes: dotted path -> value.
        total_gib: the estimated peak with it.
        fits: whether that is within what there is.
    """

    changes: dict[str, Any]
    total_gib: float
    fits: bool

    def __str__(self) -> str:
        return " with ".join(f"{path} = {_toml(value)}" for path, value in self.changes.items())


def smaller(
    config: RunConfig,
    size: Sizes,
    area_px: int,
    capacity: float,
    leave: Collection[str] = (),
    needed_gib: float = 0.0,
) -> list[Smaller]:
    """Steps down from settings that did not fit, each on top of the last, up to the first that should fit.

    Args:
        config: what ran out of memory.
        size: counts of numbers.
        area_px: area of the largest bucket in px.
        capacity: bytes of the device. The estimate is scaled so that `config` needs at least that.
        leave: dotted paths of settings that shall stay as they are.
        needed_gib: what `config` is known to need; the estimate is scaled to it. 0 when it is not known.

    Returns:
        Steps, the last one fitting; all there are when none does.
    """
    limit = capacity / GIB
    rough = estimate(config, size, area_px).total_gib
    scale = needed_gib / rough if needed_gib else max(1.0, limit / rough)
    found: list[Smaller] = []
    for changes in _changes(config, size.blocks):
        if not changes.keys().isdisjoint(leave):
            continue
        config = _with(config, changes)
        if "data.resolution" in changes:
            area_px = min(area_px, max(config.data.resolutions) ** 2)
        if not config.network.text_encoder and "network.text_encoder" in changes:
            size = replace(size, lora=int(size.lora * _UNET_SHARE))
        total = scale * estimate(config, size, area_px).total_gib
        found.append(Smaller(changes, total, total <= SPARE * limit))
        if found[-1].fits:
            break
    return found


_UNET_SHARE = 0.8
"""Of the trained numbers when text encoders are trained too; about so for SD1.5 and SDXL."""


def _changes(config: RunConfig, blocks: int) -> Iterator[dict[str, Any]]:
    memory, data = config.memory, config.data
    if not memory.gradient_checkpointing:
        yield {"memory.gradient_checkpointing": True}
    if config.optimizer.name in _EIGHT_BIT:
        yield {"optimizer.name": _EIGHT_BIT[config.optimizer.name]}
    if config.network.text_encoder:
        yield {"network.text_encoder": False}
    if data.batch_size > 1:
        accumulation = config.optimizer.accumulation * data.batch_size
        yield {"data.batch_size": 1, "optimizer.accumulation": accumulation}
    if memory.base_weights == "full":
        yield {"memory.base_weights": "fp8"}
    if memory.blocks_to_swap < blocks // 2:
        yield {"memory.blocks_to_swap": blocks // 2}
    if memory.blocks_to_swap < blocks:
        yield {"memory.blocks_to_swap": blocks}
    side = max(data.resolution, *data.also_at, 0)
    step = data.bucket_step
    while (lower := side * 3 // 4 // step * step) >= max(step, data.min_bucket):
        side = lower
        kept = tuple(other for other in data.also_at if other <= side)
        yield {"data.resolution": min(side, data.resolution)} | (
            {"data.also_at": kept} if data.also_at else {}
        )


def _with(config: RunConfig, changes: dict[str, Any]) -> RunConfig:
    for path, value in changes.items():
        section, _, name = path.partition(".")
        config = replace(config, **{section: replace(getattr(config, section), **{name: value})})
    return config


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return str(list(value))
    return str(value).lower() if isinstance(value, bool) else str(value)
