"""The disk that the plan counts for encoded captions and pictures, against what tiny bases give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_kit
import torch
import train_kit as kit
from safetensors.torch import load_file, save_file

from loratui.config.schema import NetworkConfig
from loratui.families import original
from loratui.families.protocol import load_family
from loratui.families.spec import FAMILIES, row_of
from loratui.plan import captions as counted
from loratui.plan.plan import plan
from loratui.plan.sizes import sizes
from loratui.project.project import Project
from loratui.train.cache import Cache

MODELS = [*((name, "") for name in tiny_kit.FLOW), *tiny_kit.VARIANTS]
LONG = "a red fox sleeps in tall grass beside an old stone wall, "
"""Of words that no tiny tokenizer has whole."""
CAPTIONS = (4 * LONG, 5 * LONG + "as it rains", 6 * LONG)


@pytest.fixture(params=MODELS, ids=["-".join(filter(None, model)) for model in MODELS])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """(family, folder of a tiny base)."""
    name, variant = request.param
    if variant:
        return name, tiny_kit.tiny(name).make(tmp_path / "base", **{variant: True})
    return name, request.getfixturevalue(f"tiny_{name}")


def written(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def test_files_have_the_size_that_is_counted(
    base: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 10 %; the tokens of tiny bases are single letters. As a single file it counts the same."""
    name, folder = base
    family = load_family(name)
    cache = Cache(tmp_path / "cache", family, family.load(folder, torch.float32), torch.device("cpu"))
    for caption in CAPTIONS:
        cache.condition(caption)
    true = written(tmp_path / "cache" / "text")
    tensors: dict[str, torch.Tensor] = {}
    for path in (folder / "transformer").glob("*.safetensors"):
        tensors |= load_file(path)
    theirs = tiny_kit.tiny(name).original(tensors)
    save_file({n: t.contiguous() for n, t in theirs.items()}, tmp_path / "model.safetensors")
    monkeypatch.setattr(counted, "BYTES_A_TOKEN", 1.0)
    for source in (folder, tmp_path / "model.safetensors"):
        found = counted.caption_bytes(name, sizes(source, name, NetworkConfig()), CAPTIONS)
        assert found == pytest.approx(true, rel=0.1), source.name


def test_latents_have_the_channels_that_are_counted(base: tuple[str, Path], tmp_path: Path) -> None:
    """Those that the settings of the codec say, in its true size as in the tiny one's."""
    name, folder = base
    spec, family = row_of(name), load_family(name)
    assert spec.configs is not None
    tiny = replace(spec, configs=replace(spec.configs, vae=(folder / "vae" / "config.json").read_text()))
    parts = family.load(folder, torch.float32)
    with torch.no_grad():
        mean, _ = family.encode_pictures(parts, torch.zeros(1, 3, 32, 32))
    assert mean.shape[1] == tiny.latent_channels == parts.latent_channels
    kit.tiny_pictures(tmp_path / "pictures", 1)
    project = Project.create(tmp_path / "p", str(folder), "", tmp_path / "pictures", preset="demo")
    config = kit.tiny_config(model__family=name)
    made = plan(project, config, project.scan(), folder)
    text = counted.caption_bytes(name, sizes(folder, name, config.network), [""])
    (bucket,) = made.buckets
    places = (bucket.width // spec.latent_factor) * (bucket.height // spec.latent_factor)
    assert made.disk["caches"] - text == places * spec.latent_channels * 2 * 4 > 0


def test_small_encoders_are_those_that_are_held_in_fp32() -> None:
    assert counted.SMALL == original.SMALL


def test_every_family_says_what_a_caption_takes() -> None:
    """Without a base, that of the true model; unfilled captions grow with their length up to a limit."""
    for spec in FAMILIES:
        one, many, endless = (
            counted.caption_bytes(spec.name, None, captions)
            for captions in (["x" * 200], [f"{n:200d}" for n in range(10)], ["x" * 100_000])
        )
        assert spec.captions and 10 * one == many, spec.name
        whole = sum(p.tokens * (p.width + (p.around >= 0)) * (4 if p.fp32 else 2) for p in spec.captions)
        assert endless == pytest.approx(whole, rel=0.01)
        assert (one < endless / 4) == (spec.captions[0].around >= 0)


def test_the_plan_counts_them(base: tuple[str, Path], tmp_path: Path) -> None:
    """Each different caption and the empty one: twice the pictures with captions of their own, no others."""
    name, folder = base
    texts = [f"{LONG}{n}" for n in range(3)]
    for picture, text in zip(kit.tiny_pictures(tmp_path / "pictures", 3), texts, strict=True):
        picture.with_suffix(".txt").write_text(text)
    project = Project.create(tmp_path / "p", str(folder), "", tmp_path / "pictures", preset="demo")
    config, told = kit.tiny_config(model__family=name), project.scan()
    bare = replace(told, pictures=tuple(replace(p, caption="") for p in told.pictures))
    more, less = (plan(project, config, scan, folder).disk["caches"] for scan in (told, bare))
    size = sizes(folder, name, config.network)
    assert size is not None and more - less == pytest.approx(counted.caption_bytes(name, size, texts), abs=2)
