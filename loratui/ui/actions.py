"""One table of actions a screen: it makes the key bindings, the footer, the help and the palette."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from textual.binding import Binding, BindingType


@dataclass(frozen=True)
class Action:
    """Something the user can do.

    Attributes:
        id: stable name, `room.verb`, for remapping keys.
        keys: `s` or `j,down`; empty for what only the palette offers.
        action: Textual action, run on the screen or app that declares it.
        label: one or two words for the footer.
        help: one sentence for the help and the palette.
        show: whether the footer names it.
        priority: whether it works while a text field has the focus.
        display: how the footer writes the key, where a list answers it itself (enter).
    """

    id: str
    keys: str
    action: str
    label: str
    help: str
    show: bool = True
    priority: bool = False
    display: str = ""


def bindings(actions: Iterable[Action]) -> list[BindingType]:
    """The key bindings of a table."""
    return [
        Binding(
            a.keys,
            a.action,
            a.label,
            show=a.show,
            key_display=a.display or None,
            tooltip=a.help,
            id=a.id,
            priority=a.priority,
        )
        for a in actions
        if a.keys
    ]


_NAMES = {
    "question_mark": "?",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "left_curly_bracket": "{",
    "right_curly_bracket": "}",
    "slash": "/",
    "colon": ":",
    "number_sign": "#",
    "greater_than_sign": ">",
    "less_than_sign": "<",
    "plus": "+",
    "minus": "-",
    "equals_sign": "=",
    "escape": "esc",
    "pageup": "page up",
    "pagedown": "page down",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
}


def key_name(key: str) -> str:
    """How a key is written for people: `question_mark` -> `?`, `ctrl+p` stays."""
    if key.startswith("upper_"):
        return key.removeprefix("upper_").upper()
    head, _, last = key.rpartition("+")
    return (head + "+" if head else "") + _NAMES.get(last, last)
