"""The filter language: printing and parsing are inverse, a slow evaluator agrees, errors know their place."""

from __future__ import annotations

import re
import time
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loratui
from loratui.dataset.query import (
    FIELDS,
    And,
    Node,
    Not,
    Or,
    QueryError,
    Term,
    compile_query,
    parse,
    parse_sort,
    select,
    sort_rows,
    sort_to_text,
    to_text,
)
from loratui.dataset.query.nodes import PROBLEMS, canonical_glob, canonical_regex, escape_glob


@dataclass
class FakeRow:
    path: str = "dataset/a.png"
    name: str = "a.png"
    caption: str = ""
    tag_list: list[str] = field(default_factory=list)
    source: str = "dataset"
    bucket: str = "512x512"
    kind: str = "tags"
    problems: list[str] = field(default_factory=list)
    tokens: int | None = None
    width: int | None = 512
    height: int | None = 512
    size: int | None = 1000
    score: float | None = None
    stars: int | None = 0
    weight: float = 1.0
    repeats: int | None = 1
    dup: int | None = 0
    sharpness: float | None = None
    face: float | None = None
    blur: bool = False
    mask: bool = False
    framed: bool = False
    edited: bool = False
    pinned: bool = False
    marked: bool = False


def row(caption: str = "", **values: Any) -> FakeRow:
    return FakeRow(caption=caption, tag_list=[t.strip() for t in caption.split(",") if t.strip()], **values)


# --- the slow reference: no regular expressions but the user's, no compilation -----------------------------


def slow_fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def glob_items(pattern: str) -> list[tuple[str, str]]:
    items: list[tuple[str, str]] = []
    i = 0
    while i < len(pattern):
        if pattern[i] == "\\" and i + 1 < len(pattern) and pattern[i + 1] in "*?\\":
            items.append(("lit", pattern[i + 1]))
            i += 2
            continue
        items.append(
            ("star", "") if pattern[i] == "*" else ("one", "") if pattern[i] == "?" else ("lit", pattern[i])
        )
        i += 1
    return items


def slow_glob(pattern: str, text: str) -> bool:
    """Dynamic programming over whole text."""
    reach = {0}
    for kind, char in glob_items(slow_fold(pattern)):
        if kind == "star":
            reach = set(range(min(reach), len(text) + 1)) if reach else set()
        else:
            reach = {i + 1 for i in reach if i < len(text) and (kind == "one" or text[i] == char)}
    return len(text) in reach


def slow_text(term: Term, text: str, whole: bool) -> bool:
    value = str(term.value)
    if term.op == "re":
        return re.search(value, text, re.IGNORECASE) is not None
    if term.op == "exact":
        return text == value if whole else value in text
    return slow_glob(value if whole else f"*{value}*", slow_fold(text))


def slow(node: Node, r: FakeRow) -> bool:
    if isinstance(node, Not):
        return not slow(node.part, r)
    if isinstance(node, And):
        return all(slow(p, r) for p in node.parts)
    if isinstance(node, Or):
        return any(slow(p, r) for p in node.parts)
    if not node.field:
        return slow_text(node, r.caption, False) or slow_text(node, r.path, False)
    if node.field == "tag":
        return any(slow_text(node, t, True) for t in r.tag_list)
    if node.field == "problem":
        return (
            bool(r.problems) == node.value
            if node.op == "is"
            else any(slow_text(node, p, True) for p in r.problems)
        )
    if node.field == "bucket" and node.op != "is":
        return any(slow_text(node, b, True) for b in r.bucket.split())  # one at each resolution
    w, h = r.width, r.height
    derived: dict[str, Any] = {
        "tags": len(r.tag_list),
        "chars": len(r.caption),
        "area": None if w is None or h is None else w * h,
        "megapixels": None if w is None or h is None else w * h / 1e6,
        "side": None if w is None or h is None else min(w, h),
        "aspect": None if w is None or not h else w / h,
        "captioned": r.caption.strip() != "",
    }
    value = derived[node.field] if node.field in derived else getattr(r, node.field)
    if node.op == "is":
        return bool(value) == node.value
    if FIELDS[node.field].kind != "number":
        return slow_text(node, value, FIELDS[node.field].kind == "whole")
    if value is None:
        return False
    near = 0 if FIELDS[node.field].exact else 0.005
    equal = abs(value - node.value) <= near
    return {
        "=": equal,
        "!=": not equal,
        "<": value < node.value,
        "<=": value <= node.value,
        ">": value > node.value,
        ">=": value >= node.value,
    }[node.op]


