"""Fifty kills of a batch edit over ten thousand captions (`make test-long`)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fault"))
from history_kills import campaign


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [20, 21])
def test_twenty_five_kills_of_ten_thousand_files(tmp_path: Path, seed: int) -> None:
    struck = campaign(tmp_path, kills=25, count=10_000, seed=seed)
    print(dict(struck))
    assert sum(struck.values()) == 25
    assert struck["middle"] >= 8, "some kills were to strike while files were being replaced"
