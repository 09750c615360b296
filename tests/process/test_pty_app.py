"""The app in a real terminal: start, end, pictures, defects, and a run that does not depend on it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from app_kit import APP, RunWriter, environment, project
from pty_probe import PtyProgram, images_seen, tgp_images

FORBIDDEN = {"torch", "diffusers", "transformers", "peft", "accelerate", "open_clip", "loratui.train"}
_WRAPPED = """
import atexit, pathlib, sys
from loratui.cli import main
atexit.register(lambda: pathlib.Path(sys.argv[1]).write_text("\\n".join(sys.modules)))
sys.exit(main(sys.argv[2:]))
"""


def ended(app: PtyProgram, timeout: float = 15.0) -> int:
    """Wait for the end of the program; its exit code."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        app.pump(0.05)
        pid, status = os.waitpid(app.pid, os.WNOHANG)
        if pid:
            while app.pump(0.05) > 0:
                pass
            return os.waitstatus_to_exitcode(status)
    raise AssertionError("the app did not end:\n" + "\n".join(app.screen()))


def test_first_frame_and_no_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every room is entered; nothing heavy is imported; the time of the first frame is told."""
    root = project(tmp_path / "p")
    modules = tmp_path / "modules.txt"
    argv = [sys.executable, "-c", _WRAPPED, str(modules), str(root)]
    with PtyProgram(argv, 120, 40, env=environment(tmp_path)) as app:
        first = app.wait_text("Dataset", 30)
        listed = app.wait_text("captioned", 30)
        for key, mark in (
            ("2", "missing"),
            ("3", "dry run"),
            ("4", "loss"),
            ("5", "samples"),
            ("6", "runs"),
        ):
            app.press(key)
            assert app.wait_written(mark), f"room {key}:\n" + "\n".join(app.screen())
        app.send(b"\x11")
        assert ended(app) == 0
        assert b"\x1b[?1049l" in app.raw
    assert first is not None and listed is not None
    with capsys.disabled():
        print(f"\n  first frame {first:.2f} s, pictures listed {listed:.2f} s after the start")
    loaded = set(modules.read_text().split("\n"))
    heavy = {m for m in loaded if m.split(".")[0] in FORBIDDEN or m.startswith("loratui.train")}
    assert not heavy
    names = ("spec", "heading", "detect", "detected", "emphasis", "marks", "encoders", "sources")
    light = {f"loratui.families.{name}" for name in names}
    assert {m for m in loaded if m.startswith("loratui.families.")} <= light


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_save_and_restore(tmp_path: Path, number: signal.Signals) -> None:
    """What was typed is on disk, the terminal is as it was."""
    root = project(tmp_path / "p")
    with PtyProgram([*APP, str(root)], 100, 30, env=environment(tmp_path)) as app:
        assert app.wait_text("captioned", 30) is not None
        app.press("enter")
        assert app.wait_written("save and leave")
        app.press("!")
        assert app.wait_written("not saved")
        os.kill(app.pid, number)
        assert ended(app) == 128 + number
        tail = bytes(app.raw[-200:])
    for wanted in (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1003l", b"\x1b[?2004l", b"\x1b[<u"):
        assert wanted in tail
    assert (root / "dataset" / "01.txt").read_text() == "sks robot, picture 1!\n"
    assert not list((root / "dataset").glob(".loratui*"))


def test_a_terminal_that_vanishes_ends_the_app(tmp_path: Path) -> None:
    """No SIGHUP comes (nohup), the terminal is just gone: the caption is saved, nothing is left running."""
    root = project(tmp_path / "p")
    program = (
        "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); from loratui.cli import main;"
    )
    argv = [sys.executable, "-c", program + "sys.exit(main(sys.argv[1:]))", str(root)]
    app = PtyProgram(argv, 100, 30, env=environment(tmp_path))
    assert app.wait_text("captioned", 30) is not None
    app.press("enter")
    assert app.wait_written("save and leave")
    app.press("!")
    assert app.wait_written("not saved")
    os.close(app.fd)
    until = time.monotonic() + 15
    while time.monotonic() < until and not os.waitpid(app.pid, os.WNOHANG)[0]:
        time.sleep(0.05)
    with pytest.raises(ChildProcessError):
        os.waitpid(app.pid, os.WNOHANG)
    assert (root / "dataset" / "01.txt").read_text() == "sks robot, picture 1!\n"


def test_odd_input_does_not_crash(tmp_path: Path) -> None:
    """Mouse reports of an old protocol carry bytes that are no UTF-8; ctrl+z does nothing."""
    root = project(tmp_path / "p")
    with PtyProgram([*APP, str(root)], 100, 30, env=environment(tmp_path)) as app:
        assert app.wait_text("captioned", 30) is not None
        app.send(b"\x1b[M\xff\xfe\x80\xc3\x28" + b"\x1a" + b"\x1b[<35;1;1M" + b"\xf0\x9f")
        app.listen(0.3)
        app.send(b"\x1b\\")
        app.listen(0.3)
        app.press("6")
        assert app.wait_written("No runs yet"), "\n".join(app.screen())
        app.send(b"\x11")
        assert ended(app) == 0


@pytest.mark.parametrize("term", ["kitty", "sixel", "xterm"])
def test_pictures_as_sharp_as_the_terminal_can(tmp_path: Path, term: str) -> None:
    """One probe; kitty's protocol, sixel or half blocks; the answers are no keys."""
    root = project(tmp_path / "p")
    with PtyProgram([*APP, str(root)], 120, 40, term=term, env=environment(tmp_path), rtt=0.3) as app:
        assert app.wait_text("captioned", 30) is not None
        app.listen(2.0)
        seen = images_seen(app.raw)
        screen = "\n".join(app.screen())
        raw = bytes(app.raw)
    assert "Dataset" in screen and "pictures" in screen
    if term == "kitty":
        assert seen["tgp"] >= 1 and seen["tgp_placeholder_cells"] > 100
        assert tgp_images(raw)[0][1].startswith(b"\x89PNG")
        assert len(tgp_images(raw)[0][1]) < 100_000
    elif term == "sixel":
        assert seen["sixel"] >= 1 and seen["tgp"] == 0
    else:
        assert seen["halfblock"] > 100 and seen["sixel"] == seen["tgp"] == 0


