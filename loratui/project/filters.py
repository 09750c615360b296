"""Filters kept under names, in `.loratui/filters.json`: a person's work, never a cache."""

from __future__ import annotations

import json
from pathlib import Path

from loratui.dataset.query import parse
from loratui.errors import DatasetError
from loratui.files import replace_file, sync_folder

READY: dict[str, str] = {
    "blurred": "blur:yes",
    "doubled": "dup:>1",
    "no caption": "captioned:no",
    "too long for CLIP": "tokens:>75",
    "few tags": "captioned:yes AND tags:<3",
    "small": "side:<512",
    "written by hand": "pinned:yes",
    "cropped or turned": "framed:yes",
    "with a finding": "problem:yes",
}
"""What most people look for; a kept filter of the same name takes the place of one."""


def _path(root: Path) -> Path:
    return root / ".loratui" / "filters.json"


def kept_filters(root: Path) -> dict[str, str]:
    """Name -> filter, as they were kept; a damaged file counts as none."""
    try:
        found = json.loads(_path(root).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def keep_filter(root: Path, name: str, text: str) -> None:
    """Keep a filter.

    Raises:
        DatasetError: it has no name, cannot be read as a filter, or the file cannot be written.
    """
    if not name.strip():
        raise DatasetError("A kept filter needs a name.", "Type one, as in: keep hats")
    parse(text)
    _write(root, {**kept_filters(root), name.strip(): text})


def forget_filter(root: Path, name: str) -> None:
    """Forget a filter; one that is not there is no mistake.

    Raises:
        DatasetError: the file cannot be written.
    """
    left = kept_filters(root)
    if left.pop(name, None) is not None:
        _write(root, left)


def _write(root: Path, filters: dict[str, str]) -> None:
    path = _path(root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(filters, indent=1).encode())
        sync_folder(path.parent)
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be written: {error.strerror}.", "Check its owner and mode."
        ) from error
