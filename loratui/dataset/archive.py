"""Unpacking a zip or tar from anywhere: no byte outside the target, plain files only, limits as it streams.

Files go to a fresh folder beside the target, each opened new and never through a link. What may not come out
is named with a reason; a limit or a damaged archive ends the whole thing and leaves nothing behind.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from loratui.errors import DatasetError, Problem

_CHUNK = 1024 * 1024
_HEADER = 8 * 1024 * 1024
_TAIL = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
SUFFIXES = (".zip", *_TAIL)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an archive may hold, unpacked.

    Attributes:
        files: entries of any kind.
        file_bytes: one file.
        total_bytes: all files.
        ratio: unpacked over packed bytes, judged above 16 MiB.
        depth: folders in one another.
    """

    files: int = 200_000
    file_bytes: int = 1024**3
    total_bytes: int = 200 * 1024**3
    ratio: float = 200.0
    depth: int = 32


@dataclass(slots=True)
class Unpacked:
    """What came out.

    Attributes:
        files: paths below the target, in the order of the archive.
        problems: entries that were left out, with the reason.
        bytes: written.
    """

    files: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    bytes: int = 0


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive this module reads."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(
    source: Path,
    target: Path,
    *,
    keep: Callable[[str], bool] = lambda name: True,
    limits: Limits | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Unpacked:
    """Unpack an archive into `target`, which must not exist yet; it appears whole at the end.

    Args:
        source: a zip or a tar, also compressed.
        target: the folder to make.
        keep: whether a file of this name is wanted; others are passed over in silence.
        limits: see `Limits`.
        on_progress: called with the count of files now and then.

    Raises:
        DatasetError: not an archive, damaged, over a limit, or no room; nothing is left behind.
    """
    if os.path.lexists(target):
        raise DatasetError(f"{target} exists already.", "Unpack into a new folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".loratui-unpack-", dir=target.parent))
    try:
        sink = _Sink(staging, source, keep, limits or Limits(), on_progress)
        try:
            if zipfile.is_zipfile(source) and not source.name.lower().endswith(_TAIL):
                _zip(source, sink)
            else:
                _tar(source, sink)
        except _Damaged as error:
            raise DatasetError(
                f"{source.name} is damaged: {error}.", "Nothing was imported; get it again."
            ) from error
        except OSError as error:
            why = error.strerror or str(error)
            raise DatasetError(
                f"{source.name} cannot be unpacked: {why}.", "Nothing was imported."
            ) from error
        staging.chmod(0o777 & ~_umask())
        staging.rename(target)
        return sink.result
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


class _Damaged(Exception):
    """The archive cannot be read further."""


class _Refused(Exception):
    """One entry may not come out; the text says why."""


class _Sink:
    """Takes entries, refuses names that lead elsewhere, counts, and writes plain files under `root`."""

    def __init__(
        self,
        root: Path,
        source: Path,
        keep: Callable[[str], bool],
        limits: Limits,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        self.root = root
        self.packed = max(1, source.stat().st_size)
        self.keep = keep
        self.limits = limits
        self.on_progress = on_progress
        self.result = Unpacked()
        self._entries = 0
        self._taken: set[str] = set()

    def count(self) -> None:
        """One more entry of any kind.

        Raises:
            DatasetError: too many.
        """
        self._entries += 1
        if self._entries > self.limits.files:
            raise DatasetError(
                f"The archive has more than {self.limits.files} entries.", "Nothing was imported."
            )

    def refuse(self, name: str, reason: str) -> None:
        """Note an entry that is left out."""
        shown = name if len(name) <= 200 else name[:200] + "..."
        self.result.problems.append(Problem(shown, "archive-entry", "warning", f"is left out: {reason}."))

    def place(self, name: str) -> Path:
        """Where an entry goes.

        Raises:
            _Refused: its name leads elsewhere, is taken, or no file can have it.
        """
        if "\x00" in name:
            raise _Refused("its name has a zero byte")
        slashed = name.replace("\\", "/")
        if slashed.startswith("/") or (len(slashed) > 1 and slashed[1] == ":" and slashed[0].isalpha()):
            raise _Refused("its path is absolute")
        parts = [p for p in slashed.split("/") if p not in {"", "."}]
        if ".." in parts:
            raise _Refused("its path leads out of the folder")
        if not parts:
            raise _Refused("it has no name")
        if len(parts) > self.limits.depth:
            raise _Refused("it lies too deep")
        if any(len(os.fsencode(p)) > 255 for p in parts) or len(os.fsencode(slashed)) > 3000:
            raise _Refused("its name is too long")
        key = unicodedata.normalize("NFC", "/".join(parts)).casefold()
        if key in self._taken:
            raise _Refused("another entry has the same name")
        self._taken.add(key)
        return self.root.joinpath(*parts)

    def write(self, name: str, data: IO[bytes]) -> None:
        """Write one file, counting while it streams.

        Raises:
            DatasetError: over a limit.
            _Refused: see `place`.
        """
        path = self.place(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise _Refused("a file and a folder have the same name") from None
        size = 0
        with os.fdopen(handle, "wb") as out:
            while chunk := data.read(_CHUNK):
                size += len(chunk)
                self.result.bytes += len(chunk)
                self._check(size, name)
                out.write(chunk)
        self.result.files.append(path.relative_to(self.root))
        if self.on_progress is not None and len(self.result.files) % 100 == 0:
            self.on_progress(len(self.result.files))

    def _check(self, size: int, name: str) -> None:
        limits, total = self.limits, self.result.bytes
        if size > limits.file_bytes:
            raise DatasetError(
                f"{name[:100]} is larger than {limits.file_bytes} bytes.", "Nothing was imported."
            )
        if total > limits.total_bytes:
            raise DatasetError(
                f"The archive holds more than {limits.total_bytes} bytes.", "Nothing was imported."
            )
        if total > 16 * _CHUNK and total > limits.ratio * self.packed:
            raise DatasetError(
                "The archive grows more than pictures ever do; it may be a bomb.", "Nothing was imported."
            )


def _zip(source: Path, sink: _Sink) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            for info in archive.infolist():
                sink.count()
                _zip_entry(archive, info, sink)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, UnicodeError) as error:
        raise _Damaged(str(error) or type(error).__name__) from error


def _zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, sink: _Sink) -> None:
    name = info.orig_filename if "\x00" in info.orig_filename else info.filename
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.is_dir() or kind == stat.S_IFDIR:
        return
    if kind not in {0, stat.S_IFREG}:
        sink.refuse(name, "it is a link" if kind == stat.S_IFLNK else "it is a device")
        return
    if not sink.keep(name):
        return
    if info.flag_bits & 0x1:
        sink.refuse(name, "it is encrypted")
        return
    try:
        with archive.open(info) as data:
            sink.write(name, data)
    except _Refused as refused:
        sink.refuse(name, str(refused))
    except (NotImplementedError, RuntimeError) as error:
        sink.refuse(name, f"it is packed in an unknown way ({str(error)[:80]})")


class _Stream(io.RawIOBase):
    """A decompressed tar, read forward only; refuses the huge headers that would fill the memory."""

    def __init__(self, inner: IO[bytes], sink: _Sink) -> None:
        super().__init__()
        self.inner = inner
        self.sink = sink
        self.at = 0
        self.last = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        wanted = offset if whence == 0 else self.at + offset
        if whence == 2 or wanted < self.at:
            raise _Damaged("its entries lie in no order")
        while self.at < wanted:
            if not self.read(min(_CHUNK, wanted - self.at)):
                break
        return self.at

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _HEADER:
            raise _Damaged("a header is larger than any real one")
        data = self.inner.read(size)
        self.at += len(data)
        self.last = data
        limits = self.sink.limits
        if self.at > 16 * _CHUNK and self.at > limits.ratio * self.sink.packed:
            raise DatasetError(
                "The archive grows more than pictures ever do; it may be a bomb.", "Nothing was imported."
            )
        return data


_TAR_ERRORS = (
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    UnicodeError,
    gzip.BadGzipFile,
)


def _tar(source: Path, sink: _Sink) -> None:
    opened = _decompressed(source)
    try:
        stream = _Stream(opened, sink)
        with opened, tarfile.open(fileobj=stream, mode="r:") as archive:
            for info in _members(archive):
                sink.count()
                _tar_entry(archive, info, sink)
            if stream.last.strip(b"\0"):  # tarfile takes garbage after an entry for the end
                raise _Damaged("garbage between its entries")
    except _TAR_ERRORS as error:
        raise _Damaged(str(error) or type(error).__name__) from error


def _members(archive: tarfile.TarFile) -> Iterable[tarfile.TarInfo]:
    while (info := archive.next()) is not None:
        yield info
        archive.members.clear()  # type: ignore[attr-defined]  # a tar of a million entries must not pile up in memory


def _tar_entry(archive: tarfile.TarFile, info: tarfile.TarInfo, sink: _Sink) -> None:
    if info.isdir():
        return
    if info.issym() or info.islnk():
        sink.refuse(info.name, "it is a link")
    elif not info.isreg() or info.issparse():
        sink.refuse(info.name, "it is a sparse file" if info.issparse() else "it is a device")
    elif sink.keep(info.name):
        if info.size > sink.limits.file_bytes:
            raise DatasetError(
                f"{info.name[:100]} is larger than {sink.limits.file_bytes} bytes.", "Nothing was imported."
            )
        data = archive.extractfile(info)
        if data is not None:
            try:
                sink.write(info.name, data)
            except _Refused as refused:
                sink.refuse(info.name, str(refused))


def _decompressed(source: Path) -> IO[bytes]:
    with open(source, "rb") as file:
        head = file.read(6)
    if head[:2] == b"\x1f\x8b":
        return cast(IO[bytes], gzip.open(source, "rb"))
    if head[:3] == b"BZh":
        return bz2.open(source, "rb")
    if head[:6] == b"\xfd7zXZ\x00":
        return lzma.open(source, "rb")
    return open(source, "rb")
