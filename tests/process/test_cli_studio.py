"""The studio's commands as scripts use them: filters, edits with their diff, undo, history, trash, audit."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from loratui.cli import main
from loratui.project import Project

STRANGE = [
    "cafe\u0301.png",
    "caf\u00e9.png",
    "\U0001f600.png",
    "a" * 251 + ".png",
    "new\nline.png",
    "[/b].png",
    "\x1b[31mred.png",
    "tail\udcff.png",
    "-dash.png",
]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORATUI_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("LORATUI_STATE", str(tmp_path / "state"))


def noise(path: Path, seed: int, size: tuple[int, int] = (96, 64)) -> None:
    Image.frombytes("RGB", size, random.Random(seed).randbytes(size[0] * size[1] * 3)).save(path)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "p"
    (folder / "dataset").mkdir(parents=True)
    captions = ["robot, hat, sky", "robot, sky", "a robot is standing in the rain with its umbrella."]
    for number in range(4):
        noise(folder / "dataset" / f"{number}.png", number)
        if number < 3:
            (folder / "dataset" / f"{number}.txt").write_text(captions[number])
    Project.create(folder, "demo", "robot", preset="demo")
    return folder


def ask(capsys: pytest.CaptureFixture[str], *argv: object, code: int = 0) -> Any:
    assert main([*map(str, argv), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def say(capsys: pytest.CaptureFixture[str], *argv: object, code: int = 0) -> tuple[str, str]:
    assert main([*map(str, argv)]) == code
    found = capsys.readouterr()
    return found.out, found.err


def text(project: Path, number: int) -> str:
    return (project / "dataset" / f"{number}.txt").read_text()


def test_query_selects_sorts_and_counts(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "query", project, "tag:hat") == {"count": 1, "paths": ["dataset/0.png"]}
    assert ask(capsys, "query", project, "captioned:no")["paths"] == ["dataset/3.png"]
    paths = ask(capsys, "query", project, "kind:tags AND captioned:yes", "--sort=-tags")["paths"]
    assert paths == ["dataset/0.png", "dataset/1.png"]
    assert ask(capsys, "query", project)["count"] == 4
    assert ask(capsys, "query", project, "problem:missing-caption")["paths"] == ["dataset/3.png"]


def test_a_wrong_filter_points_at_the_character(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = say(capsys, "query", project, "widht:<512", code=2)
    assert not out
    assert "widht:<512\n  ^" in err
    assert "width" in err
    assert ask(capsys, "edit", project, "clear", "--where", "tag:(", code=2)["error"]
    assert text(project, 0) == "robot, hat, sky"


def test_kept_filters_are_used_by_name(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask(capsys, "query", project, "tag:hat", "--keep", "hats")
    assert ask(capsys, "query", project, "@hats")["count"] == 1
    assert ask(capsys, "query", project, "--kept")["kept"] == {"hats": "tag:hat"}
    assert "Did you mean @hats" in say(capsys, "query", project, "@hat", code=2)[1]
    assert ask(capsys, "query", project, "--forget", "hats")["kept"] == {}


def test_an_edit_shows_its_diff_and_undo_returns_every_byte(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "dataset" / "1.txt").write_bytes("\ufeffrobot, sky\r\n".encode())
    before = {p.name: p.read_bytes() for p in (project / "dataset").iterdir()}
    out, _ = say(capsys, "edit", project, "rename", "--dry-run", "sky", "clouds")
    assert "[-sky-]{+clouds+}" in out
    assert "2 captions would change" in out
    assert "prose" in out
    assert {p.name: p.read_bytes() for p in (project / "dataset").iterdir()} == before
    done = ask(capsys, "edit", project, "rename", "sky", "clouds", "--where", "tag:hat OR width:96")
    assert done["changed"] == 2
    assert done["entry"] == 1
    assert done["left_alone"][0]["reason"].startswith("prose")
    assert (project / "dataset" / "1.txt").read_bytes() == "\ufeffrobot, clouds\r\n".encode()
    assert ask(capsys, "undo", project)["steps"][0]["label"] == "rename sky to clouds"
    assert {p.name: p.read_bytes() for p in (project / "dataset").iterdir()} == before
    assert ask(capsys, "redo", project)["steps"]
    assert text(project, 0) == "robot, hat, clouds"
    assert ask(capsys, "undo", project, "--steps", 9)["steps"]
    assert ask(capsys, "undo", project)["steps"] == []


def test_wrong_operations_name_what_they_take(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean rename" in say(capsys, "edit", project, "renam", "a", "b", code=2)[1]
    assert "rename OLD NEW" in say(capsys, "edit", project, "rename", "a", code=2)[1]
    assert "kind tags|prose|auto" in say(capsys, "edit", project, "kind", "verse", code=2)[1]


def test_kind_stars_and_pins_are_set_and_heeded(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask(capsys, "edit", project, "kind", "tags", "--where", "name:2")
    assert ask(capsys, "query", project, "kind:prose")["count"] == 0
    ask(capsys, "edit", project, "stars", "4", "--where", "name:1")
    assert ask(capsys, "query", project, "stars:>3")["paths"] == ["dataset/1.png"]
    ask(capsys, "edit", project, "pin", "--where", "name:0")
    done = ask(capsys, "edit", project, "add", "x")
    assert [c["path"] for c in done["left_alone"]] == ["dataset/0.png"]
    assert done["reasons"] == {"pinned by hand": 1}
    ask(capsys, "edit", project, "add", "x", "--include-pinned")
    assert text(project, 0) == "robot, hat, sky, x"


def test_rules_and_order_come_from_files(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = project / "rules.txt"
    rules.write_text("hat -> clothes\n-sky\n")
    ask(capsys, "edit", project, "imply", rules)
    assert text(project, 0) == "robot, hat, clothes"
    rules.write_text("hat clothes\n")
    assert f"{rules}:1" in say(capsys, "edit", project, "imply", rules, code=2)[1]
    order = project / "order.txt"
    order.write_text("clothes\nhat\n")
    ask(capsys, "edit", project, "sort", "list", order, "1")
    assert text(project, 0) == "robot, clothes, hat"


def test_history_tells_who_did_what_and_goes_back(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tag in ("one", "two"):
        ask(capsys, "edit", project, "add", tag)
    steps = ask(capsys, "history", project)
    assert [s["label"] for s in steps["steps"]] == ["add two last", "add one last"]
    assert steps["steps"][0]["actor"]["kind"] == "batch"
    story = ask(capsys, "history", project, "0.png")
    origin = {row["tag"]: row["entry"] for row in story["tags"]}
    assert origin == {"robot": 0, "hat": 0, "sky": 0, "one": 1, "two": 2}
    assert [s["after"] for s in story["steps"]] == ["robot, hat, sky, one", "robot, hat, sky, one, two"]
    ask(capsys, "history", project, "0.png", "--restore", 0)
    assert (text(project, 0), text(project, 1)) == ("robot, hat, sky", "robot, sky, one, two")
    ask(capsys, "history", project, "--restore", 1)
    assert (text(project, 0), text(project, 1)) == ("robot, hat, sky, one", "robot, sky, one")
    assert "no picture" in say(capsys, "history", project, "nobody", code=2)[1]
    assert "no entry 99" in say(capsys, "history", project, "--restore", 99, code=2)[1]


def test_trash_takes_and_gives_back(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask(capsys, "trash", project, "put", "0.png")
    assert ask(capsys, "query", project)["count"] == 3
    assert not (project / "dataset" / "0.txt").exists()
    ask(capsys, "undo", project)
    assert text(project, 0) == "robot, hat, sky"
    ask(capsys, "trash", project, "put", "--where", "captioned:no")
    item = ask(capsys, "trash", project)["items"][0]
    assert item["picture"].endswith("3.png")
    assert ask(capsys, "trash", project, "restore", item["id"])["restored"]
    ask(capsys, "trash", project, "put", "3.png")
    assert "--yes" in say(capsys, "trash", project, "purge", "all", code=2)[1]
    assert ask(capsys, "trash", project, "purge", "all", "--yes")["bytes"] > 0
    assert "no picture" in say(capsys, "trash", project, "put", "9.png", code=2)[1]


def test_audit_finds_the_blurred_the_doubled_and_the_damaged(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project / "dataset"
    shutil.copy(folder / "0.png", folder / "again.png")
    few = np.random.default_rng(5).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(few).resize((1500, 1200), Image.Resampling.BICUBIC).save(folder / "soft.png")
    (folder / "broken.png").write_bytes((folder / "2.png").read_bytes()[:200])
    found = {f["code"]: f for f in ask(capsys, "audit", project)["findings"]}
    assert set(found["near-duplicate"]["paths"]) == {"dataset/0.png", "dataset/again.png"}
    assert "dataset/soft.png" in found["blurry"]["paths"]
    assert found["truncated-image"]["paths"] == ["dataset/broken.png"]
    assert "dataset/3.png" in found["missing-caption"]["paths"]
    assert ask(capsys, "query", project, "dup:>1")["count"] == 2
    assert "dataset/soft.png" in ask(capsys, "query", project, "blur:yes")["paths"]


def test_a_conflict_writes_nothing_and_shows_both_texts(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(capsys, "edit", project, "add", "x")
    (project / "dataset" / "0.txt").write_text("mine")
    _, err = say(capsys, "undo", project, code=1)
    assert text(project, 0) == "mine"
    assert text(project, 1) == "robot, sky"
    assert "mine" in err
    assert "robot, hat, sky" in err


@pytest.mark.parametrize("name", STRANGE, ids=range(len(STRANGE)))
def test_strange_names_go_through_every_command(
    name: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project / "dataset"
    picture = folder / name
    picture.parent.mkdir(exist_ok=True)
    noise(picture, 7)
    sidecar = picture.with_suffix(".txt")
    sidecar.write_text("robot, odd")
    assert ask(capsys, "query", project, "tag:odd")["count"] == 1
    done = ask(capsys, "edit", project, "add", "new", "--where", "tag:odd")
    assert done["changed"] == 1
    assert sidecar.read_text() == "robot, odd, new"
    for argv in (
        ("query", project), ("scan", project), ("audit", project), ("history", project),
        ("edit", project, "add", "more", "--dry-run"), ("undo", project), ("redo", project),
        ("frame", project, "--turn", 90, "--where", "tag:odd"),
        ("trash", project),
    ):  # fmt: skip
        out, err = say(capsys, *argv)
        assert "\x1b" not in out + err
    ask(capsys, "trash", project, "put", "--where", "tag:odd")
    assert not picture.exists()
    ask(capsys, "undo", project)
    assert picture.exists()
    out = project.parent / "out"
    ask(capsys, "export", project, "--format", "imagefolder", "--out", out)
    assert len(list(out.glob("*.png"))) == 5
    baked = project.parent / "baked"
    assert ask(capsys, "export", project, "--format", "zip", "--out", baked, "--bake")["baked"] == 1


def test_export_writes_what_other_tools_read(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("kohya-folders", "imagefolder", "ai-toolkit", "zip"):
        target = project.parent / f"out-{kind}"
        done = ask(capsys, "export", project, "--format", kind, "--out", target, "--where", "captioned:yes")
        assert (done["images"], done["captions"]) == (3, 3)
        assert Path(done["path"]).exists()
    back = project.parent / "back"
    Project.create(back, "demo", "robot", preset="demo")
    ask(capsys, "import", project.parent / "out-kohya-folders" / "dataset.toml", back)
    assert ask(capsys, "query", back, "captioned:yes")["count"] == 3
    other = project.parent / "other"
    Project.create(other, "demo", "robot", preset="demo")
    ask(capsys, "import", project.parent / "out-imagefolder", other)
    assert ask(capsys, "query", other, "tag:hat")["count"] == 1
    say(capsys, "export", project, "--format", "peft", code=2)
    say(capsys, "export", project, "--format", "zip", "--out", project.parent / "out-zip.zip", code=2)
