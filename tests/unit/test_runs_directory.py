"""Run directories: made once, found by whatever a person remembers of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from loratui.errors import RunError
from loratui.runs.directory import RunDir, find_run, list_runs, slug

NOON = datetime(2026, 11, 23, 12, 0, 0)


def make(project: Path, name: str, day: int = 1) -> RunDir:
    run = RunDir.create(project / "runs", name, datetime(2026, 11, day))
    run.events_path.touch()
    return run


def test_an_id_is_never_given_twice(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: RunDir.create(tmp_path / "runs", "owl", NOON), range(12)))
    assert len({run.path for run in runs}) == 12
    assert {"20261123-120000-owl", "20261123-120000-owl-2"} <= {run.id for run in runs}


def test_newest_first(tmp_path: Path) -> None:
    old, new = make(tmp_path, "b", 1), make(tmp_path, "a", 2)
    again = make(tmp_path, "a", 2)
    (tmp_path / "runs" / "notes").mkdir()
    assert [r.id for r in list_runs(tmp_path / "runs")] == [again.id, new.id, old.id]
    assert list_runs(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("My LoRA!", "My-LoRA"),
        ("../../etc", "etc"),
        ("", "run"),
        ("...", "run"),
        ("ü\n\x1b[2J", "2J"),
        ("x" * 99, "x" * 48),
    ],
)
def test_names_become_folders(name: str, folder: str) -> None:
    assert slug(name) == folder


def test_found_by_path_id_prefix_name_and_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loratui.toml").touch()
    owl, cat = make(tmp_path, "owl", 1), make(tmp_path, "cat", 2)
    inside = tmp_path / "dataset" / "deep"
    inside.mkdir(parents=True)
    for text in (str(owl.path), owl.id, owl.id[:8], "owl", "ow", str(owl.events_path)):
        assert find_run(text, tmp_path) == owl, text
    assert find_run("owl", inside) == owl
    assert find_run("last", tmp_path) == cat
    assert find_run("runs/" + owl.id, tmp_path) == owl
    assert find_run(str(tmp_path), Path("/")) == cat
    assert find_run("cat", owl.path) == cat
    newer = make(tmp_path, "owl", 3)
    assert find_run("owl", tmp_path) == newer


def test_a_folder_that_may_not_be_read_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, "owl")

    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    assert not run.exists() and list_runs(tmp_path / "runs") == []


def test_not_found_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no runs here"):
        find_run("last", tmp_path)
    make(tmp_path, "owl", 1), make(tmp_path, "otter", 1)
    with pytest.raises(RunError, match="fits 2 runs") as caught:
        find_run("20261101", tmp_path)
    assert "otter" in caught.value.message
    with pytest.raises(RunError) as caught:
        find_run("owk", tmp_path)
    assert "Did you mean owl?" in caught.value.advice


def test_an_unwritable_folder_is_a_clear_refusal(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file, not a folder")
    with pytest.raises(RunError, match="cannot be made") as caught:
        RunDir.create(tmp_path / "runs", "x")
    assert caught.value.advice
