"""Tags and batch edits: what each does, what it leaves alone and why, and the bytes it would write."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loratui.dataset import tags as t
from loratui.dataset.batch import PINNED, Target, encode_like, load, plain_diff, plan, set_text, word_diff
from loratui.dataset.edit_parse import OPERATIONS, parse_operation, parse_rules
from loratui.dataset.edits import PROSE, Edited
from loratui.dataset.sidecar import read_caption, read_caption_file
from loratui.errors import DatasetError

SENTENCE = "A photo of sks dog sitting on a wooden bench in the park."


@pytest.mark.parametrize(
    ("caption", "kind"),
    [
        ("", "tags"),
        ("sks", "tags"),
        ("sks, 1girl, long hair, smile", "tags"),
        ("1girl, solo, looking at viewer, hand on hip, cat on head", "tags"),
        ("masterpiece, best quality, 1girl, hatsune_miku_(vocaloid), >_<", "tags"),
        (SENTENCE, "prose"),
        ("a photo of a cat on a sofa", "prose"),
        ("The woman is smiling, her hair is blonde, and she holds a cup of tea in her hand.", "prose"),
        (f"{SENTENCE}\nThe dog looks to the left.", "prose"),
        ("sks, v1.0, 3.5mm, St. Bernard", "tags"),
    ],
)
def test_kinds(caption: str, kind: str) -> None:
    assert t.detect_kind(caption) == kind


def test_splitting_drops_what_is_empty() -> None:
    assert t.split(" a,, b ,") == ["a", "b"]
    assert t.split_caption("a, b\nc") == ["a", "b", "c"]
    assert t.join(["a", "b"]) == "a, b"


@pytest.mark.parametrize(
    ("tag", "after"),
    [
        ("long_hair", "long hair"),
        (">_<", ">_<"),
        ("^_^", "^_^"),
        ("o_o", "o_o"),
        ("(o)_(o)", "(o)_(o)"),
        ("score_9_up", "score_9_up"),
        ("hat_(clothing)", "hat (clothing)"),
    ],
)
def test_faces_keep_their_underscore(tag: str, after: str) -> None:
    assert t.underscores_to_spaces(tag) == after


def run(line: str, caption: str, kind: str = "", trigger: str = "sks") -> Edited:
    name, *arguments = line.split("|")
    operation = parse_operation(name, arguments, trigger).prepare([caption])
    return operation.apply(caption, kind or t.detect_kind(caption))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "before", "after"),
    [
        ("add|dog", "sks, cat", "sks, cat, dog"),
        ("add|dog, Cat|first", "sks, cat", "dog, sks, cat"),
        ("add|dog|1", "sks, cat", "sks, dog, cat"),
        ("add|dog|9", "sks", "sks, dog"),
        ("add|dog", "", "dog"),
        ("add|dog", "a\nb", "a, dog\nb, dog"),
        ("remove|cat", "sks, Cat, cat ears", "sks, cat ears"),
        ("remove|cat*", "sks, cat, cat ears", "sks"),
        ("remove|?at|dog", "cat, hat, dog, chat", "chat"),
        ("rename|cat|dog", "sks, Cat, hat", "sks, dog, hat"),
        ("rename|cat|dog", "dog, cat", "dog"),
        ("rename|*hair|hair", "long hair, sks, red hair", "hair, sks"),
        ("replace|cat|dog", "a cat, cats", "a dog, dogs"),
        ("replace|cat, |", "sks, cat, hat", "sks, hat"),
        ("replace|, cat|", "sks, cat", "sks"),
        ("replace|b|", "a, b, c", "a, c"),
        (r"re|(\w+) hair|hair \1", "long hair, sks", "hair long, sks"),
        ("re|^sks, |", "sks, cat", "cat"),
        ("sort", "sks, b, a, C", "a, b, C, sks"),
        ("sort|name|1", "sks, b, a", "sks, a, b"),
        ("dedupe", "a, b, A, long_hair, long hair", "a, b, long_hair"),
        ("trigger-first", "cat, sks, dog", "sks, cat, dog"),
        ("trigger-first", "cat", "sks, cat"),
        ("trigger-first|zwx", "cat, ZWX", "zwx, cat"),
        ("trigger-first", "", "sks"),
        ("prefix|photo of {trigger}, ", "cat", "photo of sks, cat"),
        ("prefix|sks, ", "", "sks"),
        ("suffix|, 4k", "cat\ndog", "cat, 4k\ndog, 4k"),
        ("spaces", "long_hair, >_<", "long hair, >_<"),
        ("strip", " a ,,b\t\x07c,  d \n\n e", "a, b c, d\ne"),
        ("set|photo of {trigger}", "whatever", "photo of sks"),
        ("clear", "whatever", ""),
        ("split-lines", "One. Two. Three", "One\nTwo\nThree"),
        ("join-lines", "a, b,\nc", "a, b, c"),
        ("join-lines| ", "One.\nTwo.", "One. Two."),
    ],
)
def test_operations(line: str, before: str, after: str) -> None:
    assert run(line, before, "tags") == Edited(after)


@pytest.mark.parametrize(
    ("line", "caption", "reason"),
    [
        ("add|Cat", "sks, cat", "already there"),
        ("remove|dog", "sks, cat", "tag not found"),
        ("rename|dog|x", "sks", "tag not found"),
        ("replace|x|y", "sks", "text not found"),
        ("re|x|y", "sks", "no match"),
        ("sort", "a, b", "already in order"),
        ("dedupe", "a, b", "no tag twice"),
        ("trigger-first", "sks, b", "trigger already first"),
        ("trigger-first|only-move", "b", "trigger not in it"),
        ("spaces", "a, >_<", "no underscores"),
        ("clear", "", "already empty"),
        ("add|x", SENTENCE, PROSE),
        ("remove|a*", SENTENCE, PROSE),
        ("sort", SENTENCE, PROSE),
        ("trigger-first", SENTENCE, PROSE + "; use prefix"),
    ],
)
def test_reasons(line: str, caption: str, reason: str) -> None:
    assert run(line, caption) == Edited(caption, reason)


def test_sort_by_frequency_and_by_list(tmp_path: Path) -> None:
    operation = parse_operation("sort", ["frequency"]).prepare(["b, a", "b", "b, c, a"])
    assert operation.apply("a, c, b", "tags").text == "b, a, c"
    (tmp_path / "order.txt").write_text("# order\nc\nb, 120\n")
    assert (
        parse_operation("sort", ["list", str(tmp_path / "order.txt")]).apply("a, b, C", "tags").text
        == "C, b, a"
    )


def test_rules_follow_chains_and_bans_win() -> None:
    rules = parse_rules(
        "cat ears -> animal ears\nanimal ears => kemonomimi, ears\nears -> cat ears\n-water*\n# x\n"
    )
    from loratui.dataset.edits import Imply

    assert Imply(rules).apply("Cat Ears, watermark", "tags").text == "Cat Ears, animal ears, kemonomimi, ears"
    assert Imply(parse_rules("a -> b\n!b")).apply("a", "tags").reason == "no rule applies"
    with pytest.raises(DatasetError, match="rules:2"):
        parse_rules("a -> b\nnonsense")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ad", ["x"]),
        ("add", []),
        ("add", [" , "]),
        ("add", ["x", "middle"]),
        ("rename", ["a", "b, c"]),
        ("replace", ["", "x"]),
        ("re", ["(", "x"]),
        ("re", ["a", r"\2"]),
        ("sort", ["list"]),
        ("sort", ["colour"]),
        ("sort", ["list", "/nowhere/at/all"]),
        ("prefix", [""]),
        ("trigger-first", []),
        ("dedupe", ["x"]),
        ("imply", []),
        ("join-lines", [""]),
    ],
)
def test_wrong_requests_say_what_to_do(name: str, arguments: list[str]) -> None:
    with pytest.raises(DatasetError) as caught:
        parse_operation(name, arguments)
    assert caught.value.advice


words = st.text("aAb_ <>^x", min_size=1, max_size=6)
captions = st.lists(st.lists(words, max_size=5).map(", ".join), max_size=3).map("\n".join)
LINES = [
    *(
        "add|a",
        "add|b|first",
        "remove|a*",
        "rename|a|b",
        "replace|a|",
        "re|[ab]+|x",
        "sort",
        "dedupe",
        "spaces",
    ),
    *("trigger-first", "prefix|q, ", "suffix|, q", "strip", "set|x", "clear", "split-lines", "join-lines"),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(LINES), captions, st.sampled_from(["tags", "prose"]))
def test_a_reason_stands_exactly_where_nothing_changed(line: str, caption: str, kind: str) -> None:
    edited = run(line, caption, kind)
    assert bool(edited.reason) == (edited.text == caption)
    operation = parse_operation(line.split("|")[0], line.split("|")[1:], "sks")
    if operation.needs_tags and kind == "prose":
        assert edited.text == caption


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["add|a", "remove|a*", "sort", "dedupe", "spaces", "trigger-first", "strip", "set|x"]),
    captions,
)
def test_doing_it_twice_changes_nothing_more(line: str, caption: str) -> None:
    once = run(line, caption, "tags").text
    assert run(line, once, "tags").text == once


@settings(max_examples=200, deadline=None)
@given(captions, captions)
def test_a_diff_spells_both_texts(before: str, after: str) -> None:
    pieces = word_diff(before, after)
    assert "".join(p.text for p in pieces if p.kind != "added") == before
    assert "".join(p.text for p in pieces if p.kind != "removed") == after


def test_plain_diff() -> None:
    assert plain_diff("sks, cat", "sks, dog") == "sks, [-cat-]{+dog+}"


def picture(folder: Path, name: str, raw: bytes | None) -> Path:
    path = folder / name
    path.write_bytes(b"")
    if raw is not None:
        path.with_suffix(".txt").write_bytes(raw)
    return path


def test_a_batch_counts_what_it_leaves_and_keeps_the_style_of_each_file(tmp_path: Path) -> None:
    pictures = [
        picture(tmp_path, "a.png", "sks, caf\xe9".encode("cp1252")),
        picture(tmp_path, "b.png", b"\xef\xbb\xbfsks\r\n"),
        picture(tmp_path, "c.png", "sks, é".encode("utf-16")),
        picture(tmp_path, "d.png", None),
        picture(tmp_path, "e.png", b"dog, sks"),
        picture(tmp_path, "f.png", SENTENCE.encode()),
        picture(tmp_path, "g.png", b"mine\n"),
    ]
    pinned = [pictures[6].with_suffix(".txt")]
    batch = plan(parse_operation("add", ["dog"]), load(pictures, pinned))
    assert [c.data for c in batch.changes] == [
        "sks, caf\xe9, dog".encode("cp1252"),
        b"\xef\xbb\xbfsks, dog\r\n",
        b"\xff\xfe" + "sks, é, dog".encode("utf-16-le"),
        b"dog\n",
    ]
    assert batch.reasons == {"already there": 1, PROSE: 1, PINNED: 1}
    assert batch.summary().startswith("4 to change; left alone: 1 ")
    assert (
        len(plan(parse_operation("add", ["dog"]), load(pictures, pinned), include_pinned=True).changes) == 5
    )


def test_strip_mends_encoding_and_bom(tmp_path: Path) -> None:
    pictures = [
        picture(tmp_path, "a.png", "caf\xe9".encode("cp1252")),
        picture(tmp_path, "b.png", b"\xef\xbb\xbfsks\r\n"),
        picture(tmp_path, "c.png", b"sks\n"),
        picture(tmp_path, "d.png", None),
    ]
    batch = plan(parse_operation("strip", []), load(pictures))
    assert [c.data for c in batch.changes] == ["caf\xe9\n".encode(), b"sks\n"]
    assert batch.reasons == {"already clean": 2}


def test_clearing_takes_the_file_away(tmp_path: Path) -> None:
    pictures = [picture(tmp_path, "a.png", b"sks"), picture(tmp_path, "b.png", None)]
    (change,) = plan(parse_operation("clear", []), load(pictures)).changes
    assert (change.before, change.after, change.data) == ("sks", None, None)


def test_pictures_that_share_a_caption_are_one_target(tmp_path: Path) -> None:
    assert len(load([picture(tmp_path, "a.png", b"x"), picture(tmp_path, "a.jpg", b"x")])) == 1


def test_set_text_by_hand(tmp_path: Path) -> None:
    path = picture(tmp_path, "a.png", b"sks\r\n")
    assert set_text(path, "sks, cat").data == b"sks, cat\r\n"
    assert set_text(path, " sks ").reason == "already so"
    assert set_text(path, " ").data is None


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=20), st.sampled_from(["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "cp1252"]))
def test_encoding_then_reading_gives_the_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, enc: str
) -> None:
    from loratui.dataset.sidecar import Caption

    clean = text.replace("\r", "\n").replace("\ufeff", "").strip()
    data = encode_like(clean, Caption("", Path("x"), True, enc, "\r\n", True))
    if clean and not clean.startswith("\x00"):
        path = tmp_path_factory.getbasetemp() / "x.txt"
        path.write_bytes(data)
        assert read_caption_file(path).text == clean


def test_the_table_of_operations_is_whole() -> None:
    wanted = "add remove replace re rename sort dedupe trigger-first prefix suffix spaces set clear"
    assert set(wanted.split()) <= set(OPERATIONS)
    assert all(row.help and row.name == name for name, row in OPERATIONS.items())
    assert Target(Path("a"), read_caption(Path("/nowhere/a.png"))).kind == ""
