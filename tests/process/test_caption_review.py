"""Trying captioners on one picture, and looking over what a run wrote."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import caption_kit as kit
import pytest

from loratui.caption.choosing import choose, readiness
from loratui.caption.describe import Describer, Question
from loratui.caption.review import accept, edit, reject, text_before, waiting
from loratui.captioners.spec import captioner_spec
from loratui.cli.shell import run as loratui
from loratui.errors import JobError
from loratui.project.history import Actor, FileChange, History


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = loratui([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def captioned(tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int = 6, *options: str) -> Any:
    """A project that a tagger has captioned."""
    project = kit.project(tmp_path / "p", count)
    kit.wd(tmp_path / "wd")
    code, _ = answer(
        capsys, "caption", str(project.root), "--model", f"wd={tmp_path / 'wd'}", "--wait", *options
    )
    assert code == 0
    return project


def texts(project: Any) -> dict[str, str]:
    return {p.stem: p.read_text() for p in (project.root / "dataset").glob("*.txt")}


def test_verdicts_survive_a_restart_and_can_be_undone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = captioned(tmp_path, capsys)
    written = texts(project)
    history = History(project.root)
    items = waiting(project, history)
    assert [item.rel for item in items] == [f"dataset/{n:03d}.png" for n in range(6)]
    assert all(0 < item.least_sure < 1 and item.said["wd"].tags for item in items)
    accept(history, items[:1])
    reject(history, items[1:3])
    edit(history, items[3], "mine, by hand")
    assert "001" not in texts(project) and "002" not in texts(project)
    assert texts(project)["003"] == "mine, by hand\n"
    left = waiting(project, History(project.root))  # as after a restart
    assert [item.rel for item in left] == ["dataset/004.png", "dataset/005.png"]
    assert items[3].caption in History(project.root).pinned() and items[1].caption not in history.pinned()
    history.undo()
    history.undo()
    history.undo()
    assert texts(project) == written and len(waiting(project, history)) == 6
    history.redo()
    assert len(waiting(project, history)) == 5


def test_what_changed_since_is_not_taken_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = captioned(tmp_path, capsys)
    history = History(project.root)
    items = waiting(project, history)
    items[0].caption.write_text("changed outside\n")
    history.commit([FileChange(items[1].caption, items[1].caption.read_bytes(), b"by hand\n")], Actor("hand"))
    done = reject(history, items[:2])
    assert len(done.left) == 2 and not done.written
    assert texts(project)["000"] == "changed outside\n" and texts(project)["001"] == "by hand\n"
    assert next(item.rel for item in waiting(project, history)) == "dataset/002.png"


def test_only_the_newest_run_is_judged_and_knows_what_was_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = captioned(tmp_path, capsys)
    before = texts(project)["000"]
    code, second = answer(
        capsys, "caption", str(project.root), "--model", f"wd={tmp_path / 'wd'}", "--wait",
        "--mode", "append", "--set", "suffix=again",
    )  # fmt: skip
    assert code == 0 and second["written"] == 6
    history = History(project.root)
    items = waiting(project, history)
    assert len(items) == 6 and {item.run for item in items} == {second["id"]}
    assert text_before(history, items[0]) == before.strip()
    reject(history, items)
    assert texts(project)["000"] == before
    assert len(waiting(project, history)) == 6  # those of the first run wait again


def test_verdicts_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = captioned(tmp_path, capsys)
    root = str(project.root)
    _, listed = answer(capsys, "review", root)
    assert len(listed["waiting"]) == 6 and listed["waiting"][0]["picture"] == "dataset/000.png"
    _, done = answer(capsys, "review", root, "--accept", "000.png", "--reject", "dataset/001.png")
    assert done["accepted"] == 1 and done["rejected"] == 1 and len(done["waiting"]) == 4
    code, wrong = answer(capsys, "review", root, "--accept", "nobody.png")
    assert code == 2 and "nobody.png" in wrong["error"]
    _, rest = answer(capsys, "review", root, "--reject", "all")
    assert rest["rejected"] == 4 and not rest["waiting"] and len(texts(project)) == 1


def test_a_try_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = kit.project(tmp_path / "p", 2)
    tagger = kit.wd(tmp_path / "wd")
    history = (project.root / ".loratui" / "history" / "log.jsonl").exists()
    code, said = answer(
        capsys, "caption", str(project.root), "--model", f"wd={tagger}", "--try", "001.png",
        "--set", "suffix=the end",
    )  # fmt: skip
    assert code == 0 and said["caption"].startswith("sks robot, ") and said["caption"].endswith("the end")
    assert said["said"]["wd"]["tags"] and said["said"]["wd"]["seconds"] >= 0
    assert not texts(project) and not list(project.runs_dir.glob("*"))
    assert (project.root / ".loratui" / "history" / "log.jsonl").exists() == history


def test_the_child_keeps_its_models_and_can_be_stopped(tmp_path: Path) -> None:
    tagger, clip = kit.wd(tmp_path / "wd"), kit.clip(tmp_path / "clip")
    paths = kit.pictures(tmp_path / "p", 2)
    describer, told = Describer(), list[str]()
    try:
        settings, captioners = choose([f"wd={tagger}"])
        first = describer.ask(Question(paths[0], settings, captioners, "sks"), told.append)
        assert told == ["loading WD tagger", "asking wd"] and first.text.startswith("sks, ")
        told.clear()
        describer.ask(Question(paths[1], settings, captioners), told.append)
        assert told == ["asking wd"]  # loaded already
        with pytest.raises(JobError, match="not there"):
            describer.ask(Question(tmp_path / "none.png", settings, captioners))
        assert describer.ask(Question(paths[0], settings, captioners, "sks")).text == first.text
        settings, captioners = choose([f"clip={clip}"])
        threading.Timer(0.3, describer.stop).start()
        began = time.monotonic()
        with pytest.raises(JobError, match="stopped"):
            describer.ask(Question(paths[0], settings, captioners))
        assert time.monotonic() - began < 5
        process = describer._process
        assert process is not None and process.wait(5) == -9
    finally:
        describer.close()


def test_the_child_ends_with_its_parent() -> None:
    program = [sys.executable, "-m", "loratui.jobs.describe"]
    child = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(20) == 0


def test_readiness_says_what_is_missing(tmp_path: Path) -> None:
    row = captioner_spec("wd")
    assert row is not None
    missing = readiness(row)
    assert not missing.ready and "loratui get SmilingWolf/" in missing.advice
    assert readiness(row, str(kit.wd(tmp_path / "wd"))).ready
    api = captioner_spec("openai-api")
    assert api is not None and "endpoint" in readiness(api).advice
