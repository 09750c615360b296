"""Events told in words, for the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from loratui.ui import figures, text
from loratui.ui.widgets.log_view import LogLine

_STATES = {
    "starting": ("starting", "info"),
    "caching": ("preparing latents and text", "info"),
    "running": ("training", "info"),
    "paused": ("paused", "warning"),
    "stopping": ("stopping after this step", "warning"),
    "finished": ("finished", "good"),
    "stopped": ("stopped", "warning"),
    "failed": ("failed", "error"),
    "queued": ("waiting", "info"),
    "held": ("held", "info"),
}


_OTHER_WORDS = {
    "caption": (
        ("training", "captioning"),
        ("stopping after this step", "stopping after this batch"),
        ("resumed from step", "resumed after picture"),
    ),
    "sample": (
        ("training", "drawing"),
        ("stopping after this step", "stopping after this picture"),
        ("resumed from step", "resumed after picture"),
    ),
}
"""What is worded otherwise for runs that do not train: beginnings of lines."""


def tell(events: Iterable[Mapping[str, Any]], job: str = "train") -> list[LogLine]:
    """The lines for these events of a job; steps, memory and progress say nothing."""
    out: list[LogLine] = []
    for event in events:
        told = _one(event)
        if told is None:
            continue
        level, what = told
        if job in _OTHER_WORDS:
            what = _reworded(what, event, job)
        # samples of one step come one by one: one growing line for them
        if event.get("kind") == "sample" and out and out[-1].level == "sample":
            number = int(out[-1].what.split(" ", 1)[0]) + 1
            step = figures.count(_int(event.get("step")))
            out[-1] = LogLine(float(event.get("t", 0.0)), "sample", f"{number} samples at step {step}")
            continue
        out.append(LogLine(float(event.get("t", 0.0)), level, what))
    return out


def _reworded(what: str, event: Mapping[str, Any], job: str) -> str:
    if event.get("kind") == "opened" and not _int(event.get("from_step")):
        return f"opened for {figures.plural(_int(event.get('steps')), 'picture')}"
    for start, words in _OTHER_WORDS[job]:
        if what.startswith(start):
            return words + what.removeprefix(start)
    return what


def _one(event: Mapping[str, Any]) -> tuple[str, str] | None:
    kind = event.get("kind")
    teller = _TELLERS.get(str(kind))
    return teller(event) if teller is not None else None


def _state(e: Mapping[str, Any]) -> tuple[str, str]:
    name = str(e.get("state", ""))
    words, level = _STATES.get(name, (text.plain(name), "info"))
    reason, advice = text.plain(e.get("reason") or ""), text.plain(e.get("advice") or "")
    if reason.casefold().startswith(words.split(" ")[0]):
        words = reason  # "stopped: stopped at step 182" says it twice
    elif reason:
        words = f"{words}: {reason}"
    if advice:
        words = f"{words.rstrip('.')}. {advice}"
    return level, words


def _opened(e: Mapping[str, Any]) -> tuple[str, str]:
    start = _int(e.get("from_step"))
    if start:
        return "info", f"resumed from step {figures.count(start)}, attempt {_int(e.get('attempt', 1))}"
    return "info", f"opened for {figures.count(_int(e.get('steps')))} steps"


def _process(e: Mapping[str, Any]) -> tuple[str, str] | None:
    if e.get("launcher"):  # it only speaks for the job until that is up
        return None
    where = text.plain(e.get("device") or "")
    return (
        "quiet",
        f"process {_int(e.get('pid'))} on {text.plain(e.get('host') or '?')}{' · ' + where if where else ''}",
    )


def _sample(e: Mapping[str, Any]) -> tuple[str, str]:
    return "sample", f"1 sample at step {figures.count(_int(e.get('step')))}"


def _sample_failed(e: Mapping[str, Any]) -> tuple[str, str]:
    what = text.plain(e.get("error") or "no reason given")
    return "warning", f"sample {_int(e.get('index')) + 1} failed, the training goes on: {what}"


def _checkpoint(e: Mapping[str, Any]) -> tuple[str, str]:
    seconds = float(e.get("seconds") or 0.0)
    weight = figures.size(float(e.get("bytes") or 0))
    return "info", f"checkpoint {figures.count(_int(e.get('step')))} saved in {seconds:.1f} s, {weight}"


def _verified(e: Mapping[str, Any]) -> tuple[str, str]:
    matched = e.get("matched") or {}
    parts = [f"{text.plain(name)} {pair[0]}/{pair[1]}" for name, pair in matched.items()]
    problems = [p for p in e.get("problems") or [] if not isinstance(p, dict) or p.get("severity") == "error"]
    if problems:
        first = problems[0]
        words = first.get("message") or "" if isinstance(first, dict) else first
        return "error", f"the file does not load everywhere: {text.plain(words)}"
    return "good", "verified: " + ", ".join(parts)


def _exported(e: Mapping[str, Any]) -> tuple[str, str]:
    weight = figures.size(float(e.get("bytes") or 0))
    return (
        "good",
        f"exported {text.plain(e.get('path') or '')} ({text.plain(e.get('format') or '')}, {weight})",
    )


def _scored(e: Mapping[str, Any]) -> tuple[str, str]:
    scores = e.get("scores") or {}
    parts = [f"{text.plain(k)} {float(v):.2f}" for k, v in scores.items() if isinstance(v, int | float)]
    return "good", "scored: " + ", ".join(parts)


def _ack(e: Mapping[str, Any]) -> tuple[str, str] | None:
    if e.get("ok"):
        return None
    return (
        "warning",
        f"{text.plain(e.get('request') or 'request')} refused: {text.plain(e.get('reason') or '')}",
    )


def _said(level: str) -> Any:
    def teller(e: Mapping[str, Any]) -> tuple[str, str]:
        advice = text.plain(e.get("advice") or "")
        return level, text.plain(e.get("message") or "") + (f" {advice}" if advice else "")

    return teller


def _log(e: Mapping[str, Any]) -> tuple[str, str]:
    level = {"warning": "warning", "error": "error"}.get(str(e.get("level")), "info")
    return level, text.plain(e.get("message") or "")


def _int(value: Any) -> int:
    try:
        return int(value or 0)
    except (TypeError, ValueError):
        return 0


_TELLERS: dict[str, Any] = {
    "state": _state,
    "opened": _opened,
    "process": _process,
    "sample": _sample,
    "sample_failed": _sample_failed,
    "checkpoint": _checkpoint,
    "verified": _verified,
    "exported": _exported,
    "scored": _scored,
    "ack": _ack,
    "prompts": lambda e: (
        "info",
        f"{figures.plural(len(e.get('prompts') or []), 'sample prompt')} from now on",
    ),
    "validation": lambda e: ("quiet", f"validation loss {figures.loss(float(e.get('loss') or 0))}"),
    "warning": _said("warning"),
    "error": _said("error"),
    "log": _log,
}
