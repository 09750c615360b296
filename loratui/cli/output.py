"""What commands say: text or one JSON document on stdout, notes, progress and errors on stderr.

Everything goes through `clean`: names, captions and logs come from outside and never steer the terminal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loratui.errors import Problem

_PLAIN_EVERY_S = 10.0
_TTY_EVERY_S = 0.1
MOST_PROBLEMS = 40
"""Problems printed as text; --json prints all."""


class Output:
    """Where a command speaks.

    Attributes:
        json: print one JSON document on stdout and nothing else there.
    """

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self._progress_at = 0.0
        self._progress_shown = ""

    def line(self, text: str = "") -> None:
        """A line of the answer; nothing with --json."""
        if not self.json:
            print(_clean(text), flush=True)

    def lines(self, texts: Iterable[str]) -> None:
        """Several lines of the answer."""
        for text in texts:
            self.line(text)

    def document(self, value: Any) -> None:
        """The JSON document; nothing without --json."""
        if self.json:
            import json

            print(json.dumps(_finite(value), indent=1, default=str), flush=True)

    def note(self, text: str) -> None:
        """A line beside the answer, on stderr."""
        self.end_progress()
        print(_clean(text), file=sys.stderr, flush=True)

    def progress(self, text: str, *, now: bool = False) -> None:
        """How far something is: one line that is rewritten in a terminal, now and then a line elsewhere."""
        moment = time.monotonic()
        tty = sys.stderr.isatty()
        if not now and moment - self._progress_at < (_TTY_EVERY_S if tty else _PLAIN_EVERY_S):
            return
        self._progress_at = moment
        text = _clean(text)
        if not tty:
            print(text, file=sys.stderr, flush=True)
            return
        import shutil

        width = shutil.get_terminal_size().columns - 1
        shown = text[:width]
        padding = " " * max(0, len(self._progress_shown) - len(shown))
        print(f"\r{shown}{padding}", end="", file=sys.stderr, flush=True)
        self._progress_shown = shown

    def end_progress(self) -> None:
        """Leave a rewritten progress line standing and go on below it."""
        if self._progress_shown:
            print(file=sys.stderr, flush=True)
            self._progress_shown = ""

    def failure(self, message: str, advice: str = "", problems: Sequence[Problem] = ()) -> None:
        """An error: for people on stderr, and with --json as the document."""
        self.end_progress()
        print(f"loratui: {_clean(message)}", file=sys.stderr)
        listed = list(problems) if len(problems) > 1 else []
        for text in problem_lines(listed):
            print(_clean(text), file=sys.stderr)
        if advice:
            print(f"  {_clean(advice)}", file=sys.stderr)
        sys.stderr.flush()
        self.document({"error": message, "advice": advice, "problems": [p.as_dict() for p in problems]})

    def table(self, rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> None:
        """Columns padded to their widest cell; numbers are not aligned."""
        if self.json:
            return
        cleaned = [[_clean(cell) for cell in row] for row in ([header] if header else []) + list(rows)]
        if not cleaned:
            return
        widths = [max(len(row[i]) for row in cleaned) for i in range(len(cleaned[0]))]
        for row in cleaned:
            print(
                "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(),
                flush=True,
            )


def problem_lines(problems: Sequence[Problem], most: int = MOST_PROBLEMS) -> list[str]:
    """Findings as indented lines, errors first."""
    rank = {"error": 0, "warning": 1, "info": 2}
    ordered = sorted(problems, key=lambda p: rank[p.severity])
    lines = [f"  {p.severity}: {p}" for p in ordered[:most]]
    if len(ordered) > most:
        lines.append(f"  ... and {len(ordered) - most} more; --json lists all")
    return lines


def duration(seconds: float | None) -> str:
    """`1:05:09`, `5:09`, or a dash when unknown."""
    if seconds is None or seconds != seconds or seconds < 0:
        return "-"
    whole = int(seconds + 0.5)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def size_text(count: float) -> str:
    """Bytes as `530 kB`, `1.2 MB`, `3.4 GB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if count >= 100 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def _clean(text: str) -> str:
    from loratui.runs.plain import clean

    return clean(text)


def _finite(value: Any) -> Any:
    """NaN and Inf as texts: JSON has no such numbers."""
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
