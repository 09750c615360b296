"""`import`: pictures into a project."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from loratui.cli.output import Output
from loratui.cli.training import tell_problems

_LAYOUTS = {
    "kohya-folders": "kohya's N_name folders",
    "kohya-toml": "a dataset TOML of sd-scripts",
    "kohya-json": "a JSON of sd-scripts",
    "imagefolder": "an imagefolder of Hugging Face",
}


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "import",
        help="copy pictures and captions into a project",
        description="Copy pictures and captions from a folder, zip or tar. Nothing there is overwritten.",
    )
    parser.add_argument(
        "source",
        metavar="SRC",
        help="folder (kohya's N_name, HF imagefolder too), zip, tar, dataset TOML or kohya JSON",
    )
    parser.add_argument("dir", metavar="DIR", help="the project")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run_import)


def run_import(args: argparse.Namespace, out: Output) -> int:
    """Import pictures; exit 2 when nothing could be taken."""
    from loratui.cli.places import project_at
    from loratui.errors import DatasetError
    from loratui.project.importing import import_into

    project = project_at(args.dir)
    report, target = import_into(
        project,
        Path(args.source).expanduser(),
        lambda done, total: out.progress(f"copying  {done}{f'/{total}' if total else ''}"),
    )
    out.end_progress()
    if not report.images and not report.present:
        problems = tuple(report.problems)
        raise DatasetError(f"There is no picture to take in {args.source}.", "Nothing was changed.", problems)
    out.document({**report.as_json(), "target": str(target)})
    known = "" if report.layout == "folder" else f", read as {_LAYOUTS[report.layout]}"
    out.line(f"Copied {report.images} pictures and {report.captions} captions into {target}{known}.")
    if report.present:
        out.line(f"  {report.present} pictures were there already.")
    if report.renamed:
        out.line(f"  {report.renamed} got another name because theirs was taken.")
    if report.left:
        out.line(f"  {report.left} other files were left.")
    tell_problems(report.problems, out)
    return 0
