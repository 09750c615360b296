"""Where a run can be followed to, without importing any of it. To add one: a module, and a row here."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from loratui.errors import MissingPackageError, RequestError
from loratui.runs.directory import RunDir
from loratui.runs.events import Event
from loratui.runs.state import RunState


@dataclass(frozen=True, slots=True)
class FollowerSpec:
    """One program.

    Attributes:
        name: as `--to` takes it.
        title: for people.
        module: that has `open(run, options)`.
        needs: the module it imports.
        package: what `pip install` calls that.
        about: where things go, in one sentence.
        options: the names of the options it takes, each with its help.
    """

    name: str
    title: str
    module: str
    needs: str
    package: str
    about: str
    options: Mapping[str, str] = field(default_factory=dict)


class Follower(Protocol):
    """Takes a run's events in order; those from before it came, too."""

    def take(self, event: Event, state: RunState) -> None:
        """One event, and the run's state after it."""

    def flush(self) -> None:
        """No more events for now."""

    def close(self, state: RunState) -> None:
        """The run has ended, or nobody wants to follow it any more."""


FOLLOWERS = (
    FollowerSpec(
        "tensorboard", "TensorBoard", "loratui.followers.tensorboard", "tensorboardX", "tensorboardX",
        "event files for `tensorboard --logdir`, in PROJECT/tensorboard/RUN-ID",
        {"logdir": "another folder for the event files"},
    ),
    FollowerSpec(
        "wandb", "Weights & Biases", "loratui.followers.wandb", "wandb", "wandb",
        "your account (`wandb login`, or WANDB_API_KEY); WANDB_MODE=offline keeps it on this disk",
        {"project": "name of the W&B project (default: the project's)"},
    ),
    FollowerSpec(
        "trackio", "Trackio", "loratui.followers.trackio", "trackio", "trackio",
        "Trackio's own folder on this machine, or a Space named with TRACKIO_SPACE_ID",
        {"project": "name of the Trackio project (default: the project's)"},
    ),
    FollowerSpec(
        "apprise", "Apprise", "loratui.followers.apprise", "apprise", "apprise",
        "messages at the first sample, the end and a failure, to the addresses in LORATUI_APPRISE_URLS or in"
        " the file apprise.txt of the user config folder",
    ),
)  # fmt: skip


def check(name: str, options: Mapping[str, Any]) -> FollowerSpec:
    """The program of that name, when it can be used.

    Raises:
        RequestError: there is none of that name, or an option is not its own.
        MissingPackageError: it is not installed.
    """
    spec = next((s for s in FOLLOWERS if s.name == name), None)
    if spec is None:
        raise RequestError(
            f"There is no {name!r} to follow to.", f"There are: {', '.join(s.name for s in FOLLOWERS)}."
        )
    strange = [key for key, value in options.items() if value is not None and key not in spec.options]
    if strange:
        raise RequestError(f"{spec.title} takes no --{strange[0]}.")
    if importlib.util.find_spec(spec.needs) is None:
        raise MissingPackageError(
            f"{spec.title} needs the package {spec.package}, which is not installed.",
            f"Install it with `{sys.executable} -m pip install {spec.package}`.",
        )
    return spec


def open_follower(name: str, run: RunDir, options: Mapping[str, Any]) -> Follower:
    """Connect to a program; raises what `check` does, and JobError when the program refuses."""
    module = importlib.import_module(check(name, options).module)
    made: Follower = module.open_run(run, {k: v for k, v in options.items() if v is not None})
    return made
