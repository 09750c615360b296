"""50 SIGKILLs at random moments of a training, 15 or more of them inside a save."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "fault"))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_fifty_kills_end_in_the_same_bytes(tmp_path: Path) -> None:
    from test_train_kill9 import campaign

    report = campaign(tmp_path, kills=50, in_saves=17, seed=50, timeout_s=3500)
    assert report["killed"] == {"in save": 17, "anywhere": 33}
    assert report["different"] == [] and report["failed"] == []
    assert len(set(report["resumed_from"])) > 3
