"""Events as figures with names: the same names for every program."""

from __future__ import annotations

from typing import Any

from loratui.runs.events import Event

_STEP = {
    "loss/train": "loss",
    "train/grad_norm": "grad_norm",
    "train/epoch": "epoch",
    "speed/seconds_per_step": "step_s",
}
_MEMORY = {"allocated_gib", "reserved_gib", "peak_gib", "rss_gib"}


def figures_of(event: Event) -> dict[str, float]:
    """Names and figures of an event; empty for kinds that have none."""
    kind = event.get("kind")
    found: dict[str, Any] = {}
    if kind == "step":
        found = {name: event.get(key) for name, key in _STEP.items()}
        rates = event.get("lr")
        for group, rate in rates.items() if isinstance(rates, dict) else (("", rates),):
            found[f"lr/{group}" if group else "lr/all"] = rate
    elif kind == "validation":
        found = {"loss/validation": event.get("loss")}
    elif kind == "quarters":
        losses = event.get("loss")
        if isinstance(losses, list):
            found = {f"loss/timesteps quarter {n}": loss for n, loss in enumerate(losses[:4], 1)}
    elif kind == "memory":
        found = {f"memory/{key}": event.get(key) for key in _MEMORY}
    elif kind == "scored" and isinstance(event.get("scores"), dict):
        found = {f"scores/{key}": value for key, value in event["scores"].items()}
    return {k: float(v) for k, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings with dotted names; the paths of this machine are left out."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            found |= flat(value, f"{name}.")
        elif name not in {"run.project", "run.base_path"}:
            found[name] = value
    return found
