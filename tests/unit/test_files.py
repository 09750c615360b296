"""Files that are replaced whole: by several writers at once, and where the disk refuses."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from loratui.files import replace_file, sync_folder


def test_a_reader_sees_one_of_the_writers_whole(tmp_path: Path) -> None:
    place = tmp_path / "kept"
    texts = [bytes([65 + n]) * 200_000 for n in range(4)]
    replace_file(place, texts[0])
    failed: list[Exception] = []

    def write(data: bytes) -> None:
        try:
            for _ in range(20):
                replace_file(place, data)
        except OSError as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    seen = []
    while any(writer.is_alive() for writer in writers):
        seen.append(place.read_bytes())
    for writer in writers:
        writer.join()
    assert not failed
    assert seen and all(data in texts for data in seen)
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_mode_is_any_other_new_files(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        replace_file(tmp_path / "kept", b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "kept").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("part", ["write", "fsync"])
def test_a_disk_that_refuses_leaves_the_old_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    place = tmp_path / "kept"
    replace_file(place, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(f"loratui.files.os.{part}", refuse)
        with pytest.raises(OSError, match="full"):
            replace_file(place, b"new")
    assert place.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [place]


def test_a_folder_that_cannot_be_synced_is_no_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loratui.files.os.fsync", refuse)
    sync_folder(tmp_path)


def refuse(*_: object) -> int:
    raise OSError(errno.ENOSPC, "the disk is full")
