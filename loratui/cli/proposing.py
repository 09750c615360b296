"""`new --goal --card`: the wizard's proposal on the command line."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output, size_text
from loratui.cli.training import tell_problems

if TYPE_CHECKING:
    from loratui.plan.cards import Card
    from loratui.project.proposal import Proposal

_CARD = re.compile(r"(\d+(?:\.\d+)?)\s*(?:g|gb|gib)?", re.IGNORECASE)


def read_card(words: str) -> Card:
    """`cpu`, a size as in 12 or 12G, or empty for what is here.

    Raises:
        RequestError: neither.
    """
    from loratui.errors import RequestError
    from loratui.plan.cards import Card, choices, processor

    if not words:
        return choices()[0]
    if words.lower() == "cpu":
        return processor()
    match = _CARD.fullmatch(words.strip())
    if match is None or not float(match[1]):
        raise RequestError(f"--card {words}: no such card.", "Give its memory in GiB, as in 12, or cpu.")
    return Card(gib=float(match[1]))


def run_proposed(args: argparse.Namespace, out: Output) -> int:
    """Make a project with the preset that suits base, goal and card, changed so that it fits."""
    from loratui.errors import ProjectError
    from loratui.project.project import FILE_NAME
    from loratui.project.proposal import Proposing, make
    from loratui.project.start import request_error

    folder = Path(args.dir).expanduser().absolute()
    if (folder / FILE_NAME).exists():
        raise ProjectError(f"{folder} is a project already.", f"Open it with `loratui {folder}`.")
    proposing = Proposing(folder)
    try:
        made = _propose(args, folder, proposing)
        empty = not args.images and any(p.code == "no-pictures" for p in made.errors)
        errors = [p for p in made.errors if not (empty and p.code == "no-pictures")]
        if errors:
            raise request_error(errors)
        project = make(
            made, folder, lambda done, of: out.progress(f"copying  {done}{f'/{of}' if of else ''}")
        )
    finally:
        proposing.close()
        out.end_progress()
    if args.name:
        project = project.update(name=args.name)
    problems = [p for p in made.problems if p.severity != "error"]
    out.document(_document(made, str(project.root)) | {"problems": [p.as_dict() for p in problems]})
    _tell(made, out)
    if empty:
        out.line(f"  There is no picture yet: `loratui import FOLDER {args.dir}` copies some in.")
    else:
        out.line(f"  loratui {args.dir}   opens the app; loratui train {args.dir} --wait   trains here")
    tell_problems([p for p in problems if p.severity != "info"], out)
    return 0


def _propose(args: argparse.Namespace, folder: Path, proposing: Any) -> Proposal:
    """The proposal, with what makes it fit and start where settings can."""
    from dataclasses import replace

    from loratui.dataset.tokens import ClipTokens
    from loratui.project.proposal import BUNDLED, Answers, propose_trigger

    def placed(path: str) -> str:
        there = Path(path).expanduser()
        return str(there.absolute()) if path not in {"demo", BUNDLED} and there.exists() else path

    answers = Answers(
        base=placed(args.base),
        pictures=placed(args.images) if args.images else ".",
        goal=(args.goal or "character").replace("-", " "),
        card=read_card(args.card or ""),
        trigger=args.trigger,
        preset=args.preset,
    )
    if not answers.trigger:
        answers = replace(answers, trigger=propose_trigger(answers, folder, ClipTokens.shipped()))
    made: Proposal = proposing.propose(answers, folder)
    for _ in range(4):  # one repair may bring out another problem
        if not made.errors or not made.fix:
            break
        answers = replace(answers, changes={**answers.changes, **made.fix})
        made = proposing.propose(answers, folder)
    return made


def _document(made: Proposal, root: str) -> dict[str, Any]:
    answers, plan = made.answers, made.ready.plan if made.ready is not None else None
    return {
        "project": root,
        "name": made.project.name,
        "base": made.project.base,
        "family": made.found.family if made.found is not None else "",
        "goal": answers.goal,
        "card": str(answers.card),
        "card_gib": round(answers.card.gib, 2),
        "trigger": answers.trigger,
        "preset": made.preset.name if made.preset is not None else "",
        "why": made.why,
        "changes": {k: list(v) if isinstance(v, tuple) else v for k, v in answers.changes.items()},
        "images": plan.images if plan is not None else 0,
        "plan": plan.as_json() if plan is not None else None,
    }


def _tell(made: Proposal, out: Output) -> None:
    answers, preset = made.answers, made.preset
    what = made.found.what or made.found.family if made.found is not None else ""
    out.line(f"Made {made.project.file} ({what}).")
    why = f" ({made.why})" if made.why else ""
    out.line(f"  {answers.goal}, called {answers.trigger!r}; preset {preset.name if preset else '-'}{why}")
    for path, value in answers.changes.items():
        shown = str(value).lower() if isinstance(value, bool) else value
        out.line(f"  changed so that it fits {answers.card}: {path} = {shown}")
    if made.ready is None:
        return
    plan = made.ready.plan
    memory = f"; about {plan.memory.total_gib:.1f} of {answers.card.gib:.0f} GiB" if plan.memory else ""
    out.line(f"  {plan.images} pictures, {plan.steps:,} steps, {size_text(plan.lora_bytes)} a file{memory}")
