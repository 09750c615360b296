"""`runs`, `status`, `attach`, `replay` and the requests to a run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output, duration

if TYPE_CHECKING:
    from loratui.runs.directory import RunDir
    from loratui.runs.state import RunState

RUN_HELP = "a run: its folder, id, the beginning of its id, its name, or `last`"
_REQUESTS = {
    "pause": "give the GPU's memory back and wait",
    "resume": "go on with a paused run, or restart a stopped or crashed one from its last good checkpoint",
    "stop": "finish the step, save, end",
    "save": "write a checkpoint now",
    "prompts": "change the sample prompts from here on",
    "adjust": "change save and sample intervals and the learning rate during the run",
}
_DONE = {
    "pause": "is paused",
    "resume": "goes on",
    "stop": "stops: it saves and ends",
    "save": "wrote a checkpoint",
    "prompts": "has the new prompts",
    "adjust": "has the new values",
}
ANSWER_S = 10.0
"""How long a command waits for the job's answer; a job between two long steps answers later."""


def add(commands: Any) -> None:
    """Register the commands."""
    from loratui.cli import past

    runs = commands.add_parser(
        "runs", help="the runs of a project", description="List the runs of a project."
    )
    runs.add_argument("dir", nargs="?", default=".", metavar="DIR", help="default: the current folder")
    past.add_options(runs)
    runs.add_argument("--json", action="store_true", help="print a list as JSON")
    runs.set_defaults(run=run_runs)

    status = commands.add_parser("status", help="the state of a run", description="Show the state of a run.")
    status.add_argument("which", nargs="?", default="last", metavar="RUN", help=f"{RUN_HELP} (the default)")
    status.add_argument(
        "--short",
        action="store_true",
        help="one line, as for a shell prompt; nothing and exit 1 where there is no run",
    )
    status.add_argument("--json", action="store_true", help="print the state as JSON")
    status.set_defaults(run=run_status)

    attach = commands.add_parser(
        "attach", help="follow a run with progress lines", description="Follow a run until it ends."
    )
    attach.add_argument("which", nargs="?", default="last", metavar="RUN", help=RUN_HELP)
    attach.add_argument("--json", action="store_true", help="print the last state as JSON")
    attach.set_defaults(run=run_attach)

    for name, text in _REQUESTS.items():
        request = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        request.add_argument("which", metavar="RUN", help=RUN_HELP)
        _add_arguments(request, name)
        request.add_argument("--wait", action="store_true", help="follow the run until it ends")
        request.add_argument("--json", action="store_true", help="print the answer as JSON")
        request.set_defaults(run=run_request, request=name)

    replay = commands.add_parser(
        "replay", help="the monitor, from a recorded run", description="Play a recorded run in the app."
    )
    replay.add_argument("which", metavar="RUN", help=RUN_HELP)
    replay.set_defaults(run=run_replay)


def _add_arguments(request: argparse.ArgumentParser, name: str) -> None:
    """What goes with a request."""
    if name == "stop":
        request.add_argument("--after-epoch", action="store_true", help="when this epoch is done")
    elif name == "prompts":
        request.add_argument(
            "--prompt", action="append", metavar="P", required=True, help="may be repeated", dest="prompts"
        )
    elif name == "adjust":
        request.add_argument("--save-every", type=int, metavar="N", help="steps between checkpoints")
        request.add_argument("--sample-every", type=int, metavar="N", help="steps between samples, 0: none")
        request.add_argument(
            "--lr-factor", type=float, metavar="F", help="multiplies the learning rate of the schedule"
        )


def _arguments(args: argparse.Namespace) -> dict[str, Any]:
    """What goes with a request, as its file has it."""
    from loratui.errors import RequestError
    from loratui.runs.control import adjust_problem

    if args.request == "stop" and args.after_epoch:
        return {"after": "epoch"}
    if args.request == "prompts":
        return {"prompts": args.prompts}
    if args.request != "adjust":
        return {}
    names = ("save_every", "sample_every", "lr_factor")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    problem = adjust_problem(given)
    if problem:
        raise RequestError(problem, "`loratui adjust -h` shows what can be changed.")
    return given


