"""What is the matter with a run, in words, and what to do: why it ended, or why it does not go as it should.

Everything here is told from the folded events, the end of log.txt and the figures of the machine: nothing is
asked of the job.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from loratui.runs.directory import RunDir
from loratui.runs.gpus import GIB, HARMFUL, Gpu, Gpus
from loratui.runs.liveness import host_name
from loratui.runs.log_end import LogEnd, log_end
from loratui.runs.state import ENDED, RunState
from loratui.runs.symptoms import symptom

Level = Literal["error", "warning"]
STALL = 5.0
"""So many times the usual step without one, and the run stands still."""
SLOW = 1.6
"""So many times its best pace, and the run has become slow."""
_SHORTEST_STALL_S = 20.0
_LOADER_SHARE = 0.4
_ENOUGH_STEPS = 20
_PARTS = {
    "data": "reading pictures and caches",
    "compute": "forward and backward",
    "optimizer": "the optimizer",
    "io": "writing",
}
_TAKEN_ADVICE = "See whether other programs take the CPU or the disk."
_SLOW_ADVICE = {
    "data": "See whether the disk is busy or far away; LORATUI_CACHE puts the prepared pictures elsewhere.",
    "compute": "See whether the GPU is throttled or shared, or its memory so full that it swaps to the host.",
    "optimizer": "See whether the GPU is shared, or optimizer states are offloaded.",
    "io": "See whether the disk of the run is busy, full or far away.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is the matter.

    Attributes:
        code: short stable name, for scripts.
        level: `error` ended the run, `warning` hinders it.
        message: what happened, in one sentence.
        advice: what to do.
        lines: the last lines of the log, when they tell more.
        telling: the one of them that matters.
    """

    code: str
    level: Level
    message: str
    advice: str = ""
    lines: tuple[str, ...] = ()
    telling: str = ""

    def as_dict(self) -> dict[str, object]:
        """The finding as plain JSON; what is empty is left out."""
        return {key: value for key, value in asdict(self).items() if value}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of the machine a run lives on; defaults stand for unknown."""

    gpus: Sequence[Gpu] = ()
    ram_share: float = 0.0
    disk_free_gib: float = math.inf
    waits_for_disk: bool = False


def why_ended(state: RunState, run: RunDir | None = None) -> Finding | None:
    """Why a failed, crashed or stopped run ended; None for others."""
    if state.state == "stopped":
        return _stopped(state)
    if state.state not in {"failed", "crashed"}:
        return None
    end = log_end(run) if run is not None else LogEnd()
    level: Level = "error"
    known = symptom(state.reason) or (symptom(end.telling) if _is_unexplained(state) else None)
    code: str = state.state
    message, advice = state.reason or "It ended without a word.", state.advice
    if known is not None and _is_unexplained(state):
        code = known.code
        at = f" at step {state.step:,}" if state.step else ""
        if state.state == "failed":
            message = f"{known.message[:-1]}{at}: {end.telling or state.reason}"
        advice = f"{known.advice} {_kept(state)}".strip()
    elif state.state == "crashed" and "kernel killed" in message:
        code = "oom-killed"
        advice = (
            "Lower data.batch_size or the number of pictures cached in memory, close other programs, or add"
            f" swap. {_kept(state)}"
        )
    elif state.state == "crashed" and "SIGKILL" in message:
        code = "killed"
        advice = (
            f"{_kept(state)} What sends SIGKILL is a scheduler's limit, a container's memory limit, or"
            " `kill -9`; `dmesg` and the scheduler's log say which."
        )
    elif state.state == "crashed" and "native code" in message:
        code = "native-fault"
        advice = f"The stack ends log.txt; other versions of torch or the driver may help. {_kept(state)}"
    elif (named := symptom(message)) is not None:
        code = named.code
    elif "nan" in message.lower() or "inf " in message.lower():
        code = "not-finite"
    shown = end.lines if _is_unexplained(state) else ()
    telling = end.telling if _is_unexplained(state) else ""
    if telling and end.where:
        telling = f"{telling}  ({end.where})"
    return Finding(code, level, message, advice.strip(), shown, telling)


def _is_unexplained(state: RunState) -> bool:
    """Whether the reason is a class of Python's and its words, not a sentence of ours."""
    head = state.reason.split(":")[0]
    raised = " " not in head.strip() and head.endswith(("Error", "Exception", "Interrupt", "Exit"))
    early = state.state == "crashed" and not state.memo.took_over
    return early or raised or "without a word" in state.reason


