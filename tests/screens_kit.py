"""What tests of screens share: a machine that stands still, and the pictures they are compared with."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from loratui.ui import machine
from loratui.ui.app import LoratuiApp
from loratui.ui.library import Library

STORED = Path(__file__).parent / "data" / "screens"
SIZES = ((80, 24), (120, 40), (200, 60))
CPU = machine.Reading(
    ram_used_gib=6.2,
    ram_total_gib=16.0,
    cpu=0.83,
    cores=2,
    disk_free_gib=118.0,
    job_rss_gib=1.8,
    job_cpu=1.7,
    history=tuple(0.5 + 0.4 * (i % 5) / 5 for i in range(60)),
)
GPU = machine.Reading(
    gpus=(machine.Gpu(0, "NVIDIA RTX 4090", 17.9, 24.0, 17.1, 0.97, 71.0, 402.0, 450.0, 2520.0),),
    ram_used_gib=21.0,
    ram_total_gib=64.0,
    cpu=0.21,
    cores=16,
    disk_free_gib=118.0,
    history=CPU.history,
)


def freeze(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One time zone, one machine, one disk."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setenv("LORATUI_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("LORATUI_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("LORATUI_MODELS", "/models")
    monkeypatch.setenv("HF_HUB_CACHE", "/hub")
    monkeypatch.setattr(machine.Machine, "read", lambda self, at, pid=0: CPU)
    monkeypatch.setattr(Library, "MEASURES", False)
    monkeypatch.setattr("loratui.ui.widgets.filter_line._LIVE", 60.0)  # enter filters, not the clock
    usage = type(shutil.disk_usage("/"))(10**12, 10**11, 118 * 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


def text_of(app: Any) -> str:
    """The screen as lines."""
    lines = [strip.text.rstrip() for strip in app.screen._compositor.render_strips(app.size)]
    return "\n".join(lines).rstrip() + "\n"


async def rest(app: LoratuiApp, pilot: Any) -> str:
    """Wait until nothing changes any more."""
    before, same = "", 0
    for _ in range(200):
        await pilot.pause(0.05)
        busy = any(
            w.is_running
            and (
                w.group in {"scan", "plan", "decode", "thumbnails", "presets", "batch", "dryrun", "browse"}
                or w.group.startswith(("caption-", "first-"))
            )
            for w in app.workers
        )
        now = text_of(app)
        same = same + 1 if now == before and not busy else 0
        before = now
        if same >= 4:
            return now
    raise AssertionError(f"the screen never rests:\n{before}")


def compare(name: str, size: tuple[int, int], shown: str) -> None:
    """Against what is stored."""
    path = STORED / f"{name}-{size[0]}x{size[1]}.txt"
    if os.environ.get("UPDATE_SCREENS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(shown, encoding="utf-8")
    lines = shown.split("\n")
    assert len(lines) <= size[1] + 1
    assert shown == path.read_text(encoding="utf-8"), f"{path.name} differs:\n{shown}"
