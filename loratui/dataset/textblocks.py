"""Many captions as one text for an editor: a `# file` line, then the caption; read back as changes.

    # dataset/a.png
    sks, cat

    # dataset/b.png
    sks, dog

A caption line that begins with `#` or `\\` gets a backslash before it. Names that an editor could garble are
quoted as JSON. Blocks that were taken out leave their picture as it is; an empty block clears the caption.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from loratui.errors import DatasetError, Problem

HELP = (
    "#: Captions of {count} pictures. Change them, save and leave; quit without saving to change nothing.\n"
    "#: A block that you delete leaves its picture as it is. An empty block clears the caption.\n"
)


@dataclass(frozen=True, slots=True)
class Block:
    """One picture's block: its name, and the caption without outer white space."""

    name: str
    caption: str


def write_blocks(blocks: Iterable[Block]) -> str:
    """The text for the editor."""
    found = list(blocks)
    parts = [HELP.format(count=len(found))]
    for block in found:
        lines = [_escaped(line) for line in block.caption.strip().split("\n")]
        parts.append("\n".join([f"# {_named(block.name)}", *lines]) + "\n")
    return "\n".join(parts)


def read_blocks(text: str, names: Iterable[str]) -> dict[str, str]:
    """Captions by name, of the blocks that are there.

    Raises:
        DatasetError: a name is not one of `names` or stands twice, or text precedes the first block; each
            problem with its line.
    """
    known = set(names)
    out: dict[str, list[str]] = {}
    lines: list[str] | None = None
    problems: list[Problem] = []

    def wrong(number: int, name: str, message: str) -> None:
        problems.append(Problem(name, "editor-text", "error", message, f"line {number}"))

    for number, raw in enumerate(text.replace("\r\n", "\n").replace("\ufeff", "").split("\n"), 1):
        if raw.startswith("#:"):
            continue
        if raw.startswith("#"):
            name = _unnamed(raw[1:].strip())
            lines = []
            if name not in known:
                wrong(number, name, "is none of the pictures.")
            elif name in out:
                wrong(number, name, "stands twice.")
            else:
                out[name] = lines
        elif lines is not None:
            lines.append(raw[1:] if raw.startswith("\\") else raw)
        elif raw.strip():
            wrong(number, "", "this text belongs to no picture.")
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        first = problems[0]
        raise DatasetError(
            f"{first.where}: {first.path} {first.message}{more}",
            "Nothing was changed; mend the text.",
            tuple(problems),
        )
    return {name: "\n".join(x.rstrip() for x in found).strip() for name, found in out.items()}


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """The captions that differ."""
    return {name: text for name, text in after.items() if before.get(name, "").strip() != text}


def _escaped(line: str) -> str:
    return f"\\{line}" if line.startswith(("#", "\\")) else line


def _named(name: str) -> str:
    plain = name.isprintable() and name == name.strip() and not name.startswith('"')
    return name if plain else json.dumps(name)


def _unnamed(text: str) -> str:
    if text.startswith('"'):
        try:
            return str(json.loads(text))
        except ValueError:
            return text
    return text
