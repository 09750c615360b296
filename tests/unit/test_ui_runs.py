"""The Runs room: queue on top, comparisons, clones, disk, trash; driven by keys."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from app_kit import RunWriter, project
from textual.widgets import TextArea

from loratui.runs import control, queue
from loratui.runs.devices import Want
from loratui.runs.directory import RunDir
from loratui.runs.lock import DeviceLock
from loratui.ui.app import LoratuiApp
from loratui.ui.panels.queue import QueuePanel
from loratui.ui.screens.train import TrainRoom
from loratui.ui.widgets.overlay_plot import OverlayPlot

GPU = Want(("cuda:0",))


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))


def a_past(root: Path, stem: str, lr: float, step: int) -> RunDir:
    writer = RunWriter(root, stem)
    writer.alive()
    writer.steps(1, step)
    writer.write("state", state="finished")
    writer.run.config_path.write_text(
        f'[run]\nid = "{writer.run.id}"\nname = "{stem}"\npreset = "demo"\nsteps = {step}\n'
        f"[optimizer]\nlr = {lr}\n"
    )
    writer.run.manifest_path.write_text(f'{{"path": "/a.png", "caption": "{stem}"}}\n')
    state = writer.run.checkpoints_dir / "step-000005" / "state"
    state.mkdir(parents=True)
    (state / "optimizer").write_bytes(b"x" * 2000)
    return writer.run


def text_of(app: Any) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips(app.size))


async def until(pilot: Any, condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, text_of(pilot.app)
        await pilot.pause(0.05)


def exports(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are run from here on, each as if it had written a file."""
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        asked.append(command)
        return type(
            "Done", (), {"stdout": '{"file": "/x/made.safetensors"}', "stderr": "", "returncode": 0}
        )()

    monkeypatch.setattr("subprocess.run", run)
    return asked


def waiting(app: Any) -> list[str]:
    """The waiting runs that the room shows; none while another room is in front."""
    return [entry.run for panel in app.screen.query(QueuePanel) for entry in panel.entries]


def under_cursor(app: Any) -> str:
    """The waiting run under the cursor, empty without one."""
    entry = app.screen.query_one(QueuePanel).current
    return entry.run if entry is not None else ""


async def test_the_queue_is_shown_held_reordered_and_left(tmp_path: Path) -> None:
    root = project(tmp_path / "p", 2)
    runs = [RunDir.create(root / "runs", name) for name in ("works", "one", "two")]
    with DeviceLock("cuda:0", runs[0]):
        for run in runs[1:]:
            queue.enter(run, GPU)
        app = LoratuiApp(root)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("6")
            await until(pilot, lambda: len(waiting(app)) == 2)
            shown = text_of(app)
            assert "works" in shown and "for cuda:0" in shown
            app.screen.query_one("#queue").focus()
            await pilot.press("down")
            await until(pilot, lambda: under_cursor(app) == str(runs[1].path))
            await pilot.press("J")
            await until(
                pilot, lambda: [e.run for e in queue.entries()] == [str(runs[2].path), str(runs[1].path)]
            )
            await until(pilot, lambda: under_cursor(app) == str(runs[1].path))
            await pilot.press("H")
            await until(pilot, lambda: queue.entries()[1].held)
            await until(pilot, lambda: "held" in text_of(app))
            await pilot.press("H")
            await until(pilot, lambda: not queue.entries()[1].held)
            queue.leave(runs[2])
            await until(pilot, lambda: len(waiting(app)) == 1)
            queue.leave(runs[1])
            await until(pilot, lambda: not app.screen.query_one(QueuePanel).has_class("-shown"))
            assert app.focused is not None and app.focused.id == "runs"


