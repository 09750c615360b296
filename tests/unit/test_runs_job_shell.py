"""What the process shell gives to a job, and how it names what went wrong."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from loratui.errors import NonFiniteError
from loratui.jobs import _main
from loratui.jobs._main import Context, describe, run_job
from loratui.runs import control
from loratui.runs.directory import RunDir
from loratui.runs.journal import Journal, read_events
from loratui.runs.status import status


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "runs", "x")


@pytest.fixture
def context(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    monkeypatch.setattr(_main, "_CONTROL_S", 0.0)
    with Journal(run, heartbeat=False) as journal:
        journal.write("opened", run_id=run.id, attempt=1, from_step=0, steps=9)
        yield Context(run, journal)


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


CASES = [
    (NonFiniteError("The loss is nan.", "Lower lr."), "nonfinite", "The loss is nan.", "Lower lr."),
    (OSError(errno.ENOSPC, "x", "a/b"), "disk-full", "The disk is full (a/b).", "Free some space"),
    (OSError(errno.EDQUOT, "x"), "disk-full", "The disk is full.", "Free some space"),
    (
        OutOfMemoryError("CUDA out of memory. Tried..."),
        "device-memory",
        "The device ran out of memory.",
        "batch_size",
    ),
    (MemoryError(), "memory", "The machine ran out of memory.", "resume"),
    (
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        "memory",
        "The machine ran out of memory.",
        "resume",
    ),
    (
        ModuleNotFoundError("x", name="peft"),
        "missing-package",
        "The package peft is not installed.",
        "pip install",
    ),
    (KeyError("a\nb"), "unexpected", "KeyError: 'a\\nb'", "log.txt"),
    (ValueError(), "unexpected", "ValueError", "log.txt"),
]


@pytest.mark.parametrize(("error", "code", "message", "advice"), CASES, ids=lambda v: str(v)[:20])
def test_every_end_has_a_sentence_and_an_advice(
    run: RunDir, error: Exception, code: str, message: str, advice: str
) -> None:
    told = describe(error, run)
    assert told[:2] == (code, message)
    assert advice in told[2]


def test_requests_are_handed_out_once_and_answered(context: Context) -> None:
    wanted = control.request(context.run, "save")
    (context.run.control / f"{control.new_id()}-fly.json").write_text("{}")
    (request,) = context.controls()
    assert request.id == wanted and context.controls() == []
    context.ack(request)
    assert context.state.acks[wanted] == "ok"
    assert list(context.state.acks.values()) == ["unknown request fly", "ok"]
    assert list(context.run.control.iterdir()) == []


def test_looking_for_requests_at_every_step_is_cheap(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(control, "pending", lambda run: looks.append(1) or [])
    with Journal(run, heartbeat=False) as journal:
        context = Context(run, journal)
        for _ in range(200):
            context.controls()
    assert len(looks) <= 2


def test_an_attempt_may_begin_earlier_and_name_its_device(context: Context) -> None:
    context.journal.write("step", step=5, loss=1.0)
    context.set_device("cuda:1")
    context.rewind(3)
    assert (context.from_step, context.attempt, context.state.step) == (3, 1, 3)
    assert (context.state.device, context.state.pid) == ("cuda:1", os.getpid())


def test_states_are_cleaned(context: Context) -> None:
    context.set_state("stopped", "because \x1b[2J")
    assert context.state.reason == "because ␛[2J"


def test_log_records_become_events_a_few_a_second(run: RunDir) -> None:
    def main(context: Context) -> None:
        logging.getLogger("loratui.train").info("ours \x1b[2J\nsecond line")
        logging.getLogger("somebody").info("not ours")
        logging.getLogger("somebody").warning("their warning")
        for number in range(1000):
            logging.getLogger("loratui.train").info("flood %d", number)

    with pytest.raises(SystemExit) as ended:
        run_job(main, [str(run.path)])
    assert ended.value.code == 0
    logged = [e["message"] for e in read_events(run.events_path).events if e["kind"] == "log"]
    assert logged[:2] == ["ours ␛[2J", "their warning"]
    assert len(logged) < 50
    text = run.log_path.read_text()
    assert "flood 999" in text and "second line" in text and "\x1b" not in text
    assert logging.getLogger().level != logging.INFO


def test_a_job_without_a_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (([], "usage"), ([str(tmp_path / "nothing")], "is not there")):
        with pytest.raises(SystemExit) as ended:
            run_job(lambda context: None, arguments)
        assert ended.value.code == 2
        assert words in capfd.readouterr().err


def test_a_state_of_the_jobs_own_stands(run: RunDir) -> None:
    with pytest.raises(SystemExit) as ended:
        run_job(lambda context: context.set_state("stopped", "at step 3"), [str(run.path)])
    assert ended.value.code == 0
    assert (status(run).state, status(run).reason) == ("stopped", "at step 3")
