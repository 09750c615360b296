"""The file behind the undo history: append-only lines of JSON, each with a CRC.

    {"k":"begin","id":7,"t":1790000000.1,"actor":{...},"label":"add dog last"}
    {"k":"blob","h":"9f86...","s":"sks, cat\\n"}            contents by hash, once each; "b" base64, "z" zlib
    {"k":"file","id":7,"p":"dataset/a.txt","b":"9f86...","a":"60303..."}     null: there is no file
    {"k":"note","id":7,"p":"dataset/a.txt","n":"pinned","b":null,"a":true}
    {"k":"ready","id":7,"n":2}                              everything above is on disk; files change now
    {"k":"done","id":7}                                     or "void": it came to nothing

An entry without `ready` touched nothing. One with `ready` and neither `done` nor `void` was cut off, and
holds all that is needed to finish it or to take it back. A torn last line is dropped; a bad line is counted.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from loratui.files import sync_folder

Status = Literal["open", "ready", "done", "void"]
_LARGE = 1024
_MARK = b',"crc":"'


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of an entry: contents by hash, None where there is no file."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class NoteRecord:
    """One note of an entry: a value kept about a file, None where there is none."""

    path: str
    name: str
    before: Any
    after: Any


@dataclass(slots=True)
class Entry:
    """One step of the history.

    Attributes:
        id: counts from 1.
        time: unix time.
        actor: who did it: `kind` (hand, batch, captioner, import, restore), `name` and what belongs to it.
        label: what was done.
        undoes: the entry this one takes back, or 0.
        redoes: the entry this one does again, or 0.
        status: `done`; `ready` when it was cut off; `void` when it came to nothing.
        damaged: lines of it were lost.
    """

    id: int
    time: float
    actor: dict[str, Any]
    label: str
    undoes: int = 0
    redoes: int = 0
    status: Status = "open"
    damaged: bool = False
    files: list[FileRecord] = field(default_factory=list)
    notes: list[NoteRecord] = field(default_factory=list)


def digest(data: bytes | None) -> str | None:
    """Name of some content: 128 bits of its SHA-256; None for no file."""
    return None if data is None else hashlib.sha256(data).hexdigest()[:32]


def pack(line: dict[str, Any]) -> bytes:
    """A line with its CRC, newline included."""
    body = json.dumps(line, separators=(",", ":")).encode("ascii")[:-1]
    return b'%s,"crc":"%08x"}\n' % (body, zlib.crc32(body))


def unpack(line: bytes) -> dict[str, Any] | None:
    """The object of a line, None when it is not whole."""
    at = line.rfind(_MARK)
    if at < 0 or line[at + 8 :] != b'%08x"}' % zlib.crc32(line[:at]):
        return None
    body = line[:at] + b"}"
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            found = json.loads(body)  # names that are not UTF-8 stand as lone surrogates
        except ValueError:
            return None
    return found if isinstance(found, dict) else None


def blob_line(data: bytes) -> dict[str, Any]:
    """The line that holds some content, readable where it is text."""
    line: dict[str, Any] = {"k": "blob", "h": digest(data)}
    if len(data) > _LARGE and len(packed := zlib.compress(data, 6)) < 0.7 * len(data):
        return {**line, "z": base64.b64encode(packed).decode()}
    try:
        return {**line, "s": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {**line, "b": base64.b64encode(data).decode()}


def blob_data(line: dict[str, Any]) -> bytes:
    """The content a line holds."""
    if "s" in line:
        return str(line["s"]).encode("utf-8")
    if "b" in line:
        return base64.b64decode(line["b"])
    return zlib.decompress(base64.b64decode(line["z"]))


class HistoryLog:
    """Reads the lines as they come and appends new ones; appending needs the history's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.forget()

    def forget(self) -> None:
        """Start over, as if nothing had been read."""
        self.entries: dict[int, Entry] = {}
        self.undo_stack: list[int] = []
        self.redo_stack: list[int] = []
        self.notes: dict[tuple[str, str], Any] = {}
        self.bad_lines = 0
        self._blobs: dict[str, tuple[int, int]] = {}
        self._read_to = 0
        self._inode = 0

    def refresh(self, truncate: bool = False) -> None:
        """Read what was added since; with `truncate` (under the lock) cut a torn last line off."""
        try:
            with open(self.path, "rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_size < self._read_to or (self._inode and stat.st_ino != self._inode):
                    self.forget()
                self._inode = stat.st_ino
                if stat.st_size == self._read_to:
                    return
                file.seek(self._read_to)
                data = file.read()
        except FileNotFoundError:
            self.forget()
            return
        end = data.rfind(b"\n") + 1
        at = 0
        while at < end:
            stop = data.index(b"\n", at)
            try:
                self._line(data[at:stop], self._read_to + at, stop - at)
            except (KeyError, TypeError, ValueError):  # whole, but not one of ours
                self.bad_lines += 1
            at = stop + 1
        self._read_to += end
        if truncate and end < len(data):
            os.truncate(self.path, self._read_to)

    def _line(self, raw: bytes, offset: int, length: int) -> None:
        line = unpack(raw)
        if line is None:
            self.bad_lines += 1
            return
        kind = line.get("k")
        if kind == "blob":
            self._blobs[str(line["h"])] = (offset, length)
        elif kind == "begin":
            number = int(line["id"])
            self.entries[number] = Entry(
                number,
                float(line["t"]),
                dict(line["actor"]),
                str(line["label"]),
                int(line.get("undoes", 0)),
                int(line.get("redoes", 0)),
            )
        elif (entry := self.entries.get(int(line.get("id", 0)))) is not None:
            self._part(str(kind), entry, line)

    def _part(self, kind: str, entry: Entry, line: dict[str, Any]) -> None:
        if kind == "file":
            entry.files.append(FileRecord(line["p"], line["b"], line["a"]))
        elif kind == "note":
            entry.notes.append(NoteRecord(line["p"], line["n"], line["b"], line["a"]))
        elif kind == "ready":
            entry.damaged = int(line["n"]) != len(entry.files) + len(entry.notes)
            entry.status = "ready"
        elif kind == "done" and entry.status == "ready":
            entry.status = "done"
            self._effective(entry)
        elif kind == "void":
            entry.status = "void"

    def _effective(self, entry: Entry) -> None:
        for note in entry.notes:
            if note.after is None:
                self.notes.pop((note.path, note.name), None)
            else:
                self.notes[note.path, note.name] = note.after
        if entry.undoes:
            if entry.undoes in self.undo_stack:
                self.undo_stack.remove(entry.undoes)
            self.redo_stack.append(entry.undoes)
        elif entry.redoes:
            if entry.redoes in self.redo_stack:
                self.redo_stack.remove(entry.redoes)
            self.undo_stack.append(entry.redoes)
        else:
            self.undo_stack.append(entry.id)
            self.redo_stack.clear()

    def pending(self) -> list[Entry]:
        """Entries that were cut off after they were ready."""
        return [e for e in self.entries.values() if e.status == "ready"]

    def next_id(self) -> int:
        """The number of the next entry."""
        return max(self.entries, default=0) + 1

    def has_blob(self, name: str) -> bool:
        """Whether the content is in the file already."""
        return name in self._blobs

    def blob(self, name: str | None) -> bytes | None:
        """Content by its hash; None for no file.

        Raises:
            KeyError: the content is lost (a damaged log).
        """
        if name is None:
            return None
        offset, length = self._blobs[name]
        with open(self.path, "rb") as file:
            file.seek(offset)
            line = unpack(file.read(length))
        if line is None:
            raise KeyError(name)
        return blob_data(line)

    def blobs(self, names: Iterable[str | None]) -> dict[str | None, bytes | None]:
        """Many contents at once, the lost ones left out."""
        out: dict[str | None, bytes | None] = {None: None}
        places = sorted((self._blobs[n], n) for n in set(names) if n is not None and n in self._blobs)
        if not places:
            return out
        with open(self.path, "rb") as file:
            for (offset, length), name in places:
                file.seek(offset)
                line = unpack(file.read(length))
                if line is not None:
                    out[name] = blob_data(line)
        return out

    def append(self, lines: Iterable[dict[str, Any]]) -> None:
        """Add lines and flush them to disk; on failure (a full disk) the file is as it was.

        Raises:
            OSError: they could not be written.
        """
        data = b"".join(map(pack, lines))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not self.path.exists()
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            size = os.fstat(handle).st_size
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(handle, view) :]
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)
        if fresh:
            sync_folder(self.path.parent)
        self.refresh()
