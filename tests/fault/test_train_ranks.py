"""Several processes train one network: the same losses, exact resumes, one voice, one end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ranks_kit as ranks
import torch
import train_kit as kit

from loratui.config.checks import check, check_device
from loratui.config.load import load_run
from loratui.config.write import write_run
from loratui.errors import SaveError
from loratui.runs import control
from loratui.runs.directory import RunDir
from loratui.runs.fold import fold
from loratui.runs.journal import read_events
from loratui.runs.liveness import observed_state

EVERYTHING = {
    "optimizer__steps": 20, "optimizer__accumulation": 2, "data__batch_size": 4, "data__flip": True,
    "data__caption_dropout": 0.2, "objective__min_snr_gamma": 5.0, "objective__noise_offset": 0.05,
    "network__dropout": 0.2, "objective__ema_decay": 0.9, "objective__validation_share": 0.3,
    "optimizer__max_grad_norm": 0.5, "saving__every": 5, "saving__keep": 100,
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One project for the module: its cache is filled once."""
    return tmp_path_factory.mktemp("ranks")


def make(project: Path, base: Path, name: str, processes: int, **changes: Any) -> RunDir:
    config = kit.tiny_config(**(changes | {"memory__processes": processes}))
    return kit.make_run(project, base, config, name)


def rel_error(one: list[float], other: list[float]) -> float:
    a, b = torch.tensor(one, dtype=torch.float64), torch.tensor(other, dtype=torch.float64)
    return float(((a - b).abs() / a.abs()).max())


@pytest.fixture(scope="module")
def whole(project: Path, tiny_sd15: Path) -> dict[int, tuple[RunDir, list[dict]]]:
    """The same run by one and by two processes."""
    found = {}
    for count in (1, 2):
        run = make(project, tiny_sd15, f"whole-{count}", count, **EVERYTHING)
        found[count] = run, ranks.train(run, count)
    return found


def test_two_processes_make_the_losses_of_one(whole) -> None:
    (one_run, one), (two_run, two) = whole[1], whole[2]
    assert len(ranks.losses(one)) == len(ranks.losses(two)) == 20
    assert rel_error(ranks.losses(one), ranks.losses(two)) < 1e-5
    for kind, key in (("validation", "loss"), ("quarters", "loss"), ("step", "grad_norm")):
        a = torch.tensor([e[key] for e in one if e["kind"] == kind])
        b = torch.tensor([e[key] for e in two if e["kind"] == kind])
        assert torch.allclose(a, b, rtol=1e-4), kind
    assert [e["count"] for e in one if e["kind"] == "quarters"] == [
        e["count"] for e in two if e["kind"] == "quarters"
    ]
    assert {e["images"] for e in two if e["kind"] == "step"} == {
        e["images"] for e in one if e["kind"] == "step"
    }
    assert two[-1]["state"] == "finished" and [e["n"] for e in two] == list(range(1, len(two) + 1))
    here = {p.name for p in one_run.path.iterdir()}  # without the shell's lock and log
    assert {p.name for p in two_run.path.iterdir()} - here <= {"trainer.lock", "log.txt"}


@pytest.mark.parametrize(
    "changes",
    [
        {"data__batch_size": 2, "objective__masked": True},  # batches of one sample leave a process idle
        {"network__kind": "dora", "network__dropout": 0.3},
        {"network__kind": "loha", "network__rank_dropout": 0.2, "network__module_dropout": 0.2},
        {"network__text_encoder": True, "network__text_stop": 4, "network__dropout": 0.1,
         "data__max_tokens": "150"},
        {"optimizer__name": "prodigy", "optimizer__lr": 1.0},
    ],
    ids=["short batches", "dora", "loha", "text", "prodigy"],
)  # fmt: skip
def test_networks_and_short_batches(project: Path, tiny_sd15: Path, changes: dict[str, Any]) -> None:
    name = str(sum(map(ord, repr(changes))))
    both = []
    for count in (1, 2):
        run = make(project, tiny_sd15, f"{name}-{count}", count, **({"data__batch_size": 4} | changes))
        both.append(ranks.losses(ranks.train(run, count)))
    assert rel_error(*both) < 1e-5
    assert len(set(both[0])) == 8


