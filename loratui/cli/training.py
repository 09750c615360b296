"""`demo` and `train`: start trainings."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output, problem_lines

if TYPE_CHECKING:
    from loratui.runs.directory import RunDir
    from loratui.runs.state import RunState

DEMO_FOLDER = "loratui-demo"


def add(commands: Any) -> None:
    """Register the commands."""
    demo = commands.add_parser(
        "demo",
        help="make the demo project and run its training on the bundled model",
        description="Make the demo project, or take the one that is there; train it; open the app on it.",
    )
    demo.add_argument("dir", nargs="?", default=DEMO_FOLDER, metavar="DIR", help=f"default: ./{DEMO_FOLDER}")
    demo.add_argument(
        "--headless", action="store_true", help="no app: follow the training here until it ends"
    )
    demo.add_argument("--json", action="store_true", help="print the result as JSON (implies --headless)")
    demo.set_defaults(run=run_demo)

    train = commands.add_parser(
        "train",
        help="start a training",
        description="Start a training. It runs detached: this command and the terminal need not stay.",
    )
    train.add_argument("dir", metavar="DIR", help="the project")
    add_setting_options(train)
    train.add_argument(
        "--name", default="", metavar="N", help="what to call the run; default: the project's name"
    )
    train.add_argument("--device", metavar="D", help="auto, cpu, cuda or cuda:N")
    train.add_argument(
        "--on-nan", choices=("stop", "skip", "rollback"), help="what to do when the loss is no number"
    )
    add_queue_options(train)
    train.add_argument(
        "--launcher", choices=("local", "torchrun"), help="default: torchrun when memory.processes is above 1"
    )
    train.add_argument(
        "--anyway", action="store_true", help="start it although the device should be too small for it"
    )
    train.add_argument("--wait", action="store_true", help="follow it until it ends; exit 1 when it fails")
    train.add_argument("--json", action="store_true", help="print the result as JSON")
    train.set_defaults(run=run_train)


def add_queue_options(parser: argparse.ArgumentParser) -> None:
    """`--queue` and `--no-queue`, as `train` and `caption` take them."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--queue", action="store_true", help="wait for the CPU, too; for a GPU a run waits by itself"
    )
    either.add_argument("--no-queue", action="store_true", help="refuse when the device is taken")


def add_setting_options(parser: argparse.ArgumentParser) -> None:
    """`--preset` and `--set`, as `plan` and `train` take them."""
    parser.add_argument("--preset", metavar="P", help="a preset's name or file; default: the project's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change a setting, as in lr=1e-4 or network.rank=8; may be repeated",
    )


def run_train(args: argparse.Namespace, out: Output) -> int:
    """Start a training, and follow it with --wait."""
    from loratui.cli.places import lora_path, project_at
    from loratui.cli.queue import refuse_when_busy, say_place
    from loratui.config.presets import parse_set
    from loratui.project.start import start_training

    project = project_at(args.dir)
    given = [*args.settings, *([f"optimizer.on_nan={args.on_nan}"] if args.on_nan else [])]
    config = project.resolve(args.preset, parse_set(given))
    preset = project.preset if args.preset is None else args.preset
    if args.no_queue:
        refuse_when_busy({"memory": {"device": args.device or config.memory.device}})
    run = start_training(
        project, config, args.name, preset, args.device, launcher=args.launcher or "", queue=args.queue,
        anyway=args.anyway,
    )  # fmt: skip
    answer: dict[str, Any] = {"run": str(run.path), "id": run.id}
    if not args.wait:
        out.line(f"Started {run.id}.")
        answer |= say_place(run, out)
        out.document(answer)
        out.line(f"  loratui attach {run.id}   follows it here; `loratui {args.dir}` opens the app on it")
        return 0
    out.note(f"Started {run.id}.")
    state = _follow(run, out)
    answer |= {"state": state.state, "lora": lora_path(run, state) or None, "step": state.step}
    answer |= {"reason": state.reason, "advice": state.advice}
    out.document(answer)
    _tell_end(run, state, out)
    return 0 if state.state == "finished" else 1


def run_demo(args: argparse.Namespace, out: Output) -> int:
    """Make the demo project and train it."""
    import sys
    from pathlib import Path

    from loratui.cli.places import lora_path
    from loratui.project.demo import make_demo
    from loratui.project.start import start_training

    headless = args.headless or args.json or not (sys.stdin.isatty() and sys.stdout.isatty())
    project = make_demo(args.dir)
    if not headless:
        running = _running(project.runs_dir)
        run = running or start_training(project, project.resolve("demo"), "demo", "demo", score="demo")
        from loratui.cli.shell import open_app

        return open_app(project.root, out, open_run=str(run.path))
    run = start_training(project, project.resolve("demo"), "demo", "demo", score="demo")
    out.note(f"The demo project is in {project.root}.")
    state = _follow(run, out)
    lora = lora_path(run, state)
    before, after = _scores(state)
    out.document(
        {
            "run": str(run.path),
            "lora": lora or None,
            "score_before": before,
            "score_after": after,
            "state": state.state,
            "reason": state.reason,
        }
    )
    _tell_end(run, state, out)
    if before is not None and after is not None:
        out.line(f"Score before: {before:.2f}   after: {after:.2f}")
        out.line(
            "  (the share of 48 pictures in which a classifier finds the mascot on the asked-for background)"
        )
    if state.state == "finished":
        folder = Path(args.dir)
        out.line(f"  loratui {folder}   opens the app on it")
    return 0 if state.state == "finished" else 1


def _follow(run: RunDir, out: Output) -> RunState:
    from loratui.cli.follow import follow

    state = follow(run, out)
    out.end_progress()
    return state


def _scores(state: RunState) -> tuple[float | None, float | None]:
    scores = state.scores
    return scores.get("before", scores.get("score_before")), scores.get("after", scores.get("score_after"))


def _tell_end(run: RunDir, state: RunState, out: Output) -> None:
    from loratui.cli.places import lora_path

    out.line(f"{run.id}: {state.state} at step {state.step} of {state.steps}.")
    if state.reason:
        out.line(f"  {state.reason} {state.advice}".rstrip())
    if lora_path(run, state):
        path = lora_path(run, state)
        out.line(f"  {'new tokens' if path.endswith('-embedding.safetensors') else 'LoRA'}: {path}")


def _running(runs_dir: Any) -> RunDir | None:
    """A run of the project that is under way, the newest."""
    from loratui.runs.directory import list_runs
    from loratui.runs.state import ENDED
    from loratui.runs.status import status

    for run in list_runs(runs_dir):
        if status(run).state not in ENDED:
            return run
    return None


def tell_problems(problems: Any, out: Output) -> None:
    """Findings as text below an answer."""
    if problems:
        out.line()
        out.lines(problem_lines(problems))
