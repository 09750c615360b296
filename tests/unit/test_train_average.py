"""Averaged weights and other optimizers through the whole job: what is published, and exact resume."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
import train_kit as kit
from safetensors.torch import load_file

from loratui.errors import RunError

KINDS = {
    "ema": {"objective__ema_decay": 0.9, "network__dropout": 0.1},
    "schedule_free": {"optimizer__name": "schedule_free"},
    "prodigy": {"optimizer__name": "prodigy", "optimizer__lr": 1.0},
    "adamw8bit": {"optimizer__name": "adamw8bit", "optimizer__options": ("min_8bit_size=0",)},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One project for the module: its cache is filled once."""
    return tmp_path_factory.mktemp("project")


def settings(kind: str, **changes):
    base = {"optimizer__steps": 6, "optimizer__accumulation": 2, "saving__every": 1, "saving__keep": 100}
    return kit.tiny_config(**(base | KINDS[kind] | changes))


@pytest.mark.parametrize("kind", KINDS)
def test_resume_ends_in_the_same_bytes(project: Path, tiny_sd15: Path, kind: str) -> None:
    whole = kit.make_run(project, tiny_sd15, settings(kind), kind)
    assert kit.run_job_here(whole)[-1]["state"] == "finished"
    resumed = kit.make_run(project, tiny_sd15, settings(kind), f"{kind}-again")
    shutil.copytree(whole.checkpoints_dir / "step-000003", resumed.checkpoints_dir / "step-000003")
    kit.run_job_here(resumed)
    last = Path("checkpoints/step-000006")
    names = ["lora.safetensors", "state/optimizer.safetensors"]
    averaged = kind in {"ema", "schedule_free"}
    assert (whole.path / last / "state/trained.safetensors").exists() == averaged
    for name in [*names, *(["state/trained.safetensors"] if averaged else [])]:
        assert kit.tensor_hash(whole.path / last / name) == kit.tensor_hash(resumed.path / last / name), name
    exported = load_file(whole.export_dir / f"{kind}.safetensors")
    published = load_file(whole.path / last / "lora.safetensors")
    assert all(torch.equal(exported[n], t) for n, t in published.items())


def test_the_ema_is_the_mean_of_its_formula(project: Path, tiny_sd15: Path) -> None:
    run = kit.make_run(project, tiny_sd15, settings("ema", network__dropout=0.0), "formula")
    kit.run_job_here(run)
    plain = kit.make_run(
        project, tiny_sd15, settings("ema", network__dropout=0.0, objective__ema_decay=0.0), "plain"
    )
    kit.run_job_here(plain)
    name = next(
        n for n in load_file(run.checkpoints_dir / "step-000001" / "lora.safetensors") if "lora_up" in n
    )
    average = torch.zeros(())  # B begins at zero
    for step in range(1, 7):
        folder = f"step-{step:06d}"
        trained = load_file(run.checkpoints_dir / folder / "state" / "trained.safetensors")[name]
        assert torch.equal(trained, load_file(plain.checkpoints_dir / folder / "lora.safetensors")[name])
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * trained.double()
        held = load_file(run.checkpoints_dir / folder / "lora.safetensors")[name]
        assert torch.allclose(held.double(), average, rtol=1e-5, atol=1e-9)


def test_a_checkpoint_without_its_trained_weights_is_refused(project: Path, tiny_sd15: Path) -> None:
    from loratui.train.checkpoint import Checkpoints, load

    run = kit.make_run(project, tiny_sd15, settings("ema", optimizer__steps=2), "whole-ema")
    kit.run_job_here(run)
    other = kit.make_run(project, tiny_sd15, settings("ema", optimizer__steps=2), "half-ema")
    snapshot = load(run.checkpoints_dir / "step-000001")
    snapshot.trained = {}
    Checkpoints(other.checkpoints_dir, 3).save(snapshot)
    with pytest.raises(RunError, match="average"):
        kit.run_job_here(other)


def test_the_objectives_options_train_and_resume_exactly(tmp_path: Path, tiny_sd2: Path) -> None:
    """All at once on a v-prediction base, with masks beside two pictures; quarters are told."""
    from PIL import Image

    from loratui.dataset.pixels import open_rgb
    from loratui.project.manifest import MASK_ENDING

    changes = {
        "objective__zero_terminal_snr": True, "objective__loss": "huber", "objective__masked": True,
        "objective__multires_iterations": 4, "objective__input_perturbation": 0.1,
        "objective__weighting": "p2",
        "objective__timestep_bias": "content", "data__flip": True, "samples__every": 6,
    }  # fmt: skip
    config = settings("ema", **changes)

    def make(name: str):
        run = kit.make_run(tmp_path, tiny_sd2, config, name, family="sd2")
        rows = [json.loads(line) for line in run.manifest_path.read_text().splitlines()]
        for n, row in enumerate(rows[:2]):
            path = Path(row["path"]).with_name(Path(row["path"]).stem + MASK_ENDING)
            size = open_rgb(Path(row["path"])).size
            path.parent.joinpath("masks").mkdir(exist_ok=True)
            path = path.parent / "masks" / path.name  # make_run takes every PNG of the folder
            mask = Image.new("L", size, 0)
            mask.paste(255, (0, 0, size[0] // 2, size[1]))
            mask.save(path)
            row |= {
                "mask": str(path),
                "mask_hash": hashlib.sha256(path.read_bytes()).hexdigest(),
                "weight": 1 + n,
            }
        run.manifest_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return run

    whole = make("objective")
    events = kit.run_job_here(whole)
    assert events[-1]["state"] == "finished"
    quarters = [e for e in events if e["kind"] == "quarters"]
    assert len(quarters) == 1 and sum(quarters[0]["count"]) == sum(
        e["images"] for e in events if e["kind"] == "step"
    )
    resumed = make("objective-again")
    shutil.copytree(whole.checkpoints_dir / "step-000003", resumed.checkpoints_dir / "step-000003")
    kit.run_job_here(resumed)
    last = "checkpoints/step-000006/lora.safetensors"
    assert kit.tensor_hash(whole.path / last) == kit.tensor_hash(resumed.path / last)


def test_zero_terminal_snr_refuses_a_base_that_predicts_noise(project: Path, tiny_sd15: Path) -> None:
    from loratui.errors import ConfigError

    config = settings("ema", objective__zero_terminal_snr=True)
    with pytest.raises(ConfigError, match="v-prediction"):
        kit.run_job_here(kit.make_run(project, tiny_sd15, config, "zero"))
