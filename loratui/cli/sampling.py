"""`sample`: samples of a running training now, or more of them from any checkpoint in a run of their own."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output

if TYPE_CHECKING:
    from loratui.runs.directory import RunDir


def add(commands: Any) -> None:
    """Register the command."""
    from loratui.cli.runs import RUN_HELP

    parser = commands.add_parser(
        "sample",
        help="draw samples now, or more of them from any checkpoint",
        description="Let a running training draw now. With a checkpoint, strengths, another base, LoRAs or"
        " embeddings, and for a run that has ended: draw in a detached run of its own, with the seeds and"
        " settings of the training.",
    )
    parser.add_argument("which", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "--prompt", action="append", metavar="P", dest="prompts", default=[],
        help="draw this instead of the run's prompts; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint", action="append", metavar="STEP", dest="checkpoints", default=[],
        help="a step, `last` (the default) or `all`; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--strengths", metavar="S,S", help="strengths of the LoRA, as in 0,0.5,1; 0 is the base (default: 1)"
    )
    parser.add_argument("--base", metavar="B", default="", help="another base of the same family")
    parser.add_argument(
        "--lora", action="append", metavar="FILE[:STRENGTH]", dest="loras", default=[],
        help="another LoRA beside it; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--embedding", action="append", metavar="FILE", dest="embeddings", default=[],
        help="a textual inversion; prompts call it by the file's name; may be repeated",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the first prompt; the next count up")
    parser.add_argument("--name", metavar="NAME", default="", help="name of the run that draws")
    parser.add_argument("--queue", action="store_true", help="wait for the run that has the CPU, too")
    parser.add_argument("--wait", action="store_true", help="follow the run until it ends")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.set_defaults(run=run_sample)


def run_sample(args: argparse.Namespace, out: Output) -> int:
    """Ask the running training, or start a run that draws."""
    from loratui.cli.places import run_named
    from loratui.cli.runs import ask
    from loratui.runs.state import ENDED
    from loratui.runs.status import status

    run = run_named(args.which)
    state = status(run)
    apart = args.checkpoints or args.strengths or args.base or args.loras or args.embeddings
    if not apart and args.seed is None and state.state not in ENDED and state.job == "train":
        prompts = {"prompts": args.prompts} if args.prompts else {}
        return ask(run, "sample", prompts, args.wait, "draws samples", out)
    return _draw(run, args, out)


def _draw(source: RunDir, args: argparse.Namespace, out: Output) -> int:
    from loratui.cli.follow import follow
    from loratui.project import drawing

    plan = drawing.prepare(
        source, args.prompts, args.checkpoints, strengths_of(args.strengths), args.base, args.loras,
        args.embeddings, args.seed,
    )  # fmt: skip
    run = drawing.start(plan, args.name, args.queue)
    document: dict[str, Any] = {"run": str(run.path), "source": str(plan.source.path), "pictures": plan.count}
    out.line(f"{run.id} draws {plan.count} pictures. `loratui attach {run.id}` follows it.")
    if not args.wait:
        out.document(document)
        return 0
    state = follow(run, out)
    out.end_progress()
    samples = [{"label": s.label, "step": s.step, "prompt": s.prompt, "seed": s.seed,
                "path": str(run.path / s.path)} for s in state.samples]  # fmt: skip
    out.document({**document, "state": state.state, "samples": samples})
    out.line(f"{run.id}: {state.state}, {len(samples)} pictures in {run.samples_dir}")
    for warning in state.warnings[-5:]:
        out.line(f"  warning: {warning}")
    return 0 if state.state == "finished" else 1


def strengths_of(text: str | None) -> list[float]:
    """`0,0.5,1` as numbers; 1 when nothing is given.

    Raises:
        RequestError: something is no number.
    """
    from loratui.errors import RequestError

    if not text:
        return [1.0]
    try:
        return [float(part) for part in text.replace(" ", ",").split(",") if part]
    except ValueError as error:
        raise RequestError(f"--strengths {text}: {error}.", "Give numbers, as in 0,0.5,1.") from error
