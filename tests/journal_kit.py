"""Journals by dice: trainings with odd events among them."""

from __future__ import annotations

import math
import random
from typing import Any

Event = dict[str, Any]


def thrown_journal(seed: int, length: int, oddness: float) -> list[Event]:
    """A training's events by dice: `oddness` is the share of events that break a stretch or a rule."""
    dice = random.Random(seed)
    found: list[Event] = [{"n": 1, "t": 1e9, "a": 1, "kind": "opened", "attempt": 1, "steps": 200}]
    step, now = 0, 1e9
    for n in range(2, length + 2):
        odd, now = dice.random() < oddness, now + dice.choice([0, 0.5, dice.random()])
        event: Event = {"n": n, "t": now, "a": 1}
        if dice.random() < 0.8:
            step = dice.randrange(200) if odd else step + dice.choice([1, 1, 1, 2])
            times = {part: dice.choice([0, 0.25, dice.random()]) for part in PARTS}
            event |= {"kind": "step", "step": step, "epoch": 1 + step // 10, "loss": dice.random()}
            event |= {"lr": {"unet": dice.random()}, "grad_norm": dice.random(), "times": times}
            event |= {"step_s": dice.choice([0.5, 1, dice.random() + 0.01]), "images": dice.randint(1, 4)}
        elif dice.random() < 0.7:
            event |= {"kind": dice.choice(["memory", "quarters", "log"]), "message": "m", "loss": [0.1] * 4}
        else:
            kinds = ["checkpoint", "validation", "sample", "progress", "state", "opened", "new"]
            event |= {"kind": dice.choice(kinds), "step": step, "path": f"p{step}", "seconds": dice.random()}
            event |= {"state": dice.choice(["running", "paused"]), "from_step": step, "loss": dice.random()}
        if odd and dice.random() < 0.5:
            event[dice.choice([*event, "a", "n", "t"])] = dice.choice(ODD)
        if odd and "times" in event and isinstance(event["times"], dict) and dice.random() < 0.3:
            event["times"] = {dice.choice([*PARTS, "new", "save"]): dice.choice(ODD)}
        found.append(event)
    return found


PARTS = ("data", "compute", "optimizer", "io")
ODD = (None, math.nan, math.inf, -1, 0, 3, 10**12, 2**60, 10**30, 1e300, -0.0, True, "x", {}, [1], {"a": 1})
