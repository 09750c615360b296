"""Whether a training fits the memory of the device it would run on, asked before it starts."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from loratui.config.schema import RunConfig
from loratui.errors import Problem
from loratui.optim.spec import optimizer_spec
from loratui.plan import cards
from loratui.plan.cards import Card
from loratui.plan.fitting import ON_CPU, Shortage, shortage
from loratui.runs.launch import named_python

if TYPE_CHECKING:
    from loratui.project.estimating import Foreseen
    from loratui.project.project import Project
    from loratui.project.start import Ready


def device_card(config: RunConfig) -> Card:
    """What these settings run on here: the largest GPU that jobs may see, else the CPU; without memory when a
    GPU is asked for and none can be asked how much it has.
    """
    here = [] if config.memory.device == "cpu" else cards.cards()
    if not here and config.memory.device.startswith("cuda"):
        return Card()
    return here[0] if here else cards.processor()


def left_alone(card: Card) -> frozenset[str]:
    """Settings that no repair may touch: those that spare nothing on a CPU, and what is not installed."""
    leave = set(ON_CPU) if card.cpu else set()
    if not _has_optimizer("adamw8bit"):
        leave.add("optimizer.name")
    return frozenset(leave)


def lacking(ready: Ready, card: Card, seen: Foreseen | None = None) -> Shortage | None:
    """What a training lacks on a card; None when it fits, or when nothing is known.

    Args:
        ready: the assessed training.
        card: what it would run on.
        seen: what was measured or estimated for these settings; the plan's own sizes serve without it.
    """
    if not card.gib:
        return None
    needed = seen.peak_gib if seen is not None else 0.0
    return shortage(ready.plan, card.gib, left_alone(card), needed)


def too_small(project: Project, ready: Ready) -> list[Problem]:
    """The finding that the device here is too small, with the changes that mend it; empty when it fits."""
    from loratui.project.estimating import foresee

    card = device_card(ready.config)
    lacks = lacking(ready, card, foresee(project, ready, ask=False))
    if lacks is None:
        return []
    found = lacks.problem(named(card))
    advice = f"{found.advice} `loratui plan {project.root} --fix` prints what to --set." if found.fix else ""
    return [replace(found, advice=advice or found.advice)]


def named(card: Card) -> str:
    """The card in the words of a finding."""
    return f"{card.gib:.0f} GiB of main memory" if card.cpu else f"a card of {card.gib:.0f} GiB"


def _has_optimizer(name: str) -> bool:
    spec = optimizer_spec(name)
    return bool(spec and (not spec.package or named_python() or find_spec(spec.module)))
