"""What the train room finds out in threads, and the messages that tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.message import Message
from textual.notifications import SeverityLevel

from loratui.config.docs import FieldInfo
from loratui.config.load import as_dict
from loratui.config.schema import DataConfig, RunConfig
from loratui.errors import LoratuiError, Problem
from loratui.plan.cards import SIZES_GIB
from loratui.plan.smaller import SPARE
from loratui.ui.drafts import written

if TYPE_CHECKING:
    from loratui.config.presets import Preset
    from loratui.config.trainers.report import Imported
    from loratui.dataset.scan import Scan
    from loratui.plan.plan import Plan
    from loratui.project import Project
    from loratui.project.estimating import Foreseen
    from loratui.project.start import Ready


_SLACK_GIB = 0.6


class PresetsRead(Message):
    """All presets there are."""

    def __init__(self, presets: list[Preset], problems: list[Problem]) -> None:
        super().__init__()
        self.presets, self.problems = presets, problems


class PlanMade(Message):
    """The settings were resolved and assessed; `number` tells which change they answer."""

    def __init__(
        self,
        number: int,
        config: RunConfig | None,
        ready: Ready | None,
        problems: tuple[Problem, ...],
        base: Any,
        seen: Foreseen | None = None,
    ) -> None:
        super().__init__()
        self.number, self.config, self.ready, self.problems, self.base = number, config, ready, problems, base
        self.seen = seen


class Foretold(Message):
    """Memory was estimated, or why not."""

    def __init__(self, number: int, seen: Foreseen | None, words: str = "") -> None:
        super().__init__()
        self.number, self.seen, self.words = number, seen, words


class Measured(Message):
    """A dry run has ended."""

    def __init__(self, words: str, advice: str, severity: SeverityLevel) -> None:
        super().__init__()
        self.words, self.advice, self.severity = words, advice, severity


class PresetKept(Message):
    """Settings are a preset now."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset


class ConfigRead(Message):
    """Another trainer's config was read."""

    def __init__(self, found: Imported) -> None:
        super().__init__()
        self.found = found


class FilesWritten(Message):
    """Settings in another trainer's words, to be written."""

    def __init__(self, folder: Path, files: Mapping[str, str], unsaid: Sequence[str]) -> None:
        super().__init__()
        self.folder, self.files, self.unsaid = folder, files, unsaid


def by_fit(presets: Sequence[Preset], family: str, card_gib: float) -> list[Preset]:
    """Presets of the family that the card has room for, then its larger ones, then those of other families.

    Args:
        presets: all there are, in the order to keep within each of these.
        family: of the base; empty when it is not known.
        card_gib: memory of the card; 0 when it is not known.
    """

    def order(preset: Preset) -> tuple[bool, bool]:
        own = of_family(preset, family)
        return not own, own and too_large(preset, card_gib)

    return sorted(presets, key=order)


def of_family(preset: Preset, family: str) -> bool:
    """Whether a preset is for bases of a family."""
    return not family or not preset.family or preset.family == family


def too_large(preset: Preset, card_gib: float) -> bool:
    """Whether a preset is made for a card with more memory; one of 24 GiB tells of a little less."""
    return bool(card_gib and preset.memory_gib > card_gib + _SLACK_GIB)


def needed_class(plan: Plan) -> float:
    """The smallest size of card in GiB that a plan should fit; 0 for one that fits anything."""
    needed = plan.memory.total_gib if plan.memory is not None else 0.0
    if needed < 1:
        return 0.0
    return float(next((gib for gib in SIZES_GIB if needed <= SPARE * gib), SIZES_GIB[-1]))


def make_plan(
    number: int,
    project: Project,
    preset: Preset | None,
    edits: Mapping[str, str],
    scan: Scan | None,
    seen: DataConfig | None,
) -> PlanMade:
    """Resolve settings and assess what they lead to.

    Args:
        number: which change of the form this answers.
        project: of the training.
        preset: under the cursor.
        edits: dotted path -> text, as `--set` takes it.
        scan: the pictures as they were read.
        seen: the data settings that those were put into buckets with.
    """
    from loratui.config.presets import resolve
    from loratui.project.start import assess

    base: dict[str, Any] = {}
    try:
        base = as_dict(resolve(preset, {}, {}))
        config = project.resolve(preset.name if preset is not None else None, edits)
    except LoratuiError as error:
        own = error.problems or (Problem("", "bad-settings", "error", error.message, advice=error.advice),)
        return PlanMade(number, None, None, own, base)
    from loratui.dataset.framing import grid_key
    from loratui.dataset.scan import rebucket
    from loratui.project.estimating import foresee

    same = scan
    if scan is not None and (seen is None or grid_key(config.data) != grid_key(seen)):
        same = rebucket(scan, config.data)
    try:
        ready = assess(project, config, scan=same)
        return PlanMade(number, config, ready, (), base, foresee(project, ready, ask=False))
    except LoratuiError as error:
        own = error.problems or (Problem("", "no-plan", "error", error.message, advice=error.advice),)
        return PlanMade(number, config, None, own, base)


def typed(config: RunConfig, edits: dict[str, str]) -> dict[str, Any]:
    """The edits with the values they were resolved to."""
    values = as_dict(config)
    return {path: values[path] for path in edits if path in values}


def short(value: Any) -> str:
    """A value as short text."""
    return f"{value:g}" if isinstance(value, float) else written(value)


def span(field: FieldInfo) -> str:
    """What values a setting takes."""
    if field.choices:
        return f" One of {', '.join(field.choices)}."
    low, high = field.minimum, field.maximum
    if low is None:
        return ""
    return f" From {_number(low)} to {_number(high)}." if high is not None else f" {_number(low)} or more."


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
