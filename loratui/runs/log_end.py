"""The end of log.txt: the last lines of the newest attempt, and the one that matters."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from loratui.runs.directory import RunDir
from loratui.runs.liveness import LOG_MARK
from loratui.runs.plain import clean_log

_REACH = 1 << 16
_KEPT = 12
_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+), in (.+)$')
_RAISED = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Warning|Lost|Failure)\b")
_NATIVE = ("Fatal Python error", "terminate called", "Segmentation fault", "Bus error", "Aborted", "Killed")


@dataclass(frozen=True, slots=True)
class LogEnd:
    """How a log ends; all lines are clean.

    Attributes:
        lines: the last ones, the newest below.
        telling: the line that says most: what was raised, or what the system said.
        where: `file:line, in function` of the code it was raised in, empty when there is no traceback.
    """

    lines: tuple[str, ...] = ()
    telling: str = ""
    where: str = ""


def log_end(run: RunDir, reach: int = _REACH) -> LogEnd:
    """The end of the log of a run; empty when there is none."""
    try:
        with run.log_path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - reach))
            words = clean_log(file.read())
    except OSError:
        return LogEnd()
    if LOG_MARK in words:
        words = words.rsplit(LOG_MARK, 1)[-1].partition("\n")[2]
    lines = [line.rstrip()[:400] for line in words.split("\n") if line.strip()]
    if not lines:
        return LogEnd()
    at = next((n for n in range(len(lines) - 1, -1, -1) if lines[n].startswith(_NATIVE)), None)
    if at is None:
        at = _raised(lines)
    telling = lines[at] if at is not None else lines[-1]
    return LogEnd(tuple(lines[-_KEPT:]), telling.strip()[:300], _where(lines, at))


def _raised(lines: list[str]) -> int | None:
    """The line of the last traceback that names the error: the first one of it that is not indented."""
    begun = next((n for n in range(len(lines) - 1, -1, -1) if lines[n].startswith("Traceback (most")), None)
    if begun is None:
        return next((n for n in range(len(lines) - 1, -1, -1) if _RAISED.match(lines[n])), None)
    return next((n for n in range(begun + 1, len(lines)) if not lines[n].startswith(" ")), None)


def _where(lines: list[str], at: int | None) -> str:
    """The innermost frame before the line `at`."""
    for line in reversed(lines[: at or 0]):
        match = _FRAME.match(line)
        if match:
            path = match[1].replace("\\", "/").rsplit("/", 2)
            return f"{'/'.join(path[-2:])}:{match[2]}, in {match[3]}"
        if line.startswith("Traceback (most"):
            break
    return ""
