"""From a filter's tree to a fast test of rows."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from loratui.dataset.query.nodes import FIELDS, And, Node, Not, Or, Term
from loratui.dataset.tags import fold, glob_pattern


class Row(Protocol):
    """What the filter reads of a picture; None where a value is not known yet.

    `tag_list` holds the tags in order; the other names are those of the fields.
    """

    @property
    def path(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def caption(self) -> str: ...
    @property
    def tag_list(self) -> Sequence[str]: ...
    @property
    def source(self) -> str: ...
    @property
    def bucket(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def problems(self) -> Sequence[str]: ...
    @property
    def tokens(self) -> int | None: ...
    @property
    def width(self) -> int | None: ...
    @property
    def height(self) -> int | None: ...
    @property
    def size(self) -> int | None: ...
    @property
    def score(self) -> float | None: ...
    @property
    def stars(self) -> int | None: ...
    @property
    def weight(self) -> float: ...
    @property
    def repeats(self) -> int | None: ...
    @property
    def dup(self) -> int | None: ...
    @property
    def sharpness(self) -> float | None: ...
    @property
    def face(self) -> float | None: ...
    @property
    def blur(self) -> bool: ...
    @property
    def mask(self) -> object: ...
    @property
    def framed(self) -> bool: ...
    @property
    def edited(self) -> bool: ...
    @property
    def pinned(self) -> bool: ...
    @property
    def marked(self) -> bool: ...


RowT = TypeVar("RowT", bound=Row)
Test = Callable[[Any], bool]
EQUAL_WITHIN = 0.005
"""Two values of a fractional field are equal when they differ by at most this."""


def _product(row: Row) -> int | None:
    return None if row.width is None or row.height is None else row.width * row.height


def _side(row: Row) -> int | None:
    return None if row.width is None or row.height is None else min(row.width, row.height)


def _aspect(row: Row) -> float | None:
    return None if row.width is None or not row.height else row.width / row.height


def _megapixels(row: Row) -> float | None:
    area = _product(row)
    return None if area is None else area / 1e6


def _captioned(row: Row) -> bool:
    return bool(row.caption.strip())


def _problems(row: Any) -> tuple[str, ...]:
    """Those known of the picture, and those of the last audit where there was one."""
    return (*row.problems, *getattr(row, "audited", ()))


def _buckets(row: Row) -> list[str]:
    return row.bucket.split()


VALUES: dict[str, Callable[[Any], Any]] = {
    **{name: operator.attrgetter(name) for name in FIELDS if name not in {"tag", "problem"}},
    "tags": lambda row: len(row.tag_list),
    "chars": lambda row: len(row.caption),
    "area": _product,
    "side": _side,
    "aspect": _aspect,
    "megapixels": _megapixels,
    "captioned": _captioned,
    "tag": operator.attrgetter("tag_list"),
    "problem": _problems,
    "bucket": _buckets,
}
"""Field -> what it reads of a row."""


def compile_query(node: Node) -> Test:
    """A function that tells whether a row is selected."""
    if isinstance(node, Not):
        inner = compile_query(node.part)
        return lambda row: not inner(row)
    if isinstance(node, And):
        every = [compile_query(p) for p in node.parts]
        return lambda row: all(test(row) for test in every)
    if isinstance(node, Or):
        some = [compile_query(p) for p in node.parts]
        return lambda row: any(test(row) for test in some)
    return _term_test(node)


def select(node: Node, rows: Iterable[RowT]) -> list[RowT]:
    """The rows a filter selects, in their order."""
    test = compile_query(node)
    return [row for row in rows if test(row)]


def _term_test(term: Term) -> Test:
    if not term.field:
        found = _text_test(term, whole=False)
        return lambda row: found(row.caption) or found(row.path)
    field = FIELDS[term.field]
    read = VALUES[field.name]
    if term.op == "is":
        wanted = bool(term.value)
        return lambda row: bool(read(row)) is wanted
    if field.kind == "number":
        compare = _number_test(term, field.exact)
        return lambda row: (value := read(row)) is not None and compare(value)
    found = _text_test(term, whole=field.kind in {"tag", "whole", "codes"})
    if field.kind in {"tag", "codes"}:
        return lambda row: any(found(item) for item in read(row))
    return lambda row: found(read(row))


def _number_test(term: Term, exact: bool) -> Callable[[float], bool]:
    wanted = float(term.value)
    if not exact and term.op in {"=", "!="}:
        if term.op == "=":
            return lambda value: abs(value - wanted) <= EQUAL_WITHIN
        return lambda value: abs(value - wanted) > EQUAL_WITHIN
    compare: Callable[[float, float], bool] = {
        "=": operator.eq,
        "!=": operator.ne,
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }[term.op]
    return lambda value: compare(value, wanted)


def _text_test(term: Term, whole: bool) -> Callable[[str], bool]:
    value = str(term.value)
    if term.op == "exact":
        return (lambda text: text == value) if whole else (lambda text: value in text)
    if term.op == "re":
        search = re.compile(value, re.IGNORECASE).search
        return lambda text: search(text) is not None
    if not re.search(r"[*?\\]", value):
        plain = fold(value)
        return (lambda text: fold(text) == plain) if whole else (lambda text: plain in fold(text))
    pattern = glob_pattern(value)
    if whole:
        return lambda text: pattern.fullmatch(fold(text)) is not None
    return lambda text: pattern.search(fold(text)) is not None
