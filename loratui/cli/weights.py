"""`export` and `verify`: weight files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output, size_text
from loratui.cli.places import spare, target_path
from loratui.cli.training import tell_problems

if TYPE_CHECKING:
    from loratui.runs.directory import RunDir


def add(commands: Any) -> None:
    """Register the commands."""
    export = commands.add_parser(
        "export",
        help="write a LoRA file from a run or another file, or a project's pictures for another tool",
        description="Write the LoRA of a run (or another LoRA file) in the format that a program loads; or,"
        " of a project's folder, its pictures and captions in the layout that another trainer reads.",
    )
    export.add_argument("source", metavar="RUN|FILE|DIR")
    export.add_argument(
        "--format",
        choices=("kohya", "peft", "kohya-folders", "imagefolder", "ai-toolkit", "zip"),
        help="a LoRA as kohya: ComfyUI, A1111, Forge, SwarmUI, InvokeAI, diffusers; peft: diffusers and PEFT;"
        " default: what the programs read of its family; of a project: kohya-folders: N_name and a"
        " dataset.toml; imagefolder: Hugging Face; ai-toolkit: one flat folder; zip",
    )
    export.add_argument(
        "--step", type=int, metavar="N", help="the checkpoint of this step instead of the newest"
    )
    export.add_argument(
        "--out",
        metavar="F",
        help="file or folder to write; default: in the run's, or project's, export folder",
    )
    export.add_argument("--where", default="", metavar="EXPR", help="pictures: only those a filter selects")
    export.add_argument(
        "--bake",
        action="store_true",
        help="pictures: carry turns, crops and alpha masks out on the copies; without it the copies are as"
        " the files, and what is not carried along is said",
    )
    export.add_argument("--force", action="store_true", help="replace the file that --out names")
    export.add_argument("--json", action="store_true", help="print the result as JSON")
    export.set_defaults(run=run_export)

    verify = commands.add_parser(
        "verify",
        help="which programs would load a LoRA file, and how much of it",
        description="Check a LoRA file against the key tables of diffusers, ComfyUI and A1111, or say what an"
        " embedding is for and how prompts call it.",
    )
    verify.add_argument("file", metavar="FILE", help="a LoRA file, or a run: its exported file")
    verify.add_argument(
        "--base", metavar="B",
        help="hold the shapes of a transformer's LoRA against this base; default: the run's own",
    )  # fmt: skip
    verify.add_argument(
        "--json", action="store_true", help="print family, format, rank, matched, problems as JSON"
    )
    verify.set_defaults(run=run_verify)


def run_export(args: argparse.Namespace, out: Output) -> int:
    """Write a LoRA in the wanted format and check the result; exit 1 when it would not load everywhere."""
    from loratui.errors import WeightsError
    from loratui.families.spec import family_spec
    from loratui.weights.convert import convert_embedding, convert_file
    from loratui.weights.embedding_files import bundled
    from loratui.weights.header import read_header
    from loratui.weights.verify import verify_file

    given = Path(args.source).expanduser()
    if args.format not in (None, "kohya", "peft") and (given / "loratui.toml").is_file():
        return _export_pictures(args, out)
    if args.format not in (None, "kohya", "peft") or args.where or args.bake:
        raise WeightsError(
            f"{args.source} is no project folder.",
            "--where, --bake, imagefolder, ai-toolkit and zip are for pictures.",
        )
    if given.is_file():
        source, dtype, folder, stem = given, "", given.parent, given.stem
    else:
        source, dtype, folder, stem = _of_run(args.source, args.step)
    known = verify_file(source)
    tokens = bool(bundled(read_header(source)))
    if known.format == "embedding" or (tokens and not known.modules):
        return _export_embedding(args, source, folder, stem, dtype, out)
    family = family_spec(known.family)
    own = family.files if family is not None else "kohya"
    form = args.format or own
    ending = "" if form == own else f"-{form}"
    target = target_path(args, folder / f"{stem}{ending}.safetensors", source)
    beside = target.with_name(f"{target.stem}-embedding.safetensors") if tokens else None
    if beside is not None and (args.out or given.is_file()):  # else it is the run's own
        spare(beside, args.force)
    same = target.exists() and target.resolve() == source.resolve()
    if not same or known.format != form:
        convert_file(source, target, form, dtype)
    if beside is not None:  # of these LoRA files alone A1111 reads
        convert_embedding(source, beside, dtype)
    found = verify_file(target)
    files = {"file": str(target)} | ({"embedding": str(beside)} if beside is not None else {})
    out.document({**found.as_json(), **files, "source": str(source)})
    out.line(f"{target} ({form}, rank {found.rank}, {size_text(target.stat().st_size)})")
    tell_matched(found.matched, out)
    if beside is not None:
        out.line(f"{beside} (its new tokens)")
    # The other form is for the programs that read it: what the others would drop was known before.
    wanted = found.matched
    if form != own:
        of_form = {"diffusers"} if form == "peft" else {"comfyui"}
        wanted = {name: found.matched.get(name, (0, 0)) for name in of_form}
    good = all(n == of for n, of in wanted.values())
    if not good:
        tell_problems(found.problems, out)
    return 0 if good else 1


def _export_embedding(
    args: argparse.Namespace, source: Path, folder: Path, stem: str, dtype: str, out: Output
) -> int:
    """Write new tokens as an embedding file, which has one form for all programs."""
    from loratui.errors import WeightsError
    from loratui.weights.convert import convert_embedding
    from loratui.weights.verify import verify_file

    if args.format is not None:
        raise WeightsError(
            f"{args.source} holds new tokens alone: an embedding has one form for all programs.",
            "Leave --format out.",
        )
    exported = source.parent == folder
    named = folder / f"{stem.removesuffix('-embedding')}-embedding.safetensors"
    target = target_path(args, source if exported else named, source)
    if not target.exists() or target.resolve() != source.resolve():
        convert_embedding(source, target, dtype)
    found = verify_file(target)
    out.document({**found.as_json(), "file": str(target), "source": str(source)})
    out.line(f"{target} (embedding, {found.vectors} vectors, {size_text(target.stat().st_size)})")
    tell_matched(found.matched, out, "tensors read")
    tell_problems(found.problems, out)
    return 0 if found.ok else 1


def _export_pictures(args: argparse.Namespace, out: Output) -> int:
    """Write a project's pictures and captions as another tool reads them."""
    from loratui.cli.studio import collection_at, select_rows
    from loratui.errors import DatasetError

    if args.step is not None:
        raise DatasetError(
            f"{args.source} is a project, and --step is for a run's LoRA.",
            "Leave --step out.",
        )
    collection = collection_at(args.source, out)
    try:
        rows = [row for row in select_rows(collection, args.where, out) if not row.known.code]
        kind: Any = "kohya" if args.format == "kohya-folders" else args.format
        ending = ".zip" if kind == "zip" else ""
        name = f"{collection.project.name}-{args.format}"
        place = Path(args.out).expanduser() if args.out else collection.project.root / "export" / name
        if ending and place.suffix.lower() != ending:
            place = place.with_name(place.name + ending)
        done = collection.export(
            rows, place, kind, lambda n, of: out.progress(f"copying  {n}/{of}"), args.bake
        )
        out.end_progress()
    finally:
        collection.close()
    out.document(
        {
            "path": str(done.path),
            "images": done.images,
            "captions": done.captions,
            "baked": done.baked,
            "masks": str(done.masks) if done.masks is not None else None,
            "not_carried": [{"path": rel, "what": list(parts)} for rel, parts in done.not_carried],
            "left_out": [{"path": rel, "reason": reason} for rel, reason in done.left_out],
        }
    )
    out.line(f"{done.path}: {done.images} pictures, {done.captions} captions ({args.format}).")
    if done.masks is not None:
        out.line(f"Masks are in {done.masks}: that trainer would take them for pictures beside them.")
    if done.baked:
        out.line(f"{done.baked} copies are turned, cropped or masked as here.")
    if done.not_carried:
        out.note(f"  {done.lost()}" + ("" if args.bake else " --bake carries it out on the copies."))
        for rel, parts in done.not_carried[:20]:
            out.note(f"    {rel}: {', '.join(parts)}")
        if len(done.not_carried) > 20:
            out.note(f"    ... and {len(done.not_carried) - 20} more; --json lists all")
    for rel, reason in done.left_out:
        out.note(f"  left out: {rel}: {reason}")
    return 1 if done.left_out else 0


