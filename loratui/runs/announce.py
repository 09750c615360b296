"""What is worth a bell: the end of a run, its failure, its first sample; as bytes for a terminal.

BEL is what every terminal and tmux pass on; OSC 9 is the notification of iTerm2, WezTerm, kitty, foot,
Windows Terminal and others, and is ignored elsewhere. Inside tmux it needs `allow-passthrough on`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, TextIO

from loratui.errors import LoratuiError
from loratui.runs.plain import clean
from loratui.runs.state import RunState

Way = Literal["auto", "bell", "none"]
_LONGEST = 160
_ENDS = {"finished": "has finished", "failed": "has failed", "crashed": "has crashed"}


def news(before: RunState | None, after: RunState) -> str:
    """What happened between two looks at a run, in one sentence; empty when it is not worth a bell.

    The base's picture at step 0 does not count as the first sample: there is nothing to see in it yet. A run
    that was not seen before is no news, nor is one that somebody stopped.
    """
    if before is None or before.run_id != after.run_id:
        return ""
    name = after.name or after.run_id
    if after.state in _ENDS and before.state != after.state and before.state not in _ENDS:
        reason = f": {after.reason}" if after.reason and after.state != "finished" else ""
        return f"{name} {_ENDS[after.state]}{reason}"
    if _drawn(after) and not _drawn(before) and before.attempt == after.attempt:
        return f"{name} has drawn its first sample"
    return ""


def _drawn(state: RunState) -> bool:
    return any(sample.step or state.job == "sample" for sample in state.samples)


def sequence(text: str, way: Way = "auto", environment: Mapping[str, str] | None = None) -> str:
    """The bytes that announce `text`; empty when none are wanted."""
    if not text or way == "none":
        return ""
    if way == "bell":
        return "\a"
    words = clean(text)[:_LONGEST]
    osc = f"\x1b]9;loratui: {words}\x1b\\"
    env = os.environ if environment is None else environment
    if env.get("TMUX"):
        osc = "\x1bPtmux;" + osc.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    return "\a" + osc


def chosen_way() -> Way:
    """What the user's settings say (`notify`); a file with mistakes counts as none."""
    from loratui.config.user import load_user_config

    try:
        way = load_user_config().notify
    except LoratuiError:
        return "auto"
    return "bell" if way == "bell" else "none" if way == "none" else "auto"


def announce(text: str, stream: TextIO, way: Way = "auto") -> None:
    """Write the announcement to a terminal; nothing to anything else."""
    made = sequence(text, way)
    if made and stream.isatty() and os.environ.get("TERM") != "dumb":
        stream.write(made)
        stream.flush()
