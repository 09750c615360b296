"""Damaged pictures and bombs: no crash, each measured or named with a reason, within its limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_images import bombs, campaign


def test_damaged_pictures_are_named(tmp_path: Path) -> None:
    found = campaign(tmp_path, mutants=120, some_bombs=0, seed=3)
    assert found.total() == 120 and found["corrupt-image"] > 20 and not found["crashed-decoder"]


@pytest.mark.long
def test_two_thousand_damaged_pictures_and_twenty_bombs(tmp_path: Path) -> None:
    assert len(bombs()) == 20
    found = campaign(tmp_path, mutants=2000, some_bombs=20, seed=31)
    print("seed 31:", dict(found))
    assert found.total() == 2020
