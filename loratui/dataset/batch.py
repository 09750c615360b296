"""One edit over many captions: what would change, what is left alone and why, and the bytes to write."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from loratui.dataset.edits import Operation
from loratui.dataset.sidecar import Caption, read_caption, read_caption_file
from loratui.dataset.tags import Kind, detect_kind

PINNED = "pinned by hand"


@dataclass(frozen=True, slots=True)
class Target:
    """One caption a batch works on.

    Attributes:
        picture: the picture.
        caption: its caption as read.
        kind: tags or prose; empty for what it looks like.
        pinned: whether it was written by hand and is to be kept.
    """

    picture: Path
    caption: Caption
    kind: Kind | Literal[""] = ""
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What a batch does to one caption.

    Attributes:
        picture: the picture.
        path: its caption file.
        before: the caption, None when there is no file.
        after: the caption afterwards, None to have no file.
        reason: why it is left alone; empty when it changes.
        raw: bytes of the file as they were read, None when there is no file.
        data: bytes to write, None to remove the file.
    """

    picture: Path
    path: Path
    before: str | None
    after: str | None
    reason: str = ""
    raw: bytes | None = None
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """All changes of one edit, not yet made."""

    label: str
    changes: tuple[Change, ...] = ()
    left_alone: tuple[Change, ...] = ()
    reasons: dict[str, int] = field(default_factory=dict)

    def summary(self) -> str:
        """`12 to change; left alone: 3 already there, 1 pinned by hand`."""
        head = f"{len(self.changes)} to change"
        left = ", ".join(f"{n} {reason}" for reason, n in self.reasons.items())
        return f"{head}; left alone: {left}" if left else head


def load(
    pictures: Iterable[Path], pinned: Iterable[Path] = (), kinds: dict[Path, Kind] | None = None
) -> list[Target]:
    """Read the captions of pictures; two pictures that share a caption file give one target."""
    kept = set(pinned)
    seen: set[Path] = set()
    out: list[Target] = []
    for picture in pictures:
        caption = read_caption(picture)
        if caption.path not in seen:
            seen.add(caption.path)
            kind: Kind | Literal[""] = (kinds or {}).get(picture, "")
            out.append(Target(picture, caption, kind, caption.path in kept))
    return out


def plan(operation: Operation, targets: Sequence[Target], include_pinned: bool = False) -> Batch:
    """What an operation would do to each caption; nothing is written."""
    ready = operation.prepare(t.caption.text for t in targets)
    changes: list[Change] = []
    left: list[Change] = []
    for target in targets:
        old = target.caption
        before = old.text if old.exists else None
        raw = old.raw if old.exists else None
        reason = PINNED if target.pinned and not include_pinned else ""
        after: str | None = before
        if not reason:
            edited = ready.apply(old.text, target.kind or detect_kind(old.text))
            reason, after = edited.reason, edited.text.strip() or None
        change = Change(target.picture, old.path, before, after, reason, raw, raw)
        data = raw
        if ready.normalises and reason != PINNED:
            data, reason = (None if after is None else after.encode("utf-8", "replace") + b"\n"), ""
        elif not reason:
            data = None if after is None else encode_like(after, old)
        if reason or data == raw:
            left.append(replace(change, after=before, reason=reason or ready.nothing))
        else:
            changes.append(replace(change, data=data))
    reasons = dict(Counter(c.reason for c in left).most_common())
    return Batch(ready.describe(), tuple(changes), tuple(left), reasons)


def set_text(picture: Path, text: str, expected: Caption | None = None) -> Change:
    """The change that gives one picture this caption (an edit by hand); empty text removes the file."""
    old = expected or read_caption(picture)
    body = text.strip() or None
    data = None if body is None else encode_like(body, old)
    raw = old.raw if old.exists else None
    same = data == raw
    return Change(
        picture, old.path, old.text if old.exists else None, body, "already so" if same else "", raw, data
    )


def encode_like(text: str, old: Caption) -> bytes:
    """Bytes of a caption in the style of the file it replaces: encoding, BOM, line ends, final newline.

    Where the old encoding lacks a letter, or its bytes would be read as UTF-8, the file becomes UTF-8.
    """
    body = text.strip().replace("\r\n", "\n").replace("\r", "\n").replace("\n", old.newline)
    if body and old.final_newline:
        body += old.newline
    if old.encoding in {"utf-16-le", "utf-16-be"}:
        mark = b"\xff\xfe" if old.encoding == "utf-16-le" else b"\xfe\xff"
        return mark + body.encode(old.encoding, "replace")
    try:
        data = body.encode(old.encoding)
    except UnicodeEncodeError:
        return body.encode("utf-8", "replace")
    if not data.isascii() and old.encoding == "cp1252" and _is_utf8(data):
        return body.encode("utf-8")  # readers try UTF-8 first and would see other letters
    return data


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def reread(path: Path) -> bytes | None:
    """Bytes of a caption file now, None when it is not there."""
    caption = read_caption_file(path)
    return caption.raw if caption.exists else None


DiffKind = Literal["same", "added", "removed"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text in a diff."""

    kind: DiffKind
    text: str


_TOKEN = re.compile(r"\s+|,|[^\s,]+")


def word_diff(before: str, after: str) -> list[Piece]:
    """Both texts in one run of pieces: without the added ones `before`, without the removed ones `after`."""
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    out: list[Piece] = []

    def put(kind: DiffKind, tokens: Sequence[str]) -> None:
        if tokens:
            out.append(Piece(kind, "".join(tokens)))

    for op, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if op == "equal":
            put("same", old[a:b])
        else:
            put("removed", old[a:b])
            put("added", new[c:d])
    return out


def plain_diff(before: str | None, after: str | None) -> str:
    """A diff for plain terminals: `[-removed-]` and `{+added+}`."""
    shape = {"same": "{}", "removed": "[-{}-]", "added": "{{+{}+}}"}
    return "".join(shape[p.kind].format(p.text) for p in word_diff(before or "", after or ""))
