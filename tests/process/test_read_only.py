"""A data set that may only be read: shown, filtered, trained on; edits say why not, and do nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_kit import environment, project
from pty_probe import PtyProgram

NOBODY = 65534


class Reader:
    """A user who owns the project and not its pictures: root would be let in everywhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = project(folder / "p", 4)
        self.data = self.root / "dataset"
        self.mine = folder / "p" / "mine"
        self.mine.mkdir()
        for name in ("01.png", "01.txt"):
            shutil.copy(self.data / name, self.mine / name.replace("01", "own"))
        with (self.root / "loratui.toml").open("a") as file:
            file.write('\n[[sources]]\npath = "mine"\n')
        self.env = {**os.environ, **environment(folder), "OMP_NUM_THREADS": "1", "HOME": str(folder)}
        self.env["PYTHONPATH"] = os.pathsep.join((self.env["PYTHONPATH"], *filter(None, sys.path)))
        self.python = sys.executable
        self.as_root = os.geteuid() == 0
        self.data.chmod(0o555)
        if self.as_root:
            for path in (folder, *folder.rglob("*")):
                if path != self.data and path.parent != self.data:
                    os.chown(path, NOBODY, NOBODY)
        self.before = self.bytes()

    def bytes(self) -> dict[str, bytes]:
        """All that lies in the pictures' folders."""
        files = (*self.data.rglob("*"), *self.mine.rglob("*"))
        return {str(p.relative_to(self.root)): p.read_bytes() for p in files if p.is_file()}

    def argv(self, *argv: str) -> list[str]:
        """A command as this user."""
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        return [*(become if self.as_root else ()), self.python, *argv]

    def can_run(self) -> bool:
        """Find an interpreter that this user can start, and start from."""
        again = (
            "import subprocess, sys, loratui.ui.app; subprocess.run([sys.executable, '-c', ''], check=True)"
        )
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        for python in (sys.executable, shutil.which(name, path="/usr/bin:/usr/local/bin")):
            self.python = python or sys.executable
            line = self.argv("-c", again)
            done = subprocess.run(line, env=self.env, cwd=self.folder, capture_output=True, check=False)
            if not done.returncode:
                return True
        return False

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """A command of loratui."""
        line = self.argv("-m", "loratui", *argv)
        return subprocess.run(
            line, capture_output=True, text=True, env=self.env, cwd=self.folder, timeout=60, check=False
        )

    def ask(self, *argv: str) -> Any:
        done = self.run(*argv, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def reader() -> Iterator[Reader]:
    # not below tmp_path, where only its owner may go
    folder = Path(tempfile.mkdtemp(prefix="loratui-read-only-"))
    folder.chmod(0o755)
    try:
        made = Reader(folder)
        if made.as_root and shutil.which("setpriv") is None:
            pytest.skip("root is let in everywhere, and setpriv is not here")
        if not made.can_run():
            pytest.skip("another user cannot read this interpreter or checkout")
        yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_commands_read_all_and_change_nothing(reader: Reader) -> None:
    """Each says why not; notes are the project's own and work; a batch leaves the read-only ones alone."""
    root = str(reader.root)
    assert reader.ask("query", root, "captioned:yes")["count"] == 4
    assert len(reader.ask("audit", root)) > 0
    edit = reader.run("edit", root, "add", "hat")
    assert "read-only" in edit.stdout + edit.stderr and "Traceback" not in edit.stderr
    changed = {name for name, data in reader.bytes().items() if data != reader.before.get(name)}
    assert changed == {"mine/own.txt"}
    assert reader.run("undo", root).returncode == 0
    assert reader.bytes() == reader.before
    only = reader.run("edit", root, "add", "hat", "--where", "path:dataset/*")
    assert "read-only" in only.stdout + only.stderr and reader.bytes() == reader.before
    assert only.returncode == 1 and "takes it back" not in only.stdout
    trash = reader.run("trash", root, "put", "--where", "name:02.png")
    assert trash.returncode in (1, 2) and "Traceback" not in trash.stderr
    assert reader.bytes() == reader.before
    reader.ask("edit", root, "stars", "3", "--where", "path:*01.png")
    assert reader.ask("query", root, "stars:3")["count"] == 1
    reader.ask("undo", root)
    assert reader.ask("query", root, "stars:3")["count"] == 0
    reader.ask("edit", root, "add", "hat", "--where", "path:mine/*")
    assert (reader.mine / "own.txt").read_text().strip().endswith(", hat")
    reader.ask("undo", root)
    assert reader.bytes() == reader.before


def test_the_app_reads_all_and_says_why_it_cannot_write(reader: Reader) -> None:
    """What was typed stays in the editor, unsaved; nothing half done lies in the folder."""
    line = reader.argv("-m", "loratui", str(reader.root))
    with PtyProgram(line, 120, 40, env=reader.env) as app:

        def shows(words: str) -> None:
            end = time.monotonic() + 15
            while not any(words in row for row in app.screen()):
                assert time.monotonic() < end, f"{words}:\n" + "\n".join(app.screen())
                app.pump(0.05)

        shows("5 pictures")
        app.press("/")
        app.send(b"captioned:no\r")
        shows("1 of 5")
        app.press("enter")
        shows("save and leave")
        app.press("!")
        shows("not saved")
        app.press("ctrl+s")
        shows("read-only")
        shows("│ !")
        assert reader.bytes() == reader.before
        app.press("ctrl+q", 1.0)
    assert reader.bytes() == reader.before


@pytest.mark.long
def test_it_is_trained_on(reader: Reader) -> None:
    """Two steps of the demo base; the manifest has every picture."""
    done = reader.ask(
        "train", str(reader.root), "--wait", "--device", "cpu",
        "--set", "steps=2", "--set", "batch_size=1", "--set", "sample_every=0", "--set", "rank=2",
    )  # fmt: skip
    assert done["state"] == "finished"
    lines = (Path(done["run"]) / "manifest.jsonl").read_text().splitlines()
    assert len([line for line in lines if '"path"' in line]) == 5
    assert reader.bytes() == reader.before
