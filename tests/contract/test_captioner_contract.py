"""What every captioner must do: the libraries' true classes at tiny random sizes, from disk, offline."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import caption_kit as kit
import numpy as np
import pytest
from PIL import Image

from loratui.captioners.locate import locate
from loratui.captioners.spec import CAPTIONERS, WdOptions, captioner_spec
from loratui.dataset.pixels import open_rgb
from loratui.errors import BaseModelError


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("models")
    made: dict[str, Path] = {}

    def model(name: str) -> Path:
        if name not in made:
            made[name] = kit.MAKERS[name](root / name)
        return made[name]

    return model


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))


def load(name: str, model: str, **values: Any) -> Any:
    row = captioner_spec(name)
    assert row is not None
    if "max_new_tokens" in row.options.__dataclass_fields__:
        values.setdefault("max_new_tokens", 8)
    if name == "clip":
        values.setdefault("facets", ("medium", "mood"))
        values.setdefault("threshold", 0.0)
    return importlib.import_module(row.module).load(row.options(**values), locate(row, model))


def said(captioner: Any, paths: list[Path]) -> list[Any]:
    answers = captioner.caption([captioner.prepare(open_rgb(p)) for p in paths])
    assert len(answers) == len(paths)
    return answers


LOCAL = sorted(kit.MAKERS)


def test_every_captioner_is_known_here() -> None:
    assert {c.name for c in CAPTIONERS if not c.bundled} == {*LOCAL, "openai-api"}
    assert {c.name for c in CAPTIONERS if c.bundled} == {"demo-blip", "demo-clip"}
    assert all(find_spec(c.module) for c in CAPTIONERS)


@pytest.mark.parametrize("name", LOCAL)
def test_a_batch_says_what_its_pictures_say_alone(name: str, models: Any, tmp_path: Path) -> None:
    captioner = load(name, str(models(name)))
    paths = kit.pictures(tmp_path / "p", 3)
    together = said(captioner, paths)
    alone = [said(captioner, [p])[0] for p in paths]
    assert [a.text for a in together] == [a.text for a in alone]
    assert [[t.text for t in a.tags] for a in together] == [[t.text for t in a.tags] for a in alone]
    row = captioner_spec(name)
    assert row is not None and all(
        a.tags if row.output == "tags" else isinstance(a.text, str) for a in together
    )


@pytest.mark.parametrize("name", LOCAL)
def test_the_hub_cache_layout_is_read_offline(name: str, models: Any, tmp_path: Path) -> None:
    row = captioner_spec(name)
    assert row is not None
    with pytest.raises(BaseModelError) as error:
        locate(row)
    assert (
        f"loratui get {row.default_model}" in error.value.advice
        and str(tmp_path / "hub") in error.value.message
    )
    kit.in_hub_cache(models(name), tmp_path / "hub", row.default_model)
    assert said(load(name, ""), kit.pictures(tmp_path / "p", 1))


@pytest.mark.parametrize("name", ["blip", "clip", "florence2", "qwen-vl"])
def test_a_cut_off_file_is_refused_before_the_launch(name: str, models: Any, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "cut"
    shutil.copytree(models(name), folder)
    weights = next(folder.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BaseModelError):
        locate(captioner_spec(name), str(folder))  # type: ignore[arg-type]


def test_missing_weights_are_never_random(models: Any, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    for name in ("blip", "clip"):
        folder = tmp_path / name
        shutil.copytree(models(name), folder)
        weights = next(folder.glob("*.safetensors"))
        state = load_file(str(weights))
        state.pop(max(state, key=lambda k: state[k].numel()))
        save_file(state, str(weights), metadata={"format": "pt"})
        with pytest.raises(BaseModelError):
            load(name, str(folder))


def test_another_architecture_is_named(models: Any) -> None:
    with pytest.raises(BaseModelError, match="blip model; Florence-2 needs florence2"):
        locate(captioner_spec("florence2"), str(models("blip")))  # type: ignore[arg-type]


def test_a_single_file(models: Any, tmp_path: Path) -> None:
    paths = kit.pictures(tmp_path / "p", 2)
    for name in ("blip", "clip", "wd"):
        folder = models(name)
        file = next(p for p in folder.iterdir() if p.suffix in {".safetensors", ".onnx"})
        assert said(load(name, str(file)), paths) == said(load(name, str(folder)), paths)


def test_a_prompt_is_taken_off(models: Any, tmp_path: Path) -> None:
    answers = said(load("blip", str(models("blip")), prompt="A photo of"), kit.pictures(tmp_path / "p", 2))
    assert answers and not any(a.text.startswith("a photo of") for a in answers)


def test_wd_pixels_are_its_authors_recipe(models: Any) -> None:
    tagger = load("wd", str(models("wd")))
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 34, 3), dtype=np.uint8))
    square = np.full((34, 34, 3), 255, dtype=np.uint8)
    square[7:27] = np.asarray(image)
    wanted = np.asarray(Image.fromarray(square).resize((16, 16), Image.Resampling.BICUBIC), dtype=np.float32)
    made = tagger.prepare(image)
    assert made.dtype == np.float32 and np.array_equal(made, wanted[..., ::-1])
    assert isinstance(tagger.options, WdOptions)


@pytest.mark.parametrize("name", ["blip", "blip2"])
def test_blip_pixels_are_the_reference_recipe(name: str, models: Any) -> None:
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (40, 30, 3), dtype=np.uint8))
    resized = np.asarray(image.resize((24, 24), Image.Resampling.BICUBIC), dtype=np.float32)
    wanted = (resized / 255 - kit.CLIP_MEAN) / kit.CLIP_STD
    made = load(name, str(models(name))).prepare(image).numpy().transpose(1, 2, 0)
    assert np.abs((made - wanted) * kit.CLIP_STD * 255).max() <= 1.01  # one grey level


def test_embedded_labels_are_those_of_these_weights(models: Any, tmp_path: Path) -> None:
    """Other weights in a file of the same name, size and times; the same weights read by another recipe."""
    import json
    import os
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "clip"
    shutil.copytree(models("clip"), folder)
    weights = next(folder.glob("*.safetensors"))
    times = weights.stat()

    def embeddings() -> Any:
        """As the captioner holds them; they are what its model makes of the labels."""
        captioner = load("clip", str(folder))
        with torch.inference_mode():
            fresh = captioner._embed([label for _, label in captioner.labels])
        assert torch.allclose(captioner.embeddings_LD, fresh, atol=1e-6)
        return captioner.embeddings_LD

    kept = tmp_path / "cache" / "labels"
    first = embeddings()
    assert torch.equal(first, embeddings())  # read the second time
    assert len(list(kept.iterdir())) == 1
    state = load_file(str(weights))
    state["text_projection"] = state["text_projection"].flip(0)
    save_file(state, str(weights))
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert not torch.allclose(first, embeddings(), atol=1e-3)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    embeddings()
    assert len(list(kept.iterdir())) == 3
