"""What each room looks like at three sizes, as text; `UPDATE_SCREENS=1` writes the pictures anew.

The monitor and the samples are fed from a recorded run with a frozen clock; the machine's figures, the free
disk and the time zone are fixed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_kit import CAPTIONED, RECORDED, project
from screens_kit import GPU, SIZES, compare, freeze, rest

from loratui.ui import machine
from loratui.ui.app import LoratuiApp


@pytest.fixture(autouse=True)
def fixed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """One time zone, one machine, one disk."""
    freeze(monkeypatch, tmp_path)
    yield
    monkeypatch.undo()
    time.tzset()


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
        compare("runs", size, await rest(app, pilot))


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
