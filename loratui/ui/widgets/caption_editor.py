"""The caption of one picture: saved atomically, on leaving and with ctrl+s, never lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.widgets import TextArea

from loratui.dataset import sidecar
from loratui.dataset.tags import split_caption
from loratui.errors import LoratuiError
from loratui.ui import text
from loratui.ui.caption_reader import CaptionReader, Reading
from loratui.ui.library import CaptionConflict

if TYPE_CHECKING:
    from loratui.ui.app import LoratuiApp
    from loratui.ui.widgets.completions import Completions


_NONE = "no caption yet: e to write one"
_PATIENCE_S = 2.0
"""At most so long a caption that is about to be edited is waited for."""


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
    """Edits the sidecar of `picture`.

    What the index knows is shown at once, what lies on disk as soon as a thread has read it; before that
    nothing can be typed. Beginning to edit waits for it.
    """

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

    class Conflicted(Message):
        """Another program changed the caption meanwhile; nothing was written."""

        def __init__(self, picture: Path, mine: str, theirs: str) -> None:
            super().__init__()
            self.picture, self.mine, self.theirs = picture, mine, theirs

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
        self._reader = CaptionReader(lambda found: self.app.call_later(self._read, found))
        self._asked = 0
        """The reading that is waited for; those before it are out of date."""
        self.outdated = False
        """Whether another program changed the file while something is typed here: saving will ask."""
        self.drafts: dict[Path, str] = {}
        """What was typed and could not be saved, by picture."""
        self._completed: tuple[int, int] | None = None
        """Where the cursor stands behind a tag and a comma that were put there for the user."""
        self.completions: Completions | None = None
        """The list of tags below the text, where the room has one."""

    def _refresh_size(self) -> None:
        """Another height of the text wants another scroll bar at most, never a new layout of the room."""
        self.set_reactive(TextArea.virtual_size, Size(0, self.wrapped_document.height))
        self._scroll_update(self.virtual_size)

    @property
    def unsaved(self) -> bool:
        """Whether the text differs from the file."""
        return self.picture is not None and self.text != self._as_shown

    def open(self, picture: Path | None) -> None:
        """Save what is unsaved, then show the caption of `picture`."""
        if picture is not None and picture == self.picture:
            self.look_again()
            return
        if not self.save() and self.picture is not None:
            self.drafts[self.picture] = self.text  # it waits here until it can be saved
        self._load(picture)

    def look_again(self) -> None:
        """The file may be another now: show it, unless something else is typed here; then say so."""
        if self.picture is not None:
            self._asked = self._reader.ask(self.picture)

    def take_theirs(self) -> None:
        """Show the file as it is now, whatever is typed here."""
        if self.picture is not None:
            self.drafts.pop(self.picture, None)
        self._load(self.picture)
        self._be_read()

    def take(self, caption: str) -> None:
        """Put this text here, to be saved on leaving."""
        self.load_text(caption)
        self.move_cursor(self.document.end)
        self.post_message(self.Typed())

    @property
    def shown(self) -> str:
        """The caption as it was read."""
        return self._as_shown

    def _load(self, picture: Path | None) -> None:
        """Show a caption as the index knows it, and have it read."""
        self.picture = picture
        self.outdated = False
        self._loaded = None
        if self.has_focus or picture is None:  # else nobody types, and each change styles the editor anew
            self.read_only = True
        row = cast("LoratuiApp", self.app).library.row(picture) if picture is not None else None
        readable = row is not None and row.known.encoding != "unreadable"
        self.placeholder = _NONE if readable else ""
        self._show(row.caption if row is not None else "")
        self._asked = self._reader.ask(picture) if picture is not None else 0
        if self.has_focus:
            self._be_read()
        self.post_message(self.Typed())

    def _show(self, caption: str, draft: str = "") -> None:
        # the text as it is: made safe, saving would change what the user never touched. `TerminalGuard`
        # keeps control characters in it from the terminal.
        self._as_shown = caption
        self._completed = None
        self.load_text(draft or caption)
        self.move_cursor(self.document.end)

    def _read(self, found: Reading) -> None:
        """What a thread read."""
        if found.turn != self._asked or found.picture != self.picture:
            return
        before, now = self._loaded, found.caption
        if self.unsaved:  # typed here meanwhile
            self._loaded = before or now
            other = before is not None and now is not None and now.raw != before.raw
            if other != self.outdated:
                self.outdated = other
                self.post_message(self.Typed())
            return
        if before is not None and now is not None and now.raw == before.raw:
            return
        self._loaded = now
        self.read_only = now is None
        self.placeholder = found.problem or _NONE
        caption = now.text if now is not None else ""
        draft = self.drafts.pop(found.picture, "") if now is not None else ""
        if draft or caption != self._as_shown:
            self._show(caption, draft)
        self.post_message(self.Typed())

    def _be_read(self) -> None:
        """Wait for the caption to be read, where it is not yet: what comes next is about it."""
        if self.picture is not None and self._loaded is None and self._asked:
            found = self._reader.wait(self._asked, _PATIENCE_S)
            if found is not None:
                self._read(found)
            else:
                self.read_only = True
                self.placeholder = "the caption is still being read"

    def save(self) -> bool:
        """Write the caption if it changed. Works without the event loop, too."""
        if not self.unsaved or self.picture is None:
            return True
        self._be_read()
        if self._loaded is None:  # its disk does not answer: the text waits here
            return False
        library = cast("LoratuiApp", self.app).library
        try:
            self._loaded = library.save_caption(self.picture, self._finished(), self._loaded)
        except CaptionConflict as conflict:
            self.post_message(self.Conflicted(self.picture, self.text, conflict.theirs))
            return False
        except LoratuiError as error:
            self.post_message(self.Saved(self.picture, self.text, error.message, error.advice))
            return False
        self._as_shown = self.text
        self.outdated = False
        self._asked = 0  # what is being read was asked for before
        self.post_message(self.Saved(self.picture, self._loaded.line))
        self.post_message(self.Typed())
        return True

    def _finished(self) -> str:
        """The text, without the comma that waits for a tag that never came."""
        return self.text.rstrip().removesuffix(",") if self._completed is not None else self.text

    def action_save(self) -> None:
        """Save now."""
        self.save()

    def action_leave(self) -> None:
        """Save and give the focus back; an unsaved text keeps it."""
        if self.completions is not None:
            self.completions.close()
        if self.save():
            self.post_message(self.Left())

    def on_focus(self) -> None:
        """The state of the text is told while it is edited."""
        self._be_read()
        self.post_message(self.Typed())

    def on_blur(self) -> None:
        """Leaving saves."""
        if self.completions is not None:
            self.completions.close()
        self.save()
        self.post_message(self.Typed())

    def on_text_area_changed(self) -> None:
        """Tell the counter, and offer tags."""
        self.post_message(self.Typed())
        if self.completions is not None:
            begun = self.fragment if self.has_focus and self.unsaved else ""
            self.completions.offer(begun, split_caption(self.text) if begun else ())

    @property
    def fragment(self) -> str:
        """The begun tag before the cursor; nothing when a tag stands behind the cursor already."""
        row, column = self.cursor_location
        line = self.document.get_line(row)
        begun = line[:column].rpartition(",")[2].lstrip()
        behind = line[column:].partition(",")[0]
        return "" if behind.strip() else begun

    def complete(self, tag: str) -> None:
        """Put a tag in place of the begun one, with a comma when it is the last."""
        row, column = self.cursor_location
        line = self.document.get_line(row)
        start = column - len(self.fragment)
        last = not line[column:].strip() and row == self.document.line_count - 1
        self.replace(tag + (", " if last else ""), (row, start), (row, column))
        self._completed = self.cursor_location if last else None
        if self.completions is not None:
            self.completions.close()

    async def _on_key(self, event: events.Key) -> None:
        """Keys of the open list come first."""
        if self.completions is not None and self.completions.takes(event.key):
            event.stop()
            event.prevent_default()
            chosen = self.completions.press(event.key)
            if chosen:
                self.complete(chosen)
            return
        if self._completed == self.cursor_location and event.character in {",", " "}:
            event.stop()  # the comma that people type behind a tag stands there already
            event.prevent_default()
            return
        await super()._on_key(event)

    async def _on_paste(self, event: events.Paste) -> None:
        """Pasted text is foreign, too."""
        event.text = "\n".join(text.lines(event.text))
        await super()._on_paste(event)
