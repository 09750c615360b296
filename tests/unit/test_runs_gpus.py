"""GPUs as the driver tells of them: none, one, eight, sliced, lost, silent; and what the panel says."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from fake_nvml import LOST, NOT_FOUND, UNINITIALISED, Card, FakeNvml, cards
from textual.app import App, ComposeResult

from loratui.runs.gpus import Gpus
from loratui.runs.state import RunState
from loratui.ui.machine import Machine
from loratui.ui.panels.machine import MachinePanel
from loratui.ui.theme import DARK


def install(monkeypatch: pytest.MonkeyPatch, found: list[Card], fails: int = 0) -> FakeNvml:
    fake = FakeNvml(found, fails)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


class Bench(App[None]):
    """One panel."""

    def __init__(self, panel: MachinePanel) -> None:
        super().__init__()
        self.panel = panel
        self.register_theme(DARK)
        self.theme = DARK.name

    def compose(self) -> ComposeResult:
        yield self.panel


async def shown(state: RunState | None, size: tuple[int, int] = (63, 14), pid: int = 0) -> str:
    """The panel as text, after two readings."""
    machine = Machine("/")
    machine.read(1.0, pid)
    panel = MachinePanel()
    app = Bench(panel)
    async with app.run_test(size=size) as pilot:
        panel.update(machine.read(2.0, pid), state)
        await pilot.pause()
        lines: Sequence[Any] = app.screen._compositor.render_strips(app.size)
        return "\n".join(strip.text.rstrip() for strip in lines)


@pytest.mark.parametrize(("fails", "words"), [(NOT_FOUND, "no NVIDIA driver (NVML"), (0, "knows no GPU")])
async def test_without_a_gpu_the_panel_says_so_and_shows_the_process(
    monkeypatch: pytest.MonkeyPatch, fails: int, words: str
) -> None:
    install(monkeypatch, [], fails)
    words_shown = await shown(RunState(memory={"device": "cpu", "rss_gib": 1.0}), pid=os.getpid())
    assert "none: " in words_shown and words in words_shown
    assert "process" in words_shown and "on cpu" in words_shown and "host" in words_shown
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "not installed" in await shown(None)


async def test_one_gpu_with_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [(os.getpid(), 17.1), (os.getppid(), 0.8), (999_999_999, None)]
    install(monkeypatch, cards(1, processes=others, reasons=0x04 | 0x40))
    state = RunState(memory={"allocated_gib": 12.3, "reserved_gib": 15.5, "peak_gib": 16.4})
    words = await shown(state, pid=os.getpid())
    for part in ("17.9 / 24.0 G", "75 %", "ours 17.1", "others 0.8", "peak 16.4", "allocated 12.3", "97 %"):
        assert part in words, words
    for part in ("71 °C", "402 / 450 W", "2.5 GHz", "by power cap, hardware thermal", "pid 999999999"):
        assert part in words, words


@pytest.mark.parametrize("size", [(63, 14), (40, 8), (100, 30)])
async def test_eight_gpus_have_a_line_each(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    install(monkeypatch, cards(8))
    words = await shown(None, size)
    seen = [f"GPU {n}" for n in range(8) if f"GPU {n}" in words]
    assert len(seen) == 8 or "more GPUs" in words, words
    assert "host" in words


async def test_slices_of_a_gpu_stand_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Card(name="A100 MIG 3g.20gb", used_gib=4.0, total_gib=20.0, unsupported=frozenset({"busy"}))
    other = Card(name="A100 MIG 3g.20gb", used_gib=1.0, total_gib=20.0, unsupported=frozenset({"busy"}))
    install(monkeypatch, cards(1, name="A100", slices=[part, other]))
    gpus = Gpus().read()
    assert [(gpu.slice, gpu.used_gib, gpu.busy, gpu.temperature_c) for gpu in gpus] == [
        ("0", 4.0, None, 71),
        ("1", 1.0, None, 71),
    ]
    words = await shown(None, (63, 16))
    assert "GPU 0.0" in words and "GPU 0.1" in words and "4.0 / 20.0 G" in words


async def test_a_lost_gpu_is_told_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = install(monkeypatch, cards(2))
    reader = Gpus()
    assert not any(gpu.lost for gpu in reader.read())
    fake.cards[1].lost = True
    assert [gpu.lost for gpu in reader.read()] == ["", "GPU is lost"]
    words = await shown(None, (63, 16))
    assert "lost" in words and "GPU is lost" in words and "17.9" in words
    fake.fails = UNINITIALISED
    assert reader.read() == () and "unloaded" in reader.why
    assert LOST != UNINITIALISED


@pytest.mark.parametrize(
    "name",
    ["name", "memory", "busy", "temperature", "power", "clocks", "throttle", "processes", "graphics", "mig"],
)
async def test_what_a_card_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    install(monkeypatch, cards(1, unsupported=frozenset({name})))
    words = await shown(None, pid=os.getpid())
    assert "memory" in words and "None" not in words
    assert ("71 °C" in words) == (name != "temperature")
    assert ("402 / 450 W" in words) == (name != "power")


async def test_a_card_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = frozenset(
        {
            "name",
            "memory",
            "busy",
            "temperature",
            "power",
            "clocks",
            "throttle",
            "processes",
            "graphics",
            "mig",
        }
    )
    install(monkeypatch, cards(1, unsupported=silent))
    assert "None" not in await shown(None)
