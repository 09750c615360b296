"""Looking over what caption runs wrote: which captions wait for a verdict, and what a verdict does.

A verdict is a step of the project's history: a note `review` on the caption file, `{"run": ..., "verdict":
...}`. So it survives restarts, can be undone, and no run directory is written to. A caption waits while it
stands as its run wrote it and has no verdict on that run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from loratui.caption.plan import read_manifest
from loratui.caption.results import NAME, Results
from loratui.captioners.protocol import Said
from loratui.dataset.batch import encode_like
from loratui.dataset.sidecar import Caption, decode_caption, read_caption
from loratui.errors import LoratuiError
from loratui.project.history import Actor, FileChange, History, NoteChange, Outcome
from loratui.project.project import Project
from loratui.runs.directory import RunDir, list_runs

Verdict = Literal["accepted", "edited", "rejected"]
NOTE = "review"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A caption that waits for a verdict.

    Attributes:
        picture: the picture.
        rel: its name in the project.
        caption: its caption file.
        run: id of the run that wrote the caption.
        text: the caption.
        said: captioner -> what it said.
    """

    picture: Path
    rel: str
    caption: Path
    run: str
    text: str
    said: dict[str, Said] = field(default_factory=dict)

    @property
    def least_sure(self) -> float:
        """The lowest confidence among its tags that made it into the caption; 2 where none is known."""
        folded = self.text.casefold()
        sure = [
            t.confidence
            for answer in self.said.values()
            for t in answer.tags
            if t.confidence >= 0 and t.text.casefold() in folded
        ]
        return min(sure, default=2.0)


def waiting(project: Project, history: History) -> list[Waiting]:
    """Captions of all runs that wait for a verdict: newest run first, each in the order of its run."""
    history.refresh()
    verdicts = history.notes(NOTE)
    out: list[Waiting] = []
    claimed: set[Path] = set()
    for run in list_runs(project.runs_dir):
        if (run.path / NAME).is_file():
            out += _of_run(project, run, verdicts, claimed)
    return out


def _of_run(
    project: Project, run: RunDir, verdicts: dict[Path, object], claimed: set[Path]
) -> Iterable[Waiting]:
    """What waits of one run; `claimed` are captions that stand as a newer run wrote them, and grows."""
    try:
        pictures = read_manifest(run.path)
    except LoratuiError:
        return
    for index, result in sorted(Results(run.path).by_index.items()):
        if result.state != "written" or index >= len(pictures):
            continue
        picture = pictures[index].path
        if not picture.is_file() and (project.root / pictures[index].rel).is_file():
            picture = project.root / pictures[index].rel  # the project was moved
        try:
            now = read_caption(picture)
        except LoratuiError:
            continue
        if now.path in claimed or not now.exists or now.text != result.text.strip():
            continue
        claimed.add(now.path)
        verdict = verdicts.get(now.path)
        if not (isinstance(verdict, dict) and verdict.get("run") == run.id):
            yield Waiting(picture, result.rel, now.path, run.id, now.text, dict(result.said))


def text_before(history: History, item: Waiting) -> str | None:
    """The caption as it was before the run; None when there was none, or nothing is known."""
    found = _bytes_before(history, item)
    return None if not found or found[0] is None else decode_caption(found[0], item.caption).text


def _bytes_before(history: History, item: Waiting) -> tuple[bytes | None] | None:
    """Bytes of the caption file before the run, in a tuple; None when the history does not know."""
    steps = [s for s in history.of(item.caption) if s.entry.actor.get("run") == item.run]
    steps = [s for s in steps if not s.entry.undoes]
    return (steps[0].before,) if steps else None


def accept(history: History, items: Sequence[Waiting]) -> Outcome:
    """These captions are good as they are; a later run may still change them."""
    label = f"accept {len(items)} caption{'s' * (len(items) != 1)}"
    return history.commit([], Actor("hand", "review"), label, [_note(i, "accepted") for i in items])


def reject(history: History, items: Sequence[Waiting]) -> Outcome:
    """Give these pictures the captions back that they had before the run, one step of undo.

    One that changed since is a conflict of the outcome and stays.

    Raises:
        DatasetError: a file cannot be written; nothing was changed.
        LockedError: another process holds the history.
    """
    changes: list[FileChange] = []
    notes: list[NoteChange] = []
    left: list[tuple[Path, str]] = []
    for item in items:
        before = _bytes_before(history, item)
        now = read_caption(item.picture)
        if before is None:
            left.append((item.caption, "the history does not know what was there before"))
        elif now.text != item.text:
            left.append((item.caption, "was changed since"))
        else:
            changes.append(FileChange(now.path, now.raw if now.exists else None, before[0]))
            notes.append(_note(item, "rejected"))
    label = f"reject {len(changes)} caption{'s' * (len(changes) != 1)}"
    # not by hand: what was there before is as open to the next run as it was
    done = history.commit(changes, Actor("restore", "review"), label, notes, include_pinned=True)
    return Outcome(done.entry, label, done.written, (*done.left, *left), done.conflicts)


def edit(history: History, item: Waiting, text: str) -> Outcome:
    """Replace the caption by one written by hand; it is pinned from now on.

    Raises:
        DatasetError: the file cannot be written; nothing was changed.
        LockedError: another process holds the history.
    """
    old: Caption = read_caption(item.picture)
    data = encode_like(text, old) if text.strip() else None
    change = FileChange(old.path, old.raw if old.exists else None, data)
    return history.commit(
        [change], Actor("hand", "review"), f"edit {item.rel}", [_note(item, "edited")], include_pinned=True
    )


def _note(item: Waiting, verdict: Verdict) -> NoteChange:
    return NoteChange(item.caption, NOTE, {"run": item.run, "verdict": verdict})
