"""Operations on captions: pure functions from a caption to a caption, with a reason when one is left alone.

Operations on tags work on each line by itself, because trainers use the lines of a caption as alternatives.
They leave prose alone: a sentence is no list of tags. Tags are compared whole and without case.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from loratui.dataset import tags as t
from loratui.dataset.tags import Kind, fold, join, split

PROSE = "prose, not a list of tags"


@dataclass(frozen=True, slots=True)
class Edited:
    """What an operation makes of one caption.

    Attributes:
        text: the caption afterwards, the same as before when `reason` is set.
        reason: why it was left alone; empty when it was changed.
    """

    text: str
    reason: str = ""


class Operation:
    """One batch edit. Immutable; `prepare` may return a copy that knows the captions it will work on."""

    label: ClassVar[str] = ""
    needs_tags: ClassVar[bool] = True
    nothing: ClassVar[str] = "nothing to change"
    normalises: ClassVar[bool] = False
    """Whether the file becomes plain UTF-8 with one line end, whatever it was."""

    def prepare(self, captions: Iterable[str]) -> Operation:
        """The operation with what it needs to know of all captions (frequencies, for one)."""
        return self

    def apply(self, caption: str, kind: Kind) -> Edited:
        """The caption after the operation, or the reason for leaving it."""
        if self.needs_tags and kind == "prose":
            return Edited(caption, PROSE)
        text = self.change(caption)
        return Edited(text) if text != caption else Edited(caption, self.nothing)

    def change(self, caption: str) -> str:
        """The whole caption; by default each line by itself, an empty caption as one empty line."""
        lines = caption.split("\n")
        return "\n".join(self._line(line) for line in lines)

    def _line(self, line: str) -> str:
        before = split(line)
        after = self.change_tags(before)
        return line if after == before else join(after)

    def change_tags(self, tags: list[str]) -> list[str]:
        """The tags of one line afterwards."""
        raise NotImplementedError

    def describe(self) -> str:
        """One line for the log of changes."""
        return self.label


@dataclass(frozen=True)
class Add(Operation):
    """Add tags that are not there yet, at `position`: -1 last, 0 first, or so many tags in."""

    label = "add"
    nothing = "already there"
    tags: tuple[str, ...]
    position: int = -1

    def change_tags(self, tags: list[str]) -> list[str]:
        have = {fold(x) for x in tags}
        new = [x for x in self.tags if fold(x) not in have]
        at = len(tags) if self.position < 0 else min(self.position, len(tags))
        return [*tags[:at], *new, *tags[at:]]

    def describe(self) -> str:
        place = "last" if self.position < 0 else "first" if self.position == 0 else f"at {self.position}"
        return f"add {join(self.tags)} {place}"


@dataclass(frozen=True)
class Remove(Operation):
    """Remove tags that match one of the wildcard patterns."""

    label = "remove"
    nothing = "tag not found"
    patterns: tuple[str, ...]

    def change_tags(self, tags: list[str]) -> list[str]:
        return [x for x in tags if not any(t.matches(p, x) for p in self.patterns)]

    def describe(self) -> str:
        return f"remove {join(self.patterns)}"


@dataclass(frozen=True)
class Rename(Operation):
    """Rename each tag that matches a wildcard pattern; where the new name is there already, drop the old."""

    label = "rename"
    nothing = "tag not found"
    old: str
    new: str

    def change_tags(self, tags: list[str]) -> list[str]:
        hits = [t.matches(self.old, x) for x in tags]
        if not any(hits):
            return tags
        kept = {fold(x) for x, hit in zip(tags, hits, strict=True) if not hit}
        out: list[str] = []
        for tag, hit in zip(tags, hits, strict=True):
            if not hit:
                out.append(tag)
            elif fold(self.new) not in kept:
                kept.add(fold(self.new))
                out.append(self.new)
        return out

    def describe(self) -> str:
        return f"rename {self.old} to {self.new}"


@dataclass(frozen=True)
class Replace(Operation):
    """Replace a piece of text wherever it stands, case minded; prose too."""

    label = "replace"
    needs_tags = False
    nothing = "text not found"
    old: str
    new: str

    def change(self, caption: str) -> str:
        return _tidied(caption, caption.replace(self.old, self.new))

    def describe(self) -> str:
        return f"replace {self.old!r} by {self.new!r}"


@dataclass(frozen=True)
class RegexReplace(Operation):
    r"""Replace what a regular expression matches; `\1` and `\g<name>` in the new text; prose too."""

    label = "re"
    needs_tags = False
    nothing = "no match"
    pattern: str
    new: str

    def change(self, caption: str) -> str:
        return _tidied(caption, re.sub(self.pattern, self.new, caption))

    def describe(self) -> str:
        return f"re {self.pattern!r} by {self.new!r}"


@dataclass(frozen=True)
class Sort(Operation):
    """Sort tags by `name`, by `frequency` (most frequent first) or as in a `list`; `keep` first ones stay."""

    label = "sort"
    nothing = "already in order"
    by: str = "name"
    order: tuple[str, ...] = ()
    keep: int = 0
    counts: tuple[tuple[str, int], ...] = ()

    def prepare(self, captions: Iterable[str]) -> Operation:
        if self.by != "frequency":
            return self
        return replace(self, counts=tuple((fold(k), n) for k, n in t.frequencies(captions).items()))

    def change_tags(self, tags: list[str]) -> list[str]:
        return [*tags[: self.keep], *sorted(tags[self.keep :], key=self._key())]

    def _key(self) -> Callable[[str], tuple[float, str]]:
        if self.by == "frequency":
            counts = dict(self.counts)
            return lambda x: (-counts.get(fold(x), 0), fold(x))
        if self.by == "list":
            places = {fold(x): i for i, x in enumerate(self.order)}
            return lambda x: (places.get(fold(x), len(places)), "")
        return lambda x: (0, fold(x))

    def describe(self) -> str:
        return f"sort by {self.by}" + (f", first {self.keep} stay" if self.keep else "")


@dataclass(frozen=True)
class Dedupe(Operation):
    """Keep the first of tags that are the same but for case and underscores."""

    label = "dedupe"
    nothing = "no tag twice"

    def change_tags(self, tags: list[str]) -> list[str]:
        first: dict[str, str] = {}
        for tag in tags:
            first.setdefault(fold(tag).replace("_", " "), tag)
        return list(first.values())


@dataclass(frozen=True)
class TriggerFirst(Operation):
    """Move the trigger to the front; add it where it is missing unless `add` is off."""

    label = "trigger-first"
    nothing = "trigger already first"
    trigger: str
    add: bool = True

    def apply(self, caption: str, kind: Kind) -> Edited:
        if kind == "prose":
            if fold(caption).startswith(fold(self.trigger)):
                return Edited(caption, self.nothing)
            return Edited(caption, PROSE + "; use prefix")
        if not self.add and all(fold(x) != fold(self.trigger) for x in t.split_caption(caption)):
            return Edited(caption, "trigger not in it")
        return super().apply(caption, kind)

    def change_tags(self, tags: list[str]) -> list[str]:
        key = fold(self.trigger)
        if tags and fold(tags[0]) == key:
            return tags
        if not self.add and all(fold(x) != key for x in tags):
            return tags
        return [self.trigger, *(x for x in tags if fold(x) != key)]

    def describe(self) -> str:
        return f"trigger-first {self.trigger}"


@dataclass(frozen=True)
class Prefix(Operation):
    """Put text before each line, as it is; prose too."""

    label = "prefix"
    needs_tags = False
    nothing = "already begins so"
    text: str

    def change(self, caption: str) -> str:
        if not caption.strip():
            return self.text.strip().rstrip(",").rstrip()
        return "\n".join(x if x.startswith(self.text) else self.text + x for x in caption.split("\n"))

    def describe(self) -> str:
        return f"prefix {self.text!r}"


@dataclass(frozen=True)
class Suffix(Operation):
    """Put text after each line, as it is; prose too."""

    label = "suffix"
    needs_tags = False
    nothing = "already ends so"
    text: str

    def change(self, caption: str) -> str:
        if not caption.strip():
            return self.text.strip().lstrip(",").lstrip()
        return "\n".join(x if x.endswith(self.text) else x + self.text for x in caption.split("\n"))

    def describe(self) -> str:
        return f"suffix {self.text!r}"


@dataclass(frozen=True)
class Spaces(Operation):
    """Turn underscores of tags into spaces, but not those of faces such as `>_<`."""

    label = "spaces"
    nothing = "no underscores"

    def change_tags(self, tags: list[str]) -> list[str]:
        return [t.underscores_to_spaces(x) for x in tags]


@dataclass(frozen=True)
class Strip(Operation):
    """Normalise: no outer or doubled white space, no empty tags, no BOM or control characters; prose too.

    The file becomes UTF-8 without BOM.
    """

    label = "strip"
    normalises = True
    needs_tags = False
    nothing = "already clean"

    def apply(self, caption: str, kind: Kind) -> Edited:
        lines = []
        for raw in caption.split("\n"):
            line = "".join(
                " " if c == "\t" else c for c in raw if c == "\t" or (c >= " " and c not in "\x7f\ufeff")
            )
            line = re.sub(r"\s+", " ", line).strip()
            if kind == "tags":
                line = join(split(line))
            if line:
                lines.append(line)
        text = "\n".join(lines)
        return Edited(text) if text != caption else Edited(caption, self.nothing)


@dataclass(frozen=True)
class Set(Operation):
    """Put this caption in the place of whatever is there."""

    label = "set"
    needs_tags = False
    nothing = "already so"
    text: str

    def change(self, caption: str) -> str:
        return self.text

    def describe(self) -> str:
        return f"set {self.text!r}"


@dataclass(frozen=True)
class Clear(Operation):
    """Take the caption away (the file too: an empty one stops some trainers)."""

    label = "clear"
    needs_tags = False
    nothing = "already empty"

    def change(self, caption: str) -> str:
        return ""


@dataclass(frozen=True)
class Imply(Operation):
    """Add what tags imply and drop banned ones, by rules of a file (see `parse_rules`)."""

    label = "imply"
    nothing = "no rule applies"
    rules: Rules

    def change_tags(self, tags: list[str]) -> list[str]:
        out = [x for x in tags if not any(t.matches(p, x) for p in self.rules.bans)]
        have = {fold(x) for x in out}
        queue = list(out)
        for tag in queue:  # grows while it is walked: what is implied may imply more
            for new in self.rules.implied(tag):
                banned = any(t.matches(p, new) for p in self.rules.bans)
                if fold(new) not in have and not banned:
                    have.add(fold(new))
                    out.append(new)
                    queue.append(new)
        return out


@dataclass(frozen=True)
class SplitLines(Operation):
    """Break the caption into lines at each `separator`."""

    label = "split-lines"
    needs_tags = False
    nothing = "separator not found"
    separator: str = ". "

    def change(self, caption: str) -> str:
        parts = [p.strip() for line in caption.split("\n") for p in line.split(self.separator)]
        return "\n".join(p for p in parts if p) if self.separator in caption else caption


@dataclass(frozen=True)
class JoinLines(Operation):
    """Make one line of all, with `separator` between them."""

    label = "join-lines"
    needs_tags = False
    nothing = "one line already"
    separator: str = ", "

    def change(self, caption: str) -> str:
        parts = [p for line in caption.split("\n") if (p := line.strip().rstrip(",").rstrip())]
        return self.separator.join(parts) if len(parts) > 1 else caption


def _tidied(before: str, after: str) -> str:
    """Without the `, ,` and the loose ends that a replacement by nothing leaves; untouched text stays."""
    if after == before:
        return before
    lines = []
    for line in after.split("\n"):
        tidy = re.sub(r"(?:\s*,){2,}", ",", line)
        lines.append(re.sub(r"  +", " ", tidy).strip().strip(",").strip())
    return "\n".join(lines)


@dataclass(frozen=True)
class Rules:
    """Tag implications (`pattern -> tags`) and bans (patterns)."""

    implications: tuple[tuple[str, tuple[str, ...]], ...] = ()
    bans: tuple[str, ...] = ()

    def implied(self, tag: str) -> list[str]:
        """What this tag implies directly."""
        return [new for pattern, news in self.implications if t.matches(pattern, tag) for new in news]


def describe_counts(reasons: Sequence[str]) -> str:
    """`12 already there, 3 prose, not a list of tags` in order of frequency."""
    return "; ".join(f"{n} {reason}" for reason, n in Counter(r for r in reasons if r).most_common())
