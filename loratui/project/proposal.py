"""A new project before it is made: what was answered, the preset it leads to, and the plan of its training.

Nothing is written until `make`. Pictures of an archive are unpacked beside for the plan, and go with `close`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loratui import demo
from loratui.config.presets import Preset, list_presets
from loratui.dataset.scan import SUFFIXES
from loratui.dataset.tokens import ClipTokens
from loratui.dataset.triggers import judge, propose
from loratui.errors import BaseModelError, DatasetError, LoratuiError, Problem
from loratui.families.detect import Detected, detect, locate
from loratui.plan.cards import Card
from loratui.plan.fitting import Shortage
from loratui.project.bases import offspring
from loratui.project.capacity import lacking, named
from loratui.project.importing import is_archive, names_in
from loratui.project.project import Project, SourceEntry, slug
from loratui.project.recommending import recommend
from loratui.project.start import Ready, assess, has_cuda
from loratui.runs.launch import named_python

DEMO = "demo"
BUNDLED = "bundled"
_PROMPTS: dict[str, tuple[str, ...]] = {
    "style": ("{trigger}, a house by a lake", "{trigger}, portrait of a woman"),
    "object": ("{trigger}", "{trigger} on a wooden table"),
    "clothing": ("a person wearing {trigger}", "{trigger}, studio photo"),
    "concept": ("{trigger}", "a person, {trigger}"),
}


@dataclass(frozen=True, slots=True)
class Answers:
    """What was asked.

    Attributes:
        base: `demo`, a folder, a file or a Hub id.
        pictures: `bundled`, `.` for those in the folder itself, a folder, or an archive.
        goal: one of `recommending.GOALS`.
        card: what it will run on.
        trigger: the words that stand for what is learned.
        preset: chosen by name; empty takes what is recommended.
        changes: dotted path -> value where the settings differ from the preset.
    """

    base: str = DEMO
    pictures: str = BUNDLED
    goal: str = "character"
    card: Card = field(default_factory=Card)
    trigger: str = ""
    preset: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the answers lead to.

    Attributes:
        answers: they.
        found: what the base is, None when it is not on this machine.
        project: as it would be made.
        preset: the recipe, None when there is none for the base.
        why: why this one, empty when that is plain.
        ready: the assessed training, None when there is no preset.
        short: what it lacks in memory, None when it fits.
        problems: everything to know; errors keep it from starting.
    """

    answers: Answers
    found: Detected | None
    project: Project
    preset: Preset | None = None
    why: str = ""
    ready: Ready | None = None
    short: Shortage | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> list[Problem]:
        """What keeps it from starting."""
        return [p for p in self.problems if p.severity == "error"]

    @property
    def fix(self) -> dict[str, Any]:
        """Changes that mend what keeps it from starting; with nothing of that, what it is warned of."""
        for severity in ("error", "warning"):
            fix = {k: v for p in self.problems if p.severity == severity for k, v in p.fix.items()}
            if fix:
                return fix
        return {}

    @property
    def is_demo(self) -> bool:
        """Whether it is the bundled example as it comes."""
        return self.answers.base == DEMO and self.answers.pictures in {"", BUNDLED}


def look_at_base(base: str, here: Path) -> Detected:
    """What a base is.

    Raises:
        BaseModelError: it is not on this machine; the advice gives the command that fetches it.
    """
    try:
        return detect(locate(base, here))
    except OSError as error:
        raise BaseModelError(
            f"{base} cannot be read: {error.strerror}.", "Check its owner and mode."
        ) from error


def pictures_path(pictures: str, here: Path) -> Path:
    """Where the pictures lie."""
    if pictures == BUNDLED:
        return demo.pictures_path()
    return here if pictures in {"", "."} else here / Path(pictures).expanduser()


def count_pictures(path: Path, most: int = 100_000, gone: Callable[[], bool] = lambda: False) -> int:
    """Pictures in a folder and below, or in an archive, by their names; -1 when it is neither.

    Args:
        path: a folder or an archive.
        most: so many files are looked at.
        gone: says that nobody waits any more.
    """
    if not path.is_dir():
        if not (path.is_file() and is_archive(path)):
            return -1
        return sum(_is_picture(name) for name in names_in(path) if "__MACOSX" not in name)
    count = looked = 0
    for _, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += sum(_is_picture(name) for name in files)
        looked += len(files) + 1
        if looked >= most or gone():
            break
    return count


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def propose_trigger(answers: Answers, here: Path, tokens: ClipTokens) -> str:
    """A trigger for the pictures: that of the bundled ones, else a made-up word."""
    if answers.pictures == BUNDLED:
        return demo.TRIGGER
    name = pictures_path(answers.pictures, here).resolve().name
    return propose(name, tokens, "style" if answers.goal == "style" else "")


def judge_trigger(trigger: str, tokens: ClipTokens) -> str:
    """What to know of a trigger, empty when it is as it should be."""
    judged = judge(trigger, tokens)
    if not trigger.strip():
        return "without one, what is learned is called by the captions' own words"
    if not judged.rare and trigger != demo.TRIGGER:
        known = ", ".join(judged.known)
        return f"CLIP knows each word of it ({known}): a made-up word learns with less to unlearn"
    return ""


