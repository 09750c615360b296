"""The process shell of every job: lock, journal, signals, log, and one clear end for whatever happens.

A job module ends with

    if __name__ == "__main__":
        run_job(main)

and imports what is heavy inside `main`, so that the lock is taken and the heart beats before torch is loaded.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import IO, Any, NoReturn, cast

from loratui.errors import LockedError, LoratuiError, RunError
from loratui.jobs import _ranks
from loratui.runs import control, queue
from loratui.runs.control import Request
from loratui.runs.directory import RunDir
from loratui.runs.journal import Journal
from loratui.runs.launch import (
    identify,
    newest_checkpoint,
    open_attempt,
    refuse_while_alive,
    run_document,
)
from loratui.runs.lock import RunLock
from loratui.runs.plain import clean, clean_log
from loratui.runs.state import ENDED, RunState

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TAKEOVER_S = 60.0
_CONTROL_S = 0.2
_LONGEST_MESSAGE = 500
_LOGS_PER_S = 5.0
_log = logging.getLogger("loratui.jobs")


class Context:
    """What the shell gives to a job.

    Attributes:
        run: the run directory.
        journal: where events go; `journal.state` is their fold.
        stop_requested: why the job should save and return at the next step, empty while it should go on.
        ranks: the other processes of the job (`train.ranks`), None until it has met them.
    """

    leads = True

    def __init__(self, run: RunDir, journal: Journal) -> None:
        self.run = run
        self.journal = journal
        self.stop_requested = ""
        self.ranks: Any = None
        self._looked_at = 0.0
        self._handed_out: set[str] = set()

    @property
    def state(self) -> RunState:
        """The run as its events have it so far."""
        return self.journal.state

    @property
    def attempt(self) -> int:
        """1 for the first start, one more for each resume."""
        return self.journal.attempt

    @property
    def from_step(self) -> int:
        """The step this attempt begins at: that of the newest checkpoint, 0 for a fresh start."""
        return self.journal.state.memo.from_step

    def set_state(self, state: str, reason: str = "", advice: str = "") -> None:
        """Announce a state: caching, running, paused, stopping, or the end (finished, stopped)."""
        self.journal.write("state", state=state, reason=clean(reason), advice=clean(advice))

    def set_device(self, device: str) -> None:
        """Name the device that this process works on."""
        identify(self.journal, os.getpid(), device)

    def rewind(self, step: int) -> None:
        """Begin this attempt earlier than it was opened with: the checkpoint there turned out damaged."""
        self.journal.write("opened", from_step=step)

    def controls(self) -> list[Request]:
        """Requests not handed out yet, oldest first; answer each with `ack`.

        Cheap enough for every step: the folder is looked at 5 times a second at most. Requests that cannot be
        obeyed (unreadable, of an unknown kind) are refused here.
        """
        now = time.monotonic()
        if now - self._looked_at < _CONTROL_S:
            return []
        self._looked_at = now
        fresh = []
        for request in control.pending(self.run):
            if request.id in self._handed_out:
                continue
            self._handed_out.add(request.id)
            if request.problem:
                self.ack(request, ok=False, reason=request.problem)
            else:
                fresh.append(request)
        return fresh

    def ack(self, request: Request, ok: bool = True, reason: str = "") -> None:
        """Answer a request and take its file away."""
        self.journal.write("ack", id=request.id, request=request.kind, ok=ok, reason=reason)
        with contextlib.suppress(OSError):  # it stays, and is not handed out again
            control.remove(self.run, request)


def run_job(main: Callable[[Context], None], argv: list[str] | None = None) -> NoReturn:
    """Run `main` as the job of the run directory named on the command line, then exit.

    A return without a state of its own means finished, or stopped when a stop was requested. Exit code 0 for
    these, 1 for failed, 2 when the run cannot be worked on at all.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        sys.stderr.write(f"usage: python -m {main.__module__} RUN\n")
        sys.exit(2)
    run = RunDir(arguments[0])
    _ranks.die_with_launcher()
    with _plain_output(run):
        sys.exit(_follow(main, run) if _ranks.rank() else _shell(main, run))


