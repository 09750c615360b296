"""All keys of the screen, made from the bindings themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from loratui.ui.actions import key_name

_GROUPS = (("here", "in this screen"), ("focus", "in this pane"), ("app", "everywhere"))
_WORDS = {
    "app.focus_next": "Next pane",
    "app.focus_previous": "Pane before",
    "screen.copy_text": "Copy the text selected with the mouse",
}
"""Textual's own bindings in our words."""
_SAMPLES = (
    ("hat", "the word in a caption or a path"),
    ("tag:hat", "the whole tag; * and ? are allowed"),
    ('tag:"red hat"', "quotes hold spaces together"),
    ("tags:<3 OR dup:>1", "NOT binds tighter than AND, AND than OR"),
    ("NOT (width:<512 OR blur:yes)", "parentheses"),
    ('caption:="Red"', "literal, minds the case"),
    ("name:re:^img_\\d+", "a regular expression"),
)


def _filter_help() -> list[Content]:
    """The language of the filter in a few lines, and all its fields."""
    from loratui.dataset.query import FIELDS

    parts = [Content.styled("the filter (/)\n", "bold $accent")]
    for sample, words in _SAMPLES:
        parts.append(Content.assemble((f"{sample:>26}", "bold"), f"   {words}\n"))
    parts.append(Content("\n"))
    for field in FIELDS.values():
        parts.append(Content.assemble((f"{field.name + ':':>26}", "bold"), f"   {field.help}\n"))
    return [*parts, Content("\n")]


class HelpDialog(ModalScreen[None]):
    """A table of keys; any of the usual ways out closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "dismiss", "close", show=False),
        Binding("j,down", "scroll(1)", show=False),
        Binding("k,up", "scroll(-1)", show=False),
    ]
    DEFAULT_CSS = """
    HelpDialog { align: center middle; background: $background 60%; }
    HelpDialog VerticalScroll { width: 72; max-width: 94%; height: auto; max-height: 90%; background: $panel;
        border: round $accent; border-title-color: $accent; border-subtitle-color: $muted; padding: 1 2;
        scrollbar-size-vertical: 1; }
    """

    def __init__(self, active: Iterable[ActiveBinding], room: str) -> None:
        super().__init__()
        self._active = list(active)
        self._room = room

    def compose(self) -> ComposeResult:
        """The table."""
        with VerticalScroll() as box:
            box.border_title = "keys"
            box.border_subtitle = "esc closes"
            yield Static(self._table())

    def action_scroll(self, by: int) -> None:
        """Scroll the table by lines."""
        box = self.query_one(VerticalScroll)
        box.scroll_relative(y=by * 2, animate=False)

    def _table(self) -> Content:
        groups: dict[str, dict[str, tuple[list[str], str]]] = {"here": {}, "focus": {}, "app": {}}
        for active in self._active:
            binding = active.binding
            if binding.system or not (binding.tooltip or binding.description):
                continue
            node = active.node
            common = node is self.app or binding.action in _WORDS
            owner = "app" if common else "here" if isinstance(node, Screen) else "focus"
            key = binding.id or binding.action
            words = _WORDS.get(binding.action) or binding.tooltip or binding.description
            keys, _ = groups[owner].setdefault(key, ([], words))
            name = binding.key_display or key_name(binding.key)
            if name not in keys and not name.startswith("super"):
                keys.append(name)
        parts: list[Content] = []
        for group, title in _GROUPS:
            if not groups[group]:
                continue
            parts.append(Content.styled(f"{title}\n", "bold $accent"))
            for keys, words in groups[group].values():
                parts.append(Content.assemble((f"{'  '.join(keys):>16}", "bold"), f"   {words}\n"))
            parts.append(Content("\n"))
        if self._room == "dataset":
            parts += _filter_help()
        if self._room == "monitor":
            parts.append(
                Content.styled("A run never depends on this window: leave whenever you like.", "$muted")
            )
        return Content("").join(parts).rstrip()
