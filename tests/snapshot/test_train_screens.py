"""What the train room and the wizard look like, from frozen presets; `UPDATE_SCREENS=1` writes them anew."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from app_kit import picture, project, sdxl_file
from screens_kit import GPU, SIZES, compare, freeze, rest
from textual.widgets import Input

from loratui.config import presets
from loratui.plan import cards
from loratui.plan.cards import Card
from loratui.plan.measured import Measurement
from loratui.project import capacity, dryrun, estimating
from loratui.project.dryrun import DryRun
from loratui.project.estimating import Foreseen
from loratui.ui import machine
from loratui.ui.app import LoratuiApp
from loratui.ui.screens.train import TrainRoom

FROZEN = Path(__file__).parent.parent / "data" / "presets"
SMALL = replace(GPU, gpus=(replace(GPU.gpus[0], name="NVIDIA RTX 4060", used_gib=0.4, total_gib=8.0),))


@pytest.fixture(autouse=True)
def fixed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Five presets, one machine, nothing estimated; no optimizer needs a package."""
    freeze(monkeypatch, tmp_path)
    monkeypatch.setattr(presets, "presets_dirs", lambda root=None: [FROZEN])
    monkeypatch.setattr(TrainRoom, "ESTIMATES", False)
    monkeypatch.setattr(capacity, "_has_optimizer", lambda name: True)
    yield
    monkeypatch.undo()
    time.tzset()


def sizes(*which: tuple[int, int]) -> Any:
    """The sizes as parameters."""
    return pytest.mark.parametrize("size", which, ids=lambda s: f"{s[0]}x{s[1]}")


async def shown(app: LoratuiApp, pilot: Any) -> str:
    """The screen at rest, without messages that go by themselves."""
    await rest(app, pilot)
    app.clear_notifications()
    return await rest(app, pilot)


@sizes(*SIZES)
async def test_the_room(size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form, what is found in it, a plan with problems, and what a dry run found."""
    app = LoratuiApp(project(tmp_path / "sks-robot", 9))
    async with app.run_test(size=size) as pilot:
        await pilot.press("3")
        compare("train", size, await shown(app, pilot))
        room = app.screen
        assert isinstance(room, TrainRoom)
        if size == (200, 60):
            return
        await pilot.press("tab", "slash", *"dropout", "enter")
        compare("train-search", size, await shown(app, pilot))
        await pilot.press("escape")
        room.draft.change({"objective.noise_offset": "0.5", "network.rank": "256", "data.batch_size": "16"})
        room._plan()
        await pilot.press("tab", "down")
        compare("train-problems", size, await shown(app, pilot))
        row = Measurement("key", "CPU", "sd15", 1.27, 0.41, 2.6, 0.3)
        found = DryRun(row, {"train": 1.27, "sample": 0.9}, 1.5, 16.0, (64, 64), True)
        known = Foreseen("measured", 1.27, {"train": 1.27}, "CPU", 0.41, 2.6, 0.3)
        monkeypatch.setattr(dryrun, "dry_run", lambda *_: found)
        monkeypatch.setattr(estimating, "foresee", lambda *_, **__: known)
        await pilot.press("R", "D")
        compare("train-measured", size, await shown(app, pilot))


@sizes(*SIZES[:2])
async def test_too_large(size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SDXL on a card of 8 G: the steps that make it fit, and what the start asks."""
    monkeypatch.setattr(machine.Machine, "read", lambda self, at, pid=0: SMALL)
    root = project(tmp_path / "sks-robot", 9)
    sdxl_file(root / "base.safetensors")
    words = (root / "loratui.toml").read_text().replace('base = "demo"', 'base = "base.safetensors"')
    (root / "loratui.toml").write_text(words.replace('"demo"', '"sdxl-character"'))
    app = LoratuiApp(root)
    async with app.run_test(size=size) as pilot:
        await pilot.press("3")
        await rest(app, pilot)
        await pilot.press("M")
        compare("train-fit", size, await shown(app, pilot))
        await pilot.press("escape", "s")
        compare("train-start", size, await shown(app, pilot))


@sizes(*SIZES)
async def test_wizard(size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The questions, and what they lead to on a card that is too small."""
    monkeypatch.setattr(cards, "cards", lambda: [Card("NVIDIA RTX 4060", 8.0)])
    monkeypatch.setattr(cards, "processor", lambda: Card(gib=64.0, cpu=True))
    here = tmp_path / "new"
    here.mkdir()
    (tmp_path / "cat").mkdir()
    for number in range(6):
        picture(tmp_path / "cat" / f"{number}.png", (768, 512), seed=number)
    sdxl_file(tmp_path / "base.safetensors")
    app = LoratuiApp(here)

    def placeless(text: str) -> str:
        """Without the folder of this test."""
        text = re.sub(r"(The project will be in ).*", r"\1…", text)
        return re.sub(r"(│ project   ).*", r"\1…", text)

    async with app.run_test(size=size) as pilot:
        compare("first", size, placeless(await shown(app, pilot)))
        app.screen.query_one("#base", Input).value = "../base.safetensors"
        app.screen.query_one("#pictures", Input).value = "../cat"
        await rest(app, pilot)
        app.screen.query_one("#trigger", Input).value = "zwx cat"
        await pilot.press("ctrl+s")
        compare("first-plan", size, placeless(await shown(app, pilot)))
