"""Which preset suits a base, a goal and a card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from loratui.config.presets import Preset
from loratui.families.spec import family_spec
from loratui.optim.spec import optimizer_spec
from loratui.plan.cards import Card
from loratui.project.bases import Offspring

GOALS = ("character", "style", "object", "concept", "clothing", "one image")
_NEAREST: dict[str, tuple[str, ...]] = {
    "character": ("character",),
    "style": ("style",),
    "object": ("object", "concept", "character"),
    "concept": ("concept", "object", "character"),
    "clothing": ("clothing", "object", "concept", "character"),
    "one image": ("one image", "character", "style"),
}
_PREFIXES: tuple[tuple[str, Offspring], ...] = (
    ("noobai-vpred", "noobai-vpred"),
    ("illustrious", "illustrious"),
    ("pony", "pony"),
    ("sd15-anime", "anime"),
)
_SLACK_GIB = 0.6
"""A card of 24 GiB tells of a little less."""


@dataclass(frozen=True, slots=True)
class Recommended:
    """A preset, and why it, in words that go on from its name."""

    preset: Preset
    why: str


def made_for(preset: Preset) -> Offspring:
    """The offspring that a preset is made for, empty for a family's plain base."""
    spec = family_spec(preset.family)
    own = [(f"{preset.family}-{word}", word) for word in (spec.kinds if spec is not None else ())]
    return next((kind for prefix, kind in (*_PREFIXES, *own) if preset.name.startswith(prefix)), "")


def recommend(
    presets: Sequence[Preset],
    family: str,
    goal: str,
    card: Card,
    kind: Offspring = "",
    has: Callable[[str], object] = find_spec,
) -> Recommended | None:
    """The preset that suits best; None when there is none for the family.

    What a base predicts comes first (a wrong one trains nothing), then the goal, then the offspring, then
    the largest memory class that the card has; where all are larger, the smallest.

    Args:
        presets: all there are.
        family: of the base.
        goal: one of `GOALS`.
        card: what it will run on.
        kind: the offspring.
        has: whether a module is installed.
    """
    near = _NEAREST.get(goal, (goal,))
    fitting = [
        p for p in presets
        if p.family in {family, ""} and p.goal in near and made_for(p) in {"", kind}
    ]  # fmt: skip
    if not fitting:
        return None

    def order(preset: Preset) -> tuple[object, ...]:
        other = made_for(preset) != kind
        spec = optimizer_spec(str(preset.values.get("optimizer.name", "adamw")))
        missing = spec is not None and bool(spec.package) and not has(spec.module)
        plain = preset.values.get("network.kind", "lora") == "lora" and "prodigy" not in preset.name
        large = preset.memory_gib > card.gib + _SLACK_GIB
        return (
            kind == "noobai-vpred" and other,
            near.index(preset.goal),
            missing,
            other,
            large,
            not plain,
            preset.memory_gib if large else -preset.memory_gib,
            len(preset.name),
            preset.name,
        )

    best = min(fitting, key=order)
    return Recommended(best, _why(best, goal, card, kind))


def _why(preset: Preset, goal: str, card: Card, kind: Offspring) -> str:
    words = []
    if preset.goal != goal:
        words.append(f"the nearest there is for {goal}")
    if kind and made_for(preset) == kind:
        words.append(
            "made for this offspring" if kind != "noobai-vpred" else "for a base that predicts velocity"
        )
    if preset.memory_gib and preset.memory_gib > card.gib + _SLACK_GIB:
        words.append(f"made for {preset.memory_gib:.0f} G")
    return ", ".join(words)
