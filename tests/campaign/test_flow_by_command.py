"""Every flow family the whole way by the command line, as a user goes it, on its tiny base.

new, scan, plan, two trainings of which one is killed and resumed, samples, export, verify, and the file in
diffusers' own pipeline; from the diffusers folder and, where there is one, from the original's single file.
A family takes part by its row in FAMILIES and its module in tests/tiny_families; so does each of the second
models that the module makes (`VARIANTS`).
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_kit
import torch
import train_kit as kit
from PIL import Image
from safetensors.torch import load_file, save_file

from loratui.families.spec import FAMILIES
from loratui.runs.directory import RunDir
from loratui.runs.fold import fold
from loratui.runs.journal import read_events
from loratui.runs.liveness import observed_state
from loratui.weights.header import read_header

FLOW = [spec.name for spec in FAMILIES if spec.flow]
SHORT = ("sd3", "", "folder")
"""The one that `make test` goes; the others are in `make test-long`."""
STEPS = 60
SETTINGS = (
    "data.resolution=32", "data.min_bucket=16", "data.max_bucket=64", "data.bucket_step=16",
    "data.batch_size=2", "data.caption_dropout=0.3", "data.flip=true", f"steps={STEPS}", "lr=0.01",
    "optimizer.name=adamw", "network.rank=4", "network.alpha=3", "network.target=full",
    "memory.precision=fp32", "memory.base_weights=full", "memory.blocks_to_swap=0",
    f"samples.every={STEPS}", "samples.steps=4",
    "samples.width=32", "samples.height=16", "samples.sampler=euler", "saving.every=10", "saving.dtype=fp32",
)  # fmt: skip
PATIENCE_S = 200.0


def cases() -> list[Any]:
    """(family, variant or nothing, layout) for every model; the long ones marked so."""
    found = []
    for name, variant in [*((name, "") for name in FLOW), *tiny_kit.VARIANTS]:
        for layout in ("folder", "file"):
            if layout == "file" and name not in tiny_kit.ORIGINAL:
                continue
            marks = () if (name, variant, layout) == SHORT else pytest.mark.long
            words = "-".join(filter(None, (name, variant, layout)))
            found.append(pytest.param(name, variant, layout, marks=marks, id=words))
    return found


def flags(variant: str) -> dict[str, bool]:
    """What the functions of a tiny base's module are told."""
    return {variant: True} if variant else {}


@dataclass
class Ground:
    """A place of its own: caches, state, pictures."""

    root: Path
    started: list[RunDir]

    def command(self, *words: object) -> Any:
        """The JSON document of a command that must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "loratui", *map(str, words), "--json"],
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def train(self, project: Path, name: str, settings: list[str]) -> RunDir:
        """A detached training."""
        given = [word for text in settings for word in ("--set", text)]
        document = self.command("train", project, "--name", name, "--device", "cpu", *given)
        self.started.append(RunDir(document["run"]))
        return self.started[-1]


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for picture in kit.tiny_pictures(tmp_path / "pictures", 4):
        picture.with_suffix(".txt").write_text(f"sks thing, {picture.stem}, in the grass")
    ground = Ground(tmp_path, [])
    yield ground
    for run in ground.started:  # what a failed test has left
        if (pid := state_of(run).pid) and state_of(run).state not in {"finished", "crashed", "failed"}:
            os.kill(pid, signal.SIGKILL)


def events(run: RunDir) -> list[dict[str, Any]]:
    return read_events(run.events_path).events


def state_of(run: RunDir) -> Any:
    return observed_state(fold(events(run)), run=run)


def wait(run: RunDir, holds: Any) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not holds(state := state_of(run)):
        assert state.state not in {"failed", "crashed"}, (state.reason, run.log_path.read_text()[-2000:])
        assert time.monotonic() < deadline, (state.state, state.reason, run.log_path.read_text()[-2000:])
        time.sleep(0.05)
    return state


def shapes_in(path: Path) -> list[tuple[str, str, tuple[int, ...]]]:
    """Names, types and shapes in the order of the bytes; offsets shift with the length of the metadata."""
    tensors = sorted(read_header(path).tensors.items(), key=lambda item: item[1].start)
    return [(name, info.dtype, info.shape) for name, info in tensors]


def single_file(name: str, folder: Path, target: Path) -> list[str]:
    """The transformer in the original's layout; the settings that name the other parts."""
    tensors: dict[str, torch.Tensor] = {}
    for path in (folder / "transformer").glob("*.safetensors"):
        tensors |= load_file(path)
    original = tiny_kit.tiny(name).original(tensors)
    save_file({f"model.diffusion_model.{n}": t.contiguous() for n, t in original.items()}, target)
    return [f"model.vae={folder}", f"model.text={folder}"]


def psnr(a: Image.Image, b: Image.Image) -> float:
    error = np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "variant", "layout"), cases())