def _kept(state: RunState) -> str:
    """From where it would go on."""
    again = f"`loratui resume {state.run_id}` or r" if state.run_id else "r"
    if state.checkpoints:
        return f"{again} goes on from step {state.checkpoints[-1].step:,}."
    return f"{again} starts it again; it had no checkpoint yet."


_SIGNALS = {
    "SIGHUP": ("hangup", "The system hung up on the job (SIGHUP): its terminal, login or container ended."),
    "SIGTERM": (
        "terminated",
        "Something asked the job to end (SIGTERM): a shutdown, a scheduler's time limit, or `kill`.",
    ),
    "SIGINT": ("interrupted", "The job was interrupted (SIGINT): ctrl+c in its own terminal, or `kill -2`."),
}


def _stopped(state: RunState) -> Finding | None:
    name = next((name for name in _SIGNALS if name in state.reason), "")
    if not name:
        return None
    code, message = _SIGNALS[name]
    return Finding(code, "warning", f"{message} It saved and stopped at step {state.step:,}.", _kept(state))


def hindrances(state: RunState, now: float, around: Surroundings | None = None) -> list[Finding]:
    """What keeps a living run from going as it should, the gravest first.

    Args:
        state: as observed.
        now: unix time.
        around: figures of its machine; None when it runs elsewhere.
    """
    around = around or Surroundings()
    found: list[Finding] = []
    if state.state in {"running", "caching", "paused", "stopping"}:
        found += _lost_gpus(state, around)
        found += _short_of_room(state, around)
    if state.state != "running":
        return found
    stalled = _stalled(state, now, around)
    if stalled is not None:
        found.append(stalled)
    if state.loss is not None and not math.isfinite(state.loss):
        advice = (
            "Lower optimizer.lr, or raise optimizer.warmup_steps; optimizer.on_nan says what happens next."
        )
        found.append(
            Finding("not-finite", "warning", f"The loss is no number at step {state.step:,}.", advice)
        )
    if stalled is None and state.job == "train":
        found += _pace(state)
    found += _busy_gpus(state, around)
    return found


def _stalled(state: RunState, now: float, around: Surroundings) -> Finding | None:
    memo = state.memo
    if not memo.clock_at or not state.step_s:
        return None
    usual = state.step_s + (memo.overhead_s / memo.overhead_steps if memo.overhead_steps >= 1 else 0.0)
    saves = max((c.seconds for c in state.checkpoints), default=0.0)
    silent = now - max(memo.clock_at, state.updated_at)
    if silent < max(STALL * usual, _SHORTEST_STALL_S, 3 * saves):
        return None
    what = "picture" if state.job == "caption" else "step"
    rounded = silent // 10 * 10  # words that change each second would be painted each second
    message = f"No {what} for {_time(rounded)}, usually one takes {_time(usual)}; the process lives."
    if around.waits_for_disk:
        return Finding(
            "stalled",
            "warning",
            f"{message} It waits for a disk.",
            "See whether the disk is mounted and answers.",
        )
    gpus = _of_run(state, around)
    if gpus and all(gpu.busy is not None and gpu.busy < 0.02 for gpu in gpus):
        message += " The GPU is idle."
    advice = (
        f"`py-spy dump --pid {state.pid}` shows where; x asks it to stop, `kill -9 {state.pid}` ends it"
        " and its checkpoints stay."
    )
    return Finding("stalled", "warning", message, advice)


def _pace(state: RunState) -> list[Finding]:
    """Slower than it was, or waiting for data."""
    memo, found = state.memo, []
    best, count = memo.pace.get("step", 0.0), sum(n for n, _, _ in memo.recent)
    if best and state.step_s and count >= _ENOUGH_STEPS and state.step_s > SLOW * best:
        now = (
            {part: value / memo.parts_steps for part, value in memo.parts.items()} if memo.parts_steps else {}
        )
        growth = {part: now.get(part, 0.0) - memo.pace.get(part, 0.0) for part in _PARTS}
        part = max(growth, key=lambda name: growth[name])
        message = f"A step takes {_time(state.step_s)}, {state.step_s / best:.1f} times the best of this run"
        if growth[part] > 0.3 * (state.step_s - best):
            before, after = memo.pace.get(part, 0.0), now.get(part, 0.0)
            message += f": {_PARTS[part]} went from {_time(before)} to {_time(after)}."
            on_cpu = part in {"compute", "optimizer"} and state.device.startswith("cpu")
            advice = _TAKEN_ADVICE if on_cpu else _SLOW_ADVICE[part]
            found.append(Finding("slow", "warning", message, advice))
        else:
            found.append(Finding("slow", "warning", f"{message}, in no single part.", _TAKEN_ADVICE))
    share = state.times.get("data", 0.0)
    within = share / max(1e-9, sum(state.times.get(part, 0.0) for part in _PARTS))
    if state.step >= _ENOUGH_STEPS and within > _LOADER_SHARE:
        message = f"The steps wait for data {100 * within:.0f} % of their time."
        found.append(Finding("loader-bound", "warning", message, _SLOW_ADVICE["data"]))
    return found