def resumed(project: Path, base: Path, whole: RunDir, name: str, count: int, step: int = 10) -> RunDir:
    run = make(project, base, name, count, **EVERYTHING)
    folder = f"step-{step:06d}"
    shutil.copytree(whole.checkpoints_dir / folder, run.checkpoints_dir / folder)
    return run


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 1), (1, 2)])
def test_resume_over_counts(whole, project: Path, tiny_sd15: Path, before: int, after: int) -> None:
    """Bit-exact at the same count, to 1e-5 otherwise; the change is said."""
    source, events = whole[before]
    run = resumed(project, tiny_sd15, source, f"resume-{before}-{after}", after)
    again = ranks.train(run, after)
    expected = [e["loss"] for e in events if e["kind"] == "step" and e["step"] > 10]
    said = [e["message"] for e in again if e["kind"] == "warning"]
    if before == after:
        assert ranks.losses(again) == expected and not said
        for file in ("lora.safetensors", "state/optimizer.safetensors", "state/trained.safetensors"):
            last = f"checkpoints/step-000020/{file}"
            assert kit.tensor_hash(run.path / last) == kit.tensor_hash(source.path / last)
    else:
        assert rel_error(ranks.losses(again), expected) < 1e-5
        assert said == [f"Going on with another setting: memory.processes was {before} and is {after}."]


@pytest.mark.parametrize("victim", [0, 1])
def test_one_killed_ends_all_as_crashed_and_the_resume_is_exact(
    whole, project: Path, tiny_sd15: Path, victim: int
) -> None:
    source, events = whole[2]
    run = resumed(project, tiny_sd15, source, f"killed-{victim}", 2)
    pids = ranks.start(run, 2, slow_steps(0.1))
    wait_for(run, lambda events: len(ranks.losses(events)) >= 3)
    begun = time.monotonic()
    os.kill(pids[victim], signal.SIGKILL)
    codes = ranks.finish(pids, 30.0)
    assert time.monotonic() - begun < 10.0 and codes[victim] == -signal.SIGKILL and codes[1 - victim] == 1
    state = observed_state(fold(read_events(run.events_path).events), run=run)
    assert state.state == "crashed"
    assert ("Process 2 of 2" if victim else "killed") in state.reason
    again = ranks.train(run, 2)
    assert ranks.losses(again)[-10:] == ranks.losses(events)[-10:]
    last = "checkpoints/step-000020/lora.safetensors"
    assert kit.tensor_hash(run.path / last) == kit.tensor_hash(source.path / last)


def slow_steps(seconds: float):
    """A tweak: each step takes that long."""

    def tweak(rank: int) -> None:
        from loratui.train import loop

        step = loop.optimizer_step
        loop.optimizer_step = lambda t: (time.sleep(seconds), step(t))  # type: ignore[assignment]

    return tweak


def wait_for(run: RunDir, holds, timeout_s: float = 40.0) -> list[dict]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if run.events_path.exists() and holds(events := kit.events(run)):
            return events
        time.sleep(0.02)
    raise AssertionError(f"not in {timeout_s} s: {ranks.log(run)}")


def acked(run: RunDir, kind: str):
    return lambda events: any(e["kind"] == "ack" and e["request"] == kind for e in events)


def test_pause_save_sample_and_stop_reach_all(project: Path, tiny_sd15: Path) -> None:
    run = make(project, tiny_sd15, "asked", 2, optimizer__steps=400, saving__every=1000)
    pids = ranks.start(run, 2, slow_steps(0.02))
    wait_for(run, lambda events: len(ranks.losses(events)) >= 2)
    for kind in ("save", "sample", "prompts", "pause"):
        control.request(run, kind, **({"prompts": ["a hill"]} if kind == "prompts" else {}))
        wait_for(run, acked(run, kind))
    paused = wait_for(run, lambda events: bool(events) and events[-1].get("state") == "paused")
    time.sleep(0.3)
    assert len(ranks.losses(kit.events(run))) == len(ranks.losses(paused))
    control.request(run, "save")  # a paused run saves
    control.request(run, "resume")
    wait_for(run, acked(run, "resume"))
    os.kill(pids[1], signal.SIGTERM)  # any process may be asked to stop
    assert ranks.finish(pids) == [0, 0], ranks.log(run)
    events = kit.events(run)
    assert events[-1]["state"] == "stopped"
    steps = [e["step"] for e in events if e["kind"] == "step"]
    assert steps == list(range(1, len(steps) + 1)) and 2 < len(steps) < 400
    saved = [e["step"] for e in events if e["kind"] == "checkpoint"]
    assert saved[-1] == steps[-1] and len(saved) >= 2
    assert [e["prompt"] for e in events if e["kind"] == "sample"] == ["a red square", "a blue circle"]
    assert json.loads((max(run.checkpoints_dir.glob("step-*")) / "state/state.json").read_text())[
        "prompts"
    ] == ["a hill"]


