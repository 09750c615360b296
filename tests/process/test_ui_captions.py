"""The Captions room with a real tagger: choose, try, start, watch, look over, only the marked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import caption_kit as kit
import pytest

from loratui.project.history import History
from loratui.ui.app import LoratuiApp


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CACHE", "CONFIG", "MODELS"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def text_of(app: Any) -> str:
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips(app.size))


async def until(app: Any, pilot: Any, *words: str, true: Callable[[], bool] = lambda: True) -> str:
    """Wait until the screen says all of `words`."""
    shown = ""
    for _ in range(400):
        await pilot.pause(0.05)
        shown = text_of(app)
        if all(word in shown for word in words) and true():
            return shown
    raise AssertionError(f"{words} never came:\n{shown}")


def captions(root: Path) -> dict[str, str]:
    return {p.stem: p.read_text().strip() for p in (root / "dataset").glob("*.txt")}


async def test_from_choosing_to_the_last_verdict(tmp_path: Path) -> None:
    root = kit.project(tmp_path / "p", 5).root
    kit.wd(tmp_path / "models" / "SmilingWolf" / "wd-vit-tagger-v3")
    app = LoratuiApp(root)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(app, pilot, "000.png")
        await pilot.press("2")
        await until(app, pilot, "● wd", "s captions 5 pictures", "5 without a caption")
        await pilot.press("t")
        shown = await until(app, pilot, "would be written", "sks robot,")
        assert "0.9" in shown and not captions(root)  # confidence per tag, and nothing written
        await pilot.press("s")
        await until(app, pilot, "✔ finished", "look over 5", "5 / 5")
        written = captions(root)
        assert len(written) == 5
        await pilot.press("4")
        shown = await until(app, pilot, "newest captions", "written   5", "by hand 0", "004.png")
        assert "loss" not in shown
        await pilot.press("enter")
        await pilot.press("r")
        await until(app, pilot, "to look over · 5", "There was no caption before.", "long hair")
        await pilot.press("a")
        await until(app, pilot, "to look over · 4")
        await pilot.press("x")
        await until(app, pilot, "to look over · 3", true=lambda: "001" not in captions(root))
        await pilot.press("u")
        await until(app, pilot, "to look over · 4", true=lambda: captions(root) == written)
        await pilot.press("e", *"zz")
        await pilot.press("ctrl+s")
        await until(app, pilot, "to look over · 3", true=lambda: captions(root)["001"].endswith("zz"))
        await pilot.press("A", "enter")
        await until(app, pilot, "No caption waits for a look")
    assert History(root).pinned() == {root / "dataset" / "001.txt"}
    # a newcomer's second start: what was chosen is still chosen, and nothing is left to do
    again = LoratuiApp(root)
    async with again.run_test(size=(80, 24)) as pilot:
        await until(again, pilot, "000.png")
        await pilot.press("2")
        await until(again, pilot, "● wd", "nothing to do", "4 have one", "1 by hand stay")
        await pilot.press("m")
        await until(again, pilot, "s captions 4 pictures", "1 by hand stay")


async def test_only_the_marked_and_where_weights_are_missing(tmp_path: Path) -> None:
    root = kit.project(tmp_path / "p", 4).root
    kit.wd(tmp_path / "models" / "SmilingWolf" / "wd-vit-tagger-v3")
    app = LoratuiApp(root)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(app, pilot, "003.png")
        await pilot.press("space", "space", "c")
        await until(app, pilot, "2 marked pictures", "s captions 2 pictures", "2 not marked")
        await pilot.press("s")
        await until(app, pilot, "✔ finished")
        assert set(captions(root)) == {"000", "001"}
        await pilot.press("escape", "M")
        await until(app, pilot, "4 pictures", "2 have one")
        await pilot.press("j", "j", "j", "space")  # past the bundled ones: a captioner that is not here
        await until(
            app, pilot, "✖ blip cannot start", "loratui get Salesforce/blip-image-captioning-base", "copy"
        )
        await pilot.press("s")
        await until(app, pilot, "cannot start")
        assert len(list((root / "runs").iterdir())) == 1


async def test_only_what_a_filter_shows(tmp_path: Path) -> None:
    root = kit.project(tmp_path / "p", 4).root
    kit.wd(tmp_path / "models" / "SmilingWolf" / "wd-vit-tagger-v3")
    app = LoratuiApp(root)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(app, pilot, "003.png")
        await pilot.press("slash", *"name:*1.png", "space", *"OR", "space", *"name:*2.png", "enter")
        await until(app, pilot, "2 of 4")
        await pilot.press("c")
        await until(app, pilot, "2 filtered pictures", "s captions 2 pictures", "2 not in the filter")
        await pilot.press("1", "space", "F")  # marks do not change what the filter means
        await until(app, pilot, "2 filtered pictures", "s captions 2 pictures")
        await pilot.press("M")
        await until(app, pilot, "4 pictures", "s captions 4 pictures")
        await pilot.press("M")
        await until(app, pilot, "1 marked picture", "s captions 1 picture", "3 not marked")
        await pilot.press("M")
        await until(app, pilot, "2 filtered pictures", "s captions 2 pictures")
        await pilot.press("s")
        await until(app, pilot, "✔ finished")
        assert set(captions(root)) == {"001", "002"}
        # a filter that shows nothing captions nothing, and without one it is all pictures again
        await pilot.press("1", "escape", "slash", *"name:none", "enter")
        await until(app, pilot, "0 of 4")
        await pilot.press("F")
        await until(app, pilot, "0 filtered pictures", "nothing to do")
        await pilot.press("1", "escape", "2", "escape")
        await until(app, pilot, "4 pictures", "2 have one")


async def test_an_edit_that_is_not_kept_yet_survives_the_end(tmp_path: Path) -> None:
    root = kit.project(tmp_path / "p", 2).root
    kit.wd(tmp_path / "models" / "SmilingWolf" / "wd-vit-tagger-v3")
    app = LoratuiApp(root)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(app, pilot, "000.png")
        await pilot.press("2")
        await until(app, pilot, "s captions 2 pictures")
        await pilot.press("s")
        await until(app, pilot, "look over 2")
        await pilot.press("r")
        await until(app, pilot, "to look over · 2")
        await pilot.press("e", *"unsaved")
        app.save_all()  # as a signal does
    assert captions(root)["000"].endswith("unsaved")
    shutil.rmtree(root)
