"""`config schema`, `config import` and `config export`: the settings, and other trainers' configs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output

if TYPE_CHECKING:
    from loratui.config.trainers.report import Imported

FORMATS = ("sd-scripts", "ai-toolkit")


def add(commands: Any) -> None:
    """Register the commands."""
    config = commands.add_parser("config", help="settings", description="About the settings.")
    parts = config.add_subparsers(dest="part", metavar="PART", required=True)
    schema = parts.add_parser(
        "schema", help="every setting with its help", description="Every setting with type, default and help."
    )
    schema.add_argument("--json", action="store_true", help="print a JSON Schema, for editors")
    schema.set_defaults(run=run_schema)

    taken = parts.add_parser(
        "import",
        help="another trainer's config as a preset",
        description="Read a config of sd-scripts (TOML, or a command line in a text file), kohya_ss (JSON), "
        "ai-toolkit (YAML) or OneTrainer (JSON), and say what became of every key.",
    )
    taken.add_argument("file", type=Path, metavar="FILE", help="the config")
    taken.add_argument("--out", type=Path, metavar="PRESET.toml", help="write the preset there")
    taken.add_argument(
        "--project", type=Path, metavar="DIR", help="write it into this project's presets, named like FILE"
    )
    taken.add_argument("--force", action="store_true", help="replace a preset that is there")
    taken.add_argument("--json", action="store_true", help="print settings and report as JSON")
    taken.set_defaults(run=run_import)

    given = parts.add_parser(
        "export",
        help="a preset or run for another trainer",
        description="Write a preset, with the project's folders and prompts, as another trainer's config.",
    )
    given.add_argument("dir", type=Path, metavar="DIR", help="the project, or a run directory")
    given.add_argument("--to", required=True, choices=FORMATS, help="which trainer")
    given.add_argument("--preset", default="", help="the preset; that of the project without it")
    given.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="KEY=VALUE", help="override"
    )
    given.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="write the files there")
    given.add_argument("--force", action="store_true", help="replace files that are there")
    given.add_argument("--json", action="store_true", help="print what was written as JSON")
    given.set_defaults(run=run_export)


def run_schema(args: argparse.Namespace, out: Output) -> int:
    """Every setting with its help; with --json a JSON Schema."""
    from loratui.config.docs import field_table, json_schema, section_docs

    out.document(json_schema())
    section = ""
    for info in field_table().values():
        if info.section != section:
            section = info.section
            out.line()
            out.line(f"[{section}]  {section_docs()[section]}")
        default = '""' if info.default == "" else "[]" if info.default == () else info.default
        name = f"{info.key} (--set {info.short})" if info.short and info.short != info.key else info.key
        takes = " | ".join(info.choices) if info.choices else info.kind
        out.line(f"  {name}: {takes} = {str(default).lower() if info.kind == 'bool' else default}")
        out.line(f"      {info.help}")
    return 0


def run_import(args: argparse.Namespace, out: Output) -> int:
    """Read another trainer's config and report."""
    from loratui.config.trainers.preset import preset_text, settle
    from loratui.config.trainers.reading import import_config

    found = settle(import_config(args.file))
    text = preset_text(found)
    target = args.out
    if args.project is not None:
        from loratui.project.project import Project

        target = Project.open(args.project).root / "presets" / f"{_stem(args.file)}.toml"
    if target is not None:
        _write({target: text}, args.force)
    written = {"preset": str(target) if target else ""}
    out.document(found.as_json() | written)
    _report(found, out)
    if target is None:
        out.line()
        out.lines(text.rstrip().splitlines())
        out.note("Nothing was written: give --project DIR or --out PRESET.toml.")
    elif args.project is not None:
        out.line(f"Written: {target}. Next: loratui plan {args.project} --preset {target.stem}")
    else:
        out.line(f"Written: {target}")
    return 0


def _stem(file: Path) -> str:
    kept = "".join(c if c.isalnum() or c in "-_" else "-" for c in file.stem).strip("-")
    return kept or "imported"


def _report(found: Imported, out: Output) -> None:
    from loratui.config.trainers.report import KINDS

    out.line(f"{found.path}: a config of {found.trainer}")
    for kind, meaning in KINDS.items():
        lines = [line for line in found.lines if line.kind == kind]
        shown = [line for line in lines if kind != "ignored" or line.why]
        if not lines:
            continue
        out.line()
        quiet = len(lines) - len(shown)
        out.line(
            f"{kind} ({len(lines)}): {meaning}"
            + (f"; {quiet} of them are off or beside the point" if quiet else "")
        )
        for line in shown:
            place = (
                f"{line.where.rpartition(':')[2]:>5}: "
                if line.where.rpartition(":")[2].isdigit()
                else "       "
            )
            out.line(f"{place}{line}")
    if found.folders:
        out.line()
        out.line("pictures:")
        for folder in found.folders:
            more = " (regularisation)" if folder.regularisation else f" x {folder.repeats}"
            out.line(f"  {folder.path}{more}")
        out.line("  `loratui import FOLDER DIR` brings them into a project.")
    if found.trigger:
        out.line(f"trigger: {found.trigger}")


def _write(files: dict[Path, str], force: bool) -> None:
    from loratui.config.write import write_text
    from loratui.errors import ConfigError

    for path in files:
        if path.exists() and not force:
            raise ConfigError(f"{path} is there already.", "Give --force to replace it, or another --out.")
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{path.parent} cannot be made: {error.strerror}.", "Choose another folder."
            ) from None
        write_text(path, text)


def run_export(args: argparse.Namespace, out: Output) -> int:
    """Write settings as another trainer's config."""
    from loratui.config.load import load_run
    from loratui.config.presets import parse_set
    from loratui.project.project import Project
    from loratui.project.translating import for_trainer

    if (args.dir / "run.toml").is_file():
        info, config = load_run(args.dir)
        project, family = Project.open(Path(info.project)), info.family
    else:
        project, family = Project.open(args.dir), ""
        config = project.resolve(args.preset or None, parse_set(args.settings))
    files, unsaid = for_trainer(project, config, args.to, family)
    targets = {args.out / file: text for file, text in files.items()}
    _write(targets, args.force)
    out.document({"to": args.to, "files": [str(p) for p in targets], "unsaid": unsaid})
    out.lines(f"Written: {path}" for path in targets)
    for text in unsaid:
        out.line(f"left out: {text}")
    return 0
