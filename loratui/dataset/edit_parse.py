"""Batch edits as people type them: `add "long hair" first`, and files of tag rules."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loratui.dataset import edits as e
from loratui.dataset.tags import split
from loratui.errors import DatasetError


@dataclass(frozen=True, slots=True)
class OperationSpec:
    """A row of the table of operations, for help, palette and completion.

    Attributes:
        name: as typed.
        usage: its arguments.
        help: one line.
        build: makes the operation from arguments and the project's trigger.
    """

    name: str
    usage: str
    help: str
    build: Callable[[Sequence[str], str], e.Operation]


def parse_operation(name: str, arguments: Sequence[str], trigger: str = "") -> e.Operation:
    """The operation of a command line.

    Raises:
        DatasetError: no such operation, or arguments it cannot use.
    """
    spec = OPERATIONS.get(name)
    if spec is None:
        near = difflib.get_close_matches(name, list(OPERATIONS), n=1, cutoff=0.5)
        advice = f"Did you mean {near[0]} ?" if near else f"There are: {', '.join(OPERATIONS)}."
        raise DatasetError(f"There is no edit called {name}.", advice)
    try:
        return spec.build(list(arguments), trigger)
    except _UsageError as error:
        raise DatasetError(f"{name}: {error}", f"Use: {name} {spec.usage}".rstrip() + ".") from None


class _UsageError(Exception):
    """Arguments an operation cannot use."""


def _take(arguments: Sequence[str], low: int, high: int) -> list[str]:
    if not low <= len(arguments) <= high:
        wanted = str(low) if low == high else f"{low} to {high}"
        raise _UsageError(f"takes {wanted} argument{'' if wanted == '1' else 's'}, not {len(arguments)}.")
    return list(arguments)


def _tags(text: str) -> tuple[str, ...]:
    found = tuple(split(text))
    if not found:
        raise _UsageError("needs at least one tag.")
    return found


def _number(text: str, what: str) -> int:
    if not re.fullmatch(r"\d{1,6}", text):
        raise _UsageError(f"{what} is a count such as 2, not {text!r}.")
    return int(text)


def _add(arguments: Sequence[str], trigger: str) -> e.Operation:
    found = _take(arguments, 1, 2)
    place = found[1].lower() if len(found) == 2 else "last"
    position = {"first": 0, "last": -1}.get(place)
    return e.Add(_tags(found[0]), _number(place, "the place") if position is None else position)


def _remove(arguments: Sequence[str], trigger: str) -> e.Operation:
    return e.Remove(tuple(x for a in _take(arguments, 1, 99) for x in _tags(a)))


def _rename(arguments: Sequence[str], trigger: str) -> e.Operation:
    old, new = _take(arguments, 2, 2)
    if len(split(new)) != 1:
        raise _UsageError("the new name is one tag, without commas.")
    return e.Rename(old.strip(), new.strip())


def _replace(arguments: Sequence[str], trigger: str) -> e.Operation:
    old, new = _take(arguments, 2, 2)
    if not old:
        raise _UsageError("the text to replace is empty.")
    return e.Replace(old, new)


def _regex(arguments: Sequence[str], trigger: str) -> e.Operation:
    pattern, new = _take(arguments, 2, 2)
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise _UsageError(f"the regular expression cannot be read: {error}.") from None
    try:
        re.compile(f"(?:{pattern})|").sub(new, "")
    except (re.error, IndexError) as error:
        raise _UsageError(f"the replacement names a group that is not there: {error}.") from None
    return e.RegexReplace(compiled.pattern, new)


def _sort(arguments: Sequence[str], trigger: str) -> e.Operation:
    found = _take(arguments, 0, 3)
    by = found[0] if found else "name"
    if by in {"name", "frequency"}:
        return e.Sort(by, keep=_number(found[1], "the number of first tags to keep") if len(found) > 1 else 0)
    if by != "list" or len(found) < 2:
        raise _UsageError("sorts by name, by frequency, or by list FILE.")
    lines = _read(Path(found[1]), "list of tags").splitlines()
    order = tuple(x for line in lines if not line.startswith("#") for x in split(line)[:1])
    return e.Sort(
        "list", order, _number(found[2], "the number of first tags to keep") if len(found) > 2 else 0
    )


def _trigger_first(arguments: Sequence[str], trigger: str) -> e.Operation:
    found = [a for a in arguments if a != "only-move"]
    word = (_take(found, 0, 1) or [trigger])[0].strip()
    if not word:
        raise _UsageError("the project has no trigger; name one.")
    return e.TriggerFirst(word, add="only-move" not in arguments)


def _text(make: Callable[[str], e.Operation]) -> Callable[[Sequence[str], str], e.Operation]:
    def build(arguments: Sequence[str], trigger: str) -> e.Operation:
        (text,) = _take(arguments, 1, 1)
        if not text:
            raise _UsageError("the text is empty.")
        return make(text.replace("{trigger}", trigger))

    return build


def _plain(make: Callable[[], e.Operation]) -> Callable[[Sequence[str], str], e.Operation]:
    def build(arguments: Sequence[str], trigger: str) -> e.Operation:
        _take(arguments, 0, 0)
        return make()

    return build


def _imply(arguments: Sequence[str], trigger: str) -> e.Operation:
    (name,) = _take(arguments, 1, 1)
    return e.Imply(parse_rules(_read(Path(name), "file of rules"), name))


def _lines(make: Callable[..., e.Operation]) -> Callable[[Sequence[str], str], e.Operation]:
    def build(arguments: Sequence[str], trigger: str) -> e.Operation:
        found = _take(arguments, 0, 1)
        if found and not found[0]:
            raise _UsageError("the separator is empty.")
        return make(*found)

    return build


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DatasetError(
            f"The {what} {path} cannot be read: {why}.", "Check the path and the encoding."
        ) from None


def parse_rules(text: str, where: str = "rules") -> e.Rules:
    """Rules of tags, one a line: `cat ears -> animal ears, ears` implies, `-watermark*` bans, `#` comments.

    Raises:
        DatasetError: with the line.
    """
    implications: list[tuple[str, tuple[str, ...]]] = []
    bans: list[str] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        parts = re.split(r"\s*(?:->|=>)\s*", line)
        if len(parts) == 2 and parts[0] and split(parts[1]):
            implications.append((parts[0], tuple(split(parts[1]))))
        elif len(parts) == 1 and line[0] in "-!" and line[1:].strip():
            bans.append(line[1:].strip())
        else:
            raise DatasetError(
                f"{where}:{number}: this is no rule: {line[:60]}", "Write `a -> b, c` or `-tag`."
            )
    return e.Rules(tuple(implications), tuple(bans))


_ROWS = (
    OperationSpec("add", "TAGS [first|last|N]", "add tags that are not there", _add),
    OperationSpec("remove", "PATTERN...", "remove tags, * and ? allowed", _remove),
    OperationSpec("replace", "OLD NEW", "replace a piece of text, case minded", _replace),
    OperationSpec("re", "REGEX NEW", "replace by regular expression", _regex),
    OperationSpec("rename", "OLD NEW", "rename a tag, * and ? allowed in OLD", _rename),
    OperationSpec("sort", "[name|frequency|list FILE] [KEEP]", "sort tags; the first KEEP stay", _sort),
    OperationSpec("dedupe", "", "drop repeated tags", _plain(e.Dedupe)),
    OperationSpec(
        "trigger-first", "[TRIGGER] [only-move]", "move or add the trigger to the front", _trigger_first
    ),
    OperationSpec("prefix", "TEXT", "put text before; {trigger} is replaced", _text(e.Prefix)),
    OperationSpec("suffix", "TEXT", "put text after; {trigger} is replaced", _text(e.Suffix)),
    OperationSpec("spaces", "", "underscores to spaces, faces excepted", _plain(e.Spaces)),
    OperationSpec("strip", "", "normalise white space and commas", _plain(e.Strip)),
    OperationSpec("set", "TEXT", "set the whole caption; {trigger} is replaced", _text(e.Set)),
    OperationSpec("clear", "", "take the caption away", _plain(e.Clear)),
    OperationSpec("imply", "FILE", "tag implications and bans from a file", _imply),
    OperationSpec("split-lines", "[SEPARATOR]", "break into lines at a separator", _lines(e.SplitLines)),
    OperationSpec("join-lines", "[SEPARATOR]", "make one line of all", _lines(e.JoinLines)),
)
OPERATIONS: dict[str, OperationSpec] = {row.name: row for row in _ROWS}
