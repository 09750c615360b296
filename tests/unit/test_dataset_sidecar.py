"""Captions beside pictures: whatever is there is read, and a write keeps style and never loses anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratui.dataset import sidecar
from loratui.dataset.sidecar import read_caption, write_caption
from loratui.errors import DatasetError


def caption_file(tmp_path: Path, raw: bytes, name: str = "a.txt") -> Path:
    (tmp_path / name).write_bytes(raw)
    return tmp_path / "a.png"


@pytest.mark.parametrize(
    ("raw", "text", "encoding"),
    [
        (b"a cat, red\n", "a cat, red", "utf-8"),
        (b"\xef\xbb\xbfa cat\r\n", "a cat", "utf-8-sig"),
        ("a cät".encode("utf-16"), "a cät", "utf-16-le"),
        (b"caf\xe9", "café", "cp1252"),
        (b"\x81caf\xe9", "\x81café", "latin-1"),
        (b"", "", "utf-8"),
        (b"one\r\ntwo\r\n", "one\ntwo", "utf-8"),
        (b"old\rmac\r", "old\nmac", "utf-8"),
    ],
)
def test_reading(tmp_path: Path, raw: bytes, text: str, encoding: str) -> None:
    caption = read_caption(caption_file(tmp_path, raw))
    assert (caption.text, caption.encoding, caption.exists) == (text, encoding, True)


def test_no_file_is_no_caption(tmp_path: Path) -> None:
    caption = read_caption(tmp_path / "a.png")
    assert (caption.text, caption.exists, caption.path.name) == ("", False, "a.txt")


def test_txt_comes_before_caption(tmp_path: Path) -> None:
    caption_file(tmp_path, b"two", "a.caption")
    assert read_caption(tmp_path / "a.png").text == "two"
    caption_file(tmp_path, b"one", "a.txt")
    assert read_caption(tmp_path / "a.png").text == "one"


@pytest.mark.parametrize(
    "raw",
    [
        b"a cat\n",
        b"a cat",
        b"\xef\xbb\xbfa cat\r\n",
        "a cät\n".encode("utf-16-le"),
        b"caf\xe9\n",
        b"one\r\ntwo\r\n",
    ],
)
def test_writing_what_was_read_changes_no_byte(tmp_path: Path, raw: bytes) -> None:
    if raw == "a cät\n".encode("utf-16-le"):
        raw = b"\xff\xfe" + raw
    picture = caption_file(tmp_path, raw)
    write_caption(picture, read_caption(picture).text)
    assert (tmp_path / "a.txt").read_bytes() == raw


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    picture = tmp_path_factory.getbasetemp() / "same.png"
    wanted = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    assert write_caption(picture, text).text == wanted
    assert read_caption(picture).text == wanted


def test_letters_that_the_old_encoding_lacks_make_it_utf8(tmp_path: Path) -> None:
    picture = caption_file(tmp_path, b"caf\xe9\n")
    write_caption(picture, "café 猫")
    assert (tmp_path / "a.txt").read_bytes() == "café 猫\n".encode()


def test_mode_bits_links_and_neighbours_stay(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere" / "real.txt"
    real.parent.mkdir()
    real.write_text("old")
    real.chmod(0o640)
    (tmp_path / "a.txt").symlink_to(real)
    write_caption(tmp_path / "a.png", "new")
    assert (tmp_path / "a.txt").is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640
    assert {p.name for p in real.parent.iterdir()} == {"real.txt"}, "no temporary file is left"


def test_a_new_file_obeys_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_caption(tmp_path / "a.png", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_a_change_by_another_program_is_not_overwritten(tmp_path: Path) -> None:
    picture = caption_file(tmp_path, b"shown")
    shown = read_caption(picture)
    (tmp_path / "a.txt").write_bytes(b"theirs")
    with pytest.raises(DatasetError, match="changed by another program"):
        write_caption(picture, "mine", expected=shown)
    assert (tmp_path / "a.txt").read_bytes() == b"theirs"
    again = write_caption(picture, "mine", expected=read_caption(picture))
    assert again.text == "mine"


def test_a_failed_write_leaves_the_old_caption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = caption_file(tmp_path, b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sidecar.os, "fsync", full)
    with pytest.raises(DatasetError, match="No space left"):
        write_caption(picture, "new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a.txt": b"old"}


def test_a_folder_in_the_place_of_a_caption(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(DatasetError, match="cannot be read"):
        read_caption(tmp_path / "a.png")
