"""TensorBoard event files, through tensorboardX, which needs no TensorBoard to write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loratui.followers.figures import figures_of
from loratui.runs.directory import RunDir
from loratui.runs.events import Event
from loratui.runs.plain import clean
from loratui.runs.state import RunState


def open_run(run: RunDir, options: Mapping[str, Any]) -> TensorBoard:
    """Write into `logdir`, or PROJECT/tensorboard/RUN-ID."""
    folder = options.get("logdir")
    home = run.path.parent.parent / "tensorboard" / run.id
    return TensorBoard(run, Path(str(folder)).expanduser() if folder else home)


class TensorBoard:
    """Scalars by step with the time of the event, samples as images, settings as text.

    A file begins with the step from which it replaces what older files say: all of it when the run is
    followed anew, the steps that are done again when it is resumed.
    """

    def __init__(self, run: RunDir, folder: Path) -> None:
        self.run, self.folder = run, folder
        self._step = 0
        self._files = len(list(folder.glob("events.out.tfevents.*"))) if folder.is_dir() else 0
        self._writer: Any = None
        self._begin(0)

    def _begin(self, purge: int) -> None:
        from tensorboardX import SummaryWriter

        if self._writer is not None:
            self._writer.close()
        self._files += 1
        self._writer = SummaryWriter(
            str(self.folder), purge_step=purge, filename_suffix=f".{self._files:05d}", flush_secs=5
        )

    def take(self, event: Event, state: RunState) -> None:
        """One event."""
        kind, at = event.get("kind"), float(event.get("t") or 0.0)
        if kind == "opened":
            if state.memo.from_step < self._step or state.attempt > 1:
                self._begin(state.memo.from_step + 1)
            self._step = state.memo.from_step
            self._settings(at)
        elif kind == "sample":
            self._picture(event, at)
        if kind == "step":
            self._step = state.step
        step = int(event.get("step") or self._step)
        for name, value in figures_of(event).items():
            self._writer.add_scalar(name, value, step, walltime=at)

    def _settings(self, at: float) -> None:
        try:
            text = self.run.config_path.read_text("utf-8", "replace")
        except OSError:
            return
        self._writer.add_text("settings", "    " + text.replace("\n", "\n    "), 0, walltime=at)

    def _picture(self, event: Event, at: float) -> None:
        import numpy as np
        from PIL import Image

        path = self.run.path / str(event.get("path"))
        if not path.resolve().is_relative_to(self.run.path.resolve()):
            return
        try:
            with Image.open(path, formats=("PNG",)) as image:
                pixels_HWC = np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError):
            return
        name = clean(f"samples/{int(event.get('index') or 0) + 1} {str(event.get('prompt'))[:80]}")
        self._writer.add_image(name, pixels_HWC, int(event.get("step") or 0), walltime=at, dataformats="HWC")

    def flush(self) -> None:
        """To the disk."""
        self._writer.flush()

    def close(self, state: RunState) -> None:
        """End the file."""
        self._writer.close()
