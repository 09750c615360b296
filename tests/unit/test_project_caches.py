"""The cache command: sizes are those of the files, pruning takes what is old and nothing else."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from loratui.cli import main
from loratui.project.caches import prune, sizes
from loratui.project.demo import make_demo


def entry(root: Path, part: str, name: str, size: int, age_days: float = 0.0) -> Path:
    path = root / ".loratui" / "cache" / part / name[:2] / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    then = time.time() - age_days * 86400
    os.utime(path, (then, then))
    return path


def test_sizes_and_pruning(tmp_path: Path) -> None:
    assert [(s.name, s.entries, s.bytes) for s in sizes(tmp_path)] == [("latents", 0, 0), ("text", 0, 0)]
    old, new = entry(tmp_path, "latents", "aa1", 10, 40), entry(tmp_path, "latents", "ab2", 7, 1)
    text = entry(tmp_path, "text", "cc3", 5, 31)
    index = tmp_path / ".loratui" / "cache" / "index.sqlite"
    index.write_bytes(b"index")
    assert [(s.entries, s.bytes) for s in sizes(tmp_path)] == [(2, 17), (1, 5)]
    assert [(s.entries, s.bytes) for s in prune(tmp_path, 30)] == [(1, 10), (1, 5)]
    assert new.exists() and index.exists() and not old.exists() and not text.exists()
    prune(tmp_path, 0)
    assert not new.exists() and index.exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_demo(tmp_path / "demo").root
    entry(root, "latents", "aa1", 10, 40)
    assert main(["cache", str(root), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["caches"][0] == {"name": "latents", "entries": 1, "bytes": 10} and answer["removed"] == []
    assert main(["cache", str(root), "--prune", "7", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["caches"][0]["entries"] == 0 and answer["removed"][0]["bytes"] == 10
    assert main(["cache", str(root), "--prune", "-1"]) == 2