# --- strategies -------------------------------------------------------------------------------------------

ALPHABET = "abAB é\u0301ß_,.-()\"'\\*?:=<>1 \t[/]\u4e00"
literals = st.one_of(st.text(ALPHABET, max_size=6), st.text("aAb ", max_size=3))  # the short ones meet
globs = st.lists(
    st.one_of(literals.map(escape_glob), st.sampled_from(["*", "?"])), min_size=1, max_size=4
).map("".join)
texts = st.one_of(
    st.tuples(st.just("glob"), globs.filter(bool)),
    st.tuples(st.just("exact"), literals),
    st.tuples(
        st.just("re"), st.sampled_from(["^a", "b$", r"\d+", 'a"b', r"\\", "(a|b)c?", "[^ab]", r"\.", "x y"])
    ),
)
FEW = [
    0,
    1,
    2,
    3,
    5,
    512,
    768,
]  # values of rows and of filters that meet, so that = and <= are put to the test
numbers = st.one_of(
    st.sampled_from(FEW).map(float), st.integers(-5, 3000).map(float), st.floats(-1e6, 1e6, allow_nan=False)
)


@st.composite
def terms(draw: st.DrawFn) -> Term:
    name = draw(st.sampled_from(["", *FIELDS]))
    kind = FIELDS[name].kind if name else "text"
    if kind == "flag":
        return Term(name, "is", draw(st.booleans()))
    if kind == "number":
        if draw(st.integers(0, 5)) == 0:
            return Term(name, "is", draw(st.booleans()))
        return Term(name, draw(st.sampled_from(["=", "!=", "<", "<=", ">", ">="])), draw(numbers))
    if name not in {"", "tag", "kind"} and draw(st.integers(0, 5)) == 0:
        return Term(name, "is", draw(st.booleans()))
    if name == "kind" and draw(st.booleans()):
        return Term(name, "glob", draw(st.sampled_from(["tags", "prose", "t*", "*"])))
    op, value = draw(texts.filter(lambda t: t[0] != "glob") if name == "kind" else texts)
    return Term(name, op, value)


