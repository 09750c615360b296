"""Requests to a running job: one file each, renamed into control/, answered by an `ack` event.

Anybody who may write in the run directory may ask; the job looks between steps. A request belongs to the
attempt that was running when it was made: opening an attempt refuses what still lies there.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from loratui.errors import RunError
from loratui.files import replace_file
from loratui.runs.directory import RunDir
from loratui.runs.events import plain_json

Kind = Literal["pause", "resume", "stop", "save", "sample", "prompts", "adjust"]
KINDS: tuple[str, ...] = get_args(Kind)
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_NAME = re.compile(r"^([0-9A-HJKMNP-TV-Z]{26})-([a-z]+)\.json$")
_LARGEST = 1 << 20
_last_id = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        id: ULID; sorts by time.
        kind: one of `KINDS`, or something a newer version asks for.
        args: what goes with it.
        created: unix time by the asker's clock.
        problem: why it cannot be obeyed as it is, empty when it can.
    """

    id: str
    kind: str
    args: dict[str, Any] = field(default_factory=dict)
    created: float = 0.0
    problem: str = ""

    @property
    def filename(self) -> str:
        """Its name in control/."""
        return f"{self.id}-{self.kind}.json"


def new_id() -> str:
    """A ULID: 48 bits of milliseconds and 80 random ones; later ids of this process sort later."""
    global _last_id
    fresh = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    _last_id = fresh if fresh >> 80 > _last_id >> 80 else _last_id + 1
    return "".join(_CROCKFORD[_last_id >> shift & 31] for shift in range(125, -1, -5))


def created_at(request_id: str) -> float:
    """The unix time inside a ULID."""
    number = 0
    for char in request_id:
        number = number << 5 | _CROCKFORD.index(char)
    return (number >> 80) / 1000


def request(run: RunDir, kind: str, **args: Any) -> str:
    """Ask the job of `run` for something; returns the request's id, which its answer carries.

    Raises:
        RunError: the request cannot be written.
        ValueError: no such kind of request.
    """
    if kind not in KINDS:
        raise ValueError(f"no request {kind!r}; there are {', '.join(KINDS)}")
    made = Request(new_id(), kind, args)
    try:
        run.control.mkdir(exist_ok=True)
        replace_file(run.control / made.filename, msgspec.json.encode(plain_json(args)))
    except OSError as error:
        raise RunError(
            f"The request cannot be left in {run.control}: {error.strerror or error}.",
            "Check that the run folder is there, that you may write in it and that the disk has room.",
        ) from error
    return made.id


def adjust_problem(args: dict[str, Any]) -> str:
    """What is wrong with the arguments of an `adjust`, in one sentence; empty when nothing is.

    `save_every` and `sample_every` count steps, 0 for no samples; `lr_factor` multiplies the learning rate
    of the schedule.
    """
    least = {"save_every": 1, "sample_every": 0}
    if not args:
        return "There is nothing to change."
    for key, value in args.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key in least:
            if not (isinstance(value, int) and number and least[key] <= value <= 10**9):
                return f"{key} must be a whole number from {least[key]} on."
        elif key != "lr_factor":
            return f"There is no {key} to change; there are save_every, sample_every and lr_factor."
        elif not (number and 0 < value <= 100):
            return "lr_factor must be above 0 and at most 100."
    return ""


def pending(run: RunDir, not_before: float = 0.0) -> list[Request]:
    """The requests that wait, oldest first, without those made before `not_before` (unix time).

    One that cannot be read is among them with its `problem`; a file with a name of another form is not a
    request.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(run.control))
    except OSError:
        return []
    found = [_read(run.control / name, match) for name in names if (match := _NAME.match(name))]
    return [made for made in found if made is not None and made.created >= not_before]


def _read(path: Path, match: re.Match[str]) -> Request | None:
    request_id, kind = match.groups()
    made = created_at(request_id)
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST)
        args = msgspec.json.decode(data)
    except FileNotFoundError:  # answered meanwhile
        return None
    except (OSError, msgspec.DecodeError):
        return Request(request_id, kind, {}, made, "the request cannot be read")
    if not isinstance(args, dict):
        return Request(request_id, kind, {}, made, "the request cannot be read")
    return Request(request_id, kind, args, made, "" if kind in KINDS else f"unknown request {kind}")


def expire(run: RunDir, not_before: float) -> list[Request]:
    """The waiting requests made before `not_before`; the caller answers `expired` and removes them."""
    return [made for made in pending(run) if made.created < not_before]


def remove(run: RunDir, made: Request) -> None:
    """Take an answered request away."""
    (run.control / made.filename).unlink(missing_ok=True)