def test_a_failure_of_a_silent_process_is_told(project: Path, tiny_sd15: Path) -> None:
    def tweak(rank: int) -> None:
        from loratui.train.objective import Objective

        if rank == 1:
            Objective.losses = no_memory  # type: ignore[method-assign]

    def no_memory(*args: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    run = make(project, tiny_sd15, "no-memory", 2)
    codes = ranks.finish(ranks.start(run, 2, tweak), 40.0)
    assert codes == [1, 1]
    last = kit.events(run)[-1]
    assert last["state"] == "failed" and "memory ran out" in last["reason"]
    assert "in process 2 of 2" in last["reason"] and "batch_size" in last["advice"]


def test_a_nan_in_one_process_stops_or_skips_in_all(project: Path, tiny_sd15: Path) -> None:
    from safetensors.torch import load_file

    def tweak(rank: int) -> None:
        from loratui.train.objective import Objective

        losses, calls = Objective.losses, []

        def poisoned(*args: Any) -> Any:
            calls.append(1)
            value = losses(*args)
            return value * float("nan") if rank == 1 and len(calls) in {3, 6} else value

        Objective.losses = poisoned  # type: ignore[method-assign]

    run = make(project, tiny_sd15, "nan", 2, optimizer__on_nan="skip", data__batch_size=4, saving__every=1)
    events = ranks.train(run, 2, tweak)
    assert [e["step"] for e in events if e["kind"] == "step"] == [1, 2, 4, 5, 7, 8]
    for path in run.path.rglob("*.safetensors"):
        assert all(bool(t.isfinite().all()) for t in load_file(path).values()), path

    run = make(project, tiny_sd15, "nan-stops", 2, data__batch_size=4, saving__every=1)
    assert ranks.finish(ranks.start(run, 2, tweak), 40.0) == [1, 1]
    events = kit.events(run)
    assert events[-1]["state"] == "failed" and "step 3" in events[-1]["reason"]
    assert [e["kind"] for e in events].count("error") == 1


def test_a_full_disk_pauses_all(project: Path, tiny_sd15: Path) -> None:
    def tweak(rank: int) -> None:
        from loratui.train.checkpoint import Checkpoints

        save, calls = Checkpoints.save, []

        def full(self: Any, snapshot: Any) -> Any:
            assert rank == 0
            calls.append(1)
            if len(calls) == 1:
                raise SaveError("The disk is full.", "Free some space.")
            return save(self, snapshot)

        Checkpoints.save = full  # type: ignore[method-assign]

    run = make(project, tiny_sd15, "full", 2)
    pids = ranks.start(run, 2, tweak)
    wait_for(run, lambda events: bool(events) and events[-1].get("state") == "paused")
    control.request(run, "resume")
    assert ranks.finish(pids) == [0, 0], ranks.log(run)
    events = kit.events(run)
    assert events[-1]["state"] == "finished"
    assert [e["step"] for e in events if e["kind"] == "checkpoint"] == [3, 6, 8]


def test_weights_that_part_are_noticed(project: Path, tiny_sd15: Path) -> None:
    def tweak(rank: int) -> None:
        from loratui.train import loop

        step = loop.optimizer_step

        def drifting(t: Any) -> None:
            step(t)
            if rank == 1 and t.step == 1:
                with torch.no_grad():
                    t.adapter.parameters()[0][0, 0] += 1e-6

        loop.optimizer_step = drifting

    run = make(project, tiny_sd15, "drift", 2)
    assert ranks.finish(ranks.start(run, 2, tweak), 40.0) == [1, 1]
    last = kit.events(run)[-1]
    assert last["state"] == "failed" and "different weights" in last["reason"]
    assert not list(run.checkpoints_dir.glob("step-*"))


def test_a_count_that_does_not_fit_is_an_error_before_the_run(project: Path, tiny_sd15: Path) -> None:
    config = kit.tiny_config(memory__processes=2, data__batch_size=3)
    (problem,) = [p for p in check(config) if p.severity == "error"]
    assert problem.path == "memory.processes" and "2 or 4" in problem.advice
    config = kit.tiny_config(memory__processes=2, memory__device="cuda:1")
    assert [p.code for p in check(config) if p.severity == "error"] == ["one-gpu"]
    config = kit.tiny_config(memory__processes=2, memory__device="auto")
    assert [p.code for p in check_device(config, cuda=1)] == ["few-gpus"]
    assert check_device(config, cuda=2) == [] and check_device(config, cuda=0) == []


def test_a_run_of_two_started_as_one_is_refused(project: Path, tiny_sd15: Path) -> None:
    from loratui.errors import ConfigError

    run = make(project, tiny_sd15, "alone", 2)
    with pytest.raises(ConfigError, match=r"memory.processes is 2, and 1 process of it started"):
        kit.run_job_here(run)
    info, config = load_run(run.config_path)
    write_run(run.config_path, info, replace(config, memory=replace(config.memory, processes=1)))
    assert kit.run_job_here(run)[-1]["state"] == "finished"
