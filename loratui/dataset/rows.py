"""The row of a picture as lists show it and the filter reads it: from index, scan and history together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from loratui.config.schema import DataConfig
from loratui.dataset.buckets import assign, buckets_of
from loratui.dataset.duplicates import Candidate, Group
from loratui.dataset.index import Indexed
from loratui.dataset.quality import BLURRY
from loratui.dataset.tags import detect_kind, split_caption


@dataclass
class PictureRow:
    """One picture; satisfies the `Row` of the filter.

    Attributes:
        known: what the index knows.
        rel: name to show, relative to the project.
        source: name of its source folder.
        repeats: how often it counts.
        bucket: its bucket as `512x768`, empty when unreadable.
        problems: short names of findings.
        tokens: CLIP tokens of the caption, None when not counted.
        score: given by a scorer.
        stars: given by hand.
        dup: pictures in its group of near-duplicates.
        mask: whether it has one.
        edited: whether its caption was changed in this project.
        pinned: whether its caption is kept from batches.
        marked: whether it is marked.
        chosen_kind: `tags` or `prose` when set by hand, else empty.
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
    mask: bool = False
    edited: bool = False
    pinned: bool = False
    marked: bool = False
    chosen_kind: str = ""

    @property
    def path(self) -> str:
        return self.rel

    @cached_property
    def name(self) -> str:
        return self.known.path.name

    @property
    def caption(self) -> str:
        return self.known.caption

    @cached_property
    def tag_list(self) -> tuple[str, ...]:
        return () if self.kind == "prose" else tuple(split_caption(self.known.caption))

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
    def sharpness(self) -> float | None:
        return None if self.known.quality is None else self.known.quality.sharpness

    @property
    def blur(self) -> bool:
        return self.sharpness is not None and self.sharpness < BLURRY


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
    """

    sources: Mapping[Path, tuple[str, int]]
    notes: Mapping[str, Mapping[Path, Any]]
    edited: frozenset[Path] = frozenset()
    pinned: frozenset[Path] = frozenset()
    marked: frozenset[Path] = frozenset()
    groups: tuple[Group, ...] = ()
    findings: Mapping[Path, tuple[str, ...]] | None = None
    tokens: Mapping[Path, int] | None = None


def make_rows(
    pictures: Iterable[Indexed], root: Path, facts: Facts, data: DataConfig | None = None
) -> list[PictureRow]:
    """Rows of pictures in the order given."""
    buckets = buckets_of(data or DataConfig())
    dup = {Path(c.path): len(g.members) for g in facts.groups if g.sure for c in g.members}
    no_notes: Mapping[Path, Any] = {}
    stars, kinds, scores = (facts.notes.get(n, no_notes) for n in ("stars", "kind", "score"))
    out = []
    for known in pictures:
        path = known.path
        source = next((facts.sources[p] for p in path.parents if p in facts.sources), ("", 1))
        bucket = assign(known.width, known.height, buckets) if known.width else None
        codes = [known.code] if known.code else []
        codes += known.quality.findings() if known.quality else ()
        codes += (facts.findings or {}).get(path, ())
        caption_path = known.caption_path or path.with_suffix(".txt")
        out.append(
            PictureRow(
                known,
                path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path),
                source[0],
                source[1],
                f"{bucket.width}x{bucket.height}" if bucket else "",
                tuple(dict.fromkeys(codes)),
                (facts.tokens or {}).get(path),
                scores.get(path),
                stars.get(path, 0),
                dup.get(path, 0),
                path.with_name(path.stem + "-masklabel.png").exists(),
                caption_path in facts.edited,
                caption_path in facts.pinned,
                path in facts.marked,
                str(kinds.get(path, "")),
            )
        )
    return out


def candidates(pictures: Iterable[Indexed]) -> list[Candidate]:
    """What the search for near-duplicates needs, of pictures that are measured."""
    return [
        Candidate(str(p.path), p.phash, p.width, p.height, p.quality.sharpness if p.quality else None, p.size)
        for p in pictures
        if p.phash is not None
    ]
