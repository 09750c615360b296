"""The samples of a run as a table: a row a prompt, a column a checkpoint (or what else was varied)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from loratui.runs.state import Sample

Column = tuple[int, str]
"""Step, and a label where something else than the step was varied."""
Line = tuple[int, str, int]
"""Place of the prompt in its round, prompt, seed: what one row has in common."""
BASE = "base"
"""Label of pictures drawn without any LoRA."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Samples in rows and columns; a cell may be empty, as prompts may change during a run.

    Attributes:
        columns: by step, then as they came.
        lines: by place in the round, then as they came.
        cells: (column, line) -> the newest sample there.
    """

    columns: tuple[Column, ...] = ()
    lines: tuple[Line, ...] = ()
    cells: dict[tuple[Column, Line], Sample] = field(default_factory=dict)

    def at(self, column: int, line: int) -> Sample | None:
        """The sample at a place of the table; None where there is none."""
        if not (0 <= column < len(self.columns) and 0 <= line < len(self.lines)):
            return None
        return self.cells.get((self.columns[column], self.lines[line]))

    @property
    def base(self) -> int | None:
        """The column without a LoRA; None where none was drawn."""
        return next((i for i, (step, label) in enumerate(self.columns) if step == 0 or label == BASE), None)


def sheet(samples: Iterable[Sample]) -> Sheet:
    """Arrange samples."""
    columns: dict[Column, None] = {}
    lines: dict[Line, None] = {}
    cells: dict[tuple[Column, Line], Sample] = {}
    for sample in samples:
        if ".." in Path(sample.path).parts or Path(sample.path).is_absolute():
            continue  # no job of ours writes that
        column, line = (sample.step, sample.label), (sample.index, sample.prompt, sample.seed)
        columns[column], lines[line] = None, None
        cells[column, line] = sample
    by_step = sorted(columns, key=lambda column: column[0])  # stable: of one step as they came
    by_place = sorted(lines, key=lambda line: line[0])
    return Sheet(tuple(by_step), tuple(by_place), cells)


def title(column: Column) -> str:
    """How a column is headed: `base`, `1,250`, or its label."""
    step, label = column
    if label:
        return label
    return BASE if step == 0 else f"{step:,}"


def long_title(column: Column) -> str:
    """The same beside a single picture."""
    step, label = column
    if label:
        return label
    return "base, before training" if step == 0 else f"step {step:,}"
