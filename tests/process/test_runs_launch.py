"""Real processes: a job outlives whoever launched it, stops when asked, and its death is seen at once."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loratui.errors import LockedError, MissingPackageError, RequestError, RunError
from loratui.runs import control
from loratui.runs.directory import RunDir
from loratui.runs.journal import read_events
from loratui.runs.launch import job_python, launch, newest_checkpoint, resume
from loratui.runs.liveness import process_start
from loratui.runs.lock import owner
from loratui.runs.status import status, wait

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ENV = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])}
LONG = {"FAKE_STEPS": "100000", "FAKE_STEP_S": "0.02"}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDir]:
    run = RunDir.create(tmp_path / "runs", "owl")
    yield run
    for event in read_events(run.events_path).events:
        if event["kind"] == "process" and process_start(event["pid"]) == event["process_start"]:
            os.kill(event["pid"], signal.SIGKILL)


def start(run: RunDir, **env: str) -> int:
    return launch(run, "fake_job", python=sys.executable, env={**ENV, **env})


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def kinds(run: RunDir) -> list[str]:
    return [e["kind"] for e in read_events(run.events_path).events]


def test_a_job_from_launch_to_finish(run: RunDir) -> None:
    run.config_path.write_text(
        '[run]\nname = "owl"\nbase_path = "/models/x"\nfamily = "sd15"\npreset = "demo"\n'
        "steps = 5\nepochs = 2\n"
        '[model]\nbase = "demo"\n[samples]\nprompts = ["a"]\n'
    )
    pid = start(run)
    seen: list[str] = []
    state = wait(run, on_event=lambda e: seen.append(e["kind"]))
    assert (state.state, state.step, state.pid, state.attempt) == ("finished", 5, pid, 1)
    assert (state.name, state.base, state.family) == ("owl", "demo", "sd15")
    assert (state.preset, state.steps, state.epochs) == ("demo", 5, 2)
    assert state.prompts == ["a"]
    assert seen == kinds(run) and seen[:2] == ["opened", "state"]
    log = run.log_path.read_bytes()
    assert b"from step 0 red \\x9b2J" in log and b"\x1b" not in log
    until(lambda: process_start(pid) is None)
    assert owner(run.lock_path) is None


def test_the_job_stands_alone(run: RunDir) -> None:
    pid = start(run, **LONG)
    until(lambda: status(run).step > 0)
    assert os.getsid(pid) == pid != os.getsid(0)
    assert Path(f"/proc/{pid}/cwd").resolve() == run.path
    links = [str(Path(f"/proc/{pid}/fd/{fd}").readlink()) for fd in range(3)]
    assert links == ["/dev/null", str(run.log_path), str(run.log_path)]
    parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    assert parent != os.getpid()  # init's: it leaves no zombie with the app


LAUNCHER = """
import os, sys, time
from loratui.runs.directory import RunDir
from loratui.runs.launch import launch
launch(RunDir(sys.argv[1]), "fake_job", python=sys.executable)
print("launched", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("end", ["hangup", "kill"])
def test_it_outlives_its_terminal_and_its_launcher(run: RunDir, end: str) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {**ENV, **LONG}
        os.execv(sys.executable, [sys.executable, "-c", LAUNCHER, str(run.path)])
    until(lambda: run.events_path.exists() and status(run).step > 0)
    if end == "hangup":
        os.close(terminal)  # the kernel sends SIGHUP to everything that has this terminal
    else:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    step = status(run).step
    until(lambda: status(run).step > step + 3)
    assert status(run).state == "running"
    if end == "kill":
        os.close(terminal)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_finishes_the_step_and_saves(run: RunDir, number: signal.Signals) -> None:
    pid = start(run, **LONG, FAKE_MODE="slow-stop")
    until(lambda: status(run).step > 0)
    os.kill(pid, number)
    until(lambda: status(run).state == "stopping")
    os.kill(pid, number)  # a second one does not cut the saving short
    state = wait(run)
    assert state.state == "stopped" and number.name in state.reason and "saved" in state.reason
    assert "resume" in state.advice
    assert (run.path / "stopped-cleanly").read_text() == str(state.step) == str(newest_checkpoint(run))


def test_sigkill_is_seen_within_two_seconds_and_resumed(run: RunDir) -> None:
    pid = start(run, **LONG)
    until(lambda: len(status(run).checkpoints) >= 1)
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: status(run).state == "crashed", seconds=2.0)
    assert time.monotonic() - killed < 2.0
    crashed = status(run)
    assert "SIGKILL" in crashed.reason and f"loratui resume {run.id}" in crashed.advice
    checkpoint = newest_checkpoint(run)
    control.request(run, "stop")  # of the dead attempt: it must not stop the next one
    again = resume(run, python=sys.executable, env={**ENV, "FAKE_STEPS": str(checkpoint + 4)})
    state = wait(run)
    assert (state.state, state.attempt, state.step, state.pid) == ("finished", 2, checkpoint + 4, again)
    assert list(state.acks.values()) == ["expired"]
    steps = [e["step"] for e in read_events(run.events_path).events if e["kind"] == "step" and e["a"] == 2]
    assert steps == list(range(checkpoint + 1, checkpoint + 5))
    with pytest.raises(RunError, match="is finished"):
        resume(run, python=sys.executable)


