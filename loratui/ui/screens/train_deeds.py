"""What the train room does with all settings at once: an editor, presets, other trainers' configs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratui.config.load import as_dict
from loratui.errors import LoratuiError, Problem
from loratui.ui import text
from loratui.ui.drafts import edits_for, form_text, line_of, marked, read_form, settled, unmarked
from loratui.ui.external_editor import edit_text
from loratui.ui.figures import plural
from loratui.ui.planning import ConfigRead, FilesWritten, PresetKept, needed_class, short
from loratui.ui.screens.choose import Choice, ChooseDialog, Option
from loratui.ui.screens.lines import RowsDialog
from loratui.ui.screens.train_form import TrainForm

if TYPE_CHECKING:
    from loratui.config.presets import Preset
    from loratui.config.trainers.report import Imported, Kind, Line
    from loratui.ui.watching import Gone, Post

_FILE = "loratui-settings-.toml"
_KINDS: tuple[Kind, ...] = ("wrong", "unknown", "changed", "ignored", "default", "taken")
"""Of a report's lines: what to look at first."""


def _weight(line: Line) -> tuple[bool, int]:
    """What is off, or beside the point, comes last."""
    return line.kind == "ignored" and not line.why, _KINDS.index(line.kind)


class TrainDeeds(TrainForm):
    """The editor, keeping and comparing presets, and the way from and to other trainers."""

    def _before(self) -> dict[str, Any]:
        """The settings without what was changed in the form."""
        project = self.studio.project
        found = settled(self._base_values, project.overrides if project is not None else {})
        if project is not None and not found.get("model.base"):
            found["model.base"] = project.base
        return found

    def _values(self) -> dict[str, Any]:
        """All settings as they stand; a value that cannot be used as it was typed."""
        values = as_dict(self._config) if self._config is not None else self._before()
        bad = {p.path for p in self._found if p.severity == "error"}
        return values | {k: v for k, v in self.draft.edits.items() if k in bad or self._config is None}

    def _take_all(self, wanted: Mapping[str, Any], why: str) -> None:
        """Other settings instead of those in the form, as one step of undo."""
        edits = edits_for(wanted, self._before())
        if self.draft.replace(edits):
            count = plural(len(edits), "setting")
            self.notify(f"{count} other than the preset's. u takes it back.", title=why, timeout=5)
            self._plan()
        else:
            self.notify("Nothing was changed.", title=why)

    # the editor

    def action_editor(self) -> None:
        """All settings as TOML in the user's own editor."""
        preset, project = self._preset, self.studio.project
        if project is None or not self._base_values:
            self.notify("The settings are not read yet.")
            return
        name = text.plain(preset.name) if preset is not None else "no preset"
        title = f"{text.plain(project.name)}: the settings, with {name}"
        self._edit(form_text(self._values(), self._base_values, title), 0)

    def _edit(self, words: str, line: int) -> None:
        """Until it can be read, or is left."""
        try:
            after = edit_text(self.app, words, _FILE, line, "the form")
        except LoratuiError as error:
            self.notify(f"{error.message} {error.advice}".strip(), severity="error")
            return
        if after is None and not line:
            self.notify("Nothing was changed.")
            return
        clean = unmarked(after if after is not None else words)
        values, problems = read_form(clean, "settings")
        if problems:
            self._say_wrong(clean, problems)
            return
        wanted = self._base_values | values
        if "model.base" not in values:  # it is the project's, and no preset has one
            wanted.pop("model.base", None)
        self._take_all(wanted, "edited")

    def _say_wrong(self, words: str, problems: Sequence[Problem]) -> None:
        """The lines that cannot be read; enter goes back to the first of them."""
        lines = words.splitlines()
        rows, details = [], []
        for problem in sorted(problems, key=line_of):
            at = line_of(problem)
            there = lines[at - 1].split("  # ")[0] if 0 < at <= len(lines) else problem.path
            rows.append((str(at or ""), there, problem.message))
            details.append(f"{problem.path}: {problem.message} {problem.advice}".strip())
        said = marked(words, problems)
        first = min((line_of(p) for p in problems if line_of(p)), default=1)

        def again(yes: bool | None) -> None:
            if yes:
                self._edit(said, first)

        title = f"{plural(len(problems), 'line')} cannot be taken; nothing was changed"
        heading, verb = ("line", "what stands there", "what is wrong"), "opens the editor there"
        self.app.push_screen(RowsDialog(title, heading, rows, "", verb, details), again)

    # presets

    def action_keep(self) -> None:
        """Keep the settings as a preset."""
        from loratui.ui.screens.keep_preset import KeepPresetDialog, Kept

        project, preset, config = self.studio.project, self._preset, self._config
        if project is None or config is None or self._ready is None:
            self.notify("First mend what keeps these settings from being read.")
            return
        own = preset is not None and preset.path.parent == project.root / "presets"
        name = preset.name if preset is not None and own else f"my-{preset.name if preset else 'preset'}"
        values, family, root = as_dict(config), self._ready.family, project.root
        memory = needed_class(self._ready.plan)

        def keep(kept: Kept | None) -> None:
            if kept is None:
                return

            def work(post: Post, _gone: Gone) -> None:
                from loratui.config.keep import About, keep_preset

                title = kept.about or kept.path.stem
                about = About(title, kept.about, preset.goal if preset else "", family, memory)
                try:
                    post(PresetKept(keep_preset(kept.path, about, preset, values, root)))
                except LoratuiError as error:
                    self._said(post, error)

            self.studio.in_thread(work, "keep", self)

        about = preset.about if preset is not None and own else ""
        self.app.push_screen(KeepPresetDialog(name, about, root), keep)

    def on_preset_kept(self, message: PresetKept) -> None:
        """It is in the list, under the cursor; the form has nothing of its own any more."""
        preset = message.preset
        self.draft.replace({})
        self.read_presets(preset.name)
        self.notify(f"{preset.path}", title=f"kept as {text.plain(preset.name)}")

    def read_presets(self, chosen: str) -> None:
        """Read all presets anew, and put the cursor on one."""
        raise NotImplementedError

    def action_compare(self) -> None:
        """What differs between this preset and another."""
        one = self._preset
        if one is None:
            return
        others = [p for p in self._presets if p.name != one.name]
        others.sort(key=lambda p: p.family != one.family)
        options = [Option(p.name, p.name, p.title or p.about) for p in others]

        def take(choice: Choice | None) -> None:
            if choice is not None:
                self._compare(one, next(p for p in others if p.name == choice.value))

        title, say = f"compare {one.name} with", "enter compares   esc leaves"
        self.app.push_screen(ChooseDialog(title, options, say), take)

    def _compare(self, one: Preset, other: Preset) -> None:
        from loratui.config.docs import field_table
        from loratui.config.presets import differences

        edits, table = self.draft.edits, field_table()
        found = {path: (left, right) for path, left, right in differences(one, other)}
        for path in edits:
            if path in table and path not in found and path != "model.base":
                default = table[path].default
                found[path] = (one.values.get(path, default), other.values.get(path, default))
        here = self._values()
        heading = ["setting", one.name, other.name, *(["the form"] if edits else [])]
        rows, details = [], []
        for path, (left, right) in found.items():
            now = [short(here.get(path)) or "–"] if edits else []
            rows.append([path, short(left) or "–", short(right) or "–", *now])
            details.append(f"{path}: {table[path].help}")
        title = f"{one.name} and {other.name}: {plural(len(rows), 'difference')}"
        self.app.push_screen(RowsDialog(title, heading, rows, "They have the same settings.", "", details))

    # other trainers

    def action_import_config(self) -> None:
        """Take another trainer's config into the form."""
        from loratui.ui.screens.browse import BrowseDialog

        project = self.studio.project
        if project is None:
            return

        def take(chosen: str | None) -> None:
            if chosen is None:
                return

            def work(post: Post, _gone: Gone) -> None:
                from loratui.config.trainers.preset import settle
                from loratui.config.trainers.reading import import_config

                try:
                    post(ConfigRead(settle(import_config(Path(chosen)))))
                except LoratuiError as error:
                    self._said(post, error)

            self.studio.in_thread(work, "config", self)

        self.app.push_screen(BrowseDialog("config", project.root), take)

    def on_config_read(self, message: ConfigRead) -> None:
        """What became of each key; enter takes the settings into the form."""
        from loratui.config.trainers.report import KINDS

        found = message.found
        lines = sorted(found.lines, key=_weight)
        rows: list[tuple[str, str, str]] = []
        details: list[str] = []
        for line in lines:
            given = line.key if line.kind == "default" else f"{line.key} = {line.value}"
            ours = f"{line.to} = {line.result}" if line.to else "–"
            rows.append((line.kind, given, ours))
            why = f": {line.why}" if line.why else ""
            where = line.where.replace(str(found.path), found.path.name)
            details.append(f"{where + '  ' if where else ''}{KINDS[line.kind]}{why}")
        for folder in found.folders:
            rows.append(("pictures", folder.path, "–"))
            details.append("Not a setting: `:import PATH` in Dataset copies pictures in.")
        counted = ", ".join(f"{found.count(kind)} {kind}" for kind in _KINDS if found.count(kind))
        title = f"{found.path.name}, {found.trainer}: {counted}"

        def take(yes: bool | None) -> None:
            if yes:
                self._take_import(found)

        heading, verb = ("", "there", "here"), "takes it into the form"
        self.app.push_screen(RowsDialog(title, heading, rows, "It sets nothing.", verb, details), take)

    def _take_import(self, found: Imported) -> None:
        """All settings as that config means them; the base stays the project's where its own is not here."""
        from loratui.config.docs import field_table

        wanted = {path: info.default for path, info in field_table().items()} | dict(found.values)
        base = str(wanted.pop("model.base", "") or "")
        if base and Path(base).expanduser().exists():
            wanted["model.base"] = base
        elif base:
            self.notify(f"Its base {text.plain(base)} is not here; that of the project stays.")
        self._take_all(wanted, f"from {text.plain(found.path.name)}")

    def action_export_config(self) -> None:
        """Write the settings for another trainer."""
        from loratui.project.translating import TRAINERS

        project, config = self.studio.project, self._config
        if project is None or config is None:
            self.notify("First mend what keeps these settings from being read.")
            return
        about = {"sd-scripts": "config, dataset and prompts as TOML", "ai-toolkit": "a job as YAML"}
        options = [Option(name, name, about[name]) for name in TRAINERS]

        def take(choice: Choice | None) -> None:
            if choice is not None:
                folder = project.root / "exports" / choice.value
                self.studio.in_thread(lambda post, _gone: work(post, choice.value, folder), "config", self)

        def work(post: Post, trainer: str, folder: Path) -> None:
            from loratui.project.translating import for_trainer

            try:
                files, unsaid = for_trainer(project, config, trainer)
            except LoratuiError as error:
                self._said(post, error)
                return
            post(FilesWritten(folder, files, unsaid))

        say = "enter writes it   esc leaves"
        self.app.push_screen(ChooseDialog("settings for another trainer", options, say), take)

    def on_files_written(self, message: FilesWritten) -> None:
        """Write them, with a question before others are replaced; then tell what has no key there."""
        from loratui.ui.screens.confirm import ConfirmDialog

        there = [name for name in message.files if (message.folder / name).exists()]

        def write(yes: bool | None) -> None:
            if yes:
                self._write(message)

        if there:
            question = f"{', '.join(there)} in {message.folder} would be replaced."
            self.app.push_screen(ConfirmDialog("replace?", question, "replaces"), write)
        else:
            write(True)

    def _write(self, message: FilesWritten) -> None:
        from loratui.config.write import write_text

        try:
            message.folder.mkdir(parents=True, exist_ok=True)
            for name, words in message.files.items():
                write_text(message.folder / name, words)
        except (LoratuiError, OSError) as error:
            said = f"{error.message} {error.advice}" if isinstance(error, LoratuiError) else error.strerror
            self.notify(f"{said}", title="not written", severity="error")
            return
        rows = [("written", str(message.folder / name)) for name in message.files]
        rows += [("left out", words) for words in message.unsaid]
        title = f"written to {message.folder}"
        self.app.push_screen(RowsDialog(title, ("", ""), rows, "", "", [words for _, words in rows]))

    @staticmethod
    def _said(post: Post, error: LoratuiError) -> None:
        from loratui.ui.messages import Said

        post(Said(error.message, error.advice, "error"))
