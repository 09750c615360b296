"""Write a run's samples as one PNG, or the run as one web page."""

from __future__ import annotations

from pathlib import Path

from loratui.errors import RunError
from loratui.report.facts import gather
from loratui.report.page import SIDE_PX, page
from loratui.report.pictures import Progress, contact_sheet, write_png, write_whole
from loratui.runs.directory import RunDir
from loratui.runs.sheet import sheet
from loratui.runs.status import status


def export_sheet(run: RunDir, target: Path, side: int = 256, progress: Progress | None = None) -> int:
    """All samples of a run on one PNG; returns how many there are.

    Raises:
        RunError: there are none, or the run cannot be read.
        SaveError: the file cannot be written.
    """
    state = status(run)
    found = sheet(state.samples)
    if not found.cells:
        raise RunError(f"The run {run.id} has no samples.", "`loratui sample RUN` draws some.")
    write_png(contact_sheet(run.path, found, f"{state.name or run.name}   {run.id}", side, progress), target)
    return len(found.cells)


def export_page(run: RunDir, target: Path, side: int = SIDE_PX, progress: Progress | None = None) -> int:
    """A run as one web page; returns how many samples it has.

    Raises:
        RunError: the run cannot be read.
        SaveError: the file cannot be written.
    """
    facts = gather(run)
    write_whole(target, page(facts, side, progress=progress).encode("utf-8"))
    return len(facts.sheet.cells)
