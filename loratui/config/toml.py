"""TOML with line numbers: read by tomllib, each key's line found by a scan of the text, so that a message
can say `loratui.toml:12`; and the few lines that write a run's settings back."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loratui.errors import ConfigError, Problem

_HEADER = re.compile(r"^\s*\[{1,2}\s*(?P<name>[^\[\]]+?)\s*\]{1,2}\s*(#.*)?$")
_KEY = re.compile(
    r"""^\s*(?P<name>(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_QUOTES = "\"'"
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed TOML file.

    Attributes:
        path: where it was read from.
        data: its content.
        lines: dotted key -> line number, 1-based.
        text: the file as it stands.
    """

    path: Path
    data: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)
    text: str = ""

    def where(self, key: str) -> str:
        """`file:line` of a dotted key; the line of its nearest parent, or only the file, when unknown."""
        while key:
            if key in self.lines:
                return f"{self.path}:{self.lines[key]}"
            key = key.rpartition(".")[0]
        return str(self.path)


def read_toml(path: Path) -> Document:
    """Read a TOML file.

    Raises:
        ConfigError: unreadable, not UTF-8, or not TOML; the problem names the line.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist.", "Check the path.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", "Check its owner and mode.") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise _broken(path, line, "it is not UTF-8") from error
    try:
        data = tomllib.loads(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        found = re.search(r"\(at line (\d+)", message)
        line = int(found[1]) if found else text.count("\n") + 1
        raise _broken(path, line, message.split(" (at ")[0]) from error
    except RecursionError as error:
        raise _broken(path, 1, "it is nested too deeply") from error
    except ValueError as error:  # int() refuses texts of thousands of digits, datetime months above 12
        line = next((n for n, t in enumerate(text.splitlines(), 1) if re.search(r"[0-9]{4000}", t)), 1)
        raise _broken(path, line, "a number or date in it has no sensible size") from error
    return Document(path, data, key_lines(text), text)


def _broken(path: Path, line: int, message: str) -> ConfigError:
    message = message[:1].lower() + message[1:] if not message[:2].isupper() else message
    problem = Problem("", "not-toml", "error", f"not valid TOML: {message}.", f"{path}:{line}")
    return ConfigError(
        f"{path}:{line}: not valid TOML: {message}.", "Mend the line; text needs quotes.", (problem,)
    )


def key_lines(text: str) -> dict[str, int]:
    """Dotted key -> line of its first appearance; keys inside multi-line values are not looked at."""
    lines: dict[str, int] = {}
    table = ""
    counts: dict[str, int] = {}
    inside = ""  # the end mark of a multi-line value we are in
    for number, line in enumerate(text.splitlines(), 1):
        if inside:
            if inside == "]":
                inside = "" if _depth(line, 1) <= 0 else "]"
            elif inside in line:
                inside = ""
            continue
        if header := _HEADER.match(line):
            *parents, last = _PART.findall(header["name"])
            table = ""
            for part in parents:  # inside the newest table of each array on the way
                table = f"{table}.{part.strip(_QUOTES)}".lstrip(".")
                table = f"{table}.{counts[table]}" if table in counts else table
            table = f"{table}.{last.strip(_QUOTES)}".lstrip(".")
            if line.lstrip().startswith("[["):
                counts[table] = counts.get(table, -1) + 1
                table = f"{table}.{counts[table]}"
            lines.setdefault(table, number)
            continue
        if key := _KEY.match(line):
            name = _dotted(key["name"])
            lines.setdefault(f"{table}.{name}" if table else name, number)
            value = line[key.end() :].strip()
            for mark in ('"""', "'''"):
                if value.startswith(mark) and mark not in value[3:]:
                    inside = mark
            if value.startswith("[") and _depth(value, 0) > 0:
                inside = "]"
    return lines


def _depth(line: str, start: int) -> int:
    """Bracket depth after a line of an array, strings and comments left out."""
    bare = re.sub(r'"(?:\\.|[^"\\])*"|\'[^\']*\'', "", line).split("#", 1)[0]
    return start + bare.count("[") - bare.count("]")


def _dotted(name: str) -> str:
    return ".".join(part.strip("\"'") for part in _PART.findall(name))


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if value:
                flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value
    return flat


_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def quote(text: str) -> str:
    """A TOML basic string; control characters are escaped.

    Raises:
        ConfigError: the text holds bytes that are not UTF-8, which TOML cannot carry.
    """
    if any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        shown = text.encode("utf-8", "backslashreplace").decode("ascii", "replace")
        raise ConfigError(
            f"{shown} is not UTF-8, which a settings file cannot hold.",
            "Rename the folder or give another text.",
        )
    out = [_ESCAPES.get(c) or (f"\\u{ord(c):04X}" if ord(c) < 0x20 or ord(c) == 0x7F else c) for c in text]
    return '"' + "".join(out) + '"'


def value_text(value: Any) -> str:
    """A bool, number, text or list of them as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)  # the shortest text that reads back as the same float
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(value_text(v) for v in value) + "]"
    return quote(str(value))
