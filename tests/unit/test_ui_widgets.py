"""Widgets by themselves: list, plot, form, the probe's answers, half blocks, the story of a run."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest
from app_kit import RECORDED
from PIL import Image
from textual.app import App, ComposeResult

from loratui.config.docs import field_table
from loratui.runs.events import read_events
from loratui.ui import halfblock
from loratui.ui.actions import key_name
from loratui.ui.drawing import Row
from loratui.ui.feed import ReplayClock
from loratui.ui.graphics import Answers, encode_png, tgp_strips, tgp_upload, worth_asking
from loratui.ui.story import tell
from loratui.ui.theme import DARK, LIGHT, Palette
from loratui.ui.widgets.caption_editor import tokens
from loratui.ui.widgets.form import Form
from loratui.ui.widgets.form_rows import Group
from loratui.ui.widgets.line_list import LineList
from loratui.ui.widgets.plot import Axis, Columns, Curve, Layer, Plot


class Bench(App[None]):
    """Shows one widget."""

    def __init__(self, widget: Any) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name
        self.widget = widget
        self.messages: list[Any] = []

    def compose(self) -> ComposeResult:
        """The widget alone."""
        yield self.widget

    def on_form_edited(self, message: Form.Edited) -> None:
        """Keep it."""
        self.messages.append((message.path, message.value))


def screen(app: App[Any]) -> list[str]:
    """The text on the screen."""
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips(app.size)]


async def test_list_of_100000_rows_draws_what_is_in_sight() -> None:
    """Mounting and every key cost what the visible rows cost."""
    asked: list[int] = []

    def draw(index: int, width: int, colours: Palette) -> Row:
        asked.append(index)
        return [(f"row {index}", colours.text)]

    view = LineList(draw, lambda *_: [("heading", None)])
    app = Bench(view)
    async with app.run_test(size=(40, 12)) as pilot:
        view.show_rows(100_000)
        view.focus()
        await pilot.pause()
        assert screen(app)[0] == "heading" and screen(app)[1] == "▌row 0"
        asked.clear()
        await pilot.press("G")
        assert view.cursor == 99_999 and screen(app)[-1].startswith("▌row 99999")
        assert len(asked) < 60
        await pilot.press("g", "j", "j", "k", "ctrl+d")
        assert view.cursor == 1 + 5
        await pilot.press("pagedown")
        assert view.cursor == 6 + 11
        view.show_rows(3)
        await pilot.pause()
        assert view.cursor == 2 and screen(app)[3] == "▌row 2"
        view.empty = "Nothing here; press n."
        view.show_rows(0)
        await pilot.pause()
        assert "Nothing here; press n." in "\n".join(screen(app))


def reduced(xs: list[float], ys: list[float], width: int, span: float) -> tuple[list[float], list[float]]:
    """The columns, the slow way."""
    low, high = [math.inf] * width, [-math.inf] * width
    for x, y in zip(xs, ys, strict=True):
        if math.isfinite(y):
            column = min(width - 1, int(x / span * width))
            low[column], high[column] = min(low[column], y), max(high[column], y)
    return low, high


def test_columns_lose_no_spike_and_grow_with_the_curve() -> None:
    """Min-max of every column, the same whether the points come at once or in pieces; a rewind is noticed."""
    dice = random.Random(3)
    xs = [float(x) for x in range(1, 5001)]
    ys = [dice.random() if dice.random() > 0.01 else math.nan for _ in xs]
    ys[1234] = 99.0
    whole = Columns()
    whole.reduce(Curve(xs, ys), 160, 6000.0)
    assert (whole.low, whole.high) == reduced(xs, ys, 160, 6000.0)
    assert max(whole.high) == 99.0
    pieces = Columns()
    for end in (1, 2, 700, 701, 3000, 5000):
        pieces.reduce(Curve(xs[:end], ys[:end]), 160, 6000.0)
    assert (pieces.low, pieces.high) == (whole.low, whole.high)
    pieces.reduce(Curve(xs[:900], ys[:900]), 160, 6000.0)
    assert (pieces.low, pieces.high) == reduced(xs[:900], ys[:900], 160, 6000.0)


def test_a_million_points_cost_one_pass() -> None:
    """The first reduction walks over all points, the next only over the new ones."""
    from array import array

    xs = array("d", range(1_000_000))
    ys = array("d", [0.5]) * 1_000_000
    columns = Columns()
    columns.reduce(Curve(xs, ys), 200, 1e6)
    xs.append(1e6 - 0.5)
    ys.append(0.7)
    start = time.process_time()
    columns.reduce(Curve(xs, ys), 200, 1e6)
    assert time.process_time() - start < 0.01
    assert columns.high[-1] == 0.7


def layers(xs: Sequence[float], ys: Sequence[float]) -> list[Layer]:
    """Raw points under a line."""
    return [
        Layer("raw", Curve(xs, ys), "faint", joined=False, spiky=True),
        Layer("smooth", Curve(xs, ys)),
    ]


async def test_a_new_point_repaints_one_cell_or_two() -> None:
    """The x axis spans the run: the rest of the plot stays as it is."""
    plot = Plot()
    app = Bench(plot)
    async with app.run_test(size=(80, 20)) as pilot:
        xs = [float(x) for x in range(1, 101)]
        ys = [0.5 + 0.3 * math.sin(x / 9) for x in xs]
        plot.show(layers(xs[:90], ys[:90]), (), Axis(span=400.0))
        await pilot.pause()
        regions: list[Any] = []
        refresh = plot.refresh
        plot.refresh = lambda *a, **k: regions.extend(a) or refresh(*a, **k)  # type: ignore[method-assign]
        plot.show(layers(xs[:91], ys[:91]), (), Axis(span=400.0))
        assert 1 <= len(regions) <= 3 and all(region.width <= 2 for region in regions)


@pytest.mark.parametrize("log", [False, True])
async def test_plot_survives_anything(log: bool) -> None:
    """NaN, Inf, one point, zeros, a flat line, tiny sizes."""
    plot = Plot()
    plot.log_scale = log
    app = Bench(plot)
    async with app.run_test(size=(60, 16)) as pilot:
        for ys in ([], [0.0], [math.nan], [math.inf, 1.0], [0.3] * 50, [-1.0, 2.0], [1e-9, 1e9]):
            xs = [float(x) for x in range(len(ys))]
            plot.show(layers(xs, ys), [(0.0, 0.5), (1.0, math.nan)], Axis(span=1.0))
            await pilot.pause()
        await pilot.resize_terminal(8, 3)
        await pilot.resize_terminal(1, 1)


async def test_form_edits_in_place() -> None:
    """Typing, choices, leaving, giving back; digits are the rooms' until enter."""
    form = Form()
    app = Bench(form)
    table = field_table()
    lines = [Group("how"), table["optimizer.steps"], table["optimizer.schedule"], table["data.flip"]]
    values = {"optimizer.steps": 400, "optimizer.schedule": "constant", "data.flip": False}
    async with app.run_test(size=(50, 8)) as pilot:
        form.show(lines, values, frozenset({"optimizer.steps"}), frozenset())
        form.focus()
        await pilot.press("7", "enter", "backspace", "backspace", "left", "2", "enter")
        assert app.messages == [("optimizer.steps", "24")]
        await pilot.press(
            "enter", "9", "escape", "down", "right", "left", "down", "space", "delete", "k", "k", "k"
        )
        assert app.messages[1:] == [
            ("optimizer.schedule", table["optimizer.schedule"].choices[1]),
            ("optimizer.schedule", table["optimizer.schedule"].choices[-1]),
            ("data.flip", "true"),
            ("data.flip", None),
        ]
        assert form.cursor == 1 and any(line.startswith("▌● steps") for line in screen(app))


