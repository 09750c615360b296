"""Room 2 as tables: its keys, which page has which, and where the panels stand."""

from __future__ import annotations

from loratui.ui.actions import Action

ACTIONS: tuple[Action, ...] = (
    Action("captions.choose", "space", "choose", "choose", "Choose the captioner under the cursor, or not"),
    Action("captions.try", "t", "try", "try", "Ask the chosen captioners about this picture"),
    Action("captions.compare", "equals_sign", "compare", "compare",
           "Ask the chosen captioners and the one under the cursor, side by side"),
    Action("captions.start", "s", "start", "start", "Start captioning; it needs no window"),
    Action("captions.mode", "m", "mode", "mode", "Missing captions only, replace, append or prepend"),
    Action("captions.next", "right_square_bracket", "picture(1)", "picture", "Next picture to try on"),
    Action("captions.previous", "left_square_bracket", "picture(-1)", "", "Picture before", show=False),
    Action("captions.scope", "M", "scope", "which", "All pictures, the marked, or those of the filter"),
    Action("captions.accept", "a", "accept", "accept", "This caption is good: go to the next"),
    Action("captions.edit", "e", "edit", "edit", "Edit this caption; it is then kept from later runs"),
    Action("captions.pause", "p", "pause", "pause", "Pause the caption run, or let it go on"),
    Action("captions.stop", "x", "stop", "stop…", "End the caption run; it can be resumed"),
    Action("captions.resume", "R", "resume_run", "resume", "Go on with the caption run where it ended"),
    Action("captions.reject", "x", "reject", "reject", "Take back what was there before the run"),
    Action("captions.skip", "n", "skip(1)", "next", "Next caption, without a verdict"),
    Action("captions.skip_back", "N", "skip(-1)", "previous", "Caption before", show=False),
    Action("captions.accept_all", "A", "accept_all", "all good…", "Accept all captions that wait"),
    Action("captions.order", "o", "order", "order", "Order as written, by certainty or by length"),
    Action("captions.undo", "u", "undo", "undo", "Take the newest change of captions back"),
    Action("captions.redo", "ctrl+r", "redo", "redo", "Do again what was taken back", show=False),
    Action("captions.review", "r", "page('review')", "look over", "Look over what caption runs wrote"),
    Action("captions.watch", "w", "page('live')", "watch", "Watch the caption run"),
    Action("captions.setup", "escape", "leave_page", "set up", "Stop a try; back to choosing captioners"),
)  # fmt: skip
PAGE_ACTIONS: dict[str, tuple[str, ...]] = {
    "setup": ("choose", "try", "compare", "start", "mode", "picture", "scope"),
    "live": ("pause", "stop", "resume_run"),
    "review": ("accept", "edit", "reject", "skip", "accept_all", "order", "undo", "redo"),
}
"""Page -> actions that it alone has."""
LAYOUT = """
    CaptionsRoom #summary { height: 1; padding: 0 2; }
    CaptionsRoom #setup-page { height: 1fr; }
    CaptionsRoom #setup { width: 14fr; height: 1fr; }
    CaptionsRoom #choosing { height: 1fr; }
    CaptionsRoom #captioners-panel { width: 36; padding: 0; }
    CaptionsRoom #options-panel { width: 1fr; padding: 0; }
    CaptionsRoom #about { height: 9; }
    CaptionsRoom #try { width: 9fr; height: 1fr; }
    CaptionsRoom #try-picture-panel { height: 1fr; }
    CaptionsRoom #try-said-panel { height: 1fr; padding: 0; }
    CaptionsRoom #live, CaptionsRoom #review { display: none; height: 1fr; }
    CaptionsRoom #queue-panel { width: 1fr; height: 1fr; padding: 0; }
    CaptionsRoom #review-right { width: 1fr; height: 1fr; }
    CaptionsRoom #review-picture-panel { height: 1fr; }
    CaptionsRoom #review-was { height: 4; }
    CaptionsRoom #review-caption-panel { height: 6; }
    CaptionsRoom #review-said-panel { height: 10; padding: 0; }
    CaptionsRoom.-live #setup-page, CaptionsRoom.-review #setup-page { display: none; }
    CaptionsRoom.-live #live { display: block; }
    CaptionsRoom.-review #review { display: block; }
    CaptionsRoom.-low #live-figures { height: 8; }
    CaptionsRoom.-low #about { height: 7; }
    CaptionsRoom.-low #review-was { height: 3; }
    CaptionsRoom.-low #review-caption-panel { height: 4; }
    CaptionsRoom.-low #review-said-panel { height: 6; }
    CaptionsRoom.-narrow #queue-panel { width: 2fr; }
    CaptionsRoom.-narrow #review-right { width: 3fr; }
    CaptionsRoom.-narrow #try { display: none; width: 1fr; }
    CaptionsRoom.-narrow.-trying #try { display: block; }
    CaptionsRoom.-narrow.-trying #setup { display: none; }
    """
