"""`frame`: turns, mirrors, crops and alpha masks of many pictures, from scripts."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output

if TYPE_CHECKING:
    from loratui.project.reframing import FramePlan

_SHOWN = 40


def add(commands: Any) -> None:
    """Register the command."""
    frame = commands.add_parser(
        "frame",
        help="turn, mirror, crop and mask pictures; the files stay as they are",
        description="Change how pictures are trained on: turned, mirrored, cropped, their alpha channel as"
        " mask. These are notes in the project's history: no picture is touched, and `loratui undo` takes"
        " them back. The options are carried out in the order of this list.",
    )
    frame.add_argument("dir", metavar="DIR", help="the project")
    frame.add_argument("--where", default="", metavar="EXPR", help="filter language; all pictures without it")
    frame.add_argument(
        "--reset", action="store_true", help="begin from the pictures as they lie in the files"
    )
    frame.add_argument(
        "--turn", choices=("90", "180", "270"), help="turn what is seen clockwise; a crop turns along"
    )
    frame.add_argument("--mirror", action="store_true", help="exchange left and right of what is seen")
    frame.add_argument(
        "--crop",
        metavar="X,Y,W,H|auto",
        help="what to keep of the turned picture, in px or per cent, as in 10%%,0,80%%,100%%; the bucket of"
        " the nearest shape is laid into it; auto: the bucket chooses",
    )
    frame.add_argument("--alpha-mask", choices=("on", "off"), help="use the alpha channel as mask, or not")
    frame.add_argument("--dry-run", action="store_true", help="show what would change; change nothing")
    frame.add_argument("--all", action="store_true", help=f"print every picture, not the first {_SHOWN}")
    frame.add_argument("--json", action="store_true", help="print the result as JSON")
    frame.set_defaults(run=run_frame)


def run_frame(args: argparse.Namespace, out: Output) -> int:
    """Plan, print, do; exit 1 when a picture was left alone for another reason than being so already."""
    from loratui.cli.studio import collection_at, select_rows
    from loratui.dataset.reframing import parse_reframe
    from loratui.project.reframing import commit_frames, plan_frames

    words = ["reset"] if args.reset else []
    words += ["turn", args.turn] if args.turn else []
    words += ["mirror"] if args.mirror else []
    words += ["crop", args.crop] if args.crop else []
    words += ["alpha", args.alpha_mask] if args.alpha_mask else []
    wish = parse_reframe(words)
    collection = collection_at(args.dir, out)
    try:
        rows = select_rows(collection, args.where, out)
        plan = plan_frames(collection, rows, wish)
        entry = 0
        if plan.changes and not args.dry_run:
            entry = commit_frames(collection, plan).entry
    finally:
        collection.close()
    out.document(_document(plan, entry, len(rows), args.dry_run))
    _tell(args, plan, len(rows), out)
    return 1 if any(reason != "already so" for _, reason in plan.left) else 0


def _document(plan: FramePlan, entry: int, selected: int, dry_run: bool) -> dict[str, Any]:
    return {
        "edit": plan.wish.describe(),
        "dry_run": dry_run,
        "entry": entry,
        "selected": selected,
        "changed": len(plan.changes),
        "changes": [
            {
                "path": c.row.rel,
                "before": c.row.frame.as_json(),
                "after": c.frame.as_json(),
                "alpha_mask": c.alpha,
                "bucket": [c.bucket.width, c.bucket.height],
                "crop": round(c.bucket.crop_share, 4),
                "upscale": round(c.bucket.upscale, 4),
            }
            for c in plan.changes
        ],
        "left_alone": [{"path": row.rel, "reason": reason} for row, reason in plan.left],
    }


def _tell(args: argparse.Namespace, plan: FramePlan, selected: int, out: Output) -> None:
    shown = plan.changes if args.all else plan.changes[:_SHOWN]
    out.table(
        [
            (
                c.row.rel,
                f"{c.bucket.width} x {c.bucket.height}",
                f"{100 * c.bucket.crop_share:.0f} %",
                f"{c.bucket.upscale:.2f}x",
                "" if c.alpha is None else "on" if c.alpha else "off",
            )
            for c in shown
        ],
        ("picture", "bucket", "cut off", "scale", "alpha mask"),
    )
    if len(shown) < len(plan.changes):
        out.line(f"... and {len(plan.changes) - len(shown)} more; --all prints them")
    others = [(row, reason) for row, reason in plan.left if reason != "already so"]
    for row, reason in others[:_SHOWN]:
        out.note(f"  {row.rel}: left alone, {reason}")
    if len(others) > _SHOWN:
        out.note(f"  ... and {len(others) - _SHOWN} more; --json lists all")
    count = len(plan.changes)
    if not selected:
        out.line("The filter selects no picture." if args.where else "There are no pictures.")
    elif not count:
        out.line(f"Nothing to change in {selected} pictures.")
    elif args.dry_run:
        out.line(f"{count} of {selected} would change: {plan.wish.describe()}. Nothing was written.")
    else:
        out.line(f"{count} of {selected} changed: {plan.wish.describe()}.")
        out.line(f"  loratui undo {args.dir}   takes it back")
