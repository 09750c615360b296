"""Crops, turns and alpha masks of a project's pictures: notes in its history, so each has undo and a log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from loratui.dataset import framing as frames
from loratui.dataset import masks
from loratui.dataset.framing import Frame, read_frame
from loratui.project.history import Actor, History, NoteChange, Outcome

ALPHA = "alpha"


def framing(root: Path, history: History | None = None) -> tuple[dict[Path, Frame], frozenset[Path]]:
    """Frames by picture, and the pictures whose alpha channel is their mask.

    Args:
        root: the project folder.
        history: of the project, when it is open already.
    """
    if history is None:
        if not (root / ".loratui" / "history").is_dir():
            return {}, frozenset()
        history = History(root)
    read = {path: read_frame(value) for path, value in history.notes(frames.NOTE).items()}
    alpha = frozenset(path for path, value in history.notes(masks.NOTE).items() if value == ALPHA)
    return {path: frame for path, frame in read.items() if not frame.plain}, alpha


def set_frames(
    history: History,
    chosen: Mapping[Path, Frame],
    actor: Actor | None = None,
    alpha: Mapping[Path, bool] | None = None,
    label: str = "",
) -> Outcome:
    """Keep frames of pictures as one step of the history; a plain frame forgets what was kept.

    Args:
        history: of the project.
        chosen: picture -> its frame.
        actor: who did it; the hand when left out.
        alpha: picture -> whether its alpha channel is its mask, in the same step.
        label: of the step; made of the names when empty.

    Raises:
        DatasetError: the history cannot be written.
        LockedError: another process holds it.
    """
    alpha = alpha or {}
    notes = [NoteChange(picture, frames.NOTE, frame.as_json()) for picture, frame in chosen.items()]
    notes += [NoteChange(p, masks.NOTE, ALPHA if on else None) for p, on in alpha.items()]
    names = [*dict.fromkeys((*chosen, *alpha))]
    label = label or (f"crop {names[0].name}" if len(names) == 1 else f"crop {len(names)} pictures")
    return history.commit((), actor or Actor("hand"), label, notes)


def set_alpha(history: History, pictures: Mapping[Path, bool], actor: Actor | None = None) -> Outcome:
    """Say of pictures whether their alpha channel is their mask, as one step of the history.

    Raises:
        DatasetError: the history cannot be written.
        LockedError: another process holds it.
    """
    notes = [NoteChange(p, masks.NOTE, ALPHA if on else None) for p, on in pictures.items()]
    label = f"mask of {next(iter(pictures)).name}" if len(pictures) == 1 else f"masks of {len(pictures)}"
    return history.commit((), actor or Actor("hand"), label, notes)
