"""The room of pictures, driven by keys: filter, marks, edits with their diff, undo, trash, grid."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from app_kit import picture, project
from textual.widgets import Input

from loratui.dataset import sidecar
from loratui.ui.app import LoratuiApp
from loratui.ui.library import Library
from loratui.ui.screens.dataset import DatasetRoom
from loratui.ui.screens.diff import DiffDialog
from loratui.ui.widgets.caption_editor import CaptionEditor
from loratui.ui.widgets.line_list import LineList


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No measuring behind the back, settings of its own."""
    monkeypatch.setattr(Library, "MEASURES", False)
    for name in ("STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))
    monkeypatch.delenv("TMUX", raising=False)


class Driver:
    """The app with a project, and what is asked of it again and again."""

    def __init__(self, app: LoratuiApp, pilot: Any) -> None:
        self.app, self.pilot = app, pilot

    @property
    def room(self) -> DatasetRoom:
        room = self.app._screen_stacks["dataset"][0]
        assert isinstance(room, DatasetRoom)
        return room

    @property
    def names(self) -> list[str]:
        """What the list shows."""
        return [row.name for row in self.app.library.shown]

    async def until(self, test: Callable[[], Any]) -> None:
        """Wait for something to become true."""
        for _ in range(200):
            await self.pilot.pause(0.02)
            if test():
                return
        raise AssertionError(f"it never came:\n{self.text()}")

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, words: str) -> None:
        """Type letters."""
        for char in words:
            await self.pilot.press("space" if char == " " else char)

    def text(self) -> str:
        """The screen."""
        strips = self.app.screen._compositor.render_strips(self.app.size)
        return "\n".join(strip.text.rstrip() for strip in strips)


@asynccontextmanager
async def room(root: Path, size: tuple[int, int] = (120, 40)) -> AsyncIterator[Driver]:
    """The app on a project, with its pictures read."""
    app = LoratuiApp(root)
    async with app.run_test(size=size) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: app.library.read and app.scan is not None)
        yield driver


def caption(root: Path, name: str) -> str:
    """A caption on disk, empty when there is none."""
    path = root / "dataset" / f"{name}.txt"
    return path.read_text() if path.exists() else ""


async def test_a_filter_narrows_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    """The list follows while typing; a mistake is pointed at and never shows everything."""
    root = project(tmp_path / "p", 6)
    async with room(root) as driver:
        await driver.press("slash")
        await driver.type("captioned:no")
        await driver.until(lambda: driver.names == ["03.png", "06.png"])
        await driver.press("enter")
        assert driver.room.focused is driver.room.view
        await driver.press("slash", "end")  # the old filter is selected: a word would take its place
        await driver.type(" AND widht:>5")
        await driver.until(lambda: "there is no field widht" in driver.text())
        assert driver.names == ["03.png", "06.png"]
        lines = driver.text().split("\n")
        at = next(i for i, line in enumerate(lines) if "widht" in line and "there is" not in line)
        assert lines[at + 1].index("^") == lines[at].index("widht")
        await driver.press("enter")
        assert isinstance(driver.room.focused, Input) and driver.names == ["03.png", "06.png"]
        await driver.press("escape")
        assert driver.names == ["03.png", "06.png"]
        await driver.press("escape")
        await driver.until(lambda: len(driver.names) == 6)
        assert driver.room.current is not None and driver.room.current.name == "03.png"
        for wanted in ("06.png", "03.png", "06.png"):
            await driver.press("n")
            assert driver.room.current.name == wanted


