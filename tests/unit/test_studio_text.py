"""Captions in an editor, completion of tags, and CLIP token counts."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loratui.dataset.completion import Completer, read_tag_list
from loratui.dataset.textblocks import Block, changed, read_blocks, write_blocks
from loratui.dataset.tokens import ClipTokens, split_words
from loratui.errors import DatasetError

names = st.text('ab/.#"\\ \n\x1b[é\udcff', min_size=1, max_size=8)
captions = st.text("ab, #\\\n:é", max_size=20)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(names, captions, max_size=5))
def test_what_is_not_touched_comes_back(table: dict[str, str]) -> None:
    text = write_blocks(Block(n, c) for n, c in table.items())
    back = read_blocks(text, table)
    lines = {n: "\n".join(x.rstrip() for x in c.strip().split("\n")) for n, c in table.items()}
    assert back == lines
    assert changed(lines, back) == {}


def test_changes_are_read() -> None:
    text = write_blocks(
        [Block("a.png", "one"), Block("b.png", "two"), Block("c.png", "three"), Block("d", "#x")]
    )
    text = text.replace("one", "uno").replace("two", "").replace("# c.png\nthree\n", "").replace("\n", "\r\n")
    before = {"a.png": "one", "b.png": "two", "c.png": "three", "d": "#x"}
    assert changed(before, read_blocks(text, before)) == {"a.png": "uno", "b.png": ""}


def test_a_garbled_text_changes_nothing() -> None:
    with pytest.raises(DatasetError) as caught:
        read_blocks("lost\n# a\nx\n# a\ny\n# z\n", ["a"])
    assert [(p.where, p.path) for p in caught.value.problems] == [
        ("line 1", ""),
        ("line 4", "a"),
        ("line 6", "z"),
    ]


def test_completion(tmp_path: Path) -> None:
    path = tmp_path / "danbooru.csv"
    path.write_text(
        '1girl,0,500,"sole_female,1girls"\nlong_hair,0,900,\nhatsune_miku,4,50,miku\n>_<,0,20,\nshort_hair,0,80,\n'
    )
    completer = Completer({"long neck": 3, "sks": 9, "Hair band": 1}, read_tag_list(path))

    def found(typed: str) -> list[str]:
        return [k.tag for k in completer.complete(typed)]

    assert found("lo") == ["long neck", "long hair"]
    assert found("HAIR") == ["Hair band", "long hair", "short hair"]
    assert found("miku") == ["hatsune miku"] and completer.complete("miku")[0].alias == "miku"
    assert found("sole") == ["1girl"] and found(">") == [">_<"] and found(" ") == [] and found("zz") == []
    assert len(completer.complete("s", limit=2)) == 2
    assert completer.complete("hatsune")[0].category == "character"


def test_odd_tag_lists_are_named(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    path.write_text("tag,category,count\na,0,1\nb,x,1\n")
    with pytest.raises(DatasetError, match=r"tags\.csv:3"):
        read_tag_list(path)
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(DatasetError, match="UTF-8"):
        read_tag_list(path)
    path.write_text("just_one\nper line\n\n")
    assert [k.tag for k, _ in read_tag_list(path)] == ["just one", "per line"]


COUNTS = {
    "a photo of a cat": 5,
    "sks, 1girl, long_hair, >_<, score_9_up": 17,
    "It's the dog's don't we'll 12345": 14,
    "ünïcödé 漢字 テスト 🎉🎉 x²": 19,
    "masterpiece, (best quality:1.2), <lora:foo:1>": 18,
    "&amp; &lt;b&gt;": 4,
    "": 0,
    "!!! ... ???": 3,
    "<start_of_text> hi": 2,
    "  a \n b\t c  ": 3,
    "antidisestablishmentarianism hatsune_miku_(vocaloid)": 14,
    "Ⅻ ½ ๓ ٣ a٣b": 12,
    "e\u0301 café": 2,
}
"""Made by open_clip's own tokenizer, start and end not counted."""


def test_token_counts_are_those_of_open_clip() -> None:
    spec = find_spec("open_clip")
    if spec is None or spec.origin is None:
        pytest.skip("needs the vocabulary that open_clip packs")
    counter = ClipTokens.read(Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz")
    assert {text: counter.count(text) for text in COUNTS} == COUNTS


def test_the_shipped_vocabulary_counts_the_same() -> None:
    """No package and no base is needed for exact counts."""
    counter = ClipTokens.shipped()
    assert {text: counter.count(text) for text in COUNTS} == COUNTS


def test_tokens_by_hand(tmp_path: Path) -> None:
    base = tmp_path / "base" / "tokenizer"
    base.mkdir(parents=True)
    (base / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    counter = ClipTokens.of_base(tmp_path / "base")
    assert counter is not None
    assert (counter.count("cat"), counter.count("cats"), counter.count("CAT cat!")) == (1, 3, 3)
    assert ClipTokens.of_base(tmp_path) is None
    (base / "merges.txt").write_text("#version\n")
    with pytest.raises(DatasetError):
        ClipTokens.of_base(tmp_path / "base")
    assert split_words("don't 12 a_b") == ["don", "'t", "1", "2", "a", "_", "b"]
