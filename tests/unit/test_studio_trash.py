"""The trash: picture, caption and mask go and come back together, nothing is overwritten, nothing half."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from loratui.errors import DatasetError
from loratui.project import trash as module
from loratui.project.trash import Trash


@pytest.fixture
def root(tmp_path: Path) -> Path:
    data = tmp_path / "dataset"
    data.mkdir()
    for name, text in {
        "a.png": b"A",
        "a.txt": b"cap",
        "a-masklabel.png": b"M",
        "b.png": b"B",
        "b.jpg": b"J",
    }.items():
        (data / name).write_bytes(text)
    (data / "b.txt").write_bytes(b"shared")
    return tmp_path


def files(root: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((root / "dataset").iterdir())}


def test_all_of_a_picture_goes_and_comes_back(root: Path) -> None:
    before = files(root)
    (item,) = Trash(root).put([root / "dataset" / "a.png"])
    assert sorted(files(root)) == ["b.jpg", "b.png", "b.txt"]
    assert Trash(root).items() == [item] and item.kept.read_bytes() == b"A"
    Trash(root).restore([item.id])
    assert files(root) == before and not Trash(root).items()
    assert not list((root / ".loratui" / "trash").iterdir())


def test_a_shared_caption_stays(root: Path) -> None:
    Trash(root).put([root / "dataset" / "b.png"])
    assert "b.txt" in files(root)


def test_nothing_is_overwritten(root: Path) -> None:
    (item,) = Trash(root).put([root / "dataset" / "a.png"])
    (root / "dataset" / "a.txt").write_bytes(b"other")
    with pytest.raises(DatasetError, match="taken"):
        Trash(root).restore([item.id])
    assert files(root)["a.txt"] == b"other" and "a.png" not in files(root)
    assert Trash(root).items() == [item]


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM])
def test_across_file_systems(root: Path, monkeypatch: Any, code: int) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module.os, "link", no_link)
    before = files(root)
    (item,) = Trash(root).put([root / "dataset" / "a.png"])
    Trash(root).restore([item.id])
    assert files(root) == before


@pytest.mark.parametrize("fail_at", [1, 2])
def test_a_failure_in_the_middle_puts_all_back(root: Path, monkeypatch: Any, fail_at: int) -> None:
    before, calls, real = files(root), [0], module._move

    def move(source: Path, target: Path) -> None:
        calls[0] += 1
        if calls[0] == fail_at + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    monkeypatch.setattr(module, "_move", move)
    with pytest.raises(DatasetError, match="No space left"):
        Trash(root).put([root / "dataset" / "a.png"])
    assert files(root) == before


@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_a_kill_in_the_middle_is_recovered(root: Path, monkeypatch: Any, moved: int) -> None:
    before, calls, real = files(root), [0], module._move

    class Killed(BaseException):
        pass

    def move(source: Path, target: Path) -> None:
        if calls[0] == moved:
            raise Killed
        calls[0] += 1
        real(source, target)

    monkeypatch.setattr(module, "_move", move)
    monkeypatch.setattr(Trash, "_write", _write_then_die(Trash._write, moved == 3, Killed))
    with pytest.raises(Killed):
        Trash(root).put([root / "dataset" / "a.png"])
    monkeypatch.undo()
    Trash(root).recover()
    assert files(root) == before and not Trash(root).items()


def _write_then_die(real: Any, die: bool, error: type[BaseException]) -> Any:
    def write(self: Trash, item: Any) -> None:
        if die and item.complete:
            raise error
        real(self, item)

    return write


def test_a_foreign_item_cannot_write_elsewhere(root: Path, tmp_path: Path) -> None:
    (item,) = Trash(root).put([root / "dataset" / "a.png"])
    text = (item.folder / "item.json").read_text()
    (item.folder / "item.json").write_text(text.replace("dataset/a.png", "../../evil.png"))
    with pytest.raises(DatasetError, match="outside"):
        Trash(root).restore([item.id])
    for name in ("..", "../history", "", "nothing"):
        with pytest.raises(DatasetError, match=r"no .* in the trash"):
            Trash(root).purge([name])


def test_a_kill_between_copy_and_removal_is_recovered(root: Path, monkeypatch: Any) -> None:
    before = files(root)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        Trash(root).put([root / "dataset" / "a.png"])
    monkeypatch.undo()
    Trash(root).recover()
    assert files(root) == before and not Trash(root).items()


def test_purge_frees(root: Path) -> None:
    (item,) = Trash(root).put([root / "dataset" / "a.png"])
    assert Trash(root).purge([item.id]) == 5 and not Trash(root).items()


def test_pictures_outside_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "x.png").write_bytes(b"x")
    with pytest.raises(DatasetError, match="outside"):
        Trash(tmp_path / "project").put([tmp_path / "x.png"])
    assert len(Trash(tmp_path / "project", [tmp_path]).put([tmp_path / "x.png"])) == 1
    with pytest.raises(DatasetError, match="not there"):
        Trash(tmp_path / "project", [tmp_path]).put([tmp_path / "x.png"])
