"""How captions vary: each rule by itself, always the same at the same step, and through the whole job."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import train_kit as kit

from loratui.families.sd15 import FAMILY
from loratui.families.sdxl import FAMILY as SDXL
from loratui.train.captions import Variation

TAGS = "sks, a, b, c, d"


def words(variation: Variation, caption: str = TAGS, steps: int = 200) -> list[str]:
    return [variation.at(caption, step, 0) for step in range(steps)]


def test_nothing_asked_for_changes_nothing() -> None:
    odd = " a ,, b{x|y}  "
    assert set(words(Variation(1), odd)) == {odd} and not Variation(1).varies


def test_shuffle_keeps_the_first_and_is_the_same_again() -> None:
    one, two, other = (words(Variation(seed, shuffle=True, keep_tokens=1)) for seed in (1, 1, 2))
    assert one == two != other
    assert all(text.startswith("sks, ") for text in one)
    assert {tuple(sorted(text.split(", "))) for text in one} == {tuple(sorted(TAGS.split(", ")))}
    assert len(set(one)) == 24  # all orders of four


def test_separators() -> None:
    kept = words(Variation(1, shuffle=True, keep_separator="|||"), "x, y ||| a, b, c")
    assert all(text.startswith("x, y, ") and "|" not in text for text in kept) and len(set(kept)) == 6
    together = words(Variation(1, shuffle=True, secondary_separator=";;;"), "a;;;b, c")
    assert set(together) == {"a,b, c", "c, a,b"}
    assert set(words(Variation(1, shuffle=True, separator="."), "a. b")) == {"a. b", "b. a"}


def test_dropped_tags_have_their_share_and_spare_the_kept() -> None:
    texts = words(Variation(1, tag_dropout=0.25, keep_tokens=1), steps=1000)
    counts = Counter(tag for text in texts for tag in text.split(", "))
    assert counts["sks"] == 1000
    assert all(abs(counts[tag] / 1000 - 0.75) < 0.06 for tag in "abcd")


def test_wildcards_and_braces() -> None:
    texts = words(Variation(1, wildcards=True), "a {red|blue|} cat {{x}} {y}")
    assert set(texts) == {f"a {w} cat {{x}} {{y}}" for w in ("red", "blue", "")}


def test_warm_up_reaches_all_tags() -> None:
    texts = words(Variation(1, keep_tokens=1, warmup_steps=100, warmup_min=1), steps=120)
    lengths = [len(text.split(", ")) for text in texts]
    assert lengths[0] == 2 and lengths == sorted(lengths) and lengths[100] == 5 and lengths[99] == 4


def test_windows_read_long_captions(tiny_sd15: Path, tiny_sdxl: Path) -> None:
    """Up to 75 tokens the first window is the plain encoding; beyond, a plain base sees no difference."""
    for family, base in ((FAMILY, tiny_sd15), (SDXL, tiny_sdxl)):
        parts = family.load(base, torch.float32)
        long = replace(parts, extras={"windows": 3})
        short = family.encode_captions(parts, ["a cat"])[0]
        wide = family.encode_captions(long, ["a cat"])[0]
        length = short["prompt_embeds"].shape[0]
        assert wide["prompt_embeds"].shape == (3 * length, short["prompt_embeds"].shape[1])
        assert torch.allclose(wide["prompt_embeds"][:length], short["prompt_embeds"], atol=1e-5)
        assert wide.keys() == short.keys()
        if "pooled_prompt_embeds" in short:
            assert torch.allclose(wide["pooled_prompt_embeds"], short["pooled_prompt_embeds"], atol=1e-5)
        # byte tokens here: 80 letters are 80 tokens, so that the last five stand in the second window
        one, two = "x" * 75 + "abcde", "x" * 75 + "edcba"
        a, b = (family.encode_captions(parts, [text])[0]["prompt_embeds"] for text in (one, two))
        assert torch.equal(a, b)
        a, b = (family.encode_captions(long, [text])[0]["prompt_embeds"] for text in (one, two))
        same = [
            torch.allclose(x, y, atol=1e-5) for x, y in zip(a.split(length), b.split(length), strict=True)
        ]
        assert same == [True, False, True]


def test_clip_skip_is_the_layer_before_normalised(tmp_path: Path) -> None:
    parts = FAMILY.load(kit.tiny_base(tmp_path / "base"), torch.float32)
    parts.text_encoders = {"lora_te": kit.tiny_text(32, layers=3)}
    plain = FAMILY.encode_captions(parts, ["a cat"])[0]["prompt_embeds"]
    skipped = FAMILY.encode_captions(replace(parts, extras={"clip_skip": 2}), ["a cat"])[0]["prompt_embeds"]
    text = parts.text_encoders["lora_te"]
    body = getattr(text, "text_model", text)
    with torch.no_grad():
        body.encoder.layers = body.encoder.layers[:2]
        expected = FAMILY.encode_captions(parts, ["a cat"])[0]["prompt_embeds"]
    assert not torch.equal(plain, skipped) and torch.allclose(skipped, expected, atol=1e-6)


def test_varied_captions_resume_exactly_and_fill_no_cache(tmp_path: Path, tiny_sd15: Path) -> None:
    changes = {
        "data__shuffle_captions": True, "data__tag_dropout": 0.3, "data__max_tokens": "150",
        "samples__every": 4,
        "data__token_warmup_steps": 4, "saving__every": 1, "saving__keep": 100, "optimizer__steps": 4,
    }  # fmt: skip
    whole = kit.make_run(tmp_path, tiny_sd15, kit.tiny_config(**changes), "whole")
    assert kit.run_job_here(whole)[-1]["state"] == "finished"
    texts = list((tmp_path / ".loratui" / "cache" / "text").rglob("*.safetensors"))
    assert len(texts) == 3  # two prompts and the negative one
    resumed = kit.make_run(tmp_path, tiny_sd15, kit.tiny_config(**changes), "resumed")
    shutil.copytree(whole.checkpoints_dir / "step-000002", resumed.checkpoints_dir / "step-000002")
    kit.run_job_here(resumed)
    last = "checkpoints/step-000004/lora.safetensors"
    assert kit.tensor_hash(whole.path / last) == kit.tensor_hash(resumed.path / last)


@pytest.mark.parametrize("skip", [2, 9])
def test_a_clip_skip_that_cannot_be_is_refused(tmp_path: Path, tiny_sd15: Path, skip: int) -> None:
    from loratui.errors import ConfigError

    run = kit.make_run(tmp_path, tiny_sd15, kit.tiny_config(model__clip_skip=skip), "skip")
    with pytest.raises(ConfigError, match="1 layers"):
        kit.run_job_here(run)
