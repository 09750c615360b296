"""What can be done in the Samples room: keys, footer, help and palette come from here."""

from __future__ import annotations

from loratui.ui.actions import Action

ACTIONS: tuple[Action, ...] = (
    Action("samples.zoom", "z,enter", "zoom", "zoom", "The picture on the whole page, or back"),
    Action("samples.a", "a", "choose('a')", "A", "Take this column as A, to compare with B"),
    Action("samples.b", "b", "choose('b')", "B", "Take this column as B, to compare with A"),
    Action("samples.base", "0", "choose('base')", "base", "Take the base without LoRA as A"),
    Action("samples.flip", "f", "flip", "flip", "A and B in turn, in the same place"),
    Action("samples.favourite", "space", "favourite", "favourite", "Mark this sample as a favourite, or not"),
    Action("samples.note", "e", "note", "note", "Write a note on this sample"),
    Action("samples.more", "m", "more", "more…",
           "Draw more from a checkpoint: other prompts, strengths, bases and LoRAs"),
    Action("samples.export", "E", "export", "export…", "Write a web page of this run, or one picture of all"),
    Action("samples.now", "i", "sample_now", "sample now", "Let the running job draw after this step"),
    Action("samples.source", "o", "source", "its training", "Back to the run that the checkpoints are of"),
    Action("samples.larger", "plus,equals_sign", "size(1)", "larger",
           "Larger pictures; on the page, zoom in"),
    Action("samples.smaller", "minus", "size(-1)", "smaller", "Smaller pictures; or zoom out"),
    Action("samples.fit", "w", "fit", "all in sight", "Fit all in; or the whole picture", show=False),
    Action("samples.left", "left,h", "move(-1, 0)", "step before", "To the step before", show=False),
    Action("samples.right", "right,l", "move(1, 0)", "next step", "To the next step", show=False),
    Action("samples.up", "up,k", "move(0, -1)", "prompt above", "To the prompt above", show=False),
    Action("samples.down", "down,j", "move(0, 1)", "prompt below", "To the prompt below", show=False),
    Action("samples.first", "home,g", "edge(0)", "first step", "To the first step", show=False),
    Action("samples.newest", "end,G", "edge(1)", "newest step", "To the newest step, and stay with it",
           show=False),
    Action("samples.next_mark", "right_square_bracket", "to_favourite(1)", "next favourite",
           "To the next favourite", show=False),
    Action("samples.last_mark", "left_square_bracket", "to_favourite(-1)", "favourite before",
           "To the favourite before", show=False),
    Action("samples.pan_left", "H,shift+left", "pan(-1, 0)", "look left", "Move the picture", show=False),
    Action("samples.pan_down", "J,shift+down", "pan(0, 1)", "look down", "Move the picture", show=False),
    Action("samples.pan_up", "K,shift+up", "pan(0, -1)", "look up", "Move the picture", show=False),
    Action("samples.pan_right", "L,shift+right", "pan(1, 0)", "look right", "Move the picture",
           show=False),
    Action("samples.unflip", "escape", "unflip", "end comparing", "Back to the picture under the cursor",
           show=False),
)  # fmt: skip
