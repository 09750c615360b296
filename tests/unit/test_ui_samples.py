"""The Samples room: compare two checkpoints, mark, note, export; a new sample disturbs nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from app_kit import HOSTILE, RunWriter, picture, project
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from textual.widgets import TextArea

from loratui.project import favourites
from loratui.project.favourites import Mark
from loratui.ui.app import LoratuiApp
from loratui.ui.screens.samples import SamplesRoom
from loratui.ui.widgets.image_view import ImageView
from loratui.ui.widgets.sample_grid import SampleGrid

PROMPTS = ("sks robot", "sks robot on the moon")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))


def draw(writer: RunWriter, step: int) -> None:
    folder = writer.run.samples_dir / f"step-{step:06d}"
    folder.mkdir(parents=True)
    for index, prompt in enumerate(PROMPTS):
        path = folder / f"{index:02d}.png"
        picture(path, (64, 64), seed=step + index)
        facts = {"steps": 20, "sampler": "ddim" + HOSTILE, "guidance": 7.0, "width": 64, "height": 64}
        info = PngInfo()
        info.add_itxt("loratui", json.dumps(facts))
        with Image.open(path) as image:
            image.load()
            image.save(path, pnginfo=info)
        relative = path.relative_to(writer.run.path).as_posix()
        writer.write(
            "sample", step=step, index=index, prompt=prompt, seed=1 + index, path=relative, seconds=1.0
        )


def a_run(root: Path, *steps: int, ended: bool = False) -> RunWriter:
    writer = RunWriter(root)
    writer.alive()
    writer.write("state", state="running")
    for step in steps:
        draw(writer, step)
    writer.steps(1, 5)
    if ended:
        writer.write("state", state="finished")
    return writer


def text_of(app: Any) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips(app.size))


async def until(pilot: Any, condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, text_of(pilot.app)
        await pilot.pause(0.05)


def path_of(app: Any) -> str:
    """Which picture is large."""
    path = app.screen.query_one(ImageView).path
    return f"{path.parent.name}/{path.name}" if path is not None else ""


async def test_two_checkpoints_are_flipped_in_place(tmp_path: Path) -> None:
    root = project(tmp_path / "p", 2)
    writer = a_run(root, 0, 100, 200, ended=True)
    app = LoratuiApp(root, open_run=str(writer.run.path))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: path_of(app) == "step-000200/00.png")
        await until(pilot, lambda: "20 steps" in text_of(app) and "guidance 7" in text_of(app))
        await pilot.press("f")
        assert path_of(app) == "step-000000/00.png" and "A base ⇄ B 200" in text_of(app)
        await pilot.press("f")
        assert path_of(app) == "step-000200/00.png"
        await pilot.press("left", "b", "f")
        assert path_of(app) == "step-000000/00.png" and "A base ⇄ B 100" in text_of(app)
        await pilot.press("down")
        assert path_of(app) == "step-000000/01.png"
        await until(pilot, lambda: app.screen.query_one(ImageView).image is not None)
        await pilot.press("z", "plus", "L")
        view = app.screen.query_one(ImageView)
        await until(pilot, lambda: view.zoom == 1)
        part = view._part
        await pilot.press("f")
        assert path_of(app) == "step-000100/01.png" and view._part == part and view.zoom == 1
        await pilot.press("w")
        await until(pilot, lambda: view.zoom == 0)
        await pilot.press("right", "a", "0")
        assert path_of(app) == "step-000000/01.png"
        await pilot.press("escape", "escape")
        assert not app.screen.has_class("-zoom") and path_of(app) == "step-000200/01.png"


async def test_a_new_sample_moves_and_repaints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project(tmp_path / "p", 2)
    writer = a_run(root, 0, 100)
    app = LoratuiApp(root, open_run=str(writer.run.path))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: path_of(app) == "step-000100/00.png")
        draw(writer, 200)
        await until(pilot, lambda: path_of(app) == "step-000200/00.png")  # nobody moved: the newest
        await pilot.press("left")
        view, grid = app.screen.query_one(ImageView), app.screen.query_one(SampleGrid)
        await until(pilot, lambda: path_of(app) == "step-000100/00.png" and view.image is not None)
        await until(pilot, lambda: not any(w.is_running and w.group == "thumbnails" for w in app.workers))
        await pilot.pause(0.2)
        painted: list[str] = []
        monkeypatch.setattr(view, "refresh", lambda *a, **k: painted.append("view"))
        real = grid.refresh
        monkeypatch.setattr(grid, "refresh", lambda *a, **k: (painted.append("grid"), real(*a, **k))[1])
        writer.steps(6, 9)
        await until(pilot, lambda: app.watched is not None and app.watched.state.step == 9)
        assert painted == []
        draw(writer, 300)
        await until(pilot, lambda: len(grid.sheet.columns) == 4)
        await pilot.pause(0.3)
        assert path_of(app) == "step-000100/00.png" and "view" not in painted
        await pilot.press("G")
        draw(writer, 400)
        await until(pilot, lambda: path_of(app) == "step-000400/00.png")


async def test_marks_are_the_projects_and_reach_other_viewers(tmp_path: Path) -> None:
    root = project(tmp_path / "p", 2)
    writer = a_run(root, 0, 100, ended=True)
    before = sorted(p.name for p in writer.run.path.rglob("*"))
    app = LoratuiApp(root, open_run=str(writer.run.path))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: path_of(app) == "step-000100/00.png")
        await pilot.press("space", "e")
        app.screen.query_one(TextArea).text = "the [b]best[/b]" + HOSTILE
        await pilot.press("ctrl+s")
        name = f"{writer.run.id}/samples/step-000100/00.png"
        await until(pilot, lambda: favourites.marks(root).get(name, Mark()).note.startswith("the [b]best"))
        assert favourites.marks(root)[name].favourite and "★" in text_of(app)
        other = f"{writer.run.id}/samples/step-000000/01.png"
        favourites.set_mark(root, other, Mark(True))  # another viewer
        await until(pilot, lambda: text_of(app).count("★") == 3)
        await pilot.press("right_square_bracket")
        assert path_of(app) == "step-000000/01.png"
        await pilot.press("space")
        await until(pilot, lambda: other not in favourites.marks(root))
    assert sorted(p.name for p in writer.run.path.rglob("*")) == before


async def test_the_run_is_exported(tmp_path: Path) -> None:
    root = project(tmp_path / "p", 2)
    writer = a_run(root, 0, 100, ended=True)
    app = LoratuiApp(root, open_run=str(writer.run.path))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: isinstance(app.screen, SamplesRoom) and app.screen.grid.sheet.columns)
        await pilot.press("E", "enter")
        page = root / "reports" / f"{writer.run.id}.html"
        await until(pilot, page.exists)
        assert page.read_text("utf-8").count("data:image/jpeg") == 4
        await pilot.press("E", "down", "enter")
        await until(pilot, page.with_suffix(".png").exists)


async def test_more_is_drawn_from_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from loratui.errors import RequestError
    from loratui.project import drawing
    from loratui.ui.screens.draw_more import DrawMoreDialog

    root = project(tmp_path / "p", 2)
    writer = a_run(root, 0, 100, ended=True)
    (writer.run.checkpoints_dir / "step-000100").mkdir()
    (writer.run.checkpoints_dir / "step-000100" / "lora.safetensors").write_bytes(b"x")
    asked: list[Any] = []

    def prepare(*args: Any) -> Any:
        asked.append(args)
        if len(asked) == 1:
            raise RequestError("[/b] is no base." + HOSTILE)
        return type("Plan", (), {"count": 4})()

    drawn = RunWriter(root, "more", job="sample", steps=4)
    drawn.alive()
    monkeypatch.setattr(drawing, "prepare", prepare)
    monkeypatch.setattr(drawing, "start", lambda plan: drawn.run)
    app = LoratuiApp(root, open_run=str(writer.run.path))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        await until(
            pilot, lambda: isinstance(app.screen, SamplesRoom) and app.screen.grid.current is not None
        )
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, DrawMoreDialog))
        app.screen.query_one(TextArea).text = "one\n\ntwo"
        app.screen.query_one("#strengths").value = "0, 0.5 1"
        app.screen.query_one("#loras").value = "a b.safetensors:0.5, c.safetensors"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "[/b] is no" in text_of(app))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: app.watched is not None and app.watched.run == drawn.run)
        run, prompts, checkpoints, strengths, base, loras, embeddings, seed, _ = asked[1]
        assert (run, prompts, checkpoints) == (writer.run, ["one", "two"], ["100"])
        assert (strengths, base, embeddings, seed) == ([0.0, 0.5, 1.0], "", [], None)
        assert loras == ["a b.safetensors:0.5", "c.safetensors"]
        await until(pilot, lambda: "samples of more" in text_of(app) and "being drawn" in text_of(app))
        (drawn.run.path / drawing.NAME).write_text(json.dumps({"source": writer.run.id}))
        await pilot.press("o")
        await until(pilot, lambda: app.watched is not None and app.watched.run == writer.run)


async def test_a_flip_back_decodes_nothing_and_all_fit_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loratui.ui.widgets import image_view

    root = project(tmp_path / "p", 2)
    writer = a_run(root, 0, 100, 200, 300, 400, ended=True)
    decoded: list[str] = []
    real = image_view._decoded
    monkeypatch.setattr(
        image_view, "_decoded", lambda path, *rest: (decoded.append(path.parent.name), real(path, *rest))[1]
    )
    app = LoratuiApp(root, open_run=str(writer.run.path))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("5")
        view = None
        await until(pilot, lambda: isinstance(app.screen, SamplesRoom) and app.screen.grid.sheet.columns)
        view = app.screen.query_one(ImageView)
        await until(pilot, lambda: view.image is not None)
        first = view.image
        await pilot.press("f")
        await until(pilot, lambda: view.image is not first)
        count = len(decoded)
        for name in ("step-000400", "step-000000") * 3:
            await pilot.press("f")
            assert path_of(app).startswith(name) and (view.image is first) == (name == "step-000400")
        assert len(decoded) == count
        grid = app.screen.query_one(SampleGrid)
        assert grid._in_sight()[0] < 5
        await pilot.press("w")
        assert grid._in_sight()[0] >= 5 and grid._in_sight()[1] >= 2