def _shell(main: Callable[[Context], None], run: RunDir) -> int:
    """Lock, journal and signals around `main`; the exit code."""
    stop = _Stop()
    with stop.installed():
        try:
            lock = RunLock(_existing(run))
            lock.acquire(_TAKEOVER_S)
        except LoratuiError as error:
            _log.error("%s %s", error.message, error.advice)
            return 2
        try:
            with Journal(run) as journal, queue.job_locks(run, run_document(run)):
                context = Context(run, journal)
                stop.context = context
                _take_over(context, main)
                with _logged_to(journal):
                    return _work(main, context, stop)
        except LoratuiError as error:
            _log.error("%s %s", error.message, error.advice)
            return 2
        finally:
            lock.release()


def _follow(main: Callable[[Any], None], run: RunDir) -> int:
    """What `_shell` is for the processes of a job beside its first: signals, and errors into the log."""
    stop = _Stop()
    logging.getLogger().setLevel(logging.ERROR)  # what they have to say, the first one says too
    with stop.installed():
        stop.context = context = _ranks.Silent(run)
        try:
            return _ranks.follow(main, context, describe)
        except BaseException as error:
            _write_traceback(error)
            return 1


def _existing(run: RunDir) -> RunDir:
    if not run.path.is_dir():
        raise RunError(f"{run.path} is not there.", "`loratui runs` lists the runs of a project.")
    return run


def _take_over(context: Context, main: Callable[[Context], None]) -> None:
    """Name this process as the job of the open attempt; open one when it was started by hand."""
    journal = context.journal
    expected = (
        os.environ.get("LORATUI_ATTEMPT") if os.environ.get("LORATUI_RUN") == str(context.run.path) else None
    )
    if expected is not None and expected != str(journal.attempt):
        raise LockedError(f"Attempt {expected} of this run was given up before its process was ready.")
    if journal.state.pid not in {os.getpid(), _ranks.launcher_pid()}:
        refuse_while_alive(context.run, journal.state)
    if expected is None:
        if journal.state.state == "finished":
            raise RunError(f"The run {context.run.id} is finished.", "Start a new run.")
        module = getattr(sys.modules.get("__main__"), "__spec__", None)
        name = (module.name if module is not None else main.__module__).removeprefix("loratui.jobs.")
        open_attempt(journal, name, newest_checkpoint(context.run))
    identify(journal, os.getpid())


def _work(main: Callable[[Context], None], context: Context, stop: _Stop) -> int:
    """Run `main` and write how it ended."""
    journal = context.journal
    try:
        context.stop_requested = stop.reason
        if not stop.reason:
            main(context)
    except BaseException as error:  # a job ends with a state, whatever happened in it
        if isinstance(error, SystemExit) and not error.code:
            return _end_well(context)
        _write_traceback(error)
        code, message, advice = describe(error, context.run)
        message = clean(message)
        if context.ranks is not None:
            context.ranks.failed(error, {})
        journal.write("error", code=code, message=message, advice=advice, step=journal.state.step)
        journal.write("state", state="failed", reason=message, advice=advice)
        return 1
    return _end_well(context)


def _end_well(context: Context) -> int:
    state = context.journal.state.state
    if state not in ENDED:
        if context.stop_requested:
            context.set_state(
                "stopped", context.stop_requested, f"Go on with `loratui resume {context.run.id}`."
            )
        else:
            context.set_state("finished")
    return 1 if context.journal.state.state == "failed" else 0


