"""The data at the head of a family's file, read as text: nothing of the file is run, so torch stays out.

The form is that of inline script metadata (PEP 723): comments between `# /// family` and `# ///`, whose
content is TOML.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

FIRST, LAST = "# /// family", "# ///"


def read_heading(path: Path) -> dict[str, Any]:
    """The data at the head of `path`, no line of which is read behind it.

    Raises:
        ValueError: there is none, it does not end, or it is no TOML.
    """
    found: list[str] = []
    with path.open(encoding="utf-8") as file:
        lines = (line.rstrip() for line in file)
        if FIRST not in lines:
            raise ValueError(f"{path.name}: there is no line `{FIRST}`")
        for line in lines:
            if line == LAST:
                break
            if line != "#" and not line.startswith("# "):
                raise ValueError(f"{path.name}: the block `{FIRST}` does not end with `{LAST}`")
            found.append(line[2:])
        else:
            raise ValueError(f"{path.name}: the block `{FIRST}` does not end with `{LAST}`")
    try:
        return tomllib.loads("\n".join(found))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path.name}: the block `{FIRST}` is no TOML: {error}") from error
