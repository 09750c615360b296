"""Keys that come in one piece, as over a slow line: what a key opens gets what was typed after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from app_kit import project
from textual import events
from textual.app import App, ComposeResult
from textual.keys import _character_to_key
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from loratui.ui import typed_ahead
from loratui.ui.app import LoratuiApp
from loratui.ui.typed_ahead import TypedAhead


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name))


def burst(app: App[Any], keys: str) -> None:
    """All keys at once, before any of them is answered; a newline is enter."""
    for character in keys:
        named = {"\n": "enter", "\x10": "ctrl+p", "\x1b": "escape"}.get(character)
        key = named or _character_to_key(character)
        app.post_message(events.Key(key, character if named is None else None))


async def until(pilot: Any, condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, text_of(pilot.app)
        await pilot.pause(0.02)


def text_of(app: Any) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips(app.size))


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ("/vivid", "vivid"),
        (":add sad", "add sad"),
        ("\x10dos", "dos"),
        ("3/tokens", "tokens  "),
        ("j/v\x1b:adx", ": adx"),
    ],
)
async def test_what_is_opened_gets_what_is_typed(tmp_path: Path, keys: str, shown: str) -> None:
    app = LoratuiApp(project(tmp_path / "p", 3))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "3 pictures" in text_of(app))
        burst(app, keys)
        await until(pilot, lambda: shown in text_of(app) and not app._typed and not app._way)
        assert "3 marked" not in text_of(app)  # `v` alone marks all
        assert not app.runs  # `s` alone starts a training
        await pilot.press("ctrl+q")


class Ask(ModalScreen[str]):
    """A question that answers with what was typed."""

    def compose(self) -> ComposeResult:
        yield Input()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)


class Small(TypedAhead):
    """An app of one text, which counts its keys."""

    BINDINGS = [("a", "ask", "ask"), ("x", "gone", "gone"), ("n", "count", "count"), ("l", "late", "late")]
    said: str | None = None
    counted = 0

    def compose(self) -> ComposeResult:
        text = Static("text")
        text.can_focus = True
        yield text

    def action_ask(self) -> None:
        self.push_screen(Ask(), lambda answer: setattr(self, "said", answer))

    async def action_gone(self) -> None:
        await self.query_one(Static).remove()

    def action_count(self) -> None:
        self.counted += 1

    async def action_late(self) -> None:
        import asyncio

        await asyncio.sleep(0.4)


async def test_a_question_and_what_comes_after_it() -> None:
    """Into the dialog, through it, and on in the screen below."""
    app = Small()
    async with app.run_test() as pilot:
        burst(app, "naxnan\nnnn")
        await until(pilot, lambda: app.counted == 4)
        assert app.said == "xnan"
        assert app.query(Static)


async def test_what_is_pasted_waits_for_its_field() -> None:
    app = Small()
    async with app.run_test() as pilot:
        burst(app, "na")
        app.post_message(events.Paste("pasted"))
        burst(app, "!\nn")
        await until(pilot, lambda: app.counted == 2)
        assert app.said == "pasted!"


async def test_what_has_the_focus_may_go() -> None:
    app = Small()
    async with app.run_test() as pilot:
        app.query_one(Static).focus()
        await pilot.pause()
        burst(app, "nxnn")
        await until(pilot, lambda: app.counted == 3)


async def test_keys_come_in_their_order_and_none_is_lost() -> None:
    app = Small()
    async with app.run_test() as pilot:
        burst(app, "n" * 500)
        await until(pilot, lambda: app.counted == 500 and not app._way)


async def test_a_key_that_takes_too_long_holds_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text that waits behind it is answered once patience ends, in its order."""
    monkeypatch.setattr(typed_ahead, "PATIENCE_S", 0.15)
    app = Small()
    async with app.run_test() as pilot:
        burst(app, "lnn")
        await until(pilot, lambda: app.counted == 2 and not app._way and not app._typed)
