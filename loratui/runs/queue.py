"""The queue of this machine, without a daemon: a file with the order, and processes that wait for their turn.

Each run that needs a device is started at once, as a small process without torch (`jobs.queued`) that looks
at the file twice a second. The first in the file that may take a device takes its lock, leaves the file and
becomes the job, lock in hand. The kernel frees the lock however the job ends. A waiter that was killed is
passed over and swept out; what stands in the file after a restart of the machine is held, until somebody
lets it go on. The file is replaced whole, under a lock; it only says who is next: the device's lock decides.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from loratui.errors import LockedError, RunError
from loratui.files import replace_file
from loratui.paths import state_dir
from loratui.runs.devices import CPU, Want, names_device, wanted
from loratui.runs.directory import RunDir
from loratui.runs.liveness import Identity, host_name, is_alive, process_identity
from loratui.runs.lock import DeviceLock, FileLock, owner

Standing = Literal["waiting", "held", "restarted", "gone"]
LOCKS = "LORATUI_DEVICE_LOCKS"
"""Environment of a job: the pid that was given locks, then device=descriptor for each."""
_LOCK_S = 10.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One run in the queue.

    Attributes:
        run: its directory.
        devices: those it may take.
        count: how many of them at once.
        added: unix time.
        held: passed over until it is released.
        who: the process that waits.
    """

    run: str
    devices: tuple[str, ...] = ()
    count: int = 1
    added: float = 0.0
    held: bool = False
    who: Identity | None = None

    @property
    def standing(self) -> Standing:
        """Whether it counts: `restarted` is held by a restart of the machine, `gone` was killed."""
        alive = is_alive(self.who) if self.who is not None else False
        if alive is None:
            return "restarted"
        if not alive:
            return "gone"
        return "held" if self.held else "waiting"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a device now.

    Attributes:
        device: `cuda:0` or `cpu`.
        run: directory of the run, empty when unknown.
        pid: its process.
    """

    device: str
    run: str
    pid: int


def queue_path() -> Path:
    """The file of this machine; the state folder may lie in a home that several machines share."""
    return state_dir() / "queue" / f"{host_name()}.json"


def entries() -> list[Entry]:
    """The queue in its order, without those that were killed while they waited."""
    return [entry for entry in _read() if entry.standing != "gone"]


def enter(run: RunDir, want: Want, who: Identity | None = None) -> None:
    """Put a run at the end; one that stands there already keeps its place, and is no longer held.

    Raises:
        RunError: the queue cannot be written.
    """
    who = who or process_identity()
    made = Entry(str(run.path), want.devices, want.count, time.time(), who=who)
    with _changing() as queue:
        for at, entry in enumerate(queue):
            if entry.run == made.run:
                queue[at] = replace(made, added=entry.added)
                return
        queue.append(made)


def hand_over(run: RunDir, of: Identity, to: Identity) -> None:
    """The launcher stood in for the process it was starting: name that one, unless it did so itself."""
    with _changing() as queue:
        queue[:] = [
            replace(entry, who=to) if entry.run == str(run.path) and entry.who == of else entry
            for entry in queue
        ]


def leave(run: RunDir) -> Entry | None:
    """Take a run out; returns what stood there."""
    with _changing() as queue:
        found = next((entry for entry in queue if entry.run == str(run.path)), None)
        queue[:] = [entry for entry in queue if entry.run != str(run.path)]
    return found


def hold(run: RunDir, held: bool = True) -> Entry:
    """Pass a run over until it is released.

    Raises:
        RunError: it does not wait, or waits for a process that a restart of the machine has ended.
    """
    return _change(run, lambda entry: replace(entry, held=held))


def move(run: RunDir, to: int) -> int:
    """Give a run the place `to`, 0 for the first; returns the place it has then.

    Raises:
        RunError: it does not wait.
    """
    with _changing() as queue:
        at = _place(queue, run)
        entry = queue.pop(at)
        place = max(0, min(to, len(queue)))
        queue.insert(place, entry)
    return place


def place(run: RunDir, queue: list[Entry] | None = None) -> int | None:
    """Where a run stands, 0 for the first; None when it does not wait."""
    queue = entries() if queue is None else queue
    return next((at for at, entry in enumerate(queue) if entry.run == str(run.path)), None)


def holders() -> list[Holder]:
    """Which device of this machine is in whose hands."""
    found: list[Holder] = []
    prefix = f"{host_name()}-"
    for path in sorted((state_dir() / "devices").glob("*.lock")):
        named = owner(path) if path.name.startswith(prefix) else None
        if named is None or not is_alive(named):
            continue
        try:
            values = msgspec.json.decode(path.read_bytes())
        except (OSError, msgspec.DecodeError):  # it went this moment
            continue
        name = str(values.get("device") or path.stem.removeprefix(prefix))
        found.append(Holder(name, str(values.get("run") or ""), named.pid))
    return found


def ahead(run: RunDir, queue: list[Entry] | None = None) -> list[Entry]:
    """Those that get a device before this run does."""
    queue = entries() if queue is None else queue
    at = place(run, queue)
    if at is None:
        return []
    mine = queue[at]
    return [e for e in queue[:at] if e.standing == "waiting" and set(e.devices) & set(mine.devices)]


def is_busy(want: Want) -> bool:
    """Whether a run that asks for this now would have to wait."""
    taken = {holder.device for holder in holders()}
    for entry in entries():
        if entry.standing == "waiting":
            taken |= set(entry.devices)
    return len([device for device in want.devices if device not in taken]) < want.count


def take_turn(run: RunDir) -> tuple[Literal["waiting", "held", "removed", "taken"], list[DeviceLock]]:
    """Look once whether it is this run's turn; with `taken` come the locks, and it has left the queue.

    Raises:
        RunError: queue or locks cannot be read or written.
    """
    queue = entries()
    at = place(run, queue)
    if at is None:
        return "removed", []
    mine = queue[at]
    if mine.held:
        return "held", []
    before = {device for entry in queue[:at] if entry.standing == "waiting" for device in entry.devices}
    taken: list[DeviceLock] = []
    for device in mine.devices:
        if device in before:
            continue
        lock = DeviceLock(device, run)
        with contextlib.suppress(LockedError):
            lock.acquire()
            taken.append(lock)
        if len(taken) == mine.count:
            leave(run)
            return "taken", taken
    for lock in taken:
        lock.release()
    return "waiting", []


@contextlib.contextmanager
def job_locks(run: RunDir, document: Mapping[str, Any]) -> Iterator[list[DeviceLock]]:
    """For a job, while inside: the locks it was given at its turn, else those of its devices that are free.

    Only a job that did not wait takes what is free: one on the CPU, or one that was started by hand.
    """
    pid, *pairs = os.environ.pop(LOCKS, "").split(" ")
    locks: list[DeviceLock] = []
    try:
        if pid == str(os.getpid()):
            for pair in pairs:
                device, _, fd = pair.rpartition("=")
                lock = DeviceLock(device, run)
                if lock.adopt(int(fd)):
                    locks.append(lock)
        elif not pid:  # else its launcher, another process, holds them
            locks = _free_ones(run, document)
        yield locks
    finally:
        for lock in locks:
            lock.release()


def _free_ones(run: RunDir, document: Mapping[str, Any]) -> list[DeviceLock]:
    if not names_device(document):
        return []
    want = wanted(document) or Want((CPU,))
    taken: list[DeviceLock] = []
    for device in want.devices:
        with contextlib.suppress(LockedError, RunError):  # no reason not to work
            lock = DeviceLock(device, run)
            lock.acquire()
            taken.append(lock)
        if len(taken) == want.count:
            break
    return taken


def _change(run: RunDir, how: Callable[[Entry], Entry]) -> Entry:
    with _changing() as queue:
        at = _place(queue, run)
        queue[at] = how(queue[at])
        return queue[at]


def _place(queue: list[Entry], run: RunDir) -> int:
    at = place(run, queue)
    if at is None:
        raise RunError(
            f"The run {run.id} does not wait in the queue.", "`loratui queue` lists those that do."
        )
    return at


def _read() -> list[Entry]:
    try:
        values = msgspec.json.decode(queue_path().read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except msgspec.DecodeError:  # nobody's order is lost that the waiters do not make again by waiting
        return []
    except OSError as error:
        raise RunError(
            f"The queue {queue_path()} cannot be read: {error.strerror or error}.", "Check its permissions."
        ) from error
    rows = values.get("queue") if isinstance(values, dict) else None
    made = [_entry(row) for row in (rows if isinstance(rows, list) else ()) if isinstance(row, dict)]
    return [entry for entry in made if entry is not None]


def _entry(row: dict[str, Any]) -> Entry | None:
    who = row.get("who")
    try:
        return Entry(
            str(row["run"]),
            tuple(str(device) for device in row["devices"]),
            int(row.get("count", 1)),
            float(row.get("added", 0.0)),
            row.get("held") is True,
            Identity.of(who) if isinstance(who, dict) else None,
        )
    except (KeyError, TypeError, ValueError):
        return None


@contextlib.contextmanager
def _changing() -> Iterator[list[Entry]]:
    """The queue under its lock; what is left in the list is written, without those that were killed."""
    path = queue_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"The folder of the queue cannot be made: {error.strerror or error}.",
            f"Check that you may write in {state_dir().parent}, or set LORATUI_STATE to another folder.",
        ) from error
    lock = FileLock(path.with_suffix(".lock"), "The queue of this machine")
    lock.acquire(_LOCK_S)
    try:
        before = _read()
        queue = [entry for entry in before if entry.standing != "gone"]
        yield queue
        if queue != before:
            data = msgspec.json.encode({"queue": [asdict(entry) for entry in queue]})
            try:
                replace_file(path, data)
            except OSError as error:
                raise RunError(
                    f"The queue {path} cannot be written: {error.strerror or error}.",
                    "Check that the disk has room and that you may write there.",
                ) from error
    finally:
        lock.release()
