"""The audit of captions: each finding, its pictures, its fix; plain loops check the arithmetic."""

from __future__ import annotations

import math
import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from loratui.dataset.audit import SIMILAR, Finding, Text, audit, edit_distance, grams
from loratui.dataset.edit_parse import parse_operation


def texts(*captions: str) -> list[Text]:
    return [Text(f"{i}.png", c) for i, c in enumerate(captions)]


def by_code(found: list[Finding], code: str) -> list[Finding]:
    return [f for f in found if f.code == code]


def test_tokens_that_ride_with_the_trigger() -> None:
    captions = [
        f"sks, red hat, {'blue sky' if i < 7 else 'dusk'}, {'dog' if i < 4 else f'thing{i}'}"
        for i in range(10)
    ]
    found = by_code(audit(texts(*captions), "sks"), "fused-token")
    assert [(f.subject, f.severity, f.share) for f in found] == [
        ("red hat", "error", 1.0),
        ("blue sky", "warning", 0.7),
        ("dog", "info", 0.4),
    ]
    assert found[2].paths == ("0.png", "1.png", "2.png", "3.png")


def test_runs_stay_inside_the_commas() -> None:
    assert grams("a red hat, on the sofa\nbig Dog") == {
        "red",
        "hat",
        "red hat",
        "sofa",
        "big",
        "dog",
        "big dog",
    }


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=4).map(" ".join), min_size=4, max_size=8))
def test_shares_are_those_of_plain_counting(captions: list[str]) -> None:
    all_texts = texts(*(f"sks, {c}" for c in captions))
    for finding in by_code(audit(all_texts, "sks"), "fused-token"):
        wanted = f" {finding.subject} "
        holders = [t.path for t in all_texts if wanted in f" {t.caption.split(', ', 1)[-1]} "]
        assert finding.paths == tuple(holders)
        assert finding.share == len(holders) / len(captions) >= 0.35


def test_trigger_missing_misspelt_and_moved() -> None:
    found = audit(texts("zwxq, a", "zwxq, b", "zwqx, c", "d, zwxq", "dog, e", "zwxq dog"), "zwxq")
    (missing,) = by_code(found, "trigger-missing")
    assert (missing.paths, missing.severity, missing.fix) == (
        ("4.png",),
        "warning",
        ("trigger-first", "zwxq"),
    )
    assert [(f.subject, f.paths) for f in by_code(found, "trigger-misspelt")] == [("zwqx", ("2.png",))]
    (moved,) = by_code(found, "trigger-position")
    assert moved.paths == ("3.png",) and moved.fix == ("trigger-first", "zwxq")
    assert by_code(audit(texts("a", "b", "zwxq"), "zwxq"), "trigger-missing")[0].severity == "error"
    assert parse_operation(missing.fix[0], missing.fix[1:]).apply("dog, e", "tags").text == "zwxq, dog, e"


def test_a_trigger_of_several_words_counts_as_a_whole() -> None:
    found = audit(texts("photo of sks dog, a", "photo of sks dog, b", "photo of sks, dog"), "sks dog")
    assert not by_code(found, "trigger-missing") or by_code(found, "trigger-missing")[0].paths == ("2.png",)


def test_identical_captions_are_fine_when_bare() -> None:
    (bare,) = by_code(audit(texts("sks", "SKS", "sks"), "sks"), "identical-captions")
    assert bare.severity == "info" and bare.paths == ("0.png", "1.png", "2.png")
    (same,) = by_code(audit(texts("sks, cat", "sks, cat"), "sks"), "identical-captions")
    assert same.severity == "warning"


def test_files() -> None:
    some = [
        Text("a", "", exists=False),
        Text("b", " "),
        Text("c", "x", encoding="utf-8-sig"),
        Text("d", "y", encoding="cp1252"),
        Text("e", "z", encoding="utf-16-le"),
        Text("f", "w"),
    ]
    found = {f.code: f for f in audit(some)}
    assert {c: f.paths for c, f in found.items()} == {
        "missing-caption": ("a",),
        "empty-caption": ("b",),
        "caption-bom": ("c",),
        "caption-not-utf8": ("d", "e"),
    }
    assert found["caption-bom"].fix == ("strip",)
    assert found["caption-bom"].as_dict()["paths"] == ["c"]


def test_lengths_stand_out_by_two_deviations() -> None:
    captions = ["one two three four"] * 12 + ["word " * 60]
    found = by_code(audit(texts(*captions)), "long-caption")
    counts = [4] * 12 + [60]
    mean = sum(counts) / 13
    z = (60 - mean) / math.sqrt(sum((c - mean) ** 2 for c in counts) / 13)
    assert z >= 2 and found[0].paths == ("12.png",)
    assert not by_code(audit(texts("a b", "a b", "a b", "a b")), "short-caption")


def test_tokens_are_counted_by_line() -> None:
    counted = audit(
        texts("w " * 76, "w " * 75, ("w " * 50) + "\n" + ("w " * 50)), count_tokens=lambda t: len(t.split())
    )
    assert by_code(counted, "too-many-tokens")[0].paths == ("0.png",)
    assert not by_code(audit(texts("w " * 76)), "too-many-tokens")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdefghijklm"), min_size=5, unique=True), min_size=2, max_size=7))
def test_similar_ones_are_those_of_all_with_all(sets: list[list[str]]) -> None:
    found = {
        frozenset(f.paths) for f in by_code(audit(texts(*(", ".join(s) for s in sets))), "similar-captions")
    }
    first: dict[frozenset[str], int] = {}
    for i, s in enumerate(sets):
        first.setdefault(frozenset(s), i)
    slow = {
        frozenset((f"{i}.png", f"{j}.png"))
        for a, i in first.items()
        for b, j in first.items()
        if i < j and len(a & b) / len(a | b) >= SIMILAR
    }
    assert found == slow


def slow_distance(a: str, b: str) -> int:
    if not a or not b:
        return len(a) + len(b)
    options = [
        slow_distance(a[1:], b) + 1,
        slow_distance(a, b[1:]) + 1,
        slow_distance(a[1:], b[1:]) + (a[0] != b[0]),
    ]
    if len(a) > 1 and len(b) > 1 and a[0] == b[1] and a[1] == b[0]:
        options.append(slow_distance(a[2:], b[2:]) + 1)
    return min(options)


@settings(max_examples=150, deadline=None)
@given(st.text("abc", max_size=5), st.text("abc", max_size=5))
def test_edit_distance_is_that_of_plain_recursion(a: str, b: str) -> None:
    assert edit_distance(a, b, 2) == min(slow_distance(a, b), 3)


def test_ten_thousand_captions_in_seconds() -> None:
    rng = random.Random(1)
    words = [f"tag{i}" for i in range(3000)]
    many = texts(*("sks, " + ", ".join(rng.sample(words, 15)) for _ in range(10_000)))
    start = time.perf_counter()
    audit(many, "sks", count_tokens=len)
    assert time.perf_counter() - start < 20
