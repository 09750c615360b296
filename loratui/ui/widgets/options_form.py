"""The form of a caption run's settings: defaults in place of a preset's values."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from loratui.ui.widgets.form import Form


class OptionsForm(Form, inherit_bindings=False):
    """`Form`, worded for options."""

    LABEL: ClassVar[int] = 20
    MORE: ClassVar[int] = 0
    OPENS_LISTS: ClassVar[bool] = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter,e", "edit", "edit", id="options.edit", tooltip="Edit this option; enter keeps, esc leaves"
        ),
        Binding("left,h", "step(-1)", "Value before, or a smaller number", show=False),
        Binding("right,l,space", "step(1)", "Next value, or a larger number", show=False),
        Binding(
            "delete,backspace", "reset", "default", id="options.reset", tooltip="Take the default value again"
        ),
        Binding("up,k", "cursor(-1)", "Up", show=False),
        Binding("down,j", "cursor(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("ctrl+u", "half(-1)", "Half a page up", show=False),
        Binding("ctrl+d", "half(1)", "Half a page down", show=False),
        Binding("home,g", "ends(0)", "First", show=False),
        Binding("end,G", "ends(1)", "Last", show=False),
    ]