def test_controls_are_answered(run: RunDir) -> None:
    start(run, **LONG)
    until(lambda: status(run).step > 0)
    save = control.request(run, "save")
    until(lambda: save in status(run).acks)
    (run.control / f"{control.new_id()}-fly.json").write_text("{}")
    until(lambda: "unknown request fly" in status(run).acks.values())
    stop = control.request(run, "stop")
    state = wait(run)
    assert (state.state, state.acks[save], state.acks[stop]) == ("stopped", "ok", "ok")
    assert not list(run.control.iterdir())
    assert state.reason == "A stop was requested."


@pytest.mark.parametrize("many", [20, pytest.param(50, marks=pytest.mark.long)])
def test_many_launchers_of_one_run(tmp_path: Path, run: RunDir, many: int) -> None:
    race_for(run, many)
    for number in range(19 if many == 50 else 0):
        other = RunDir.create(tmp_path / "runs", f"owl-{number}")
        race_for(other, many)
        os.kill(status(other).pid, signal.SIGKILL)


def race_for(run: RunDir, many: int) -> None:
    gate, open_gate = os.pipe()
    racers = []
    for _ in range(many):
        pid = os.fork()
        if pid == 0:
            os.close(open_gate)
            os.read(gate, 1)
            code = 3
            try:
                start(run, **LONG)
                code = 0
            except LockedError:
                code = 1
            finally:
                os._exit(code)
        racers.append(pid)
    os.close(open_gate)
    os.close(gate)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in racers]
    assert sorted(codes) == [0, *[1] * (many - 1)]
    until(lambda: status(run).step > 0)
    assert kinds(run).count("opened") == 1
    named = {e["pid"] for e in read_events(run.events_path).events if e["kind"] == "process"}
    assert len(named) == 1 and status(run).bad_lines == 0
    with pytest.raises(LockedError, match=str(named.pop())):
        resume(run, python=sys.executable)


ENDS = {
    "import-error": (
        "crashed",
        "The job ended before it began: ModuleNotFoundError: No module named 'a_package",
    ),
    "exception": ("failed", "ValueError: bad ␛]52;c;YWJj␇ value"),
    "save-error": ("failed", "The checkpoint could not be written."),
    "enospc": ("failed", "The disk is full (checkpoints/step-2)."),
    "exit": ("failed", "SystemExit: 3"),
    "segfault": (
        "crashed",
        "The process died of a fault in native code: Fatal Python error: Segmentation fault",
    ),
}


@pytest.mark.parametrize("mode", ENDS)
def test_bad_ends_are_told_in_one_sentence(run: RunDir, mode: str) -> None:
    start(run, FAKE_MODE=mode)
    state = wait(run)
    assert state.state == ENDS[mode][0]
    assert state.reason.startswith(ENDS[mode][1])
    assert state.advice
    assert b"\x1b" not in run.log_path.read_bytes()
    if mode == "exception":
        assert "Traceback" in run.log_path.read_text() and "Traceback" not in run.events_path.read_text()
    if mode == "save-error":
        assert "Traceback" not in run.log_path.read_text()
    resume(run, python=sys.executable, env={**ENV, "FAKE_MODE": ""})
    assert wait(run).state == "finished"


