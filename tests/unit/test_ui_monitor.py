"""The Monitor: panels shown, hidden and zoomed, axes and cursor, the log, and what is the matter."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from app_kit import RECORDED, RunWriter, project
from textual.geometry import Region

from loratui.ui.app import LoratuiApp
from loratui.ui.charts import ChartView, load_view
from loratui.ui.library import Library
from loratui.ui.panels.curve import CurvePanel
from loratui.ui.panels.log import LogPanel
from loratui.ui.screens.monitor_view import PANELS
from loratui.ui.story import tell
from loratui.ui.widgets.key_bar import KeyBar


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))
    monkeypatch.setattr(Library, "MEASURES", False)


def seen(app: Any) -> str:
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips(app.size))


async def until(app: Any, pilot: Any, words: str) -> str:
    for _ in range(200):
        await pilot.pause(0.05)
        if words in seen(app):
            return seen(app)
    raise AssertionError(f"{words!r} never came:\n{seen(app)}")


async def test_panels_axes_cursor_and_log_of_a_recording(tmp_path: Path) -> None:
    app = LoratuiApp(tmp_path, replay=RECORDED, replay_share=0.6)
    async with app.run_test(size=(120, 40)) as pilot:
        shown = await until(app, pilot, "samples at step 200")
        assert "loss by timestep" not in shown and "epoch     59 / 100" in shown
        await pilot.press("v", "j", "j", "space", "enter")
        shown = await until(app, pilot, "loss by timestep")
        assert "checkpoint 200 saved" in shown  # the log is still in sight
        await pilot.press("z", "tab", "tab", "tab")
        shown = await until(app, pilot, "learning rate")
        assert "loss by timestep" not in shown and "unet" in shown
        await pilot.press("z", "t")
        await until(app, pilot, "by epoch")
        await pilot.press("t", "w")
        await until(app, pilot, "last 10 min")
        await pilot.press("w", "t", "plus")
        await until(app, pilot, "smooth 0.99")
        app.screen.query_one("#loss").focus()
        await pilot.press("left", "left")
        shown = await until(app, pilot, "step 2")
        assert "raw 0." in shown and "smooth 0." in shown
        await pilot.press("escape", "slash", *"check", "enter")
        await until(app, pilot, "/check: 2")
        await pilot.press("f")
        await until(app, pilot, "No warnings or errors")
        await pilot.press("f", "f", "G")
        assert app.screen.query_one(LogPanel).following
        await pilot.pause(0.2)
    kept = load_view()
    assert (kept.axis, kept.smoothing) == ("step", 0.99)
    assert "quarters" not in kept.hidden["normal"] and "rates" in kept.hidden["normal"]


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_a_zoomed_panel_has_the_whole_page_and_gives_it_back(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    app = LoratuiApp(tmp_path, replay=RECORDED, replay_share=0.6)
    async with app.run_test(size=size) as pilot:
        await until(app, pilot, "checkpoint 200 saved")

        def regions() -> dict[str, Region]:
            return {name: app.screen.query_one(f"#{name}").region for name, _ in PANELS}

        async def wait(test: Callable[[], bool]) -> None:
            for _ in range(400):
                if test():
                    return
                await pilot.pause(0.02)
            raise AssertionError(regions())

        def filled(name: str) -> bool:
            shown = {other: region for other, region in regions().items() if region}
            if list(shown) != [name]:
                return False
            region = shown[name]
            return region.width == size[0] and region.bottom == bar.y and region.height >= bar.y - 3

        before = regions()
        bar = app.screen.query_one(KeyBar).region
        await pilot.press("z")
        for name, _ in PANELS:
            await wait(lambda name=name: filled(name))  # type: ignore[misc]
            await pilot.press("tab")
        await pilot.press("z")
        await wait(lambda: regions() == before)


async def test_panels_are_moved_and_stay_where_they_were_put(tmp_path: Path) -> None:
    app = LoratuiApp(tmp_path, replay=RECORDED, replay_share=0.6)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(app, pilot, "samples at step 200")

        def places() -> dict[str, tuple[int, int]]:
            found = {name: app.screen.query_one(f"#{name}").region for name, _ in PANELS}
            return {name: (region.y, region.x) for name, region in found.items() if region}

        async def wait(test: Callable[[dict[str, tuple[int, int]]], bool]) -> None:
            for _ in range(400):
                if test(places()):
                    return
                await pilot.pause(0.02)
            raise AssertionError(places())

        await pilot.press("left_square_bracket")  # nothing has the focus: nothing is moved
        app.screen.query_one("#numbers").focus()
        await pilot.press("left_square_bracket")
        await wait(lambda at: at["numbers"] < at["loss"])
        await pilot.press("left_square_bracket", "right_curly_bracket")  # at the edge already
        await wait(lambda at: at["machine"] < at["numbers"] < at["loss"] < at["log"])
        app.screen.query_one("#log").focus()
        await pilot.press(*["left_curly_bracket"] * 2)
        await wait(lambda at: at["log"] < at["machine"] < at["numbers"] < at["loss"])
        assert str(app.screen.focused.id if app.screen.focused else "") == "log"
        await wait(lambda at: load_view().order != {})
    again = LoratuiApp(tmp_path, replay=RECORDED, replay_share=0.6)
    async with again.run_test(size=(120, 40)) as pilot:
        await until(again, pilot, "samples at step 200")
        at = [again.screen.query_one(f"#{name}").region for name in ("log", "machine", "numbers", "loss")]
        assert sorted(at, key=lambda region: (region.y, region.x)) == at
        await pilot.resize_terminal(80, 24)  # another size has an order of its own
        for _ in range(400):
            loss, numbers = (again.screen.query_one(f"#{name}").region for name in ("loss", "numbers"))
            if loss.x < numbers.x:
                break
            await pilot.pause(0.02)
        assert loss.x < numbers.x


async def test_every_panel_at_every_size(tmp_path: Path) -> None:
    view = ChartView(hidden={"low": [], "normal": [], "wide": []})
    view.save()
    app = LoratuiApp(tmp_path, replay=RECORDED, replay_share=0.6)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(app, pilot, "samples at step 200")
        for size in ((80, 24), (200, 60), (40, 12)):
            await pilot.resize_terminal(*size)
            await pilot.pause(0.1)
            await pilot.press("z", *["tab"] * 10, "z")
        assert len(app.screen.query(CurvePanel)) == 6


def test_a_broken_choice_is_no_choice(tmp_path: Path) -> None:
    path = tmp_path / "state" / "monitor.json"
    path.parent.mkdir()
    for words in (
        "",
        "[]",
        "{",
        json.dumps({"axis": 7, "hidden": [1], "order": 5, "smoothing": "x", "log": {}}),
    ):
        path.write_text(words)
        assert load_view() == ChartView()


async def test_the_monitor_says_what_is_the_matter(tmp_path: Path) -> None:
    root = project(tmp_path / "p", 1)
    run = RunWriter(root, "ill", steps=100)
    job = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    try:
        run.alive(job.pid)
        run.write("state", state="running")
        run.steps(1, 30)
        app = LoratuiApp(root, open_run=str(run.run.path))
        async with app.run_test(size=(110, 36)) as pilot:
            await until(app, pilot, "30 / 100")
            run.write("step", step=31, epoch=1, loss=float("nan"), step_s=0.1, images=4)
            await until(app, pilot, "The loss is no number at step 31")
            job.kill()
            job.wait()
            shown = await until(app, pilot, "CRASHED")
            assert "crashed at step 31" in shown and "SIGKILL" in shown and "loratui resume" in shown
    finally:
        job.kill()
        job.wait()


def test_a_hint_about_a_file_is_no_failure_to_load() -> None:
    hint = {"severity": "info", "message": "Names are checked."}
    event = {"t": 0.0, "kind": "verified", "matched": {"comfyui": [3, 3]}, "problems": [hint]}
    assert [(line.level, line.what) for line in tell([event])] == [("good", "verified: comfyui 3/3")]
    event["problems"] = [hint, {"severity": "error", "message": "1 key is unknown."}]
    assert tell([event])[0].what == "the file does not load everywhere: 1 key is unknown."
