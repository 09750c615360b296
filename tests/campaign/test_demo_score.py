"""The demo learns its mascot: trained by the shipped preset, scored by the bundled scorer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_demo_draws_the_mascot_on_backgrounds_it_never_saw(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loratui", "demo", str(tmp_path / "demo"), "--headless", "--json"],
        stdout=subprocess.PIPE, text=True, check=True, timeout=1700,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["state"] == "finished"
    assert Path(report["lora"]).is_file()
    assert report["score_before"] <= 0.05
    assert report["score_after"] >= 0.6
