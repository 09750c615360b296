"""Room 3 as tables: its keys, and where the panels stand."""

from __future__ import annotations

from loratui.ui.actions import Action

ACTIONS: tuple[Action, ...] = (
    Action("train.start", "s", "start", "start", "Start the training; it is detached and needs no window"),
    Action("train.dry_run", "D,f5", "dry_run", "dry run",
           "Measure memory and speed with a few real steps on the largest bucket; again: end it"),
    Action("train.fit", "M,f6", "fit", "make it fit",
           "What needs less memory, with the effect of each change; enter takes them"),
    Action("train.mend", "F", "mend", "mend",
           "Make the change that mends the problem under the cursor, or of the setting"),
    Action("train.undo", "u", "undo", "undo", "Take the newest change of settings back"),
    Action("train.redo", "ctrl+r", "redo", "redo", "Do again what was taken back", show=False),
    Action("train.editor", "E", "editor", "editor", "All settings as TOML in your own editor ($EDITOR)"),
    Action("train.keep", "w", "keep", "keep", "Keep these settings as a preset, for this project or for all"),
    Action("train.compare", "equals_sign", "compare", "compare",
           "What differs between this preset and another", show=False),
    Action("train.import", "i", "import_config", "import",
           "Take a config of sd-scripts, kohya_ss, ai-toolkit or OneTrainer into the form", show=False),
    Action("train.export", "x", "export_config", "export",
           "Write these settings for sd-scripts or ai-toolkit", show=False),
    Action("train.find", "slash", "find_setting", "find",
           "Find settings by name or help, from anywhere in the room", show=False),
    Action("train.reset", "R", "reset_all", "all as preset", "Take the preset's values for all settings",
           show=False),
)  # fmt: skip
LAYOUT = """
    TrainRoom #split { height: 1fr; }
    TrainRoom .panel { padding: 0; }
    TrainRoom #presets-panel { width: 8fr; min-width: 24; }
    TrainRoom #form-panel { width: 10fr; }
    TrainRoom #right { width: 12fr; }
    TrainRoom #plan { padding: 0 1; }
    TrainRoom #problems { padding: 0; }
    TrainRoom #help { height: 5; padding: 0 1; border-top: solid $faint; }
    TrainRoom #about { height: 5; padding: 0 1; border-top: solid $faint; }
    TrainRoom.-low #help { height: 4; }
    TrainRoom.-low #about { height: 4; }
    TrainRoom.-narrow #presets-panel { width: 20; min-width: 20; }
    TrainRoom.-narrow #form-panel { width: 1fr; }
    TrainRoom.-narrow #right { width: 1fr; }
"""