async def test_runs_are_compared_pruned_cloned_and_put_away(tmp_path: Path) -> None:
    root = project(tmp_path / "p", 2)
    one, other = a_past(root, "one", 1e-4, 30), a_past(root, "other", 0.0123456789, 60)
    os.utime(other.path)
    app = LoratuiApp(root)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("6")
        await until(pilot, lambda: len(app.runs) == 2)
        await pilot.press("g")
        await pilot.press("space", "space")
        assert "2 marked" in text_of(app)
        await pilot.press("equals_sign")
        await until(pilot, lambda: len(app.screen.query_one(OverlayPlot).curves) == 2)
        assert any("\u2801" <= c <= "\u28ff" for c in text_of(app)) and "60" in text_of(app)
        assert one.id in text_of(app) and other.id in text_of(app)
        await pilot.press("L", "escape", "D")
        await until(pilot, lambda: "optimizer.lr" in text_of(app))
        assert "0.0123456789" in text_of(app) and "a.png: caption" in text_of(app)
        await pilot.press("escape", "P")
        await until(pilot, lambda: "delete old states, 4" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: not list(root.glob("runs/*/checkpoints/*/state")))
        app.screen.marked.clear()
        await until(pilot, lambda: app.screen.under_cursor() is not None)
        run = app.screen.under_cursor()[0]
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, TrainRoom) and app.screen._config is not None)
        wanted = 0.0123456789 if run == other else 1e-4
        await until(pilot, lambda: app.screen._config.optimizer.lr == wanted)
        await pilot.press("6", "d")
        await pilot.press("enter")
        await until(pilot, lambda: not run.path.exists() and len(app.runs) == 1)
        assert (root / ".loratui/trash/runs" / run.id / "run.toml").is_file()


async def test_a_run_is_adjusted_and_a_prompt_drawn_once(tmp_path: Path) -> None:
    root = project(tmp_path / "p", 2)
    writer = RunWriter(root)
    writer.alive()
    writer.write("state", state="running")
    writer.steps(1, 5)
    app = LoratuiApp(root, open_run=str(writer.run.path))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: app.watched is not None and app.watched.state.step == 5)
        await pilot.press("a")
        app.screen.query_one(TextArea).text = "save_every = 7\nlr_factor = 0.5"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: control.pending(writer.run))
        asked = control.pending(writer.run)[0]
        assert asked.kind == "adjust" and asked.args == {"save_every": 7, "lr_factor": 0.5}
        await until(pilot, lambda: "asked for: adjust" in text_of(app))
        writer.write("ack", id=asked.id, request="adjust", ok=False, reason="The disk is full.")
        await until(pilot, lambda: "asked for" not in text_of(app))
        await pilot.press("I")
        app.screen.query_one(TextArea).text = "sks robot once"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: control.pending(writer.run)[1:])
        assert control.pending(writer.run)[1].args == {"prompts": ["sks robot once"]}
        await pilot.press("X", "enter")
        await until(pilot, lambda: control.pending(writer.run)[2:])
        assert control.pending(writer.run)[2].args == {"after": "epoch"}


async def test_a_run_is_exported_again_in_a_format_and_of_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project(tmp_path / "p", 2)
    writer = RunWriter(root)
    writer.alive()
    writer.steps(1, 5)
    for step in (2, 4):
        writer.write("checkpoint", step=step, path=f"checkpoints/step-{step:06d}")
    writer.write("scored", scores={"robot": 0.97})
    writer.write("state", state="finished")
    asked = exports(monkeypatch)
    app = LoratuiApp(root)
    async with app.run_test(size=(200, 60)) as pilot:
        await pilot.press("6")
        await until(pilot, lambda: len(app.runs) == 1 and "score" in text_of(app) and "0.97" in text_of(app))
        await pilot.press("E")
        await pilot.press(*"peft", "space", "4", "enter")
        await until(pilot, lambda: asked)
        await until(pilot, lambda: any("Exported and checked" in n.message for n in app._notifications))
    assert asked[0][2:] == [
        "loratui", "export", str(writer.run.path), "--json", "--format", "peft", "--step", "4",
    ]  # fmt: skip


async def test_new_tokens_alone_have_one_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path / "p", 2)
    writer = RunWriter(root, "words")
    writer.alive()
    writer.steps(1, 5)
    writer.write("checkpoint", step=4, path="checkpoints/step-000004")
    writer.write("state", state="finished")
    head = f'[run]\nid = "{writer.run.id}"\nname = "words"\n'
    writer.run.config_path.write_text(f"{head}[network]\ntokens = 4\ntokens_only = true\n")
    asked = exports(monkeypatch)
    app = LoratuiApp(root)
    async with app.run_test(size=(200, 60)) as pilot:
        await pilot.press("6")
        await until(pilot, lambda: len(app.runs) == 1 and "words" in text_of(app))
        await pilot.press("E")
        await until(pilot, lambda: "embedding" in text_of(app))
        assert "kohya" not in text_of(app)
        await pilot.press("enter")
        await until(pilot, lambda: asked)
    assert asked[0][2:] == ["loratui", "export", str(writer.run.path), "--json"]
