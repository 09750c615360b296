"""Our two themes, and the handful of styles every widget draws with.

Colours mean something: green is running or good, amber wants attention, red is broken, the accent is
where the focus is. Everything else is calm.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.style import Style
from textual.theme import Theme
from textual.widget import Widget


@dataclass(frozen=True)
class Palette:
    """Foreground styles for drawing rows; backgrounds come from the widget unless said."""

    text: Style
    bold: Style
    muted: Style
    faint: Style
    accent: Style
    green: Style
    amber: Style
    red: Style
    cursor: Style
    """Background of the row under the cursor in the focused list."""
    cursor_idle: Style
    """The same where the list has no focus."""
    track: Style
    """The empty part of a bar."""

    def state(self, name: str) -> Style:
        """The colour of a run's state."""
        if name in {"running", "finished"}:
            return self.green
        if name in {"failed", "crashed"}:
            return self.red
        if name in {"stopped", "queued", "held"}:
            return self.muted
        return self.amber


_DARK = {
    "background": "#0f131a",
    "surface": "#0f131a",
    "panel": "#1a212c",
    "foreground": "#d5dce6",
    "muted": "#8592a6",
    "faint": "#364153",
    "accent": "#5fb0f5",
    "green": "#6bcf8b",
    "amber": "#e6b455",
    "red": "#f2696c",
    "cursor": "#1d3550",
    "cursor-idle": "#1c232e",
}
_LIGHT = {
    "background": "#f7f8fa",
    "surface": "#f7f8fa",
    "panel": "#e8ecf1",
    "foreground": "#1e2632",
    "muted": "#606b7b",
    "faint": "#c3ccd7",
    "accent": "#0f63bd",
    "green": "#1b7f3c",
    "amber": "#975f00",
    "red": "#c22c37",
    "cursor": "#cfe2f7",
    "cursor-idle": "#e3e8ef",
}


def _theme(name: str, colours: dict[str, str], dark: bool) -> Theme:
    return Theme(
        name=name,
        primary=colours["accent"],
        secondary=colours["muted"],
        accent=colours["accent"],
        warning=colours["amber"],
        error=colours["red"],
        success=colours["green"],
        foreground=colours["foreground"],
        background=colours["background"],
        surface=colours["surface"],
        panel=colours["panel"],
        dark=dark,
        variables={
            "muted": colours["muted"],
            "faint": colours["faint"],
            "cursor-back": colours["cursor"],
            "cursor-idle": colours["cursor-idle"],
            "border": colours["accent"],
            "border-blurred": colours["faint"],
            "block-cursor-background": colours["accent"],
            "block-cursor-foreground": colours["background"],
            "block-cursor-text-style": "none",
            "scrollbar": colours["faint"],
            "scrollbar-hover": colours["muted"],
            "scrollbar-active": colours["accent"],
            "scrollbar-background": colours["background"],
            "scrollbar-background-hover": colours["background"],
            "scrollbar-background-active": colours["background"],
            "scrollbar-corner-color": colours["background"],
            "input-selection-background": colours["accent"] + " 30%",
            "footer-key-foreground": colours["accent"],
        },
    )


DARK = _theme("loratui-dark", _DARK, dark=True)
LIGHT = _theme("loratui-light", _LIGHT, dark=False)


def _palette(colours: dict[str, str]) -> Palette:
    fore = {name: Style(color=value) for name, value in colours.items()}
    return Palette(
        text=fore["foreground"],
        bold=Style(color=colours["foreground"], bold=True),
        muted=fore["muted"],
        faint=fore["faint"],
        accent=fore["accent"],
        green=fore["green"],
        amber=fore["amber"],
        red=fore["red"],
        cursor=Style(bgcolor=colours["cursor"]),
        cursor_idle=Style(bgcolor=colours["cursor-idle"]),
        track=fore["faint"],
    )


_PALETTES = {"loratui-dark": _palette(_DARK), "loratui-light": _palette(_LIGHT)}


def palette(widget: Widget) -> Palette:
    """The styles of the app's current theme; other dark or light themes take the nearer of ours."""
    app = widget.app
    found = _PALETTES.get(app.theme)
    return found or _PALETTES["loratui-dark" if app.current_theme.dark else "loratui-light"]