def _of_run(state: RunState, around: Surroundings) -> list[Gpu]:
    """The GPUs the run works on, as far as can be told."""
    ours = [gpu for gpu in around.gpus if gpu.ours_gib is not None]
    if ours:
        return ours
    name = state.device.rpartition(":")
    if name[0].endswith("cuda") and name[2].isdecimal():
        return [gpu for gpu in around.gpus if gpu.index == int(name[2])]
    if state.device.startswith("cuda") and len(around.gpus) == 1:
        return list(around.gpus)
    return []


def _lost_gpus(state: RunState, around: Surroundings) -> list[Finding]:
    known = symptom("GPU is lost")
    assert known is not None
    lost = [gpu for gpu in around.gpus if gpu.lost]
    named = {gpu.index for gpu in _of_run(state, around)}
    hit = [gpu for gpu in lost if gpu.index in named] or (lost if state.device.startswith("cuda") else [])
    return [
        Finding("device-lost", "error", f"GPU {gpu.index} answers no more: {gpu.lost}.", known.advice)
        for gpu in hit
    ]


def _busy_gpus(state: RunState, around: Surroundings) -> list[Finding]:
    """Throttled, or shared."""
    found = []
    for gpu in _of_run(state, around):
        bad = [word for word in gpu.throttled if word in HARMFUL]
        if bad:
            heat = f" at {gpu.temperature_c:.0f} °C" if gpu.temperature_c is not None else ""
            message = f"GPU {gpu.index} is throttled ({', '.join(bad)}){heat}."
            advice = "Look after its cooling and power, or lower its power limit with `nvidia-smi -pl`."
            found.append(Finding("throttled", "warning", message, advice))
        held = sum(t.used_gib or 0.0 for t in gpu.others)
        if held > 0.5 or (gpu.others and gpu.total_gib and gpu.used_gib / gpu.total_gib > 0.95):
            first = gpu.others[0]
            who = f"{first.name or 'a process'} (pid {first.pid})"
            more = f" and {len(gpu.others) - 1} more" if len(gpu.others) > 1 else ""
            size = f" {held:.1f} GiB of" if held else ""
            message = f"{who}{more} uses{size} GPU {gpu.index}, too."
            found.append(
                Finding("shared", "warning", message, "End it, or let this run wait for another device.")
            )
    return found


def _short_of_room(state: RunState, around: Surroundings) -> list[Finding]:
    found = []
    size = max((c.bytes for c in state.checkpoints), default=0) / (1 << 30)
    if around.disk_free_gib < max(1.0, 2 * size):
        room = f", room for {int(around.disk_free_gib / size)} more checkpoints" if size else ""
        message = f"The disk has {around.disk_free_gib:.1f} GiB left{room}."
        advice = "Free some space; when a save fails the run waits in memory and goes on when there is room."
        found.append(Finding("disk-low", "warning", message, advice))
    if around.ram_share > 0.96:
        advice = "Close other programs: what the kernel kills then may be this run."
        message = f"The machine's memory is {100 * around.ram_share:.0f} % full."
        found.append(Finding("memory-low", "warning", message, advice))
    return found


def _time(seconds: float) -> str:
    if seconds < 0.995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def surroundings(run: RunDir, state: RunState) -> Surroundings | None:
    """The machine now, asked once; None when the run does not live on it."""
    if state.host != host_name() or state.state in ENDED:
        return None
    import psutil

    memory = psutil.virtual_memory()
    try:
        free = psutil.disk_usage(str(run.path)).free / GIB
    except OSError:
        free = math.inf
    try:
        waits = psutil.Process(state.pid).status() == psutil.STATUS_DISK_SLEEP if state.pid else False
    except (psutil.Error, OSError):
        waits = False
    gpus = Gpus().read(frozenset({state.pid})) if state.device.startswith("cuda") else ()
    return Surroundings(gpus, 1 - memory.available / memory.total, free, waits)


def explained(state: RunState, run: RunDir) -> RunState:
    """`state` with reason and advice in words, where the run ended otherwise than well."""
    found = why_ended(state, run)
    return (
        state if found is None else replace(state, reason=found.message, advice=found.advice or state.advice)
    )