def _of_run(text: str, step: int | None) -> tuple[Path, str, Path, str]:
    """(file, precision to write, folder, stem) of a run's LoRA: the exported file, else a checkpoint's."""
    from loratui.cli.places import lora_path, run_named
    from loratui.config.load import load_run
    from loratui.errors import RunError
    from loratui.runs.status import status

    run = run_named(text)
    state = status(run)
    info, config = load_run(run.config_path)
    stem = config.saving.name or info.name or run.name
    exported = lora_path(run, state)
    if step is None and exported and Path(exported).is_file():
        return Path(exported), "", run.export_dir, stem
    steps = checkpoints(run)
    chosen = step if step is not None else max(steps, default=None)
    if chosen is None or chosen not in steps:
        known = ", ".join(map(str, sorted(steps))) or "none yet"
        advice = "Wait for the first checkpoint, or ask for one: `loratui save RUN`." if not steps else ""
        what = "has no checkpoint" if step is None else f"has no checkpoint of step {step}"
        raise RunError(f"The run {run.id} {what} (there are: {known}).", advice)
    return steps[chosen], config.saving.dtype, run.export_dir, f"{stem}-{chosen:06d}"


def checkpoints(run: RunDir) -> dict[int, Path]:
    """Step -> LoRA file of each whole checkpoint."""
    found: dict[int, Path] = {}
    for manifest in run.checkpoints_dir.glob("step-*/manifest.json"):
        number = manifest.parent.name.removeprefix("step-")
        file = manifest.parent / "lora.safetensors"
        if number.isdecimal() and file.is_file():
            found[int(number)] = file
    return found


