"""Room 3 and all settings at once: the editor, presets kept and compared, other trainers' configs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from app_kit import project
from textual.widgets import Input

from loratui.config.presets import load_preset
from loratui.ui import machine
from loratui.ui.app import LoratuiApp
from loratui.ui.library import Library
from loratui.ui.planning import by_fit
from loratui.ui.screens import train_deeds
from loratui.ui.screens.browse import BrowseDialog
from loratui.ui.screens.choose import ChooseDialog
from loratui.ui.screens.keep_preset import KeepPresetDialog
from loratui.ui.screens.lines import RowsDialog
from loratui.ui.screens.train import TrainRoom
from loratui.ui.widgets.choice import Choice

TRAINERS = Path(__file__).parent.parent / "data" / "trainers"
GPU = machine.Gpu(0, "NVIDIA GeForce RTX 3060", 0.4, 12.0, 0.0, 0.0, 40.0, 20.0, 170.0, 210.0)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Places of its own, no child processes, a card of 12 G."""
    for name in ("STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name))
    monkeypatch.setattr(TrainRoom, "ESTIMATES", False)
    monkeypatch.setattr(Library, "MEASURES", False)
    reading = machine.Reading(gpus=(GPU,), ram_total_gib=32.0)
    monkeypatch.setattr(machine.Machine, "read", lambda self, at, pid=0: reading)


async def until(pilot: Any, condition: Callable[[], Any]) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, text_of(pilot.app)
        await pilot.pause(0.03)


def text_of(app: Any) -> str:
    """The screen."""
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips(app.size))


async def opened(app: LoratuiApp, pilot: Any) -> TrainRoom:
    """The room with its first plan."""
    await pilot.press("3")
    await until(pilot, lambda: isinstance(app.screen, TrainRoom) and app.screen._ready is not None)
    room = app.screen
    assert isinstance(room, TrainRoom)
    await until(pilot, lambda: room._card.gib == 12.0)
    return room


async def test_presets_that_fit_come_first(tmp_path: Path) -> None:
    """Family and card decide the order; the reason stands below."""
    app = LoratuiApp(project(tmp_path / "p", 3))
    async with app.run_test(size=(120, 40)) as pilot:
        room = await opened(app, pilot)
        await until(pilot, lambda: room._family == "sd15")
        names = [p.name for p in room._presets]
        assert names == [p.name for p in by_fit(room._presets, "sd15", 12.0)] and "demo" in names
        others = [p.family not in {"", "sd15"} for p in room._presets]
        kinds = [(o, not o and p.memory_gib > 12.6) for o, p in zip(others, room._presets, strict=True)]
        assert kinds == sorted(kinds) and kinds[0] == (False, False) and kinds[-1][0]
        assert room._preset is not None and room._preset.name == "demo"
        await pilot.press("G")
        await until(pilot, lambda: room._preset is not None and room._preset.name == names[-1])
        place = room._presets[-1].family
        await until(pilot, lambda: f"For {place}, the base is" in text_of(app) and "sd15. " in text_of(app))


