"""Replacing a caption file whole: never half-written, never outside the project's folders."""

# Ten thousand files a step: plain strings and descriptors are several times faster here.
# ruff: noqa: PTH100, PTH105, PTH108, PTH112, PTH114, PTH116, PTH118, PTH120, PTH122

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

SUFFIXES = frozenset({".txt", ".caption"})
"""The only files the history writes: a log from elsewhere must not become a way to write others."""
_LARGEST = 4 * 1024 * 1024


class WriteProblem(Exception):
    """A file the history does not touch; the text says why."""


class FileWriter:
    """Reads and replaces files under some folders.

    Args:
        roots: the folders; links in between are followed, but must end inside one of them.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(os.path.realpath(r) for r in roots)
        self._folder = lru_cache(maxsize=4096)(self._checked_folder)

    def _checked_folder(self, folder: str) -> str:
        real = os.path.realpath(folder)
        for root in self._roots:
            if real == root or real.startswith(root.rstrip("/") + "/"):
                return real
        raise WriteProblem("lies outside the project and its sources")

    def target(self, path: Path) -> str:
        """Where the bytes of `path` really lie.

        Raises:
            WriteProblem: outside of the folders, or no caption file.
        """
        name = os.path.abspath(path)
        if os.path.islink(name):
            name = os.path.realpath(name)
        folder, base = os.path.split(name)
        if os.path.splitext(base)[1].lower() not in SUFFIXES:
            raise WriteProblem("is not a caption file")
        return os.path.join(self._folder(folder), base)

    def read(self, path: Path) -> bytes | None:
        """Its bytes now, None when there is no such file.

        Raises:
            WriteProblem: it cannot be read, or is no plain file of a caption's size.
        """
        target = self.target(path)
        try:
            handle = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            if not os.path.isdir(os.path.dirname(target)):
                raise WriteProblem("its folder is gone") from None
            self._writable(target)
            return None
        except OSError as error:
            raise WriteProblem(f"cannot be read: {error.strerror}") from None
        with os.fdopen(handle, "rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise WriteProblem("is not a plain file")
            if info.st_size > _LARGEST:
                raise WriteProblem("is too large for a caption")
            self._writable(target)
            return file.read()

    def _writable(self, target: str) -> None:
        if not os.access(os.path.dirname(target), os.W_OK | os.X_OK):
            raise WriteProblem("its folder is read-only")

    def write(self, path: Path, data: bytes | None, number: int) -> None:
        """Replace the file (None removes it); a reader sees the old one or the new one.

        Raises:
            OSError: it could not be written; the old one stands.
            WriteProblem: it is none of ours.
        """
        target = self.target(path)
        if data is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(target)
            return
        temporary = self._temporary(target, number)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            try:
                with contextlib.suppress(FileNotFoundError):
                    os.fchmod(handle, stat.S_IMODE(os.stat(target).st_mode))
                view = memoryview(data)
                while view:
                    view = view[os.write(handle, view) :]
            finally:
                os.close(handle)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise

    def sync(self, path: Path) -> None:
        """Flush the file to disk, where it is one."""
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(self.target(path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def sweep(self, path: Path, number: int) -> None:
        """Remove the temporary file an entry may have left beside `path`."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temporary(self.target(path), number))

    def _temporary(self, target: str, number: int) -> str:
        folder, base = os.path.split(target)
        short = hashlib.sha256(os.fsencode(base)).hexdigest()[:16]
        return os.path.join(folder, f".loratui-{number}-{short}.tmp")
