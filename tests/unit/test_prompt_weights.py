"""Weights in sample prompts: what is read, what becomes of the features, and that nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import train_kit as kit
from hypothesis import given, settings
from hypothesis import strategies as st

from loratui.families.clip_text import emphasised, window_ids
from loratui.families.emphasis import Weighted, escaped, read, with_trigger
from loratui.families.protocol import load_family
from loratui.train.adapter import Adapter
from loratui.train.assemble import assemble
from loratui.train.preview import Preview


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("a (red:1.5) fox", [("a ", 1), ("red", 1.5), (" fox", 1)]),
        ("a (red) fox", [("a ", 1), ("red", 1.1), (" fox", 1)]),
        ("((red))", [("red", 1.21)]),
        ("[red] fox", [("red", 1 / 1.1), (" fox", 1)]),
        ("((a) b:2)", [("a", 2.2), (" b", 2)]),
        ("(a (b:0.5)", [("a ", 1.1), ("b", 0.55)]),
        ("(a, b: 1.2 ) c", [("a, b", 1.2), (" c", 1)]),
        ("(eye:colour:.5)", [("eye:colour", 0.5)]),
        ("(a:-1)", [("a", -1)]),
        (r"(miku \(vocaloid\):1.3)", [("miku (vocaloid)", 1.3)]),
    ],
)
def test_what_is_read(prompt: str, pieces: list[tuple[str, float]]) -> None:
    found = read(prompt)
    assert isinstance(found, Weighted)
    assert [text for text, _ in found.pieces] == [text for text, _ in pieces]
    assert [w for _, w in found.pieces] == pytest.approx([w for _, w in pieces])


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a red fox: 1.2", "a red fox: 1.2"), ("a) b] c", "a) b] c"),
        (r"miku \(vocaloid\)", "miku (vocaloid)"),
        ("(a:1.0) b", "a b"), ("()", ""), (r"C:\fox", r"C:\fox"), (r"a\\b", r"a\b"), ("a:1.2)", "a:1.2)"),
    ],
)  # fmt: skip
def test_what_has_no_weight_is_text(prompt: str, text: str) -> None:
    assert read(prompt) == text


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_any_text_can_be_read_and_escaped(text: str) -> None:
    assert read(escaped(text)) == text
    read(text)
    assert read(with_trigger("{trigger}", text, True)) == text
    assert with_trigger("a {trigger}", text, False) == f"a {text}"


@pytest.fixture(scope="module", params=["sd15", "sd2", "sdxl"])
def family(request: pytest.FixtureRequest):
    kind = load_family(request.param)
    return kind, kind.load(request.getfixturevalue(f"tiny_{request.param}"), torch.float32)


def test_features_of_tokens_are_scaled_and_the_mean_is_put_back(family) -> None:
    """Against the few lines that A1111 has, written out for each encoder alone."""
    kind, parts = family
    text = "ab cd ef"  # a token for each letter here
    (found,) = kind.encode_captions(parts, [read("ab (cd:1.7) ef")])
    (plain,) = kind.encode_captions(parts, [text])
    at, expected = 0, []
    for key, encoder in parts.text_encoders.items():
        width = encoder.config.hidden_size
        z = plain["prompt_embeds"][:, at : at + width].clone()
        at += width
        ids = parts.tokenizers[key]("cd", add_special_tokens=False).input_ids
        all_ids = window_ids(parts, key, [text])[0][0].tolist()
        start = next(i for i in range(len(all_ids)) if all_ids[i : i + len(ids)] == ids)
        before = z.mean()
        z[start : start + len(ids)] *= 1.7
        expected.append(z * (before / z.mean()))
    assert torch.allclose(found["prompt_embeds"], torch.cat(expected, -1), atol=1e-5)
    assert not torch.allclose(found["prompt_embeds"], plain["prompt_embeds"], atol=1e-3)
    for name in plain.keys() - {"prompt_embeds"}:
        assert torch.equal(found[name], plain[name]), "the pooled output knows no weights"
    (same,) = kind.encode_captions(parts, [Weighted((("ab ", 1.0), ("cd ef", 1.0)))])
    assert torch.equal(same["prompt_embeds"], plain["prompt_embeds"])


def test_long_prompts_have_weights_in_each_window(family) -> None:
    kind, parts = family
    long = replace(parts, extras={"windows": 3})
    words = " ".join("abc" for _ in range(40))  # 120 tokens
    (found,) = kind.encode_captions(long, [read(f"{words} (xyz:1.5)")])
    (plain,) = kind.encode_captions(long, [f"{words} xyz"])
    a, b = found["prompt_embeds"], plain["prompt_embeds"]
    assert a.shape[0] == 3 * 77
    assert torch.equal(a[:77], b[:77]), "windows without weights keep all bits"
    assert torch.equal(a[154:], b[154:])
    assert not torch.allclose(a[77:154], b[77:154], atol=1e-3)


def test_weights_of_nothing_change_nothing() -> None:
    hidden = torch.randn(2, 5, 3)
    assert emphasised(hidden, None) is hidden
    assert torch.equal(emphasised(hidden, torch.ones(2, 5)), hidden)
    zero = emphasised(torch.zeros(1, 5, 3), torch.full((1, 5), 2.0))
    assert torch.equal(zero, torch.zeros(1, 5, 3))


def test_samples_read_them_and_new_tokens_too(tiny_sd15: Path, tmp_path: Path) -> None:
    """Through the training's own preview: cached, spelled, and off where they are not wanted."""
    prompts = ("a (red:1.4) square", "a red square")
    config = kit.tiny_config(samples__prompts=prompts, samples__every=4, network__tokens=2)
    training = assemble(kit.job_context(kit.make_run(tmp_path, tiny_sd15, config, "tokens")))
    preview = training.preview
    assert not torch.equal(*(preview.condition(p)["prompt_embeds"] for p in prompts))
    spelled = training.adapter.spell("sks thing")
    weighed = preview.condition("(sks thing:1.4) in red")["prompt_embeds"]
    wanted = Weighted(((spelled, 1.4), (" in red", 1.0)))
    assert torch.equal(weighed, training.family.encode_captions(training.parts, [wanted])[0]["prompt_embeds"])

    run = kit.make_run(tmp_path, tiny_sd15, kit.tiny_config(samples__every=4), "plain")
    plain = assemble(kit.job_context(run))
    cached = plain.preview.condition("a (red:1.4) square")["prompt_embeds"]
    fresh = plain.family.encode_captions(plain.parts, [read("a (red:1.4) square")])[0]["prompt_embeds"]
    assert torch.equal(cached, fresh)
    cache, placement = plain.preview.cache, plain.placement
    off = Preview(plain.family, plain.parts, plain.adapter, cache, placement, weights=False)
    literal = plain.family.encode_captions(plain.parts, ["a (red:1.4) square"])[0]["prompt_embeds"]
    assert torch.equal(off.condition("a (red:1.4) square")["prompt_embeds"], literal)
    assert isinstance(plain.adapter, Adapter)
