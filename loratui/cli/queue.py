"""`queue`: the runs of this machine that wait for a device."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output

if TYPE_CHECKING:
    from loratui.runs.directory import RunDir
    from loratui.runs.queue import Entry

_DEEDS = {
    "hold": "pass a run over until it is released",
    "release": "let a held run wait for its turn again; after a restart of the machine, too",
    "remove": "take a run out of the queue; `resume` queues it again",
}
_DONE = {"hold": "is held", "release": "waits for its turn", "remove": "was taken out of the queue"}


def add(commands: Any) -> None:
    """Register the command."""
    queue = commands.add_parser(
        "queue",
        help="the runs that wait for a device of this machine",
        description="Runs of all projects wait in one line for each device of this machine. "
        "Without a word: list them.",
    )
    queue.add_argument("--json", action="store_true", help="print a list as JSON")
    queue.set_defaults(run=run_list)
    deeds = queue.add_subparsers(dest="deed", metavar="DEED")
    listed = deeds.add_parser("list", help="list them (the default)", description="List them.")
    listed.add_argument("--json", action="store_true", help="print a list as JSON")
    listed.set_defaults(run=run_list)
    for name, text in _DEEDS.items():
        deed = deeds.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        deed.add_argument("which", metavar="RUN", help="its id, the beginning of it, its name or folder")
        deed.add_argument("--json", action="store_true", help="print the queue as JSON")
        deed.set_defaults(run=run_deed, deed=name)
    move = deeds.add_parser("move", help="change its place", description="Change the place of a run.")
    move.add_argument("which", metavar="RUN", help="its id, the beginning of it, its name or folder")
    move.add_argument("to", metavar="PLACE", help="up, down, first, last, or a number from 1")
    move.add_argument("--json", action="store_true", help="print the queue as JSON")
    move.set_defaults(run=run_deed, deed="move")


def run_list(args: argparse.Namespace, out: Output) -> int:
    """List what works and what waits."""
    from pathlib import Path

    from loratui.cli.output import duration
    from loratui.runs import queue

    entries, holders = queue.entries(), queue.holders()
    out.document([*map(_working, holders), *(_row(n, e) for n, e in enumerate(entries))])
    for holder in holders:
        name = Path(holder.run).name if holder.run else f"process {holder.pid}"
        out.line(f"{holder.device} has {name}.")
    if not entries:
        out.line("No run waits.")
        return 0
    import time

    rows = [
        (
            str(number + 1),
            Path(entry.run).name,
            _words(entry.standing),
            " or ".join(entry.devices)
            if entry.count == 1
            else f"{entry.count} of {', '.join(entry.devices)}",
            duration(time.time() - entry.added),
        )
        for number, entry in enumerate(entries)
    ]
    out.table(rows, ("place", "run", "state", "device", "waits"))
    if any(entry.standing == "restarted" for entry in entries):
        out.line("The machine was restarted: `loratui queue release RUN` lets a run go on.")
    return 0


def run_deed(args: argparse.Namespace, out: Output) -> int:
    """Hold, release, move or remove one run."""
    from loratui.runs import queue, waiting

    run = _queued(args.which)
    said = _DONE.get(args.deed, "")
    if args.deed == "hold":
        queue.hold(run)
    elif args.deed == "release":
        waiting.release(run)
    elif args.deed == "remove":
        waiting.remove(run)
    else:
        said = f"has place {queue.move(run, _place(run, args.to)) + 1}"
    out.document([_row(number, entry) for number, entry in enumerate(queue.entries())])
    out.line(f"{run.id} {said}.")
    return 0


def say_place(run: RunDir, out: Output) -> dict[str, Any]:
    """For a command that has started a run: tell when it has to wait; returns what JSON says of it."""
    import time

    from loratui.runs import queue
    from loratui.runs.status import status

    if queue.place(run) is None:
        return {}
    deadline = time.monotonic() + 3.0
    while time.monotonic() < deadline:  # the job says at once what it waits for, or begins
        place, state = queue.place(run), status(run)
        if place is None or state.state in {"queued", "held"}:
            break
        time.sleep(0.05)
    if place is None:
        return {}
    out.line(f"  {state.reason or 'It waits in the queue.'} `loratui queue` shows the line.")
    return {"queue": {"place": place + 1, "reason": state.reason}}


def refuse_when_busy(document: dict[str, Any]) -> None:
    """For `--no-queue`: raise LockedError when the devices that these settings ask for are taken."""
    from pathlib import Path

    from loratui.errors import LockedError
    from loratui.runs import queue
    from loratui.runs.devices import CPU, Want, wanted

    want = wanted(document) or Want((CPU,))
    if not queue.is_busy(want):
        return
    names = [Path(h.run).name or f"process {h.pid}" for h in queue.holders() if h.device in want.devices]
    names += [Path(e.run).name for e in queue.entries() if set(e.devices) & set(want.devices)]
    raise LockedError(
        f"Not free: {' or '.join(want.devices)} ({', '.join(names)}).",
        "Leave --no-queue out to wait for it, or choose another one with --device.",
    )


def _queued(text: str) -> RunDir:
    """The run that is meant: one that waits, from any folder; else any run, as elsewhere."""
    from pathlib import Path

    from loratui.cli.places import run_named
    from loratui.errors import LoratuiError, RunError
    from loratui.runs import queue
    from loratui.runs.directory import RunDir

    runs = [RunDir(entry.run) for entry in queue.entries()]
    path = Path(text).expanduser().absolute()
    for fits in (
        [r for r in runs if r.id == text or r.path == path],
        [r for r in runs if r.name == text],
        [r for r in runs if text and (r.id.startswith(text) or r.name.startswith(text))],
    ):
        if len(fits) == 1:
            return fits[0]
        if fits:
            shown = ", ".join(str(r.path) for r in fits[:5])
            raise RunError(f"{text!r} fits {len(fits)} runs that wait: {shown}.", "Give its folder.")
    try:
        return run_named(text)
    except LoratuiError as error:
        raise RunError(
            f"No run {text!r} waits in the queue.", "`loratui queue` lists those that do."
        ) from error


def _place(run: RunDir, text: str) -> int:
    from loratui.errors import RequestError
    from loratui.runs import queue

    at = queue.place(run) or 0
    places = {"up": at - 1, "down": at + 1, "first": 0, "last": len(queue.entries())}
    if text in places:
        return places[text]
    if text.isdecimal() and int(text) > 0:
        return int(text) - 1
    raise RequestError(f"{text!r} is no place.", "Give up, down, first, last, or a number from 1.")


def _row(number: int, entry: Entry) -> dict[str, Any]:
    from pathlib import Path

    return {
        "name": Path(entry.run).name,
        "run": entry.run,
        "state": "queued" if entry.standing == "waiting" else "held",
        "restarted": entry.standing == "restarted",
        "place": number + 1,
        "devices": list(entry.devices),
        "count": entry.count,
        "added_at": entry.added,
    }


def _working(holder: Any) -> dict[str, Any]:
    from pathlib import Path

    return {
        "name": Path(holder.run).name,
        "run": holder.run,
        "state": "working",
        "place": 0,
        "devices": [holder.device],
        "pid": holder.pid,
    }


def _words(standing: str) -> str:
    return {"waiting": "queued", "restarted": "held (restart)"}.get(standing, standing)
