"""What is the matter with a run, in words: why it ended, what hinders it, and what to do."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

from loratui.runs.diagnosis import Finding, Surroundings, hindrances, why_ended
from loratui.runs.directory import RunDir
from loratui.runs.fold import apply, fold
from loratui.runs.gpus import Gpu, Tenant
from loratui.runs.liveness import LOG_MARK, host_name
from loratui.runs.log_end import log_end
from loratui.runs.state import Checkpoint, Memo, RunState
from loratui.runs.symptoms import symptom

NOW = 1_790_000_000.0


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "runs", "x")


def log(run: RunDir, words: str) -> None:
    run.log_path.write_text(f"old attempt\nValueError: old\n{LOG_MARK} attempt 2 ===\n{words}")


def ended(state: str, reason: str, **changes: Any) -> RunState:
    made = RunState(run_id="r", step=120, attempt=1, memo=Memo(took_over=True), **changes)
    made.state, made.reason = state, reason  # type: ignore[assignment]
    made.checkpoints = [Checkpoint(100, "checkpoints/step-000100")]
    return made


TRACEBACK = """\
loading
Traceback (most recent call last):
  File "/opt/loratui/loratui/jobs/train.py", line 40, in main
    train(t)
  File "/opt/loratui/loratui/train/loop.py", line 211, in train
    accelerator.backward(loss)
{last}
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""


@pytest.mark.parametrize(
    ("reason", "last", "code", "words"),
    [
        (
            "RuntimeError: CUDA error: GPU is lost",
            "RuntimeError: CUDA error: GPU is lost",
            "device-lost",
            "nvidia-smi",
        ),
        (
            "AcceleratorError: CUDA error: an illegal memory access was encountered",
            "",
            "device-fault",
            "CUDA_LAUNCH",
        ),
        ("RuntimeError: CUDA error: no kernel image is available", "", "driver-mismatch", "doctor"),
        ("OSError: [Errno 5] Input/output error", "", "disk-away", "mounted"),
        ("RuntimeError: DataLoader: insufficient shared memory (shm)", "", "shared-memory", "shm-size"),
        ("ChildFailedError: NCCL watchdog", "", "processes", "log.txt"),
    ],
)
def test_python_errors_are_told_in_words(run: RunDir, reason: str, last: str, code: str, words: str) -> None:
    log(run, TRACEBACK.format(last=last or reason))
    found = why_ended(ended("failed", reason), run)
    assert found is not None and found.code == code
    assert "at step 120" in found.message and words in found.advice and "step 100" in found.advice
    assert "loop.py:211, in train" in found.telling and found.lines


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (
            "The kernel killed a process because the machine's memory ran out, most likely this one.",
            "oom-killed",
        ),
        ("The process ended without a word: killed (SIGKILL), or the machine restarted.", "killed"),
        (
            "The process died of a fault in native code: Fatal Python error: Segmentation fault",
            "native-fault",
        ),
    ],
)
def test_crashes_say_what_to_do(run: RunDir, reason: str, code: str) -> None:
    log(run, "step 119\n")
    found = why_ended(ended("crashed", reason), run)
    assert found is not None and found.code == code and found.message == reason
    assert "loratui resume r" in found.advice


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGINT"])
def test_signals_have_meanings(name: str) -> None:
    found = why_ended(ended("stopped", f"{name} was received."))
    assert found is not None and name in found.message and "step 120" in found.message
    assert why_ended(ended("stopped", "")) is None and why_ended(ended("finished", "")) is None


def test_our_own_sentences_stay(run: RunDir) -> None:
    log(run, "NonFiniteError: The loss became NaN at step 7 Lower optimizer.lr\n")
    state = ended(
        "failed", "The loss became NaN at step 7; the checkpoint of step 5 is kept.", advice="Lower it."
    )
    found = why_ended(state, run)
    assert found is not None and found.code == "not-finite" and found.message == state.reason
    assert found.advice == "Lower it." and not found.lines
    full = why_ended(ended("failed", "The disk is full (/data).", advice="Free some."), run)
    assert full is not None and full.message == "The disk is full (/data)."


def test_the_line_that_matters(run: RunDir) -> None:
    assert log_end(run).telling == ""
    log(run, TRACEBACK.format(last="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"))
    end = log_end(run)
    assert end.telling.startswith("torch.OutOfMemoryError") and end.where == "train/loop.py:211, in train"
    log(run, "Fatal Python error: Bus error\n\nThread 0x1 (most recent call first):\n  File x\n")
    assert log_end(run).telling == "Fatal Python error: Bus error"
    log(run, "one\n\x1b[31mlast \x1b]0;x\x07words\x1b[0m\n")
    assert "last" in log_end(run).telling and "\x1b" not in log_end(run).telling
    assert symptom("all is well") is None


