"""Pictures that look the same: a perceptual hash of 64 bits, near pairs, groups, the one to keep.

The hash is the sign of the 8 x 8 lowest frequencies of the picture at 32 x 32 against their median. Pairs are
found by comparing all with all in blocks of numpy words: 10,000 pictures in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAME = 5
"""Up to so many differing bits two pictures count as the same."""
REVIEW = 10
"""Up to so many a person should look."""
_SIDE, _KEPT = 32, 8
_BLOCK = 2048


@lru_cache(maxsize=1)
def _cosines() -> NDArray[np.float64]:
    """The first 8 rows of the DCT-II over 32 samples, unscaled."""
    import numpy as np  # here, so that the app's first frame does not wait for it

    k, n = np.arange(_KEPT)[:, None], np.arange(_SIDE)[None, :]
    table: NDArray[np.float64] = 2.0 * np.cos(np.pi * k * (2 * n + 1) / (2 * _SIDE))
    return table


def perceptual_hash(image: Image.Image) -> int:
    """pHash of a picture: 64 bits, the top left frequency first."""
    import numpy as np  # here, so that the app's first frame does not wait for it

    grey = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    table = _cosines()
    low = table @ np.asarray(grey, dtype=np.float64) @ table.T
    bits = low > np.median(low)
    return int("".join("1" if b else "0" for b in bits.ravel()), 2)


def distance(one: int, other: int) -> int:
    """How many bits differ."""
    return (one ^ other).bit_count()


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures by index, `first` < `second`, and how many bits differ."""

    first: int
    second: int
    distance: int


def near_pairs(hashes: Sequence[int], within: int = REVIEW) -> list[Pair]:
    """All pairs at most `within` bits apart, by index."""
    import numpy as np  # here, so that the app's first frame does not wait for it

    words = np.array(hashes, dtype=np.uint64)
    limit = np.uint8(within)
    out: list[Pair] = []
    for top in range(0, len(words), _BLOCK):
        rows = words[top : top + _BLOCK, None]
        for left in range(top, len(words), _BLOCK):
            apart = np.bitwise_count(rows ^ words[None, left : left + _BLOCK])
            for i, j in np.argwhere(apart <= limit).tolist():
                if top + i < left + j:
                    out.append(Pair(top + i, left + j, int(apart[i, j])))
    return out


@dataclass(frozen=True, slots=True)
class Candidate:
    """What decides which of a group is kept.

    Attributes:
        path: of the picture.
        hash: from `perceptual_hash`.
        width: in px.
        height: in px.
        sharpness: from the quality figures, None when not measured.
        size: of the file in bytes.
    """

    path: str
    hash: int
    width: int
    height: int
    sharpness: float | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """Pictures that look the same.

    Attributes:
        keep: the proposal, the largest and sharpest one.
        others: the rest, best first.
        distance: the farthest that one of them is from the one to keep, in bits.
        sure: whether all are within `SAME` of another; otherwise a person should look.
    """

    keep: Candidate
    others: tuple[Candidate, ...]
    distance: int
    sure: bool

    @property
    def members(self) -> tuple[Candidate, ...]:
        """All of the group, the one to keep first."""
        return (self.keep, *self.others)


def best_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Largest area first, then sharpest, then the larger file, then by name."""
    return sorted(candidates, key=lambda c: (-c.width * c.height, -(c.sharpness or 0.0), -c.size, c.path))


def groups(candidates: Sequence[Candidate], within: int = SAME, review: int = REVIEW) -> list[Group]:
    """Groups of near-duplicates: sure ones first, then those to review; nothing is done to them.

    Sure groups join pictures within `within` bits. Pictures that are in no sure group together but within
    `review` bits make groups to review.
    """
    # one of each hash: a thousand frames of one colour are one hash, not half a million pairs
    alike: dict[int, list[int]] = {}
    for index, candidate in enumerate(candidates):
        alike.setdefault(candidate.hash, []).append(index)
    members = list(alike.values())
    pairs = near_pairs(list(alike), review)
    joined = _joined(len(members), [p for p in pairs if p.distance <= within])
    inside = {index for found in joined for index in found}
    joined += [[index] for index, same in enumerate(members) if len(same) > 1 and index not in inside]
    place = {index: number for number, found in enumerate(joined) for index in found}
    loose = [p for p in pairs if p.distance > within and place.get(p.first, -1) != place.get(p.second, -2)]
    out: list[Group] = []
    for sets, sure in ((joined, True), (_joined(len(members), loose), False)):
        whole = sorted(sorted(i for index in found for i in members[index]) for found in sets)
        out += [_group(candidates, found, sure) for found in whole]
    return out


def _group(candidates: Sequence[Candidate], members: Sequence[int], sure: bool) -> Group:
    keep, *others = best_first(candidates[i] for i in members)
    return Group(keep, tuple(others), max(distance(keep.hash, o.hash) for o in others), sure)


def _joined(count: int, pairs: Iterable[Pair]) -> list[list[int]]:
    """Connected sets of two and more, by the lowest index."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for pair in pairs:
        a, b = root(pair.first), root(pair.second)
        if a != b:
            parent[max(a, b)] = min(a, b)
    sets: dict[int, list[int]] = {}
    for i in range(count):
        sets.setdefault(root(i), []).append(i)
    return [members for members in sets.values() if len(members) > 1]