def describe(error: BaseException, run: RunDir) -> tuple[str, str, str]:
    """Code, message and advice for what ended a job."""
    again = f"then `loratui resume {run.id}`"
    text = str(error).strip()
    cause = error.__cause__ if isinstance(error, LoratuiError) else error
    if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}:
        where = f" ({cause.filename})" if cause.filename else ""
        return "disk-full", f"The disk is full{where}.", f"Free some space, {again}."
    if isinstance(error, LoratuiError):
        name = type(error).__name__.removesuffix("Error").lower()
        return name, error.message, error.advice
    if type(error).__name__ == "OutOfMemoryError" or "CUDA out of memory" in text:
        advice = (
            "Start again with a lower batch_size, resolution or rank, or memory.gradient_checkpointing on."
        )
        return "device-memory", "The device ran out of memory.", advice
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return (
            "memory",
            "The machine ran out of memory.",
            f"Close other programs or lower batch_size, {again}.",
        )
    if isinstance(error, ModuleNotFoundError):
        advice = (
            f"Install what training needs with `{sys.executable} -m pip install 'loratui[train]'`, {again}."
        )
        return "missing-package", f"The package {error.name} is not installed.", advice
    last = text.split("\n")[0][:_LONGEST_MESSAGE]
    message = f"{type(error).__name__}: {last}" if last else type(error).__name__
    return (
        "unexpected",
        message,
        f"The whole story is in {run.log_path.name} of the run folder; {again} to retry.",
    )


def _write_traceback(error: BaseException) -> None:
    """The traceback goes to the log alone; a user's error needs only its words there."""
    if isinstance(error, LoratuiError) and error.__cause__ is None:
        sys.stderr.write(f"{type(error).__name__}: {error.message} {error.advice}\n")
    else:
        sys.stderr.write("".join(traceback.format_exception(error)))


class _Stop:
    """SIGTERM, SIGINT and SIGHUP ask for a stop at the next step; a second one asks for no more."""

    def __init__(self) -> None:
        self.reason = ""
        self.context: Context | _ranks.Silent | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.reason = self.reason or f"{signal.Signals(number).name} was received."
        if self.context is not None and not self.context.stop_requested:
            self.context.stop_requested = self.reason

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals while inside."""
        before = {number: signal.signal(number, self) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _PlainStream:
    """A text stream whose text is cleaned and that no full disk can make fail."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, fds: list[int]) -> None:
        self._fds = fds
        self.lost = 0

    def write(self, text: str) -> int:
        """Write `text` without anything a terminal would obey."""
        data = clean_log(text).encode("utf-8", "backslashreplace")
        for fd in self._fds:
            try:
                os.write(fd, data)
            except OSError:
                self.lost += 1
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing waits here."""

    def isatty(self) -> bool:
        """Never: no colours, no progress bars that redraw."""
        return False

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The descriptor, for libraries that write to it themselves."""
        return self._fds[0]


@contextlib.contextmanager
def _plain_output(run: RunDir) -> Iterator[None]:
    """stdout, stderr and logging go cleaned into log.txt, and to the terminal too when started by hand."""
    old = sys.stdout, sys.stderr
    extra: list[int] = []
    with contextlib.suppress(OSError):
        fd = os.open(run.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        extra.append(fd)
        if os.path.samestat(os.fstat(2), os.fstat(fd)):  # launched: what is printed goes there already
            os.close(extra.pop())
    stream = _PlainStream([2, *extra])
    handler = logging.StreamHandler(cast(IO[str], stream))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    level = root.level
    sys.stdout, sys.stderr = cast(Any, _PlainStream([1, *extra])), cast(Any, stream)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for noisy in ("httpx", "urllib3", "filelock", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # warns of kernels that nothing here uses
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        faulthandler.enable(2)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        sys.stdout, sys.stderr = old
        for fd in extra:
            os.close(fd)


class _ToJournal(logging.Handler):
    """Log records as `log` events: ours, and warnings of anybody, a few a second at most."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(logging.INFO)
        self.journal = journal
        self._allowance = _LOGS_PER_S
        self._at = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, unless it is the journal's own or one too many."""
        if record.name.startswith("loratui.runs") or (
            record.levelno < logging.WARNING and not record.name.startswith("loratui")
        ):
            return
        now = time.monotonic()
        self._allowance = min(_LOGS_PER_S * 4, self._allowance + (now - self._at) * _LOGS_PER_S)
        self._at = now
        if self._allowance < 1:
            return
        self._allowance -= 1
        message = clean(clean_log(record.getMessage()).split("\n")[0])[:_LONGEST_MESSAGE]
        self.journal.write("log", level=record.levelname.lower(), message=message)


@contextlib.contextmanager
def _logged_to(journal: Journal) -> Iterator[None]:
    handler = _ToJournal(journal)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
