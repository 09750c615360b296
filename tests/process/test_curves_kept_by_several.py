"""Several viewers keep the curves of one growing run at the same time, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loratui.runs import curve_cache
from loratui.runs.curves import Curves
from loratui.runs.directory import RunDir
from loratui.runs.events import encode_line

VIEWER = """
import sys
from pathlib import Path
from loratui.runs import curve_cache
from loratui.runs.directory import RunDir
curve_cache.WORTH = 1
run, stop = RunDir(Path(sys.argv[1])), Path(sys.argv[2])
looks = 0
while True:
    last = stop.exists()
    curve_cache.renew(run)
    looks += 1
    stop.with_name(sys.argv[3]).touch()
    if last:
        break
print(looks)
"""


def test_what_is_kept_is_whole_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORATUI_CACHE", str(tmp_path / "cache"))
    run, stop = RunDir.create(tmp_path / "runs", "it"), tmp_path / "stop"
    append(run, 1, 1000)
    viewers = [
        subprocess.Popen(
            [sys.executable, "-c", VIEWER, str(run.path), str(stop), f"up-{n}"],
            env={**os.environ, "LORATUI_CACHE": str(tmp_path / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("up-*"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    seen = set()
    for first in range(1001, 6_001, 500):
        append(run, first, first + 499)
        kept = curve_cache.load(run)
        assert kept is not None
        whole, _ = curve_cache.read(run, Curves(), 0, end=kept[1])
        assert kept[0].packed() == whole.packed()
        seen.add(kept[1])
    stop.touch()
    ends = [viewer.communicate(timeout=60) for viewer in viewers]
    assert [viewer.returncode for viewer in viewers] == [0, 0, 0], ends
    assert len(seen) > 3 and all(int(out) > 3 for out, _ in ends), (seen, ends)
    whole, size = curve_cache.read(run, Curves(), 0)
    kept = curve_cache.load(run)
    assert kept is not None and kept[1] == size == run.events_path.stat().st_size
    assert kept[0].packed() == whole.packed()
    assert [p.suffix for p in curve_cache.place(run).parent.iterdir()] == [".bin"]


def append(run: RunDir, first: int, last: int) -> None:
    """Steps of a journal."""
    with run.events_path.open("ab") as file:
        for step in range(first, last + 1):
            loss, rate = 0.1 + step % 7 / 100, {"unet": 1e-4}
            event = {"n": step, "t": 1e9 + step, "a": 1, "kind": "step", "step": step, "loss": loss}
            file.write(encode_line(event | {"lr": rate, "seconds": 0.5}))
