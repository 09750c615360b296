"""A thousand forged or stale status files: the right state at once, and never a signal to anybody."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loratui.runs import liveness, snapshot
from loratui.runs.directory import RunDir
from loratui.runs.events import encode_line
from loratui.runs.liveness import process_identity
from loratui.runs.status import Watch, status

MANY = 1000
Forged = tuple[dict[str, Any], float, str]
"""Who the journal names, unix time of its last event, the state to be seen."""


@pytest.fixture
def dead() -> dict[str, Any]:
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    who = process_identity(child.pid).as_dict()
    child.wait()
    return who


def journal(run: RunDir, who: dict[str, Any], at: float, ended: str = "") -> None:
    """A run of ten steps whose last event is of `at`."""
    events: list[dict[str, Any]] = [
        {"kind": "opened", "attempt": 1, "run_id": run.id, "steps": 100, "epochs": 1},
        {"kind": "process", **who, "device": "cpu"},
        {"kind": "state", "state": "running"},
        *({"kind": "step", "step": step, "loss": 0.1, "step_s": 0.1} for step in range(1, 11)),
    ]
    if ended:
        events.append({"kind": "state", "state": ended})
    lines = [encode_line({"n": n, "t": at, "a": 1, **event}) for n, event in enumerate(events, 1)]
    run.events_path.write_bytes(b"".join(lines))


def forge(run: RunDir, dice: random.Random, beat: float) -> str:
    """Leave a status.json that lies, in one of many ways; returns which."""
    folded = snapshot.load(run)
    end = snapshot.ending(run.events_path, folded.offset)
    honest = json.loads(snapshot.encode(folded.state, folded.offset, end, {"at": beat}))
    way = dice.choice(
        ["honest", "none", "torn", "words", "list", "finished", "ahead", "other", "step", "types"]
    )
    lies: dict[str, Callable[[], bytes]] = {
        "honest": lambda: json.dumps(honest).encode(),
        "torn": lambda: json.dumps(honest).encode()[: dice.randrange(400)],
        "words": lambda: dice.randbytes(300),
        "list": lambda: b"[1, 2, 3]",
        "finished": lambda: json.dumps({**honest, "state": "finished", "events_end": "x" * 18}).encode(),
        "ahead": lambda: json.dumps(
            {**honest, "state": "failed", "events_bytes": folded.offset + 999}
        ).encode(),
        "other": lambda: json.dumps({**honest, "pid": 1, "events_end": '"crc":"00000000"}'}).encode(),
        "step": lambda: json.dumps({**honest, "step": 99, "format": 1}).encode(),
        "types": lambda: json.dumps({**honest, "step": "x", "memo": [], "heartbeat": 7}).encode(),
    }
    if way != "none":
        run.status_path.write_bytes(lies[way]())
        os.utime(run.status_path, (beat, beat))
    return way


def test_a_thousand_forged_status_files(
    tmp_path: Path, dead: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a signal was sent")

    monkeypatch.setattr(os, "kill", never)
    monkeypatch.setattr(os, "killpg", never)
    me, now, dice = process_identity().as_dict(), time.time(), random.Random(11)
    kinds: dict[str, Callable[[], Forged]] = {
        "alive": lambda: (me, now - 1, "running"),
        "alive, clock an hour ahead": lambda: (me, now + 3600, "running"),
        "alive, clock a day behind": lambda: (me, now - 86400, "running"),
        "dead": lambda: (dead, now - 1, "crashed"),
        "dead, its clock ahead": lambda: (dead, now + 3600, "crashed"),
        "pid reused": lambda: ({**me, "process_start": me["process_start"] - 7}, now - 1, "crashed"),
        "pid 1": lambda: ({**me, "pid": 1}, now - 1, "crashed"),
        "another boot, long ago": lambda: ({**me, "boot_id": "another/1"}, now - 500, "crashed"),
        "another host, fresh": lambda: ({**me, "host": "elsewhere"}, now - 5, "running"),
        "another host, silent": lambda: ({**me, "host": "elsewhere"}, now - 500, "crashed"),
        "finished, pid dead": lambda: (dead, now - 500, "finished"),
        "failed, pid alive": lambda: (me, now - 5, "failed"),
    }
    slowest, wrong = 0.0, []
    run = RunDir.create(tmp_path / "runs", "x")
    for number in range(MANY):
        name = dice.choice(list(kinds))
        who, at, expected = kinds[name]()
        run.status_path.unlink(missing_ok=True)
        journal(run, who, at, expected if expected in {"finished", "failed"} else "")
        way = forge(run, dice, min(at, now))
        start = time.perf_counter()
        seen = status(run)
        slowest = max(slowest, time.perf_counter() - start)
        if seen.state != expected or (way != "honest" and seen.step != 10):
            wrong.append((number, name, way, seen.state, seen.step))
        if number % 20 == 0:
            watch = Watch(run)
            watch.poll()
            assert watch.state.state == expected
    assert wrong == []
    assert slowest < 2.0
    assert liveness.STALE_S <= 30.0
