"""A batch edit that is killed, or whose disk fills up: whole or gone, undo gives every byte back."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from history_kills import campaign, make, read

from loratui.errors import DatasetError
from loratui.project import history_write
from loratui.project.history import Actor, FileChange, History
from loratui.project.history_log import HistoryLog

BATCH = Actor("batch")


def test_killed_at_random_moments(tmp_path: Path) -> None:
    struck = campaign(tmp_path, kills=4, count=400, seed=7)
    assert sum(struck.values()) == 4


def changes(root: Path, start: dict[str, bytes | None]) -> list[FileChange]:
    return [FileChange(root / n, data, (data or b"") + b", x") for n, data in start.items()]


@pytest.mark.parametrize("fail_at", [0, 1, 7])
def test_a_full_disk_in_the_middle_puts_all_back(tmp_path: Path, monkeypatch: Any, fail_at: int) -> None:
    start = make(tmp_path, 12)
    history = History(tmp_path)
    real, calls = history_write.FileWriter.write, [0]

    def write(self: Any, path: Path, data: bytes | None, number: int) -> None:
        if calls[0] == fail_at:
            calls[0] += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        calls[0] += 1
        real(self, path, data, number)

    monkeypatch.setattr(history_write.FileWriter, "write", write)
    with pytest.raises(DatasetError, match="No space left"):
        history.commit(changes(tmp_path, start), BATCH)
    assert read(tmp_path, start) == start
    assert not History(tmp_path).pending() and not History(tmp_path).entries()


def test_a_disk_that_stays_full_leaves_it_for_recovery(tmp_path: Path, monkeypatch: Any) -> None:
    start = make(tmp_path, 12)
    history = History(tmp_path)
    real, calls = history_write.FileWriter.write, [0]

    def write(self: Any, path: Path, data: bytes | None, number: int) -> None:
        calls[0] += 1
        if calls[0] > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, path, data, number)

    with monkeypatch.context() as patch:
        patch.setattr(history_write.FileWriter, "write", write)
        with pytest.raises(DatasetError, match="cannot be put back") as caught:
            history.commit(changes(tmp_path, start), BATCH)
        assert "recover" in caught.value.advice
    reopened = History(tmp_path)
    assert len(reopened.pending()) == 1
    (outcome,) = reopened.recover(resume=False)
    assert not outcome.conflicts and read(tmp_path, start) == start


def test_the_history_itself_hits_a_full_disk(tmp_path: Path, monkeypatch: Any) -> None:
    start = make(tmp_path, 12)
    history = History(tmp_path)
    history.commit(changes(tmp_path, start)[:1], BATCH)
    now, log = read(tmp_path, start), history.log.path.read_bytes()
    real = os.write

    def write(handle: int, data: Any) -> int:
        if len(data) < 400:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle, data[:300])

    monkeypatch.setattr("loratui.project.history_log.os.write", write)
    with pytest.raises(DatasetError, match="history cannot be written"):
        history.commit([FileChange(tmp_path / n, d, b"y") for n, d in now.items()], BATCH)
    monkeypatch.undo()
    assert read(tmp_path, start) == now and history.log.path.read_bytes() == log
    assert len(History(tmp_path).commit([FileChange(tmp_path / "z.txt", None, b"z")], BATCH).written) == 1


def test_the_log_cut_at_every_byte(tmp_path: Path) -> None:
    start = make(tmp_path, 4)
    History(tmp_path).commit(changes(tmp_path, start), BATCH)
    full = read(tmp_path, start)
    log = tmp_path / ".loratui" / "history" / "log.jsonl"
    whole = log.read_bytes()
    ready = whole.index(b"\n", whole.index(b'"k":"ready"')) + 1
    for cut in sorted({*range(0, len(whole), 97), *range(ready - 3, ready + 3), len(whole) - 1}):
        log.write_bytes(whole[:cut])
        for name, data in full.items():
            (tmp_path / name).write_bytes(data or b"")
        history = History(tmp_path)
        assert bool(history.pending()) == (ready <= cut < len(whole))
        history.recover(resume=False)
        if cut >= ready:
            assert read(tmp_path, start) == start, cut
        history.commit([FileChange(tmp_path / "z.txt", None, b"z")], BATCH)
        fresh = HistoryLog(log)
        fresh.refresh()
        assert not fresh.bad_lines and not fresh.pending()
        (tmp_path / "z.txt").unlink()


def test_a_flipped_byte_costs_at_most_its_own_file(tmp_path: Path) -> None:
    start = make(tmp_path, 12)
    History(tmp_path).commit(changes(tmp_path, start), BATCH)
    log = tmp_path / ".loratui" / "history" / "log.jsonl"
    raw = bytearray(log.read_bytes())
    at = raw.index(b'"k":"file"')
    raw[at + 20] ^= 1
    log.write_bytes(raw)
    history = History(tmp_path)
    assert history.log.bad_lines == 1 and history.entries()[0].damaged
    history.undo()
    assert sum(a != b for a, b in zip(read(tmp_path, start).values(), start.values(), strict=True)) == 1


def test_a_change_from_outside_between_kill_and_recovery_stays(tmp_path: Path, monkeypatch: Any) -> None:
    start = make(tmp_path, 3)
    history = History(tmp_path)
    monkeypatch.setattr(History, "_replace", lambda self, number, changes: None)
    history.commit(changes(tmp_path, start), BATCH)
    monkeypatch.undo()
    (tmp_path / "00001.txt").write_bytes(b"theirs")
    (outcome,) = History(tmp_path).recover()
    assert [c.path.name for c in outcome.conflicts] == ["00001.txt"]
    assert (tmp_path / "00001.txt").read_bytes() == b"theirs" and len(outcome.written) == 2
