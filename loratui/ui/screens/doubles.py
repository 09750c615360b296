"""Near-duplicates, group by group and side by side: which to keep, which to throw away, which are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from loratui.dataset.duplicates import Group
from loratui.dataset.rows import PictureRow
from loratui.errors import LoratuiError
from loratui.ui import figures, text
from loratui.ui.actions import Action, bindings
from loratui.ui.drawing import Row
from loratui.ui.messages import Said
from loratui.ui.screens.confirm import ConfirmDialog
from loratui.ui.screens.room import Room
from loratui.ui.theme import Palette
from loratui.ui.widgets.double import Double
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.image_view import ImageView

if TYPE_CHECKING:
    from loratui.ui.screens.dataset_steps import DatasetSteps
    from loratui.ui.watching import Gone, Post

_NONE = (
    "No two pictures here look the same.\n\nThey are compared by their looks: resized copies and other file "
    "formats are found as well. esc goes back."
)
NARROWEST = 25
"""Cells that a picture needs beside another."""
MOST = 6
"""Pictures side by side; the others of a larger group come with the cursor."""


class DoublesRoom(Room):
    """One group at a time; nothing happens to a picture before a key says so, and undo takes it back."""

    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("doubles.trash", "d", "throw", "trash the others",
               "Move those marked ✖ to the trash, with captions and masks"),
        Action("doubles.keep", "space", "keep", "keep or not", "Keep the picture under the cursor, or not",
               display="space"),
        Action("doubles.only", "o", "only", "only this", "Keep this one, and none of the others"),
        Action("doubles.apart", "x", "apart", "no duplicates", "Remember that these are no duplicates"),
        Action("doubles.next", "n,down,j,right_square_bracket", "go(1)", "next", "The next group",
               display="n N"),
        Action("doubles.undo", "u", "undo", "undo", "Take the last change back"),
        Action("doubles.leave", "escape,q,S", "dismiss(None)", "leave", "Back to the pictures"),
        Action("doubles.previous", "N,up,k,left_square_bracket", "go(-1)", "before", "The group before",
               show=False),
        Action("doubles.left", "left,h", "move(-1)", "left", "To the picture on the left", show=False),
        Action("doubles.right", "right,l", "move(1)", "right", "To the picture on the right", show=False),
        Action("doubles.redo", "ctrl+r", "redo", "redo", "Do again what was taken back", show=False),
        Action("doubles.nearer", "plus,equals_sign", "zoom(1)", "zoom in", "Zoom into all of them",
               show=False),
        Action("doubles.farther", "minus", "zoom(-1)", "zoom out", "Zoom out of all of them", show=False),
        Action("doubles.whole", "0", "zoom(0)", "whole pictures", "Show whole pictures again", show=False),
        Action("doubles.pan_left", "H,shift+left", "pan(-1, 0)", "look left", "Move all zoomed pictures",
               show=False),
        Action("doubles.pan_down", "J,shift+down", "pan(0, 1)", "look down", "Move all zoomed pictures",
               show=False),
        Action("doubles.pan_up", "K,shift+up", "pan(0, -1)", "look up", "Move all zoomed pictures",
               show=False),
        Action("doubles.pan_right", "L,shift+right", "pan(1, 0)", "look right", "Move all zoomed pictures",
               show=False),
    )  # fmt: skip
    BINDINGS = bindings(ACTIONS)
    DEFAULT_CSS = """
    DoublesRoom #doubles-head { height: 1; padding: 0 1; }
    DoublesRoom #doubles { height: 1fr; }
    DoublesRoom #doubles-none { display: none; height: 1fr; padding: 1 2; }
    DoublesRoom.-none #doubles { display: none; }
    DoublesRoom.-none #doubles-none { display: block; }
    """

    def __init__(self, dataset: DatasetSteps, first: Path | None = None) -> None:
        """Begin by looking for groups.

        Args:
            dataset: the room of pictures, which carries out what is wanted.
            first: a picture of the group to begin with.
        """
        super().__init__()
        self._dataset, self._first = dataset, first
        self.groups: tuple[Group, ...] = ()
        self.at = 0
        """Index of the group in sight."""
        self.cursor = 0
        """Index of a picture in the group."""
        self.kept: set[str] = set()
        """Paths of the pictures of the group that are to be kept."""
        self._from = 0
        self._known = False
        self._words = "Looking for pictures that look the same…"
        self._coming_back = False
        """Whether the next group that was not there before is to be shown: a step was taken back."""

    def body(self) -> ComposeResult:
        """A line on the group, the pictures, and what is said when there are none."""
        yield Facts(self._head, id="doubles-head")
        with Horizontal(id="doubles"):
            for place in range(MOST):
                yield Double(id=f"double-{place}")
        with Vertical(id="doubles-none"):
            yield Facts(self._none, id="doubles-words")

    def on_mount(self) -> None:
        """Measure what is not measured, in a thread."""
        super().on_mount()
        self.add_class("-none")
        self._find()

    def follow(self, what: str) -> None:
        """Pictures came or went, captions are others, or the terminal can do more."""
        if what == "pictures" and self._known:
            self._find()
        elif what == "graphics":
            self._redraw_pictures()

    # --- groups -----------------------------------------------------------------------------------------

    def _find(self) -> None:
        collection = self.studio.library.collection
        if collection is None:
            return

        def progress(done: int, of: int) -> None:
            if done % 25 == 0:
                self.app.call_later(self._say, f"Measuring pictures: {done:,} of {of:,}. esc goes back.")

        def work(post: Post, gone: Gone) -> None:
            from loratui.project.findings import measure

            try:
                measure(collection, progress)
            except LoratuiError as error:
                post(Said(error.message, error.advice, "error"))
                self.app.call_later(self._say, "Pictures could not be compared. esc goes back.")
                return
            if not gone():
                self.app.call_later(self.show, collection.groups)
                self.app.call_later(self.studio.library.take_groups, collection.alike)

        self.studio.in_thread(work, "doubles")

    def _say(self, words: str) -> None:
        self._words = words
        for facts in self.query("#doubles-words").results(Facts):
            facts.redraw()

    def show(self, groups: Sequence[Group]) -> None:
        """The groups as they are now; the one in sight stays in sight where it still is one."""
        before = {_key(g): n for n, g in enumerate(self.groups)}
        here = _key(self.groups[self.at]) if self.groups else frozenset()
        again = here in map(_key, groups)
        self.groups, self._known = tuple(groups), True
        if not self.is_mounted:
            return
        fresh = [n for n, g in enumerate(self.groups) if _key(g) not in before]
        if self._first is not None:
            wanted, self._first = str(self._first), None
            at = next((n for n, g in enumerate(self.groups) if wanted in _key(g)), 0)
            self._open(at)
        elif self._coming_back and fresh:
            self._coming_back = False
            self._open(fresh[0])
        elif again:
            self.at = next(n for n, g in enumerate(self.groups) if _key(g) == here)
            self._fill()
        else:
            self._open(self.at)

    def _open(self, at: int) -> None:
        """Another group, with the proposal of which to keep."""
        self.at = max(0, min(at, len(self.groups) - 1))
        self.cursor = self._from = 0
        self.kept = {self.groups[self.at].keep.path} if self.groups else set()
        self._fill()

    @property
    def group(self) -> Group | None:
        """The group in sight."""
        return self.groups[self.at] if self.groups else None

    @property
    def thrown(self) -> list[PictureRow]:
        """The pictures of the group that are not to be kept."""
        paths = [Path(c.path) for c in self.group.members if c.path not in self.kept] if self.group else []
        return [row for p in paths if (row := self.studio.library.row(p)) is not None]

    # --- drawing ----------------------------------------------------------------------------------------

    @property
    def _across(self) -> int:
        """How many pictures are side by side."""
        fits = max(2, min(MOST, (self.size.width or 80) // NARROWEST))
        return min(fits, len(self.group.members)) if self.group else 0

    def on_resize(self, _event: events.Resize) -> None:
        """More or fewer have room."""
        self._fill()

    def _fill(self) -> None:
        group = self.group
        self.set_class(group is None, "-none")
        if group is None and self._known:
            self._say(_NONE)
        across, members = self._across, group.members if group else ()
        if across:
            self._from = max(min(self._from, self.cursor), self.cursor - across + 1)
            self._from = min(self._from, len(members) - across)
        for place, double in enumerate(self.query(Double)):  # none while the room opens or closes
            double.display = place < across
            if group is not None and place < across:
                index = self._from + place
                one = members[index]
                row = self.studio.library.row(Path(one.path))
                double.show(row, group, one, one.path in self.kept, index == self.cursor)
        for facts in self.query("#doubles-head").results(Facts):
            facts.redraw()

    def _head(self, width: int, height: int, colours: Palette) -> list[Row]:
        group = self.group
        if group is None:
            return [[("near-duplicates", colours.muted)]]
        how = "look the same" if group.sure else "look alike: compare them"
        words = f"{len(group.members)} pictures {how}"
        row: Row = [
            (f"group {self.at + 1} of {len(self.groups):,}", colours.accent),
            (f"  {words}", colours.text if group.sure else colours.amber),
            (f"  {group.distance} of 64 bits apart", colours.muted),
        ]
        last = self._from + self._across
        if self._across < len(group.members):
            row.append((f"  {self._from + 1} to {last} shown, ← →", colours.muted))
        return [row]

    def _none(self, width: int, height: int, colours: Palette) -> list[Row]:
        lines = [part for line in self._words.split("\n") for part in text.wrap(line, max(20, width - 4))]
        return [[(line, colours.muted)] for line in lines]

    # --- keys -------------------------------------------------------------------------------------------

    def action_go(self, by: int) -> None:
        """To another group, around the ends."""
        if self.groups:
            self._open((self.at + by) % len(self.groups))

    def action_move(self, by: int) -> None:
        """To another picture of the group."""
        if self.group is not None:
            self.cursor = max(0, min(self.cursor + by, len(self.group.members) - 1))
            self._fill()

    def action_keep(self) -> None:
        """Keep it, or not; one at least is kept."""
        if self.group is None:
            return
        changed = self.kept ^ {self.group.members[self.cursor].path}
        if not changed:
            self.notify("One picture of a group is kept. o on another keeps that instead.")
            return
        self.kept = changed
        self._fill()

    def action_only(self) -> None:
        """Keep this one alone."""
        if self.group is not None:
            self.kept = {self.group.members[self.cursor].path}
            self._fill()

    def action_throw(self) -> None:
        """The others to the trash; a question comes first when some of them are out of sight."""
        rows = self.thrown
        if not rows:
            self.notify("All of them are kept: space on one throws it out, n goes on.")
            return
        if self.group is not None and len(self.group.members) > self._across:
            question = f"{len(rows):,} pictures move to the trash, some of them out of sight here."
            question += " u brings them back."
            self.app.push_screen(
                ConfirmDialog("trash", question, "move them"),
                lambda yes: self._dataset.throw_away(rows) if yes else None,
            )
        else:
            self._dataset.throw_away(rows)

    def action_apart(self) -> None:
        """Remember that they are no duplicates."""
        collection, group = self.studio.library.collection, self.group
        if collection is None or group is None:
            return
        pictures = [Path(c.path) for c in group.members]

        def work(post: Post, _gone: Gone) -> None:
            try:
                collection.say_apart(pictures)
                words = f"{figures.plural(len(pictures), 'picture')} remembered as no duplicates."
                post(Said(words, "u takes it back."))
            except LoratuiError as error:
                post(Said(error.message, error.advice, "error"))
                return
            self.app.call_later(self.show, collection.groups)
            self.app.call_later(self.studio.library.take_groups, collection.alike)

        self.studio.in_thread(work, "commit", exclusive=False)

    def action_undo(self) -> None:
        """Take the last step back, whatever it was; its group comes into sight."""
        self._step(undo=True)

    def action_redo(self) -> None:
        """Do it again."""
        self._step(undo=False)

    def _step(self, undo: bool) -> None:
        self._coming_back = undo
        self._dataset.step_back(undo=undo)

    def action_zoom(self, by: int) -> None:
        """All pictures alike, so that the same part of each is compared."""
        self._each(lambda view: view.zoom_by(by) if by else view.fit())

    def action_pan(self, right: int, down: int) -> None:
        """Move all of them."""
        self._each(lambda view: view.pan(right, down))

    def _each(self, do: Callable[[ImageView], None]) -> None:
        for double in self.query(Double):
            if double.display:
                do(double.query_one(ImageView))


def _key(group: Group) -> frozenset[str]:
    return frozenset(c.path for c in group.members)
