"""`audit`, `query`, `edit`, `undo` and `redo`: captions and pictures of a project, from scripts."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output

if TYPE_CHECKING:
    from pathlib import Path

    from loratui.dataset.audit import Finding
    from loratui.dataset.batch import Batch
    from loratui.dataset.rows import PictureRow
    from loratui.project.collection import Collection, Moved
    from loratui.project.history import Outcome

_SHOWN = 40
"""Pictures printed as text unless --all; --json has every one."""
_NOTES = {
    "kind": "tags|prose|auto: say what kind of captions these are",
    "stars": "0 to 5: give stars",
    "weight": "0 to 100: weigh the loss of these pictures; 1 is usual",
    "pin": "keep these captions from batches",
    "unpin": "let batches change them again",
}
_FILTER = "filter language; `loratui query --help` shows it"


def add(commands: Any) -> None:
    """Register the commands."""
    _add_query(commands)
    _add_edit(commands)
    audit = commands.add_parser(
        "audit",
        help="what is wrong with pictures and captions",
        description="Measure the pictures (once; it is kept) and list findings on files, looks, doubles"
        " and captions. Nothing is changed. A finding with a safe fix names the edit that mends it.",
    )
    audit.add_argument("dir", metavar="DIR", help="the project")
    audit.add_argument("--captions", action="store_true", help="only captions: nothing has to be measured")
    audit.add_argument("--all", action="store_true", help="name every picture of every finding")
    audit.add_argument("--fix", metavar="CODE", help="mend this finding, where a fix is safe; one undo step")
    audit.add_argument("--dry-run", action="store_true", help="with --fix: only show what would change")
    audit.add_argument("--json", action="store_true", help="print the findings as JSON")
    audit.set_defaults(run=run_audit)
    for name, run in (("undo", run_undo), ("redo", run_redo)):
        words = "take the newest step back" if name == "undo" else "do again what was taken back last"
        parser = commands.add_parser(
            name, help=words, description=f"{words.capitalize()}: captions, notes and the trash alike."
        )
        parser.add_argument("dir", metavar="DIR", help="the project")
        parser.add_argument("--steps", type=int, default=1, metavar="N", help="so many steps; default 1")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")
        parser.set_defaults(run=run)


def _add_query(commands: Any) -> None:
    from loratui.dataset.query import FIELDS

    rows = "\n".join(f"  {f.name:<12} {f.help}" for f in FIELDS.values())
    query = commands.add_parser(
        "query",
        help="find pictures by a filter",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="List the pictures that a filter selects; without a filter, all.",
        epilog="filters:\n"
        "  hat                        a word anywhere in caption or path\n"
        '  tag:"long hair" AND NOT (width:<512 OR blur:yes)\n'
        '  name:re:"^IMG_[0-9]+"      a regular expression;  ="Text" minds the case\n'
        f"  @NAME                      a filter kept with --keep NAME\n\nfields:\n{rows}",
    )
    query.add_argument("dir", metavar="DIR", help="the project")
    query.add_argument(
        "expr", nargs="?", default="", metavar="EXPR", help="the filter, or @NAME of a kept one"
    )
    query.add_argument(
        "--sort",
        default="",
        metavar="FIELDS",
        help="fields between commas, as in --sort=-width,name (- puts the largest first)",
    )
    query.add_argument("--keep", default="", metavar="NAME", help="keep this filter under a name")
    query.add_argument("--forget", default="", metavar="NAME", help="forget a kept filter")
    query.add_argument("--kept", action="store_true", help="list the kept filters")
    query.add_argument(
        "-0", "--null", action="store_true", help="raw paths with a NUL after each, for xargs -0"
    )
    query.add_argument("--json", action="store_true", help="print count and paths as JSON")
    query.set_defaults(run=run_query)


def _add_edit(commands: Any) -> None:
    from loratui.dataset.edit_parse import OPERATIONS

    rows = [f"  {s.name + ' ' + s.usage:<44} {s.help}" for s in OPERATIONS.values()]
    rows += [f"  {name:<44} {words}" for name, words in _NOTES.items()]
    edit = commands.add_parser(
        "edit",
        help="change many captions as one step that can be undone",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Change captions of all pictures, or of those that --where selects. Prints the diff.\n"
        "Hand-written ones are left alone, and prose by edits of tags. `loratui undo DIR` takes it back.",
        epilog="operations:\n" + "\n".join(rows) + "\n\nAn argument that begins with a dash goes after `--`.",
    )
    edit.add_argument("dir", metavar="DIR", help="the project")
    edit.add_argument("op", metavar="OP", help="one of the operations below")
    edit.add_argument("args", nargs="*", metavar="ARG", help="its arguments")
    edit.add_argument("--where", default="", metavar="EXPR", help=_FILTER)
    edit.add_argument("--dry-run", action="store_true", help="show what would change; change nothing")
    edit.add_argument("--include-pinned", action="store_true", help="captions written by hand, too")
    edit.add_argument("--all", action="store_true", help=f"print every diff, not the first {_SHOWN}")
    edit.add_argument("--json", action="store_true", help="print the result as JSON")
    edit.set_defaults(run=run_edit)
    edit.intermixed = True


# --- what the commands share --------------------------------------------------------------------------------


def collection_at(folder: str, out: Output) -> Collection:
    """The pictures of a project as they lie on disk now."""
    from loratui.cli.places import project_at
    from loratui.project.collection import Collection

    project = project_at(folder)
    collection = Collection(project, project.resolve().data)
    collection.refresh(lambda done: out.progress(f"reading  {done}"))
    out.end_progress()
    return collection


def select_rows(collection: Collection, text: str, out: Output, sort: str = "") -> list[PictureRow]:
    """The pictures that a filter selects, `@NAME` for a kept one; measured where it asks for that.

    Raises:
        QueryError: the filter or the order cannot be read.
    """
    from loratui.dataset.query import QueryError, parse, parse_sort, select, sort_rows
    from loratui.dataset.tokens import count_tokens
    from loratui.project.findings import find_out

    text = _expand(collection, text)
    try:
        node = parse(text) if text.strip() else None
        keys = parse_sort(sort) if sort else ()
    except QueryError as error:
        if not out.json:
            for line in error.pointer().splitlines():
                out.note(f"  {line}")
        raise
    rows = find_out(
        collection, node, keys, count_tokens(), lambda done, of: out.progress(f"measuring  {done}/{of}")
    )
    out.end_progress()
    chosen = rows if node is None else select(node, rows)
    return sort_rows(chosen, keys) if keys else list(chosen)


def _expand(collection: Collection, text: str) -> str:
    """The text of a kept filter for `@NAME`."""
    import difflib

    from loratui.errors import DatasetError
    from loratui.project.filters import READY, kept_filters

    if not text.startswith("@"):
        return text
    known = {**READY, **kept_filters(collection.project.root)}
    name = text[1:].strip()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        advice = f"Did you mean @{near[0]} ?" if near else f"There are: {', '.join(known)}."
        raise DatasetError(f"No filter is kept as {name}.", advice)
    return known[name]


def tell_conflicts(outcome: Outcome, out: Output) -> None:
    """What was left alone or changed by somebody else, on stderr, both texts of a conflict."""
    for path, why in outcome.left[:_SHOWN]:
        out.note(f"  {path}: {why}")
    for conflict in outcome.conflicts[:_SHOWN]:
        out.note(f"  {conflict.path}: changed by another program, left as it is")
        out.note(f"    it holds      {_words(conflict.found)}")
        out.note(f"    not written   {_words(conflict.wanted)}")
    more = max(0, len(outcome.left) - _SHOWN) + max(0, len(outcome.conflicts) - _SHOWN)
    if more:
        out.note(f"  ... and {more} more; --json lists all")


def conflict_json(outcome: Outcome) -> dict[str, Any]:
    """Left and conflicting files as JSON."""
    return {
        "left": [{"path": str(path), "reason": why} for path, why in outcome.left],
        "conflicts": [
            {
                "path": str(c.path),
                "expected": _words(c.expected),
                "found": _words(c.found),
                "wanted": _words(c.wanted),
            }
            for c in outcome.conflicts
        ],
    }


def _words(data: bytes | None) -> str:
    return "(no file)" if data is None else data.decode("utf-8", "replace").strip()


# --- the commands -------------------------------------------------------------------------------------------


def run_query(args: argparse.Namespace, out: Output) -> int:
    """List the pictures that a filter selects."""
    import os

    from loratui.project.filters import READY, forget_filter, keep_filter, kept_filters

    if args.kept or args.forget:
        from loratui.cli.places import project_at

        root = project_at(args.dir).root
        if args.forget:
            forget_filter(root, args.forget)
        kept = kept_filters(root)
        out.document({"kept": kept, "ready": READY})
        out.table([(f"@{k}", v) for k, v in {**READY, **kept}.items()], ("name", "filter"))
        return 0
    collection = collection_at(args.dir, out)
    try:
        rows = select_rows(collection, args.expr, out, args.sort)
        if args.keep:
            keep_filter(collection.project.root, args.keep, _expand(collection, args.expr))
    finally:
        collection.close()
    out.document({"count": len(rows), "paths": [row.rel for row in rows]})
    if args.null and not out.json:
        sys.stdout.flush()
        sys.stdout.buffer.write(b"".join(os.fsencode(row.known.path) + b"\0" for row in rows))
        sys.stdout.buffer.flush()
        return 0
    out.lines(row.rel for row in rows)
    return 0


def run_edit(args: argparse.Namespace, out: Output) -> int:
    """Plan an edit, print its diff, make it; exit 1 when some files could not be changed."""
    from loratui.dataset.edit_parse import parse_operation

    collection = collection_at(args.dir, out)
    try:
        operation = (
            None if args.op in _NOTES else parse_operation(args.op, args.args, collection.project.trigger)
        )
        rows = select_rows(collection, args.where, out)
        if operation is None:
            return _note(args, collection, rows, out)
        batch = collection.plan(operation, rows, args.include_pinned)
        if not out.json:
            _tell_diff(batch, collection.project.root, args.all, out)
        outcome = None
        if batch.changes and not args.dry_run:
            collection.history.on_progress = lambda done, of: out.progress(f"writing  {done}/{of}")
            outcome = collection.commit(batch, include_pinned=args.include_pinned)
            out.end_progress()
    finally:
        collection.close()
    return _tell_edit(args, batch, outcome, len(rows), collection.project.root, out)


def _tell_diff(batch: Batch, root: Path, every: bool, out: Output) -> None:
    from loratui.dataset.batch import plain_diff

    shown = batch.changes if every else batch.changes[:_SHOWN]
    for change in shown:
        out.line(_rel(change.picture, root))
        diff = plain_diff(change.before, change.after) or "(only the bytes of the file: encoding, line ends)"
        out.lines(f"    {line}" for line in diff.split("\n"))
    if len(shown) < len(batch.changes):
        out.line(f"... and {len(batch.changes) - len(shown)} more; --all prints them")


def _tell_edit(
    args: argparse.Namespace, batch: Batch, outcome: Outcome | None, selected: int, root: Path, out: Output
) -> int:
    written = len(outcome.written) if outcome else 0
    document: dict[str, Any] = {
        "edit": batch.label,
        "dry_run": args.dry_run,
        "entry": outcome.entry if outcome else 0,
        "selected": selected,
        "changed": len(batch.changes) if args.dry_run else written,
        "changes": [
            {"path": _rel(c.picture, root), "before": c.before, "after": c.after} for c in batch.changes
        ],
        "reasons": batch.reasons,
        "left_alone": [{"path": _rel(c.picture, root), "reason": c.reason} for c in batch.left_alone],
        "left": [],
        "conflicts": [],
    }
    if outcome is not None:
        document |= conflict_json(outcome)
    out.document(document)
    left = ", ".join(f"{n} {reason}" for reason, n in batch.reasons.items())
    left = f" Left alone: {left}." if left else ""
    if not selected:
        out.line("The filter selects no picture." if args.where else "There are no pictures.")
    elif not batch.changes:
        out.line(f"Nothing to change in {_count(selected, 'picture')}.{left}")
    elif args.dry_run:
        out.line(f"{_count(len(batch.changes), 'caption')} would change.{left} Nothing was written.")
    else:
        out.line(f"{_count(written, 'caption')} changed: {batch.label}.{left}")
        if written:
            out.line(f"  loratui undo {args.dir}   takes it back")
    if outcome is None:
        return 0
    tell_conflicts(outcome, out)
    return 1 if outcome.left or outcome.conflicts else 0


def _note(args: argparse.Namespace, collection: Collection, rows: list[PictureRow], out: Output) -> int:
    """Kind, stars and pins: notes beside the captions, undoable like them."""
    from loratui.errors import DatasetError
    from loratui.project.history import PINNED
    from loratui.project.weighing import WEIGHT, read_weight

    argument = args.args[0].lower() if len(args.args) == 1 else ""
    wrong = DatasetError(f"{args.op}: cannot use these arguments.", f"Use: {args.op} {_NOTES[args.op]}.")
    values: dict[Any, Any]
    pictures = [row.known.path for row in rows]
    name = args.op
    if args.op == "kind":
        if argument not in {"tags", "prose", "auto"}:
            raise wrong
        values = dict.fromkeys(pictures, None if argument == "auto" else argument)
    elif args.op == "stars":
        if argument not in {"0", "1", "2", "3", "4", "5"}:
            raise wrong
        values = dict.fromkeys(pictures, int(argument) or None)
    elif args.op == WEIGHT:
        weight = read_weight(argument)
        if weight is None:
            raise wrong
        values = dict.fromkeys(pictures, weight if weight != 1 else None)
    else:
        if args.args:
            raise wrong
        name = PINNED
        captions = [row.known.caption_path for row in rows if row.known.caption_path is not None]
        values = dict.fromkeys(captions, True if args.op == "pin" else None)
    label = " ".join([args.op, *args.args])
    values = {p: v for p, v in values.items() if collection.history.note(p, name) != v}
    entry = 0
    if values and not args.dry_run:
        entry = collection.note(values, name, label).entry
    out.document(
        {
            "edit": label,
            "dry_run": args.dry_run,
            "entry": entry,
            "selected": len(rows),
            "changed": len(values),
            "paths": [_rel(p, collection.project.root) for p in values],
        }
    )
    verb = "would change" if args.dry_run else "changed"
    out.line(f"{label}: {len(values)} of {len(rows)} {verb}.")
    return 0


def run_audit(args: argparse.Namespace, out: Output) -> int:
    """List findings; exit 0 also when there are some: finding them is the job."""
    from loratui.dataset.tokens import count_tokens
    from loratui.project.findings import is_of_faces, measure, project_findings

    collection = collection_at(args.dir, out)
    try:
        if not args.captions:
            measure(
                collection, lambda done, of: out.progress(f"measuring  {done}/{of}"), is_of_faces(collection)
            )
            out.end_progress()
        rows = collection.rows()
        found = project_findings(collection, rows, count_tokens())
        if args.fix:
            return _mend(args, collection, rows, found, out)
    finally:
        collection.close()
    captioned = sum(bool(row.caption) for row in rows)
    out.document({"images": len(rows), "captioned": captioned, "findings": [f.as_dict() for f in found]})
    out.line(f"{_count(len(rows), 'picture')}, {captioned} with a caption, {_count(len(found), 'finding')}.")
    for finding in found:
        out.line(f"{finding.severity}: {finding.message}  [{finding.code}]")
        shown = finding.paths if args.all else finding.paths[:3]
        if len(finding.paths) < len(rows):
            more = len(finding.paths) - len(shown)
            out.line("    " + "  ".join(shown) + (f"  ... and {more} more" if more else ""))
        if finding.fix:
            import shlex

            out.line(f"    fix: loratui edit {shlex.quote(args.dir)} {shlex.join(finding.fix)}")
    return 0


def _mend(
    args: argparse.Namespace,
    collection: Collection,
    rows: list[PictureRow],
    found: list[Finding],
    out: Output,
) -> int:
    """Carry out the safe fix of one kind of finding; exit 1 when some files could not be changed."""
    from loratui.errors import DatasetError
    from loratui.project.remedies import by_code

    troubles = {trouble.code: trouble for trouble in by_code(found)}
    trouble = troubles.get(args.fix)
    if trouble is None:
        fixable = ", ".join(code for code, t in troubles.items() if t.fix)
        advice = f"There are fixes for: {fixable}." if fixable else "Nothing found here has a safe fix."
        raise DatasetError(f"The audit finds no {args.fix} here.", advice)
    operation = trouble.operation(collection.project.trigger)
    wanted = set(trouble.paths)
    chosen = [row for row in rows if row.rel in wanted]
    batch = collection.plan(operation, chosen)
    if not out.json:
        _tell_diff(batch, collection.project.root, args.all, out)
    outcome = collection.commit(batch) if batch.changes and not args.dry_run else None
    args.where = f"problem:{trouble.code}"
    return _tell_edit(args, batch, outcome, len(chosen), collection.project.root, out)


def run_undo(args: argparse.Namespace, out: Output) -> int:
    """Take steps back."""
    return _steps(args, out, undo=True)


def run_redo(args: argparse.Namespace, out: Output) -> int:
    """Do steps again."""
    return _steps(args, out, undo=False)


def _steps(args: argparse.Namespace, out: Output, undo: bool) -> int:
    from loratui.cli.places import project_at
    from loratui.errors import RequestError
    from loratui.project.collection import Collection

    if args.steps < 1:
        raise RequestError("--steps is a count of 1 or more.")
    project = project_at(args.dir)
    collection = Collection(project, project.resolve().data)
    done: list[Moved] = []
    try:
        for _ in range(args.steps):
            can = collection.history.can_undo() if undo else collection.history.can_redo()
            if can is None:
                break
            done.append(collection.undo() if undo else collection.redo())
    finally:
        collection.close()
    rows = []
    failed = False
    verb = "Undone" if undo else "Done again"
    if not done:
        out.line(f"There is nothing to {'undo' if undo else 'do again'}.")
    for moved in done:
        outcome = moved.outcome
        failed = failed or bool(outcome.left or outcome.conflicts or moved.problems)
        rows.append(
            {
                "entry": outcome.entry,
                "label": outcome.label,
                "written": [str(p) for p in outcome.written],
                "pictures": [str(p) for p in moved.pictures],
                "problems": list(moved.problems),
                **conflict_json(outcome),
            }
        )
        parts = [_count(len(outcome.written), "caption")] if outcome.written else []
        parts += [_count(len(moved.pictures), "picture")] if moved.pictures else []
        out.line(f"{verb}: {outcome.label}" + (f" ({', '.join(parts)})." if parts else "."))
        tell_conflicts(outcome, out)
        for problem in moved.problems:
            out.note(f"  {problem}")
    out.document({"steps": rows})
    return 1 if failed else 0


def _rel(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
