"""`dryrun`: memory and speed of a training, measured before it starts."""

from __future__ import annotations

import argparse
from typing import Any

from loratui.cli.output import Output, duration


def add(commands: Any) -> None:
    """Register the command."""
    from loratui.cli.training import add_setting_options

    parser = commands.add_parser(
        "dryrun",
        help="measure memory and speed of a training on this device",
        description="Train some steps on the largest bucket, save, and draw one sample, in a process of its "
        "own; print the peak of memory and the speed. Plans use what was measured from then on.",
    )
    parser.add_argument("dir", metavar="DIR", help="the project")
    add_setting_options(parser)
    parser.add_argument("--device", metavar="D", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--steps", type=int, default=6, metavar="N", help="steps to run; default: 6")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run_dryrun)


def run_dryrun(args: argparse.Namespace, out: Output) -> int:
    """Measure, and say whether it fits; exit 1 when it does not."""
    from loratui.cli.places import project_at
    from loratui.config.presets import parse_set
    from loratui.errors import RequestError
    from loratui.project.dryrun import dry_run
    from loratui.project.start import prepare

    if not 4 <= args.steps <= 1000:
        raise RequestError(f"--steps {args.steps} is not between 4 and 1000.", "6 are enough.")
    project = project_at(args.dir)
    config = project.resolve(args.preset, parse_set(args.settings))
    ready = prepare(project, config, args.device)

    def show(what: str, done: int, total: int) -> None:
        out.progress(f"{what}  {done}/{total}" if total else what)

    found = dry_run(project, ready, show, steps=args.steps)
    out.end_progress()
    out.document(found.as_json())
    m = found.measurement
    width, height = found.bucket
    out.line(
        f"{m.device}: {m.peak_gib:.2f} GiB at most ({found.held_gib:.2f} with what the allocator keeps), "
        f"of {found.device_gib:.1f} GiB."
    )
    out.lines(f"  {name:<7} {peak:7.2f} GiB" for name, peak in found.phases.items())
    if m.estimate_gib:
        out.line(f"  the plan's estimate was {m.estimate_gib:.2f} GiB")
    out.line(
        f"{m.step_s:.3g} s a step at {width} x {height}, {m.sample_s:.3g} s a sample, "
        f"{m.save_s:.3g} s a save."
    )
    steps = ready.plan.steps
    total_s = steps * m.step_s + ready.plan.pictures * m.sample_s + ready.plan.saves * m.save_s
    out.line(f"{steps} steps would take about {duration(total_s)}.")
    if found.sample_error:
        out.note(f"loratui: the sample could not be drawn: {found.sample_error}")
    return 0 if found.fits else 1
