"""The caption of the picture under the cursor: who wrote it, the text, its tokens, tags to finish it with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content

from loratui.ui import figures, text
from loratui.ui.titles import set_title
from loratui.ui.widgets.caption_editor import CaptionEditor
from loratui.ui.widgets.completions import Completions
from loratui.ui.widgets.picture_list import MOST_TOKENS

if TYPE_CHECKING:
    from loratui.ui.app import LoratuiApp


class CaptionPane(Vertical):
    """Editor and completions in one frame; its title tells where the caption comes from."""

    DEFAULT_CSS = "CaptionPane { height: 1fr; }"

    def compose(self) -> ComposeResult:
        """The text, and the tags below it."""
        yield CaptionEditor(id="caption")
        yield Completions(id="completions")

    def on_mount(self) -> None:
        """Let the editor know its completions."""
        self.border_title = "caption"
        self.editor.completions = self.query_one(Completions)

    @property
    def editor(self) -> CaptionEditor:
        """The text."""
        return self.query_one(CaptionEditor)

    def show(self, picture: Path | None) -> None:
        """Show the caption of a picture."""
        self.editor.open(picture)
        self.name_author()
        self.count()

    def name_author(self) -> None:
        """Say in the title who wrote the caption last."""
        app = cast("LoratuiApp", self.app)
        picture, collection = self.editor.picture, app.library.collection
        row = app.library.row(picture) if picture is not None else None
        title = "caption"
        if row is not None and collection is not None:
            path = row.known.caption_path or row.known.path.with_suffix(".txt")
            entry = collection.last_change(path)
            if entry is not None:
                when = figures.ago(entry.time, time.time())
                author = _author(entry.actor)
                title = f"caption · {author} · {when}"
                if cell_len(title) > self.size.width - 6:  # when matters more than what
                    title = f"caption · {author.partition(':')[0]} · {when}"
            if row.kind == "prose":
                title += " · prose"
        set_title(self, text.crop(text.plain(title), max(12, self.size.width - 6)))

    @on(CaptionEditor.Typed)
    def count(self) -> None:
        """Say below the text how many tokens it takes, and whether it is saved."""
        editor, library = self.editor, cast("LoratuiApp", self.app).library
        count = library.count_text(editor.text)
        state = "not saved" if editor.unsaved else ("saved" if editor.has_focus else "")
        if editor.unsaved and editor.outdated:
            state = "changed by another program: ctrl+s shows both"
        about = "" if library.exact else "about "
        said = Content.assemble(
            (f"{state}  " if state else "", "$warning" if editor.unsaved else "$success"),
            (f"{about}{count}/{MOST_TOKENS} tokens", "$warning" if count > MOST_TOKENS else "$muted"),
        )
        set_title(self, said, below=True)


def _author(actor: dict[str, Any]) -> str:
    """`by hand`, `wd-eva02 0.35`, `batch: add dog last`."""
    kind, name = str(actor.get("kind", "")), str(actor.get("name", ""))
    if kind == "hand":
        return "by hand"
    if kind == "captioner":
        threshold = actor.get("threshold")
        return f"{name or 'captioner'} {threshold}" if threshold is not None else name or "captioner"
    return f"{kind}: {name}" if name else kind
