"""Fifty kills of a batch edit over ten thousand captions (`make test-long`)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fault"))
from history_kills import campaign


@pytest.mark.long
def test_fifty_kills_of_ten_thousand_files(tmp_path: Path) -> None:
    struck = campaign(tmp_path, kills=50, count=10_000, seed=20)
    print(dict(struck))
    assert sum(struck.values()) == 50
    assert struck["middle"] >= 5, "the kills were to strike while files were being replaced"
