"""The Monitor's further controls: sample an edited prompt, change intervals and rate, stop after an epoch."""

from __future__ import annotations

from typing import Any

from loratui.runs.control import adjust_problem
from loratui.ui.actions import Action
from loratui.ui.screens.room import Room

CONTROLS: tuple[Action, ...] = (
    Action(
        "monitor.sample_prompt",
        "I",
        "sample_prompt",
        "sample a prompt",
        "Edit prompts, draw them once",
        show=False,
    ),
    Action(
        "monitor.adjust", "a", "adjust", "adjust", "Change save and sample intervals and the rate", show=False
    ),
    Action(
        "monitor.stop_epoch", "X", "stop_epoch", "stop after epoch", "End when this epoch is done", show=False
    ),
)
TRAINING_KEYS = frozenset({"sample_prompt", "adjust", "stop_epoch"})


class Controls(Room):
    """Requests that need more than a key."""

    def action_sample_prompt(self) -> None:
        """Draw edited prompts once, beside the run's own."""
        from loratui.ui.screens.ask_lines import LinesDialog

        watched = self.studio.watched
        assert watched is not None

        def draw(lines: list[str] | None) -> None:
            if lines:
                self.studio.request("sample", prompts=lines)

        say = "One prompt a line. They are drawn once, after this step; the prompts of the run stay."
        self.app.push_screen(LinesDialog("sample now", watched.state.prompts[:1], say), draw)

    def action_adjust(self) -> None:
        """Change intervals and rate from here on."""
        from loratui.ui.screens.ask_lines import LinesDialog

        watched = self.studio.watched
        assert watched is not None
        config = watched.settings
        before = [
            f"save_every = {config.saving.every if config is not None else 250}",
            f"sample_every = {config.samples.every if config is not None else 250}",
            "lr_factor = 1",
        ]

        def change(lines: list[str] | None) -> None:
            given, problem = read_lines([line for line in lines or () if line not in before])
            if problem:
                self.notify(problem, severity="error")
            elif given:
                self.studio.request("adjust", **given)

        say = "From here on: steps between checkpoints and between samples, factor of the learning rate."
        self.app.push_screen(LinesDialog("adjust this run", before, say), change)

    def action_stop_epoch(self) -> None:
        """Ask, then ask the job to stop when the epoch is done."""
        from loratui.ui.screens.confirm import ConfirmDialog

        watched = self.studio.watched
        assert watched is not None
        question = "The job finishes the epoch, saves a checkpoint and ends. It can be resumed from there."
        dialog = ConfirmDialog(f"stop {watched.state.name or watched.run.id}", question, "stop it then")
        self.app.push_screen(dialog, lambda yes: self.studio.request("stop", after="epoch") if yes else None)


def read_lines(lines: list[str]) -> tuple[dict[str, Any], str]:
    """`key = number` lines as arguments of an `adjust`, and what is wrong with them."""
    given: dict[str, Any] = {}
    for line in lines:
        key, _, value = (part.strip() for part in line.partition("="))
        try:
            given[key] = float(value) if key == "lr_factor" else int(value)
        except ValueError:
            return {}, f"{key} wants a number, not {value!r}."
    return given, adjust_problem(given) if given else ""
