"""Titles in the borders of panels, painted without what stands inside the panel."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Region
from textual.widget import Widget


def set_title(widget: Widget, title: Content | str, below: bool = False) -> None:
    """Give a panel another title, or one `below`; only its border line is painted, and only if it differs.

    The plain attribute paints the whole panel anew: a picture in it is sent to the terminal once more.
    """
    name = "_border_subtitle" if below else "_border_title"
    new = (Content(title) if isinstance(title, str) else title).expand_tabs(4)
    old: Content | None = getattr(widget, name, None)
    if old is not None and (old.plain, old.spans) == (new.plain, new.spans):
        return
    setattr(widget, name, new)
    left, top = widget.content_offset
    size = widget.outer_size
    widget.refresh(Region(-left, (size.height - 1 if below else 0) - top, size.width, 1))
