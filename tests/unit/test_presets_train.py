"""Every shipped preset trains two steps on a tiny model of its family, with its own network and optimizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import train_kit as kit
from tiny_kit import FLOW

from loratui.config.presets import load_preset, preset_paths, resolve
from loratui.families.spec import FAMILIES

SMALL = {
    "data.resolution": 16, "data.bucket_step": 8, "data.min_bucket": 8, "data.max_bucket": 32,
    "data.batch_size": 2, "optimizer.steps": 2, "optimizer.warmup_steps": 0, "optimizer.accumulation": 1,
    "network.rank": 4, "network.alpha": 4.0, "samples.every": 0, "saving.every": 2, "memory.device": "cpu",
    "memory.precision": "fp32",
}  # fmt: skip


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One project a family, so that latents are cached once."""
    return {spec.name: tmp_path_factory.mktemp(spec.name) for spec in FAMILIES}


def _deeper(base: Path, folder: Path) -> Path:
    """The same base with a text encoder of two layers, for clip skip."""
    if not folder.exists():
        shutil.copytree(base, folder)
        width = json.loads((base / "text_encoder" / "config.json").read_text())["hidden_size"]
        kit.tiny_text(width, layers=2).save_pretrained(folder / "text_encoder")
    return folder


@pytest.mark.parametrize("name", sorted(preset_paths()))
def test_a_preset_trains_two_steps(
    name: str, projects: dict[str, Path], request: pytest.FixtureRequest
) -> None:
    preset = load_preset(name)
    small = {k: v for k, v in SMALL.items() if not (name == "sdxl-one-image" and k == "network.alpha")}
    if preset.values.get("memory.blocks_to_swap"):
        # of the 16 blocks that a tiny base of U-Nets has, and of the two or four of transformers
        small["memory.blocks_to_swap"] = 2 if preset.family in FLOW else 4
    config = resolve(preset, small)
    base = request.getfixturevalue(f"tiny_{preset.family}")
    if config.model.clip_skip > 1:
        base = _deeper(base, projects[preset.family] / "deeper")
    run = kit.make_run(projects[preset.family], base, config, name, preset.family)
    events = kit.run_job_here(run)
    steps = [e for e in events if e["kind"] == "step"]
    assert [e["step"] for e in steps] == [1, 2]
    assert all(0 < e["loss"] < 100 for e in steps)
    assert [e["state"] for e in events if e["kind"] == "state"][-1] == "finished"
