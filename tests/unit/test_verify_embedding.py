"""What an embedding file is for and who reads it; files that are none, or broken; exports by command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import train_kit as kit
from safetensors.numpy import load_file, save_file

from loratui.cli import main
from loratui.errors import WeightsError
from loratui.weights.convert import convert_embedding
from loratui.weights.embedding_files import bundled, embedding_metadata, open_embedding
from loratui.weights.header import read_header
from loratui.weights.verify import verify_file

ALL = {"diffusers", "comfyui", "a1111"}


def file_of(folder: Path, shapes: dict[str, tuple[int, ...]], metadata: dict[str, str] | None = None) -> Path:
    path = folder / "grey-fox.safetensors"
    rows = {name: np.full(shape, 0.5, np.float32) for name, shape in shapes.items()}
    save_file(rows, path, metadata)
    return path


@pytest.mark.parametrize(
    ("family", "shapes"),
    [
        ("sd15", {"emb_params": (4, 768)}),
        ("sd15", {"<grey-fox>": (768,)}),
        ("sd2", {"emb_params": (2, 1024)}),
        ("sdxl", {"clip_l": (3, 768), "clip_g": (3, 1280)}),
    ],
)
def test_families_by_their_widths(tmp_path: Path, family: str, shapes: dict[str, tuple[int, ...]]) -> None:
    found = verify_file(file_of(tmp_path, shapes))
    assert (found.ok, found.family, found.format) == (True, family, "embedding")
    first = next(iter(shapes.values()))
    assert found.vectors == (first[0] if len(first) == 2 else 1)
    assert found.matched == dict.fromkeys(ALL, (len(shapes), len(shapes)))
    (called,) = [p.message for p in found.problems if p.code == "called"]
    assert "embedding:grey-fox in ComfyUI" in called
    assert open_embedding(found.path, family).vectors == found.vectors
    assert found.as_json()["vectors"] == found.vectors


def test_another_size_is_known_by_what_the_file_says(tmp_path: Path) -> None:
    shapes = {"emb_params": (4, 160)}
    unknown = verify_file(file_of(tmp_path, shapes))
    assert (unknown.family, unknown.format, unknown.ok) == ("", "embedding", False)
    assert "unchecked-family" in {p.code for p in unknown.problems}
    said = {"modelspec.architecture": "stable-diffusion-v1/textual-inversion"}
    known = verify_file(file_of(tmp_path, shapes, said))
    assert known.family == "sd15" and "other-size" in {p.code for p in known.problems}


@pytest.mark.parametrize(
    ("shapes", "code"),
    [
        ({"clip_l": (3, 768), "clip_g": (4, 1280)}, "uneven"),
        ({"clip_l": (3, 768), "t5xxl": (3, 4096)}, "unmatched"),
    ],
)
def test_what_others_would_not_take(tmp_path: Path, shapes: dict[str, tuple[int, ...]], code: str) -> None:
    said = {"modelspec.architecture": "stable-diffusion-xl-v1-base/textual-inversion"}
    found = verify_file(file_of(tmp_path, shapes, said))
    assert not found.ok
    assert code in {p.code for p in found.problems if p.severity == "error"}


def test_numbers_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "it.safetensors"
    save_file({"emb_params": np.full((2, 768), np.nan, np.float16)}, path)
    assert [p.code for p in verify_file(path).problems if p.severity == "error"] == ["not-finite"]


@pytest.mark.parametrize(
    "shapes",
    [
        {"emb_params": (90, 768)},
        {"unet.weight": (4, 4)},
        {"one": (2, 768), "two": (2, 768)},
        {"w": (1, 2, 3)},
    ],
)
def test_what_is_no_embedding(tmp_path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    path = file_of(tmp_path, shapes)
    found = verify_file(path)
    assert not found.ok and [p.code for p in found.problems] == ["not-a-lora"]
    with pytest.raises(WeightsError, match="no embedding"):
        convert_embedding(path, tmp_path / "to.safetensors")


def test_metadata_of_an_embedding() -> None:
    told = embedding_metadata(
        {
            "ss_network_dim": "4", "ss_steps": "8", "modelspec.architecture": "stable-diffusion-v1/lora",
            "modelspec.trigger_phrase": "sks", "sshs_model_hash": "ab",
        },
        "it",
    )  # fmt: skip
    assert set(told) == {
        "ss_steps", "modelspec.architecture", "modelspec.trigger_phrase", "modelspec.usage_hint",
    }  # fmt: skip
    assert told["modelspec.trigger_phrase"] == "it"
    assert told["modelspec.architecture"] == "stable-diffusion-v1/textual-inversion"


@pytest.mark.parametrize(
    "names",
    [
        ["bundle_emb.fox.string_to_param.*"],
        ["bundle_emb.fox.emb_params", "bundle_emb.cat.emb_params"],
        ["lora_unet_x.lora_down.weight"],
    ],
)
def test_bundles_of_another_form_or_of_several(tmp_path: Path, names: list[str]) -> None:
    path = file_of(tmp_path, dict.fromkeys(names, (2, 768)))
    assert bundled(read_header(path)) == {}


@pytest.mark.parametrize("only", [True, False])
def test_export_by_command_line(
    only: bool, tiny_sd15: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = kit.tiny_config(
        network__tokens=3, network__tokens_only=only, optimizer__steps=2, saving__every=1, samples__every=0
    )
    run = kit.make_run(tmp_path, tiny_sd15, config, "ti", family="sd15")
    kit.run_job_here(run)
    own = run.export_dir / "sks-thing-embedding.safetensors"
    capsys.readouterr()
    assert main(["verify", str(own)]) == 0
    assert "3 vectors" in capsys.readouterr().out
    made = tmp_path / "elsewhere.safetensors"
    assert main(["export", str(run.path), "--step", "2", "--out", str(made), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["file"] == str(made)
    beside = made if only else tmp_path / "elsewhere-embedding.safetensors"
    assert kit.tensor_hash(beside) == kit.tensor_hash(own)
    assert read_header(beside).metadata["modelspec.trigger_phrase"] == beside.stem
    assert (document.get("embedding") == str(beside)) == (not only)
    again = ["export", str(run.path), "--step", "2", "--out", str(made)]
    if not only:
        made.unlink()
        assert main(again) == 2  # its embedding would replace the one that is there
        assert "elsewhere-embedding" in capsys.readouterr().err and not made.exists()
    assert main([*again, "--force"]) == 0
    if only:
        assert (document["format"], document["vectors"]) == ("embedding", 3)
        assert main(["export", str(run.path)]) == 0  # is there already
        assert list(run.export_dir.iterdir()) == [own]
        assert main(["export", str(run.path), "--format", "peft"]) == 2
        assert "Leave --format out" in capsys.readouterr().err
        assert main(["export", str(own), "--out", str(made)]) == 2
        assert "--force" in capsys.readouterr().err
        assert load_file(made).keys() == {"emb_params"}
