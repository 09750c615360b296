"""A project: a folder with a loratui.toml that names base, trigger, pictures, prompts, preset and overrides.

my-lora/
  loratui.toml
  dataset/         pictures with .txt captions; more folders can be named in [[sources]]
  runs/RUN-ID/     one folder per run
  presets/         the project's own presets, if any
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratui.config.colours import WHITE, Paper
from loratui.config.toml import Document, flatten, quote, read_toml, value_text
from loratui.errors import ConfigError, LoratuiError, Problem, ProjectError

if TYPE_CHECKING:
    from loratui.config.presets import Preset
    from loratui.config.schema import DataConfig, RunConfig
    from loratui.dataset.scan import Scan, Source

FILE_NAME = "loratui.toml"
_KEYS: dict[str, str] = {
    "name": "text",
    "base": "text",
    "trigger": "text",
    "preset": "text",
    "prompts": "list",
}
_SOURCE_KEYS: dict[str, str] = {"path": "text", "repeats": "number", "caption": "text"}
_TABLES = ("project", "sources", "overrides")


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """One `[[sources]]` of loratui.toml; `path` as it is written there, relative to the project."""

    path: str
    repeats: int = 1
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Project:
    """What loratui.toml says.

    Attributes:
        root: absolute path of the folder.
        name: for people and for file names.
        base: base model as it is written: folder, file, Hub id or `demo`.
        trigger: the words that stand for what is learned.
        sources: folders of pictures.
        prompts: sample prompts; `{trigger}` stands for the trigger.
        preset: name of the preset that runs start from.
        overrides: dotted path -> value where runs differ from the preset.
        places: dotted key of loratui.toml -> `file:line`.
    """

    root: Path
    name: str
    base: str = ""
    trigger: str = ""
    sources: tuple[SourceEntry, ...] = (SourceEntry("dataset"),)
    prompts: tuple[str, ...] = ()
    preset: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """The loratui.toml."""
        return self.root / FILE_NAME

    @property
    def runs_dir(self) -> Path:
        """Where runs are kept."""
        return self.root / "runs"

    @property
    def cache_dir(self) -> Path:
        """Latents, thumbnails, index: may be deleted at any time."""
        return self.root / ".loratui" / "cache"

    @staticmethod
    def open(folder: Path | str) -> Project:
        """Read a project.

        Raises:
            ProjectError: no project there, or a loratui.toml with problems (all of them).
        """
        root = Path(os.path.abspath(Path(folder).expanduser()))  # noqa: PTH100 - links stay as the user wrote them
        if root.name == FILE_NAME and root.is_file():
            root = root.parent
        if not root.exists():
            raise ProjectError(f"{root} does not exist.", f"`loratui new {root}` makes a project there.")
        if not root.is_dir():
            raise ProjectError(f"{root} is a file, not a project folder.", "Name the folder.")
        if not (root / FILE_NAME).exists():
            raise ProjectError(
                f"{root} is no loratui project: it has no {FILE_NAME}.",
                f"`loratui new {root} --base MODEL` makes one of it; pictures in it stay where they are.",
            )
        try:
            return _parse(root, read_toml(root / FILE_NAME))
        except ConfigError as error:
            raise ProjectError(error.message, error.advice, error.problems) from error

    @staticmethod
    def create(
        folder: Path | str,
        base: str,
        trigger: str = "",
        images: Path | None = None,
        *,
        name: str = "",
        preset: str = "",
        prompts: Sequence[str] = (),
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Project:
        """Make a project; pictures of `images` (folder or archive) are copied into its dataset folder.

        Pictures that lie in the folder already are used where they are.

        Raises:
            ProjectError: a project is there already, or the folder cannot be written.
            DatasetError: `images` cannot be read.
        """
        root = Path(os.path.abspath(Path(folder).expanduser()))  # noqa: PTH100
        if (root / FILE_NAME).exists():
            raise ProjectError(f"{root} is a project already.", f"Open it with `loratui {root}`.")
        if images is not None and not images.exists():
            raise ProjectError(f"{images} does not exist.", "Check the path given as --images.")
        source = "dataset"
        if images is None and not (root / "dataset").exists() and _has_pictures(root):
            source = "."
        try:
            root.mkdir(parents=True, exist_ok=True)
            (root / source).mkdir(exist_ok=True)
            project = Project(
                root=root,
                name=name or slug(root.name),
                base=_stored_base(base),
                trigger=trigger,
                sources=(SourceEntry(source),),
                prompts=tuple(prompts) or _first_prompts(trigger),
                preset=preset,
            )
            if images is not None:
                from loratui.project.importing import import_pictures

                import_pictures(images, root / source, on_progress)
            # written last: a copy that broke off leaves no half-made project behind
            _write_new(root / FILE_NAME, project.as_text())
        except OSError as error:
            raise ProjectError(
                f"{root} cannot be made: {error.strerror}.", "Choose a folder that you can write to."
            ) from error
        return Project.open(root)

    def as_text(self) -> str:
        """A new loratui.toml for this project."""
        lines = [
            "# A loratui project. Paths are relative to this file.",
            "",
            "[project]",
            f"name = {quote(self.name)}",
            f"base = {quote(self.base)}          # folder, .safetensors file, Hub id, or demo",
            f"trigger = {quote(self.trigger)}",
            f"preset = {quote(self.preset)}",
            "prompts = [  # drawn while it trains; {trigger} stands for the trigger",
            *(f"  {quote(p)}," for p in self.prompts),
            "]",
        ]
        for source in self.sources:
            lines += ["", "[[sources]]", f"path = {quote(source.path)}", f"repeats = {source.repeats}"]
            if source.caption:
                lines.append(f"caption = {quote(source.caption)}")
        lines += ["", "[overrides]  # settings that differ from the preset, as in: lr = 1e-4"]
        lines += [f"{quote(k)} = {value_text(v)}" for k, v in self.overrides.items()]
        return "\n".join(lines) + "\n"

    def update(self, **changes: Any) -> Project:
        """Change name, base, trigger, preset, prompts or overrides in loratui.toml, comments kept.

        Raises:
            ProjectError: the file cannot be read or written.
        """
        from loratui.config.write import update_toml

        unknown = set(changes) - {*_KEYS, "overrides"}
        assert not unknown, f"not in loratui.toml: {unknown}"
        values = {f"project.{key}": value for key, value in changes.items() if key in _KEYS}
        if "prompts" in changes:
            values["project.prompts"] = list(changes["prompts"])
        try:
            if values:
                update_toml(self.file, values)
            if "overrides" in changes:
                _write_overrides(self.file, changes["overrides"])
        except ConfigError as error:
            raise ProjectError(error.message, error.advice, error.problems) from error
        return Project.open(self.root)

    def add_source(self, path: str, repeats: int = 1, caption: str = "") -> Project:
        """Add a `[[sources]]` to loratui.toml, comments kept.

        Raises:
            ProjectError: the file cannot be read or written.
        """
        from loratui.config.write import append_table

        try:
            if not self.places.get("sources.0"):  # the default source stands in no file yet
                for source in self.sources:
                    append_table(self.file, "sources", {"path": source.path, "repeats": source.repeats})
            more = {"caption": caption} if caption else {}
            append_table(self.file, "sources", {"path": path, "repeats": repeats, **more})
        except ConfigError as error:
            raise ProjectError(error.message, error.advice, error.problems) from error
        return Project.open(self.root)

    @property
    def paper(self) -> Paper:
        """What shows through transparent pixels; white where the settings cannot be read."""
        try:
            return self.resolve().data.paper
        except LoratuiError:
            return WHITE

    def scan_sources(self) -> list[Source]:
        """The sources with absolute paths, for `dataset.scan`."""
        from loratui.dataset.scan import Source

        return [Source(_absolute(self.root, s.path), s.repeats, s.caption) for s in self.sources]

    def scan(self, data: DataConfig | None = None, on_progress: Callable[[int], None] | None = None) -> Scan:
        """Read the project's pictures and captions, with the crops, turns and masks that were chosen."""
        from loratui.dataset.scan import scan
        from loratui.project.framing import framing

        frames, alpha = framing(self.root)
        sources = self.scan_sources()
        return scan(sources, root=self.root, data=data, on_progress=on_progress, frames=frames, alpha=alpha)

    def load_preset(self, name: str | None = None) -> Preset | None:
        """A preset by name, else the project's own choice; None when it has none."""
        from loratui.config.presets import load_preset

        chosen = self.preset if name is None else name
        return load_preset(chosen, self.root) if chosen else None

    def resolve(self, preset: str | None = None, overrides: Mapping[str, Any] | None = None) -> RunConfig:
        """The settings of a run: preset (the project's unless named), the project's overrides, then these.

        Raises:
            ConfigError: with all problems.
        """
        from loratui.config.presets import resolve

        own = dict(self.overrides)
        places = {key: self.places.get(f"overrides.{key}", str(self.file)) for key in own}
        given = dict(overrides or {})
        places |= dict.fromkeys(given, "--set")
        config = resolve(self.load_preset(preset), {**own, **given}, places)
        if not config.model.base:
            config = replace(config, model=replace(config.model, base=self.base))
        return config


