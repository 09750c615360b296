"""Exclusive locks that name their holder: one writer per run, one job per device.

The kernel's flock decides; the file's text only says who. A holder that dies, however it dies, has let go.
Where the disk knows no flock (some network mounts) a soft lock file of `filelock` stands in, and a holder on
another host that still beats is respected even if flock did not exclude it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from loratui.errors import LockedError, RunError
from loratui.paths import state_dir
from loratui.runs.directory import RunDir
from loratui.runs.liveness import STALE_S, Identity, host_name, is_alive, newest_beat, process_identity

_NO_FLOCK = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTSUP}
_POLL_S = 0.05
_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FileLock:
    """An exclusive lock on one file, with its holder's identity inside.

    Args:
        path: the lock file; made when missing, never removed.
        what: how messages name the thing that is locked.
        run: the run it guards, whose heartbeat tells about holders on other hosts.
    """

    def __init__(self, path: Path, what: str, run: RunDir | None = None) -> None:
        self.path = path
        self.what = what
        self.run = run
        self.notes: dict[str, str] = {}
        """What stands in the file beside the holder."""
        self._fd = -1
        self._soft: Any = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd >= 0

    @property
    def soft(self) -> bool:
        """Whether a lock file stands in for flock, which the disk does not know."""
        return self._soft is not None

    def acquire(self, timeout: float = 0.0) -> None:
        """Take the lock, waiting up to `timeout` seconds.

        Raises:
            LockedError: another process holds it.
            RunError: the lock file cannot be written.
        """
        deadline = time.monotonic() + timeout
        while not self._try():
            if time.monotonic() >= deadline:
                raise self._locked()
            time.sleep(_POLL_S)
        _held.add(self)

    def release(self) -> None:
        """Let go; nothing happens when it is not held."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):  # a full or vanished disk must not keep the lock
            os.ftruncate(self._fd, 0)
        self.forget()
        if self._soft is not None:
            self._soft.release()
            self._soft = None

    def forget(self) -> None:
        """Close this process's hold without unlocking for others: what a forked child does."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        _held.discard(self)

    def owner(self) -> Identity | None:
        """Who the lock file names, alive or not."""
        return owner(self.path)

    def _try(self) -> bool:
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RunError(
                f"The lock of {self.what} cannot be opened: {error.strerror or error}.",
                f"Check that you may write in {self.path.parent}.",
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno in _NO_FLOCK:
                return self._try_soft()
            return False
        return self._named(fd)

    def _try_soft(self) -> bool:
        from filelock import SoftFileLock, Timeout

        soft = SoftFileLock(self.path.with_suffix(".softlock"))
        try:
            soft.acquire(timeout=0)
        except Timeout:
            return False
        self._soft = soft
        return self._named(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))

    def _named(self, fd: int) -> bool:
        """Write our name into the locked file, unless the file was replaced or its holder lives."""
        try:
            here, there = os.fstat(fd), self.path.stat()
            same = (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
        except OSError:
            same = False
        me = process_identity()
        named = owner(self.path)
        if same and (named is None or named == me or not self._lives(named)):
            with contextlib.suppress(OSError):  # on a full disk the lock holds without a name
                os.ftruncate(fd, 0)
                os.pwrite(fd, msgspec.json.encode({**me.as_dict(), **self.notes, "since": time.time()}), 0)
            self._fd = fd
            return True
        os.close(fd)
        if self._soft is not None:
            self._soft.release()
            self._soft = None
        return False

    def _lives(self, named: Identity) -> bool:
        alive = is_alive(named)
        if alive is None and named.host != host_name() and self.run is not None:
            return time.time() - newest_beat(self.run) <= STALE_S
        return bool(alive)

    def _locked(self) -> LockedError:
        named = owner(self.path)
        if named is None:
            return LockedError(f"{self.what} is in use by another process.", "Wait a moment and try again.")
        place = "" if named.host == host_name() else f" on {named.host}"
        if is_alive(named) is False:
            return LockedError(
                f"{self.what} is still held by a process that {named.pid}{place} left behind.",
                f"End the left-over process (see `fuser {self.path}`) and try again.",
            )
        return LockedError(
            f"{self.what} is in use by process {named.pid}{place}.",
            "Watch it with `loratui attach`, or stop it first.",
        )

    def __enter__(self) -> FileLock:
        if not self.held:
            self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.release()


class RunLock(FileLock):
    """The lock of the one writer of a run's journal."""

    def __init__(self, run: RunDir | Path) -> None:
        run = run if isinstance(run, RunDir) else RunDir(run)
        super().__init__(run.lock_path, f"The run {run.id}", run)


class DeviceLock(FileLock):
    """The lock of one device of this machine, `cuda`, `cuda:N` or `cpu` (which only queued runs wait for).

    Args:
        device: its name.
        holder: the run it is taken for, which the file names.
    """

    def __init__(self, device: str, holder: RunDir | None = None) -> None:
        name = "cuda:0" if device == "cuda" else device
        folder = state_dir() / "devices"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"The folder of device locks cannot be made: {error.strerror or error}.",
                f"Check that you may write in {folder.parent}, or set LORATUI_STATE to another folder.",
            ) from error
        # the state folder may lie in a home that several machines share
        file = f"{host_name()}-{re.sub('[^A-Za-z0-9._-]', '-', name)}.lock"
        super().__init__(folder / file, f"The device {name}")
        self.device = name
        self.notes = {"device": name, "run": str(holder.path) if holder is not None else ""}

    def pass_on(self) -> int:
        """Let the lock outlive an `exec` of this process; returns the descriptor that holds it."""
        os.set_inheritable(self._fd, True)
        return self._fd

    def adopt(self, fd: int) -> bool:
        """Take over the descriptor that this process held the lock with before its `exec`."""
        try:
            here, there = os.fstat(fd), self.path.stat()
        except OSError:
            return False
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            return False
        os.set_inheritable(fd, False)
        self._fd = fd
        _held.add(self)
        return True


def owner(path: Path) -> Identity | None:
    """Who a lock file names, alive or not; None when it names nobody."""
    try:
        values = msgspec.json.decode(path.read_bytes() or b"{}")
    except (OSError, msgspec.DecodeError):
        return None
    return Identity.of(values) if isinstance(values, dict) else None


def _forget_in_child() -> None:
    """A forked child (a loader's worker) must not keep a lock alive beyond its parent."""
    for lock in list(_held):
        lock.forget()


os.register_at_fork(after_in_child=_forget_in_child)
