"""The crop of a picture by hand, driven by keys: what is seen, what is kept, and that undo takes it back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from app_kit import picture, project
from PIL import Image
from test_ui_dataset import Driver, quiet, room

from loratui.config.schema import RunConfig
from loratui.dataset.framing import Frame, framed
from loratui.dataset.pixels import trained_pixels
from loratui.plan.steps import bucket_plans
from loratui.project.framing import framing, set_frames
from loratui.project.history import History
from loratui.project.project import Project
from loratui.ui.graphics import Graphics
from loratui.ui.screens.bucket_table import BucketTable
from loratui.ui.screens.crop import CropRoom
from loratui.ui.screens.dataset import DatasetRoom
from loratui.ui.widgets.image_view import ImageView

__all__ = ["quiet"]


async def opened(driver: Driver) -> CropRoom:
    """`C` on the picture under the cursor."""
    await driver.press("C")
    await driver.until(lambda: isinstance(driver.app.screen, CropRoom) and driver.app.screen.is_mounted)
    screen = driver.app.screen
    assert isinstance(screen, CropRoom)
    await driver.until(lambda: screen.query_one(ImageView).image is not None)
    return screen


def frames(root: Path) -> dict[str, Frame]:
    """What a fresh reader of the history finds."""
    return {path.name: frame for path, frame in framing(root)[0].items()}


def steps(root: Path) -> int:
    return len(History(root).log.undo_stack) if (root / ".loratui" / "history").is_dir() else 0


async def test_a_crop_is_made_by_keys_kept_as_one_step_and_undone(tmp_path: Path) -> None:
    """The figures follow each key; enter keeps, the list shows it, u takes it back; the file is untouched."""
    root = project(tmp_path / "p", 2)
    path = root / "dataset" / "01.png"
    picture(path, (400, 300), 3)
    before = path.read_bytes()
    async with room(root) as driver:
        screen = await opened(driver)
        assert "automatic" in driver.text() and "not kept yet" not in driver.text()
        start = screen.crop.box
        await driver.press("minus", "minus", "minus", "l", "l", "j", "H")
        left, top, right, bottom = screen.crop.box
        assert right - left < start[2] - start[0] and bottom - top < start[3] - start[1]
        view = screen.query_one(ImageView)
        assert view.box == screen.crop.box  # what is bright is what is kept
        await driver.until(lambda: "by hand" in driver.text())
        assert "not kept yet" in driver.text() and steps(root) == 0
        await driver.press("b", "r", "m")
        frame = screen.crop.frame
        bucket = framed(400, 300, frame, screen.crop.buckets)
        await driver.until(lambda: f"{bucket.width}×{bucket.height} px" in driver.text())
        assert "90°, mirrored" in driver.text() and bucket.height > bucket.width
        assert driver.app.scan is not None
        planned = {(b.width, b.height) for b in driver.app.scan.buckets}
        # what the trainer sees, by the trainer's own path
        await driver.press("w")
        await driver.until(lambda: view.image is not None and view.image.size == bucket.size)
        assert view.image is not None
        assert view.image.tobytes() == trained_pixels(path, bucket, frame).tobytes()
        await driver.press("enter")
        await driver.until(lambda: isinstance(driver.app.screen, DatasetRoom) and frames(root))
        assert frames(root) == {"01.png": frame} and steps(root) == 1
        await driver.until(lambda: "framed" in driver.text())
        row = driver.room.current
        assert row is not None
        await driver.until(lambda: row.frame == frame and row.bucket == f"{bucket.width}x{bucket.height}")
        # the plan of a training counts with it, too

        def now_planned() -> set[tuple[int, int]]:
            assert driver.app.scan is not None
            return {(b.width, b.height) for b in driver.app.scan.buckets}

        assert bucket.size not in planned
        await driver.until(lambda: bucket.size in now_planned())
        await driver.press("u")
        await driver.until(lambda: not frames(root) and row.frame.plain)
        await driver.until(lambda: now_planned() == planned)
        await driver.press("ctrl+r")
        await driver.until(lambda: frames(root) == {"01.png": frame})
    assert path.read_bytes() == before


async def test_escape_keeps_nothing_and_enter_without_a_change_makes_no_step(tmp_path: Path) -> None:
    root = project(tmp_path / "p", 1)
    async with room(root) as driver:
        await opened(driver)
        await driver.press("minus", "r", "escape")
        await driver.until(lambda: isinstance(driver.app.screen, DatasetRoom))
        screen = await opened(driver)
        assert screen.crop.frame.plain
        await driver.press("minus", "r", "x", "enter")
        await driver.until(lambda: isinstance(driver.app.screen, DatasetRoom))
        await driver.pilot.pause(0.1)
        assert steps(root) == 0 and frames(root) == {}


async def test_one_picture_after_the_other_without_leaving(tmp_path: Path) -> None:
    """n keeps and goes on, N goes back, each kept crop is a step of its own; the ends are said."""
    root = project(tmp_path / "p", 3)
    async with room(root) as driver:
        await opened(driver)
        await driver.press("r", "n")
        await driver.until(lambda: "02.png" in driver.text().split("\n")[2])
        await driver.until(lambda: frames(root) == {"01.png": Frame(90)})
        await driver.press("n")
        await driver.until(lambda: "03.png" in driver.text().split("\n")[2])
        await driver.press("m", "N")
        await driver.until(lambda: "02.png" in driver.text().split("\n")[2])
        await driver.until(lambda: frames(root) == {"01.png": Frame(90), "03.png": Frame(0, True)})
        assert steps(root) == 2  # nothing was done to the second one
        await driver.press("n")
        await driver.until(lambda: "03.png" in driver.text().split("\n")[2])
        screen = driver.app.screen
        assert isinstance(screen, CropRoom) and screen.crop.frame == Frame(0, True)
        await driver.press("n")
        await driver.until(lambda: isinstance(driver.app.screen, DatasetRoom))
        assert "last picture" in "".join(n.message for n in driver.app._notifications)
        assert driver.room.current is not None and driver.room.current.name == "03.png"


async def test_the_alpha_channel_as_mask_is_the_same_step(tmp_path: Path) -> None:
    """`a` on a picture without alpha says so; with one, mask and crop are one step of undo."""
    root = project(tmp_path / "p", 2)
    image = Image.new("RGBA", (96, 64), (200, 10, 10, 0))
    image.paste((10, 200, 10, 255), (0, 0, 48, 64))
    image.save(root / "dataset" / "01.png")
    async with room(root) as driver:
        screen = await opened(driver)
        await driver.until(lambda: "a: alpha" in driver.text())
        view = screen.query_one(ImageView)
        plain = view.image
        assert "objective.masked" not in driver.text()
        await driver.press("a", "minus")
        await driver.until(lambda: view.image is not plain and "alpha channel" in driver.text())
        assert "objective.masked is off" in driver.text()  # a mask that no training would weigh
        assert view.image is not None and plain is not None
        assert view.image.getpixel((10, 10)) == plain.getpixel((10, 10))
        assert view.image.getpixel((90, 10)) != plain.getpixel((90, 10))
        await driver.press("enter")
        await driver.until(lambda: frames(root))
        assert framing(root)[1] == {root / "dataset" / "01.png"} and steps(root) == 1
        row = driver.room.current
        assert row is not None
        await driver.until(lambda: row.mask is not None and row.mask.kind == "alpha")
        await driver.press("u")
        await driver.until(lambda: framing(root) == ({}, frozenset()))
        await driver.press("down")
        await opened(driver)
        await driver.until(lambda: "mask     none" in driver.text())
        await driver.press("a")
        await driver.until(
            lambda: "no alpha channel" in "".join(n.message for n in driver.app._notifications)
        )


async def test_marked_pictures_are_turned_as_one_step(tmp_path: Path) -> None:
    """r turns what is marked at once; keys that come faster than the disk are all counted."""
    root = project(tmp_path / "p", 3)
    async with room(root) as driver:
        await driver.press("space", "space", "r")
        await driver.until(lambda: frames(root) == {n: Frame(90) for n in ("01.png", "02.png")})
        assert steps(root) == 1
        await driver.press("M")
        await driver.until(lambda: frames(root).get("02.png") == Frame(90).mirrored())
        await driver.press("x", "end", *"rrrrrrr")
        await driver.until(lambda: frames(root).get("03.png") == Frame(270))
        await driver.press("R")
        await driver.until(lambda: frames(root).get("03.png") == Frame(180))
        driver.room.action_unframe()
        await driver.until(lambda: "03.png" not in frames(root))
        for _ in range(20):
            if not steps(root):
                break
            await driver.press("u")
            await driver.pilot.pause(0.05)
        await driver.until(lambda: frames(root) == {})
        row = driver.room.current
        assert row is not None
        await driver.until(lambda: row.frame.plain)


async def test_the_table_of_buckets_counts_as_the_plan_and_leads_to_the_pictures(tmp_path: Path) -> None:
    """What the table says is what the plan of a training says; enter shows the pictures of a bucket."""
    root = project(tmp_path / "p", 5)
    picture(root / "dataset" / "02.png", (64, 96), 2)
    picture(root / "dataset" / "03.png", (20, 30), 3)
    set_frames(History(root), {root / "dataset" / "05.png": Frame(90)})
    async with room(root) as driver:
        await driver.press("B")
        await driver.until(lambda: "5 pictures in 2 of" in driver.text())
        dialog = driver.app.screen
        assert isinstance(dialog, BucketTable)
        config = RunConfig(data=driver.app.data_settings)
        counts = Project.open(root).scan(config.data).buckets
        plans = bucket_plans(counts, config.data.batch_size, config.data.repeats)
        found = {(b.width, b.height): (b.images, b.repeated, b.batches, b.leftover) for b in dialog.lines}
        assert found == {(b.width, b.height): (b.images, b.repeated, b.batches, b.leftover) for b in plans}
        tall = next(b for b in dialog.lines if b.height > b.width)
        assert tall.images == 3 and tall.enlarged == 1 and tall.upscale_most > 1.5
        if dialog.lines[0] is not tall:
            await driver.press("down")
        await driver.press("enter")
        await driver.until(lambda: driver.names == ["02.png", "03.png", "05.png"])
        assert driver.app.library.filter == f"bucket:{tall.name}"


async def test_every_action_of_the_crop_is_in_the_help_and_the_palette(tmp_path: Path) -> None:
    root = project(tmp_path / "p", 1)
    async with room(root, (120, 60)) as driver:
        screen = await opened(driver)
        await driver.press("question_mark")
        await driver.until(lambda: "The shape of the next wider bucket" in driver.text())
        await driver.press("escape")
        assert driver.app.screen is screen
        await driver.press("ctrl+p")
        await driver.type("mirror")
        await driver.until(lambda: "Exchange left and right" in driver.text())
        await driver.press("enter")
        await driver.until(lambda: screen.crop.frame.mirror)
        for key in ("1", "3"):  # other rooms wait until this one is left
            await driver.press(key)
        assert driver.app.screen is screen


async def test_frames_in_words_are_one_step_and_found_by_the_filter(tmp_path: Path) -> None:
    """`:frame ...` on what the filter shows; a wrong word is said; `framed:yes` finds them."""
    root = project(tmp_path / "p", 3)
    async with room(root) as driver:
        driver.room.action_command("frame turn 45")
        await driver.press("enter")
        await driver.until(lambda: "cannot read turn 45" in driver.text())
        await driver.press("escape", "space", "space")
        driver.room.action_command("frame turn 90 crop 0,0,50%,50%")
        await driver.press("enter")
        wanted = Frame(90, False, (0.0, 0.0, 0.5, 0.5))
        await driver.until(lambda: frames(root) == {"01.png": wanted, "02.png": wanted})
        assert steps(root) == 1
        driver.room.use_filter("framed:yes")
        await driver.until(lambda: driver.names == ["01.png", "02.png"])
        await driver.press("u")
        await driver.until(lambda: frames(root) == {})


@pytest.mark.parametrize("kind", ["tgp", "sixel"])
async def test_the_box_is_drawn_in_sharper_terminals_too(
    tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With kitty's protocol and with sixel each move sends another picture, and going back shows the old."""
    sent: list[str] = []
    root = project(tmp_path / "p", 1)
    monkeypatch.setattr(ImageView, "_write", lambda self, data: sent.append(data))
    async with room(root) as driver:
        driver.app.graphics = Graphics(kind)
        screen = await opened(driver)
        view = screen.query_one(ImageView)
        seen = []
        for key in ("minus", "l", "h"):
            await driver.press(key)
            await driver.until(lambda: view._strips is not None)
            assert view._strips is not None
            seen.append("".join(segment.text for strip in view._strips for segment in strip) + f"{view.box}")
        assert len(set(seen)) == 3
        if kind == "tgp":
            uploads = [data for data in sent if "f=100" in data]
            assert len(uploads) >= 4 and len(set(uploads)) == len(uploads)
        else:
            assert all("\x1bP" in strips for strips in seen)
        await driver.press("escape")
        await driver.until(lambda: isinstance(driver.app.screen, DatasetRoom))
        if kind == "tgp":  # what the terminal stores for the room is freed
            await driver.until(lambda: sum("a=d" in data for data in sent) >= 4)