nodes = st.recursive(
    terms(),
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda p: And(tuple(p))),
        st.lists(inner, min_size=2, max_size=3).map(lambda p: Or(tuple(p))),
    ),
    max_leaves=8,
)
maybe = st.one_of(st.none(), st.sampled_from(FEW), st.integers(0, 2000))
rows = st.builds(
    FakeRow,
    path=literals,
    name=literals,
    caption=literals,
    tag_list=st.lists(literals, max_size=3),
    bucket=st.sampled_from(["512x512", "512x768", "512x512 768x768", ""]),
    problems=st.lists(st.sampled_from(["blurry", "a", "b"]), max_size=2),
    tokens=maybe,
    width=maybe,
    height=maybe,
    size=maybe,
    score=st.one_of(st.none(), st.sampled_from([0.0, 0.004, 0.006, 1.0]), st.floats(0, 1)),
    sharpness=st.one_of(st.none(), st.floats(0, 2)),
    face=st.one_of(st.none(), st.sampled_from([0.0, 1.0]), st.floats(0, 1)),
    source=literals,
    kind=st.sampled_from(["tags", "prose"]),
    repeats=st.integers(0, 3),
    stars=st.integers(0, 5),
    weight=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    dup=st.integers(0, 3),
    blur=st.booleans(),
    mask=st.booleans(),
    framed=st.booleans(),
    edited=st.booleans(),
    pinned=st.booleans(),
    marked=st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(nodes)
def test_printing_then_parsing_is_the_identity(node: Node) -> None:
    assert parse(to_text(node)) == node


@settings(max_examples=400, deadline=None)
@given(nodes, st.lists(rows, min_size=1, max_size=4))
def test_evaluator_agrees_with_the_slow_one(node: Node, some: list[FakeRow]) -> None:
    test = compile_query(node)
    assert [test(r) for r in some] == [slow(node, r) for r in some]


@settings(max_examples=400, deadline=None)
@given(st.text(ALPHABET + "tagwidhNOTANDR ", max_size=24))
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    try:
        node = parse(text)
    except QueryError as error:
        assert 0 <= error.position <= len(text)
        assert error.reason and error.pointer().endswith("^")
    else:
        assert parse(to_text(node)) == node


def test_canonical_forms_are_fixed_points() -> None:
    assert canonical_glob("a\\b\\") == "a\\\\b\\\\"
    assert canonical_glob(canonical_glob("a\\b\\*")) == canonical_glob("a\\b\\*")
    assert canonical_regex(r"a\"b\d") == r'a"b\d'


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("cat", Term("", "glob", "cat")),
        ("tag:cat", Term("tag", "glob", "cat")),
        ("TAG:cat", Term("tag", "glob", "cat")),
        ('tag:"long hair"', Term("tag", "glob", "long hair")),
        ("tag:'long hair'", Term("tag", "glob", "long hair")),
        ("tag:hat_(clothing)", Term("tag", "glob", "hat_(clothing)")),
        ('tag:="Cat*"', Term("tag", "exact", "Cat*")),
        ("tag:=Cat", Term("tag", "exact", "Cat")),
        (r"re:\bcats?\b", Term("", "re", r"\bcats?\b")),
        ("name:re:^(a|b)", Term("name", "re", "^(a|b)")),
        ("width:>=512", Term("width", ">=", 512.0)),
        ("width>=512", Term("width", ">=", 512.0)),
        ("width:512", Term("width", "=", 512.0)),
        ("tokens:>75", Term("tokens", ">", 75.0)),
        ("aspect:16:9", Term("aspect", "=", 16 / 9)),
        ("size:>2M", Term("size", ">", 2e6)),
        ("blur:yes", Term("blur", "is", True)),
        ("score:no", Term("score", "is", False)),
        ("problem:yes", Term("problem", "is", True)),
        ("a AND b OR c", Or((And((Term("", "glob", "a"), Term("", "glob", "b"))), Term("", "glob", "c")))),
        ("a and NOT b", And((Term("", "glob", "a"), Not(Term("", "glob", "b"))))),
        ("NOT (a OR b)", Not(Or((Term("", "glob", "a"), Term("", "glob", "b"))))),
        (
            "(a AND b) AND c",
            And((And((Term("", "glob", "a"), Term("", "glob", "b"))), Term("", "glob", "c"))),
        ),
        (">_<", Term("", "glob", ">_<")),
        ("android", Term("", "glob", "android")),
    ],
)
def test_what_people_type(text: str, tree: Node) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "position", "suggestion"),
    [
        ("", 0, ""),
        ("widht:>5", 0, "width:"),
        ("a AND widht:>5", 6, "width:"),
        ("tag:long hair", 9, 'tag:"long hair"'),
        ("(a OR b", 0, ""),
        ("a OR b)", 6, ""),
        ("a AND", 5, ""),
        ("AND a", 0, '"AND"'),
        ("a OR OR b", 5, '"OR"'),
        ('tag:"cat', 4, ""),
        ("width:>big", 7, "width:>512"),
        ("width:=>5", 7, "width:>="),
        ("blur:maybe", 5, "blur:yes"),
        ("tag:", 4, ""),
        ("re:a(b", 4, ""),
        ("http://x", 0, '"http://x"'),
        ("()", 1, ""),
        ("a NOT b", 2, "a AND NOT"),
        ("aspect:4:0", 7, ""),
        ("problem:blury OR a", 8, "problem:blurry"),
        ("problem:identical-captionsblur:yes", 8, "problem:identical-captions"),
        ("problem:trigger-mis", 19, "problem:trigger-missing"),
        ("kind:tag", 8, "kind:tags"),
        ("kind:sentences", 5, "kind:tags"),
    ],
)
def test_mistakes_are_pointed_at(text: str, position: int, suggestion: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert caught.value.position == position
    assert caught.value.suggestion == suggestion
    assert suggestion in caught.value.advice


def test_every_finding_has_a_name_that_the_filter_knows() -> None:
    """What signs, audit and scan call a finding; a name that is like none is taken as it is."""
    from loratui.project.remedies import _TITLES
    from loratui.ui.signs import _TABLE

    codes = {*_TITLES, *_TABLE}
    for name in ("audit", "rows", "scan", "headers", "quality"):
        source = (Path(loratui.__file__).parent / "dataset" / f"{name}.py").read_text()
        pattern = r'(?:Problem\([^"()]*|Finding\(\s*|append\(|_unusable\(\s*path, )"([a-z0-9-]+)"'
        codes |= set(re.findall(pattern, source))
    codes -= {"error", "warning", "info"}
    assert len(codes) > 30 and codes - set(PROBLEMS) == set()
    for code in codes:
        assert parse(f"problem:{code}") == Term("problem", "glob", code)
    assert parse("problem:my-own") == Term("problem", "glob", "my-own")
    assert parse("problem:caption-*") and parse("problem:yes")


def test_deep_nesting_is_refused_not_a_crash() -> None:
    with pytest.raises(QueryError, match="nested deeper"):
        parse("(" * 5000 + "a" + ")" * 5000)
    with pytest.raises(QueryError, match="nested deeper"):
        parse("NOT " * 5000 + "a")


def test_many_stars_take_one_pass() -> None:
    start = time.perf_counter()
    assert not compile_query(parse('caption:"*' + "a*" * 25 + 'b"'))(row("a" * 4000))
    assert time.perf_counter() - start < 2


def test_names_in_both_unicode_forms_are_found() -> None:
    composed, split_up = "é.png", unicodedata.normalize("NFD", "é.png")
    assert select(parse(f"name:{composed}"), [row(name=split_up)])
    assert select(parse(f"name:{split_up}"), [row(name=composed)])


def test_case_counts_only_with_equals() -> None:
    some = [row("Cat"), row("cat")]
    assert len(select(parse("tag:cat"), some)) == 2
    assert len(select(parse('tag:="Cat"'), some)) == 1


def test_unknown_values_never_match_a_comparison() -> None:
    assert not select(parse("score:<5 OR score:>=5 OR score:!=5"), [row()])
    assert select(parse("score:no"), [row()])


def test_ten_thousand_rows_in_a_blink() -> None:
    many = [
        row(f"sks, dog number {i}, long hair, outdoors, simple background", name=f"{i}.png")
        for i in range(10_000)
    ]
    test = parse('tag:"long*" AND NOT caption:9999 AND width:>=512')
    start = time.perf_counter()
    assert len(select(test, many)) == 9_999
    assert time.perf_counter() - start < 1.0


def test_sorting_puts_unknown_last_and_counts_digits() -> None:
    some = [row(name="a10.png", score=0.5), row(name="a2.png"), row(name="a1.png", score=0.9)]
    assert [r.name for r in sort_rows(some, parse_sort("name"))] == ["a1.png", "a2.png", "a10.png"]
    assert [r.name for r in sort_rows(some, parse_sort("-score,name"))] == ["a1.png", "a10.png", "a2.png"]
    assert [r.name for r in sort_rows(some, parse_sort("score"))] == ["a10.png", "a1.png", "a2.png"]
    assert sort_to_text(parse_sort(" -score, name")) == "-score,name"


@pytest.mark.parametrize("name", list(FIELDS))
def test_every_field_sorts(name: str) -> None:
    some = [row("b, a", score=0.2, tokens=3), row("c"), row("")]
    assert len(sort_rows(some, parse_sort(f"-{name}"))) == 3


def test_a_wrong_sort_key_is_pointed_at() -> None:
    with pytest.raises(QueryError) as caught:
        parse_sort("name, -widht")
    assert (caught.value.position, caught.value.suggestion) == (6, "width")