async def test_a_batch_shows_its_diff_first_and_is_one_undo_step(tmp_path: Path) -> None:
    """Nothing happens before enter; undo gives every byte back; redo does it again."""
    root = project(tmp_path / "p", 6)
    async with room(root) as driver:
        await driver.press("colon")
        await driver.type("add 'red hat' first")
        assert "on all 6 pictures" in driver.text()
        await driver.press("enter")
        await driver.until(lambda: isinstance(driver.app.screen, DiffDialog) and driver.app.screen.plan)
        await driver.until(lambda: "6 to change" in driver.text())
        assert "{+red hat, +}" in driver.text() or "red hat" in driver.text()
        assert caption(root, "01") == "sks robot, picture 1\n"
        await driver.press("escape")
        assert caption(root, "01") == "sks robot, picture 1\n"
        await driver.press("colon", "up", "enter")
        await driver.until(lambda: "6 to change" in driver.text())
        await driver.press("enter")
        await driver.until(lambda: caption(root, "03") == "red hat\n")
        assert caption(root, "01") == "red hat, sks robot, picture 1\n"
        await driver.until(lambda: driver.app.library.rows[2].caption == "red hat")
        assert driver.app.scan is not None and driver.app.scan.pictures[2].caption == "red hat"
        await driver.until(lambda: driver.room.query_one(CaptionEditor).text.startswith("red hat"))
        await driver.press("u")
        await driver.until(lambda: not (root / "dataset" / "03.txt").exists())
        assert caption(root, "01") == "sks robot, picture 1\n"
        await driver.until(lambda: driver.room.query_one(CaptionEditor).text == "sks robot, picture 1")
        await driver.press("ctrl+r")
        await driver.until(lambda: caption(root, "01").startswith("red hat"))


async def test_a_slow_disk_stops_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursor goes on while a caption hangs; the index's words stand there, then those of the disk."""
    root = project(tmp_path / "p", 6)
    read, release, asked = sidecar.read_caption, threading.Event(), []

    def slow(path: Path) -> sidecar.Caption:
        if threading.current_thread() is threading.main_thread():
            raise AssertionError("a caption was read where keys wait for it")
        asked.append(path.name)
        assert release.wait(20)
        return read(path)

    async with room(root) as driver:
        editor = driver.room.query_one(CaptionEditor)
        await driver.until(lambda: editor.text == "sks robot, picture 1" and not editor.read_only)
        monkeypatch.setattr(sidecar, "read_caption", slow)
        await driver.press("down", "down", "down", "down")
        await driver.until(lambda: editor.picture is not None and editor.picture.name == "05.png")
        assert editor.text == "sks robot, picture 5"
        await driver.press("e")
        assert editor.has_focus and editor.read_only, "nothing is typed over what nobody has read"
        await driver.press("escape")
        await driver.press("up")
        await driver.until(lambda: editor.text == "sks robot, picture 4")
        (root / "dataset" / "04.txt").write_text("another program wrote this")
        release.set()
        await driver.until(lambda: editor.text == "another program wrote this" and not editor.read_only)
        assert asked[-1] == "04.png" and len(asked) < 5, "what nobody waits for any more is left out"
        await driver.press("e", "exclamation_mark", "ctrl+s")
        await driver.until(lambda: caption(root, "04") == "another program wrote this!")


async def test_marks_decide_what_an_edit_works_on(tmp_path: Path) -> None:
    """Space marks and moves on, v turns over, x takes away; the scope is said."""
    root = project(tmp_path / "p", 6)
    async with room(root) as driver:
        await driver.press("space", "space")
        assert [r.name for r in driver.app.library.marked_rows()] == ["01.png", "02.png"]
        assert driver.room.view.cursor == 2 and "2 marked" in driver.text()
        await driver.press("v")
        assert len(driver.app.library.marked) == 4
        await driver.press("x", "home", "space", "colon")
        await driver.type("remove picture*")
        assert "on the 1 marked" in driver.text()
        await driver.press("enter")
        await driver.until(lambda: "1 to change" in driver.text())
        await driver.press("enter")
        await driver.until(lambda: caption(root, "01") == "sks robot\n")
        assert caption(root, "02") == "sks robot, picture 2\n"


async def test_hand_edits_are_pinned_and_the_diff_says_so(tmp_path: Path) -> None:
    """A caption written by hand is skipped by batches unless P takes it in."""
    root = project(tmp_path / "p", 3)
    async with room(root) as driver:
        await driver.press("e")
        await driver.type("!")
        await driver.press("ctrl+s")
        await driver.until(lambda: caption(root, "01") == "sks robot, picture 1!\n")
        await driver.press("escape")
        await driver.until(lambda: "by hand · just now" in driver.text())
        await driver.press("colon")
        await driver.type("suffix x")
        await driver.press("enter")
        await driver.until(lambda: "1 pinned by hand" in driver.text())
        await driver.press("P")
        await driver.until(lambda: "3 to change" in driver.text())
        await driver.press("enter")
        await driver.until(
            lambda: caption(root, "01") == "sks robot, picture 1!, x\n" or "x" in caption(root, "01")
        )


