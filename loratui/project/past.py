"""What is done with the runs of a project afterwards: compare, measure, prune, put away, bring back."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratui.errors import RunError
from loratui.runs.directory import RunDir
from loratui.runs.launch import run_document
from loratui.runs.lock import RunLock
from loratui.runs.state import ENDED
from loratui.runs.status import status

KEPT_STATES = 2
"""A run that may be resumed keeps the states of this many checkpoints: the newest may be damaged."""
_OF_EACH_RUN = {"run.id", "run.created", "run.name", "run.version"}
_PARTS = ("checkpoints", "samples", "export")


@dataclass(frozen=True, slots=True)
class Prunable:
    """The state of one old checkpoint: optimizer and trained weights; its LoRA file stays.

    Attributes:
        run: whose it is.
        step: of the checkpoint.
        path: the folder that would go.
        bytes: what that would free.
    """

    run: RunDir
    step: int
    path: Path
    bytes: int


@dataclass(frozen=True, slots=True)
class DatasetChange:
    """One picture that two runs do not have alike.

    Attributes:
        path: the picture.
        what: `only in the first`, `only in the second`, or what changed: picture, caption, bucket, ...
        one: the caption, or the value, in the first run.
        other: the same in the second.
    """

    path: str
    what: str
    one: str = ""
    other: str = ""


def config_differences(one: RunDir, other: RunDir) -> list[tuple[str, Any, Any]]:
    """(dotted key, value, other value) of the settings that differ; None where one has no such key."""
    left, right = (_flat(run_document(run)) for run in (one, other))
    keys = [*left, *(key for key in right if key not in left)]
    return [
        (key, left.get(key), right.get(key))
        for key in keys
        if key not in _OF_EACH_RUN and left.get(key) != right.get(key)
    ]


def dataset_differences(one: RunDir, other: RunDir) -> list[DatasetChange]:
    """Which pictures, captions, buckets and crops differ between the data of two runs.

    Raises:
        RunError: a manifest cannot be read.
    """
    left, right = _manifest(one), _manifest(other)
    found: list[DatasetChange] = []
    for path in sorted({*left, *right}):
        mine, theirs = left.get(path), right.get(path)
        if mine is None or theirs is None:
            found.append(DatasetChange(path, f"only in the {'second' if mine is None else 'first'}"))
            continue
        for key in [*mine, *(k for k in theirs if k not in mine)]:
            if mine.get(key) != theirs.get(key):
                what = {"hash": "picture", "mask_hash": "mask"}.get(key, key)
                found.append(DatasetChange(path, what, _word(mine.get(key)), _word(theirs.get(key))))
    return found


def disk_usage(run: RunDir) -> dict[str, int]:
    """Bytes of a run by part: checkpoints, samples, export, rest."""
    sizes = {part: _size(run.path / part) for part in _PARTS}
    return {**sizes, "rest": max(0, _size(run.path) - sum(sizes.values()))}


def prunable(runs: list[RunDir]) -> list[Prunable]:
    """The states that no resume would look at, oldest first; nothing is changed.

    All of a finished run, those beyond the newest two of one that ended early, none of one that goes on.
    """
    found: list[Prunable] = []
    for run in runs:
        try:
            state = status(run).state
        except RunError:
            continue
        if state not in ENDED:
            continue
        folders = sorted((p for p in run.checkpoints_dir.glob("step-*/state") if p.is_dir()), key=_step_of)
        for folder in folders if state == "finished" else folders[:-KEPT_STATES]:
            found.append(Prunable(run, _step_of(folder), folder, _size(folder)))
    return found


def prune(found: list[Prunable]) -> int:
    """Delete these states; returns the bytes that were freed.

    Raises:
        LockedError: a run was started again meanwhile; the others before it are pruned.
        RunError: a state cannot be deleted.
    """
    freed = 0
    for item in found:
        with RunLock(item.run):  # nobody resumes from it now
            try:
                shutil.rmtree(item.path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise RunError(
                    f"{item.path} cannot be deleted: {error.strerror or error}.", "Check its owner and mode."
                ) from error
        freed += item.bytes
    return freed


def trash_folder(run: RunDir) -> Path:
    """Where a run of this project goes when it is thrown away."""
    return run.path.parent.parent / ".loratui" / "trash" / "runs"


def put_away(run: RunDir) -> Path:
    """Move a run that has ended to the project's trash; returns where it lies.

    Raises:
        LockedError: it is being worked on.
        RunError: it goes on or waits, or cannot be moved.
    """
    state = status(run)
    if state.state not in ENDED:
        raise RunError(f"The run {run.id} is {state.state}.", f"End it first with `loratui stop {run.id}`.")
    folder = trash_folder(run)
    with RunLock(run):
        return _move(run.path, folder / run.id)


def bring_back(run_id: str, runs_dir: Path) -> RunDir:
    """Move a run from the trash back among the runs.

    Raises:
        RunError: it is not in the trash, or its place is taken.
    """
    run = RunDir(runs_dir / run_id)
    kept = trash_folder(run) / run_id
    if "/" in run_id or not kept.is_dir():
        there = ", ".join(sorted(p.name for p in trash_folder(run).glob("*"))) or "no run"
        raise RunError(f"There is no run {run_id!r} in the trash.", f"There is: {there}.")
    if run.path.exists():
        raise RunError(f"{run.path} is there already.", "Move it away first.")
    _move(kept, run.path)
    return run


def _move(source: Path, target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    except OSError as error:
        raise RunError(
            f"{source} cannot be moved to {target}: {error.strerror or error}.",
            "Check that you may write there, and that both lie on one disk.",
        ) from error
    return target


def _step_of(state: Path) -> int:
    number = state.parent.name.removeprefix("step-")
    return int(number) if number.isdecimal() else -1


def _size(folder: Path) -> int:
    total = 0
    for base, _, files in os.walk(folder):
        for name in files:
            try:
                total += Path(base, name).lstat().st_size
            except OSError:  # pruned by the job this moment
                continue
    return total


def _flat(table: dict[str, Any], above: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{above}.{key}" if above else key
        out |= _flat(value, name) if isinstance(value, dict) else {name: value}
    return out


def _manifest(run: RunDir) -> dict[str, dict[str, Any]]:
    try:
        lines = run.manifest_path.read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line]
        return {str(row.pop("path")): row for row in rows}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise RunError(
            f"The manifest of run {run.id} cannot be read: {error}.", "The run may be damaged."
        ) from error


def _word(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
