"""The first minute by keys: answers, preset and plan, what does not fit, and a training that runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from app_kit import picture, sdxl_file
from textual.widgets import Input

from loratui.plan import cards
from loratui.plan.cards import Card
from loratui.ui.app import LoratuiApp
from loratui.ui.library import Library
from loratui.ui.panels.proposal import ProposalPanel
from loratui.ui.screens.browse import BrowseDialog
from loratui.ui.screens.first import FirstRoom
from loratui.ui.widgets.choice import Choice


@pytest.fixture(autouse=True)
def own_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings and state of its own, nothing measured behind the back."""
    monkeypatch.setattr(Library, "MEASURES", False)
    for name in ("STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


async def until(app: LoratuiApp, pilot: Any, test: Callable[[], Any], seconds: float = 20) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await pilot.pause(0.02)
        if test():
            return
    raise AssertionError(f"it never came in {app.current_mode}")


def room(app: LoratuiApp) -> FirstRoom:
    """The wizard."""
    found = app._screen_stacks["first"][0]
    assert isinstance(found, FirstRoom)
    return found


def text_of(app: LoratuiApp) -> str:
    """The screen."""
    strips = app.screen._compositor.render_strips(app.size)
    return "\n".join(strip.text.rstrip() for strip in strips)


async def test_from_the_wizard_to_a_running_training_in_six_keys(tmp_path: Path) -> None:
    """Enter takes each answer; the sixth starts the bundled example, and the monitor shows it."""
    here = tmp_path / "new"
    here.mkdir()
    app = LoratuiApp(here)
    keys = 0
    async with app.run_test(size=(80, 24)) as pilot:
        for _ in range(5):
            await pilot.press("enter")
            keys += 1
        panel = room(app).query_one(ProposalPanel)
        await until(app, pilot, lambda: panel.proposal is not None)
        assert "starts the training" in text_of(app)
        await pilot.press("enter")
        keys += 1
        await until(app, pilot, lambda: app.watched is not None and app.current_mode == "monitor")
        assert app.watched is not None
        try:
            await until(
                app, pilot, lambda: app.watched.state.state == "running" and app.watched.state.step, 90
            )
        finally:
            app.request("stop", now=True)
        await until(app, pilot, lambda: app.watched.state.state in {"stopped", "finished", "failed"}, 60)
        assert app.watched.state.state == "stopped"
        assert app.project is not None and app.project.trigger == "sks robot" and app.project.base == "demo"
    assert keys < 15


async def test_what_does_not_fit_is_said_before_the_start_and_one_key_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An SDXL offspring on a card of 8 G: the preset is its own, start is refused, f makes it fit."""
    monkeypatch.setattr(cards, "cards", lambda: [Card("NVIDIA GeForce RTX 4060", 8.0)])
    here, pictures = tmp_path / "new", tmp_path / "my cat"
    here.mkdir()
    pictures.mkdir()
    for number in range(3):
        picture(pictures / f"{number}.png", seed=number)
    base = sdxl_file(tmp_path / "ponyDiffusionV6XL.safetensors")
    app = LoratuiApp(here)
    async with app.run_test(size=(120, 40)) as pilot:
        wizard = room(app)
        await until(app, pilot, lambda: "RTX 4060" in text_of(app))
        wizard.query_one("#base", Input).value = str(base)
        wizard.query_one("#pictures", Input).value = str(pictures)
        await until(app, pilot, lambda: "Pony by its name" in text_of(app) and "3 pictures" in text_of(app))
        trigger = wizard.query_one("#trigger", Input)
        await until(app, pilot, lambda: trigger.value not in {"", "sks robot"})
        wizard.query_one("#goal", Choice).focus()
        await pilot.press("right", "ctrl+s")
        panel = wizard.query_one(ProposalPanel)
        await until(app, pilot, lambda: panel.proposal is not None)
        made = panel.proposal
        assert made is not None and made.preset is not None and made.preset.name == "pony-style"
        assert made.short is not None and made.short.fits and [p.code for p in made.errors] == ["too-large"]
        await pilot.press("enter")  # refused: nothing is made
        await pilot.pause(0.2)
        assert app.current_mode == "first" and not list(here.iterdir())
        await pilot.press("f")
        await until(app, pilot, lambda: panel.proposal is not made and panel.proposal is not None)
        fitted = panel.proposal
        assert fitted is not None and fitted.short is None and not fitted.errors, text_of(app)
        assert fitted.ready is not None and fitted.ready.plan.memory is not None
        assert fitted.ready.plan.memory.total_gib <= 0.95 * 8
        await pilot.press("d")
        await until(app, pilot, lambda: app.current_mode == "dataset" and app.project is not None)
        assert app.project is not None
        assert dict(app.project.overrides) == fitted.answers.changes and app.project.preset == "pony-style"
        assert app.project.trigger == trigger.value and trigger.value.endswith(" style")
        await until(app, pilot, lambda: app.library.read and len(app.library.rows) == 3)


async def test_browsing_tells_what_each_file_is_and_takes_one(tmp_path: Path) -> None:
    """Folders are walked with enter and arrows; a base shows its family, an archive its pictures."""
    here, models = tmp_path / "new", tmp_path / "new" / "models"
    models.mkdir(parents=True)
    sdxl_file(models / "noobaiXL_vPred.safetensors", "v_pred")
    (models / "broken.safetensors").write_bytes(b"nothing")
    app = LoratuiApp(here)
    async with app.run_test(size=(100, 30)) as pilot:
        wizard = room(app)
        await pilot.press("f2")
        await until(app, pilot, lambda: isinstance(app.screen, BrowseDialog) and "models/" in text_of(app))
        assert "demo" in text_of(app)
        await pilot.press("m", "o", "d", "enter")
        await until(app, pilot, lambda: "Stable Diffusion XL · predicts velocity" in text_of(app))
        await pilot.press("left")
        await until(app, pilot, lambda: "models/" in text_of(app))
        await pilot.press("down" if "demo " in text_of(app) else "home", "enter")
        await until(app, pilot, lambda: "noobaiXL_vPred.safetensors" in text_of(app))
        await pilot.press("n", "o", "o", "enter")
        await until(app, pilot, lambda: not isinstance(app.screen, BrowseDialog))
        assert wizard.query_one("#base", Input).value == str(models / "noobaiXL_vPred.safetensors")
        await until(app, pilot, lambda: "predicts velocity" in text_of(app))


async def test_a_new_project_from_within_another_and_back(tmp_path: Path) -> None:
    """The action leaves for the wizard beside this project; escape there goes back."""
    from app_kit import project

    root = project(tmp_path / "p", 2)
    app = LoratuiApp(root)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(app, pilot, lambda: app.project is not None)
        app.action_new_project()
        await pilot.pause()
    assert app.onward == (tmp_path, root)
    wizard = LoratuiApp(tmp_path, came_from=root)
    async with wizard.run_test(size=(80, 24)) as pilot:
        assert wizard.current_mode == "first" and "demo" in str(room(wizard)._target)
        await pilot.press("escape")
        await pilot.pause()
    assert wizard.onward == (root, None)


async def test_a_thread_of_the_last_moment_ends_with_the_app(tmp_path: Path) -> None:
    """One that begins when the others were cancelled already; the program waits for it."""
    app = LoratuiApp(tmp_path)
    asked: list[Callable[[], bool]] = []
    async with app.run_test(size=(80, 24)) as pilot:
        app.in_thread(lambda _post, gone: asked.append(gone), "last")
        await until(app, pilot, lambda: bool(asked))
        assert not asked[0]()
    assert asked[0]()
