"""Wrong requests: each is one clear message that says what to do, exit code 2, no traceback, nothing lost."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path

import pytest

from loratui.cli import main
from loratui.project import Project
from loratui.project.demo import make_demo


class Answer:
    """What a command said: exit code, the message for people, the JSON document."""

    def __init__(self, *argv: object) -> None:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            self.code = main([*map(str, argv), "--json"])
        self.text = err.getvalue()
        assert "Traceback" not in self.text
        assert "Unexpected" not in self.text, self.text
        self.document = json.loads(out.getvalue())

    def refused(self, *words: str) -> None:
        assert self.code == 2, self.text
        said = " ".join(
            [self.document["error"], self.document["advice"], *map(str, self.document["problems"])]
        )
        for word in words:
            assert word in said, said
        problems = self.document["problems"]
        assert self.document["error"]
        assert self.document["advice"] or problems, "it says what to do"
        assert self.text.startswith("loratui: ")
        assert len(self.text.splitlines()) <= 12


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORATUI_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("LORATUI_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_demo(tmp_path / "p")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def with_base(project: Project, base: object) -> Project:
    return project.update(base=str(base))


BASES = {
    "missing": ("/nowhere/model", "does not exist"),
    "hub": ("owner/name", "loratui get owner/name"),
    "empty": ("", "base"),
}


@pytest.mark.parametrize("kind", sorted(BASES))
def test_a_base_that_is_not_there(project: Project, kind: str) -> None:
    base, word = BASES[kind]
    with_base(project, base)
    before = snapshot(project.root)
    Answer("train", project.root).refused(word)
    assert snapshot(project.root) == before
    assert not project.runs_dir.exists()


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("model.safetensors", b"\0" * 4, ".safetensors"),
        ("model.safetensors", b"\xff\xff\0\0\0\0\0\0{}", "truncated"),
        ("model.safetensors", b"version https://git-lfs", "git lfs pull"),
        ("model.ckpt", b"PK", "pickled"),
    ],
)
def test_a_base_that_cannot_be_read(
    project: Project, tmp_path: Path, name: str, content: bytes, word: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with_base(project, tmp_path / name)
    Answer("train", project.root).refused(word)
    assert not project.runs_dir.exists()


def test_a_folder_that_is_no_base(project: Project, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with_base(project, tmp_path / "model")
    Answer("train", project.root).refused("model_index.json")


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_a_base_without_the_right_to_read_it(project: Project, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text("{}")
    (tmp_path / "model").chmod(0)
    with_base(project, tmp_path / "model")
    Answer("train", project.root).refused("cannot be read")
    (tmp_path / "model").chmod(0o700)


def test_an_unreadable_base_seen_by_the_check(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above where tests run as root: the file system's refusal is simulated."""
    from loratui.families import detect as families
    from loratui.project.start import assess

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(families, "detect", refuse)
    found = assess(project, project.resolve())
    assert [str(p) for p in found.errors] == [
        "model.base: The base model demo cannot be read: Permission denied. Check its owner and mode."
    ]


def test_an_empty_folder(project: Project) -> None:
    for path in (project.root / "dataset").iterdir():
        path.unlink()
    Answer("train", project.root).refused("no picture", "loratui import")
    Answer("scan", project.root).refused("no usable picture")
    assert not project.runs_dir.exists()


def test_a_corrupt_picture_is_a_row_and_no_end(project: Project) -> None:
    (project.root / "dataset" / "03.png").write_bytes(b"\x89PNG broken")
    answer = Answer("plan", project.root)
    assert answer.code == 0
    assert answer.document["images"] == 15
    assert "left-out" in {p["code"] for p in answer.document["problems"]}
    for path in (project.root / "dataset").glob("*.png"):
        path.write_bytes(b"broken")
    Answer("train", project.root).refused("none of 16", "cannot be decoded", "loratui scan")


@pytest.mark.parametrize("kind", ["file", "dangling"])
def test_a_run_folder_that_cannot_be_made(project: Project, kind: str) -> None:
    """A file in its place refuses even root."""
    if kind == "file":
        project.runs_dir.write_text("in the way")
    else:
        project.runs_dir.symlink_to("/proc/nowhere/runs")
    Answer("train", project.root).refused("run", "write")


@pytest.mark.skipif(os.getuid() == 0, reason="root writes everywhere")
def test_a_read_only_project(project: Project) -> None:
    project.root.chmod(0o500)
    try:
        Answer("train", project.root).refused("Permission denied")
    finally:
        project.root.chmod(0o700)