def test_a_job_may_be_started_by_hand(run: RunDir) -> None:
    env = {**os.environ, **ENV, "FAKE_STEPS": "3"}
    env.pop("LORATUI_RUN", None)
    command = [sys.executable, "-m", "fake_job", str(run.path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "from step 0 red" in done.stdout and "from step 0 red" in run.log_path.read_text()
    assert status(run).state == "finished"
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "is finished" in done.stderr
    failed = RunDir.create(run.path.parent, "failing")
    command[-1] = str(failed.path)
    done = subprocess.run(
        command, env={**env, "FAKE_MODE": "exception"}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and status(failed).state == "failed"


def test_a_process_that_came_too_late_leaves_the_run_alone(run: RunDir) -> None:
    start(run, FAKE_STEPS="1")
    wait(run)
    before = run.events_path.read_bytes()
    env = {**os.environ, **ENV, "LORATUI_RUN": str(run.path), "LORATUI_ATTEMPT": "7"}
    done = subprocess.run(
        [sys.executable, "-m", "fake_job", str(run.path)], env=env, capture_output=True, timeout=60
    )
    assert done.returncode == 2 and b"given up" in done.stderr
    assert run.events_path.read_bytes() == before


def test_launching_twice_and_nowhere(run: RunDir, tmp_path: Path) -> None:
    start(run, FAKE_STEPS="1")
    wait(run)
    with pytest.raises(RunError, match="was started before; it is finished"):
        start(run)
    with pytest.raises(RunError, match="is not there"):
        launch(RunDir(tmp_path / "nothing"), "fake_job", python=sys.executable)
    with pytest.raises(RunError, match="is not a run"):
        resume(RunDir(tmp_path / "nothing"), python=sys.executable)


def test_an_interpreter_that_is_not_there(run: RunDir, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not there") as caught:
        launch(run, "fake_job", python="/nowhere/python")
    assert "LORATUI_PYTHON" in caught.value.advice
    assert not run.events_path.exists() or kinds(run) == []
    broken = tmp_path / "python"
    broken.write_text("#!/nowhere/interpreter\n")
    broken.chmod(0o755)
    with pytest.raises(RunError, match="could not be started"):
        launch(run, "fake_job", python=str(broken))
    assert status(run).state == "failed"


def test_the_interpreter_of_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORATUI_CONFIG", str(tmp_path))
    monkeypatch.delenv("LORATUI_PYTHON", raising=False)
    assert job_python() == sys.executable
    bare = tmp_path / "bare" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare.parent.parent)], check=True)
    (tmp_path / "config.toml").write_text(f"[jobs]\npython = {json.dumps(str(bare))}\n")
    with pytest.raises(MissingPackageError, match="torch") as caught:
        job_python()
    assert "pip install 'loratui[train]'" in caught.value.advice
    monkeypatch.setenv("LORATUI_PYTHON", sys.executable)
    assert job_python() == sys.executable
    monkeypatch.setenv("LORATUI_PYTHON", "/nowhere/python")
    with pytest.raises(RunError, match="is not there"):
        job_python()
    monkeypatch.delenv("LORATUI_PYTHON")
    (tmp_path / "config.toml").write_text("[jobs\n")
    with pytest.raises(RequestError, match="cannot be read"):
        job_python()


def test_no_torch_is_said_before_anything_is_started(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LORATUI_CONFIG", str(tmp_path))
    monkeypatch.setattr("loratui.runs.launch.TRAINING", ("a_package_that_is_not_there",))
    with pytest.raises(MissingPackageError, match="a_package_that_is_not_there") as caught:
        launch(run, "train")
    assert "pip install" in caught.value.advice
    assert not run.events_path.exists()


def test_a_checkpoint_counts_when_it_is_whole(run: RunDir) -> None:
    assert newest_checkpoint(run) == 0
    for step, manifest in {5: {"files": {}}, 10: {"files": {"lost": ""}}, 15: None, 20: []}.items():
        folder = run.checkpoints_dir / f"step-{step:06d}"
        folder.mkdir()
        if manifest is not None:
            (folder / "manifest.json").write_text(json.dumps(manifest))
    (run.checkpoints_dir / "step-000030").mkdir()
    (run.checkpoints_dir / "step-000030" / "manifest.json").write_text("{")
    assert newest_checkpoint(run) == 5


def test_importing_is_light() -> None:
    names = ("directory", "journal", "fold", "curves", "tail", "control", "lock", "launch", "status", "plain")
    code = "import sys, time; t = time.process_time()\n" + "\n".join(
        f"import loratui.runs.{n}" for n in names
    )
    code += "\nheavy = {'torch', 'textual', 'numpy', 'psutil', 'filelock'} & set(sys.modules)"
    code += "\nprint(time.process_time() - t, *heavy)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    seconds, *heavy = done.stdout.split()
    assert heavy == [] and float(seconds) < 0.5
