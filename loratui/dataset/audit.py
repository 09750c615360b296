"""What is wrong with the captions of a data set, each finding with its pictures and a fix where one is safe.

Tokens that stand beside the trigger in most captions fuse with it: the trained word then means both. They are
found as runs of one to three words inside the parts between commas.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from loratui.dataset.tags import detect_kind, fold, split, split_caption
from loratui.errors import Severity

CRITICAL, WARNING, INFO = 0.85, 0.60, 0.35
"""Share of the captions with the trigger that also hold the token."""
SIMILAR, LENGTH_Z, TOKENS = 0.9, 2.0, 75
_FEWEST = 4
"""Fewer captions than this say nothing about shares and lengths."""
_COMMON = frozenset(
    {"a", "an", "the", "of", "in", "on", "at", "with", "and", "is", "are", "to", "by", "for", "from"}
)
_WORD = re.compile(r"[^\s,.;:!?\"()\[\]{}]+")


@dataclass(frozen=True, slots=True)
class Text:
    """A caption to audit.

    Attributes:
        path: of the picture, as the findings name it.
        caption: the text, empty when there is none.
        exists: whether there is a caption file.
        encoding: how the file was read (`utf-8`, `utf-8-sig`, `cp1252`...).
    """

    path: str
    caption: str
    exists: bool = True
    encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to look at.

    Attributes:
        code: short name in kebab-case.
        severity: error, warning or info.
        message: one sentence.
        paths: the pictures it is about.
        subject: the token, the tag or the misspelt trigger; empty when there is none.
        share: how many of the captions it is about, 0 to 1, where that matters.
        fix: a batch edit that mends it, as `loratui edit` takes it; empty when a person must decide.
    """

    code: str
    severity: Severity
    message: str
    paths: tuple[str, ...]
    subject: str = ""
    share: float = 0.0
    fix: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """The finding as plain JSON."""
        return {**asdict(self), "paths": list(self.paths), "fix": list(self.fix)}


def audit(
    texts: Sequence[Text], trigger: str = "", count_tokens: Callable[[str], int] | None = None
) -> list[Finding]:
    """All findings on captions, the worst first.

    Args:
        texts: all captions of the set.
        trigger: the project's trigger, empty for none.
        count_tokens: counts CLIP tokens without start and end; left out, lengths in tokens are not judged.
    """
    filled = [t for t in texts if t.caption.strip()]
    found = [*_files(texts), *_twice(filled), *_identical(filled, trigger)]
    found += [*_similar(filled), *_lengths(filled)]
    if trigger:
        found += _trigger(filled, trigger)
        found += _fused(filled, trigger)
    if count_tokens is not None:
        found += _tokens(filled, count_tokens)
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(found, key=lambda f: (order[f.severity], -f.share, f.code))


OF_CAPTIONS = frozenset(
    {"missing-caption", "empty-caption", "caption-bom", "caption-not-utf8", "duplicate-tags"}
    | {"identical-captions", "similar-captions", "short-caption", "long-caption", "too-many-tokens"}
    | {"trigger-missing", "trigger-misspelt", "trigger-position", "fused-token"}
)
"""Codes that another caption may take away."""


def audit_each(
    texts: Sequence[Text], trigger: str = "", count_tokens: Callable[[str], int] | None = None
) -> dict[str, tuple[str, ...]]:
    """Codes of what is wrong with each caption by itself, by path; what the others say is not looked at.

    Args:
        texts: the captions, some or all of a set.
        trigger: as `audit`.
        count_tokens: as `audit`.
    """
    filled = [t for t in texts if t.caption.strip()]
    found = [*_files(texts), *_twice(filled)]
    found += [f for f in _trigger(filled, trigger) if f.code != "trigger-position"] if trigger else []
    found += _tokens(filled, count_tokens) if count_tokens is not None else []
    codes: dict[str, tuple[str, ...]] = {t.path: () for t in texts}
    for finding in found:
        for path in finding.paths:
            codes[path] = (*codes[path], finding.code)
    return codes


def _files(texts: Sequence[Text]) -> list[Finding]:
    bom = {"utf-8-sig", "utf-16-le", "utf-16-be"}
    missing = [t.path for t in texts if not t.exists]
    empty = [t.path for t in texts if t.exists and not t.caption.strip()]
    marked = [t.path for t in texts if t.encoding == "utf-8-sig"]
    other = [
        t.path for t in texts if t.encoding not in {"utf-8", "ascii", *bom} or t.encoding.startswith("utf-16")
    ]
    rows: list[tuple[str, Severity, str, list[str], tuple[str, ...]]] = [
        ("missing-caption", "warning", "have no caption file.", missing, ()),
        ("empty-caption", "warning", "have an empty caption; some trainers stop at it.", empty, ()),
        ("caption-bom", "warning", "have captions that begin with a byte order mark.", marked, ("strip",)),
        ("caption-not-utf8", "warning", "have captions that are not UTF-8.", other, ("strip",)),
    ]
    return [
        Finding(c, s, f"{len(p)} {m}", tuple(p), share=len(p) / len(texts), fix=x)
        for c, s, m, p, x in rows
        if p
    ]