async def test_trash_and_back(tmp_path: Path) -> None:
    """d moves picture and caption away, u brings both back, D does too."""
    root = project(tmp_path / "p", 4)
    before = (root / "dataset" / "02.png").read_bytes()
    async with room(root) as driver:
        await driver.press("down", "d")
        await driver.until(lambda: not (root / "dataset" / "02.png").exists())
        assert "02.png" not in driver.names and not (root / "dataset" / "02.txt").exists()
        await driver.until(lambda: driver.app.scan is not None and len(driver.app.scan.pictures) == 3)
        await driver.press("u")
        await driver.until(lambda: "02.png" in driver.names)
        assert (root / "dataset" / "02.png").read_bytes() == before
        assert caption(root, "02") == "sks robot, picture 2\n"
        await driver.press("ctrl+r")
        await driver.until(lambda: "02.png" not in driver.names)
        await driver.press("D")
        await driver.press("enter")
        await driver.until(lambda: "02.png" in driver.names)


async def test_grid_and_list_share_the_cursor(tmp_path: Path) -> None:
    """t changes the view, + and - the size, the picture under the cursor stays."""
    root = project(tmp_path / "p", 9)
    async with room(root) as driver:
        await driver.press("down", "down", "t")
        assert driver.room.has_class("-grid") and driver.room.view.cursor == 2
        across = driver.room.view.across  # type: ignore[union-attr]
        await driver.press("j", "l")
        assert driver.room.view.cursor == 2 + across + 1
        await driver.press("plus")
        assert driver.room.view.across < across  # type: ignore[union-attr]
        await driver.press("t")
        assert driver.room.view.cursor == 2 + across + 1
        await driver.until(lambda: driver.room.query_one(CaptionEditor).picture == driver.room.here)


async def test_stars_and_order(tmp_path: Path) -> None:
    """Stars are kept with the history; any field orders, both ways."""
    root = project(tmp_path / "p", 3)
    async with room(root) as driver:
        await driver.press("down", "greater_than_sign")
        await driver.until(lambda: driver.app.library.rows[1].stars == 1 and "★" in driver.text())
        await driver.press("o")
        await driver.type("stars")
        await driver.press("enter")
        await driver.until(lambda: driver.names[0] == "02.png")
        await driver.press("O")
        await driver.until(lambda: driver.names[-1] == "02.png")
    async with room(root) as driver:
        assert driver.app.library.rows[1].stars == 1


async def test_copy_and_paste_of_tags(tmp_path: Path) -> None:
    """y takes the tags of one picture, p adds what is missing to another, u takes it back."""
    root = project(tmp_path / "p", 2)
    async with room(root) as driver:
        await driver.press("y", "down", "p")
        await driver.until(lambda: caption(root, "02") == "sks robot, picture 2, picture 1\n")
        await driver.until(lambda: "picture 1" in driver.room.query_one(CaptionEditor).text)
        await driver.press("u")
        await driver.until(lambda: caption(root, "02") == "sks robot, picture 2\n")


async def test_completion_takes_a_tag_of_the_project(tmp_path: Path) -> None:
    """The begun tag is finished with tab; escape closes the list first, then the editor."""
    root = project(tmp_path / "p", 3)
    (root / "dataset" / "02.txt").write_text("long sleeves, hat\n")
    (root / "tags").mkdir()
    (root / "tags" / "more.csv").write_text("lone_star,0,99,\n")
    async with room(root) as driver:
        await driver.press("down", "down", "e")
        await driver.until(lambda: driver.room._lists)
        await driver.type("lon")
        await driver.until(lambda: "lone star" in driver.text())
        await driver.press("tab")
        assert driver.room.query_one(CaptionEditor).text == "long sleeves, "
        await driver.type("lon")
        await driver.press("down", "enter")  # what is there already is not offered again
        assert driver.room.query_one(CaptionEditor).text == "long sleeves, lone star, "
        await driver.type(", ")  # is there already
        assert driver.room.query_one(CaptionEditor).text == "long sleeves, lone star, "
        await driver.press("ctrl+s")
        await driver.until(lambda: caption(root, "03") == "long sleeves, lone star\n")
        await driver.type("ha")
        await driver.until(lambda: driver.room.query_one("#completions").has_class("-open"))
        await driver.press("escape")
        assert isinstance(driver.app.focused, CaptionEditor)
        await driver.press("escape")
        await driver.until(lambda: caption(root, "03").startswith("long sleeves, lone star"))


