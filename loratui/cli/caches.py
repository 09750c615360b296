"""`cache`: how large a project's caches are, and removing old entries."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from loratui.cli.output import Output


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "cache",
        help="size of the caches of latents and captions; remove old entries",
        description="Show what the caches of latents and captions hold. Removed entries are made again.",
    )
    parser.add_argument("dir", metavar="DIR", help="the project")
    parser.add_argument(
        "--prune", type=float, metavar="DAYS", help="remove what was not used for so many days; 0 removes all"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.set_defaults(run=run_cache)


def run_cache(args: argparse.Namespace, out: Output) -> int:
    """Show the sizes, after pruning where that is asked for."""
    from loratui.cli.places import project_at
    from loratui.errors import RequestError
    from loratui.project.caches import prune, sizes

    project = project_at(args.dir)
    if args.prune is not None and not args.prune >= 0:
        raise RequestError("--prune wants a number of days, 0 or more.")
    gone = prune(project.root, args.prune) if args.prune is not None else []
    held = sizes(project.root)
    out.document({"caches": [asdict(size) for size in held], "removed": [asdict(size) for size in gone]})
    for size in gone:
        out.line(f"Removed {size.entries} entries of {size.name}, {size.bytes / 1e6:.1f} MB.")
    rows = [(size.name, str(size.entries), f"{size.bytes / 1e6:.1f} MB") for size in held]
    out.table(rows, ("cache", "entries", "size"))
    return 0
