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

    from loratui import checkup

    if sys.stderr.isatty():
        out.progress("asking torch ...", now=True)
    graphics = "" if args.json else _graphics()
    checks = checkup.all_checks(Path(args.dir).expanduser().absolute(), graphics)
    out.end_progress()
    bad = [c for c in checks if c.level == "attention"]
    out.document({"ok": not bad, "checks": [asdict(c) for c in checks]})
    marks = {"ok": "ok", "info": "--", "warning": " !", "attention": "!!"}
    for check in checks:
        out.line(f"{marks[check.level]}  {check.name}: {check.detail}")
        if check.advice:
            out.line(f"      {check.advice}")
    if bad:
        out.line(f"{len(bad)} of {len(checks)} need attention.")
    return 1 if bad else 0


def _graphics() -> str:
    """Ask the terminal how it draws pictures; empty when the answer goes elsewhere."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return ""
    from loratui.ui.graphics import KINDS, ask_terminal

    return KINDS[ask_terminal(sys.stdin.fileno(), sys.stdout.fileno()).kind]