def run_runs(args: argparse.Namespace, out: Output) -> int:
    """List the runs of a project, newest first; or compare, prune, put away."""
    from loratui.cli import past
    from loratui.cli.places import project_at, summary
    from loratui.runs.directory import list_runs
    from loratui.runs.status import status

    project = project_at(args.dir)
    deed = past.chosen(args)
    if deed is not None:
        return deed(project.runs_dir, args, out)
    found = [summary(run, status(run)) for run in list_runs(project.runs_dir)]
    out.document(found)
    if not found:
        out.line(f"No runs yet. `loratui train {args.dir}` starts one.")
        return 0
    rows = [
        (
            str(r["id"]),
            str(r["state"]),
            f"{r['step']}/{r['steps']}",
            "-" if r["loss"] is None else f"{r['loss']:.4f}",
            "-" if r["best_loss"] is None else f"{r['best_loss']:.4f}",
            duration(r["took_s"]),
            duration(r["eta_s"]),
            str(r["preset"] or "-"),
        )
        for r in found
    ]
    out.table(rows, ("run", "state", "step", "loss", "best", "took", "left", "preset"))
    return 0


def run_status(args: argparse.Namespace, out: Output) -> int:
    """Show the state of a run."""
    import time

    from loratui.cli.places import run_named
    from loratui.errors import LoratuiError
    from loratui.runs.status import status

    try:
        run = run_named(args.which)
    except LoratuiError:
        if args.short and args.which == "last" and not args.json:
            return 1  # a shell prompt outside of any project
        raise
    state = status(run)
    if args.short and not args.json:
        out.line(_short(state))
        return 0
    from loratui.runs.diagnosis import hindrances, surroundings

    found = hindrances(state, time.time(), surroundings(run, state))
    out.document({**_document(run, state), "findings": [each.as_dict() for each in found]})
    _tell(run, state, out)
    for each in found:
        out.line(f"  {each.message} {each.advice}")
    return 0


def run_attach(args: argparse.Namespace, out: Output) -> int:
    """Follow a run until it ends; exit 1 when it failed or crashed."""
    from loratui.cli.follow import follow
    from loratui.cli.places import run_named

    run = run_named(args.which)
    state = follow(run, out)
    out.end_progress()
    out.document(_document(run, state))
    _tell(run, state, out)
    return 1 if state.state in {"failed", "crashed"} else 0


def run_replay(args: argparse.Namespace, out: Output) -> int:
    """Open the app on a recording."""
    from loratui.cli.places import run_named
    from loratui.cli.shell import open_app

    run = run_named(args.which)
    return open_app(run.path.parent.parent, out, replay=run.path)


def run_request(args: argparse.Namespace, out: Output) -> int:
    """Leave a request for a running job, or start a stopped one again."""
    from loratui.cli.places import run_named
    from loratui.errors import RunError
    from loratui.runs.state import ENDED
    from loratui.runs.status import status

    run = run_named(args.which)
    state = status(run)
    kind: str = args.request
    if kind == "resume" and (state.state in ENDED or not state.attempt):
        return _restart(run, args, out)
    if state.state in ENDED:
        raise RunError(f"The run {run.id} is {state.state}.", f"`loratui resume {run.id}` starts it again.")
    if kind == "resume" and state.state != "paused":
        raise RunError(
            f"The run {run.id} is {state.state}: there is nothing to resume.",
            f"`loratui attach {run.id}` follows it.",
        )
    return ask(run, kind, _arguments(args), args.wait, _DONE[kind], out)


