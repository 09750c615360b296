"""Requests: whole, in order, and only for the attempt they were meant for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from loratui.errors import RunError
from loratui.runs import control
from loratui.runs.directory import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "runs", "x")


def test_ids_are_ulids_in_order_of_making() -> None:
    ids = [control.new_id() for _ in range(500)]
    assert ids == sorted(ids) and len(set(ids)) == 500
    assert all(len(i) == 26 for i in ids)
    assert abs(control.created_at(ids[-1]) - time.time()) < 5


def test_requests_come_in_order_with_their_arguments(run: RunDir) -> None:
    first = control.request(run, "prompts", prompts=["a", "ü"])
    second = control.request(run, "save")
    waiting = control.pending(run)
    assert [(r.id, r.kind, r.args) for r in waiting] == [
        (first, "prompts", {"prompts": ["a", "ü"]}),
        (second, "save", {}),
    ]
    assert (run.control / f"{second}-save.json").is_file()
    control.remove(run, waiting[0])
    control.remove(run, waiting[0])
    assert [r.id for r in control.pending(run)] == [second]


def test_old_ones_are_told_apart(run: RunDir) -> None:
    old = control.request(run, "stop")
    limit = control.created_at(old) + 0.5
    assert control.pending(run, not_before=limit) == []
    assert [r.id for r in control.expire(run, limit)] == [old]
    assert control.expire(run, 0.0) == []


def test_what_cannot_be_obeyed_says_why(run: RunDir) -> None:
    (run.control / f"{control.new_id()}-save.json").write_bytes(b"{")
    (run.control / f"{control.new_id()}-save.json").write_bytes(b"[]")
    (run.control / f"{control.new_id()}-fly.json").write_bytes(b"{}")
    (run.control / "notes.txt").write_text("not a request")
    (run.control / ".half.tmp").write_text("{")
    assert [r.problem for r in control.pending(run)] == [
        "the request cannot be read",
        "the request cannot be read",
        "unknown request fly",
    ]


def test_refusals(run: RunDir) -> None:
    with pytest.raises(ValueError, match="no request 'fly'"):
        control.request(run, "fly")
    with pytest.raises(RunError, match="cannot be left"):
        control.request(RunDir(run.path / "gone" / "away"), "stop")
    assert control.pending(RunDir(run.path / "gone")) == []


@pytest.mark.parametrize(
    "args",
    [
        {}, {"save_every": 0}, {"save_every": 2.5}, {"save_every": True}, {"sample_every": -1},
        {"lr_factor": 0}, {"lr_factor": "2"}, {"lr_factor": float("nan")}, {"rank": 4},
    ],
)  # fmt: skip
def test_what_cannot_be_adjusted_is_told(args: dict[str, object]) -> None:
    assert control.adjust_problem(args).endswith(".")
    assert not control.adjust_problem({"save_every": 1, "sample_every": 0, "lr_factor": 0.5})