class Proposing:
    """Makes proposals for answers; keeps the unpacked archive between two of them."""

    def __init__(self, here: Path) -> None:
        self._here = here
        self._unpacked = contextlib.ExitStack()
        self._archive: tuple[Path, Path] | None = None

    def close(self) -> None:
        """Remove what was unpacked."""
        self._archive = None
        self._unpacked.close()

    def propose(self, answers: Answers, target: Path) -> Proposal:
        """The preset, the settings and the plan that the answers lead to.

        Args:
            answers: they.
            target: the folder that the project would be made in.
        """
        found: Detected | None = None
        problems: list[Problem] = []
        try:
            found = look_at_base(answers.base, self._here)
            problems += [p for p in found.problems if p.severity == "error"]
        except LoratuiError as error:
            problems.append(Problem("base", "no-base", "error", error.message, advice=error.advice))
        try:
            source = self._source(answers)
        except LoratuiError as error:
            problems.append(Problem("pictures", "no-pictures", "error", error.message, advice=error.advice))
            source = None
        project = _project(answers, target, source, self._here)
        if found is None or not found.family:
            return Proposal(answers, found, project, problems=tuple(problems))
        preset, why = self._preset(answers, found, target)
        if preset is None:
            message = f"there is no preset for {found.family}."
            advice = "`loratui presets` lists all; put one of your own into the folder presets."
            problems.append(Problem("preset", "no-preset", "error", message, advice=advice))
            return Proposal(answers, found, project, problems=tuple(problems))
        project = replace(project, preset=preset.name)
        if source is None:
            return Proposal(answers, found, project, preset, why, problems=tuple(problems))
        return self._assessed(Proposal(answers, found, project, preset, why))

    def _assessed(self, made: Proposal) -> Proposal:
        """With plan, memory and problems."""
        card, project = made.answers.card, made.project
        try:
            config = project.resolve(overrides=made.answers.changes)
            ready = assess(project, config)
        except LoratuiError as error:
            found = error.problems or (Problem("", "no-plan", "error", error.message, advice=error.advice),)
            return replace(made, problems=tuple(found))
        problems = list(ready.problems)
        short = lacking(ready, card)
        if not card.cpu and not has_cuda():
            message = (
                f"this machine has no GPU; the plan is for {card} elsewhere, and here the CPU would train."
            )
            problems.insert(0, Problem("memory.device", "no-gpu-here", "warning", message))
        if short is not None:
            problems.insert(0, short.problem(named(card)))
        return replace(made, ready=ready, short=short, problems=tuple(problems))

    def _preset(self, answers: Answers, found: Detected, target: Path) -> tuple[Preset | None, str]:
        presets, _ = list_presets(target)
        wanted = answers.preset or (DEMO if answers.base == DEMO else "")
        chosen = next((p for p in presets if p.name == wanted), None)
        if chosen is not None:
            return chosen, "chosen by you" if answers.preset else ""
        has: Callable[[str], object] = (lambda _name: True) if named_python() else find_spec
        kind = offspring(answers.base, found)
        best = recommend(presets, found.family, answers.goal, answers.card, kind, has)
        return (best.preset, best.why) if best is not None else (None, "")

    def _source(self, answers: Answers) -> Path:
        """The folder to plan with; an archive is unpacked."""
        path = pictures_path(answers.pictures, self._here)
        if not path.exists():
            raise DatasetError(f"{path} does not exist.", "Name a folder, a zip or a tar of pictures.")
        if path.is_dir():
            return path
        if not is_archive(path):
            raise DatasetError(f"{path} is neither a folder nor a zip or tar.", "Name one of these.")
        if self._archive is None or self._archive[0] != path:
            from loratui.dataset.copying import unpacked

            self.close()
            inner, _ = self._unpacked.enter_context(unpacked(path))
            self._archive = path, inner if inner.is_dir() else inner.parent
        return self._archive[1]


def _project(answers: Answers, target: Path, source: Path | None, here: Path) -> Project:
    base = answers.base
    path = here / Path(base).expanduser()
    if base != DEMO and path.exists():
        base = str(path.resolve())
    overrides: dict[str, Any] = dict(answers.changes)
    if answers.card.cpu and has_cuda():
        overrides.setdefault("memory.device", "cpu")
    return Project(
        root=target,
        name=slug(target.name),
        base=base,
        trigger=answers.trigger,
        sources=(SourceEntry(str(source) if source is not None else "dataset"),),
        prompts=_PROMPTS.get(answers.goal, ("{trigger}", "a photo of {trigger}")) if answers.trigger else (),
        overrides=overrides,
    )


def make(proposal: Proposal, here: Path, on_progress: Callable[[int, int], None] | None = None) -> Project:
    """Make the project on disk; pictures elsewhere are copied into it.

    Raises:
        ProjectError: it cannot be made; says why.
        DatasetError: the pictures cannot be read.
    """
    answers, planned = proposal.answers, proposal.project
    if proposal.is_demo:
        from loratui.project.demo import make_demo

        project = make_demo(planned.root)
    else:
        own = answers.pictures in {"", "."} and here == planned.root
        project = Project.create(
            planned.root,
            planned.base,
            answers.trigger,
            None if own else pictures_path(answers.pictures, here),
            preset=planned.preset,
            prompts=planned.prompts,
            on_progress=on_progress,
        )
    changed: dict[str, Any] = {}
    if planned.overrides:
        changed["overrides"] = dict(planned.overrides)
    if planned.preset and planned.preset != project.preset:
        changed["preset"] = planned.preset
    if answers.trigger != project.trigger:
        changed["trigger"] = answers.trigger
    return project.update(**changed) if changed else project