def slug(text: str) -> str:
    """A name that is safe as part of a file name; never empty."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:60] or "lora"


def _absolute(root: Path, path: str) -> Path:
    return Path(os.path.normpath(root / Path(path).expanduser()))


def _stored_base(base: str) -> str:
    """A local path as it must be written so that it is found from anywhere."""
    path = Path(base).expanduser()
    if base != "demo" and base and path.exists():
        return str(path.resolve())
    return base


def _first_prompts(trigger: str) -> tuple[str, ...]:
    return ("{trigger}", "a photo of {trigger}") if trigger else ()


def _has_pictures(root: Path) -> bool:
    if not root.is_dir():
        return False
    from loratui.dataset.scan import Source, walk_sources

    return next(walk_sources([Source(root)]), None) is not None


def _write_new(path: Path, text: str) -> None:
    with open(path, "x", encoding="utf-8", newline="\n") as file:
        file.write(text)


def _write_overrides(path: Path, overrides: Mapping[str, Any]) -> None:
    """Replace the `[overrides]` table."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    from loratui.config.write import write_text

    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise ConfigError(f"{path} cannot be changed: {error}.", "Mend the file, then try again.") from error
    table: Any = document.get("overrides")
    if table is None:
        table = document["overrides"] = tomlkit.table()
    flat = {key: list(value) if isinstance(value, tuple) else value for key, value in overrides.items()}
    for key in [k for k in table if k not in flat]:
        table.pop(key)
    for key, value in flat.items():
        if key not in table or table[key] != value:
            table[key] = value
    write_text(path, tomlkit.dumps(document))


