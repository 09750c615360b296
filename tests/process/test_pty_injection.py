"""Hostile text on every surface of the app, judged by the raw bytes that reach the terminal."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from app_kit import APP, HOSTILE, PAYLOADS, RunWriter, environment, leaks, picture, project
from pty_probe import PtyProgram

from loratui.runs import control


def hostile_project(folder: Path) -> RunWriter:
    """Names, captions, settings and a live run, all of them written by an enemy."""
    root = project(folder / f"p{HOSTILE[:40]}", 2, name=HOSTILE, trigger=HOSTILE)
    data = root / "dataset"
    for number, payload in enumerate(PAYLOADS):
        path = data / f"{number}{payload}.png".replace("/", "_")
        picture(path, seed=number)
        path.with_suffix(".txt").write_text(f"{HOSTILE}\nsecond {HOSTILE}")
    (data / os.fsdecode(b"raw\x9b31m\xff\x1b]0;PWNED\x07.png")).write_bytes((data / "01.png").read_bytes())
    (data / f"broken{HOSTILE}.png".replace("/", "_")).write_bytes(b"nothing")
    (root / "presets").mkdir()
    preset = f"[preset]\ntitle = {json.dumps(HOSTILE)}\nabout = {json.dumps(HOSTILE)}\n"
    (root / "presets" / f"evil{PAYLOADS[0]}.toml").write_text(preset)
    run = RunWriter(root, "evil", name=HOSTILE, base=HOSTILE, preset=HOSTILE, prompts=[HOSTILE, "plain"])
    (run.run.samples_dir / "step-000000").mkdir()
    picture(run.run.samples_dir / "step-000000" / "00.png")
    run.alive()
    run.write("state", state="running")
    run.write(
        "sample",
        step=0,
        index=0,
        prompt=HOSTILE,
        seed=1,
        path="samples/step-000000/00.png",
        seconds=1.0,
    )
    run.steps(1, 20)
    run.write("log", level="info", message=HOSTILE)
    run.write("warning", code="x", message=HOSTILE, advice=HOSTILE)
    run.write("sample_failed", step=1, index=1, prompt=HOSTILE, error=HOSTILE)
    run.write("memory", device=HOSTILE, rss_gib=1.0)
    run.write("exported", path=f"export/{HOSTILE}.safetensors", format=HOSTILE, bytes=1)
    run.write("verified", path="x", matched={HOSTILE: [1, 1]}, problems=[])
    run.write("scored", scores={HOSTILE: 0.5})
    run.write("log", level="info", message="seen in the log")
    hostile_captions(root)
    return run


def hostile_captions(root: Path) -> None:
    """A caption run whose model, pictures and settings are an enemy's; its captions wait for a verdict."""
    from loratui.caption.results import Result, Results
    from loratui.captioners.protocol import Said, Tag
    from loratui.dataset.sidecar import read_caption

    run = RunWriter(root, "words", job="caption", family=HOSTILE, name=HOSTILE, steps=99)
    pictures = sorted((root / "dataset").glob("[0-9]*.png"))
    rows = (json.dumps({"path": str(p), "rel": f"dataset/{p.name}"}) for p in pictures)
    run.run.manifest_path.write_text("".join(f"{row}\n" for row in rows))
    (run.run.path / "run.toml").write_text(
        f"[run]\njob = 'caption'\n[caption]\ntemplate = {json.dumps(HOSTILE)}\n"
        f"[captioner.wd]\nmodel = {json.dumps(HOSTILE)}\n[located.wd]\nname = {json.dumps(HOSTILE)}\n"
    )
    results = Results(run.run.path, write=True)
    for index, path in enumerate(pictures):
        said = {HOSTILE: Said(HOSTILE, (Tag(HOSTILE, 0.5, HOSTILE),)), "wd": Said(error=HOSTILE)}
        result = Result(index, f"dataset/{path.name}", said)
        results.add([result])
        results.close_picture(result, "written", "", read_caption(path).text)
    results.close()
    run.alive()
    run.write("state", state="running")
    run.write("progress", what=HOSTILE, done=1, total=3)
    run.write("captioned", index=0, rel=HOSTILE, state="written", text=HOSTILE, reason="")
    run.write(
        "captioned", index=1, rel=f"dataset/{pictures[0].name}", state="failed", text="", reason=HOSTILE
    )
    run.write("warning", code="x", message=HOSTILE, advice=HOSTILE)
    run.run.path.rename(root / "runs" / "20250101-000000-words")  # the other one is newer, and watched


