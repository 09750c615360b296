"""A card that is too small is caught before the start, on the command line and in the room; the fix works."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from app_kit import project, sdxl_file

from loratui import cli
from loratui.cli import projects
from loratui.config.load import as_dict
from loratui.errors import RunError
from loratui.plan import cards
from loratui.plan.cards import Card
from loratui.project import Project, start
from loratui.project.recommending import GOALS
from loratui.ui import machine
from loratui.ui.app import LoratuiApp
from loratui.ui.drafts import written
from loratui.ui.library import Library
from loratui.ui.screens.choose import ChooseDialog
from loratui.ui.screens.train import TrainRoom

SMALL_GIB = 8.0
GPU = machine.Gpu(0, "NVIDIA GeForce RTX 4060", 0.4, SMALL_GIB, 0.0, 0.0, 40.0, 20.0, 115.0, 210.0)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of an SDXL base with a preset for 16 G, on a machine with a card of 8 G."""
    for name in ("STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))
    monkeypatch.setattr(cards, "cards", lambda: [Card(GPU.name, SMALL_GIB)])
    monkeypatch.setattr(machine.Machine, "read", lambda self, at, pid=0: machine.Reading(gpus=(GPU,)))
    monkeypatch.setattr(Library, "MEASURES", False)
    monkeypatch.setattr(TrainRoom, "ESTIMATES", False)
    root = project(tmp_path / "p", 3)
    base = sdxl_file(tmp_path / "base.safetensors")
    text = (root / "loratui.toml").read_text()
    text = text.replace('base = "demo"', f'base = "{base}"').replace('"demo"', '"sdxl-character"')
    (root / "loratui.toml").write_text(text)
    return root


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The settings of what would have been launched."""
    found: list[Any] = []

    def launch(_project: Any, ready: start.Ready, *_rest: Any, **_more: Any) -> None:
        found.append(ready.config)
        raise RunError("It stops here.", "Nothing is launched in this test.")

    monkeypatch.setattr(start, "launch", launch)
    return found


def test_on_the_command_line(root: Path, launched: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """plan and train refuse it, plan --fix says how, and with that it starts."""
    assert cli.main(["plan", str(root), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    problem = next(p for p in found["problems"] if p["code"] == "too-large")
    assert "too much for a card of 8 GiB" in problem["message"] and problem["fix"]
    assert cli.main(["train", str(root)]) == 2
    said = capsys.readouterr().err
    assert "too much for a card of 8 GiB" in said and "--fix" in said and "Traceback" not in said
    assert not launched and not (root / "runs").exists()
    assert cli.main(["plan", str(root), "--fix", "--json"]) == 0
    changes = json.loads(capsys.readouterr().out)["changes"]
    given = [word for key, value in changes.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    given = [word.replace('"', "") for word in given]
    assert cli.main(["plan", str(root), *given, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert 0 < plan["memory"]["total_gib"] <= 0.95 * SMALL_GIB
    assert cli.main(["train", str(root), *given]) != 0 and len(launched) == 1
    assert cli.main(["train", str(root), "--anyway"]) != 0 and len(launched) == 2
    fixed, as_it_was = as_dict(launched[0]), as_dict(launched[1])
    assert {path: fixed[path] for path in changes} == changes
    assert {path for path in fixed if fixed[path] != as_it_was[path]} == changes.keys()


async def until(pilot: Any, condition: Callable[[], Any]) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        await pilot.pause(0.03)


async def test_in_the_room(root: Path, launched: list[Any]) -> None:
    """s asks first; enter takes the changes; then s starts."""
    app = LoratuiApp(root)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("3")
        await until(pilot, lambda: isinstance(app.screen, TrainRoom) and app.screen._ready is not None)
        room = app.screen
        assert isinstance(room, TrainRoom)
        await until(pilot, lambda: room._card.gib == SMALL_GIB and room._lacking() is not None)
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, ChooseDialog))
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is room and room.draft.edits and room._lacking() is None)
        assert not launched
        await pilot.press("s")
        await until(pilot, lambda: launched)
        taken = as_dict(launched[0])
        assert {path: written(taken[path]) for path in room.draft.edits} == room.draft.edits


def test_new_proposes_what_fits(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The wizard's proposal on the command line: a preset by base, goal and card, and what fits it."""
    pictures = root / "dataset"
    base = tmp_path / "base.safetensors"
    made = tmp_path / "new"
    command = ["new", str(made), "--base", str(base), "--images", str(pictures), "--goal", "style", "--json"]
    assert cli.main([*command, "--card", "8G", "--preset", "sdxl-style"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["preset"] == "sdxl-style" and found["images"] == 3 and found["trigger"].endswith(" style")
    assert 0 < found["plan"]["memory"]["total_gib"] <= 0.95 * SMALL_GIB and found["changes"]
    project_ = Project.open(made)
    assert dict(project_.overrides) == found["changes"] and project_.preset == "sdxl-style"
    assert cli.main(["plan", str(made), "--json"]) == 0
    capsys.readouterr()
    assert cli.main([*command, "--card", "8"]) == 2  # there is a project now
    assert "is a project already" in capsys.readouterr().err
    command[1] = str(tmp_path / "chosen")
    assert cli.main([*command, "--card", "8"]) == 0  # with no preset named, one that is made for such a card
    chosen = json.loads(capsys.readouterr().out)
    assert chosen["preset"].startswith("sdxl-style") and "8gb" in chosen["preset"] and not chosen["changes"]
    command[1] = str(tmp_path / "other")
    assert cli.main([*command, "--card", "enormous"]) == 2
    assert "memory in GiB" in capsys.readouterr().err and not (tmp_path / "other").exists()
    assert [goal.replace("-", " ") for goal in projects.GOALS] == list(GOALS)
