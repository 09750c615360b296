"""Files that other programs change while the app is open: shown soon, and never overwritten."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyte
import pytest
from app_kit import APP, environment, picture, project
from pty_probe import PtyProgram

LIMIT_S = 2.0


class Watcher:
    """The app in a terminal, and how long it takes to show something."""

    def __init__(self, app: PtyProgram) -> None:
        self.app = app
        self.took: dict[str, float] = {}
        self._screen = pyte.Screen(app.cols, app.rows)
        self._stream = pyte.ByteStream(self._screen)
        self._fed = 0

    def screen(self) -> str:
        """What is on the screen; only what is new is read, as the time of a test counts here."""
        if self.app.pump(0.02) == 0:  # silence: no sequence is cut in two
            new = bytes(self.app.raw[self._fed :])
            self._fed += len(new)
            self._stream.feed(re.sub(rb"\x1b\[[<>=?][0-9;]*[a-gi-km-zA-Z]", b"", new))
        return "\n".join(line.rstrip() for line in self._screen.display)

    def shows(self, what: str, test: Callable[[str], bool], limit: float = LIMIT_S) -> None:
        """Wait until the screen passes a test."""
        began = time.monotonic()
        while not test(self.screen()):
            assert time.monotonic() - began < limit + 3, f"{what}: never shown\n{self.screen()}"
        self.took[what] = time.monotonic() - began
        assert self.took[what] < limit, f"{what} took {self.took[what]:.2f} s"


def test_changes_of_others_are_shown_within_two_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Captions changed, made, removed; pictures added, renamed, replaced, removed; odd names; folders."""
    root = project(tmp_path / "p", 6)
    data = root / "dataset"
    env = environment(tmp_path)
    with PtyProgram([*APP, str(root)], 120, 40, env=env) as app:
        assert app.wait_text("captioned", 30) is not None
        app.listen(1.5)
        seen = Watcher(app)
        (data / "01.txt").write_text("a zebra\n")
        seen.shows("caption changed", lambda s: s.count("zebra") >= 2)  # the row and the editor
        (data / "03.txt").write_text("a llama\n")
        seen.shows("caption made", lambda s: "llama" in s)
        (data / "03.txt").unlink()
        seen.shows("caption removed", lambda s: "llama" not in s)
        picture(data / "new.png", seed=7)
        seen.shows("picture added", lambda s: "new.png" in s)
        (data / "new.png").rename(data / "other.png")
        seen.shows("picture renamed", lambda s: "other.png" in s and "new.png" not in s)
        picture(data / "01.png", (32, 160), seed=9)
        seen.shows("picture replaced", lambda s: "32×160" in s)
        with open(os.fsencode(data) + b"/\xff\xfe.bmp", "wb") as odd:
            odd.write((data / "02.png").read_bytes())
        seen.shows("name that is not UTF-8 added", lambda s: ".bmp" in s)
        app.listen(1.5)  # watched again
        (data / "sub").mkdir()
        picture(data / "sub" / "deep.png", seed=3)
        seen.shows("folder made", lambda s: "eep.png" in s)
        (data / "sub").rename(tmp_path / "away")
        seen.shows("folder moved away", lambda s: "eep.png" not in s)
        subprocess.run(
            [sys.executable, "-m", "loratui", "edit", str(root), "add", "giraffe"],
            env={**os.environ, **env},
            check=True,
            capture_output=True,
        )
        seen.shows("edit of another loratui", lambda s: s.count("giraffe") >= 2)
        data.rename(tmp_path / "gone")
        seen.shows("all moved away", lambda s: "No pictures yet" in s)
        (tmp_path / "gone").rename(data)
        seen.shows("all back", lambda s: "giraffe" in s)
        app.send(b"\x11")
    with capsys.disabled():
        print("\n  " + "\n  ".join(f"{took:4.2f} s  {what}" for what, took in seen.took.items()))


def test_what_is_typed_survives_a_change_of_the_same_caption(tmp_path: Path) -> None:
    """The pane says so while typing goes on; saving shows both, and nothing is written before a choice."""
    root = project(tmp_path / "p", 2)
    path = root / "dataset" / "01.txt"
    with PtyProgram([*APP, str(root)], 120, 40, env=environment(tmp_path)) as app:
        assert app.wait_text("captioned", 30) is not None
        app.listen(1.5)
        seen = Watcher(app)
        app.press("enter")
        assert app.wait_written("save and leave")
        for key in " mine":
            app.press("space" if key == " " else key)
        path.write_text("theirs\n")
        seen.shows("told", lambda s: "changed by another program" in s)
        app.press("!")
        seen.shows("typing goes on", lambda s: "picture 1 mine!" in s)
        assert path.read_text() == "theirs\n"
        app.press("ctrl+s")
        seen.shows("both", lambda s: "keep what was typed here" in s and "theirs" in s and "mine!" in s)
        assert path.read_text() == "theirs\n"
        app.press("enter")
        until = time.monotonic() + 5
        while path.read_text() != "sks robot, picture 1 mine!\n" and time.monotonic() < until:
            app.pump(0.05)
        assert path.read_text() == "sks robot, picture 1 mine!\n"
        seen.shows("settled", lambda s: "changed by another program" not in s)
        app.send(b"\x11")
