"""How fast a run goes, where its time goes and what is left: the part of the fold that every step touches.

`step` takes one step in. `fold_steps` takes many in and comes to the same numbers, bit by bit: what builds on
the step before is done for each of them, what only the newest steps decide is done once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import mul

from loratui.runs.state import RunState
from loratui.runs.steps import Step

SMOOTHING = 0.98
"""Factor of the exponential mean of the loss, per step event."""
_RECENT = 20
_FADE_PARTS = 0.95
_FADE_OVERHEAD = 0.998
_PACE_STEPS = 50
_PARTS = ("data", "compute", "optimizer", "io")
_PACED = (*_PARTS, "step", "steps")


def step(
    state: RunState,
    stands_for: int,
    at: float,
    step_s: float,
    images: float,
    seconds: Mapping[str, float] | None,
) -> None:
    """Take in a step.

    What is left counts saves and samples: their time is what passed between step events beyond the steps
    themselves.

    Args:
        state: changed.
        stands_for: how many steps it tells of.
        at: unix time of its event.
        step_s: seconds it took; by the clock when 0.
        images: pictures in it.
        seconds: of its parts; None when it does not tell.
    """
    memo = state.memo
    elapsed = max(0.0, at - memo.clock_at) if memo.clock_at else 0.0
    if memo.clock_at and not step_s:
        step_s = elapsed / stands_for
    if memo.clock_at:
        fade = _FADE_OVERHEAD**stands_for
        memo.overhead_s = memo.overhead_s * fade + max(0.0, elapsed - step_s * stands_for)
        memo.saving_s, memo.sampling_s = memo.saving_s * fade, memo.sampling_s * fade
        memo.overhead_steps = memo.overhead_steps * fade + stands_for
    else:  # the first step after a start or a pause: what came before it was no saving
        memo.overhead_steps = memo.overhead_steps or 1e-9
    memo.clock_at = at
    if step_s:
        memo.recent = [*memo.recent[1 - _RECENT :], [float(stands_for), step_s, images]]
    _tell_speed(state)
    if seconds is not None:
        memo.parts_steps = memo.parts_steps * _FADE_PARTS + 1
        for part, value in seconds.items():
            memo.parts[part] = memo.parts.get(part, 0.0) * _FADE_PARTS + value
        _tell_shares(state, seconds)
        pacing = memo.pacing
        for part, value in {**seconds, "step": step_s, "steps": 1.0}.items():
            pacing[part] = pacing.get(part, 0.0) + value * stands_for
        if pacing["steps"] >= _PACE_STEPS:
            _pace(state, pacing)
            memo.pacing = {}


def _tell_speed(state: RunState) -> None:
    memo = state.memo
    if not memo.recent:
        return
    counts, lasted, images = zip(*memo.recent, strict=True)
    count = sum(counts)
    seconds = sum(map(mul, counts, lasted))
    pictures = sum(map(mul, counts, images))
    state.step_s = seconds / count
    state.images_s = pictures / seconds if pictures else state.images_s
    overhead = memo.overhead_s / memo.overhead_steps if memo.overhead_steps >= 1 else 0.0
    state.eta_s = max(0, state.steps - state.step) * (state.step_s + overhead) if state.steps else None


def _tell_shares(state: RunState, seconds: Mapping[str, float]) -> None:
    """Where the time goes: the parts of the newest steps, and saves and samples spread over theirs."""
    memo = state.memo
    shares = {part: value / memo.parts_steps for part, value in memo.parts.items()}
    if memo.overhead_steps >= 1:
        shares["save"] = memo.saving_s / memo.overhead_steps
        shares["sample"] = memo.sampling_s / memo.overhead_steps
    total = sum(shares.values())
    if total > 0:
        state.times = {part: value / total for part, value in shares.items() if value or part in seconds}


def _pace(state: RunState, pacing: Mapping[str, float]) -> None:
    mean = {part: value / pacing["steps"] for part, value in pacing.items() if part != "steps"}
    if mean["step"] and mean["step"] < state.memo.pace.get("step", math.inf):
        state.memo.pace = mean


def ready(state: RunState) -> bool:
    """Whether `fold_steps` may go on from here: the clock runs, and nothing odd was met of late."""
    memo = state.memo
    return memo.clock_at > 0 and state.best_loss is not None and all(part in _PACED for part in memo.pacing)


def fold_steps(state: RunState, steps: Sequence[Step]) -> None:
    """Take in one or more steps of the state's attempt; `ready` must hold."""
    assert state.best_loss is not None
    memo = state.memo
    before, last = state.step, steps[-1]
    ema, weight, best = memo.ema, memo.ema_weight, state.best_loss
    clock, overhead_s, overhead_steps = memo.clock_at, memo.overhead_s, memo.overhead_steps
    saving_s, sampling_s, parts_steps = memo.saving_s, memo.sampling_s, memo.parts_steps
    data, compute, optimizer, io = (memo.parts.get(part, 0.0) for part in _PARTS)
    sums = [memo.pacing.get(part, 0.0) for part in _PACED]
    keys = list(memo.pacing) or list(_PACED)
    keys += [key for key in _PACED if key not in keys]
    paced_data, paced_compute, paced_optimizer, paced_io, paced_step, paced = sums
    number = before
    for s in steps:
        stands_for = s.step - number
        number = s.step
        if stands_for == 1:
            fade = _FADE_OVERHEAD
        else:
            stands_for = max(1, stands_for)
            fade = _FADE_OVERHEAD**stands_for
        ema = ema * SMOOTHING + s.loss
        weight = weight * SMOOTHING + 1
        smooth = ema / weight
        if smooth < best:
            best = smooth
        step_s, at, times = s.step_s, s.t, s.times
        beyond = (at - clock if at > clock else 0.0) - step_s * stands_for
        clock = at
        overhead_s = overhead_s * fade + beyond if beyond > 0.0 else overhead_s * fade
        saving_s *= fade
        sampling_s *= fade
        overhead_steps = overhead_steps * fade + stands_for
        parts_steps = parts_steps * _FADE_PARTS + 1
        data = data * _FADE_PARTS + times.data
        compute = compute * _FADE_PARTS + times.compute
        optimizer = optimizer * _FADE_PARTS + times.optimizer
        io = io * _FADE_PARTS + times.io
        paced_data += times.data * stands_for
        paced_compute += times.compute * stands_for
        paced_optimizer += times.optimizer * stands_for
        paced_io += times.io * stands_for
        paced_step += step_s * stands_for
        paced += 1.0 * stands_for
        if paced >= _PACE_STEPS:
            sums = [paced_data, paced_compute, paced_optimizer, paced_io, paced_step, paced]
            _pace(state, _ordered(keys, sums))
            keys = list(_PACED)
            paced_data = paced_compute = paced_optimizer = paced_io = paced_step = paced = 0.0
    sums = [paced_data, paced_compute, paced_optimizer, paced_io, paced_step, paced]
    memo.pacing = _ordered(keys, sums) if paced else {}
    memo.ema, memo.ema_weight, state.best_loss, state.loss_smooth = ema, weight, best, smooth
    memo.clock_at, memo.overhead_s, memo.overhead_steps = clock, overhead_s, overhead_steps
    memo.saving_s, memo.sampling_s, memo.parts_steps = saving_s, sampling_s, parts_steps
    memo.parts |= zip(_PARTS, (data, compute, optimizer, io), strict=True)
    newest = steps[-_RECENT:]
    earlier = [before if len(newest) == len(steps) else steps[-_RECENT - 1].step, *(s.step for s in newest)]
    rows = [
        [float(max(1, s.step - prior)), s.step_s, s.images] for prior, s in zip(earlier, newest, strict=False)
    ]
    memo.recent = [*memo.recent, *rows][-_RECENT:]
    state.events += len(steps)
    memo.last_n, state.updated_at = last.n, last.t
    state.step, state.epoch, state.progress = last.step, last.epoch, None
    state.loss, state.grad_norm, state.lr = last.loss, last.grad_norm, dict(last.lr)
    _tell_speed(state)
    _tell_shares(state, dict.fromkeys(_PARTS, 0.0))


def _ordered(keys: Sequence[str], sums: Sequence[float]) -> dict[str, float]:
    known = dict(zip(_PACED, sums, strict=True))
    return {key: known[key] for key in keys}
