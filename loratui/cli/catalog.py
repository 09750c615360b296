"""`presets`, `families`, `networks` and `optimizers`: what there is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output, problem_lines

if TYPE_CHECKING:
    from loratui.config.presets import Preset


def add(commands: Any) -> None:
    """Register the commands."""
    presets = commands.add_parser("presets", help="the presets, or one of them", description="List presets.")
    presets.add_argument("name", nargs="?", metavar="NAME", help="show this one with its settings")
    presets.add_argument(
        "--compare", default="", metavar="OTHER", help="what differs between NAME and this one"
    )
    presets.add_argument(
        "--save", default="", metavar="NEW", help="keep NAME with --set as a preset of yours"
    )
    presets.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="KEY=VALUE", help="with --save"
    )
    presets.add_argument(
        "--project", type=Path, metavar="DIR", help="with --save: in this project, not for all of yours"
    )
    presets.add_argument("--force", action="store_true", help="with --save: replace a preset that is there")
    presets.add_argument("--json", action="store_true", help="print as JSON")
    presets.set_defaults(run=run_presets)

    families = commands.add_parser("families", help="the model families", description="List model families.")
    families.add_argument("name", nargs="?", metavar="NAME", help="show this one")
    families.add_argument("--json", action="store_true", help="print as JSON")
    families.set_defaults(run=run_families)

    networks = commands.add_parser(
        "networks",
        help="the network types",
        description="List the network types, and which programs load their files.",
    )
    networks.add_argument("--json", action="store_true", help="print as JSON")
    networks.set_defaults(run=run_networks)

    optimizers = commands.add_parser(
        "optimizers", help="the optimizers", description="List optimizers, and what each is for."
    )
    optimizers.add_argument("--json", action="store_true", help="print as JSON")
    optimizers.set_defaults(run=run_optimizers)


def _root() -> Path | None:
    """The project that the current folder is in, whose own presets count too."""
    from loratui.project.project import find_root

    return find_root(Path.cwd())


def run_presets(args: argparse.Namespace, out: Output) -> int:
    """List presets, or show one."""
    from loratui.config.presets import list_presets, load_preset
    from loratui.errors import RequestError

    if args.save:
        return _save(args, out)
    if args.compare and not args.name:
        raise RequestError("There is nothing to compare with.", "`loratui presets NAME --compare OTHER`")
    if args.compare:
        return _compare(load_preset(args.name, _root()), load_preset(args.compare, _root()), out)
    if args.name:
        preset = load_preset(args.name, _root())
        out.document(preset.as_json())
        out.line(f"{preset.name}: {preset.title}")
        out.line(f"  {preset.about}")
        out.line(f"  {preset.path}")
        out.line()
        out.lines(f"  {key} = {value}" for key, value in preset.values.items())
        return 0
    presets, problems = list_presets(_root())
    out.document([p.as_json() for p in presets])
    out.table(
        [
            (p.name, p.family or "any", f"{p.memory_gib:g} GB" if p.memory_gib else "-", p.about)
            for p in presets
        ],
        ("name", "family", "memory", "what it is for"),
    )
    for text in problem_lines(problems):
        out.note(text)
    return 0


def _compare(one: Preset, other: Preset, out: Output) -> int:
    """The settings in which two presets differ; what one does not set has its default."""
    from loratui.config.presets import differences

    rows = differences(one, other)
    out.document([{"key": key, one.name: left, other.name: right} for key, left, right in rows])
    if not rows:
        out.line(f"{one.name} and {other.name} have the same settings.")
        return 0
    out.table([(key, str(left), str(right)) for key, left, right in rows], ("setting", one.name, other.name))
    return 0


def _save(args: argparse.Namespace, out: Output) -> int:
    """Keep settings as a preset."""
    from loratui.config.keep import About, keep_path, keep_preset
    from loratui.config.load import as_dict
    from loratui.config.presets import load_preset, parse_set, resolve
    from loratui.errors import ConfigError
    from loratui.project.project import Project

    root = Project.open(args.project).root if args.project is not None else None
    near = root if root is not None else _root()
    preset = load_preset(args.name, near) if args.name else None
    config = resolve(preset, parse_set(args.settings))
    target = keep_path(args.save, root)
    if target.exists() and not args.force:
        raise ConfigError(f"{target} is there already.", "Give --force to replace it, or another name.")
    head = About(args.save, "", preset.goal, preset.family) if preset is not None else About(args.save)
    kept = keep_preset(target, head, preset, as_dict(config), near)
    out.document(kept.as_json())
    out.line(f"Written: {kept.path}")
    return 0


def run_families(args: argparse.Namespace, out: Output) -> int:
    """List families, or show one."""
    import difflib
    from dataclasses import asdict

    from loratui.errors import ConfigError
    from loratui.families.spec import FAMILIES, family_spec

    rows = list(FAMILIES)
    if args.name:
        row = family_spec(args.name)
        if row is None:
            names = [f.name for f in FAMILIES]
            near = difflib.get_close_matches(args.name, names, 1)
            advice = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(names)}."
            raise ConfigError(f"There is no family {args.name!r}.", advice)
        rows = [row]
    found = [{k: v for k, v in asdict(row).items() if k != "module"} for row in rows]
    out.document(found[0] if args.name else found)
    out.table(
        [(f.name, f.title, f"{f.resolution} px", f.notes) for f in rows],
        ("name", "title", "resolution", "notes"),
    )
    return 0


def run_networks(args: argparse.Namespace, out: Output) -> int:
    """List network types."""
    from loratui.weights.networks import NETWORKS

    out.document([
        {"name": n.name, "title": n.title, "about": n.about, "format": n.format, "loads": list(n.loads),
         "options": sorted(n.options), "note": n.note}
        for n in NETWORKS
    ])  # fmt: skip
    out.table(
        [(n.name, n.title, ", ".join(n.loads), n.about) for n in NETWORKS],
        ("name", "title", "loaded by", "what it is"),
    )
    for row in NETWORKS:
        if row.note:
            out.line(f"  {row.name}: {row.note}")
    return 0


def run_optimizers(args: argparse.Namespace, out: Output) -> int:
    """List optimizers."""
    import importlib.util

    from loratui.optim.spec import OPTIMIZERS

    rows, found = [], []
    for spec in OPTIMIZERS:
        there = not spec.module or importlib.util.find_spec(spec.module) is not None
        facts = {"package": spec.package, "installed": there, "state_bytes": spec.state_bytes}
        found.append({"name": spec.name, "title": spec.title, "notes": spec.notes, **facts})
        missing = "" if there else spec.package
        rows.append((spec.name, spec.title, f"{spec.state_bytes:g}", missing, spec.notes))
    out.document(found)
    out.table(rows, ("name", "title", "bytes a weight", "to install", "what it is for"))
    return 0
