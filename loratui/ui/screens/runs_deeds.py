"""What the Runs room does with runs: queue, comparisons, clones, disk and trash; slow work in threads."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from textual.message import Message

from loratui.errors import LoratuiError
from loratui.runs.state import ENDED
from loratui.ui import figures
from loratui.ui.messages import Said
from loratui.ui.panels.queue import QueuePanel
from loratui.ui.screens.choose import Choice, ChooseDialog, Option
from loratui.ui.screens.confirm import ConfirmDialog
from loratui.ui.screens.lines import RowsDialog
from loratui.ui.screens.room import Room
from loratui.ui.screens.runs_overlay import OverlayDialog
from loratui.ui.widgets.plot import Curve

if TYPE_CHECKING:
    from loratui.runs.directory import RunDir
    from loratui.runs.state import RunState
    from loratui.ui.watching import Gone, Post

Known = tuple["RunDir", "RunState"]


class Open(Message):
    """A dialog is ready to be shown."""

    def __init__(self, dialog: RowsDialog, then: Callable[[bool | None], None] | None = None) -> None:
        super().__init__()
        self.dialog, self.then = dialog, then


class CurvesOf(Message):
    """The losses of the runs that an overlay waits for."""

    def __init__(self, dialog: OverlayDialog, curves: Sequence[Curve]) -> None:
        super().__init__()
        self.dialog, self.curves = dialog, curves


class RunsDeeds(Room):
    """The actions on the run under the cursor, on the marked ones, and on the queue."""

    def __init__(self) -> None:
        super().__init__()
        self.marked: set[RunDir] = set()

    def under_cursor(self) -> Known | None:
        """The run of the history that keys mean."""
        raise NotImplementedError

    def known(self) -> Sequence[Known]:
        """All runs of the project."""
        raise NotImplementedError

    def chosen(self) -> list[Known]:
        """The marked runs, newest first; without marks the one under the cursor."""
        found = [(run, state) for run, state in self.known() if run in self.marked]
        here = self.under_cursor()
        return found or ([here] if here is not None else [])

    def _do(self, work: Callable[[], str], then: Callable[[], None] | None = None) -> None:
        """Run `work` in a thread; tell what it says, or why it could not."""

        def body(post: Post, _gone: Gone) -> None:
            try:
                said = work()
            except (LoratuiError, OSError) as error:
                post(Said(str(error), getattr(error, "advice", ""), "error"))
                return
            post(Said(said))
            if then is not None:
                self.app.call_from_thread(then)

        self.studio.in_thread(body, "runs-deed", exclusive=False)

    # the queue

    def action_hold(self) -> None:
        """Hold a waiting run, or let it wait again."""
        entry = self.query_one(QueuePanel).current
        if entry is None:
            return

        def work() -> str:
            from loratui.runs import queue, waiting
            from loratui.runs.directory import RunDir

            run = RunDir(entry.run)
            if entry.standing == "waiting":
                queue.hold(run)
                return f"{run.id} is held."
            waiting.release(run)
            return f"{run.id} waits for its turn."

        self._do(work, self.studio.reread_runs)

    def action_queue_move(self, by: int) -> None:
        """Change the place of a waiting run."""
        panel = self.query_one(QueuePanel)
        entry = panel.current
        if entry is None:
            return
        place = panel.entries.index(entry) + by

        def work() -> str:
            from loratui.runs import queue
            from loratui.runs.directory import RunDir

            return f"Place {queue.move(RunDir(entry.run), place) + 1} in the queue."

        self._do(work, self.studio.reread_runs)

    # comparing

    def action_mark(self) -> None:
        """Mark or unmark the run under the cursor."""
        here = self.under_cursor()
        if here is not None:
            self.marked ^= {here[0]}
            self.after_mark()

    def after_mark(self) -> None:
        """Show the marks."""

    def action_overlay(self) -> None:
        """The losses of the chosen runs in one plot."""
        runs = self.chosen()
        dialog = OverlayDialog([(run.id, state) for run, state in runs])

        def work(post: Post, gone: Gone) -> None:
            from loratui.runs import curve_cache
            from loratui.runs.curves import Curves

            found: list[Curve] = []
            for run, _ in runs:
                curves, offset = curve_cache.load(run) or (Curves(), 0)
                before = offset
                with contextlib.suppress(OSError):
                    _, offset = curve_cache.read(run, curves, offset, between=lambda _at: not gone())
                if offset - before > curve_cache.WORTH and not gone():
                    curve_cache.save(run, curves, offset)
                found.append(Curve(curves.smooth.xs, curves.smooth.ys))
                post(CurvesOf(dialog, list(found)))

        self.app.push_screen(dialog)
        self.studio.in_thread(work, "overlay", self)

    def on_curves_of(self, message: CurvesOf) -> None:
        """The next curve was read."""
        message.dialog.show(message.curves)

    def action_differ(self) -> None:
        """How two runs differ: the marked ones, or the marked one and the one under the cursor."""
        runs = [run for run, _ in self.chosen()]
        here = self.under_cursor()
        if len(runs) == 1 and here is not None and here[0] != runs[0]:
            runs.append(here[0])
        if len(runs) != 2:
            self.notify("Mark two runs with space, or mark one and stand on the other.")
            return
        one, other = runs

        def work(post: Post, _gone: Gone) -> None:
            from loratui.project.past import config_differences, dataset_differences

            rows = [(key, _word(a), _word(b)) for key, a, b in config_differences(one, other)]
            try:
                changes = dataset_differences(one, other)
                rows += [(f"{c.path.rpartition('/')[2]}: {c.what}", c.one, c.other) for c in changes]
            except LoratuiError as error:
                post(Said(error.message, error.advice, "warning"))
            heading = ("setting or picture", one.id, other.id)
            empty = "Settings, pictures and captions are the same."
            post(Open(RowsDialog("what differs", heading, rows, empty)))

        self.studio.in_thread(work, "differ", self)

    def on_open(self, message: Open) -> None:
        """Show a dialog that was made in a thread."""
        self.app.push_screen(message.dialog, message.then)

    def action_clone(self) -> None:
        """Open Train with the settings of this run."""
        here = self.under_cursor()
        if here is None or self.studio.project is None:
            return
        run = here[0]

        def work(post: Post, _gone: Gone) -> None:
            from loratui.config.load import as_dict, load_run

            try:
                info, config = load_run(run.config_path)
                assert self.studio.project is not None
                now = as_dict(self.studio.project.resolve(info.preset or None))
            except (LoratuiError, OSError) as error:
                post(Said(str(error), getattr(error, "advice", ""), "error"))
                return
            values = {key: value for key, value in as_dict(config).items() if value is not None}
            decided = {"model.base", "model.family", "samples.prompts", "saving.name"}  # by the project
            own = {k: _typed(v) for k, v in values.items() if v != now[k] and (now[k] or k not in decided)}
            self.app.call_from_thread(self.studio.clone, info.preset, own)

        self.studio.in_thread(work, "clone")

    # disk

    def action_discard(self) -> None:
        """Take a waiting run out of the queue, or move a run to the trash."""
        panel = self.query_one(QueuePanel)
        entry = panel.current if panel.has_cursor else None
        if entry is not None:
            from loratui.runs.directory import RunDir

            def leave() -> str:
                from loratui.runs import waiting

                waiting.remove(RunDir(entry.run))
                return f"{RunDir(entry.run).id} was taken out of the queue."

            self._do(leave, self.studio.reread_runs)
            return
        here = self.under_cursor()
        if here is None or here[1].state not in ENDED:
            return
        run = here[0]

        def away(yes: bool | None) -> None:
            def work() -> str:
                from loratui.project.past import put_away

                put_away(run)
                return f"{run.id} is in the trash. `loratui runs DIR --restore {run.id}` brings it back."

            if yes:
                self.marked.discard(run)
                self._do(work, self.studio.reread_runs)

        question = "Checkpoints, samples and exported files go with it. It can be brought back from there."
        self.app.push_screen(ConfirmDialog(f"trash {run.id}", question, "move it to the trash"), away)

    def action_prune(self) -> None:
        """What the runs take, and what deleting old states would free."""
        runs = [run for run, _ in self.known()]

        def work(post: Post, _gone: Gone) -> None:
            from loratui.project.past import disk_usage, prunable

            found = prunable(runs)
            free = {run: sum(item.bytes for item in found if item.run == run) for run in runs}
            sizes = {run: sum(disk_usage(run).values()) for run in runs}
            rows = [
                (run.id, figures.size(sizes[run]), figures.size(free[run]) if free[run] else "–")
                for run in runs
            ]
            total, freed = sum(sizes.values()), sum(free.values())
            rows.append(("all", figures.size(total), figures.size(freed) if freed else "–"))
            verb = f"delete old states, {figures.size(freed)} (LoRA files stay)" if freed else ""
            dialog = RowsDialog("disk", ("run", "takes", "old states"), rows, "No runs yet.", verb)

            def then(yes: bool | None) -> None:
                if yes and found:
                    self._do(lambda: _prune(found))

            post(Open(dialog, then))

        self.studio.in_thread(work, "prune", self)

    def action_export(self) -> None:
        """Ask for format and checkpoint, then export."""
        current = self.under_cursor()
        if current is None:
            return
        run, state = current
        kinds = _forms(run)
        options = [Option(kind, kind, f"the newest, for {programs}") for kind, programs in kinds.items()]
        for checkpoint in reversed(state.checkpoints):
            step = figures.count(checkpoint.step)
            options += [
                Option(f"{kind} {checkpoint.step}", f"{kind}, step {step}", "that checkpoint")
                for kind in kinds
            ]

        def chosen(choice: Choice | None) -> None:
            if choice is not None:
                kind, _, step = choice.value.partition(" ")
                self._export(run, kind, step)

        self.app.push_screen(ChooseDialog("export", options, "enter writes, esc leaves"), chosen)

    def _export(self, run: RunDir, kind: str, step: str) -> None:
        """Export in a process of its own: the same command scripts use."""
        command = [sys.executable, "-m", "loratui", "export", str(run.path), "--json"]
        command += ["--format", kind] if kind != _TOKENS else []
        command += ["--step", step] if step else []
        self.notify("Exporting…", timeout=2)

        def work(post: Post, _gone: Gone) -> None:
            import subprocess

            done = subprocess.run(
                command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
            )
            try:
                file = json.loads(done.stdout)["file"]
            except (ValueError, KeyError, TypeError):
                post(Said("The export failed.", done.stderr.strip()[-400:], "error"))
                return
            if done.returncode:
                post(Said(f"Exported, but it does not load everywhere: {file}", "", "warning"))
            else:
                post(Said(f"Exported and checked: {file}"))

        self.studio.in_thread(work, "export", exclusive=False)


_TOKENS = "embedding"


def _forms(run: RunDir) -> dict[str, str]:
    """Format -> the programs that read it; new tokens alone have one for all."""
    from loratui.config.load import load_run
    from loratui.errors import LoratuiError

    with contextlib.suppress(LoratuiError, OSError):
        if load_run(run.config_path)[1].network.tokens_only:
            return {_TOKENS: "all programs"}
    return {
        "kohya": "ComfyUI, A1111, Forge, SwarmUI, InvokeAI, diffusers",
        "peft": "diffusers and PEFT",
    }


def _prune(found: list[Any]) -> str:
    from loratui.project.past import prune

    return f"{figures.size(prune(found))} freed."


def _typed(value: Any) -> str:
    """A setting as one types it; several texts as an array."""
    if isinstance(value, tuple):
        return json.dumps(list(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _word(value: Any) -> str:
    return "–" if value is None else str(value)
