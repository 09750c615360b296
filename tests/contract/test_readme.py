"""The README is true: its walk-through runs, its table is the presets', its files exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def sh_lines() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_the_walk_through_runs(tmp_path: Path) -> None:
    """Every line of the sh blocks, in order, in one folder, as written."""
    shutil.copytree(ROOT / "loratui" / "demo" / "pictures", tmp_path / "pictures")
    env = {**os.environ, "LORATUI_STATE": str(tmp_path / "state"), "LORATUI_CONFIG": str(tmp_path / "config")}
    env["PYTHONPATH"] = str(ROOT)
    lines = sh_lines()
    assert len(lines) >= 8
    for line in lines:
        argv = shlex.split(line)
        assert argv[0] == "loratui", f"only loratui commands are run here: {line}"
        done = subprocess.run(
            [sys.executable, "-m", "loratui", *argv[1:]],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip(), f"{line} says nothing"


@pytest.mark.parametrize("name", re.findall(r"^make ([a-z-]+)$", README, flags=re.M))
def test_make_targets_exist(name: str) -> None:
    assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text("utf-8"), flags=re.M)


def test_linked_files_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_the_preset_table_is_generated() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        from make_pictures import preset_table
    finally:
        sys.path.pop(0)
    inside = README.split("<!-- table:presets -->\n")[1].split("<!-- /table:presets -->")[0]
    assert inside == preset_table(), "run `make pictures`"


def test_every_command_named_exists() -> None:
    """`loratui X` anywhere in the README is a command that has help."""
    names = set(re.findall(r"`loratui ([a-z]+)[ `]", README))
    assert {"demo", "train", "verify"} <= names
    done = subprocess.run(
        [sys.executable, "-m", "loratui", "--help"], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    for name in names:
        assert re.search(rf"\b{name}\b", done.stdout), name
