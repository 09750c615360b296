"""What rings, how it reaches a terminal, and the line for a shell prompt."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from app_kit import HOSTILE, RunWriter, environment, project

from loratui.cli import main
from loratui.runs.announce import announce, chosen_way, news, sequence
from loratui.runs.state import RunState, Sample


def state(**fields: object) -> RunState:
    return replace(RunState(run_id="r", name="robot", state="running", attempt=1), **fields)  # type: ignore[arg-type]


def test_ends_failures_and_the_first_sample_are_news() -> None:
    running = state()
    assert news(None, state(state="finished")) == "" and news(running, running) == ""
    assert news(running, state(state="finished", reason="x")) == "robot has finished"
    assert news(running, state(state="failed", reason="CUDA")) == "robot has failed: CUDA"
    assert news(state(state="paused"), state(state="crashed", reason="OOM")) == "robot has crashed: OOM"
    assert news(state(state="failed"), state(state="crashed")) == ""
    assert news(running, state(state="stopped")) == ""
    base, first = Sample(0, 0, "p", 1, "a"), Sample(50, 0, "p", 1, "b")
    assert news(running, state(samples=[base])) == ""
    assert news(state(samples=[base]), state(samples=[base, first])) == "robot has drawn its first sample"
    assert news(state(samples=[first]), state(samples=[first, replace(first, index=1)])) == ""
    assert news(running, state(samples=[first], attempt=2)) == ""
    assert news(state(job="sample"), state(job="sample", samples=[base])) != ""


def test_a_terminal_gets_the_bell_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sequence("robot has finished", environment={}) == "\a\x1b]9;loratui: robot has finished\x1b\\"
    inside = sequence("x", environment={"TMUX": "/tmp/t"})
    assert inside == "\a\x1bPtmux;\x1b\x1b]9;loratui: x\x1b\x1b\\\x1b\\"
    assert sequence("x", "bell") == "\a" and sequence("x", "none") == "" and sequence("") == ""
    hostile = sequence(HOSTILE, environment={})
    assert hostile.count("\x1b") == 2 and hostile.count("\a") == 1 and "\x9b" not in hostile
    plain = io.StringIO()
    announce("x", plain)
    assert plain.getvalue() == ""
    monkeypatch.setattr(plain, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    announce("x", plain)
    assert plain.getvalue().startswith("\a")


def test_the_user_can_turn_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORATUI_CONFIG", str(tmp_path))
    assert chosen_way() == "auto"
    (tmp_path / "config.toml").write_text('notify = "none"\n')
    assert chosen_way() == "none"
    (tmp_path / "config.toml").write_text("notify = 3\n")
    assert chosen_way() == "auto"


def test_the_prompt_line_is_short_and_light(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = project(tmp_path / "p", 1)
    monkeypatch.chdir(root)
    assert main(["status", "--short"]) == 1
    assert capsys.readouterr() == ("", "")
    writer = RunWriter(root)
    writer.alive()
    writer.write("state", state="running")
    writer.steps(1, 5)
    assert main(["status", "--short"]) == 0
    assert capsys.readouterr().out.startswith("running 5/100 loss 0.")
    code = (
        "import sys; from loratui.cli import main; main(['status', '--short']);"
        "heavy = {'torch', 'textual', 'numpy', 'PIL', 'psutil', 'loratui.dataset.edits'} & set(sys.modules);"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=os.environ | environment(tmp_path), capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert main(["status", "--help"]) == 0 and main(["status", "nothing"]) == 2


def test_a_run_that_draws_is_told_in_its_own_words() -> None:
    from loratui.ui.story import tell

    events = [
        {"kind": "opened", "steps": 8, "t": 1.0},
        {"kind": "state", "state": "running", "t": 2.0},
        {"kind": "opened", "from_step": 3, "attempt": 2, "t": 3.0},
    ]
    said = [line.what for line in tell(events, "sample")]
    assert said == ["opened for 8 pictures", "drawing", "resumed after picture 3, attempt 2"]
    assert tell(events[1:2])[0].what == "training" and tell(events[1:2], "caption")[0].what == "captioning"
