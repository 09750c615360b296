"""Taken up again from every step of 60, a run ends in the bytes of the run that never stopped.

For each optimizer, each network type, and the settings that draw at random or keep something beside the
weights. There are no loader workers: a batch is a function of seed and step; what several processes make of
it is in tests/fault/test_train_ranks.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
import resume_kit as kit

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]


@pytest.fixture(scope="module")
def campaigns(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future]]:
    """Those that are selected, begun together."""
    chosen = [item.callspec.params["name"] for item in request.session.items
              if item.originalname == "test_every_resume_ends_in_the_same_bytes"]  # fmt: skip
    pool, found = kit.start(chosen, tmp_path_factory.mktemp("resumes"), len(os.sched_getaffinity(0)))
    yield found
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", list(kit.rows()))
def test_every_resume_ends_in_the_same_bytes(name: str, campaigns: dict[str, Future]) -> None:
    found = campaigns[name].result()
    print(f"{name}: {len(found['resumed'])} resumes, {found['steps_run']} steps, {found['different']} differ")
    assert found["resumed"] == list(range(1, kit.STEPS)) and found["different"] == []


def test_a_cache_on_disk_trains_what_one_in_memory_does(campaigns: dict[str, Future]) -> None:
    pair = [
        campaigns[f"cache {where}"] for where in ("in memory", "on disk") if f"cache {where}" in campaigns
    ]
    if len(pair) < 2:
        pytest.skip("not both were selected")
    assert pair[0].result()["last"] == pair[1].result()["last"]


def test_the_comparison_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resume whose optimizer is not restored is seen from every step."""
    from loratui.train import resume

    monkeypatch.setattr(kit, "STEPS", 6)
    monkeypatch.setattr(resume, "restore_optimizer", lambda *args: None)
    found = kit.campaign("plain", str(tmp_path))
    assert found["different"] == [1, 2, 3, 4, 5]
