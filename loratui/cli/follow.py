"""Following a run from the command line: its events as progress lines, until it ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output, duration

if TYPE_CHECKING:
    from loratui.runs.directory import RunDir
    from loratui.runs.state import RunState

POLL_S = 0.25
_HINDRANCES_S = 5.0


def follow(run: RunDir, out: Output) -> RunState:
    """Print what happens in `run` until it ends; returns its last state.

    An interrupt ends the following, never the run.
    """
    import copy
    import sys

    from loratui.runs.announce import announce, chosen_way, news
    from loratui.runs.diagnosis import hindrances, surroundings
    from loratui.runs.state import ENDED
    from loratui.runs.status import Watch

    watch, way = Watch(run), chosen_way()
    last, before = "", None
    looked, known = time.monotonic(), frozenset[str]()
    try:
        while True:
            for event in watch.poll():
                _tell(event, watch.folded, out)
            state = watch.state
            announce(news(before, state), sys.stderr, way)
            before = copy.copy(state)
            before.samples = list(state.samples)
            if state.state != last:
                last = state.state
                out.note(f"{run.id}: {state.state}{f' ({state.reason})' if state.reason else ''}")
            if state.state in ENDED:
                return state
            if time.monotonic() - looked > _HINDRANCES_S:
                looked = time.monotonic()
                found = hindrances(state, time.time(), surroundings(run, state))
                for each in found:
                    if each.code not in known:
                        out.note(f"  warning: {each.message} {each.advice}")
                known = frozenset(each.code for each in found)
            text = _progress(state)
            if text:
                out.progress(text)
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        out.note(
            f"The run goes on. `loratui attach {run.id}` follows it again, `loratui stop {run.id}` ends it."
        )
        raise


def _progress(state: RunState) -> str:
    # work after the last step (verifying, scoring) is told by its own counter
    finishing = state.progress is not None and state.progress.done < state.progress.total
    if state.state == "running" and state.step and not finishing:
        captioning = state.job == "caption"
        parts = [f"{'picture' if captioning else 'step'} {state.step}/{state.steps}"]
        if captioning and state.images_s:
            parts.append(f"{state.images_s:.1f} images/s")
        if state.loss is not None:
            parts.append(f"loss {state.loss_smooth if state.loss_smooth is not None else state.loss:.4f}")
        if state.step_s and not captioning:
            parts.append(
                f"{1 / state.step_s:.2f} steps/s" if state.step_s < 1 else f"{state.step_s:.2f} s/step"
            )
        if state.eta_s is not None:
            parts.append(f"{duration(state.eta_s)} left")
        return "  ".join(parts)
    if state.progress is not None:
        return f"{state.progress.what}  {state.progress.done}/{state.progress.total}"
    return ""


def _tell(event: dict[str, Any], state: RunState, out: Output) -> None:
    """The events that deserve a line of their own."""
    kind = event.get("kind")
    if kind == "sample":
        if event.get("index") == 0:
            out.note(f"  samples of step {event.get('step')}: {event.get('path')}")
    elif kind == "checkpoint":
        out.note(f"  checkpoint: {event.get('path')}")
    elif kind == "sample_failed":
        out.note(f"  sample failed at step {event.get('step')}: {event.get('error')}")
    elif kind in {"warning", "error"}:
        advice = f" {event.get('advice')}" if event.get("advice") else ""
        out.note(f"  {kind}: {event.get('message')}{advice}")
    elif kind == "exported":
        out.note(f"  exported: {event.get('path')}")
    elif kind == "verified":
        matched = event.get("matched") or {}
        if isinstance(matched, dict):
            shares = ", ".join(f"{name} {pair[0]}/{pair[1]}" for name, pair in matched.items())
            out.note(f"  verified: {shares}")
