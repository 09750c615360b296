"""`caption` and `captioners`: describe pictures, and what can describe them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output

if TYPE_CHECKING:
    from loratui.captioners.spec import CaptionerSpec
    from loratui.project.project import Project


def add(commands: Any) -> None:
    """Register the commands."""
    from loratui.cli.training import add_queue_options

    caption = commands.add_parser(
        "caption",
        help="describe pictures with models",
        description="Caption the pictures of a project. It runs detached: this command and the terminal need"
        " not stay. One undo takes a whole run back; captions edited by hand are never touched.",
    )
    caption.add_argument("dir", metavar="DIR", help="the project")
    caption.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="M",
        help="a captioner (`loratui captioners`), or NAME=PATH|HUB-ID to choose its weights; may be repeated",
    )
    caption.add_argument(
        "--mode",
        choices=("missing", "replace", "append", "prepend"),
        help="missing (default): only pictures without a caption; append, prepend: add to what is there",
    )
    caption.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="an option, as in beams=1, wd.top_k=20 or template='{trigger}, {blip}'; may be repeated",
    )
    caption.add_argument(
        "--where", default="", metavar="EXPR", help="filter language (`loratui query -h`); all without it"
    )
    caption.add_argument("--name", default="", metavar="N", help="what to call the run")
    caption.add_argument(
        "--try",
        dest="picture",
        default="",
        metavar="PICTURE",
        help="only say what would be written for this picture; nothing is changed",
    )
    add_queue_options(caption)
    caption.add_argument("--wait", action="store_true", help="follow it until it ends; exit 1 when it fails")
    caption.add_argument("--json", action="store_true", help="print the result as JSON")
    caption.set_defaults(run=run_caption)

    listed = commands.add_parser(
        "captioners",
        help="what can describe pictures",
        description="List captioners, or one with its options.",
    )
    listed.add_argument("name", nargs="?", metavar="NAME", help="show this one")
    listed.add_argument("--json", action="store_true", help="print as JSON")
    listed.set_defaults(run=run_captioners)


def run_caption(args: argparse.Namespace, out: Output) -> int:
    """Start a caption run, and follow it with --wait."""
    from loratui.caption.start import nothing_to_do, prepare_captions, start_captions
    from loratui.cli.places import project_at
    from loratui.cli.queue import refuse_when_busy, say_place
    from loratui.config.presets import parse_set

    project = project_at(args.dir)
    values = parse_set(args.settings)
    if args.mode:
        values["mode"] = args.mode
    if args.picture:
        return _try(project, args, values, out)
    only = None
    if args.where:
        from loratui.cli.studio import collection_at, select_rows

        wanted = {row.known.path for row in select_rows(collection_at(args.dir, out), args.where, out)}
        only = wanted.__contains__
        out.note(f"The filter selects {len(wanted)} picture{'s' * (len(wanted) != 1)}.")
    plan = prepare_captions(project, args.model, values, only)
    left_out = {"pinned": plan.pinned, "captioned": plan.captioned, "other": plan.other}
    if not plan.pictures:
        out.document(
            {"run": None, "id": None, "images": 0, "left_out": left_out, "state": "finished", "written": 0}
        )
        out.line(nothing_to_do(plan))
        return 0
    if args.no_queue:
        devices = [{"device": getattr(c.options, "device", "")} for c in plan.captioners]
        refuse_when_busy({"captioner": {str(n): table for n, table in enumerate(devices) if table["device"]}})
    run = start_captions(project, plan, args.name, args.queue)
    answer: dict[str, Any] = {
        "run": str(run.path),
        "id": run.id,
        "images": len(plan.pictures),
        "left_out": left_out,
    }
    if not args.wait:
        out.line(f"Started {run.id}: {len(plan.pictures)} pictures.")
        answer |= say_place(run, out)
        out.document(answer)
        out.line(f"  loratui attach {run.id}   follows it here; `loratui {args.dir}` opens the app on it")
        return 0
    out.note(f"Started {run.id}: {len(plan.pictures)} pictures.")
    from loratui.caption.results import Results
    from loratui.cli.follow import follow

    state = follow(run, out)
    out.end_progress()
    counts = Results(run.path).counts()
    answer |= {"state": state.state, "reason": state.reason, "advice": state.advice}
    answer |= {key: counts.get(key, 0) for key in ("written", "left", "failed")}
    out.document(answer)
    out.line(f"{run.id}: {state.state}. {state.reason} {state.advice}".rstrip())
    if state.state == "finished" and answer["written"]:
        out.line(f"  loratui undo {args.dir}   takes all of it back")
    return 0 if state.state == "finished" else 1


def _try(project: Project, args: argparse.Namespace, values: dict[str, Any], out: Output) -> int:
    """Say what would be written for one picture."""
    import contextlib
    from pathlib import Path

    from loratui.caption.choosing import choose
    from loratui.caption.describe import Describer, Question
    from loratui.dataset.framing import PLAIN
    from loratui.dataset.sidecar import read_caption
    from loratui.project.framing import framing

    settings, captioners = choose(args.model, values)
    picture = Path(args.picture).expanduser()
    if not picture.is_file():
        scan = project.scan()
        named = [p.path for p in scan.pictures if args.picture in (p.rel, p.path.name)]
        picture = named[0] if named else picture
    before = read_caption(picture).text
    frame = framing(project.root)[0].get(picture.absolute(), PLAIN)
    with contextlib.closing(Describer()) as describer:
        answer = describer.ask(
            Question(picture.absolute(), settings, captioners, project.trigger, before, frame, project.paper),
            lambda what: out.progress(what),
        )
    out.end_progress()
    said = {
        name: {
            "text": one.text,
            "tags": [{"tag": t.text, "confidence": t.confidence, "facet": t.facet} for t in one.tags],
            "error": one.error,
            "seconds": answer.seconds.get(name, 0.0),
        }
        for name, one in answer.said.items()
    }
    out.document(
        {"picture": str(picture), "caption": answer.text, "dropped": list(answer.dropped), "said": said}
    )
    for name, one in answer.said.items():
        out.line(f"{name}, {answer.seconds.get(name, 0.0):.2f} s")
        if one.text or one.error:
            out.line(f"  {one.text or one.error}")
        for tag in one.tags:
            sure = f"{tag.confidence:.2f}" if tag.confidence >= 0 else "   -"
            out.line(f"  {sure}  {tag.text}{f'  ({tag.facet})' if tag.facet else ''}")
    out.line(f"caption: {answer.text}")
    return 0


def run_captioners(args: argparse.Namespace, out: Output) -> int:
    """List captioners, or show one with its options."""
    import difflib

    from loratui.captioners.spec import CAPTIONERS, captioner_spec
    from loratui.errors import ConfigError

    if not args.name:
        out.document([_as_json(row) for row in CAPTIONERS])
        out.table(
            [
                (c.name, c.output, f"{c.memory_gib:g} GB" if c.memory_gib else "-", c.notes)
                for c in CAPTIONERS
            ],
            ("name", "writes", "memory", "notes"),
        )
        return 0
    row = captioner_spec(args.name)
    if row is None:
        names = [c.name for c in CAPTIONERS]
        near = difflib.get_close_matches(args.name, names, 1)
        advice = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(names)}."
        raise ConfigError(f"There is no captioner {args.name!r}.", advice)
    answer = _as_json(row)
    out.document(answer)
    out.line(f"{row.name}: {row.title}, writes {row.output}. {row.notes[:1].upper()}{row.notes[1:]}.")
    if row.default_model:
        out.line(f"  model: {row.default_model}" + (f" (also {', '.join(row.also)})" if row.also else ""))
        out.line(f"  here: {answer['path'] or f'no; `loratui get {row.default_model}` fetches it'}")
    for title, key in (("options", "options"), ("every captioner", "settings")):
        out.line()
        out.line(f"{title} (--set KEY=VALUE)")
        for option in answer[key]:
            takes = " | ".join(option["choices"]) if "choices" in option else option["type"]
            out.line(f"  {option['key']}: {takes} = {_shown(option['default'])}")
            out.line(f"      {option['help']}")
    return 0


def _as_json(row: CaptionerSpec) -> dict[str, Any]:
    from loratui.caption.settings import CaptionSettings
    from loratui.captioners.locate import locate
    from loratui.captioners.options import option_rows
    from loratui.errors import LoratuiError

    path = ""
    if row.weights:
        try:
            path = str(locate(row).folder)
        except (LoratuiError, OSError):
            path = ""
    return {
        "name": row.name,
        "title": row.title,
        "output": row.output,
        "default_model": row.default_model,
        "also": list(row.also),
        "path": path,
        "packages": list(row.packages),
        "memory_gib": row.memory_gib,
        "notes": row.notes,
        "options": option_rows(row.options),
        "settings": option_rows(CaptionSettings),
    }


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value == () or value == "":
        return '""' if value == "" else "[]"
    return str(value)