@pytest.mark.parametrize("size", [(80, 24), pytest.param((160, 50), marks=pytest.mark.long)])
def test_no_hostile_byte_reaches_the_terminal(tmp_path: Path, size: tuple[int, int]) -> None:
    """Every room, dialog, notification and the palette; each surface is proved to have been on the screen."""
    run = hostile_project(tmp_path)
    root = run.run.path.parent.parent
    columns, rows = size
    with PtyProgram([*APP, str(root)], columns, rows, env=environment(tmp_path)) as app:

        def look(mark: str, *keys: str) -> None:
            for key in keys:
                app.press(key)
            assert app.wait_written(mark), f"{mark!r} did not come after {keys}:\n" + "\n".join(app.screen())

        # a key that follows escape in the same read would be alt+key: each step waits for the one before
        look("captioned")
        look("tokens", "down")
        look("saved", "enter")
        look("not saved", "x")
        look("saved", "ctrl+s")
        look("mark", "escape")
        look("needs something", "/", *"AND x y", "enter")
        look("batch…", "escape")
        look("change", ":", *"add hat", "enter")
        look("batch…", "escape")
        look("type to narrow", "b")
        look("batch…", "escape")
        look("no caption", "f")
        look("batch…", "escape")
        look("brings", "d")
        look("brings back", "D")
        app.press("escape", 0.6)  # a toast that goes would answer before the dialog does
        look("no edit called", ":", *"nonsense", "enter")
        app.press("escape", 0.6)
        look("larger", "t")
        look("rename", "#")
        look("larger", "escape")
        look("what is trained", "C")
        look("not kept yet", "r")
        look("larger", "enter")
        look("Took back: crop", "u")
        look("buckets at", "B")
        look("larger", "escape")
        look("newest captions", "2")
        look("to look over", "r")
        app.press("j", 0.4)
        look("keep", "e")
        look("Kept as edited", "y", "ctrl+s")
        look("captioners", "escape")
        look("try", "]")
        look("evil␛]", "3")
        look("seen in the log", "4")
        look("asked for", "s")
        for request in control.pending(run.run):
            run.write("ack", id=request.id, request="save", ok=False, reason=f"because {HOSTILE}")
        look("refused: because")
        look("leave it", "x")
        app.press("escape", 0.6)
        look("One prompt a line", "e")
        app.press("escape", 0.6)
        look("favourite", "5")
        look("prompts, one a line", "m")
        app.press("escape", 0.6)
        look("started", "6")
        look("in this screen", "?")
        app.press("escape", 0.6)
        look("what do you want to do?", "ctrl+p")
        look("save", "s", "a")
        run.write("state", state="failed", reason=f"it broke {HOSTILE}", advice=HOSTILE)
        app.press("escape", 0.6)
        look("it broke", "4")
        for _ in range(80):  # all runs are looked at each second
            if b"\x1b]9;loratui: " in app.raw:
                break
            app.listen(0.25)
        else:
            raise AssertionError("the failure was not announced")
        app.press("ctrl+q", 1.0)
        raw = bytes(app.raw)
    assert leaks(raw) == []


def test_the_guard_is_what_holds(tmp_path: Path) -> None:
    """The editor shows the file as it is: without the line filter its bytes would get through."""
    run = hostile_project(tmp_path)
    root = run.run.path.parent.parent
    program = (
        "import sys; from pathlib import Path; from loratui.ui import text, run;"
        "text.TerminalGuard.apply = lambda self, segments, background: segments;"
        "sys.exit(run(Path(sys.argv[1])))"
    )
    argv = [APP[0], "-c", program, str(root)]
    with PtyProgram(argv, 120, 40, env=environment(tmp_path), quiet=0.25) as app:
        assert app.wait_text("captioned", 20) is not None
        app.press("down", 0.3)
        app.press("enter")
        assert app.wait_written("save and leave")
        app.listen(0.3)
        assert leaks(app.raw) != []
