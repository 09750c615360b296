"""`new`, `scan` and `plan`: projects before a training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output, size_text
from loratui.cli.output import duration as duration_text
from loratui.cli.training import add_setting_options, tell_problems

if TYPE_CHECKING:
    from loratui.plan.plan import Plan
    from loratui.project.estimating import Foreseen
    from loratui.project.project import Project
    from loratui.project.start import Ready


GOALS = ("character", "style", "object", "concept", "clothing", "one-image")


def add(commands: Any) -> None:
    """Register the commands."""
    new = commands.add_parser(
        "new",
        help="make a project",
        description="Make a project in DIR. Pictures that lie in DIR already are used where they are. With "
        "--goal or --card, preset, trigger and settings are proposed as in the app's wizard.",
    )
    new.add_argument("dir", metavar="DIR")
    new.add_argument(
        "--base", required=True, metavar="MODEL", help="diffusers folder, .safetensors file, Hub id, or demo"
    )
    new.add_argument("--trigger", default="", metavar="T", help="the words that stand for what is learned")
    new.add_argument("--images", metavar="SRC", help="folder, zip or tar of pictures; they are copied")
    new.add_argument("--preset", default="", metavar="P", help="the preset its runs start from")
    new.add_argument("--goal", metavar="G", choices=GOALS, help=f"what it shall learn: {', '.join(GOALS)}")
    new.add_argument("--card", metavar="C", help="what it will run on: memory in GiB, as in 12, or cpu")
    new.add_argument("--name", default="", metavar="N", help="default: the folder's name")
    new.add_argument("--json", action="store_true", help="print the result as JSON")
    new.set_defaults(run=run_new)

    scan = commands.add_parser(
        "scan",
        help="pictures, buckets and problems of a project",
        description="Read the pictures of a project.",
    )
    scan.add_argument("dir", metavar="DIR", help="a project, or any folder of pictures")
    scan.add_argument("--json", action="store_true", help="print images, buckets and problems as JSON")
    scan.set_defaults(run=run_scan)

    plan = commands.add_parser(
        "plan", help="what a training would do and need", description="Plan a training without starting it."
    )
    plan.add_argument("dir", metavar="DIR", help="the project")
    add_setting_options(plan)
    plan.add_argument(
        "--memory", action="store_true", help="estimate memory from the operations of a step (some seconds)"
    )
    plan.add_argument(
        "--fix", action="store_true", help="print the --set that mend what can be mended, instead of the plan"
    )
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")
    plan.set_defaults(run=run_plan)


def run_new(args: argparse.Namespace, out: Output) -> int:
    """Make a project."""
    if args.goal or args.card:
        from loratui.cli.proposing import run_proposed

        return run_proposed(args, out)
    from loratui.config.presets import load_preset
    from loratui.families.detect import detect, locate
    from loratui.project import Project
    from loratui.project.start import request_error

    folder = Path(args.dir).expanduser()
    base = locate(args.base, Path.cwd())
    found = detect(base)
    errors = [p for p in found.problems if p.severity == "error"]
    if errors:
        raise request_error(errors)
    preset = args.preset or ("demo" if args.base == "demo" else f"{found.family}-character")
    load_preset(preset, folder)
    images = Path(args.images).expanduser() if args.images else None
    project = Project.create(
        folder,
        args.base,
        args.trigger,
        images,
        name=args.name,
        preset=preset,
        on_progress=lambda done, total: out.progress(f"copying  {done}{f'/{total}' if total else ''}"),
    )
    out.end_progress()
    scan = project.scan(project.resolve().data)
    out.document(
        {
            "project": str(project.root),
            "name": project.name,
            "base": project.base,
            "family": found.family,
            "trigger": project.trigger,
            "preset": project.preset,
            "images": len(scan.pictures),
            "problems": [p.as_dict() for p in scan.problems],
        }
    )
    out.line(f"Made {project.file} ({found.what or found.family}, {len(scan.pictures)} pictures).")
    if not scan.pictures:
        out.line(
            f"  Put pictures into {project.scan_sources()[0].path}, or `loratui import FOLDER {args.dir}`."
        )
    else:
        out.line(f"  loratui {args.dir}   opens the app; loratui train {args.dir} --wait   trains here")
    tell_problems([p for p in scan.problems if p.severity != "info"], out)
    return 0


def run_scan(args: argparse.Namespace, out: Output) -> int:
    """Read the pictures of a project, or of any folder."""
    from loratui.config.schema import DataConfig
    from loratui.dataset.bucket_table import bucket_table
    from loratui.dataset.scan import Source, scan
    from loratui.errors import DatasetError
    from loratui.project import FILE_NAME, Project

    def show(done: int) -> None:
        out.progress(f"reading  {done}")

    folder = Path(args.dir).expanduser()
    data = DataConfig()
    if not (folder / FILE_NAME).exists() and folder.is_dir():
        found = scan([Source(folder.absolute())], root=folder.absolute(), on_progress=show)
    else:
        project = Project.open(folder)
        data = project.resolve().data
        found = project.scan(data, show)
    out.end_progress()
    if not found.pictures:
        errors = found.errors
        raise DatasetError(
            f"There is no usable picture in {folder}.",
            "Put pictures there, or `loratui import FOLDER DIR` copies some in.",
            errors,
        )
    lines = bucket_table(((p.width, p.height, p.frame, p.repeats) for p in found.pictures), data)
    more = {
        (b.width, b.height): {
            "batches": b.batches,
            "leftover": b.leftover,
            "crop": round(b.crop, 4),
            "enlarged": b.enlarged,
        }
        for b in lines
    }
    document: dict[str, Any] = found.as_json()
    document["buckets"] = [{**b, **more[b["width"], b["height"]]} for b in document["buckets"]]
    out.document(document)
    out.line(f"{len(found.pictures)} pictures in {len(lines)} buckets.")
    out.table(
        [
            (
                f"{b.width} x {b.height}",
                f"{b.images}",
                f"{b.repeated}",
                f"{b.batches}",
                f"{b.leftover or '-'}",
                f"{100 * b.crop:.0f} %",
                f"{b.enlarged or '-'}",
            )
            for b in lines
        ],
        ("bucket", "pictures", "with repeats", "batches", "left over", "cut off", "enlarged"),
    )
    tell_problems(found.problems, out)
    return 0


def run_plan(args: argparse.Namespace, out: Output) -> int:
    """Plan a training; exit 2 when something would keep it from starting."""
    from loratui.cli.places import project_at
    from loratui.config.presets import parse_set
    from loratui.project.capacity import too_small
    from loratui.project.estimating import run_seconds
    from loratui.project.start import assess

    project = project_at(args.dir)
    if args.fix:
        from loratui.cli.mending import run_fix

        return run_fix(args, project, out)
    config = project.resolve(args.preset, parse_set(args.settings))
    ready = assess(project, config)
    document = ready.plan.as_json()
    document["family"] = ready.family
    seen = _foresee(project, ready, args.memory, out)
    problems = [*ready.problems, *too_small(project, ready)]
    errors = [p for p in problems if p.severity == "error"]
    if seen is not None:
        document["foreseen"] = seen.as_json() | {"time_s": round(run_seconds(ready.plan, seen), 1)}
    document["problems"] = [p.as_dict() for p in problems]
    out.document(document)
    _tell_plan(ready.plan, out)
    if seen is not None:
        _tell_foreseen(ready.plan, seen, out)
    tell_problems(problems, out)
    if errors and not out.json:
        out.note(
            f"loratui: {len(errors)} problem{'s' if len(errors) > 1 else ''} would keep this from starting."
        )
    return 2 if errors else 0


def _foresee(project: Project, ready: Ready, ask: bool, out: Output) -> Foreseen | None:
    """What is known of memory and speed; a failing estimate is a note, the plan stands without it."""
    from loratui.errors import LoratuiError
    from loratui.project.estimating import foresee

    try:
        if ask:
            out.progress("estimating memory", now=True)
        return foresee(project, ready, ask=ask)
    except LoratuiError as error:
        out.note(f"loratui: {error.message}")
        return None
    finally:
        out.end_progress()


def _tell_foreseen(plan: Plan, seen: Foreseen, out: Output) -> None:
    from loratui.project.estimating import run_seconds

    word = {"measured": "measured", "corrected": "estimated, put right by measurements"}.get(
        seen.basis, "estimated from its operations"
    )
    out.line(f"Memory on {seen.device}: {seen.peak_gib:.2f} GiB, {word}.")
    if seen.step_s:
        took = duration_text(run_seconds(plan, seen))
        drawn = plan.class_pictures
        more = f" {drawn} class pictures first, {duration_text(drawn * seen.sample_s)}." if drawn else ""
        out.line(
            f"Time: about {took}, at {seen.step_s:.3g} s a step and {seen.sample_s:.3g} s a sample.{more}"
        )


def _tell_plan(plan: Plan, out: Output) -> None:
    optimizer = plan.config.optimizer
    batch = plan.config.data.batch_size
    out.line(
        f"{plan.images} pictures, {plan.repeated} with repeats: {plan.per_epoch} batches of {batch}; "
        f"{plan.steps} steps"
        + (f" of {optimizer.accumulation} batches" if optimizer.accumulation > 1 else "")
        + f" = {plan.epochs} epochs."
    )
    for bucket in plan.buckets:
        left = f", the last of {bucket.leftover}" if bucket.leftover else ""
        out.line(
            f"  {bucket.width} x {bucket.height}: {bucket.repeated} pictures, {bucket.batches} batches{left}"
        )
    if plan.sizes is not None:
        sure = "" if plan.sizes.exact else "about "
        if plan.sizes.tokens:
            few, size = plan.config.network.tokens, size_text(plan.tokens_bytes)
            alone = ", trained alone" if plan.config.network.tokens_only else ""
            out.line(f"New tokens: {few}{alone}, {plan.sizes.tokens:,} numbers, {size}.")
        if not plan.config.network.tokens_only:
            size = size_text(plan.lora_bytes)
            out.line(f"LoRA: {plan.sizes.layers} layers, {sure}{plan.sizes.lora:,} numbers, {size}.")
    if plan.memory is not None:
        out.line(f"Memory: roughly {plan.memory.total_gib:.1f} GiB.")
    out.line(
        f"Disk: {size_text(plan.disk['total'])} for {plan.saves} checkpoints and {plan.pictures} samples; "
        f"{size_text(plan.disk['free'])} free."
    )
