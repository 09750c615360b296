"""The first room as tables: its keys, and where its parts stand."""

from __future__ import annotations

from loratui.ui.actions import Action

ACTIONS: tuple[Action, ...] = (
    Action("first.next", "ctrl+s", "summary", "plan", "See what the answers lead to", priority=True),
    Action("first.browse", "f2,ctrl+o", "browse", "browse", "Look for it on the disk", priority=True),
    Action("first.start", "enter", "start", "start", "Make the project and start the training"),
    Action("first.fix", "f", "fix", "mend", "Change the settings so that it fits the card and can start"),
    Action("first.preset", "c", "preset", "preset", "Take another preset of this family"),
    Action("first.make", "d", "make", "only make", "Make the project and look at its pictures first"),
    Action("first.back", "escape", "back", "back", "Back to the answers, or to the project before"),
    Action("first.up", "up", "move(-1)", "up", "The question before", show=False),
    Action("first.down", "down", "move(1)", "down", "The next question", show=False),
)
ASKING = frozenset({"summary", "browse", "move"})
"""Actions that belong to the questions."""
SHOWING = frozenset({"start", "fix", "preset", "make"})
"""Actions that belong to what they lead to."""
LAYOUT = """
    FirstRoom VerticalScroll { align: center middle; height: 1fr; scrollbar-size-vertical: 1; }
    FirstRoom #card { width: 100; max-width: 100%; height: auto; border: round $faint; padding: 1 2;
        border-title-color: $accent; }
    FirstRoom.-low #card { padding: 0 1; }
    FirstRoom .ask { height: 1; margin-top: 1; }
    FirstRoom .name { width: 9; text-style: bold; }
    FirstRoom .say { color: $muted; height: auto; }
    FirstRoom .told { color: $muted; height: 1; margin-left: 9; }
    FirstRoom .told.-bad { color: $warning; }
    FirstRoom Input { width: 1fr; border: none; background: $panel; padding: 0 1; height: 1;
        &:focus { border: none; } }
    FirstRoom Choice { width: 1fr; }
    FirstRoom #problem { color: $error; height: auto; display: none; margin-top: 1; }
    FirstRoom #problem.-shown { display: block; }
    FirstRoom #where { color: $muted; margin-top: 1; height: auto; }
    FirstRoom ProposalPanel { display: none; height: 1fr; }
    FirstRoom.-summary ProposalPanel { display: block; }
    FirstRoom.-summary VerticalScroll { display: none; }
    """
