"""The caption of one picture: saved atomically, on leaving and with ctrl+s, never lost."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from loratui.dataset import sidecar
from loratui.errors import LoratuiError
from loratui.ui import text


def tokens(caption: str) -> int:
    """About how many CLIP tokens a caption takes: words by length, signs one each."""
    count = 0
    word = 0
    for char in caption + " ":
        if char.isalnum():
            word += 1
            continue
        if word:
            count += 1 + max(0, word - 4) // 6
            word = 0
        if not char.isspace():
            count += 1
    return count


class CaptionEditor(TextArea):
    """Edits the sidecar of `picture`."""

    DEFAULT_CSS = """
    CaptionEditor {
        border: none; padding: 0; height: 1fr; background: $background; color: $foreground;
        scrollbar-size-vertical: 1;
        &:focus { border: none; }
        & .text-area--cursor-line { background: $background; }
        & .text-area--placeholder { color: $muted; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "save and leave", id="caption.leave", tooltip="Save, back to the list"),
        Binding("ctrl+s", "save", "save", id="caption.save", tooltip="Save the caption now"),
    ]

    class Saved(Message):
        """The caption on disk is another now; or could not be written."""

        def __init__(self, picture: Path, caption: str, problem: str = "", advice: str = "") -> None:
            super().__init__()
            self.picture, self.caption, self.problem, self.advice = picture, caption, problem, advice

    class Left(Message):
        """Escape: the focus wants to go back."""

    class Typed(Message):
        """The text or its saved state changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            "",
            id=id,
            soft_wrap=True,
            tab_behavior="focus",
            compact=True,
            highlight_cursor_line=False,
        )
        self.picture: Path | None = None
        self._loaded: sidecar.Caption | None = None
        self._as_shown = ""

    @property
    def unsaved(self) -> bool:
        """Whether the text differs from the file."""
        return self.picture is not None and self.text != self._as_shown

    def open(self, picture: Path | None) -> None:
        """Save what is unsaved, then show the caption of `picture`."""
        if picture == self.picture and self.unsaved:
            return
        self.save()
        self.picture = picture
        problem = ""
        try:
            self._loaded = sidecar.read_caption(picture) if picture is not None else None
        except LoratuiError as error:
            self._loaded, problem = None, error.message
        # the text as it is: made safe, saving would change what the user never touched. `TerminalGuard`
        # keeps control characters in it from the terminal.
        caption = self._loaded.text if self._loaded is not None else ""
        self.read_only = picture is None or bool(problem)
        self.placeholder = problem or ("no caption yet: e to write one" if picture is not None else "")
        self._as_shown = caption
        self.load_text(caption)
        self.move_cursor(self.document.end)
        self.post_message(self.Typed())

    def save(self) -> bool:
        """Write the caption if it changed. Works without the event loop, too."""
        if not self.unsaved or self.picture is None:
            return True
        try:
            self._loaded = sidecar.write_caption(self.picture, self.text, self._loaded)
        except LoratuiError as error:
            self.post_message(self.Saved(self.picture, self.text, error.message, error.advice))
            return False
        self._as_shown = self.text
        self.post_message(self.Saved(self.picture, self._loaded.line))
        self.post_message(self.Typed())
        return True

    def action_save(self) -> None:
        """Save now."""
        self.save()

    def action_leave(self) -> None:
        """Save and give the focus back; an unsaved text keeps it."""
        if self.save():
            self.post_message(self.Left())

    def on_focus(self) -> None:
        """The state of the text is told while it is edited."""
        self.post_message(self.Typed())

    def on_blur(self) -> None:
        """Leaving saves."""
        self.save()
        self.post_message(self.Typed())

    def on_text_area_changed(self) -> None:
        """Tell the counter."""
        self.post_message(self.Typed())

    async def _on_paste(self, event: events.Paste) -> None:
        """Pasted text is foreign, too."""
        event.text = "\n".join(text.lines(event.text))
        await super()._on_paste(event)
