"""`review`: judge what caption runs wrote."""

from __future__ import annotations

import argparse
from typing import Any

from loratui.cli.output import Output


def add(commands: Any) -> None:
    """Register the command."""
    review = commands.add_parser(
        "review",
        help="look over what caption runs wrote",
        description="List captions that wait for a verdict, or give one. A rejected caption is what it was"
        " before the run; every verdict can be undone.",
    )
    review.add_argument("dir", metavar="DIR", help="the project")
    for verb, words in (("accept", "keep the caption of"), ("reject", "take back the caption of")):
        review.add_argument(
            f"--{verb}",
            action="append",
            default=[],
            metavar="PICTURE",
            help=f"{words} this picture, by name or path; `all` for all that wait; may be repeated",
        )
    review.add_argument("--json", action="store_true", help="print as JSON")
    review.set_defaults(run=run_review)


def run_review(args: argparse.Namespace, out: Output) -> int:
    """List captions that wait for a verdict, or give verdicts."""
    from loratui.caption.review import accept, reject, waiting
    from loratui.cli.places import project_at
    from loratui.errors import RequestError
    from loratui.project.history import History

    project = project_at(args.dir)
    history = History(project.root, [source.path for source in project.scan_sources()])
    items = waiting(project, history)
    chosen: dict[str, list[Any]] = {"accept": [], "reject": []}
    for verb, into in chosen.items():
        for name in getattr(args, verb):
            named = (
                items
                if name == "all"
                else [i for i in items if name in (i.rel, i.picture.name, str(i.picture))]
            )
            if not named and name != "all":
                raise RequestError(
                    f"No caption of {name} waits for a verdict.", f"`loratui review {args.dir}` lists them."
                )
            into += [i for i in named if i not in into]
    both = [i.rel for i in chosen["accept"] if i in chosen["reject"]]
    if both:
        raise RequestError(f"{both[0]} cannot be accepted and rejected.", "Name each picture once.")
    left: list[tuple[str, str]] = []
    for verb, act in (("accept", accept), ("reject", reject)):
        if chosen[verb]:
            done = act(history, chosen[verb])
            left += [(str(path), why) for path, why in done.left]
            left += [(str(c.path), "was changed since") for c in done.conflicts]
    rest = waiting(project, history) if any(chosen.values()) else items
    out.document(
        {
            "waiting": [_waiting_json(i) for i in rest],
            "accepted": len(chosen["accept"]),
            "rejected": len(chosen["reject"]) - len(left),
            "left": [{"path": path, "reason": why} for path, why in left],
        }
    )
    if any(chosen.values()):
        counts = f"{len(chosen['accept'])} accepted, {len(chosen['reject']) - len(left)} rejected"
        out.line(f"{counts}, {len(rest)} wait.")
        for path, why in left:
            out.line(f"  {path}: {why}")
        return 0
    for item in rest:
        out.line(f"{item.rel}: {item.text}")
    out.line(f"{len(rest)} wait for a verdict." if rest else "No caption waits for a verdict.")
    return 0


def _waiting_json(item: Any) -> dict[str, Any]:
    sure = item.least_sure
    return {
        "picture": item.rel,
        "run": item.run,
        "caption": item.text,
        "least_sure": None if sure > 1 else sure,
    }
