"""What the Samples room does beside showing: marks, notes, exports, more samples; slow work in threads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.message import Message

from loratui.errors import LoratuiError
from loratui.project import favourites
from loratui.project.favourites import Mark
from loratui.runs.state import Sample
from loratui.ui import text
from loratui.ui.messages import Said
from loratui.ui.screens.ask_lines import LinesDialog
from loratui.ui.screens.choose import Choice, ChooseDialog, Option
from loratui.ui.screens.room import Room
from loratui.ui.widgets.sample_grid import SampleGrid

if TYPE_CHECKING:
    from loratui.runs.directory import RunDir
    from loratui.ui.watching import Gone, Post

_MOST_KNOWN = 2000


class MarksRead(Message):
    """Favourites and notes of the project, as they are now."""

    def __init__(self, marks: dict[str, Mark], stamp: float) -> None:
        super().__init__()
        self.marks, self.stamp = marks, stamp


class SettingsSeen(Message):
    """What a picture was drawn with."""

    def __init__(self, path: Path, words: tuple[str, ...]) -> None:
        super().__init__()
        self.path, self.words = path, words


class SamplesDeeds(Room):
    """Marks of samples, and everything that writes."""

    def __init__(self) -> None:
        super().__init__()
        self._marks: dict[str, Mark] = {}
        self._stamp = -1.0
        self._settings: dict[Path, tuple[str, ...]] = {}

    @property
    def grid(self) -> SampleGrid:
        """The grid."""
        raise NotImplementedError

    @property
    def shown(self) -> Sample | None:
        """The sample of the large picture."""
        raise NotImplementedError

    def redraw_words(self) -> None:
        """The lines below the picture."""
        raise NotImplementedError

    def _letter(self) -> None:
        raise NotImplementedError

    def progress_words(self) -> str:
        """How far a run that draws samples is."""
        watched = self.studio.watched
        if watched is None or watched.state.job != "sample" or not watched.live:
            return ""
        state = watched.state
        if state.progress is not None:
            return f"{state.progress.what} {state.progress.done}/{state.progress.total}"
        return f"{state.step}/{state.steps}" if state.steps else state.state

    # settings of a picture

    def settings_of(self, sample: Sample) -> tuple[str, ...]:
        """Steps, sampler, guidance, size: what is known of them by now."""
        watched = self.studio.watched
        return self._settings.get(watched.run.path / sample.path, ()) if watched is not None else ()

    def read_settings(self, path: Path) -> None:
        """Read what a picture was drawn with, unless it is known."""
        if path in self._settings:
            return
        if len(self._settings) > _MOST_KNOWN:
            self._settings.clear()

        def work(post: Post, gone: Gone) -> None:
            if not gone():
                post(SettingsSeen(path, drawn_with(path)))

        self.studio.in_thread(work, "sample-settings", self)

    def on_settings_seen(self, message: SettingsSeen) -> None:
        """Show it when it is still about the picture in sight."""
        self._settings[message.path] = message.words
        self.redraw_words()

    # favourites and notes

    def _project(self, run: RunDir) -> Path:
        """The project that a run lies in."""
        return run.path.parent.parent

    def mark_of(self, sample: Sample) -> Mark:
        """What was said of a sample."""
        watched = self.studio.watched
        if watched is None:
            return Mark()
        return self._marks.get(favourites.key(watched.run, sample.path), Mark())

    @property
    def starred(self) -> frozenset[str]:
        """Paths of the favourites of the watched run."""
        watched = self.studio.watched
        if watched is None:
            return frozenset()
        head = f"{watched.run.id}/"
        return frozenset(
            k.removeprefix(head) for k, m in self._marks.items() if m.favourite and k.startswith(head)
        )

    def read_marks(self, anew: bool = False) -> None:
        """Read the marks again when their file is another one: other viewers write it too."""
        watched = self.studio.watched
        if watched is None:
            return
        root, known = self._project(watched.run), -1.0 if anew else self._stamp

        def work(post: Post, _gone: Gone) -> None:
            stamp = favourites.stamp(root)
            if stamp != known:
                post(MarksRead(favourites.marks(root), stamp))

        self.studio.in_thread(work, "sample-marks", self)

    def on_marks_read(self, message: MarksRead) -> None:
        """Show them."""
        self._marks, self._stamp = message.marks, message.stamp
        self._letter()
        self.redraw_words()

    def _set_mark(self, sample: Sample, mark: Mark) -> None:
        watched = self.studio.watched
        if watched is None:
            return
        root, name = self._project(watched.run), favourites.key(watched.run, sample.path)
        self._marks = {**self._marks, name: mark}  # at once; what the file says follows
        self._letter()
        self.redraw_words()

        def work(post: Post, _gone: Gone) -> None:
            try:
                marks = favourites.set_mark(root, name, mark)
            except LoratuiError as error:
                post(MarksRead(favourites.marks(root), -1.0))
                self.studio.post_message(Said(error.message, error.advice, "error"))
                return
            post(MarksRead(marks, favourites.stamp(root)))

        self.studio.in_thread(work, "sample-mark", self, exclusive=False)

    def action_favourite(self) -> None:
        """Mark the sample in sight as a favourite, or not."""
        sample = self.shown
        if sample is not None:
            mark = self.mark_of(sample)
            self._set_mark(sample, Mark(not mark.favourite, mark.note))

    def action_note(self) -> None:
        """Write a note on the sample in sight."""
        sample = self.shown
        if sample is None:
            return
        mark = self.mark_of(sample)

        def keep(lines: list[str] | None) -> None:
            if lines is not None:
                self._set_mark(sample, Mark(mark.favourite, "\n".join(lines)))

        said = "Kept with the project, and in its reports. Empty takes the note away."
        self.app.push_screen(LinesDialog("note", mark.note.split("\n"), said), keep)

    def action_to_favourite(self, by: int) -> None:
        """To the next favourite, row by row."""
        grid = self.grid
        starred, table = self.starred, grid.sheet
        places = [
            (row, column)
            for row in range(len(table.lines))
            for column in range(len(table.columns))
            if (found := table.at(column, row)) is not None and found.path in starred
        ]
        if not places:
            self.notify("No favourite in this run; space marks one.")
            return
        here = (grid.row, grid.column)
        ahead = [p for p in places if (p > here if by > 0 else p < here)] or places
        row, column = ahead[0 if by > 0 else -1]
        grid.go(column, row)

    # exports and more

    def action_export(self) -> None:
        """Ask what to write."""
        watched = self.studio.watched
        if watched is None:
            return
        run = watched.run
        options = [
            Option("html", "web page", "losses, samples, settings and data in one file for others"),
            Option("png", "one picture", "all samples with their prompts and steps"),
        ]

        def chosen(choice: Choice | None) -> None:
            if choice is not None:
                self._export(run, choice.value)

        self.app.push_screen(ChooseDialog("export", options, "enter writes, esc leaves"), chosen)

    def _export(self, run: RunDir, ending: str) -> None:
        target = self._project(run) / "reports" / f"{run.id}.{ending}"
        self.notify("Writing…", timeout=2)

        def work(post: Post, _gone: Gone) -> None:
            from loratui.report.export import export_page, export_sheet

            try:
                count = (export_page if ending == "html" else export_sheet)(run, target)
            except (LoratuiError, OSError) as error:
                post(Said(str(error), getattr(error, "advice", ""), "error"))
                return
            post(Said(f"Wrote {target}", f"{count} samples"))

        self.studio.in_thread(work, "export", exclusive=False)

    def action_sample_now(self) -> None:
        """Ask the job for samples."""
        self.studio.request("sample")
        self.notify("Asked for samples; they come after this step.")

    def action_source(self) -> None:
        """Back to the training that a drawing belongs to."""
        from loratui.project.drawing import read
        from loratui.runs.directory import RunDir

        watched = self.studio.watched
        if watched is None:
            return
        try:
            source = RunDir(watched.run.path.parent / str(read(watched.run).get("source", "")))
        except LoratuiError as error:
            self.notify(error.message, severity="error")
            return
        if source.exists() and source != watched.run:
            self.studio.observe(source)
        else:
            self.notify("Its training is not there any more.")

    def action_more(self) -> None:
        """Draw more from a checkpoint: ask what, then watch it."""
        from loratui.project.drawing import available
        from loratui.ui.screens.draw_more import DrawMoreDialog

        watched = self.studio.watched
        if watched is None:
            return
        run, sample = watched.run, self.shown
        steps = [c.step for c in available(run)]
        if watched.state.job == "sample":
            steps = sorted({s.step for s in watched.state.samples if s.step})
        chosen = str(sample.step) if sample is not None and sample.step in steps else "last"
        prompts = [sample.prompt] if sample is not None else watched.state.prompts

        def begun(new: RunDir | None) -> None:
            if new is not None:
                self.studio.observe(new)

        self.app.push_screen(DrawMoreDialog(run, prompts, chosen, steps), begun)


def drawn_with(path: Path) -> tuple[str, ...]:
    """What a sample's PNG says it was drawn with, as short words; nothing when it says nothing."""
    import json

    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            found: Any = json.loads(image.text.get("loratui", ""))  # type: ignore[attr-defined]
        steps, sampler, guidance = int(found["steps"]), str(found["sampler"]), float(found["guidance"])
        words = [f"{steps} steps", text.plain(sampler), f"guidance {guidance:g}"]
        words.append(f"{int(found['width'])}x{int(found['height'])}")
        if found.get("negative"):
            words.append("without " + text.shorten(text.plain(str(found["negative"])), 40))
    except (OSError, ValueError, KeyError, TypeError, SyntaxError):
        return ()
    return tuple(words)