def _parse(root: Path, document: Document) -> Project:
    problems: list[Problem] = []

    def bad(key: str, code: str, message: str, advice: str = "") -> None:
        problems.append(Problem(key, code, "error", message, document.where(key), advice))

    for key in document.data:
        if key not in _TABLES:
            near = difflib.get_close_matches(key, _TABLES, 1)
            bad(key, "unknown-key", "no such table.", f"Did you mean [{near[0]}]?" if near else "")
    head = document.data.get("project", {})
    if not isinstance(head, dict):
        bad("project", "bad-value", "wants a table.")
        head = {}
    values = _checked(head, _KEYS, "project", bad)
    sources: list[SourceEntry] = []
    given = document.data.get("sources", [])
    if not isinstance(given, list) or not all(isinstance(s, dict) for s in given):
        bad("sources", "bad-value", "wants [[sources]] tables.")
        given = []
    for index, entry in enumerate(given):
        source = _checked(entry, _SOURCE_KEYS, f"sources.{index}", bad)
        if "path" not in source:
            bad(f"sources.{index}", "missing-key", "wants a path.")
        elif source.get("repeats", 1) < 1:
            bad(f"sources.{index}.repeats", "bad-value", "must be 1 or more.")
        else:
            sources.append(SourceEntry(**source))
    overrides = document.data.get("overrides", {})
    if not isinstance(overrides, dict):
        bad("overrides", "bad-value", "wants a table.")
        overrides = {}
    if problems:
        message = str(problems[0]) if len(problems) == 1 else f"{document.path} has {len(problems)} problems."
        raise ProjectError(message, "Mend loratui.toml.", tuple(problems))
    if "prompts" in values:
        values["prompts"] = tuple(values["prompts"])
    values["name"] = values.get("name") or slug(root.name)
    return Project(
        root=root,
        sources=tuple(sources) or (SourceEntry("dataset"),),
        overrides=flatten(overrides),
        places={key: document.where(key) for key in document.lines},
        **values,
    )


def _checked(
    table: Mapping[str, Any], keys: Mapping[str, str], prefix: str, bad: Callable[..., None]
) -> dict[str, Any]:
    """The known keys of a table with values of the right type; the rest goes to `bad`."""
    good: dict[str, Any] = {}
    for key, value in table.items():
        kind = keys.get(key)
        path = f"{prefix}.{key}"
        if kind is None:
            near = difflib.get_close_matches(key, keys, 1)
            bad(
                path,
                "unknown-key",
                "no such key.",
                f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(keys)}.",
            )
        elif kind == "text" and not isinstance(value, str):
            bad(path, "bad-value", "wants text in quotes.")
        elif kind == "number" and (isinstance(value, bool) or not isinstance(value, int)):
            bad(path, "bad-value", "wants a whole number.")
        elif kind == "list" and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            bad(path, "bad-value", 'wants a list of texts like ["one", "two"].')
        else:
            good[key] = value
    return good


def find_root(start: Path) -> Path | None:
    """The nearest folder upward that is a project."""
    for folder in (start, *start.parents):
        try:
            if (folder / FILE_NAME).is_file():
                return folder
        except OSError:
            return None
    return None
