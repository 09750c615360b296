"""How pictures are turned, mirrored and cut: data in the history, the files stay as they are."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from loratui.dataset.framing import Frame
from loratui.errors import LoratuiError
from loratui.ui import figures
from loratui.ui.messages import Said
from loratui.ui.screens.dataset_steps import DatasetSteps
from loratui.ui.widgets.image_view import ImageView
from loratui.ui.widgets.picture_pane import PicturePane

if TYPE_CHECKING:
    from loratui.dataset.reframing import Reframe
    from loratui.dataset.rows import PictureRow
    from loratui.ui.batching import Scope
    from loratui.ui.watching import Gone, Post


class DatasetFrames(DatasetSteps):
    """The part of the room that looks closer and changes what of a picture is trained."""

    def __init__(self) -> None:
        super().__init__()
        self._wanted: dict[Path, Frame] = {}
        """Frames that are not in the history yet: keys come faster than it writes."""
        self._writing = threading.Lock()

    # --- looking ----------------------------------------------------------------------------------------

    def action_sight(self) -> None:
        """The picture, or what the trainer sees of it."""
        self.follow_cursor()
        self.query_one(PicturePane).turn_sight()

    def action_zoom(self, by: int) -> None:
        """Nearer, farther, or with 0 the whole picture."""
        self.follow_cursor()
        view = self.query_one(ImageView)
        if by:
            view.zoom_by(by)
        else:
            view.fit()

    def action_pan(self, right: int, down: int) -> None:
        """Move the zoomed picture."""
        self.query_one(ImageView).pan(right, down)

    def action_buckets(self) -> None:
        """The table of buckets; enter there shows the pictures of one."""
        from loratui.ui.screens.bucket_table import BucketTable

        rows, data = list(self.studio.library.rows), self.studio.data_settings
        dialog = BucketTable(data)

        def work(_post: Post, gone: Gone) -> None:
            from loratui.dataset.bucket_table import bucket_table

            usable = (row for row in rows if row.known.width and row.known.height and not row.known.code)
            lines = bucket_table(
                ((r.known.width, r.known.height, r.frame, r.repeats or 1) for r in usable), data
            )
            if not gone():
                self.app.call_later(dialog.show, lines)

        def chosen(words: str | None) -> None:
            if words:
                self.use_filter(words)
                self.view.focus()

        self.app.push_screen(dialog, chosen)
        self.studio.in_thread(work, "buckets")

    def use_filter(self, words: str) -> None:
        """Filter as if it had been typed."""
        raise NotImplementedError

    # --- changing ---------------------------------------------------------------------------------------

    def action_crop(self) -> None:
        """The picture under the cursor, to be cut by hand."""
        from loratui.ui.screens.crop import CropRoom

        row = self.current
        if row is None or row.known.code:
            self.notify("There is no picture here to crop.")
            return
        path = row.known.path
        shared = Counter(r.bucket for r in self.studio.library.rows if r is not row)

        def keep(frame: Frame, alpha: bool | None) -> None:
            self._commit({path: frame}, {} if alpha is None else {path: alpha}, f"crop {path.name}")

        def go(by: int) -> None:
            shown, at = self.studio.library.shown, self.view.cursor + by
            while 0 <= at < len(shown) and shown[at].known.code:  # what cannot be read cannot be cropped
                at += by
            if 0 <= at < len(shown):
                self.view.cursor = at
                self.action_crop()
            else:
                self.notify("This was the last picture." if by > 0 else "This was the first picture.")

        self.leave()
        self.app.push_screen(CropRoom(row, shared, keep, go))

    def reframe(self, wish: Reframe, scope: Scope) -> None:
        """Carry out a wish typed in words, as one step."""
        collection = self.studio.library.collection
        if collection is None:
            return

        def work(post: Post, _gone: Gone) -> None:
            from loratui.project.reframing import commit_frames, plan_frames

            try:
                with self._writing:
                    plan = plan_frames(collection, scope.rows, wish)
                    if plan.changes:
                        commit_frames(collection, plan)
            except LoratuiError as error:
                post(Said(error.message, error.advice, "error"))
                return
            reasons = Counter(reason for _, reason in plan.left)
            left = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
            words = (
                f"{wish.describe()}: {figures.plural(len(plan.changes), 'picture')} of {len(scope.rows):,}."
            )
            words += f" Left alone: {left}." if left else ""
            post(Said(words, "u takes it back." if plan.changes else ""))
            self.app.call_later(self.studio.library.reload, [c.row.known.path for c in plan.changes])

        self.studio.in_thread(work, "commit", exclusive=False)

    def action_rotate(self, clockwise: bool) -> None:
        """A quarter of a turn, of the marked pictures or of this one."""
        self._change(lambda frame: frame.turned(clockwise), "turn")

    def action_mirror(self) -> None:
        """Left and right exchanged, of the marked pictures or of this one."""
        self._change(lambda frame: frame.mirrored(), "mirror")

    def action_unframe(self) -> None:
        """Neither turn nor mirroring nor crop, of the marked pictures or of this one."""
        self._change(lambda _frame: Frame(), "reset the crop of")

    def action_alpha(self) -> None:
        """Alpha channels as masks, of the marked pictures or of this one; or not, when all are already."""
        rows = [row for row in self.these() if not row.known.code]
        masked = [row for row in rows if row.mask is not None and row.mask.kind == "alpha"]
        on = len(masked) < len(rows)
        collection = self.studio.library.collection
        if not rows or collection is None:
            return
        paths = [row.known.path for row in rows]

        def work(post: Post, _gone: Gone) -> None:
            from loratui.dataset.masks import alpha_in

            chosen = [path for path in paths if not on or alpha_in(path)]
            try:
                if chosen:
                    collection.use_alpha(dict.fromkeys(chosen, on))
            except LoratuiError as error:
                post(Said(error.message, error.advice, "error"))
                return
            without = len(paths) - len(chosen)
            words = f"{figures.plural(len(chosen), 'alpha channel')} {'used as mask' if on else 'not used'}."
            words += f" {figures.plural(without, 'picture')} without one left alone." if without else ""
            post(Said(words, "u takes it back." if chosen else ""))
            self.app.call_later(self.studio.library.reload, chosen)

        self.studio.in_thread(work, "commit", exclusive=False)

    def _change(self, new: Callable[[Frame], Frame], verb: str) -> None:
        rows = [row for row in self.these() if not row.known.code]
        chosen = {row.known.path: new(self._wanted.get(row.known.path, row.frame)) for row in rows}
        if chosen:
            words = rows[0].name if len(rows) == 1 else figures.plural(len(rows), "picture")
            self._commit(chosen, {}, f"{verb} {words}", told=len(rows) > 1)

    def _commit(
        self, chosen: Mapping[Path, Frame], alpha: Mapping[Path, bool], label: str, told: bool = False
    ) -> None:
        """Seen at once, written in a thread."""
        library = self.studio.library
        collection = library.collection
        if collection is None:
            return
        self._wanted.update(chosen)
        for path, frame in chosen.items():
            row = library.row(path)
            if row is not None:
                row.frame = frame
        self._seen_anew(chosen)

        def work(post: Post, _gone: Gone) -> None:
            with self._writing:  # of two that overtake each other, both write the newest
                newest = {path: self._wanted.get(path, frame) for path, frame in chosen.items()}
                try:
                    outcome = collection.frame(newest, alpha, label)
                    if told and outcome.entry:
                        post(Said(f"Done: {label}.", "u takes it back."))
                except LoratuiError as error:
                    post(Said(error.message, error.advice, "error"))
            self.app.call_later(self._written, newest)

        self.studio.in_thread(work, "commit", exclusive=False)

    def _written(self, chosen: Mapping[Path, Frame]) -> None:
        for path, frame in chosen.items():
            if self._wanted.get(path) == frame:
                del self._wanted[path]
        self.studio.library.reload(list(chosen))

    def _seen_anew(self, chosen: Mapping[Path, Frame]) -> None:
        self.view.refresh()
        row: PictureRow | None = self.current
        if row is not None and row.known.path in chosen:
            self.query_one(PicturePane).show(row)
