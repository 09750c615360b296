"""A few SIGKILLs of real training processes; the campaign of 50 is in tests/campaign."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("kill_training.py")


def campaign(folder: Path, kills: int, in_saves: int, seed: int, timeout_s: float) -> dict:
    """Run the script; its report."""
    command = [sys.executable, str(SCRIPT), str(folder), "--kills", str(kills)]
    command += ["--in-saves", str(in_saves), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_two_kills_end_in_the_same_bytes(tmp_path: Path) -> None:
    report = campaign(tmp_path, kills=2, in_saves=1, seed=3, timeout_s=200)
    assert report["killed"] == {"in save": 1, "anywhere": 1}
    assert report["different"] == [] and report["failed"] == []