def test_a_disk_that_fills_while_the_run_is_made_leaves_no_half_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loratui.errors import DatasetError
    from loratui.project import manifest, start

    def full(*_: object) -> int:
        raise DatasetError("manifest.jsonl cannot be written: No space left on device.")

    monkeypatch.setattr(manifest, "write", full)
    monkeypatch.setattr("loratui.runs.launch.job_python", lambda *_: sys.executable)
    with pytest.raises(DatasetError, match="No space left"):
        start.start_training(project, project.resolve())
    assert list(project.runs_dir.iterdir()) == []


def test_no_torch(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LORATUI_PYTHON names an interpreter that has nothing installed."""
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    before = snapshot(project.root)
    for python in (bare, tmp_path / "none"):
        monkeypatch.setenv("LORATUI_PYTHON", str(python))
        Answer("train", project.root).refused("LORATUI_PYTHON")
    assert snapshot(project.root) == before
    assert not project.runs_dir.exists()


def test_unknown_settings_and_presets(project: Project) -> None:
    Answer("train", project.root, "--set", "rnk=4").refused("rnk", "Did you mean `rank`?", "--set")
    Answer("train", project.root, "--set", "rank").refused("key=value")
    Answer("train", project.root, "--preset", "dmeo").refused("dmeo", "Did you mean demo")
    (project.root / "presets").mkdir()
    (project.root / "presets" / "mine.toml").write_text("[network]\nrank = 4\nalhpa = 2\n")
    Answer("train", project.root, "--preset", "mine").refused("mine.toml:3", "network.alpha")
    project.file.write_text(project.file.read_text() + "lrr = 1\n")
    Answer("plan", project.root).refused("loratui.toml:", "lrr", "Did you mean `lr`?")
    assert not project.runs_dir.exists()


def test_all_problems_of_a_training_at_once(project: Project) -> None:
    with_base(project, "/nowhere/model")
    for path in (project.root / "dataset").iterdir():
        path.unlink()
    answer = Answer("train", project.root, "--device", "cpu", "--set", "precision=bf16")
    answer.refused("/nowhere/model", "no picture")
    assert len(answer.document["problems"]) == 2
    Answer("train", project.root, "--device", "cpu", "--set", "precision=fp16").refused("fp16 needs CUDA")
    Answer("train", project.root, "--device", "tpu").refused("auto, cpu, cuda")


def test_a_second_trainer_on_the_same_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is held by this process, as by a trainer that runs."""
    from loratui.project import start
    from loratui.runs import launch
    from loratui.runs.lock import RunLock

    monkeypatch.setattr("loratui.runs.launch.job_python", lambda *_: sys.executable)
    monkeypatch.setattr(launch, "launch", lambda run, job, **_: 0)
    run = start.start_training(project, project.resolve())
    lock = RunLock(run)
    lock.acquire(timeout=1.0)
    try:
        Answer("resume", run.path).refused(str(os.getpid()))
    finally:
        lock.release()


def test_commands_on_what_is_not_there(project: Project, tmp_path: Path) -> None:
    for command in (("status",), ("attach",), ("pause",), ("resume",), ("stop",), ("export",)):
        Answer(*command, tmp_path / "no-run").refused("run")
    Answer("runs", tmp_path / "no-project").refused("does not exist")
    Answer("scan", tmp_path / "no-project").refused("does not exist")
    Answer("train", tmp_path).refused("loratui new")
    Answer("verify", tmp_path / "none.safetensors").refused("does not exist")
    Answer("import", tmp_path / "none", project.root).refused("does not exist")
    Answer("new", project.root, "--base", "demo").refused("a project already")
    Answer("new", tmp_path / "q", "--base", "/nowhere").refused("does not exist")
    assert not (tmp_path / "q").exists()
    Answer("presets", "nope").refused("nope")
    Answer("families", "sd51").refused("Did you mean sd15?")
    Answer("get", "not a hub id").refused("owner/name")


def test_mistyped_commands_and_options() -> None:
    Answer("trian", ".").refused("Did you mean `loratui train`?")
    Answer("scan").refused("DIR")
    Answer("scan", ".", "--jsn").refused("--jsn")
    Answer("export", "x", "--format", "ckpt").refused("kohya")


def test_an_unexpected_error_is_one_line_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from loratui.cli import catalog

    def broken(*_: object) -> int:
        raise ZeroDivisionError("of ours\nsecond line")

    monkeypatch.setattr(catalog, "run_families", broken)
    assert main(["families"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    reports = list((tmp_path / "state" / "reports").iterdir())
    assert len(reports) == 1
    assert str(reports[0]) in said.err
    assert "ZeroDivisionError" in reports[0].read_text()


def test_an_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from loratui.cli import catalog

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(catalog, "run_families", interrupted)
    assert main(["families"]) == 130
    assert "Traceback" not in capsys.readouterr().err
