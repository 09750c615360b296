"""What a report says of a run: read from its directory and from the project's marks, nothing from torch."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loratui.errors import LoratuiError
from loratui.project import favourites
from loratui.runs import curve_cache
from loratui.runs.curves import Curves
from loratui.runs.directory import RunDir
from loratui.runs.sheet import Sheet, sheet
from loratui.runs.state import RunState
from loratui.runs.status import status

_MOST_TAGS = 40
_MOST_CAPTIONS = 12


@dataclass(slots=True)
class DatasetFacts:
    """The data of a run in numbers.

    Attributes:
        pictures: how many there are; one at several resolutions counts once.
        captioned: how many have a caption of their own words.
        held: kept back for validation.
        regularisation: pictures of the class in general.
        buckets: `832x1216` -> pictures there, the fullest first.
        tags: part of a caption between commas -> captions with it, the most frequent first.
        captions: (picture, caption) of the first few.
    """

    pictures: int = 0
    captioned: int = 0
    held: int = 0
    regularisation: int = 0
    buckets: list[tuple[str, int]] = field(default_factory=list)
    tags: list[tuple[str, int]] = field(default_factory=list)
    captions: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class RunFacts:
    """Everything a report is made of.

    Attributes:
        run: the run directory.
        state: as it is now.
        curves: its points.
        sheet: its samples.
        settings: text of run.toml, the home folder shortened.
        dataset: its data; empty when there is no manifest.
        marks: sample path -> favourite and note.
    """

    run: RunDir
    state: RunState
    curves: Curves
    sheet: Sheet
    settings: str
    dataset: DatasetFacts
    marks: dict[str, favourites.Mark]


def gather(run: RunDir) -> RunFacts:
    """Read a run for a report.

    Raises:
        RunError: there is no such run, or it cannot be read.
    """
    state = status(run)
    found = favourites.marks(run.path.parent.parent)
    head = f"{run.id}/"
    marks = {name.removeprefix(head): mark for name, mark in found.items() if name.startswith(head)}
    return RunFacts(
        run, state, all_curves(run), sheet(state.samples), settings_text(run), dataset_facts(run), marks
    )


def all_curves(run: RunDir) -> Curves:
    """The curves of a run, from their cache where there is one."""
    curves, offset = curve_cache.load(run) or (Curves(), 0)
    with contextlib.suppress(OSError):
        curve_cache.read(run, curves, offset)
    return curves


def settings_text(run: RunDir) -> str:
    """run.toml as it stands; a report goes to others, so the home folder in it becomes `~`."""
    try:
        text = run.config_path.read_text("utf-8", "replace")
    except OSError:
        return ""
    return shortened(text)


def shortened(text: str) -> str:
    """A text without the path of the home folder."""
    try:
        home = str(Path.home())
    except RuntimeError:
        return text
    return re.sub(re.escape(home) + r"(?=[/\"'\s]|$)", "~", text) if len(home) > 1 else text


def dataset_facts(run: RunDir) -> DatasetFacts:
    """Numbers from manifest.jsonl; a missing or damaged one gives zeros."""
    try:
        lines = run.manifest_path.read_text("utf-8", "surrogateescape").splitlines()
        rows = [row for row in (json.loads(line) for line in lines if line.strip()) if isinstance(row, dict)]
    except (OSError, ValueError, LoratuiError):
        return DatasetFacts()
    found = DatasetFacts()
    buckets: Counter[str] = Counter()
    tags: Counter[str] = Counter()
    seen: set[str] = set()
    for row in rows:
        bucket = row.get("bucket")
        if isinstance(bucket, list) and len(bucket) == 2:
            buckets["x".join(str(n) for n in bucket)] += 1
        name = str(row.get("rel") or row.get("path") or "")
        if name in seen:
            continue
        seen.add(name)
        _count(found, name, row, tags)
    found.pictures = len(seen)
    found.buckets, found.tags = buckets.most_common(), tags.most_common(_MOST_TAGS)
    return found


def _count(found: DatasetFacts, name: str, row: dict[str, Any], tags: Counter[str]) -> None:
    if row.get("reg") is True:
        found.regularisation += 1
        return
    found.held += row.get("held") is True
    caption = str(row.get("caption") or "")
    found.captioned += bool(caption.strip())
    tags.update({part.strip() for part in caption.split(",") if part.strip()})
    if len(found.captions) < _MOST_CAPTIONS:
        found.captions.append((name, caption))