def test_the_whole_way(
    name: str, variant: str, layout: str, ground: Ground, request: pytest.FixtureRequest
) -> None:
    folder: Path = (
        tiny_kit.tiny(name).make(ground.root / "base", **flags(variant))
        if variant
        else request.getfixturevalue(f"tiny_{name}")
    )
    short = (name, variant, layout) == SHORT
    base, settings = folder, list(SETTINGS)
    if layout == "file":
        base = ground.root / "model.safetensors"
        settings += single_file(name, folder, base)
    project = ground.root / "project"
    made = ground.command("new", project, "--base", base, "--images", ground.root / "pictures",
                          "--trigger", "sks thing")  # fmt: skip
    assert made["images"] == 4 and name in json.dumps(made)
    assert ground.command("scan", project)["images"] == 4
    planned = ground.command("plan", project, *(w for s in settings for w in ("--set", s)))
    assert planned["steps"] == STEPS and not [p for p in planned["problems"] if p["severity"] == "error"]

    if not short:
        check_memory(ground, project, [w for s in settings for w in ("--set", s)])

    whole = ground.train(project, "whole", settings)
    broken = ground.train(project, "broken", settings)
    pid = wait(broken, lambda s: s.step >= 25).pid
    os.kill(pid, signal.SIGKILL)
    while (state := state_of(broken)).state != "crashed":
        assert state.state == "running" and state.step < STEPS, (state.state, state.step)
        time.sleep(0.05)
    assert ground.command("resume", broken.path)["from_step"] in {20, 30, 40}
    for run in (whole, broken):
        wait(run, lambda s: s.state == "finished")
    last = f"checkpoints/step-{STEPS:06d}/lora.safetensors"
    assert kit.tensor_hash(whole.path / last) == kit.tensor_hash(broken.path / last)
    assert shapes_in(whole.path / last) == shapes_in(broken.path / last)
    assert [e["step"] for e in events(whole) if e["kind"] == "step"] == list(range(1, STEPS + 1))

    check_files(name, ground, broken, planned)
    sample = next(e for e in events(broken) if e["kind"] == "sample" and e["step"] == STEPS)
    own = Image.open(broken.path / sample["path"])
    check_in_diffusers(name, variant, folder, ground.root / "peft.safetensors", own)
    if not short:
        done = ground.command("sample", broken.path, "--checkpoint", "last", "--strengths", "0,1", "--wait")
        drawn = [Image.open(s["path"]) for s in done["samples"] if s["seed"] == done["samples"][0]["seed"]]
        assert len(drawn) == 2 and psnr(own, drawn[1]) >= 40 and psnr(own, drawn[0]) <= 30


def check_memory(ground: Ground, project: Path, given: list[str]) -> None:
    """Estimated from a step's operations, and measured in a dry run, which the next plan knows."""
    foreseen = ground.command("plan", project, *given, "--memory")["foreseen"]
    assert (
        foreseen["basis"] == "estimated" and 0 < foreseen["parts"]["train"] <= foreseen["peak_gib"] + 1e-4 < 1
    )
    measured = ground.command("dryrun", project, *given, "--device", "cpu", "--steps", 4)
    assert measured["fits"] and not measured["sample_error"] and 0 < measured["peak_gib"] < 1
    seen = ground.command("plan", project, *given)["foreseen"]
    assert seen["basis"] == "measured" and seen["peak_gib"] == pytest.approx(measured["peak_gib"], abs=1e-3)


def check_files(name: str, ground: Ground, run: RunDir, planned: Any) -> None:
    """Exported, converted, verified N of N; the plan knew its layers and numbers."""
    exported = ground.command("export", run.path, "--out", ground.root / "lora.safetensors")
    ground.command("export", run.path, "--format", "peft", "--out", ground.root / "peft.safetensors")
    for file in (exported["file"], ground.root / "peft.safetensors"):
        found = ground.command("verify", file)
        assert found["ok"] and found["family"] == name, found
        assert set(found["matched"]) == {"diffusers", "comfyui"}
        assert all(n == of == found["modules"] > 0 for n, of in found["matched"].values())
    found, lora = ground.command("verify", run.path), planned["lora"]
    assert not found["problems"] and lora["exact"] and lora["layers"] == found["modules"]
    tensors = read_header(Path(exported["file"])).tensors
    numbers = sum(math.prod(t.shape) for key, t in tensors.items() if not key.endswith(".alpha"))
    assert lora["parameters"] == numbers and lora["bytes"] == 4 * numbers


def check_in_diffusers(name: str, variant: str, folder: Path, file: Path, own: Image.Image) -> None:
    """The trainer's sample: >= 40 dB with the file in diffusers' pipeline, <= 30 dB without it."""
    tiny, said = tiny_kit.tiny(name), json.loads(own.text["loratui"])  # type: ignore[attr-defined]
    pipeline = tiny.pipeline(**flags(variant)).from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)

    def draw() -> Image.Image:
        picture: Image.Image = pipeline(
            **tiny.arguments(pipeline, said["prompt"], said["guidance"]), num_inference_steps=said["steps"],
            width=said["width"], height=said["height"],
            generator=torch.Generator().manual_seed(said["seed"]),
        ).images[0]  # fmt: skip
        return picture

    bare = draw()
    pipeline.load_lora_weights(str(file.parent), weight_name=file.name, local_files_only=True)
    assert psnr(own, draw()) >= 40
    assert psnr(own, bare) <= 30
