"""The tags with their counts: of what is shown, of the project, of the picture under the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.message import Message

from loratui.dataset.rows import PictureRow
from loratui.ui import text
from loratui.ui.drawing import Row, meter
from loratui.ui.theme import Palette
from loratui.ui.widgets.line_list import LineList

if TYPE_CHECKING:
    from loratui.ui.app import LoratuiApp

VIEWS = ("here", "project", "picture")


class TagPanel(LineList):
    """A tag under the cursor can be filtered by, renamed, removed, added to the marked pictures."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "act('filter')", "filter by it", tooltip="Show the pictures with this tag"),
        Binding("r", "act('rename')", "rename…", tooltip="Rename this tag in the captions shown"),
        Binding("d,delete", "act('remove')", "remove…", tooltip="Remove this tag from the captions shown"),
        Binding("plus,a", "act('add')", "add", tooltip="Add this tag to the marked pictures, or this one"),
        Binding(
            "left,h",
            "view(-1)",
            "other tags",
            show=False,
            tooltip="Tags here, of the project, of this picture",
        ),
        Binding("right,l", "view(1)", "here/project", tooltip="Tags here, of the project, of this picture"),
        Binding("escape,number_sign", "leave", "to the list", show=False),
    ]

    class Acted(Message):
        """Something is to be done with a tag: filter, rename, remove, add."""

        def __init__(self, verb: str, tag: str) -> None:
            super().__init__()
            self.verb, self.tag = verb, tag

    class Left(Message):
        """The focus wants to go back to the list."""

    class Turned(Message):
        """Other tags are shown."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(self._tag, None, "No tags here: captions in sentences hold none.", id=id)
        self.view = 0
        self._picture: list[tuple[str, int]] = []
        self._most = 1

    @property
    def tags(self) -> list[tuple[str, int]]:
        """The tags of this view with their counts."""
        library = cast("LoratuiApp", self.app).library
        return (library.tags_shown, library.tags_all, self._picture)[self.view]

    def follow(self, row: PictureRow | None = None) -> None:
        """Counts changed, or another picture is under the cursor."""
        if row is not None:
            counts = dict(cast("LoratuiApp", self.app).library.tags_all)
            self._picture = [(tag, counts.get(tag, 1)) for tag in dict.fromkeys(row.tag_list)]
        tags = self.tags
        self._most = max((count for _, count in tags), default=1)
        self.show_rows(len(tags))

    def _tag(self, index: int, width: int, colours: Palette) -> Row:
        tags = self.tags
        if index >= len(tags):
            return []
        tag, count = tags[index]
        room = max(6, width - 18)
        drawn = meter(count / self._most, 8, colours.accent, colours.track)
        return [
            (" " + text.fit(text.plain(tag), room), colours.text),
            (f"{count:,}".rjust(7) + " ", colours.muted),
            *drawn,
        ]

    def action_act(self, verb: str) -> None:
        """Say what is to be done with the tag under the cursor."""
        if self.cursor < len(self.tags):
            self.post_message(self.Acted(verb, self.tags[self.cursor][0]))

    def action_view(self, by: int) -> None:
        """Other tags."""
        self.view = (self.view + by) % len(VIEWS)
        self.follow()
        self.post_message(self.Turned())

    def action_leave(self) -> None:
        """Back to the list."""
        self.post_message(self.Left())