@pytest.mark.parametrize("cut", range(0, 46, 5))
def test_probe_answers_are_no_keys(cut: int) -> None:
    """Answers in two pieces, with keys around and between them."""
    answers = Answers()
    data = "a\x1b_Gi=31;OK\x1b\\b\x1b[6;20;10tc\x1b[?64;1;2;22cd"
    keys = answers.feed(data[:cut]) + answers.feed(data[cut:])
    assert keys == "abcd" and answers.done
    assert answers.graphics().kind == "tgp" and answers.graphics().cell_height == 20


@pytest.mark.parametrize("cut", range(3, 9))
def test_the_end_of_a_late_answer_is_no_key(cut: int) -> None:
    """Behind the last answer comes another one, in two pieces a while apart."""
    answers, late = Answers(), "\x1b[6;20;10t"
    assert answers.feed("a\x1b[?62;4cb") == "ab" and answers.done
    assert answers.feed("c" + late[:cut]) == ("c" + late[:cut] if cut == 3 else "c")
    if cut > 3:  # `ESC [ 6` alone may be page down
        assert answers.release() == "" and answers.feed(late[cut:] + "d") == "d"
        assert answers.graphics().cell_width == 10


def test_probe_without_answers_gives_keys_back() -> None:
    """Escape alone is a key, a moment later."""
    answers = Answers()
    assert answers.feed("\x1b") == "" and answers.release() == "\x1b"
    assert answers.feed("\x1b[A") == "\x1b[A"
    assert answers.feed("\x1b[?62;4;22c") == "" and answers.graphics().kind == "sixel"
    assert answers.feed("\x1b[?1;2c") == "\x1b[?1;2c"
    assert not worth_asking({"TMUX": "x", "TERM": "xterm"}) and not worth_asking({"TERM": "screen-256color"})
    assert worth_asking({"TERM": "xterm-kitty"}) and not worth_asking({"TERM": "xterm", "NO_COLOR": "1"})


