"""`history` and `trash`: what was done to captions and pictures, and the way back."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output, size_text

if TYPE_CHECKING:
    from loratui.project.history import History
    from loratui.project.history_log import Entry
    from loratui.project.project import Project

_SHOWN = 30


def add(commands: Any) -> None:
    """Register the commands."""
    history = commands.add_parser(
        "history",
        help="who changed which captions, and the way back to any point",
        description="List the steps of a project, the newest first; with PICTURE, what happened to its"
        " caption and where each of its tags comes from.",
    )
    history.add_argument("dir", metavar="DIR", help="the project")
    history.add_argument("picture", nargs="?", metavar="PICTURE", help="only this picture, by name or path")
    history.add_argument(
        "--restore",
        type=int,
        metavar="STEP",
        help="make captions what they were right after this step (0: before the first), as a new step",
    )
    history.add_argument("--limit", type=int, default=_SHOWN, metavar="N", help="so many steps; 0 for all")
    history.add_argument("--json", action="store_true", help="print as JSON")
    history.set_defaults(run=run_history)

    trash = commands.add_parser(
        "trash",
        help="put pictures away, list what lies there, bring it back",
        description="Pictures are never deleted: they are moved to the project's trash with their captions"
        " and masks. Without an action: list what lies there.",
    )
    trash.add_argument("dir", metavar="DIR", help="the project")
    trash.add_argument("action", nargs="?", choices=("list", "put", "restore", "purge"), default="list")
    trash.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="put: pictures by name or path; restore and purge: ids of the list, names, or `all`",
    )
    trash.add_argument("--where", default="", metavar="EXPR", help="put: the pictures that a filter selects")
    trash.add_argument("--yes", action="store_true", help="purge: yes, delete them for good")
    trash.add_argument("--json", action="store_true", help="print as JSON")
    trash.set_defaults(run=run_trash)
    trash.intermixed = True


def _open(project: Project) -> History:
    from loratui.project.history import History

    return History(project.root, [source.path for source in project.scan_sources()])


def run_history(args: argparse.Namespace, out: Output) -> int:
    """List steps, tell one picture's story, or go back to a point."""
    from loratui.cli.places import project_at

    project = project_at(args.dir)
    history = _open(project)
    picture = _picture(project, history, args.picture) if args.picture else None
    if args.restore is not None:
        return _restore(args, history, picture, out)
    if picture is not None:
        return _story(history, picture, out)
    entries = list(reversed(history.entries()))
    shown = entries[: args.limit] if args.limit > 0 else entries
    undo, redo = history.can_undo(), history.can_redo()
    out.document(
        {
            "count": len(entries),
            "steps": [_entry_json(e, history) for e in shown],
            "undo": undo.id if undo else None,
            "redo": redo.id if redo else None,
        }
    )
    if not entries:
        out.line("Nothing was changed yet.")
    out.table([(str(e.id), _time(e.time), _who(e), _what(e), _files(e)) for e in shown])
    if len(shown) < len(entries):
        out.line(f"... and {len(entries) - len(shown)} older; --limit 0 lists all")
    return 0


def _picture(project: Project, history: History, text: str) -> Path:
    """The caption file of a picture that is named by path or name."""
    from loratui.dataset.scan import walk_sources
    from loratui.dataset.sidecar import read_caption
    from loratui.errors import DatasetError

    given = Path(text).expanduser()
    for path in (given, project.root / given):
        if path.is_file():
            absolute = path.absolute()
            if history.of(absolute):  # a caption file itself
                return absolute
            return read_caption(absolute).path
    found = [p for p in walk_sources(project.scan_sources()) if text in (p.name, p.stem)]
    if len(found) == 1:
        return read_caption(found[0]).path
    if found:
        names = ", ".join(p.relative_to(project.root).as_posix() for p in found[:5])
        raise DatasetError(f"{len(found)} pictures are called {text}.", f"Name one of: {names}.")
    # a picture that is gone still has its history
    keys = {r.path for e in history.entries() for r in e.files}
    named = [k for k in keys if text in (k, Path(k).name, Path(k).stem)]
    if len(named) == 1:
        return history.path(named[0])
    raise DatasetError(f"There is no picture {text} in this project.", "`loratui query DIR` lists them.")


def _restore(args: argparse.Namespace, history: History, only: Path | None, out: Output) -> int:
    from loratui.cli.studio import conflict_json, tell_conflicts
    from loratui.errors import RequestError

    if args.restore < 0:
        raise RequestError("--restore takes the number of a step, or 0.")
    outcome = history.restore(args.restore, only=only)
    out.document(
        {"entry": outcome.entry, "written": [str(p) for p in outcome.written], **conflict_json(outcome)}
    )
    if outcome.written:
        out.line(f"{len(outcome.written)} captions are as they were after step {args.restore}.")
        out.line(f"  loratui undo {args.dir}   takes it back")
    elif not outcome.left and not outcome.conflicts:
        out.line("They are so already.")
    tell_conflicts(outcome, out)
    return 1 if outcome.left or outcome.conflicts else 0


