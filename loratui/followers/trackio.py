"""Trackio: Hugging Face's local tracker. The token of a Space comes from its own login."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from loratui.errors import JobError
from loratui.followers.figures import figures_of, flat
from loratui.paths import state_dir
from loratui.runs.directory import RunDir
from loratui.runs.events import Event
from loratui.runs.launch import run_document
from loratui.runs.state import RunState


def open_run(run: RunDir, options: Mapping[str, Any]) -> Trackio:
    """Begin a run there, or go on with it.

    Raises:
        JobError: Trackio refused.
    """
    import trackio

    project = str(options.get("project") or run.path.parent.parent.name)
    space = os.environ.get("TRACKIO_SPACE_ID")
    try:
        trackio.init(
            project=project, name=run.id, resume="allow", config=flat(run_document(run)), embed=False,
            **({"space_id": space} if space else {}),
        )  # fmt: skip
    except Exception as error:  # whatever its client raises: it must not look like a defect of ours
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise JobError(f"Trackio refused: {first}", "Unset TRACKIO_SPACE_ID to keep it here.") from error
    return Trackio(run, trackio)


class Trackio:
    """Figures and pictures of one run."""

    def __init__(self, run: RunDir, client: Any) -> None:
        self.run, self._client = run, client
        self._mark = state_dir() / "followers" / f"{run.id}-trackio.sent"
        try:
            self._sent = int(self._mark.read_text())
        except (OSError, ValueError):
            self._sent = 0

    def take(self, event: Event, state: RunState) -> None:
        """One event, unless an earlier follower has sent it."""
        number = int(event.get("n") or 0)
        if number <= self._sent:
            return
        self._sent = number
        found: dict[str, Any] = dict(figures_of(event))
        if event.get("kind") == "sample":
            path = self.run.path / str(event.get("path"))
            if path.is_file() and path.resolve().is_relative_to(self.run.path.resolve()):
                name = f"samples/{int(event.get('index') or 0) + 1}"
                found[name] = self._client.Image(str(path), caption=str(event.get("prompt"))[:500])
        if found:
            self._client.log(found, step=int(event.get("step") or state.step))

    def flush(self) -> None:
        """It sends by itself; what was given to it is written down here, as it does not tell."""
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        self._mark.write_text(str(self._sent))

    def close(self, state: RunState) -> None:
        """End it there."""
        self.flush()
        self._client.finish()