def test_half_blocks_and_kitty_cells() -> None:
    """Pictures keep their shape; every strip is as wide as it says."""
    image = Image.new("RGB", (200, 100), (10, 20, 30))
    assert halfblock.fitted(200, 100, 40, 40) == (40, 10)
    assert halfblock.fitted(100, 200, 40, 10) == (10, 10)
    strips = halfblock.strips(image, 40, 10)
    assert len(strips) == 10 and all(s.cell_length == 40 and s.text == "▀" * 40 for s in strips)
    assert len(strips[0]._segments) == 1
    made = tgp_upload(7, encode_png(image), 40, 10)
    assert made.startswith("\x1b_Gi=7,f=100,q=2,m=0;") and made.endswith(
        "\x1b_Ga=p,U=1,i=7,c=40,r=10,q=2\x1b\\"
    )
    assert [s.cell_length for s in tgp_strips(7, 40, 10)] == [40] * 10


def test_story_and_clock_of_the_recorded_run() -> None:
    """The log joins the samples of a step; a frozen clock stands at its share."""
    events = read_events(RECORDED / "events.jsonl").events
    lines = tell(events)
    assert [line.what for line in lines if line.level == "sample"] == [
        f"4 samples at step {step}" for step in (0, 100, 200, 300, 400)
    ]
    assert lines[-1].what == "finished" and lines[-1].level == "good"
    clock = ReplayClock(share=0.5)
    clock.open(100.0, 200.0)
    assert clock.tick() == clock.tick() == 150.0 and clock.frozen


def test_small_things() -> None:
    """Token estimate and names of keys."""
    assert tokens("") == 0 and tokens("sks robot, red") == 4 and tokens("photorealistic") >= 2
    assert [key_name(k) for k in ("question_mark", "ctrl+p", "upper_l", "left_square_bracket")] == [
        "?",
        "ctrl+p",
        "L",
        "[",
    ]