def _twice(texts: Sequence[Text]) -> list[Finding]:
    """Lists of tags that hold a tag more than once in a line."""
    paths = []
    for text in texts:
        if detect_kind(text.caption) == "tags":
            lines = [[fold(tag) for tag in split(line)] for line in text.caption.split("\n")]
            if any(len(set(tags)) < len(tags) for tags in lines):
                paths.append(text.path)
    message = f"{len(paths)} captions hold a tag more than once."
    share = len(paths) / max(1, len(texts))
    found = Finding("duplicate-tags", "warning", message, tuple(paths), share=share, fix=("dedupe",))
    return [found] if paths else []


def _identical(texts: Sequence[Text], trigger: str) -> list[Finding]:
    same: defaultdict[str, list[Text]] = defaultdict(list)
    for text in texts:
        same[fold(text.caption.strip())].append(text)
    out = []
    for caption, alike in same.items():
        if len(alike) < 2:
            continue
        paths = [text.path for text in alike]
        bare = bool(trigger) and caption == fold(trigger)
        words = " ".join(alike[0].caption.split())
        shown = "the trigger alone." if bare else f"'{words[:47]}…'" if len(words) > 48 else f"'{words}'"
        message = f"{len(paths)} captions are the same: {shown}"
        severity: Severity = "info" if bare else "warning"
        out.append(
            Finding(
                "identical-captions", severity, message, tuple(paths), caption[:80], len(paths) / len(texts)
            )
        )
    return out


def _similar(texts: Sequence[Text]) -> list[Finding]:
    """Different captions whose sets of tags (or words, in prose) overlap by nine tenths."""
    sets: dict[frozenset[str], list[str]] = {}
    for text in texts:
        tags = (
            split_caption(text.caption)
            if detect_kind(text.caption) == "tags"
            else _WORD.findall(text.caption)
        )
        sets.setdefault(frozenset(fold(t) for t in tags), []).append(text.path)
    keys = [k for k in sets if len(k) >= 5]
    frequency = Counter(x for k in keys for x in k)
    # prefix filtering: sets that overlap so much share one of their rarest few
    index: defaultdict[str, list[int]] = defaultdict(list)
    out = []
    for number, key in enumerate(keys):
        rarest = sorted(key, key=lambda x: (frequency[x], x))
        prefix = rarest[: len(key) - math.ceil(SIMILAR * len(key)) + 1]
        for other in sorted({i for x in prefix for i in index[x]}):
            mine, theirs = key, keys[other]
            overlap = len(mine & theirs) / len(mine | theirs)
            if overlap >= SIMILAR:
                paths = (sets[theirs][0], sets[mine][0])
                out.append(
                    Finding(
                        "similar-captions",
                        "info",
                        f"Two captions overlap by {overlap:.0%}.",
                        paths,
                        share=overlap,
                    )
                )
        for x in prefix:
            index[x].append(number)
    return out


def _lengths(texts: Sequence[Text]) -> list[Finding]:
    lengths = [len(_WORD.findall(t.caption)) for t in texts]
    if len(lengths) < _FEWEST:
        return []
    mean = sum(lengths) / len(lengths)
    deviation = math.sqrt(sum((n - mean) ** 2 for n in lengths) / len(lengths))
    if deviation == 0:
        return []
    out = []
    for word, sign in (("short", -1), ("long", 1)):
        paths = [
            t.path for t, n in zip(texts, lengths, strict=True) if sign * (n - mean) / deviation >= LENGTH_Z
        ]
        if paths:
            message = f"{len(paths)} captions are unusually {word} (the average has {mean:.0f} words)."
            out.append(
                Finding(f"{word}-caption", "info", message, tuple(paths), share=len(paths) / len(texts))
            )
    return out


def _tokens(texts: Sequence[Text], count: Callable[[str], int]) -> list[Finding]:
    paths = [t.path for t in texts if any(count(line) > TOKENS for line in t.caption.split("\n"))]
    if not paths:
        return []
    message = f"{len(paths)} captions have more than {TOKENS} CLIP tokens: the rest is not read."
    return [Finding("too-many-tokens", "warning", message, tuple(paths), share=len(paths) / len(texts))]


def _place(caption: str, trigger: str) -> int:
    """Index of the word the trigger begins at in a caption, -1 when it is not there."""
    words = [fold(w) for w in _WORD.findall(caption)]
    wanted = [fold(w) for w in _WORD.findall(trigger)]
    for i in range(len(words) - len(wanted) + 1):
        if wanted and words[i : i + len(wanted)] == wanted:
            return i
    return -1


