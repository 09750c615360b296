"""`doctor`: what this machine has, and what needs attention."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from loratui.cli.output import Output


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "doctor",
        help="check this machine: Python, torch, GPU, disk, terminal",
        description="Check this machine. Exit 0, or 1 when something needs attention.",
    )
    parser.add_argument("dir", nargs="?", default=".", metavar="DIR", help="check the disk of this folder")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(run=run_doctor)


def run_doctor(args: argparse.Namespace, out: Output) -> int:
    """Look at everything and say what needs attention."""
    from dataclasses import asdict
    from pathlib import Path

    from loratui.cli import checkup

    if sys.stderr.isatty():
        out.progress("asking torch ...", now=True)
    checks = checkup.all_checks(Path(args.dir).expanduser().absolute())
    out.end_progress()
    bad = [c for c in checks if c.level == "attention"]
    out.document({"ok": not bad, "checks": [asdict(c) for c in checks]})
    marks = {"ok": "ok", "info": "--", "attention": "!!"}
    for check in checks:
        out.line(f"{marks[check.level]}  {check.name}: {check.detail}")
        if check.advice:
            out.line(f"      {check.advice}")
    if bad:
        out.line(f"{len(bad)} of {len(checks)} need attention.")
    return 1 if bad else 0
