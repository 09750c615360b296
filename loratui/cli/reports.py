"""`report`: a run for others to see, as one web page or one picture of its samples."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from loratui.cli.output import Output


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "report",
        help="a run as one web page: losses, samples, settings, data",
        description="Write a run as one HTML file that needs nothing else, or its samples as one PNG.",
    )
    parser.add_argument("which", nargs="?", default="last", metavar="RUN", help="a run (default: last)")
    parser.add_argument("--out", metavar="F", help="file to write, .html or .png (default: RUN-ID.html here)")
    parser.add_argument("--side", type=int, metavar="PX", help="longer side of a picture at most")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    parser.set_defaults(run=run_report)


def run_report(args: argparse.Namespace, out: Output) -> int:
    """Write the page or the picture."""
    from loratui.cli.places import run_named
    from loratui.errors import RequestError
    from loratui.report.export import export_page, export_sheet

    run = run_named(args.which)
    target = Path(args.out).expanduser() if args.out else Path(f"{run.id}.html")
    if target.suffix.lower() not in {".html", ".htm", ".png"}:
        raise RequestError(f"{target} is neither .html nor .png.", "Give --out one of these endings.")
    if args.side is not None and not 32 <= args.side <= 4096:
        raise RequestError(f"--side wants 32 to 4096 px, not {args.side}.")

    def tell(done: int, total: int) -> None:
        out.progress(f"pictures  {done}/{total}")

    options = {} if args.side is None else {"side": args.side}
    if target.suffix.lower() == ".png":
        count = export_sheet(run, target, progress=tell, **options)
    else:
        count = export_page(run, target, progress=tell, **options)
    out.end_progress()
    size = target.stat().st_size
    out.document({"run": str(run.path), "file": str(target.absolute()), "samples": count, "bytes": size})
    out.line(f"Wrote {target} with {count} samples, {size / 1e6:.1f} MB.")
    return 0