def _trigger(texts: Sequence[Text], trigger: str) -> list[Finding]:
    if not texts:
        return []
    places = {t.path: _place(t.caption, trigger) for t in texts}
    out = []
    near: defaultdict[str, list[str]] = defaultdict(list)
    missing = []
    for text in texts:
        if places[text.path] >= 0:
            continue
        spelling = _misspelt(text.caption, trigger)
        if spelling:
            near[spelling].append(text.path)
        else:
            missing.append(text.path)
    for spelling, paths in near.items():
        message = f"{len(paths)} captions say {spelling!r}, which may be the trigger {trigger!r} misspelt."
        share = len(paths) / len(texts)
        out.append(Finding("trigger-misspelt", "warning", message, tuple(paths), spelling, share))
    if missing:
        share = len(missing) / len(texts)
        severity: Severity = "error" if share > 0.5 else "warning"
        message = f"{len(missing)} captions lack the trigger {trigger!r}."
        fix = ("trigger-first", trigger)
        out.append(Finding("trigger-missing", severity, message, tuple(missing), trigger, share, fix))
    return out + _positions(texts, places, trigger)


def _positions(texts: Sequence[Text], places: dict[str, int], trigger: str) -> list[Finding]:
    """Where most captions have the trigger at one place, those that do not."""
    known = Counter(p for p in places.values() if p >= 0)
    if len(known) < 2:
        return []
    usual, _ = max(known.items(), key=lambda kv: (kv[1], -kv[0]))
    paths = tuple(t.path for t in texts if places[t.path] not in (-1, usual))
    where = "first" if usual == 0 else f"word {usual + 1}"
    message = f"{len(paths)} captions have the trigger elsewhere than the others ({where})."
    fix = ("trigger-first", trigger) if usual == 0 else ()
    return [Finding("trigger-position", "info", message, paths, trigger, len(paths) / len(texts), fix)]


def _misspelt(caption: str, trigger: str) -> str:
    """A tag or word one or two edits away from the trigger, empty when there is none."""
    wanted = fold(trigger)
    limit = 1 if len(wanted) <= 4 else 2
    for word in [*(fold(x) for x in split_caption(caption)), *(fold(x) for x in _WORD.findall(caption))]:
        if word in _COMMON or abs(len(word) - len(wanted)) > limit or len(wanted) < 3:
            continue
        if 0 < edit_distance(word, wanted, limit) <= limit:
            return word
    return ""


def edit_distance(one: str, other: str, limit: int) -> int:
    """Optimal string alignment distance (a swap of neighbours is one edit); `limit` + 1 when larger."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        new = [i]
        for j, b in enumerate(other, 1):
            cost = min(row[j] + 1, new[j - 1] + 1, row[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            new.append(cost)
        if min(new) > limit:
            return limit + 1
        before, row = row, new
    return min(row[-1], limit + 1)


def grams(caption: str, longest: int = 3) -> set[str]:
    """Runs of one to `longest` words inside the parts between commas and lines, case-folded."""
    out: set[str] = set()
    for line in caption.split("\n"):
        for part in split(line):
            words = [fold(w) for w in _WORD.findall(part)]
            for size in range(1, longest + 1):
                for i in range(len(words) - size + 1):
                    run = words[i : i + size]
                    if run[0] not in _COMMON and run[-1] not in _COMMON:
                        out.add(" ".join(run))
    return out


def _fused(texts: Sequence[Text], trigger: str) -> list[Finding]:
    with_trigger = [t for t in texts if _place(t.caption, trigger) >= 0]
    if len(with_trigger) < _FEWEST:
        return []
    own = set(fold(trigger).split())
    frequency: Counter[str] = Counter()
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for text in with_trigger:
        for gram in grams(text.caption):
            if not own & set(gram.split()):
                frequency[gram] += 1
                holders[gram].append(text.path)
    total = len(with_trigger)
    kept = {g: n for g, n in frequency.items() if n / total >= INFO}
    # a run is named by its longest form: parts that stand nowhere else say nothing more
    redundant = {part for gram in kept for part in _parts(gram) if part in kept and kept[part] == kept[gram]}
    out = []
    for gram, count in sorted(kept.items(), key=lambda kv: (-kv[1], kv[0])):
        if gram in redundant:
            continue
        share = count / total
        severity: Severity = "error" if share >= CRITICAL else "warning" if share >= WARNING else "info"
        message = (
            f"{gram!r} stands in {share:.0%} of the captions with the trigger: the two will mean the same."
        )
        out.append(Finding("fused-token", severity, message, tuple(holders[gram]), gram, share))
    return out


def _parts(gram: str) -> Iterable[str]:
    words = gram.split()
    for size in range(1, len(words)):
        for i in range(len(words) - size + 1):
            yield " ".join(words[i : i + size])