def _story(history: History, caption: Path, out: Output) -> int:
    from loratui.dataset.batch import plain_diff
    from loratui.project.history import PINNED
    from loratui.project.provenance import provenance

    steps = history.of(caption)
    origins = provenance(history, caption)
    out.document(
        {
            "caption": str(caption),
            "pinned": bool(history.note(caption, PINNED)),
            "steps": [
                {
                    **_entry_json(s.entry, history, files=False),
                    "before": _text(s.before),
                    "after": _text(s.after),
                }
                for s in steps
            ],
            "tags": [
                {"tag": tag, "entry": o.entry, "actor": dict(o.actor), "label": o.label, "time": o.time}
                for tag, o in origins.items()
            ],
        }
    )
    if not steps:
        out.line(f"The caption {caption.name} was never changed here.")
        return 0
    for step in reversed(steps):
        out.line(f"{step.entry.id}  {_time(step.entry.time)}  {_who(step.entry)}  {_what(step.entry)}")
        diff = plain_diff(_text(step.before), _text(step.after))
        out.lines(f"    {line}" for line in diff.split("\n"))
    out.line("tags")
    for tag, origin in origins.items():
        where = (
            "as it was found" if not origin.entry else f"step {origin.entry}, {_actor(dict(origin.actor))}"
        )
        out.line(f"    {tag}: {where}")
    return 0


def run_trash(args: argparse.Namespace, out: Output) -> int:
    """List, put, restore or purge."""
    from loratui.cli.studio import collection_at, select_rows
    from loratui.errors import RequestError

    if args.where and args.action != "put":
        raise RequestError("--where goes with `put`.")
    collection = collection_at(args.dir, out)
    try:
        if args.action == "put":
            if not args.names and not args.where:
                raise RequestError("Name pictures, or select some with --where.")
            rows = select_rows(collection, args.where, out) if args.where else []
            pictures = [row.known.path for row in rows]
            pictures += [p for name in args.names for p in _named(collection.rows(), name)]
            items = collection.throw_away(list(dict.fromkeys(pictures)))
            out.document({"put": [_item_json(i) for i in items]})
            out.line(f"{len(items)} moved to the trash.")
            if items:
                out.line(f"  loratui undo {args.dir}   brings them back")
            return 0
        lying = collection.trash.items()
        if args.action == "list":
            out.document({"items": [_item_json(i) for i in lying]})
            if not lying:
                out.line("The trash is empty.")
            out.table([(i.id, _time(i.time), i.picture.name, str(i.picture.parent)) for i in lying])
            return 0
        chosen = [i for name in args.names for i in lying if name in ("all", i.id, i.picture.name)]
        missing = [
            n for n in args.names if n != "all" and not any(n in (i.id, i.picture.name) for i in lying)
        ]
        if missing or not args.names:
            what = f"There is no {missing[0]} in the trash." if missing else "Name what is meant, or `all`."
            raise RequestError(what, f"`loratui trash {args.dir}` lists what there is.")
        ids = list(dict.fromkeys(i.id for i in chosen))
        if args.action == "restore":
            items = collection.bring_back(ids)
            out.document({"restored": [_item_json(i) for i in items]})
            out.line(f"{len(items)} brought back.")
            return 0
        if not args.yes:
            raise RequestError(f"This would delete {len(ids)} for good.", "Say --yes if that is meant.")
        freed = collection.trash.purge(ids)
        out.document({"purged": ids, "bytes": freed})
        out.line(f"{len(ids)} deleted for good, {size_text(freed)} freed.")
        return 0
    finally:
        collection.close()


def _named(rows: Any, name: str) -> list[Path]:
    from loratui.errors import DatasetError

    given = Path(name).expanduser().absolute()
    found = [r.known.path for r in rows if name in (r.rel, r.known.path.name) or r.known.path == given]
    if not found:
        raise DatasetError(f"There is no picture {name} in this project.", "`loratui query DIR` lists them.")
    if len(found) > 1:
        raise DatasetError(f"{len(found)} pictures are called {name}.", "Name it by its path.")
    return found


def _item_json(item: Any) -> dict[str, Any]:
    return {"id": item.id, "picture": str(item.picture), "files": len(item.files), "time": item.time}


def _entry_json(entry: Entry, history: History, files: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {
        "entry": entry.id,
        "time": entry.time,
        "actor": entry.actor,
        "label": entry.label,
        "undoes": entry.undoes or None,
        "redoes": entry.redoes or None,
    }
    if files:
        found["files"] = [str(history.path(r.path)) for r in entry.files]
    return found


def _who(entry: Entry) -> str:
    return _actor(entry.actor)


def _actor(actor: dict[str, Any]) -> str:
    """`captioner wd (threshold 0.35)`; the label says the rest of a batch."""
    kind, name = str(actor.get("kind", "")), str(actor.get("name", ""))
    detail = ", ".join(f"{k} {v}" for k, v in actor.items() if k not in {"kind", "name", "run"})
    words = kind if kind in {"hand", "batch", "restore"} or not name else f"{kind} {name}"
    return f"{words} ({detail})" if detail else words


def _what(entry: Entry) -> str:
    if entry.undoes:
        return f"undo of {entry.undoes}: {entry.label}"
    if entry.redoes:
        return f"redo of {entry.redoes}: {entry.label}"
    return entry.label


def _files(entry: Entry) -> str:
    count = len(entry.files)
    return f"{count} caption{'' if count == 1 else 's'}" if count else f"{len(entry.notes)} notes"


def _time(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _text(data: bytes | None) -> str | None:
    if data is None:
        return None
    from loratui.dataset.sidecar import decode_caption

    return decode_caption(data, Path()).text
