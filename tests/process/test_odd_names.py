"""File names of all kinds: shown, edited, taken back, exported, trained on; nothing of them is executed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from app_kit import APP, HOSTILE, environment, leaks, picture, project
from pty_probe import PtyProgram

NAMES = (
    "cafe\u0301",
    "caf\u00e9",
    "\U0001f600\u200d\U0001f525",
    "x" * 251,
    "new\nline",
    "tail\udcff",
    "[/b][@click=app.quit]quit",
    "\x1b[31mred\x1b]0;PWNED\x07",
    "-rf",
    "$(touch PWNED)",
    "`touch PWNED`;touch PWNED",
    "%n%s{0}{trigger}",
    "a, b",
    "#hash",
    " space ",
    "dots..",
    HOSTILE.replace("/", "_")[:60],
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose pictures have nothing but odd names."""
    made = project(tmp_path / "p", 0)
    for number, name in enumerate(NAMES):
        path = made / "dataset" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)  # `[/b]` is a folder and a file
        picture(path, (64, 64), seed=number)
        path.with_suffix(".txt").write_text(f"sks robot, picture {number}\n")
    return made


def captions(root: Path) -> dict[bytes, bytes]:
    """Every caption on disk by its name, as bytes."""
    return {os.fsencode(p.name): p.read_bytes() for p in (root / "dataset").rglob("*.txt")}


def command(root: Path, tmp_path: Path, *argv: str, code: int = 0) -> Any:
    """The JSON document of a command, run as a user runs it, from a folder that `touch` would show in."""
    done = subprocess.run(
        [sys.executable, "-m", "loratui", *argv, "--json"],
        capture_output=True,
        env={**os.environ, **environment(tmp_path), "OMP_NUM_THREADS": "1"},
        cwd=root,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr.decode()
    assert b"\x1b" not in done.stderr + done.stdout
    return json.loads(done.stdout)


def test_the_app_shows_edits_and_exports_them(root: Path, tmp_path: Path) -> None:
    """One edit of all, taken back byte for byte, then a zip; each row stood under the cursor."""
    before, number = captions(root), len(NAMES)
    with PtyProgram([*APP, str(root)], 120, 40, env=environment(tmp_path), cwd=str(root)) as app:

        def until(test: Any) -> None:
            end = time.monotonic() + 15
            while not test():
                assert time.monotonic() < end, "\n".join(app.screen())
                app.pump(0.05)

        assert app.wait_text(f"{number} pictures", 30) is not None
        assert app.wait_text("captioned", 30) is not None
        for _ in range(number):
            app.press("down", 0.06)
        app.press(":")
        app.send(b"add hat\r")
        assert app.wait_written(f"{number} to change"), "\n".join(app.screen())
        app.press("enter")
        until(lambda: all(b", hat" in data for data in captions(root).values()))
        assert app.wait_written("u takes it back"), "\n".join(app.screen())
        app.press("u")
        until(lambda: captions(root) == before)
        app.press(":")
        app.send(f"export zip {tmp_path}/out.zip\r".encode())
        until((tmp_path / "out.zip").exists)
        app.press("ctrl+q", 1.0)
        assert not leaks(app.raw)
    assert not list(tmp_path.rglob("PWNED")) and not Path("PWNED").exists()


@pytest.mark.long
def test_they_are_trained_on(root: Path, tmp_path: Path) -> None:
    """Two steps of the demo base over all of them; the manifest names each."""
    assert command(root, tmp_path, "query", str(root))["count"] == len(NAMES)
    done = command(
        root, tmp_path, "train", str(root), "--wait", "--device", "cpu",
        "--set", "steps=2", "--set", "batch_size=1", "--set", "sample_every=0", "--set", "rank=2",
    )  # fmt: skip
    run = Path(done["run"])
    assert done["state"] == "finished"
    lines = [json.loads(line) for line in (run / "manifest.jsonl").read_text().splitlines()]
    assert len([line for line in lines if "path" in line]) == len(NAMES)
    assert not list(tmp_path.rglob("PWNED"))
