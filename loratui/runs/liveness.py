"""Whether the process of a run still lives, and what to say when it does not.

A pid alone proves nothing: it is reused, and after a power loss it belongs to somebody else. A process is
known by host, kernel boot and pid namespace, pid, and the moment it started. On the same boot the answer is
exact; from any other host (a shared disk) it is told by the age of the heartbeat in status.json.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from loratui.runs.directory import RunDir
from loratui.runs.plain import clean_log
from loratui.runs.state import ENDED, RunState

HEARTBEAT_S = 2.0
"""The journal's writer renews its heartbeat this often."""
STALE_S = 30.0
"""A heartbeat older than this, seen from another host, means that the writer is gone."""
LAUNCH_GRACE_S = 15.0
"""A launch that has not named its process after this long was interrupted."""
LOG_MARK = "=== loratui"
"""Begins the line in log.txt that an attempt opens with."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which process, beyond doubt.

    Attributes:
        host: the machine's name.
        pid: process id.
        process_start: seconds after the boot at which it started.
        boot_id: the kernel's boot id and the pid namespace.
    """

    host: str
    pid: int
    process_start: float
    boot_id: str

    def as_dict(self) -> dict[str, Any]:
        """The identity as plain JSON."""
        return asdict(self)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Identity | None:
        """The identity in a JSON object, or None when it holds none."""
        host, pid, start, boot = (values.get(k) for k in ("host", "pid", "process_start", "boot_id"))
        if (
            isinstance(host, str)
            and isinstance(pid, int)
            and isinstance(start, int | float)
            and isinstance(boot, str)
        ):
            return cls(host, pid, float(start), boot)
        return None


def host_name() -> str:
    """This machine's name."""
    return os.uname().nodename


@cache
def boot_id() -> str:
    """The kernel's boot id and the pid namespace that pids of this process belong to."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - a magic link, not a path
    except OSError:
        import psutil

        boot, space = f"{psutil.boot_time():.0f}", ""
    return f"{boot}/{space.removeprefix('pid:').strip('[]')}"


def process_start(pid: int) -> float | None:
    """When the living process `pid` started, in seconds after the boot; None when dead or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _process_start_elsewhere(pid)
    except OSError:  # ESRCH: it went between open and read
        return None
    fields = text[text.rfind(b")") + 2 :].split()  # the name before may hold spaces and brackets
    if fields[0] in {b"Z", b"X", b"x"}:
        return None
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _process_start_elsewhere(pid: int) -> float | None:
    """`process_start` where there is no /proc."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def process_identity(pid: int | None = None) -> Identity:
    """The identity of this process, or of `pid` (whose start is 0.0 when it is gone already)."""
    pid = os.getpid() if pid is None else pid
    return Identity(host_name(), pid, process_start(pid) or 0.0, boot_id())


def is_alive(who: Identity | RunState) -> bool | None:
    """Whether that very process lives; None when it cannot be told here (another host or boot)."""
    if who.pid <= 0:
        return False
    if who.host != host_name() or who.boot_id != boot_id():
        return None
    start = process_start(who.pid)
    return start is not None and abs(start - who.process_start) < 0.02


def oom_counter() -> tuple[str, int]:
    """The file that counts the kernel's out-of-memory kills here, and its count (`"", -1`: unknown)."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return "", -1
    for line in groups:
        number, kinds, path = line.split(":", 2)
        v1 = "memory" in kinds.split(",")
        if not v1 and number != "0":
            continue
        for root in (
            ("/sys/fs/cgroup/memory", "/sys/fs/cgroup")
            if v1
            else ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
        ):
            for folder in (path.strip("/"), ""):
                file = Path(root, folder, "memory.oom_control" if v1 else "memory.events")
                count = oom_kills(str(file))
                if count >= 0:
                    return str(file), count
    return "", -1


def oom_kills(file: str) -> int:
    """The count in `file`, -1 when there is none."""
    try:
        lines = Path(file).read_text().splitlines() if file else []
    except OSError:
        return -1
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), -1)


