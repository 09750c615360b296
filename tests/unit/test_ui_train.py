"""Room 3 by its keys: groups, choices in place, steps, finding, undo, repairs; the plan follows."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from app_kit import project

from loratui.config.docs import field_table
from loratui.ui.app import LoratuiApp
from loratui.ui.drafts import Draft, form_text, line_of, read_form
from loratui.ui.form_groups import form_lines
from loratui.ui.screens.train import TrainRoom
from loratui.ui.widgets.form import Form
from loratui.ui.widgets.form_rows import Group
from loratui.ui.widgets.problem_list import ProblemList
from loratui.ui.widgets.stepping import stepped


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A state of its own, and no child processes."""
    for name in ("STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name))
    monkeypatch.setattr(TrainRoom, "ESTIMATES", False)


async def planned(app: LoratuiApp, pilot: Any) -> TrainRoom:
    """The room, when the plan answers the newest change."""
    for _ in range(400):
        await pilot.pause(0.02)
        room = app.screen
        busy = any(w.is_running and w.group in {"plan", "presets", "scan"} for w in app.workers)
        if isinstance(room, TrainRoom) and room._config is not None and not busy:
            await pilot.pause(0.05)
            return room
    raise AssertionError("there is no plan")


def test_every_setting_stands_once_in_the_form() -> None:
    """Nothing is left out, nothing twice."""
    lines = form_lines()
    paths = [line.path for line in lines if not isinstance(line, Group)]
    assert sorted(paths) == sorted(field_table())
    assert [line.title for line in lines if isinstance(line, Group)] == [
        "Basic", "Data", "Network", "Optimizer", "Objective", "Memory", "Samples", "Saving",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "up", "down"),
    [
        ("network.rank", 16, 32, 8),
        ("network.rank", 1, 2, 1),
        ("data.resolution", 512, 576, 448),
        ("data.resolution", 70, 128, 64),
        ("optimizer.lr", 1e-4, 1.5e-4, 7e-5),
        ("data.caption_dropout", 0.0, 0.05, 0.0),
        ("optimizer.steps", 250, 300, 200),
        ("data.batch_size", 1, 2, 1),
    ],
)
def test_numbers_step(path: str, value: float, up: float, down: float) -> None:
    """In steps that suit the setting, within its range."""
    field = field_table()[path]
    assert stepped(field, value, 1) == pytest.approx(up)
    assert stepped(field, value, -1) == pytest.approx(down)


def test_draft_goes_back_and_forth() -> None:
    """Each change is one step; a new one forgets what was taken back."""
    draft = Draft()
    assert draft.change({"a": "1"}) and draft.change({"a": None, "b": "2"}) and not draft.change({"b": "2"})
    assert draft.undo() and draft.edits == {"a": "1"} and draft.redo() and draft.edits == {"b": "2"}
    assert draft.undo() and draft.change({"c": "3"}) and not draft.redo()
    assert draft.edits == {"a": "1", "c": "3"}


def test_the_form_as_toml_comes_back_with_lines_of_mistakes() -> None:
    """What differs is written plain; a mistake names its line."""
    base = {path: info.default for path, info in field_table().items()}
    words = form_text(base | {"network.rank": 4, "samples.prompts": ("a; b",)}, base, "a form")
    values, problems = read_form(words, "form.toml")
    assert values == {"network.rank": 4, "samples.prompts": ("a; b",)} and not problems
    broken = words.replace("rank = 4", "rank = -4").replace("[saving]", "[saving]\nevry = 5")
    values, problems = read_form(broken, "form.toml")
    texts = broken.splitlines()
    assert {texts[line_of(p) - 1].split(" =")[0] for p in problems} == {"rank", "evry"}
    assert all(p.where.startswith("form.toml:") for p in problems)


async def test_the_room_by_its_keys(tmp_path: Path) -> None:
    """Choose, step, find, mend, undo."""
    app = LoratuiApp(project(tmp_path / "robot", 14))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("3")
        room = await planned(app, pilot)
        form = room.query_one(Form)
        form.focus()
        form.reveal("network.kind")
        await pilot.press("enter", "down", "enter")  # opens in place: lora, dora
        room = await planned(app, pilot)
        assert room._config is not None and room._config.network.kind == "dora"
        assert form.current is not None and form.current.path == "network.kind"
        form.reveal("network.rank")
        before = room._config.network.rank
        await pilot.press("right")
        room = await planned(app, pilot)
        assert room._config is not None and room._config.network.rank == 2 * before
        await pilot.press("u")
        room = await planned(app, pilot)
        assert room._config is not None and room._config.network.rank == before
        await pilot.press("slash", *"offset", "enter")
        shown = [line.path for line in form._lines if not isinstance(line, Group)]
        assert "objective.noise_offset" in shown and "network.rank" not in shown
        assert form.reveal("objective.noise_offset") and len(form._lines) > 50
        await pilot.press("enter", *("backspace",) * 6, *"0.5", "enter")
        await planned(app, pilot)
        problems = room.query_one(ProblemList)
        assert problems.about("objective.noise_offset") is not None
        await pilot.press("F")
        room = await planned(app, pilot)
        assert room._config is not None and room._config.objective.noise_offset == 0.05
        assert problems.about("objective.noise_offset") is None
        await pilot.press("ctrl+r", "R")
        room = await planned(app, pilot)
        assert room.draft.edits == {}


async def test_changes_in_quick_succession_are_planned_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a plan is being made, those that changes ask for meanwhile are dropped, but for the newest."""
    import loratui.ui.screens.train_plan as made

    begun, free, numbers = threading.Event(), threading.Event(), []
    real = made.make_plan

    def slow(number: int, *rest: Any) -> Any:
        numbers.append(number)
        begun.set()
        free.wait(10)
        return real(number, *rest)

    app = LoratuiApp(project(tmp_path))
    async with app.run_test(size=(160, 48)) as pilot:
        await pilot.press("3")
        room = await planned(app, pilot)
        monkeypatch.setattr(made, "make_plan", slow)
        before = room._asked
        for turn in range(6):
            room.draft.change({"optimizer.lr": f"{turn + 1}e-5"})
            room._plan()
            for _ in range(200):  # the first is being made when the others come
                if begun.is_set():
                    break
                await pilot.pause(0.02)
        free.set()
        room = await planned(app, pilot)
        assert numbers == [before + 1, before + 6]
        assert room._config is not None and room._config.optimizer.lr == pytest.approx(6e-5)


async def test_settings_are_found_from_the_list_of_presets(tmp_path: Path) -> None:
    """What is typed after `/` never reaches the room's keys: `s` would start a training."""
    app = LoratuiApp(project(tmp_path / "p", 2))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("3")
        room = await planned(app, pilot)
        assert room.focused is not None and room.focused.id == "presets"
        await pilot.press("slash", *"tokens", "enter")
        form = room.query_one(Form)
        assert room.focused is form
        shown = [line.path for line in form._lines if not isinstance(line, Group)]
        assert "network.tokens" in shown and "optimizer.lr" not in shown
        assert not app.runs
