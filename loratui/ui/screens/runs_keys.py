"""What can be done in the Runs room: keys, footer, help and palette come from here."""

from __future__ import annotations

from loratui.ui.actions import Action

ACTIONS: tuple[Action, ...] = (
    Action("runs.open", "o", "open", "open", "Open this run in the monitor, live or dead", display="enter"),
    Action("runs.resume", "r", "resume_run", "resume", "Go on from its newest checkpoint, or wait again"),
    Action("runs.stop", "x", "stop", "stop…", "Finish the step, save, end"),
    Action("runs.hold", "H", "hold", "hold", "Pass the waiting run over, or let it wait again"),
    Action("runs.up", "K", "queue_move(-1)", "up", "Let the waiting run come earlier"),
    Action("runs.down", "J", "queue_move(1)", "down", "Let the waiting run come later"),
    Action("runs.mark", "space", "mark", "mark", "Mark this run, to compare it with others"),
    Action("runs.overlay", "equals_sign", "overlay", "losses", "The losses of the marked runs in one plot"),
    Action(
        "runs.differ", "D", "differ", "differences", "How settings and data of the two marked runs differ"
    ),
    Action("runs.clone", "c", "clone", "clone", "Open Train with the settings of this run, to change them"),
    Action(
        "runs.discard", "d", "discard", "remove", "Move this run to the trash; a waiting one leaves the queue"
    ),
    Action("runs.prune", "P", "prune", "disk…", "What the runs take, and what old states would free"),
    Action("runs.export", "E", "export", "export…", "Write a LoRA file of this run, and check that it loads"),
    Action("runs.samples", "S", "samples", "samples", "See the samples of this run", show=False),
)
QUEUE_KEYS = frozenset({"hold", "queue_move"})