def observed_state(
    state: RunState, now: float | None = None, run: RunDir | None = None, beat: float | None = None
) -> RunState:
    """`state` as it is when one looks: `crashed`, with reason and advice, when its process is gone.

    Args:
        state: the folded events; returned as it is unless the run crashed.
        now: unix time, for runs of other hosts.
        run: its directory, to read the heartbeat and the log of a crash.
        beat: unix time of the newest heartbeat, when the caller knows it.
    """
    if state.state in ENDED:
        return state
    if state.state in {"queued", "held"}:
        return _observed_waiting(state)
    now = time.time() if now is None else now
    last = state.updated_at
    if not state.pid:
        gone = now - last > LAUNCH_GRACE_S
        why = "The launch was interrupted before the job's process began."
        return _crashed(state, why) if gone else state
    alive = is_alive(state)
    if alive:
        return state
    if alive is None:
        if beat is None and run is not None:
            beat = newest_beat(run)
        age = now - max(last, beat or 0.0)
        if age <= STALE_S:
            return state
        if state.host == host_name():
            return _crashed(state, "The machine or its container was restarted while the run was going.")
        return _crashed(
            state, f"No sign of life from {state.host} for {age:.0f} s: the machine or its disk is away."
        )
    return _crashed(state, _cause(state, run))


def _observed_waiting(state: RunState) -> RunState:
    """A run in the queue: a restart of the machine holds it, a kill ends it."""
    if is_left_behind(state):
        reason = "The machine was restarted while the run waited in the queue."
        advice = f"Let it wait again with `loratui queue release {state.run_id}`, or press r."
        return replace(state, state="held", reason=reason, advice=advice)
    if state.pid and is_alive(state) is False:
        return _crashed(state, "Its process was killed while it waited in the queue.")
    return state


def is_left_behind(state: RunState) -> bool:
    """Whether the run waits in the queue and its process went with a restart of this machine."""
    waits = state.state in {"queued", "held"} and state.pid > 0
    return waits and state.host == host_name() and is_alive(state) is None


def newest_beat(run: RunDir) -> float:
    """Unix time of the newest heartbeat in status.json by the writer's clock or the disk's, 0.0 for none."""
    import msgspec

    try:
        changed = run.status_path.stat().st_mtime
        status = msgspec.json.decode(run.status_path.read_bytes())
        at = status["heartbeat"]["at"]
        return max(float(at), changed)
    except (OSError, ValueError, KeyError, TypeError, msgspec.DecodeError):
        return 0.0


def _crashed(state: RunState, reason: str) -> RunState:
    if state.checkpoints:
        advice = (
            f"Resume with `loratui resume {state.run_id}` or press r; it goes on from its last checkpoint."
        )
    elif state.memo.took_over:
        advice = f"Start it again with `loratui resume {state.run_id}` or press r; it had no checkpoint yet."
    else:
        advice = f"Correct what log.txt says, then start it with `loratui resume {state.run_id}` or press r."
    return replace(state, state="crashed", reason=reason, advice=advice, eta_s=None, progress=None)


def _cause(state: RunState, run: RunDir | None) -> str:
    """What most likely ended the process, in one sentence."""
    last = last_log_line(run) if run is not None else ""
    if not state.memo.took_over:
        return (
            f"The job ended before it began: {last}"
            if last
            else "The job ended before it began, without a word."
        )
    kills = oom_kills(state.memo.cgroup)
    if 0 <= state.memo.oom_kills < kills:
        held = state.memory.get("rss_gib")
        size = f" (it held {held:.1f} GiB)" if isinstance(held, float) else ""
        return (
            f"The kernel killed a process because the machine's memory ran out, most likely this one{size}."
        )
    if state.memo.lost:
        return state.memo.lost
    if last.startswith(("Fatal Python error", "terminate called", "Segmentation fault")):
        return f"The process died of a fault in native code: {last}"
    return "The process ended without a word: killed (SIGKILL), or the machine restarted."


def last_log_line(run: RunDir, reach: int = 16384) -> str:
    """The line of log.txt that says most about the end of the newest attempt, cleaned; empty for none."""
    try:
        with run.log_path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - reach))
            text = clean_log(file.read())
    except OSError:
        return ""
    lines = text.rsplit(LOG_MARK, 1)[-1].split("\n")[1:] if LOG_MARK in text else text.split("\n")
    lines = [line.strip() for line in lines if line.strip()]
    for line in lines:
        if line.startswith("Fatal Python error"):  # what follows it are stack traces
            return line[:300]
    return lines[-1][:300] if lines else ""
