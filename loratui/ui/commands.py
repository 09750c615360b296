"""The words of the `:` line, carried out for the room of pictures."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, cast

from loratui.dataset.edit_parse import OPERATIONS, parse_operation
from loratui.dataset.exports import FORMATS, Format
from loratui.dataset.query import QueryError, parse, select
from loratui.dataset.reframing import parse_reframe
from loratui.errors import DatasetError, LoratuiError
from loratui.project.filters import keep_filter
from loratui.project.weighing import read_weight
from loratui.ui import figures
from loratui.ui.messages import Said
from loratui.ui.widgets.command_line import WORDS

if TYPE_CHECKING:
    from loratui.ui.screens.dataset import DatasetRoom
    from loratui.ui.watching import Gone, Post


def run(room: DatasetRoom, line: str) -> str:
    """Carry out a command; what is wrong with it, or nothing."""
    prefix = line[0] if line[:1] in {"%", "."} else ""
    line = line.removeprefix(prefix).strip()
    word, _, rest = line.partition(" ")
    try:
        if word in OPERATIONS:
            operation = parse_operation(word, _split(rest), room.trigger)
            room.batching.edit(operation, room.scope(prefix))
            return ""
        if word in WORDS:
            return _other(room, word, rest.strip(), prefix)
        parse_operation(word, [], room.trigger)  # it names what was probably meant
    except QueryError as error:
        return f"{error.message}. {error.advice}".strip()
    except LoratuiError as error:
        return f"{error.message} {error.advice}".strip()
    return ""


def _split(rest: str) -> list[str]:
    try:
        return shlex.split(rest)
    except ValueError as error:
        raise DatasetError(f"The command cannot be read: {error}.", "Close the quotes.") from None


def _other(room: DatasetRoom, word: str, rest: str, prefix: str = "") -> str:
    library = room.studio.library
    if word == "order":
        error = library.order(rest)
        return _worded(error) if error is not None else ""
    if word == "filter":
        room.use_filter(rest)
    elif word == "keep":
        if not library.filter or room.studio.project is None:
            return "There is no filter to keep: / types one."
        keep_filter(room.studio.project.root, rest, library.filter)
        room.notify(f"Kept as {rest.strip()}. f uses it again.")
    elif word in {"mark", "unmark"}:
        if not rest and word == "mark":
            return "Which pictures? Type a filter, as in: mark blur:yes"
        library.mark(select(parse(rest), library.rows) if rest else library.rows, word == "mark")
    elif word == "stars":
        if rest not in set("012345"):
            return "Stars are a number from 0 to 5."
        room.give_stars(lambda _old: int(rest))
    elif word == "weight":
        weight = read_weight(rest)
        if weight is None:
            return "A weight is a number from 0 to 100; 1 is usual."
        room.give_weight(weight)
    elif word == "frame":
        room.reframe(parse_reframe(_split(rest)), room.scope(prefix))
    elif word == "import":
        _import(room, rest)
    elif word == "export":
        return _export(room, rest)
    elif word == "trash":
        room.action_trash()
    elif word in {"undo", "redo"}:
        room.step_back(undo=word == "undo")
    else:
        room.studio.action_rescan()
    return ""


def _worded(error: QueryError) -> str:
    return f"{error.reason}. {error.advice}".strip()


def _import(room: DatasetRoom, rest: str) -> None:
    project, studio = room.studio.project, room.studio
    words = _split(rest)
    if len(words) != 1 or project is None:
        raise DatasetError("Import takes one path.", "Quote it when it has spaces in it.")
    source = Path(words[0]).expanduser()

    def work(post: Post, _gone: Gone) -> None:
        from loratui.project.importing import import_into

        def progress(done: int, of: int) -> None:
            room.say_busy(f"importing {done:,}" + (f" of {of:,}" if of else ""))

        try:
            report, target = import_into(project, source, progress)
        except LoratuiError as error:
            post(Said(error.message, error.advice, "error"))
            return
        finally:
            room.say_busy("")
        what = figures.plural(report.images, "picture"), figures.plural(report.captions, "caption")
        words = f"Imported {' and '.join(what)}"
        refused = f" {len(report.problems):,} refused." if report.problems else ""
        post(Said(f"{words} into {target.name}.{refused}"))
        studio.call_later(studio.reopen_project)

    studio.in_thread(work, "import", exclusive=False)


def _export(room: DatasetRoom, rest: str) -> str:
    words = _split(rest)
    bake = words[2:] in (["bake"], ["--bake"])
    if words[:1] == ["kohya-folders"]:  # as the command line calls it, to tell it from the layout of a LoRA
        words[0] = "kohya"
    if len(words) != 2 + bake or words[0] not in FORMATS:
        return f"Export takes a format, a target, and bake or not. Formats: {', '.join(FORMATS)}."
    kind, target = cast("Format", words[0]), Path(words[1]).expanduser()
    collection, scope, studio = room.studio.library.collection, room.scope(""), room.studio
    if collection is None:
        return "The pictures are still being read."
    if not target.is_absolute():
        target = Path.cwd() / target  # as on the command line

    def work(post: Post, _gone: Gone) -> None:
        try:
            made = collection.export(
                [row for row in scope.rows if not row.known.code],
                target,
                kind,
                lambda done, of: room.say_busy(f"exporting {done:,} of {of:,}"),
                bake,
            )
        except LoratuiError as error:
            post(Said(error.message, error.advice, "error"))
            return
        finally:
            room.say_busy("")
        words = f"{figures.plural(made.images, 'picture')} and {made.captions:,} captions are in {made.path}."
        words += f" {figures.plural(made.baked, 'copy', 'copies')} turned or cropped." if made.baked else ""
        words += f" Masks are in {made.masks}." if made.masks is not None else ""
        words += f" {len(made.left_out):,} cannot be decoded and are left out." if made.left_out else ""
        hint = "" if bake else " With `bake` behind it, the copies get it."
        lost = made.lost()
        post(Said(words, lost + hint if lost else "", "warning" if lost else "information"))

    studio.in_thread(work, "export", exclusive=False)
    return ""
