"""Pictures that look the same: a perceptual hash of 64 bits, near pairs, groups, the one to keep.

The hash is the sign of the 8 x 8 lowest frequencies of the picture at 32 x 32 against their median. Near
pairs of many are looked up by bands of the hash, exactly as comparing all with all would find them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

SAME = 5
"""Up to so many differing bits two pictures count as the same."""
REVIEW = 10
"""Up to so many a person should look."""
_SIDE, _KEPT = 32, 8
_BLOCK = 2048
_FEW, _MOST = 4096, 15
"""Below so many hashes, or beyond so many bits, all are compared with all: that is quicker there."""
_BANDS, _BAND = 4, 16
_PORTION = 1 << 20


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
    from PIL import Image

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
    if len(words) < _FEW or within > _MOST:
        first, second = _all_with_all(words, within)
    else:
        first, second = _by_bands(words, within)
    apart = np.bitwise_count(words[first] ^ words[second])
    order = np.lexsort((second, first))
    found = zip(first[order].tolist(), second[order].tolist(), apart[order].tolist(), strict=True)
    return [Pair(i, j, n) for i, j, n in found]


def _all_with_all(words: NDArray[np.uint64], within: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Near pairs of few hashes, in blocks."""
    import numpy as np

    firsts, seconds = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for top in range(0, len(words), _BLOCK):
        rows = words[top : top + _BLOCK, None]
        for left in range(top, len(words), _BLOCK):
            i, j = np.nonzero(np.bitwise_count(rows ^ words[None, left : left + _BLOCK]) <= within)
            once = top + i < left + j
            firsts.append(top + i[once])
            seconds.append(left + j[once])
    return np.concatenate(firsts), np.concatenate(seconds)


def _by_bands(words: NDArray[np.uint64], within: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Near pairs of many hashes: of four bands of 16 bits, one differs by at most a quarter of `within`.

    Multi-index hashing (Norouzi, Punjani and Fleet, 2012): for each band and each pattern of so few bits,
    the pairs whose bands differ by just that pattern are looked up in the sorted bands, then compared whole.
    """
    import numpy as np

    flips = [f for f in range(1 << _BAND) if f.bit_count() <= within // _BANDS]
    count = len(words)
    keys: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for band in range(_BANDS):
        part = (words >> np.uint64(_BAND * band)).astype(np.int64) & ((1 << _BAND) - 1)
        order = np.argsort(part, kind="stable")
        sizes = np.bincount(part, minlength=1 << _BAND)
        begins = np.cumsum(sizes) - sizes
        for flip in flips:
            wanted = part ^ flip
            lengths = sizes[wanted]
            for low, high in _portions(lengths):
                many = lengths[low:high]
                first = np.repeat(np.arange(low, high), many)
                within_run = np.arange(len(first)) - np.repeat(np.cumsum(many) - many, many)
                second = order[np.repeat(begins[wanted[low:high]], many) + within_run]
                near = (first < second) & (np.bitwise_count(words[first] ^ words[second]) <= within)
                keys.append(first[near] * count + second[near])
    found = np.unique(np.concatenate(keys))
    return found // count, found % count


def _portions(lengths: NDArray[np.int64]) -> Iterable[tuple[int, int]]:
    """Ranges whose lengths sum up to a bounded number, or a single one: memory stays small."""
    import numpy as np

    ends = np.cumsum(lengths)
    low = 0
    while low < len(lengths):
        before = int(ends[low - 1]) if low else 0
        high = max(low + 1, int(np.searchsorted(ends, before + _PORTION, side="right")))
        yield low, high
        low = high


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
        apart: names of sets of pictures that a person said are not duplicates; two that share one are never
            joined.
    """

    path: str
    hash: int
    width: int
    height: int
    sharpness: float | None = None
    size: int = 0
    apart: frozenset[str] = frozenset()


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


def why_kept(group: Group) -> str:
    """Why the one to keep is proposed, in a few words: what sets it apart from the next best."""
    keep, rival = group.keep, group.others[0]
    if keep.width * keep.height > rival.width * rival.height:
        return "the largest"
    if (keep.sharpness or 0.0) > (rival.sharpness or 0.0):
        return "as large, and sharper"
    if keep.size > rival.size:
        return "as large and sharp, a larger file"
    return "no better, but first by name"


def groups(candidates: Sequence[Candidate], within: int = SAME, review: int = REVIEW) -> list[Group]:
    """Groups of near-duplicates: sure ones first, then those to review; nothing is done to them.

    Sure groups join pictures within `within` bits. Pictures that are in no sure group together but within
    `review` bits make groups to review. Two that a person said are no duplicates are not joined directly.
    """
    # one of each hash: a thousand frames of one colour are one hash, not half a million pairs
    alike: dict[tuple[int, int], list[int]] = {}
    for index, candidate in enumerate(candidates):
        alike.setdefault((candidate.hash, index if candidate.apart else -1), []).append(index)
    members = list(alike.values())
    apart = [candidates[same[0]].apart for same in members]
    pairs = [p for p in near_pairs([h for h, _ in alike], review) if not apart[p.first] & apart[p.second]]
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
