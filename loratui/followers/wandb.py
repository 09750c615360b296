"""Weights & Biases. Its key comes from `wandb login` or the environment, never from a command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loratui.errors import JobError
from loratui.followers.figures import figures_of, flat
from loratui.runs.directory import RunDir
from loratui.runs.events import Event
from loratui.runs.launch import run_document
from loratui.runs.state import ENDED, RunState

_MARK = "loratui/event"
"""Number of the newest event that was sent, so that a follower that comes back sends nothing twice."""


def open_run(run: RunDir, options: Mapping[str, Any]) -> WandB:
    """Begin a run there, or go on with it.

    Raises:
        JobError: W&B refused.
    """
    import wandb

    document = run_document(run)
    project = str(options.get("project") or run.path.parent.parent.name)
    try:
        handle = wandb.init(
            project=project, id=run.id, name=run.name, resume="allow", config=flat(document),
            dir=str(run.path.parent.parent / ".loratui"), save_code=False,
        )  # fmt: skip
    except Exception as error:  # whatever its client raises: it must not look like a defect of ours
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise JobError(f"W&B refused: {first}", "Run `wandb login`, or set WANDB_MODE=offline.") from error
    return WandB(run, handle, wandb.Image)


class WandB:
    """Figures and pictures of one run; the step is a figure of its own, as resumed runs go back."""

    def __init__(self, run: RunDir, handle: Any, image: Any) -> None:
        self.run, self._handle, self._image = run, handle, image
        self._sent = int(handle.summary.get(_MARK) or 0)
        handle.define_metric("step")
        handle.define_metric("*", step_metric="step")

    def take(self, event: Event, state: RunState) -> None:
        """One event."""
        number = int(event.get("n") or 0)
        if number <= self._sent:
            return
        found: dict[str, Any] = dict(figures_of(event))
        if event.get("kind") == "sample":
            path = self.run.path / str(event.get("path"))
            if path.is_file() and path.resolve().is_relative_to(self.run.path.resolve()):
                name = f"samples/{int(event.get('index') or 0) + 1}"
                found[name] = self._image(str(path), caption=str(event.get("prompt"))[:500])
        if found:
            self._handle.log({**found, "step": int(event.get("step") or state.step), _MARK: number})
            self._sent = number

    def flush(self) -> None:
        """Its own process sends by itself."""

    def close(self, state: RunState) -> None:
        """End it there, with how it ended here."""
        if state.state in ENDED:
            self._handle.summary["state"] = state.state
        self._handle.finish(exit_code=1 if state.state in {"failed", "crashed"} else 0)
