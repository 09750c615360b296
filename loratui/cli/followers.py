"""`follow`: tell other programs of a run, from a process beside it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output

if TYPE_CHECKING:
    from loratui.runs.directory import RunDir


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "follow",
        help="tell TensorBoard, W&B, Trackio or Apprise of a run",
        description="Tail a run's journal and tell another program of it, until the run has ended. The"
        " training knows nothing of it. Tokens and addresses come from the environment or from files of"
        " those programs, never from the command line.",
    )
    parser.add_argument("which", nargs="?", default="last", metavar="RUN", help="a run (default: last)")
    parser.add_argument("--to", required=True, metavar="P", help="tensorboard, wandb, trackio or apprise")
    parser.add_argument("--logdir", metavar="DIR", help="tensorboard: another folder for the event files")
    parser.add_argument("--project", metavar="NAME", help="wandb, trackio: name of the project there")
    parser.add_argument(
        "--detach", action="store_true", help="in the background; closing the terminal is fine"
    )
    parser.add_argument("--json", action="store_true", help="print how the run ended as JSON")
    parser.set_defaults(run=run_follow)


def run_follow(args: argparse.Namespace, out: Output) -> int:
    """Follow a run to another program."""
    import signal

    from loratui.cli.places import run_named
    from loratui.followers.loop import follow, only_one
    from loratui.followers.spec import open_follower

    run = run_named(args.which)
    if args.detach:
        return _detached(run, args, out)
    stopped: list[int] = []
    with only_one(run, args.to):
        follower = open_follower(args.to, run, {"logdir": args.logdir, "project": args.project})
        signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
        out.note(f"Following {run.id} to {args.to}; ctrl+c ends that, never the run.")
        state = follow(run, follower, lambda: bool(stopped))
    out.document({"run": str(run.path), "to": args.to, "state": state.state, "events": state.events})
    out.line(f"{run.id} is {state.state}; {state.events} events were followed to {args.to}.")
    return 0


def _detached(run: RunDir, args: argparse.Namespace, out: Output) -> int:
    """Start the same command without a terminal; what it says goes to a file."""
    import subprocess

    from loratui.followers.loop import only_one
    from loratui.followers.spec import check
    from loratui.paths import state_dir

    check(args.to, {"logdir": args.logdir, "project": args.project})  # said here, not in a file
    only_one(run, args.to).release()
    log = state_dir() / "followers" / f"{run.id}-{args.to}.log"
    command = [sys.executable, "-m", "loratui", "follow", str(run.path), "--to", args.to]
    for name in ("logdir", "project"):
        if getattr(args, name):
            command += [f"--{name}", getattr(args, name)]
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    out.document({"run": str(run.path), "to": args.to, "pid": process.pid, "log": str(log)})
    out.line(f"Process {process.pid} follows {run.id} to {args.to}; what it says goes to {log}.")
    return 0
