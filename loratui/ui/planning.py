"""What the train room finds out in threads, and the messages that tell it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from textual.message import Message
from textual.notifications import SeverityLevel

from loratui.config.docs import FieldInfo
from loratui.config.load import as_dict
from loratui.config.schema import DataConfig, RunConfig
from loratui.errors import LoratuiError, Problem
from loratui.ui.drafts import written

if TYPE_CHECKING:
    from loratui.config.presets import Preset
    from loratui.dataset.scan import Scan
    from loratui.project import Project
    from loratui.project.estimating import Foreseen
    from loratui.project.start import Ready


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
    from loratui.dataset.scan import rebucket
    from loratui.project.estimating import foresee

    same = scan
    if scan is not None and config.data != seen:
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
    return f" From {low:g} to {high:g}." if high is not None else f" {low:g} or more."