async def test_a_tag_is_filtered_by_and_removed(tmp_path: Path) -> None:
    """The panel acts on the tag under its cursor."""
    root = project(tmp_path / "p", 5)
    async with room(root) as driver:
        await driver.press("number_sign", "down", "enter")
        tag = driver.app.library.filter
        assert tag.startswith('tag:"picture')
        await driver.until(lambda: len(driver.names) == 1)
        await driver.press("number_sign", "d")
        await driver.until(lambda: "1 to change" in driver.text())
        await driver.press("enter")
        await driver.until(
            lambda: any(
                caption(root, f"0{n}") == "picture 1\n" or "sks" not in caption(root, f"0{n}") for n in (1,)
            )
        )


async def test_the_editor_gets_many_captions_as_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E writes blocks, reads them back, and shows what would change."""
    root = project(tmp_path / "p", 3)

    def edited(_app: Any, before: str) -> str:
        assert "# dataset/01.png\nsks robot, picture 1" in before
        return before.replace("picture 1", "picture one")

    monkeypatch.setattr("loratui.ui.screens.dataset_deeds.edit_text", edited)
    async with room(root) as driver:
        await driver.press("a", "E")
        await driver.until(lambda: "1 to change" in driver.text())
        await driver.press("enter")
        await driver.until(lambda: caption(root, "01") == "sks robot, picture one\n")


async def test_commands_that_are_wrong_say_what_was_meant(tmp_path: Path) -> None:
    """The line stays open with the reason."""
    root = project(tmp_path / "p", 2)
    async with room(root) as driver:
        await driver.press("colon")
        await driver.type("renam a b")
        await driver.press("enter")
        await driver.until(lambda: "Did you mean rename" in driver.text())
        assert isinstance(driver.room.focused, Input)
        await driver.press("escape")
        assert isinstance(driver.room.focused, LineList)


async def test_import_and_export(tmp_path: Path) -> None:
    """A folder comes in through the command line of the room, a zip goes out."""
    root = project(tmp_path / "p", 0)
    more = tmp_path / "more"
    more.mkdir()
    picture(more / "x.png", seed=9)
    (more / "x.txt").write_text("a hat\n")
    async with room(root) as driver:
        assert "No pictures yet" in driver.text()
        await driver.press("colon")
        await driver.type(f"import {more}")
        await driver.press("enter")
        await driver.until(lambda: driver.names == ["x.png"])
        await driver.press("colon")
        await driver.type(f"export zip {tmp_path / 'out.zip'}")
        await driver.press("enter")
        await driver.until(lambda: (tmp_path / "out.zip").exists())
        await driver.press("colon")
        await driver.type(f"export kohya-folders {tmp_path / 'folders'}")
        await driver.press("enter")
        await driver.until(lambda: any((tmp_path / "folders").rglob("dataset.toml")))


async def test_a_conflict_shows_both_texts_and_loses_none(tmp_path: Path) -> None:
    """Another program writes while one is typed here: nothing is overwritten before a choice."""
    root = project(tmp_path / "p", 2)
    async with room(root) as driver:
        await driver.press("e")
        await driver.type(" mine")
        (root / "dataset" / "01.txt").write_text("theirs\n")
        await driver.press("ctrl+s")
        await driver.until(lambda: "was changed by another program" in driver.text())
        assert "theirs" in driver.text() and caption(root, "01") == "theirs\n"
        await driver.press("enter")
        await driver.until(lambda: caption(root, "01") == "sks robot, picture 1 mine\n")
        await driver.until(lambda: isinstance(driver.app.focused, CaptionEditor))
        await driver.press("escape", "u")
        await driver.until(lambda: caption(root, "01") == "theirs\n")


async def test_what_cannot_be_saved_waits_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The history cannot be written: the reason is told, and the text is there when the cursor comes back."""
    root = project(tmp_path / "p", 2)
    async with room(root) as driver:

        def refused(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied")

        with monkeypatch.context() as patch:
            patch.setattr("loratui.project.history.FileLock.acquire", refused)
            await driver.press("e")
            await driver.type("!")
            await driver.press("ctrl+s")
            await driver.until(
                lambda: any("Permission denied" in n.message for n in driver.app._notifications)
            )
            driver.room.view.focus()
            await driver.press("down")
            await driver.until(lambda: driver.room.query_one(CaptionEditor).text == "sks robot, picture 2")
        assert caption(root, "01") == "sks robot, picture 1\n"
        await driver.press("up")
        await driver.until(lambda: driver.room.query_one(CaptionEditor).text == "sks robot, picture 1!")
        await driver.press("e", "ctrl+s")
        await driver.until(lambda: caption(root, "01") == "sks robot, picture 1!\n")


async def test_filters_are_kept_from_the_room(tmp_path: Path) -> None:
    """f offers what most need; keep NAME adds to it; delete forgets."""
    root = project(tmp_path / "p", 3)
    async with room(root) as driver:
        await driver.press("f")
        await driver.until(lambda: "captioned:no" in driver.text())
        await driver.type("no cap")
        await driver.press("enter")
        await driver.until(lambda: driver.names == ["03.png"])
        await driver.press("colon")
        await driver.type("keep lonely")
        await driver.press("enter")
        await driver.press("f")
        await driver.until(lambda: "lonely" in driver.text())
        await driver.press("escape")


async def test_every_action_is_in_palette_and_help(tmp_path: Path) -> None:
    """No key without words; no action that does not exist."""
    root = project(tmp_path / "p", 1)
    async with room(root, (120, 60)) as driver:
        for action in driver.room.ACTIONS:
            assert action.label or not action.show
            assert action.help
            name = action.action.partition("(")[0]
            target: Any = driver.room
            if name.startswith("app."):
                target, name = driver.app, name.removeprefix("app.")
            assert hasattr(target, f"action_{name}"), action
        await driver.press("question_mark")
        await driver.until(lambda: "in this screen" in driver.text())


async def test_an_edit_audits_the_edited_captions_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the audit said of an edited caption is told anew, of the others it stays; undo brings it back."""
    from loratui.project import findings

    root, seen = project(tmp_path / "p", 6), []
    (root / "dataset" / "02.txt").write_text("a hat")
    whole, each = findings.audit, findings.audit_each
    monkeypatch.setattr(findings, "audit", lambda texts, *a: seen.append("all") or whole(texts, *a))
    monkeypatch.setattr(
        findings, "audit_each", lambda texts, *a: seen.append([t.path for t in texts]) or each(texts, *a)
    )

    async with room(root) as driver:
        rows = driver.app.library.rows
        await driver.press("A")
        await driver.until(lambda: "trigger-missing" in rows[1].audited and "kinds" in driver.text())
        await driver.press("escape")
        others = [row.audited for row in rows[2:]]
        driver.app.library.mark([rows[0], rows[1]])
        await driver.press("colon")
        await driver.type("clear")
        await driver.press("enter")
        await driver.until(lambda: "2 to change" in driver.text())
        await driver.press("enter")
        await driver.until(lambda: "missing-caption" in rows[0].audited)
        assert "trigger-missing" not in rows[1].audited and "missing-caption" in rows[1].problems
        assert [row.audited for row in rows[2:]] == others
        await driver.until(lambda: driver.app.library.totals[0] == 2)
        await driver.press("u")
        await driver.until(lambda: "trigger-missing" in rows[1].audited and not rows[0].problems)
        assert seen[0] == "all" and seen.count("all") == 1
        assert all(paths == ["dataset/01.png", "dataset/02.png"] for paths in seen[1:]), seen