def training(steps: int = 120, step_s: float = 0.5, slow_from: int = 0, part: str = "data") -> RunState:
    """A fold of steps; from `slow_from` on one part takes a second more."""
    state = fold([{"t": NOW - 1000, "a": 1, "kind": "opened", "attempt": 1, "steps": 1000, "epochs": 10}])
    apply(
        state, {"t": NOW - 999, "a": 1, "kind": "process", "host": host_name(), "pid": 1, "device": "cuda:0"}
    )
    apply(state, {"t": NOW - 998, "a": 1, "kind": "state", "state": "running"})
    at = NOW - 900
    for step in range(1, steps + 1):
        late = 1.0 if slow_from and step >= slow_from else 0.0
        at += step_s + late
        times = {"data": 0.01, "compute": step_s - 0.03, "optimizer": 0.01, "io": 0.01}
        times[part] += late
        took = {"step_s": step_s + late, "times": times}
        apply(state, {"t": at, "a": 1, "kind": "step", "step": step, "loss": 0.1, "images": 4, **took})
    return state


def codes(found: list[Finding]) -> list[str]:
    return [each.code for each in found]


def test_a_run_that_goes_well_has_nothing_to_say() -> None:
    state = training()
    assert hindrances(state, state.updated_at + 1) == []
    assert (
        hindrances(state, state.updated_at + 1, Surroundings([Gpu(0, "x", 1, 24, busy=0.9)], 0.5, 100)) == []
    )


def test_a_stall_is_told_after_five_times_the_usual() -> None:
    state = training(step_s=10.0)
    assert codes(hindrances(state, state.updated_at + 45)) == []
    found = hindrances(state, state.updated_at + 61, Surroundings(waits_for_disk=True))
    assert (
        codes(found) == ["stalled"] and "10 s" in found[0].message and "waits for a disk" in found[0].message
    )
    idle = Surroundings([Gpu(0, "x", 1, 24, ours_gib=1.0, busy=0.0)])
    assert "idle" in hindrances(state, state.updated_at + 61, idle)[0].message
    quick = training(step_s=0.1)
    assert codes(hindrances(quick, quick.updated_at + 15)) == []  # a save may take that long
    state.state = "paused"
    assert codes(hindrances(state, state.updated_at + 999)) == []


@pytest.mark.parametrize(
    ("part", "words"), [("data", "reading pictures"), ("compute", "forward and backward")]
)
def test_slower_than_it_was_and_in_which_part(part: str, words: str) -> None:
    state = training(160, slow_from=130, part=part)
    found = [f for f in hindrances(state, state.updated_at + 0.1) if f.code == "slow"]
    assert len(found) == 1 and words in found[0].message and "3.0 times" in found[0].message
    gpu = "GPU" in found[0].advice
    assert gpu == (part == "compute")
    state.device = "cpu, 2 threads"
    found = [f for f in hindrances(state, state.updated_at + 0.1) if f.code == "slow"]
    assert words in found[0].message and "GPU" not in found[0].advice


def test_waiting_for_data_from_the_start() -> None:
    state = training(60, slow_from=1, part="data")
    assert codes(hindrances(state, state.updated_at + 0.1)) == ["loader-bound"]


def test_the_gpu_is_throttled_shared_or_lost() -> None:
    state = training()
    at = state.updated_at + 0.1
    hot = Gpu(0, "x", 10, 24, ours_gib=9.0, temperature_c=93, throttled=("power cap", "thermal"))
    found = hindrances(state, at, Surroundings([hot]))
    assert (
        codes(found) == ["throttled"] and "93 °C" in found[0].message and "power cap" not in found[0].message
    )
    capped = Gpu(0, "x", 10, 24, ours_gib=9.0, throttled=("power cap",))
    assert hindrances(state, at, Surroundings([capped])) == []
    shared = Gpu(0, "x", 20, 24, ours_gib=9.0, others=(Tenant(77, "blender", 11.0),))
    found = hindrances(state, at, Surroundings([shared]))
    assert codes(found) == ["shared"] and "blender (pid 77) uses 11.0 GiB of GPU 0" in found[0].message
    elsewhere = Gpu(1, "x", 20, 24, others=(Tenant(77, "blender", 11.0),))
    assert hindrances(state, at, Surroundings([elsewhere])) == []
    lost = Gpu(0, "x", 0, 0, lost="GPU is lost")
    assert codes(hindrances(state, at, Surroundings([lost]))) == ["device-lost"]


def test_little_room_and_no_numbers() -> None:
    state = training()
    state.checkpoints = [Checkpoint(100, "c", 1.0, 2 << 30)]
    found = hindrances(state, state.updated_at + 0.1, Surroundings(disk_free_gib=3.0, ram_share=0.98))
    assert codes(found) == ["disk-low", "memory-low"] and "room for 1 more" in found[0].message
    state.loss = math.nan
    assert codes(hindrances(state, state.updated_at + 0.1)) == ["not-finite"]


def test_looking_is_cheap() -> None:
    state = training(400)
    start = time.process_time()
    for _ in range(200):
        hindrances(state, state.updated_at + 0.1, Surroundings([Gpu(0, "x", 1, 24)] * 8))
    assert time.process_time() - start < 0.5
