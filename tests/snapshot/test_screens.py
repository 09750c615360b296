"""What each room looks like at three sizes, as text; `UPDATE_SCREENS=1` writes the pictures anew.

The monitor and the samples are fed from a recorded run with a frozen clock; the machine's figures, the free
disk and the time zone are fixed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_kit import CAPTIONED, RECORDED, project

from loratui.ui import machine
from loratui.ui.app import LoratuiApp
from loratui.ui.library import Library

STORED = Path(__file__).parent.parent / "data" / "screens"
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


@pytest.fixture(autouse=True)
def fixed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
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
    yield
    monkeypatch.undo()
    time.tzset()


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
                w.group in {"scan", "plan", "decode", "thumbnails", "presets", "batch"}
                or w.group.startswith("caption-")
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


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_rooms_of_a_recorded_run(size: tuple[int, int], tmp_path: Path) -> None:
    """Monitor and samples at 60 % of a run."""
    app = LoratuiApp(tmp_path, replay=RECORDED, replay_share=0.6)
    async with app.run_test(size=size) as pilot:
        compare("monitor", size, await rest(app, pilot))
        await pilot.press("5")
        compare("samples", size, await rest(app, pilot))
        if size == (120, 40):
            await pilot.press("4", "L", "z")
            compare("monitor-zoomed", size, await rest(app, pilot))


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_monitor_of_a_recorded_caption_run(size: tuple[int, int], tmp_path: Path) -> None:
    """Half way: how far, how fast, what was written, the picture of the newest; then at its end."""
    root = project(tmp_path / "sks-robot", 24)
    app = LoratuiApp(root, replay=CAPTIONED, replay_share=0.75)
    async with app.run_test(size=size) as pilot:
        shown = await rest(app, pilot)
        for words in ("images/s", "left", "written", "failed 1", "kept 1", "by hand 3", "1.9 G", "log"):
            assert words in shown, shown
        assert "loss" not in shown and "save now" not in shown
        compare("monitor-captions", size, shown)
    app = LoratuiApp(root, replay=CAPTIONED, replay_share=1.0)
    async with app.run_test(size=size) as pilot:
        compare("monitor-captions-ended", size, await rest(app, pilot))
        if size == (120, 40):
            await pilot.press("z")
            compare("monitor-captions-zoomed", size, await rest(app, pilot))


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_rooms_of_a_project(size: tuple[int, int], tmp_path: Path) -> None:
    """Dataset, Captions, Runs and the dialogs, with one finished run."""
    root = project(tmp_path / "sks-robot", 9)
    shutil.copytree(RECORDED, root / "runs" / RECORDED.name)
    app = LoratuiApp(root)
    async with app.run_test(size=size) as pilot:
        app.now = lambda: 1_767_362_400.0 + 7200  # type: ignore[method-assign]
        await pilot.pause(0.3)
        compare("dataset", size, await rest(app, pilot))
        await pilot.press("2")
        compare("captions", size, await rest(app, pilot))
        await pilot.press("question_mark")
        compare("help", size, await rest(app, pilot))
        await pilot.press("escape")
        await pilot.press("6")
        shown = (await rest(app, pilot)).replace(str(root), "/sks-robot")
        assert "✔ finished" in shown and "400/400" in shown


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_states_of_the_dataset_room(size: tuple[int, int], tmp_path: Path) -> None:
    """Thumbnails with marks, a wrong filter, a batch edit before it happens, the list of edits."""
    app = LoratuiApp(project(tmp_path / "sks-robot", 9))
    async with app.run_test(size=size) as pilot:
        await pilot.pause(0.3)
        await rest(app, pilot)
        await pilot.press("space", "down", "space", "t", "down")
        compare("dataset-grid", size, await rest(app, pilot))
        await pilot.press("t", "slash", *"tag:x", "space", *"AND", "space", *"widht:>5", "enter")
        compare("dataset-wrong-filter", size, await rest(app, pilot))
        await pilot.press("escape", "colon", *"add", "space", *"hat", "space", *"first")
        compare("dataset-command", size, await rest(app, pilot))
        await pilot.press("enter")
        compare("dataset-diff", size, await rest(app, pilot))
        await pilot.press("escape", "b")
        compare("dataset-batch", size, await rest(app, pilot))


@pytest.mark.parametrize("size", SIZES[:2], ids=lambda s: f"{s[0]}x{s[1]}")
async def test_crop(size: tuple[int, int], tmp_path: Path) -> None:
    """The crop of a picture: box and figures, then turned and by hand."""
    app = LoratuiApp(project(tmp_path / "sks-robot", 9))
    async with app.run_test(size=size) as pilot:
        await pilot.pause(0.3)
        await rest(app, pilot)
        await pilot.press("C")
        compare("crop", size, await rest(app, pilot))
        await pilot.press("r", "minus", "minus", "j")
        compare("crop-by-hand", size, await rest(app, pilot))
        await pilot.press("escape", "B")
        compare("buckets", size, await rest(app, pilot))
        await pilot.press("escape", "A")
        for _ in range(200):
            await pilot.pause(0.02)
            if getattr(app.screen, "troubles", ()):
                break
        compare("audit", size, await rest(app, pilot))


async def test_gpu_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU box: memory, ours and others, busy, temperature, power, clock."""
    monkeypatch.setattr(machine.Machine, "read", lambda self, at, pid=0: GPU)
    root = project(tmp_path / "sks-robot", 3)
    shutil.copytree(RECORDED, root / "runs" / RECORDED.name)
    app = LoratuiApp(root, open_run="last")
    async with app.run_test(size=(120, 40)) as pilot:
        shown = await rest(app, pilot)
    for words in (
        "GPU0 17.9/24 G",
        "GPU 0  NVIDIA RTX 4090",
        "17.9 / 24.0 G",
        "97 %",
        "71 °C",
        "402 / 450 W",
        "2.5 GHz",
    ):
        assert words in shown, shown


@pytest.mark.parametrize("size", SIZES[:2], ids=lambda s: f"{s[0]}x{s[1]}")
async def test_first_minute(size: tuple[int, int], tmp_path: Path) -> None:
    """The wizard in an empty folder."""
    (tmp_path / "new").mkdir()
    app = LoratuiApp(tmp_path / "new")
    async with app.run_test(size=size) as pilot:
        shown = (await rest(app, pilot)).replace(str(tmp_path), "")
        assert "Base" in shown and "Trigger" in shown and "The project will be in" in shown


async def test_empty_states_say_what_to_do(tmp_path: Path) -> None:
    """No pictures, no runs, no samples: each says which key helps."""
    root = project(tmp_path / "empty", 0)
    app = LoratuiApp(root)
    async with app.run_test(size=(100, 30)) as pilot:
        assert ":import PATH copies a folder, zip or tar in" in await rest(app, pilot)
        for key, words in (
            ("2", "1 says where"),
            ("4", "3 chooses a preset"),
            ("5", "3 chooses"),
            ("6", "No runs yet"),
        ):
            await pilot.press(key)
            assert words in await rest(app, pilot)
