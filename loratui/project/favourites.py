"""Favourites and notes on samples, in `.loratui/samples.json`: a person's work, never a cache.

They are kept with the project and not in the run directory, which only its job writes to. A sample is known
by its run and its path there, so a mark survives a move of the project.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from loratui.errors import DatasetError, LockedError
from loratui.files import replace_file, sync_folder
from loratui.runs.directory import RunDir

_LOCK_S = 5.0


@dataclass(frozen=True, slots=True)
class Mark:
    """What a person thinks of a sample.

    Attributes:
        favourite: whether it is one to come back to.
        note: a line of text.
    """

    favourite: bool = False
    note: str = ""


def key(run: RunDir, path: str) -> str:
    """How a sample is named there: `RUN-ID/samples/step-000250/00.png`."""
    return f"{run.id}/{path}"


def marks(root: Path) -> dict[str, Mark]:
    """All marks of a project by `key`; a damaged file counts as none here, and is never overwritten."""
    try:
        return _read(_path(root))
    except DatasetError:
        return {}


def stamp(root: Path) -> float:
    """When the marks were last written; 0 without any."""
    try:
        return _path(root).stat().st_mtime
    except OSError:
        return 0.0


def set_mark(root: Path, name: str, mark: Mark) -> dict[str, Mark]:
    """Change one mark; an empty one is forgotten. Returns all of them.

    Raises:
        DatasetError: the file is damaged or cannot be written.
        LockedError: another process is writing it.
    """
    path = _path(root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(path.with_name("samples.lock")), timeout=_LOCK_S):
            found = _read(path)
            found.pop(name, None)
            if mark != Mark():
                found[name] = mark
            _write(path, {k: asdict(v) for k, v in found.items()})
            return found
    except Timeout:
        raise LockedError("Another loratui is marking samples of this project.", "Try again.") from None
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be written: {error.strerror}.", "Check its owner and mode."
        ) from error


def _path(root: Path) -> Path:
    return root / ".loratui" / "samples.json"


def _read(path: Path) -> dict[str, Mark]:
    try:
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no object")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}.", "Mend it, or move it away.") from error
    return {str(k): _mark(v) for k, v in found.items() if isinstance(v, dict)}


def _mark(value: Mapping[str, Any]) -> Mark:
    return Mark(value.get("favourite") is True, str(value.get("note") or ""))


def _write(path: Path, document: Mapping[str, Any]) -> None:
    replace_file(path, json.dumps(document, indent=1).encode())
    sync_folder(path.parent)
