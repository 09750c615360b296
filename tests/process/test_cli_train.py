"""A real, tiny training from the command line: detached, followed, stopped, resumed, exported, verified."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loratui.project.demo import make_demo

SMALL = (
    "--set",
    "steps=3",
    "--set",
    "batch_size=1",
    "--set",
    "sample_every=0",
    "--set",
    "rank=2",
    "--device",
    "cpu",
)


def command(*argv: object, code: int = 0) -> Any:
    """The JSON document of a command, run as a user runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "loratui", *map(str, argv), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cli")
    # one thread: on a busy machine, threads that wait for each other take minutes for a step
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORATUI_STATE", str(folder / "state"))
        patch.setenv("OMP_NUM_THREADS", "1")
        root = make_demo(folder / "p").root
        for path in (root / "dataset").iterdir():
            if int(path.stem) > 3:
                path.unlink()
        yield root


@pytest.fixture(scope="module")
def finished(project: Path) -> dict[str, Any]:
    return command("train", project, *SMALL, "--name", "tiny", "--wait")


def test_a_training_followed_to_its_end(finished: dict[str, Any], project: Path) -> None:
    assert finished["state"] == "finished", finished
    assert Path(finished["lora"]).is_file()
    assert Path(finished["run"]).is_dir()
    assert [r["state"] for r in command("runs", project)] == ["finished"]
    state = command("status", finished["run"])
    assert (state["step"], state["steps"], state["lora"]) == (3, 3, finished["lora"])
    assert state["checkpoints"]
    assert command("attach", finished["run"])["state"] == "finished"


def test_its_file_is_verified_and_exported(finished: dict[str, Any], tmp_path: Path) -> None:
    found = command("verify", finished["lora"])
    assert (found["family"], found["format"], found["rank"]) == ("sd15", "kohya", 2)
    assert all(n == of > 0 for n, of in found["matched"].values())
    done = command("export", finished["run"], "--out", tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").read_bytes() == Path(finished["lora"]).read_bytes() or done["ok"]
    assert command("export", finished["run"], "--step", 3, "--format", "peft")["format"] == "peft"
    missing = command("export", finished["run"], "--step", 99, code=2)
    assert "99" in missing["error"]


def test_a_finished_run_is_not_resumed(finished: dict[str, Any]) -> None:
    assert "finished" in command("resume", finished["run"], code=2)["error"]


def test_closing_the_follower_leaves_the_run_alone(project: Path) -> None:
    many = ("--set", "steps=400", *SMALL[2:], "--set", "save_every=1000")
    follower = subprocess.Popen(
        [sys.executable, "-m", "loratui", "train", str(project), *many, "--name", "long", "--wait"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    state = _until(project, "running")
    follower.send_signal(signal.SIGINT)
    assert follower.wait(20) == 130
    assert follower.stderr is not None
    assert "The run goes on" in follower.stderr.read()
    run = state["path"]
    assert command("status", run)["state"] == "running"
    assert "running" in command("resume", run, code=2)["error"], "no second trainer on the same run"
    assert command("stop", run)["answer"] in {"ok", "pending"}
    stopped = _until(project, "stopped")
    assert 0 < stopped["step"] < 400
    assert command("stop", run, code=2)["error"]
    assert command("export", run)["matched"]["comfyui"][0] > 0, "a stopped run has its checkpoint"
    restarted = command("resume", run)
    assert restarted["from_step"] == stopped["step"]
    _until(project, "running")
    command("stop", run)
    assert _until(project, "stopped")["step"] >= stopped["step"]


def _until(project: Path, wanted: str, timeout: float = 150) -> dict[str, Any]:
    """The newest run once it is in a state."""
    from loratui.cli.places import summary
    from loratui.runs.directory import list_runs
    from loratui.runs.status import status

    end = time.monotonic() + timeout
    while time.monotonic() < end:
        runs = [r for r in list_runs(project / "runs") if r.name == "long"]
        if runs:
            state = status(runs[0])
            assert state.state not in {"failed", "crashed"}, state.reason
            if state.state == wanted and (wanted != "running" or state.step > 0):
                return summary(runs[0], state)
        time.sleep(0.2)
    raise AssertionError(f"the run was never {wanted}")
