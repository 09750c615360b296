"""`fold`: the events of a run, in order, as one `RunState`.

Pure and incremental: folding a, then applying b, equals folding a + b. It reads no clock and no file, so the
app, the command line and status.json cannot disagree. An event of an unknown kind is counted; a field of an
odd type counts as absent, for an older reader may watch a newer trainer.

An attempt supersedes: `opened` with `from_step` takes back everything later than that step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, cast, get_args

import msgspec

from loratui.runs import pace
from loratui.runs.events import Event, plain_json, with_non_finite
from loratui.runs.pace import SMOOTHING
from loratui.runs.state import ENDED, Captioned, Checkpoint, Progress, RunState, Sample, StateName
from loratui.runs.steps import Record, Step, as_event

_BESIDE = frozenset({"memory", "quarters", "log"})
"""Kinds whose events and those of steps may change places."""
_LONGEST = {"warnings": 100, "acks": 200, "captions": 20}
_STATES = frozenset(get_args(StateName))
_LARGEST = 2**53
_ENVELOPE = frozenset({"n", "t", "a", "kind"})
_WORDS = ("run_id", "job", "name", "base", "preset", "family")


def fold(records: Iterable[Record], state: RunState | None = None) -> RunState:
    """The state after `records`, begun from `state` (which is changed) or from nothing.

    Just what `apply` makes of one event after the other; stretches of steps are folded at once.
    """
    state = RunState() if state is None else state
    steps: list[Step] = []
    beside: list[Event] = []
    last: Record | None = None
    for record in records:
        if isinstance(record, Step):
            if record.a == state.attempt:
                steps.append(record)
                last = record
                continue
            event = as_event(record)
        else:
            event = record
            if steps and _is_beside(event, state.attempt):
                beside.append(event)
                last = record
                continue
        if steps:
            _stretch(state, steps, beside, last)
        apply(state, event)
    if steps:
        _stretch(state, steps, beside, last)
    return state


def _is_beside(event: Event, attempt: int) -> bool:
    """Whether an event touches nothing that a step does, so that the steps around it stay one stretch."""
    usual = type(event.get("n")) is int and type(event.get("t")) is float and event.get("a") == attempt
    return usual and event.get("kind") in _BESIDE and 0 < event["n"] <= _LARGEST


def _stretch(state: RunState, steps: list[Step], beside: list[Event], last: Record | None) -> None:
    """Fold steps of the attempt, and what came between them; empties both lists.

    `last` is the newest of all.
    """
    at = 0
    while at < len(steps) and not pace.ready(state):
        apply(state, as_event(steps[at]))
        at += 1
    if at < len(steps):
        pace.fold_steps(state, steps[at:] if at else steps)
    for event in beside:
        apply(state, event)
    if isinstance(last, Step):
        state.memo.last_n, state.updated_at = last.n, last.t
    steps.clear()
    beside.clear()


def apply(state: RunState, event: Event) -> None:
    """Change `state` by one event."""
    state.events += 1
    state.memo.last_n = _int(event.get("n"), state.memo.last_n)
    at = _float(event.get("t"))
    kind = event.get("kind")
    attempt = _int(event.get("a"), state.attempt)
    if attempt < state.attempt:  # a writer that lost its lock on a network disk and woke up again
        return
    if at is not None:
        state.updated_at = at
    rule = _RULES.get(kind) if isinstance(kind, str) else None
    if rule is None:
        name = str(kind)
        state.unknown_kinds[name] = state.unknown_kinds.get(name, 0) + 1
        return
    rule(state, event)


def _int(value: Any, default: int = 0) -> int:
    number = _float(value)
    return int(number) if number is not None and abs(number) <= _LARGEST else default


def _float(value: Any) -> float | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) <= _LARGEST else None
    return value if isinstance(value, float) else None


def _seconds(value: Any) -> float:
    number = _float(value)
    return number if number is not None and math.isfinite(number) and number >= 0 else 0.0


def _text(value: Any, default: str = "") -> str:
    return value if isinstance(value, str) else default


def _texts(value: Any) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def _numbers(value: Any) -> dict[str, float]:
    pairs = value.items() if isinstance(value, dict) else ()
    return {k: number for k, v in pairs if (number := _float(v)) is not None}


def _opened(state: RunState, event: Event) -> None:
    at = _float(event.get("t")) or 0.0
    memo = state.memo
    attempt = _int(event.get("attempt"), _int(event.get("a"), state.attempt))
    if attempt != state.attempt:
        state.attempt = attempt
        state.started_at = at
        state.host, state.pid, state.process_start, state.boot_id, state.device = "", 0, 0.0, "", ""
        state.state, state.reason, state.advice = "starting", "", ""
        state.memory, state.progress = {}, None
        memo.took_over, memo.oom_kills, memo.cgroup, memo.error, memo.error_advice = False, -1, "", "", ""
        memo.lost = ""
    state.created_at = state.created_at or at
    for word in _WORDS:
        if word in event:
            setattr(state, word, _text(event[word], getattr(state, word)))
    state.steps = _int(event.get("steps"), state.steps)
    state.epochs = _int(event.get("epochs"), state.epochs)
    if "prompts" in event:
        state.prompts = _texts(event["prompts"])
    _rewind(state, _int(event.get("from_step")))


def _rewind(state: RunState, step: int) -> None:
    """Take back what came after `step`: the attempt that begins there does it again."""
    memo = state.memo
    memo.from_step = step
    if state.step > step or not step:
        marks = [s for s in memo.marks if s <= step] if step else []
        ema, weight, best, val = memo.marks[max(marks)] if marks else (0.0, 0.0, math.nan, math.nan)
        memo.ema, memo.ema_weight = ema, weight
        state.loss_smooth = ema / weight if weight else None
        state.best_loss = None if math.isnan(best) else best
        state.val_loss = None if math.isnan(val) else val
        state.loss = state.grad_norm = None
        state.epoch = 0
    state.step = step
    if state.job != "sample":  # there the step of a picture is that of the checkpoint it was drawn with
        state.samples = [s for s in state.samples if s.step <= step]
    state.checkpoints = [c for c in state.checkpoints if c.step <= step]
    memo.marks = {s: mark for s, mark in memo.marks.items() if s <= step}
    memo.recent, memo.parts, memo.pace, memo.pacing = [], {}, {}, {}
    memo.parts_steps = memo.saving_s = memo.sampling_s = 0.0
    memo.clock_at = memo.overhead_s = memo.overhead_steps = 0.0
    state.step_s = state.images_s = state.eta_s = None
    state.times = {}
    state.exported, state.verified = "", {}


def _process(state: RunState, event: Event) -> None:
    state.host = _text(event.get("host"))
    state.pid = _int(event.get("pid"))
    state.process_start = _float(event.get("process_start")) or 0.0
    state.boot_id = _text(event.get("boot_id"))
    state.device = _text(event.get("device"), state.device)
    if not event.get("launcher"):
        state.memo.took_over = True
    state.memo.oom_kills = _int(event.get("oom_kills"), -1)
    state.memo.cgroup = _text(event.get("cgroup"))


def _state(state: RunState, event: Event) -> None:
    name = event.get("state")
    if not isinstance(name, str) or name not in _STATES:
        key = f"state {name}"
        state.unknown_kinds[key] = state.unknown_kinds.get(key, 0) + 1
        return
    memo = state.memo
    state.state = cast(StateName, name)
    state.reason, state.advice = _text(event.get("reason")), _text(event.get("advice"))
    if name == "failed" and not state.reason:
        state.reason, state.advice = memo.error, state.advice or memo.error_advice
    if name in {"paused", "caching"}:
        memo.clock_at = 0.0
    if name != "starting":
        state.progress = None
    if name in ENDED:
        state.eta_s = None
        memo.clock_at = 0.0


def _progress(state: RunState, event: Event) -> None:
    state.progress = Progress(_text(event.get("what")), _int(event.get("done")), _int(event.get("total")))


def _step(state: RunState, event: Event) -> None:
    memo = state.memo
    step = _int(event.get("step"), state.step)
    stands_for = max(1, step - state.step)
    state.step = step
    state.epoch = _int(event.get("epoch"), state.epoch)
    state.progress = None
    loss = _float(event.get("loss"))
    if loss is not None:
        state.loss = loss
        if math.isfinite(loss):
            memo.ema = memo.ema * SMOOTHING + loss
            memo.ema_weight = memo.ema_weight * SMOOTHING + 1
            state.loss_smooth = memo.ema / memo.ema_weight
            if state.best_loss is None or state.loss_smooth < state.best_loss:
                state.best_loss = state.loss_smooth
    if "lr" in event:
        lr = event["lr"]
        state.lr = _numbers(lr if isinstance(lr, dict) else {"": lr})
    if "grad_norm" in event:
        state.grad_norm = _float(event["grad_norm"])
    times = event.get("times")
    seconds = {k: _seconds(v) for k, v in times.items()} if isinstance(times, dict) else None
    at, step_s, images = (_seconds(event.get(key)) for key in ("t", "step_s", "images"))
    pace.step(state, stands_for, at, step_s, images, seconds)


def _memory(state: RunState, event: Event) -> None:
    state.memory = {k: v for k, v in event.items() if k not in _ENVELOPE}


def _sample(state: RunState, event: Event) -> None:
    sample = Sample(
        _int(event.get("step")),
        _int(event.get("index")),
        _text(event.get("prompt")),
        _int(event.get("seed")),
        _text(event.get("path")),
        _seconds(event.get("seconds")),
        _text(event.get("label")),
    )
    same = (s for s in state.samples if s.path == sample.path)
    old = next(same, None)
    if old is not None:
        state.samples.remove(old)
    state.samples.append(sample)
    state.memo.sampling_s += sample.seconds


def _sample_failed(state: RunState, event: Event) -> None:
    where = f"Sample {_int(event.get('index')) + 1} at step {_int(event.get('step'))}"
    _warn(state, f"{where} failed: {_text(event.get('error'), 'no reason given')}")


def _checkpoint(state: RunState, event: Event) -> None:
    step = _int(event.get("step"))
    state.checkpoints = [c for c in state.checkpoints if c.step != step]
    state.checkpoints.append(
        Checkpoint(step, _text(event.get("path")), _seconds(event.get("seconds")), _int(event.get("bytes")))
    )
    memo = state.memo
    memo.saving_s += _seconds(event.get("seconds"))
    best = math.nan if state.best_loss is None else state.best_loss
    val = math.nan if state.val_loss is None else state.val_loss
    memo.marks[step] = [memo.ema, memo.ema_weight, best, val]


def _pruned(state: RunState, event: Event) -> None:
    step = _int(event.get("step"), -1)
    state.checkpoints = [c for c in state.checkpoints if c.step != step]
    state.memo.marks.pop(step, None)


def _validation(state: RunState, event: Event) -> None:
    state.val_loss = _float(event.get("loss"))


def _quarters(state: RunState, event: Event) -> None:
    loss = event.get("loss")
    state.quarters = [_float(value) for value in loss[:4]] if isinstance(loss, list) else []


def _prompts(state: RunState, event: Event) -> None:
    state.prompts = _texts(event.get("prompts"))


def _captioned(state: RunState, event: Event) -> None:
    words = (_text(event.get(key)) for key in ("rel", "state", "text", "reason"))
    state.captions.append(Captioned(*words))
    del state.captions[: -_LONGEST["captions"]]


def _captions(state: RunState, event: Event) -> None:
    state.counts = {k: _int(v) for k, v in event.items() if k not in _ENVELOPE}


def _exported(state: RunState, event: Event) -> None:
    state.exported = _text(event.get("path"))


def _verified(state: RunState, event: Event) -> None:
    matched = event.get("matched")
    pairs = matched.items() if isinstance(matched, dict) else ()
    state.verified = {k: [_int(v[0]), _int(v[1])] for k, v in pairs if isinstance(v, list) and len(v) == 2}
    problems = event.get("problems")
    for problem in problems if isinstance(problems, list) else ():
        _warn(state, _text(problem.get("message")) if isinstance(problem, dict) else _text(problem))


def _scored(state: RunState, event: Event) -> None:
    state.scores.update(_numbers(event.get("scores")))


def _ack(state: RunState, event: Event) -> None:
    name = _text(event.get("id"))
    if name and name not in state.acks:  # an answer is final
        state.acks[name] = "ok" if event.get("ok") is True else _text(event.get("reason")) or "refused"
        while len(state.acks) > _LONGEST["acks"]:
            del state.acks[next(iter(state.acks))]


def _warning(state: RunState, event: Event) -> None:
    message, advice = _text(event.get("message")), _text(event.get("advice"))
    _warn(state, f"{message} {advice}".strip())


def _warn(state: RunState, text: str) -> None:
    if text and text not in state.warnings[-10:]:
        state.warnings.append(text)
        del state.warnings[: -_LONGEST["warnings"]]


def _log(state: RunState, event: Event) -> None:
    state.last_log = _text(event.get("message"), state.last_log)


def _error(state: RunState, event: Event) -> None:
    state.memo.error = _text(event.get("message"))
    state.memo.error_advice = _text(event.get("advice"))


def _lost(state: RunState, event: Event) -> None:
    state.memo.lost = _text(event.get("message"))


_RULES: dict[str, Callable[[RunState, Event], None]] = {
    "opened": _opened,
    "process": _process,
    "state": _state,
    "progress": _progress,
    "step": _step,
    "memory": _memory,
    "sample": _sample,
    "sample_failed": _sample_failed,
    "checkpoint": _checkpoint,
    "pruned": _pruned,
    "validation": _validation,
    "quarters": _quarters,
    "prompts": _prompts,
    "captioned": _captioned,
    "captions": _captions,
    "exported": _exported,
    "verified": _verified,
    "scored": _scored,
    "ack": _ack,
    "warning": _warning,
    "log": _log,
    "error": _error,
    "lost": _lost,
}
KINDS = frozenset(_RULES)
"""The kinds of event this version knows."""


def to_status(state: RunState) -> dict[str, Any]:
    """`state` as plain JSON (non-finite numbers as strings), without what only `fold` needs."""
    status: dict[str, Any] = plain_json(msgspec.to_builtins(state, str_keys=True))
    del status["memo"]
    return status


def memo_to_json(state: RunState) -> dict[str, Any]:
    """What `fold` needs to go on from `state`, as plain JSON: goes to `from_status` under the key `memo`."""
    memo: dict[str, Any] = plain_json(msgspec.to_builtins(state.memo, str_keys=True))
    return memo


def from_status(status: dict[str, Any]) -> RunState:
    """The inverse of `to_status`; unknown keys are ignored.

    Raises:
        ValueError: a value has the wrong type.
    """
    state = msgspec.convert(status, RunState, strict=False)
    state.memory = with_non_finite(state.memory)
    return state
