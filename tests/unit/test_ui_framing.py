"""What is seen of a picture: turned and mirrored everywhere, exactly what is trained on, zoomed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_kit import picture, project
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_ui_dataset import Driver, quiet, room

from loratui.config.schema import ObjectiveConfig, RunConfig
from loratui.dataset.framing import PLAIN, Frame, framed, kept
from loratui.dataset.masks import Mask
from loratui.dataset.pixels import open_rgb, turned
from loratui.project import manifest
from loratui.project.framing import set_frames
from loratui.project.history import History
from loratui.project.project import Project
from loratui.ui import halfblock, preview
from loratui.ui.preview import Shown
from loratui.ui.widgets.image_view import ImageView
from loratui.ui.widgets.picture_grid import PictureGrid
from loratui.ui.widgets.picture_pane import PicturePane

__all__ = ["quiet"]


def view(driver: Driver) -> ImageView:
    return driver.room.query_one("#preview", ImageView)


def loaded(driver: Driver) -> Any:
    """Whether the preview shows what it was asked for."""
    seen = view(driver)
    return seen.image is not None and not any(
        w.group == "decode" and w.is_running for w in driver.app.workers
    )


async def test_preview_and_thumbnails_show_the_turn(tmp_path: Path) -> None:
    """A frame that changes while the room is open is seen at once, in the preview and in the grid."""
    root = project(tmp_path / "p", 2)
    path = root / "dataset" / "01.png"
    async with room(root) as driver:
        await driver.until(lambda: loaded(driver))
        assert view(driver).image.tobytes() == open_rgb(path).tobytes()
        collection = driver.app.library.collection
        assert collection is not None
        frame = Frame(90, True, (0.0, 0.0, 1.0, 0.5))
        collection.frame({path: frame})
        driver.app.library.reload([path])
        await driver.until(lambda: view(driver).image is not None and view(driver).image.size == (64, 96))
        assert view(driver).image.tobytes() == turned(open_rgb(path), frame).tobytes()
        box = view(driver).box
        assert box is not None and box[3] - box[1] < 0.6
        await driver.press("t")
        grid = driver.room.query_one(PictureGrid)
        columns, rows = grid.cell
        await driver.until(lambda: grid.thumbnails.get(path, columns, rows, frame))
        made = grid.thumbnails.get(path, columns, rows, frame)
        image = preview.dimmed(turned(driver.app.library.thumbnail(path), frame), frame.box)
        assert made == halfblock.strips(image, *halfblock.fitted(64, 96, columns, rows))
        assert made != grid.thumbnails.get(path, columns, rows, PLAIN)


async def test_the_preview_shows_the_very_pixels_the_trainer_encodes(tmp_path: Path) -> None:
    """`w` shows what goes into the encoder, byte by byte; again, and what the mask leaves out is tinted."""
    torch = pytest.importorskip("torch")
    from loratui.train.cache import Cache
    from loratui.train.samples import read_manifest

    root = project(tmp_path / "p", 2)
    path = root / "dataset" / "01.png"
    mask = Image.new("L", (96, 64), 0)
    mask.paste(255, (0, 0, 96, 32))
    mask.save(root / "dataset" / "01-masklabel.png")
    set_frames(History(root), {path: Frame(90, True, (0.1, 0.0, 0.9, 0.5))})
    async with room(root) as driver:
        await driver.press("w")
        await driver.until(lambda: loaded(driver) and view(driver).image.size != (64, 96))
        shown = view(driver).image
        assert driver.room.query_one(PicturePane).border_subtitle == "as trained"
        data = driver.app.data_settings
        row = driver.room.current
        await driver.press("w")
        await driver.until(lambda: view(driver).image is not shown)
        tinted = np.asarray(view(driver).image)
        await driver.press("w")
        await driver.until(lambda: view(driver).image.size == (64, 96))

    config = RunConfig(data=data, objective=ObjectiveConfig(masked=True, mask_floor=0.0))
    rows = manifest.rows(Project.open(root).scan(data).pictures, config)
    _write(tmp_path, rows)
    one = read_manifest(tmp_path / "m.jsonl")[0]
    fed = []

    class Family:
        def encode_pictures(self, parts: Any, pixels: Any) -> Any:
            fed.append(pixels)
            return torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2)

    parts: Any = type("P", (), {"vae": torch.nn.Linear(1, 1), "vae_identity": "x"})()
    cache = Cache(tmp_path / "cached", Family(), parts, torch.device("cpu"))  # type: ignore[arg-type]
    cache._encode(one, False)
    pixels = ((fed[0][0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
    assert shown.size == one.bucket.size
    assert pixels.tobytes() == shown.tobytes()
    # white stays what it is, black is tinted, by the very mask of the loss
    weights = cache.mask(one, False, (shown.height, shown.width)).numpy()
    plain = np.asarray(shown)
    assert row is not None and row.mask == Mask(root / "dataset" / "01-masklabel.png")
    assert 0.2 < (weights == 1).mean() < 0.8 and 0.2 < (weights == 0).mean() < 0.8
    assert (tinted == plain).all(axis=2)[weights == 1].all()
    assert not (tinted == plain).all(axis=2)[weights == 0].any()


def _write(folder: Path, rows: list[dict[str, Any]]) -> None:
    import json

    (folder / "m.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


async def test_zoom_and_pan(tmp_path: Path) -> None:
    """+ - go nearer and farther, shifted hjkl move, 0 shows all; another picture begins anew."""
    root = project(tmp_path / "p", 2)
    path = root / "dataset" / "01.png"
    picture(path, (960, 640), 5)
    async with room(root) as driver:
        await driver.until(lambda: loaded(driver))
        whole = view(driver).image
        await driver.press("plus", "plus", "plus", "plus")
        await driver.until(lambda: view(driver).image is not whole)
        await driver.until(lambda: loaded(driver))
        pane = driver.room.query_one(PicturePane)
        assert pane.border_subtitle == "4×"
        left, _, right, _ = view(driver)._part
        assert 0.2 < right - left <= 0.35 and (left + right) / 2 == pytest.approx(0.5)
        for _ in range(9):
            await driver.press("H", "K")
        await driver.until(lambda: view(driver)._part[:2] == (0.0, 0.0))
        await driver.until(lambda: loaded(driver))
        size = view(driver).image.size
        corner = open_rgb(path).crop((0, 0, *size))
        assert view(driver).image.tobytes() == corner.tobytes()
        await driver.press("L", "shift+down")
        await driver.until(lambda: view(driver)._part[0] > 0 and view(driver)._part[1] > 0)
        await driver.press("minus")
        await driver.until(lambda: pane.border_subtitle == "3×")
        await driver.press("0")
        await driver.until(lambda: view(driver).image is not None and view(driver).image.size == (640, 427))
        assert pane.border_subtitle == ""
        await driver.press("plus", "down")
        assert view(driver).zoom == 0


@given(
    st.tuples(st.integers(1, 6000), st.integers(1, 6000)),
    st.tuples(st.integers(1, 300), st.integers(1, 120)),
    st.sampled_from(preview.ZOOMS),
    st.tuples(st.floats(-1, 2), st.floats(-1, 2)),
)
def test_what_is_in_sight_lies_in_the_picture_and_fills_the_room(
    size: tuple[int, int], room: tuple[int, int], zoom: float, centre: tuple[float, float]
) -> None:
    (left, top, right, bottom), _ = preview.window(size, room, zoom, centre)
    assert -1e-9 <= left < right <= 1 + 1e-9 and -1e-9 <= top < bottom <= 1 + 1e-9
    scale = min(room[0] / size[0], room[1] / size[1]) * zoom
    wide, high = (right - left) * size[0] * scale, (bottom - top) * size[1] * scale
    # in each direction either all of the picture is seen, or the room is full
    assert right - left > 1 - 1e-9 or wide == pytest.approx(room[0])
    assert bottom - top > 1 - 1e-9 or high == pytest.approx(room[1])


def test_a_mask_on_disk_that_changes_is_seen(tmp_path: Path) -> None:
    import os

    picture(tmp_path / "a.png")
    place = tmp_path / "a-masklabel.png"
    Image.new("L", (96, 64), 255).save(place)
    shown = Shown(mask=Mask(place))
    plain = preview.load(tmp_path / "a.png", shown).tobytes()
    assert plain == open_rgb(tmp_path / "a.png").tobytes()
    Image.new("L", (96, 64), 0).save(place)
    os.utime(place, ns=(1, 1))
    assert preview.load(tmp_path / "a.png", shown).tobytes() != plain


def test_the_box_is_bright_and_the_rest_dark() -> None:
    image = Image.new("RGB", (100, 50), (200, 100, 50))
    bucket = framed(100, 50, Frame(box=(0.25, 0.0, 0.75, 1.0)), [(64, 64)])
    seen = np.asarray(preview.dimmed(image, kept(bucket)))
    assert (
        (seen[:, 25:75] == (200, 100, 50)).all() and (seen[:, :25] < 80).all() and (seen[:, 75:] < 80).all()
    )
    lined = np.asarray(preview.outlined(image, (0.25, 0.2, 0.75, 0.8), (0, 0, 255)))
    assert (lined[9, 24:76] == (0, 0, 255)).all() and (lined[10:40, 25:75] == (200, 100, 50)).all()