def test_no_probe_in_tmux(tmp_path: Path) -> None:
    """tmux passes pictures on to nobody: nothing is asked, half blocks are drawn, also without colours."""
    root = project(tmp_path / "p")
    env = environment(tmp_path) | {"TMUX": "/tmp/x,1,0", "TERM": "tmux-256color", "NO_COLOR": "1"}
    with PtyProgram([*APP, str(root)], 80, 24, term="tmux", env=env) as app:
        assert app.wait_text("captioned", 30) is not None
        app.listen(1.0)
        assert b"\x1b_G" not in app.raw and b"\x1b[16t" not in app.raw
        assert images_seen(app.raw)["halfblock"] > 50


def test_a_defect_leaves_one_line_and_a_report(tmp_path: Path) -> None:
    """The app breaks in a handler: no traceback on the terminal."""
    root = project(tmp_path / "p")
    program = (
        "import sys; from loratui.cli import main; from loratui.ui.screens.runs import RunsRoom\n"
        "def broken(self, what): raise KeyError('oh \\x1b]0;no\\x07')\n"
        "RunsRoom.follow = broken\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    with PtyProgram([sys.executable, "-c", program, str(root)], 120, 30, env=environment(tmp_path)) as app:
        assert app.wait_text("captioned", 30) is not None
        app.press("6")
        assert ended(app) == 1
        after = bytes(app.raw).rpartition(b"\x1b[?1049l")[2].decode()
    assert "loratui broke (KeyError" in after and "Traceback" not in after and "\x1b]0" not in after
    reports = list((tmp_path / "state").glob("crash-*.txt"))
    assert len(reports) == 1 and "Traceback" in reports[0].read_text()


def test_leaving_never_touches_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of 100,000 events is there within a moment; quitting says that it goes on; its death shows."""
    root = project(tmp_path / "p")
    run = RunWriter(root, "long", steps=60_000)
    job = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        run.alive(job.pid)
        run.write("state", state="running")
        run.many_steps(1, 50_000)
        run.save_status()
        with PtyProgram([*APP, str(root)], 120, 40, env=environment(tmp_path)) as app:
            header = app.wait_text("RUNNING", 30)
            app.press("4")
            assert app.wait_written("50,000") and header is not None
            app.send(b"\x11")
            assert ended(app) == 0
            assert "goes on without the app" in bytes(app.raw).decode().rpartition("\x1b[?1049l")[2]
        assert job.poll() is None
        with PtyProgram([*APP, str(root)], 120, 40, env=environment(tmp_path)) as app:
            shown = app.wait_text("50,000", 30)
            app.press("4")
            job.kill()
            job.wait()
            killed = time.perf_counter()
            assert app.wait_written("CRASHED", 20)
            took = time.perf_counter() - killed
        with capsys.disabled():
            print(f"\n  100,000 events: header {header:.2f} s; again {shown:.2f} s; crash shown {took:.2f} s")
        assert took < 6  # 2 s on a machine of its own
    finally:
        with contextlib.suppress(ProcessLookupError):
            job.kill()
        job.wait()
