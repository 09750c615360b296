"""What can be done in the room of pictures: one table for keys, footer, help and palette."""

from __future__ import annotations

from loratui.ui.actions import Action

ACTIONS: tuple[Action, ...] = (
    Action("dataset.edit", "e", "edit", "edit", "Edit the caption of this picture", display="e"),
    Action("dataset.mark", "space", "mark", "mark", "Mark this picture and move on", display="space"),
    Action("dataset.batch", "b", "batch", "batch…", "Change many captions at once: choose an edit"),
    Action("dataset.filter", "slash", "filter", "filter", "Show only pictures that a filter selects"),
    Action("dataset.audit", "A", "audit", "audit…", "What is wrong with pictures and captions"),
    Action("dataset.trash", "d", "trash", "trash", "Move this picture, or the marked ones, to the trash"),
    Action("dataset.undo", "u", "undo", "undo", "Take the last change back"),
    Action("dataset.grid", "t", "grid", "grid", "Change between list and thumbnails"),
    Action("dataset.redo", "ctrl+r", "redo", "redo", "Do again what was taken back", show=False),
    Action(
        "dataset.command", "colon", "command", "command", "Type a command: an edit, sort, import, export…"
    ),
    Action(
        "dataset.next",
        "right_square_bracket",
        "amiss(1)",
        "next to look at",
        "Next picture with a finding",
    ),
    Action(
        "dataset.previous",
        "left_square_bracket",
        "amiss(-1)",
        "",
        "Previous picture with a finding",
        show=False,
    ),
    Action(
        "dataset.captioner",
        "c",
        "app.caption_marked",
        "caption…",
        "Let models caption the marked; without marks the filtered, else all",
    ),
    Action(
        "dataset.caption_filtered",
        "F",
        "app.caption_filtered",
        "caption filtered…",
        "Let models caption what the filter shows, marked or not",
        show=False,
    ),
    Action("dataset.crop", "C", "crop", "crop…", "Crop, turn and mask this picture; the file stays as it is"),
    Action(
        "dataset.buckets", "B", "buckets", "buckets…", "The table of buckets, with a way to each", show=False
    ),
    Action("dataset.doubles", "S", "doubles", "doubles…", "Near-duplicates side by side", show=False),
    Action("dataset.rotate", "r", "rotate(True)", "turn", "Turn these pictures by a quarter", show=False),
    Action("dataset.rotate_back", "R", "rotate(False)", "turn back", "Turn them a quarter back", show=False),
    Action("dataset.mirror", "M", "mirror", "mirror", "Exchange left and right of these", show=False),
    Action("dataset.frame", "", "command('frame ')", "frame…", "Turn, mirror, crop or mask these, in words"),
    Action("dataset.unframe", "", "unframe", "reset crop", "Forget crop, turn and mirroring of these"),
    Action("dataset.alpha", "", "alpha", "alpha mask", "Use the alpha channel of these as mask, or not"),
    Action(
        "dataset.sight",
        "w",
        "sight",
        "what is trained",
        "Show exactly the pixels the trainer sees; again: what the mask leaves out, tinted",
        show=False,
    ),
    Action("dataset.zoom", "plus,equals_sign", "zoom(1)", "zoom in", "Zoom into the picture", show=False),
    Action("dataset.zoom_out", "minus", "zoom(-1)", "zoom out", "Zoom out of the picture", show=False),
    Action("dataset.fit", "0", "zoom(0)", "whole picture", "Show the whole picture again", show=False),
    Action(
        "dataset.pan_left", "H,shift+left", "pan(-1, 0)", "look left", "Move the zoomed picture", show=False
    ),
    Action(
        "dataset.pan_down", "J,shift+down", "pan(0, 1)", "look down", "Move the zoomed picture", show=False
    ),
    Action("dataset.pan_up", "K,shift+up", "pan(0, -1)", "look up", "Move the zoomed picture", show=False),
    Action(
        "dataset.pan_right", "L,shift+right", "pan(1, 0)", "look right", "Move the zoomed picture", show=False
    ),
    Action("dataset.tags", "number_sign", "tags", "tags", "Go to the tags: filter by, rename or remove one"),
    Action("dataset.match", "n", "match(1)", "next match", "Next picture of the last filter", show=False),
    Action("dataset.match_back", "N", "match(-1)", "", "Previous picture of the last filter", show=False),
    Action(
        "dataset.filters", "f", "filters", "saved filters", "Saved filters: use, keep, forget", show=False
    ),
    Action("dataset.sort", "o", "sort", "order", "Choose the order of the pictures", show=False),
    Action("dataset.turn", "O", "turn", "other way round", "Turn the order around", show=False),
    Action("dataset.invert", "v", "mark_all('turn')", "invert marks", "Turn all marks here over", show=False),
    Action("dataset.mark_all", "a", "mark_all('on')", "mark all", "Mark all pictures shown here", show=False),
    Action("dataset.unmark", "x", "mark_all('off')", "no marks", "Take all marks away", show=False),
    Action("dataset.marked", "m", "only_marked", "only marked", "Show only the marked pictures", show=False),
    Action(
        "dataset.star", "greater_than_sign", "star(1)", "a star more", "One star more, up to 5", show=False
    ),
    Action("dataset.unstar", "less_than_sign", "star(-1)", "a star less", "One star less", show=False),
    Action("dataset.copy", "y", "copy", "copy tags", "Copy the tags of this picture", show=False),
    Action("dataset.paste", "p", "paste", "paste tags", "Add the copied tags to these pictures", show=False),
    Action("dataset.editor", "E", "editor", "$EDITOR", "Edit captions in your own editor", show=False),
    Action("dataset.restore", "D", "restore", "restore…", "Look into the trash and bring back", show=False),
    Action("dataset.larger", "", "size(1)", "larger thumbnails", "Larger thumbnails; + in the grid"),
    Action("dataset.smaller", "", "size(-1)", "smaller thumbnails", "Smaller thumbnails; - in the grid"),
    Action(
        "dataset.tag_rename",
        "",
        "tag('rename')",
        "rename tag…",
        "Rename the tag under the cursor of the tags",
    ),
    Action(
        "dataset.tag_remove",
        "",
        "tag('remove')",
        "remove tag…",
        "Remove the tag under the cursor of the tags",
    ),
    Action(
        "dataset.tag_filter",
        "",
        "tag('filter')",
        "filter by tag",
        "Show the pictures with the tag of the tags' cursor",
    ),
    Action(
        "dataset.tag_add", "", "tag('add')", "add tag", "Add the tag of the tags' cursor to these pictures"
    ),
    Action("dataset.copy_caption", "Y", "copy_caption", "copy caption", "Copy the whole caption", show=False),
    Action("dataset.import", "", "command('import ')", "import…", "Copy a folder, zip or tar in"),
    Action("dataset.export", "", "command('export ')", "export…", "Write the pictures for another trainer"),
    Action(
        "dataset.kind", "", "kind", "tags or prose", "Say what this caption is, where it was guessed wrong"
    ),
    Action("dataset.all", "escape", "clear_filter", "show all", "Clear the filter", show=False),
    Action("dataset.train", "T", "app.room('train')", "train", "Go on to Train", show=False),
)
