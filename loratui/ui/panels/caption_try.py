"""One picture, and what captioners say about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical

from loratui.ui import figures, text
from loratui.ui.titles import set_title
from loratui.ui.widgets.answers import Answers
from loratui.ui.widgets.image_view import ImageView

if TYPE_CHECKING:
    from loratui.caption.describe import Answer
    from loratui.dataset.scan import Picture

_HINT = "t asks the chosen captioners about this picture; nothing is written. [ and ] go to other pictures."


class CaptionTry(Vertical):
    """The picture above, the answers below; other pictures are a key away."""

    def __init__(self) -> None:
        super().__init__(id="try")
        self._pictures: Sequence[Picture] = ()
        self._at = 0
        self._answers: dict[tuple[Path, str], Answer] = {}

    def compose(self) -> ComposeResult:
        """Picture and answers."""
        with Vertical(id="try-picture-panel", classes="panel"):
            yield ImageView("No pictures yet: 1 says where they belong.", id="try-picture")
        with Vertical(id="try-said-panel", classes="panel") as said:
            said.border_title = "try"
            yield Answers(_HINT, id="try-said")

    def show_pictures(self, pictures: Sequence[Picture]) -> None:
        """These are the project's pictures, or those that are marked."""
        current = self.picture
        self._pictures = pictures
        paths = [picture.path for picture in pictures]
        self._at = paths.index(current.path) if current is not None and current.path in paths else 0
        self._show("")

    @property
    def picture(self) -> Picture | None:
        """The picture that is shown."""
        return self._pictures[self._at] if self._at < len(self._pictures) else None

    def go(self, by: int, key: str) -> None:
        """To another picture, around the ends; `key` names the choices an answer belongs to."""
        if self._pictures:
            self._at = (self._at + by) % len(self._pictures)
            self._show(key)

    def go_to(self, path: Path, key: str) -> None:
        """To this picture."""
        at = next((i for i, picture in enumerate(self._pictures) if picture.path == path), None)
        if at is not None:
            self._at = at
            self._show(key)

    def _show(self, key: str) -> None:
        picture = self.picture
        panel = self.query_one("#try-picture-panel")
        if picture is not None:
            self.query_one(ImageView).show_framed(picture.path, picture.frame)
        else:
            self.query_one(ImageView).show(None)
        name = text.shorten(text.plain(picture.path.name), 30) if picture is not None else "picture"
        set_title(panel, name)
        place = f"{self._at + 1}/{figures.count(len(self._pictures))}" if self._pictures else ""
        set_title(panel, place, below=True)
        if picture is not None:
            self.show_answer(self._answers.get((picture.path, key)), picture.caption)

    def show_answer(self, answer: Answer | None, caption: str = "") -> None:
        """An answer, or the caption that is there."""
        view, panel = self.query_one(Answers), self.query_one("#try-said-panel")
        set_title(panel, "try")
        dropped = len(answer.dropped) if answer is not None else 0
        set_title(panel, f"{dropped} left out to fit" if dropped else "", below=True)
        if answer is not None:
            view.show(answer.said, answer.seconds, answer.text)
            return
        view.say(f"caption now: {text.plain(caption)}\n\n{_HINT}" if caption else _HINT)
        view.show({})

    def keep(self, path: Path, key: str, answer: Answer) -> None:
        """An answer came: show it while its picture is shown, and keep it for coming back."""
        if len(self._answers) > 200:
            self._answers.clear()
        self._answers[path, key] = answer
        if self.picture is not None and self.picture.path == path:
            self.show_answer(answer)

    def tell(self, words: str) -> None:
        """How far a try is."""
        view = self.query_one(Answers)
        view.say(f"{words}\n\nesc stops it.")
        view.show({})
        set_title(self.query_one("#try-said-panel"), "trying…")

    def fail(self, error: str, advice: str) -> None:
        """A try went wrong."""
        view = self.query_one(Answers)
        view.say(f"{text.plain(error)}\n{text.plain(advice)}")
        view.show({})
        set_title(self.query_one("#try-said-panel"), "try")
