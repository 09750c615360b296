"""Captions from what models say: templates, triggers, modes, lengths, and nothing a terminal would obey."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from loratui.caption.cleaning import clean_prose, clean_tag
from loratui.caption.compose import check_template, compose
from loratui.caption.settings import CaptionSettings
from loratui.captioners.labels import FACETS, read_labels
from loratui.captioners.options import option_rows, read_options
from loratui.captioners.protocol import Said, Tag
from loratui.captioners.spec import CAPTIONERS, BlipOptions
from loratui.dataset.tokens import count_tokens
from loratui.errors import ConfigError

WD = Said(tags=(Tag("long hair", 0.9), Tag("tree", 0.5), Tag("sky", 0.7)))
BLIP = Said("a robot on a hill")


def settings(**values: object) -> CaptionSettings:
    made, wrong = read_options(CaptionSettings, values)
    assert not wrong
    return made


def test_a_template_takes_each_part_once() -> None:
    made = compose({"blip": BLIP, "wd": WD}, settings(template="{trigger}, {blip}, {wd:2}"), "sks")
    assert made.text == "sks, a robot on a hill, long hair, sky"


def test_an_empty_part_leaves_no_comma() -> None:
    made = compose({"blip": Said(""), "wd": WD}, settings(template="{trigger}, {blip}, {wd:1}"), "sks")
    assert made.text == "sks, long hair"


@pytest.mark.parametrize(
    ("mode", "before", "text"),
    [
        ("missing", "old", "old"),
        ("missing", "", "sks, long hair, tree, sky"),
        ("replace", "old", "sks, long hair, tree, sky"),
        ("append", "old, Tree", "sks, old, Tree, long hair, sky"),
        ("prepend", "sks, old", "long hair, tree, sky, sks, old"),
    ],
)
def test_modes(mode: str, before: str, text: str) -> None:
    made = compose({"wd": WD}, settings(mode=mode), "sks", before)
    assert made.text == text
    assert bool(made.reason) == (made.text == before)


def test_the_class_word_takes_the_trigger_in_prose() -> None:
    assert compose({"blip": BLIP}, settings(class_word="robot"), "sks").text == "a sks robot on a hill"
    assert compose({"blip": BLIP}, settings(class_word="robot"), "sks robot").text == "a sks robot on a hill"
    assert compose({"blip": BLIP}, settings(class_word="dog"), "sks").text == "sks dog, a robot on a hill"


def test_a_blacklist_cuts_tags_and_words() -> None:
    made = compose({"blip": BLIP, "wd": WD}, settings(blacklist=("long*", "on a hill")))
    assert made.text == "a robot, tree, sky"


def test_the_least_certain_goes_first_and_the_trigger_never() -> None:
    words = lambda text: len(text.replace(",", " ,").split())  # noqa: E731
    made = compose({"wd": WD}, settings(max_tokens=6), "sks", count=words)
    assert made.text == "sks, long hair, sky" or words(made.text) <= 6
    assert "tree" in made.dropped and made.text.startswith("sks")


def test_one_caption_a_line() -> None:
    made = compose({"blip": BLIP, "wd": WD}, settings(lines=True, insert_trigger=False))
    assert made.text == "a robot on a hill\nlong hair, tree, sky"


@pytest.mark.parametrize("template", ["{nobody}", "{blip", "{trigger}"])
def test_a_wrong_template_is_found_before_the_launch(template: str) -> None:
    assert check_template(settings(template=template), ["blip"])
    assert not check_template(settings(template="{trigger}: {blip:5}"), ["blip"])


@pytest.mark.parametrize(
    "hostile",
    ["\x1b[31mred\x1b[0m cat", "a\ncat\r\n", "\x1b]52;c;aGk=\x07a cat", "<b>a cat</b>", "**a cat**",
     "[bold]a cat[/bold]",
     "a \u202ecat", "\x9b31ma cat", "```\na cat\n```", "&lt;i&gt;a cat", "<|im_end|>a cat", "a cat\u200b"],
)  # fmt: skip
def test_what_a_model_says_is_plain(hostile: str) -> None:
    text = clean_prose(hostile)
    assert text.isprintable() and "cat" in text
    assert not any(mark in text for mark in ("<", "[", "*", "`", "\x1b"))


def test_noise_is_always_one_printable_line() -> None:
    rng = random.Random(3)
    for _ in range(500):
        kinds = (range(0x20), range(0x300), (0x1B, 0x9B, 0x2028))
        noise = "".join(chr(rng.choice(rng.choice(kinds))) for _ in range(40))
        for text in (clean_prose(noise), clean_tag(noise)):
            assert text.isprintable() or all(c.isprintable() or c == " " for c in text), ascii(noise)


def test_faces_stay() -> None:
    assert clean_tag(">_<") == ">_<"


def test_tokens_are_counted_as_open_clip_does() -> None:
    from open_clip.tokenizer import SimpleTokenizer

    theirs, ours = SimpleTokenizer(), count_tokens()
    for text in (
        "a photo of a cat",
        "Ünïcode — naïve café!! 12345",
        "it's SKS_robot, long_hair, >_<",
        "",
        "日本 語",
    ):
        assert ours(text) == len(theirs.encode(text)), text


def test_every_option_has_help_and_checks_its_values() -> None:
    for row in CAPTIONERS:
        assert all(option["help"] for option in option_rows(row.options)), row.name
    made, wrong = read_options(BlipOptions, {"beams": "2", "top_p": "7", "sampling": "best"})
    assert made.beams == 2 and set(wrong) == {"top_p", "sampling"}


def test_there_are_labels_enough_and_lists_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORATUI_CONFIG", str(tmp_path))
    shipped = read_labels()
    assert tuple(shipped) == FACETS and sum(map(len, shipped.values())) >= 2000
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "mascots.txt").write_text("# mine\nsks robot\n\nsks robot\nsks cat # two\n")
    assert read_labels(("mascots",)) == {"mascots": ("sks robot", "sks cat")}
    with pytest.raises(ConfigError, match="no facet"):
        read_labels(("nobody",))
