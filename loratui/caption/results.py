"""What a caption run found out, a line a picture, in `results.jsonl` of its run directory.

    {"kind":"said","i":3,"rel":"dataset/a.png","said":{"blip":{"text":"a cat"}},"s":0.12,"crc":"..."}
    {"kind":"end","i":3,"state":"written","reason":"","text":"sks, a cat","crc":"..."}

`said` is on the disk before the caption changes, so a run that is killed never asks a model twice. A torn
last line is cut off by the next writer.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from loratui.captioners.protocol import Said, Tag
from loratui.errors import RunError
from loratui.runs.events import decode_line, encode_line

State = Literal["said", "written", "left", "failed"]
NAME = "results.jsonl"


@dataclass(slots=True)
class Result:
    """One picture of a run.

    Attributes:
        index: of the picture in the manifest.
        rel: its name.
        said: captioner -> its answer.
        state: said (not written yet), written, left (its caption stays) or failed.
        reason: why it was left or failed.
        text: the caption as written.
        seconds: that the models took.
    """

    index: int
    rel: str = ""
    said: dict[str, Said] = field(default_factory=dict)
    state: State = "said"
    reason: str = ""
    text: str = ""
    seconds: float = 0.0


class Results:
    """Reads what is there; appends what comes.

    Args:
        run: the run directory.
        write: open for appending; the caller holds the run's lock.
    """

    def __init__(self, run: Path, write: bool = False) -> None:
        self.path = run / NAME
        self.by_index: dict[int, Result] = {}
        self._fd = -1
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            data = b""
        whole = data.rfind(b"\n") + 1
        for line in data[:whole].splitlines():
            record = decode_line(line)
            if record is not None:
                self._take(record)
        if write:
            try:
                self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
                os.ftruncate(self._fd, whole)
            except OSError as error:
                raise RunError(
                    f"{self.path} cannot be written: {error.strerror}.", "Check that the disk has room."
                ) from error
        self._size = whole

    def add(self, results: Iterable[Result]) -> None:
        """Answers of models, on the disk when this returns.

        Raises:
            OSError: the disk is full; nothing was added.
        """
        fresh = list(results)
        lines = []
        for r in fresh:
            said = {name: said_json(answer) for name, answer in r.said.items()}
            lines.append({"kind": "said", "i": r.index, "rel": r.rel, "said": said, "s": round(r.seconds, 4)})
        self._append(lines, sync=True)
        for r in fresh:
            self.by_index[r.index] = r

    def close_picture(self, result: Result, state: State, reason: str = "", text: str = "") -> None:
        """What became of one picture; not flushed: a resume finds it out again."""
        self._append(
            [
                {
                    "kind": "end",
                    "i": result.index,
                    "rel": result.rel,
                    "state": state,
                    "reason": reason,
                    "text": text,
                }
            ]
        )
        result.state, result.reason, result.text = state, reason, text
        self.by_index[result.index] = result

    def counts(self) -> dict[str, int]:
        """State -> number of pictures."""
        return dict(Counter(r.state for r in self.by_index.values()))

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, lines: Iterable[Mapping[str, Any]], sync: bool = False) -> None:
        data = b"".join(encode_line(dict(line)) for line in lines)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
            if sync:
                os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)

    def _take(self, record: Mapping[str, Any]) -> None:
        index = record.get("i")
        if not isinstance(index, int):
            return
        result = self.by_index.setdefault(index, Result(index))
        result.rel = str(record.get("rel") or result.rel)
        if record.get("kind") == "said":
            said = record.get("said")
            pairs = said.items() if isinstance(said, dict) else ()
            result.said = {name: said_of(answer) for name, answer in pairs if isinstance(answer, dict)}
            result.seconds = float(record.get("s") or 0.0)
        elif record.get("kind") == "end" and record.get("state") in {"written", "left", "failed"}:
            result.state = record["state"]
            result.reason = str(record.get("reason") or "")
            result.text = str(record.get("text") or "")


def said_json(answer: Said) -> dict[str, Any]:
    """An answer as plain JSON."""
    out: dict[str, Any] = {}
    if answer.text:
        out["text"] = answer.text
    if answer.tags:
        out["tags"] = [[t.text, round(t.confidence, 4), t.facet] for t in answer.tags]
    if answer.error:
        out["error"] = answer.error
    return out


def said_of(answer: Mapping[str, Any]) -> Said:
    """The inverse of `said_json`; what is damaged is left out."""
    try:
        tags = msgspec.convert(answer.get("tags") or [], list[tuple[str, float, str]])
    except msgspec.ValidationError:
        tags = []
    return Said(str(answer.get("text") or ""), tuple(Tag(*t) for t in tags), str(answer.get("error") or ""))
