"""Damaged pictures and bombs: no crash, each measured or named with a reason, within its limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_images import bombs, campaign

GIB = 1024**3
SLACK_S = 1.0
"""A worker that is too slow has to be killed and waited for, too."""


def test_damaged_pictures_are_named(tmp_path: Path) -> None:
    report = campaign(tmp_path, mutants=120, some_bombs=0, seed=3)
    found = report.found
    assert found.total() == 120 and found["corrupt-image"] > 20 and not found["crashed-decoder"]
    assert 10**7 < report.peak_bytes <= GIB and report.slowest_s <= 10 + SLACK_S


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_two_thousand_damaged_pictures_and_twenty_bombs(tmp_path: Path) -> None:
    assert len(bombs()) == 20
    report = campaign(tmp_path, mutants=2000, some_bombs=20, seed=31)
    print("seed 31:", report)
    assert report.found.total() == 2020
    assert report.peak_bytes <= GIB and report.slowest_s <= 10 + SLACK_S
    assert report.killed <= 20