async def test_the_editor_takes_what_can_be_read_and_points_at_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake is shown with its line, the editor opens there again, with the mistake as a comment."""
    asked: list[tuple[str, int]] = []
    answers: list[Callable[[str], str]] = [
        lambda words: words.replace("rank = ", "rank = -", 1).replace("[saving]", "[saving]\nevry = 5"),
        lambda words: words.replace("rank = -", "rank = 1", 1).replace("evry = 5", "every = 5"),
    ]

    def edit(_app: Any, words: str, _name: str, line: int, _instead: str) -> str:
        asked.append((words, line))
        return answers[len(asked) - 1](words)

    monkeypatch.setattr(train_deeds, "edit_text", edit)
    root = project(tmp_path / "p", 3)
    with (root / "loratui.toml").open("a") as file:
        file.write('\n[overrides]\nrank = 4\n"optimizer.epochs" = 3\n')
    app = LoratuiApp(root)
    async with app.run_test(size=(120, 40)) as pilot:
        room = await opened(app, pilot)
        await pilot.press("E")
        await until(pilot, lambda: isinstance(app.screen, RowsDialog))
        shown = text_of(app)
        assert "2 lines cannot be taken" in shown and "rank = -4" in shown and "evry = 5" in shown
        assert not room.draft.edits
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is room and room.draft.edits)
        words, line = asked[1]
        assert words.splitlines()[line - 1].startswith("rank = -4")
        assert words.splitlines()[line].startswith("#! ") and words.count("#! ") == 2
        assert room.draft.edits == {"network.rank": "14", "saving.every": "5"}
        await until(pilot, lambda: room._config is not None and room._config.network.rank == 14)
        assert room._config is not None and room._config.optimizer.epochs == 3
        await pilot.press("u")
        await until(pilot, lambda: room._config is not None and room._config.network.rank == 4)


async def test_settings_are_kept_as_a_preset_and_compared(tmp_path: Path) -> None:
    """In the project, replaced only when asked twice, for all projects; then what differs from another."""
    root = project(tmp_path / "p", 3)
    app = LoratuiApp(root)
    async with app.run_test(size=(120, 40)) as pilot:
        room = await opened(app, pilot)
        room.take({"network.rank": 6, "network.alpha": 3.0}, "test")
        await until(pilot, lambda: room._config is not None and room._config.network.rank == 6)
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, KeepPresetDialog))
        field = app.screen.query_one("#name", Input)
        field.value = "demo"
        await pilot.press("enter")
        assert "comes with loratui" in text_of(app)
        field.value = "mine"
        await pilot.press("enter")
        kept = root / "presets" / "mine.toml"
        await until(pilot, lambda: room._preset is not None and room._preset.name == "mine")
        preset = load_preset("mine", root)
        assert preset.extends == "demo" and preset.values["network.rank"] == 6 and preset.family == "sd15"
        assert kept.read_text().count("rank = 6") == 1 and "lr" not in kept.read_text()
        await until(pilot, lambda: not room.draft.edits and room._config is not None)
        room.take({"network.rank": 7}, "test")
        await until(pilot, lambda: room._config is not None and room._config.network.rank == 7)
        await pilot.press("w", "enter")
        await until(pilot, lambda: "enter again replaces it" in text_of(app))
        assert load_preset("mine", root).values["network.rank"] == 6
        await pilot.press("enter")
        await until(
            pilot, lambda: app.screen is room and load_preset("mine", root).values["network.rank"] == 7
        )
        assert load_preset("mine", root).extends == "demo"
        await until(pilot, lambda: app.screen is room and not room.draft.edits)
        await pilot.press("w")
        app.screen.query_one("#name", Input).value = "everywhere"
        app.screen.query_one("#where", Choice).action_step(1)
        await pilot.press("enter")
        everywhere = tmp_path / "CONFIG" / "presets" / "everywhere.toml"
        await until(pilot, everywhere.exists)
        assert load_preset("everywhere").extends == "demo"  # a preset of one project is no parent for all
        await until(pilot, lambda: room._preset is not None and room._preset.name == "everywhere")
        await pilot.press("equals_sign")
        await until(pilot, lambda: isinstance(app.screen, ChooseDialog))
        await pilot.press(*"demo", "enter")
        await until(pilot, lambda: isinstance(app.screen, RowsDialog))
        assert "network.rank" in text_of(app) and "everywhere and demo: 2 differences" in text_of(app)


async def test_a_config_of_another_trainer_comes_and_goes(tmp_path: Path) -> None:
    """The report first; enter takes it as one step; export writes files and says what is left out."""
    source = next(TRAINERS.rglob("*.yaml"))
    root = project(tmp_path / "p", 3)
    (root / source.name).write_bytes(source.read_bytes())
    app = LoratuiApp(root)
    async with app.run_test(size=(120, 40)) as pilot:
        room = await opened(app, pilot)
        await pilot.press("i")
        await until(pilot, lambda: isinstance(app.screen, BrowseDialog) and "ai-toolkit, " in text_of(app))
        await pilot.press(*source.stem, "enter")
        await until(pilot, lambda: isinstance(app.screen, RowsDialog))
        shown = text_of(app)
        assert source.name in shown and "taken" in shown
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is room and room.draft.edits)
        edits = dict(room.draft.edits)
        assert "network.rank" in edits and "model.base" not in edits
        await until(
            pilot,
            lambda: room._config is not None and str(room._config.network.rank) == edits["network.rank"],
        )
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, ChooseDialog))
        await pilot.press("enter")
        folder = root / "exports" / "sd-scripts"
        await until(pilot, lambda: isinstance(app.screen, RowsDialog) and "config.toml" in text_of(app))
        assert f"network_dim = {edits['network.rank']}" in (folder / "config.toml").read_text()
        await pilot.press("escape", "u")
        await until(pilot, lambda: not room.draft.edits)
