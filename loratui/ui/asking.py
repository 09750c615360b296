"""What the first room finds out in threads, and the messages that tell it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from loratui.errors import LoratuiError
from loratui.ui import text

if TYPE_CHECKING:
    from loratui.plan.cards import Card
    from loratui.project import Project
    from loratui.project.proposal import Proposal
    from loratui.runs.directory import RunDir
    from loratui.ui.watching import Gone, Post

BUNDLED = "bundled"
_PICTURES = {".png", ".jpg", ".jpeg", ".webp"}


class Told(Message):
    """What an answer means: the line under it."""

    def __init__(self, what: str, words: str, good: bool = True) -> None:
        super().__init__()
        self.what, self.words, self.good = what, words, good


class CardsFound(Message):
    """What it may run on."""

    def __init__(self, cards: list[Card]) -> None:
        super().__init__()
        self.cards = cards


class TriggerFound(Message):
    """A trigger to propose."""

    def __init__(self, trigger: str) -> None:
        super().__init__()
        self.trigger = trigger


class Proposed(Message):
    """What the answers lead to; `number` tells which answers."""

    def __init__(self, number: int, proposal: Proposal) -> None:
        super().__init__()
        self.number, self.proposal = number, proposal


class Made(Message):
    """The project was made, and perhaps a training started; or what kept it."""

    def __init__(self, project: Project | None, problem: str = "", run: RunDir | None = None) -> None:
        super().__init__()
        self.project, self.problem, self.run = project, problem, run


def card_name(card: Card, several: bool) -> str:
    """How a card is written in a row of choices."""
    if card.cpu:
        return "CPU"
    if not card.name:
        return f"{card.gib:.0f}" if several else f"{card.gib:.0f} G"
    name = card.name.replace("NVIDIA ", "").replace("GeForce ", "")
    return f"{text.crop(text.plain(name), 16)} {card.gib:.0f} G"


def browse_from(root: Path, answer: str) -> Path:
    """Where browsing begins: at the answer when it is a place, else at the folder."""
    path = root / Path(answer).expanduser() if answer.startswith(("/", "~", ".")) else root
    return path if path.is_dir() else path.parent if path.parent.is_dir() else Path.home()


def has_pictures(root: Path) -> bool:
    """Whether pictures lie in a folder itself."""
    try:
        return any(entry.suffix.lower() in _PICTURES for entry in root.iterdir())
    except OSError:
        return False


def find_cards(post: Post, _gone: Gone) -> None:
    """What it may run on."""
    from loratui.plan.cards import choices

    post(CardsFound(choices()))


def tell_base(value: str, here: Path, post: Post, _gone: Gone) -> None:
    """What a base is."""
    from loratui.project.bases import said
    from loratui.project.proposal import look_at_base

    try:
        found = look_at_base(value or "demo", here)
    except LoratuiError as error:
        post(Told("base", f"{error.message} {error.advice}", good=False))
        return
    words = said(value or "demo", found)
    post(Told("base", f"the small bundled model: {words}" if value in {"", "demo"} else words, found.ok))


def tell_pictures(value: str, here: Path, post: Post, gone: Gone) -> None:
    """How many pictures there are."""
    from loratui.project.proposal import count_pictures, pictures_path
    from loratui.ui.figures import plural

    path = pictures_path(value, here)
    try:
        count = count_pictures(path, gone=gone)
    except OSError as error:
        post(Told("pictures", f"{path} cannot be read: {error.strerror}.", good=False))
        return
    if count < 0:
        words = f"{path} does not exist." if not path.exists() else "neither a folder nor a zip or tar"
    elif value == BUNDLED:
        words = f"{count} drawings of a small robot, with captions"
    elif value == ".":
        words = f"{plural(count, 'picture')} in this folder, used where they are"
    else:
        words = f"{plural(count, 'picture')}, copied into the project"
    post(Told("pictures", words, count > 0))


def tell_trigger(value: str, _here: Path, post: Post, _gone: Gone) -> None:
    """What CLIP makes of a trigger."""
    from loratui.dataset.tokens import ClipTokens
    from loratui.project.proposal import judge_trigger

    tokens = ClipTokens.shipped()
    doubt = judge_trigger(value, tokens)
    count = tokens.count(value)
    words = f"{count} token{'' if count == 1 else 's'}; the words that will call what is learned"
    post(Told("trigger", doubt or words, not doubt))
