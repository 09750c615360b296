"""Captions in text files beside the pictures: read whatever is there, write so that nothing is ever lost.

`NAME.txt` is read first, then `NAME.caption` (sd-scripts' default). A write goes to a temporary file in
the same folder, is flushed to disk and renamed over the old one, so a reader or a power cut sees the old
caption or the new one, never half of either. Encoding, byte order mark, line ends, final newline and mode
bits stay as they were.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from loratui.errors import DatasetError

SUFFIXES = (".txt", ".caption")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption file as it was read.

    Attributes:
        text: the caption without outer white space, line ends as `\\n`.
        path: the sidecar; where it would be written when it does not exist.
        exists: whether the file is there.
        encoding: how the bytes were read: utf-8, utf-8-sig (with BOM), utf-16-le/be, cp1252.
        newline: the file's line end.
        final_newline: whether the file ends in one.
        raw: the bytes, for a conflict check before a write.
    """

    text: str
    path: Path
    exists: bool = False
    encoding: str = "utf-8"
    newline: str = "\n"
    final_newline: bool = True
    raw: bytes = b""

    @property
    def line(self) -> str:
        """The caption as one line, as it is trained."""
        return " ".join(self.lines)

    @property
    def lines(self) -> tuple[str, ...]:
        """Its lines that are not empty."""
        return tuple(part.strip() for part in self.text.split("\n") if part.strip())


def caption_path(picture: Path) -> Path:
    """The sidecar of a picture: the one that exists, `.txt` before `.caption`, else where it belongs."""
    for suffix in SUFFIXES:
        candidate = picture.with_suffix(suffix)
        if os.path.lexists(candidate):  # false, not an error, for a name that is too long with this suffix
            return candidate
    return picture.with_suffix(SUFFIXES[0])


def read_caption(picture: Path) -> Caption:
    """The caption of a picture; empty with `exists` False when there is no sidecar.

    Raises:
        DatasetError: the file is there and cannot be read.
    """
    path = caption_path(picture)
    return read_caption_file(path)


def read_caption_file(path: Path) -> Caption:
    """Read one sidecar, see `read_caption`."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return Caption("", path)
    except OSError as error:
        raise DatasetError(
            f"The caption {path} cannot be read: {error.strerror}.", "Check the file's owner and mode."
        ) from error
    return decode_caption(raw, path)


def decode_caption(raw: bytes, path: Path) -> Caption:
    """A caption from the bytes of its file."""
    encoding = next((name for bom, name in _BOMS if raw.startswith(bom)), "")
    if encoding.startswith("utf-16"):
        text = raw[2:].decode(encoding, errors="replace")
    elif encoding:
        text = raw[3:].decode("utf-8", errors="replace")
    else:
        try:
            text, encoding = raw.decode("utf-8"), "utf-8"
        except UnicodeDecodeError:
            # cp1252 leaves five bytes undefined; latin-1 reads every byte
            try:
                text, encoding = raw.decode("cp1252"), "cp1252"
            except UnicodeDecodeError:
                text, encoding = raw.decode("latin-1"), "latin-1"
    newline = "\r\n" if "\r\n" in text else "\r" if "\r" in text and "\n" not in text else "\n"
    final = text.endswith(("\n", "\r")) or not raw
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    return Caption(text, path, True, encoding, newline, final, raw)


def write_caption(picture: Path, text: str, expected: Caption | None = None) -> Caption:
    """Write a picture's caption atomically, in the style of the file it replaces.

    Args:
        picture: the picture the caption belongs to.
        text: the new caption; line ends as `\\n`.
        expected: what the caption was when it was shown; when the file has changed since, nothing is written.

    Returns:
        The caption as it now stands on disk.

    Raises:
        DatasetError: the file changed meanwhile, or the folder cannot be written.
    """
    old = read_caption(picture)
    if expected is not None and (old.exists, old.raw) != (expected.exists, expected.raw):
        raise DatasetError(
            f"The caption {old.path.name} was changed by another program meanwhile; nothing was written.",
            "Reload it, then make your change again.",
        )
    path = Path(os.path.realpath(old.path))  # a sidecar that is a link stays a link
    data = _encode(text, old)
    try:
        _replace(path, data)
    except OSError as error:
        raise DatasetError(
            f"The caption {old.path} cannot be written: {error.strerror}.",
            "Check that the folder is not read-only and the disk is not full; the old caption is untouched.",
        ) from error
    return decode_caption(data, old.path)


def _encode(text: str, old: Caption) -> bytes:
    body = text.strip().replace("\r\n", "\n").replace("\r", "\n").replace("\n", old.newline)
    if body and old.final_newline:
        body += old.newline
    if old.encoding.startswith("utf-16"):
        bom = next(mark for mark, name in _BOMS if name == old.encoding)
        return bom + body.encode(old.encoding)
    try:
        return body.encode(old.encoding)
    except UnicodeEncodeError:  # the new text has letters the old encoding lacks
        return body.encode("utf-8", errors="replace")


def _replace(path: Path, data: bytes) -> None:
    """Temp file in the same folder, fsync, rename, fsync of the folder; mode bits kept."""
    temporary = path.with_name(f".loratui-{os.getpid()}-{threading.get_ident()}.tmp")
    # os.open obeys the umask, so a new sidecar gets the mode any other new file would
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            temporary.chmod(path.stat().st_mode & 0o7777)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
            os.fsync(folder)
    finally:
        os.close(folder)