def run_verify(args: argparse.Namespace, out: Output) -> int:
    """Check a file; exit 1 when some program would drop a part of it."""
    from loratui.cli.places import lora_path, run_named
    from loratui.config.load import load_run
    from loratui.errors import RunError, WeightsError
    from loratui.families.detect import locate
    from loratui.runs.status import status
    from loratui.weights.verify import verify_file

    base = locate(args.base) if args.base else None
    path = Path(args.file).expanduser()
    if path.suffix != ".safetensors" and not path.is_file():
        try:
            run = run_named(args.file)
        except RunError:
            raise WeightsError(f"{path} does not exist.", "Name a .safetensors file, or a run.") from None
        exported = lora_path(run, status(run))
        if not exported:
            raise RunError(f"The run {run.id} has exported nothing yet.", f"`loratui export {run.id}` does.")
        path = Path(exported)
        own = Path(load_run(run.config_path)[0].base_path)
        base = base or (own if own.exists() else None)
    found = verify_file(path, base)
    out.document(found.as_json())
    many = f"{found.vectors} vectors" if found.vectors else f"rank {found.rank}"
    out.line(f"{path}: {found.family or 'unknown family'}, {found.format or 'no LoRA keys'}, {many}")
    tell_matched(found.matched, out, "tensors read" if found.vectors else "modules matched")
    tell_problems(found.problems, out)
    if not found.format:
        return 2
    return 0 if found.ok else 1


def tell_matched(matched: dict[str, tuple[int, int]], out: Output, what: str = "modules matched") -> None:
    """Print how much of a file each program takes."""
    out.table([(f"  {name}", f"{n}/{of} {what}") for name, (n, of) in matched.items()])
