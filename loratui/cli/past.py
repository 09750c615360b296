"""`runs DIR --diff, --disk, --prune, --trash, --restore`: what is done with runs afterwards."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loratui.cli.output import Output, size_text

Deed = Callable[[Path, argparse.Namespace, Output], int]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `runs` that do more than list."""
    one = parser.add_mutually_exclusive_group()
    one.add_argument(
        "--diff", nargs=2, metavar=("RUN", "OTHER"), help="what differs in their settings and data sets"
    )
    one.add_argument("--disk", action="store_true", help="how much room each run takes")
    one.add_argument(
        "--prune", action="store_true", help="delete states of old checkpoints that no resume would look at"
    )
    one.add_argument("--trash", metavar="RUN", help="move a run to the project's trash")
    one.add_argument("--restore", metavar="ID", help="bring a run back from the trash")
    parser.add_argument("--dry-run", action="store_true", help="with --prune: only say what it would free")


def chosen(args: argparse.Namespace) -> Deed | None:
    """The function for the option that was given; None for the plain list."""
    from loratui.errors import RequestError

    if args.dry_run and not args.prune:
        raise RequestError("--dry-run goes with --prune.", "`loratui runs DIR --prune --dry-run`")
    deeds: tuple[tuple[Any, Deed], ...] = (
        (args.diff, run_diff), (args.disk, run_disk), (args.prune, run_prune), (args.trash, run_trash),
        (args.restore, run_restore),
    )  # fmt: skip
    return next((deed for value, deed in deeds if value), None)


def run_diff(runs_dir: Path, args: argparse.Namespace, out: Output) -> int:
    """Settings and pictures that two runs do not have alike."""
    from loratui.project.past import config_differences, dataset_differences
    from loratui.runs.directory import find_run

    one, other = (find_run(text, runs_dir) for text in args.diff)
    settings, pictures = config_differences(one, other), dataset_differences(one, other)
    out.document(
        {
            "runs": [one.id, other.id],
            "settings": [{"key": k, "one": a, "other": b} for k, a, b in settings],
            "pictures": [{"path": c.path, "what": c.what, "one": c.one, "other": c.other} for c in pictures],
        }
    )
    if not settings:
        out.line("They have the same settings.")
    rows = [(key, _shown(a), _shown(b)) for key, a, b in settings]
    out.table(rows, ("setting", one.id, other.id) if rows else ())
    out.line(f"{len(pictures)} differences in the data." if pictures else "They have the same data.")
    for change in pictures[:40]:
        values = f": {change.one} -> {change.other}" if change.one or change.other else ""
        out.line(f"  {change.path}: {change.what}{values}")
    if len(pictures) > 40:
        out.line(f"  ... and {len(pictures) - 40} more; --json lists all")
    return 0


def run_disk(runs_dir: Path, args: argparse.Namespace, out: Output) -> int:
    """Bytes of each run, and of all."""
    from loratui.project.past import disk_usage
    from loratui.runs.directory import list_runs

    sizes = {run.id: disk_usage(run) for run in list_runs(runs_dir)}
    total = sum(sum(parts.values()) for parts in sizes.values())
    rows_json = [{"name": name, **parts, "bytes": sum(parts.values())} for name, parts in sizes.items()]
    out.document({"runs": rows_json, "bytes": total})
    columns = ("checkpoints", "samples", "export")
    rows = [
        (name, size_text(sum(parts.values())), *(size_text(parts[column]) for column in columns))
        for name, parts in sizes.items()
    ]
    out.table(rows, ("run", "all", "checkpoints", "samples", "export") if rows else ())
    out.line(f"{len(sizes)} runs take {size_text(total)}.")
    return 0


def run_prune(runs_dir: Path, args: argparse.Namespace, out: Output) -> int:
    """Delete old states, or say what that would free."""
    from loratui.project.past import prunable, prune
    from loratui.runs.directory import list_runs

    found = prunable(list_runs(runs_dir))
    total = sum(item.bytes for item in found)
    freed = 0 if args.dry_run else prune(found)
    states = [{"run": i.run.id, "step": i.step, "path": str(i.path), "bytes": i.bytes} for i in found]
    out.document({"states": states, "bytes": total, "freed": freed, "dry_run": args.dry_run})
    out.table([(i.run.id, f"step {i.step}", size_text(i.bytes)) for i in found])
    if not found:
        out.line("There is no state that could go.")
    elif args.dry_run:
        out.line(
            f"{len(found)} states would free {size_text(total)}; the LoRA files stay. Nothing was deleted."
        )
    else:
        out.line(f"{len(found)} states deleted, {size_text(freed)} freed; the LoRA files stay.")
    return 0


def run_trash(runs_dir: Path, args: argparse.Namespace, out: Output) -> int:
    """Move a run to the trash."""
    from loratui.project.past import put_away
    from loratui.runs.directory import find_run

    run = find_run(args.trash, runs_dir)
    kept = put_away(run)
    out.document({"run": run.id, "kept": str(kept)})
    out.line(f"{run.id} lies in {kept}.")
    out.line(f"  loratui runs {args.dir} --restore {run.id}   brings it back")
    return 0


def run_restore(runs_dir: Path, args: argparse.Namespace, out: Output) -> int:
    """Bring a run back."""
    from loratui.project.past import bring_back

    run = bring_back(args.restore, runs_dir)
    out.document({"run": str(run.path), "id": run.id})
    out.line(f"{run.id} is back.")
    return 0


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)