def ask(run: RunDir, kind: str, arguments: dict[str, Any], wait: bool, done: str, out: Output) -> int:
    """Leave a request for a live run and tell what it answered; exit 1 when it refused."""
    from loratui.runs.control import request
    from loratui.runs.status import status

    asked = request(run, kind, **arguments)
    answer = _answer(run, asked)
    state = status(run)
    document = {
        "run": str(run.path),
        "request": kind,
        "id": asked,
        "answer": answer or "pending",
        "state": state.state,
    }
    if wait:
        from loratui.cli.follow import follow

        state = follow(run, out)
        document["state"] = state.state
    out.document(document)
    if not answer:
        out.line(f"Asked {run.id} to {kind}; it has not answered yet and will between two steps.")
    elif answer == "ok":
        out.line(f"{run.id} {done}.")
    else:
        out.note(f"loratui: {run.id} refused to {kind}: {answer}")
        return 1
    return 0


def _restart(run: RunDir, args: argparse.Namespace, out: Output) -> int:
    from loratui.runs.launch import newest_checkpoint, resume

    step = newest_checkpoint(run)
    resume(run)
    document: dict[str, Any] = {
        "run": str(run.path),
        "request": "resume",
        "from_step": step,
        "state": "starting",
    }
    out.line(f"Restarted {run.id} from step {step}." if step else f"Restarted {run.id} from the beginning.")
    if args.wait:
        from loratui.cli.follow import follow
        from loratui.cli.places import lora_path

        state = follow(run, out)
        out.end_progress()
        document |= {"state": state.state, "lora": lora_path(run, state) or None}
        _tell(run, state, out)
        out.document(document)
        return 0 if state.state == "finished" else 1
    out.document(document)
    return 0


def _answer(run: RunDir, request_id: str) -> str:
    """The job's answer: `ok`, the reason of a refusal, or empty when none came in time."""
    import time

    from loratui.runs.state import ENDED
    from loratui.runs.status import Watch

    watch = Watch(run)
    until = time.monotonic() + ANSWER_S
    while True:
        watch.poll()
        if request_id in watch.folded.acks:
            return watch.folded.acks[request_id]
        if time.monotonic() > until or watch.state.state in ENDED:
            return ""
        time.sleep(0.1)


def _document(run: RunDir, state: RunState) -> dict[str, Any]:
    """The whole state; `lr` as one number, groups in `lr_groups`."""
    from loratui.cli.places import learning_rate, lora_path
    from loratui.runs.fold import to_status

    status = to_status(state)
    return {
        **status,
        "id": run.id,
        "path": str(run.path),
        "lr": learning_rate(state),
        "lr_groups": status["lr"],
        "lora": lora_path(run, state) or None,
    }


def _short(state: RunState) -> str:
    parts: list[str] = [state.state]
    if state.steps:
        parts.append(f"{state.step}/{state.steps}")
    if state.loss is not None:
        parts.append(f"loss {state.loss_smooth if state.loss_smooth is not None else state.loss:.4f}")
    if state.eta_s is not None:
        parts.append(duration(state.eta_s))
    return " ".join(parts)


def _tell(run: RunDir, state: RunState, out: Output) -> None:
    from loratui.cli.places import learning_rate, lora_path

    out.line(f"{run.id}: {state.state}")
    if state.reason:
        out.line(f"  {state.reason}")
    if state.advice:
        out.line(f"  {state.advice}")
    rate = learning_rate(state)
    rows = [
        ("step", f"{state.step} of {state.steps}, epoch {state.epoch} of {state.epochs}"),
        ("loss", "-" if state.loss is None else f"{state.loss:.4f}"),
        ("lr", "-" if rate is None else f"{rate:.3g}"),
        ("left", duration(state.eta_s)),
        ("device", state.device or "-"),
        ("checkpoints", ", ".join(str(c.step) for c in state.checkpoints) or "-"),
        ("samples", str(len(state.samples))),
        ("LoRA", lora_path(run, state) or "-"),
    ]
    if state.progress is not None:
        rows.insert(0, ("now", f"{state.progress.what} {state.progress.done}/{state.progress.total}"))
    if state.scores:
        rows.append(("scores", ", ".join(f"{k} {v:.2f}" for k, v in state.scores.items())))
    out.table([(f"  {name}", value) for name, value in rows])
    for warning in state.warnings[-5:]:
        out.line(f"  warning: {warning}")
