"""The row of a picture as lists show it and the filter reads it: from index, scan and history together."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from loratui.dataset.framing import PLAIN, Frame, Grids
from loratui.dataset.tags import detect_kind, split_caption

if TYPE_CHECKING:  # the app's first frame knows rows, but waits neither for SQLite nor for Pillow
    from loratui.config.schema import DataConfig
    from loratui.dataset.buckets import Bucket
    from loratui.dataset.duplicates import Candidate, Group
    from loratui.dataset.index import Indexed
    from loratui.dataset.masks import Mask

_Value = TypeVar("_Value")
KOHYA = re.compile(r"^([0-9]+)_(.*)$", re.DOTALL)


@dataclass
class PictureRow:
    """One picture; satisfies the `Row` of the filter.

    Attributes:
        known: what the index knows.
        rel: name to show, relative to the project.
        source: name of its source folder.
        repeats: how often it counts.
        bucket: its buckets as `512x768`, a space between those of several resolutions; empty when unreadable.
        problems: short names of findings.
        tokens: CLIP tokens of the caption, None when not counted.
        score: given by a scorer.
        stars: given by hand.
        dup: pictures in its group of near-duplicates.
        mask: which part of it counts, None for all of it.
        frame: how it is turned and cropped, chosen by hand.
        edited: whether its caption was changed in this project.
        pinned: whether its caption is kept from batches.
        marked: whether it is marked.
        chosen_kind: `tags` or `prose` when set by hand, else empty.
        audited: short names of what the last audit found, for the filter.
        weight: of its loss, given by hand.
    """

    known: Indexed
    rel: str
    source: str = ""
    repeats: int | None = 1
    bucket: str = ""
    problems: tuple[str, ...] = ()
    tokens: int | None = None
    score: float | None = None
    stars: int | None = 0
    dup: int | None = 0
    mask: Mask | None = None
    edited: bool = False
    pinned: bool = False
    marked: bool = False
    chosen_kind: str = ""
    frame: Frame = PLAIN
    audited: tuple[str, ...] = ()
    weight: float = 1.0

    @property
    def path(self) -> str:
        return self.rel

    @cached_property
    def name(self) -> str:
        return os.path.basename(self.known.file)  # noqa: PTH119 -- asked of all rows by filter and order

    @property
    def caption(self) -> str:
        return self.known.caption

    @cached_property
    def tag_list(self) -> tuple[str, ...]:
        # interned: the tags of ten thousand pictures are a few hundred words
        return () if self.kind == "prose" else tuple(map(sys.intern, split_caption(self.known.caption)))

    @cached_property
    def kind(self) -> str:
        return self.chosen_kind or detect_kind(self.known.caption)

    @property
    def width(self) -> int | None:
        return self.known.width or None

    @property
    def height(self) -> int | None:
        return self.known.height or None

    @property
    def size(self) -> int | None:
        return self.known.size

    @property
    def framed(self) -> bool:
        return not self.frame.plain

    @property
    def sharpness(self) -> float | None:
        return None if self.known.quality is None else self.known.quality.sharpness

    @property
    def face(self) -> float | None:
        return self.known.face_share

    @property
    def blur(self) -> bool:
        return self.known.quality is not None and self.known.quality.blurry


@dataclass(frozen=True, slots=True)
class Facts:
    """What else is known of pictures, by path; all may be left empty.

    Attributes:
        sources: source folder of a picture -> (name, repeats).
        notes: history notes: name -> file -> value (`stars`, `kind`, `score`).
        edited: caption files that were changed.
        pinned: caption files that are kept from batches.
        marked: pictures that are marked.
        groups: near-duplicates.
        findings: codes of further findings (audit, scan) of a picture.
        tokens: CLIP tokens of a picture's caption.
        frames: turns and crops chosen by hand.
        alpha: pictures whose alpha channel is their mask.
    """

    sources: Mapping[Path, tuple[str, int]]
    notes: Mapping[str, Mapping[Path, Any]]
    edited: frozenset[Path] = frozenset()
    pinned: frozenset[Path] = frozenset()
    marked: frozenset[Path] = frozenset()
    groups: tuple[Group, ...] = ()
    findings: Mapping[Path, tuple[str, ...]] | None = None
    tokens: Mapping[Path, int] | None = None
    frames: Mapping[Path, Frame] | None = None
    alpha: frozenset[Path] = frozenset()


def make_rows(
    pictures: Iterable[Indexed], root: Path, facts: Facts, data: DataConfig | None = None
) -> list[PictureRow]:
    """Rows of pictures in the order given."""
    from loratui.config.schema import DataConfig
    from loratui.dataset.masks import MaskFinder
    from loratui.dataset.scan import SUFFIXES

    sizes = _Buckets(data or DataConfig())
    folders = _Folders(root, facts.sources)
    dup = {c.path: len(g.members) for g in facts.groups if g.sure for c in g.members}
    # by name: making a Path and its hash takes as long as all the rest of a row
    stars, kinds, scores, weights = (
        _by_file(facts.notes.get(n)) for n in ("stars", "kind", "score", "weight")
    )
    findings, tokens = _by_file(facts.findings), _by_file(facts.tokens)
    frames = _by_file(facts.frames)
    edited, pinned, marked, alpha = (
        frozenset(map(os.fspath, paths)) for paths in (facts.edited, facts.pinned, facts.marked, facts.alpha)
    )
    masks = MaskFinder(SUFFIXES)
    out = []
    for known in pictures:
        file = known.file
        folder, name = folders.of(file)
        frame = frames.get(file, PLAIN) if frames else PLAIN
        bucket, enlarged = sizes.of(known.width, known.height, frame)
        codes = notices(known, enlarged, folder.caption)
        if file in findings:
            codes = tuple(dict.fromkeys((*codes, *findings[file])))
        caption = known.caption_file if edited or pinned else ""
        out.append(
            PictureRow(
                known,
                folder.prefix + name,
                folder.source,
                folder.repeats,
                bucket,
                codes,
                tokens.get(file),
                scores.get(file),
                stars.get(file, 0),
                dup.get(file, 0),
                masks.of(file, file in alpha),
                caption in edited,
                caption in pinned,
                file in marked,
                str(kinds.get(file, "")),
                frame,
                weight=float(weights.get(file, 1.0)),
            )
        )
    return out


def _by_file(values: Mapping[Path, _Value] | None) -> dict[str, _Value]:
    return {os.fspath(path): value for path, value in values.items()} if values else {}


def notices(known: Indexed, enlarged: float = 1.0, folder_caption: str = "") -> tuple[str, ...]:
    """Short names of what there is to say of a picture: its file, its figures, its caption, its size.

    The names are those of `scan` and of `Quality.findings`; `notice_severity` tells how bad one is.
    """
    codes = [known.code] if known.code else []
    if known.quality is not None:
        codes += known.quality.findings()
    if not known.code:
        if known.frames > 1:
            codes.append("animated")
        if enlarged >= 2.0:
            codes.append("small-image")
        if not known.suffix:
            codes.append("caption-from-folder" if folder_caption else "missing-caption")
        elif known.encoding == "unreadable":
            codes.append("unreadable-caption")
        elif not known.caption:
            codes.append("empty-caption")
        if known.encoding == "utf-8-sig":
            codes.append("caption-bom")
        elif known.encoding not in {"", "utf-8", "unreadable"}:
            codes.append("caption-not-utf8")
        if "\n" in known.caption:
            codes.append("caption-lines")
    return tuple(codes)


INFO = frozenset({"animated", "caption-from-folder", "caption-lines", "name-not-utf8"})
"""Codes that ask for nothing; all others want a look."""


class _Buckets:
    """Bucket and enlargement by size of picture, each worked out once."""

    def __init__(self, data: DataConfig) -> None:
        self._grids = Grids(data)
        self._known: dict[tuple[int, int], tuple[str, float]] = {(0, 0): ("", 1.0)}

    def of(self, width: int, height: int, frame: Frame) -> tuple[str, float]:
        if not frame.plain and width and height:
            return _named(self._grids.buckets(width, height, frame))
        found = self._known.get((width, height))
        if found is None:
            found = self._known[width, height] = _named(self._grids.buckets(width, height))
        return found


def _named(buckets: Sequence[Bucket]) -> tuple[str, float]:
    return " ".join(f"{b.width}x{b.height}" for b in buckets), buckets[-1].upscale


@dataclass(frozen=True, slots=True)
class _Folder:
    """What all pictures of one folder share: how their paths begin, source, repeats."""

    prefix: str
    source: str
    repeats: int
    caption: str


class _Folders:
    def __init__(self, root: Path, sources: Mapping[Path, tuple[str, int]]) -> None:
        self._root = root
        self._sources = sources
        self._known: dict[str, _Folder] = {}

    def of(self, picture: str) -> tuple[_Folder, str]:
        """The folder of a picture, and the picture's name in it."""
        place, name = os.path.split(picture)
        found = self._known.get(place)
        if found is None:
            found = self._known[place] = self._look(Path(place))
        return found, name

    def _look(self, folder: Path) -> _Folder:
        inside = folder.is_relative_to(self._root)
        shown = folder.relative_to(self._root).as_posix() if inside else str(folder)
        place = next((p for p in (folder, *folder.parents) if p in self._sources), None)
        source, repeats = self._sources[place] if place is not None else ("", 1)
        caption = ""
        if place is not None and folder != place:
            match = KOHYA.match(folder.relative_to(place).parts[0])
            if match and int(match[1]) >= 1:
                repeats, caption = repeats * int(match[1]), match[2]
        return _Folder("" if shown == "." else f"{shown}/", source, repeats, caption)


def candidates(
    pictures: Iterable[Indexed], apart: Mapping[Path, Mapping[str, int]] | None = None
) -> list[Candidate]:
    """What the search for near-duplicates needs, of pictures that are measured.

    Args:
        pictures: as the index knows them.
        apart: sets of pictures that a person said are no duplicates: picture -> name of the set -> its hash
            when that was said. A picture that is another since then is looked at anew.
    """
    from loratui.dataset.duplicates import Candidate

    said = apart or {}
    return [
        Candidate(
            p.file,
            p.phash,
            p.width,
            p.height,
            p.quality.sharpness if p.quality else None,
            p.size,
            frozenset(name for name, known in said.get(p.path, {}).items() if known == p.phash)
            if said
            else frozenset(),
        )
        for p in pictures
        if p.phash is not None
    ]
