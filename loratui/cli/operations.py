"""`merge`, `resize`, `extract`, `average`, `convert` and `metadata`: work on weight files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output, size_text
from loratui.cli.places import spare, target_path

if TYPE_CHECKING:
    from loratui.weights.operations import Done

DTYPES = ("fp16", "bf16", "fp32")


def add(commands: Any) -> None:
    """Register the commands."""
    merge = _command(
        commands, "merge", "merge LoRAs into one, or into a base",
        "Write one LoRA that does what several do together, or a base with LoRAs merged in (--into).",
    )  # fmt: skip
    merge.add_argument("loras", nargs="+", metavar="FILE[=SHARE]", help="such as a.safetensors=0.8")
    merge.add_argument("--into", metavar="BASE", help="a diffusers folder or single file to merge into")
    _ranks(merge)
    merge.set_defaults(run=run_merge)

    resize = _command(
        commands, "resize", "change the rank of a LoRA",
        "Write a LoRA at another rank: its best approximation, by singular values.",
    )  # fmt: skip
    resize.add_argument("file", metavar="FILE")
    _ranks(resize)
    resize.set_defaults(run=run_resize)

    extract = _command(
        commands, "extract", "make a LoRA from a base and its fine-tune",
        "Write the LoRA that turns one base into another of the same family, as far as its rank goes.",
    )  # fmt: skip
    extract.add_argument("base", metavar="BASE")
    extract.add_argument("tuned", metavar="TUNED")
    _ranks(extract)
    extract.add_argument("--conv-rank", type=_whole, default=0, metavar="N", help="rank of 3x3 convolutions")
    extract.set_defaults(run=run_extract)

    average = _command(
        commands, "average", "the mean of several checkpoints",
        "Write the mean of checkpoints of one training: of files, or of a run's last ones.",
    )  # fmt: skip
    average.add_argument("sources", nargs="+", metavar="FILE|RUN")
    average.add_argument("--last", type=_whole, default=3, metavar="N", help="of a run: its last N (3)")
    average.set_defaults(run=run_average)

    convert = _command(
        commands, "convert", "a pickled checkpoint to .safetensors",
        "Write a .ckpt, .pt or .bin file as .safetensors. It is read in a process of its own that runs"
        " nothing of what the file says.",
    )  # fmt: skip
    convert.add_argument("file", metavar="FILE")
    convert.set_defaults(run=run_convert)

    metadata = _command(
        commands, "metadata", "show or edit the metadata of a file",
        "Show a .safetensors file's metadata, or write it anew; the tensors stay as they are.",
    )  # fmt: skip
    metadata.add_argument("file", metavar="FILE")
    metadata.add_argument("--set", action="append", default=[], metavar="KEY=TEXT")
    metadata.add_argument("--remove", action="append", default=[], metavar="KEY")
    metadata.add_argument("--strip", action="store_true", help="keep only what says which model it is for")
    metadata.add_argument("--thumbnail", metavar="PICTURE", help="a picture to carry in the file")
    metadata.set_defaults(run=run_metadata)


def _command(commands: Any, name: str, help: str, description: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help, description=description)
    parser.add_argument("--out", metavar="F", help="file to write")
    parser.add_argument("--force", action="store_true", help="replace the file that is there")
    if name != "metadata":
        parser.add_argument("--dtype", choices=DTYPES, default="", help="precision; default: as it is")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _ranks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rank", type=_whole, default=0, metavar="N", help="at most this rank")
    parser.add_argument(
        "--energy", type=_share, default=0.0, metavar="SHARE",
        help="as many ranks as keep this share of each module's squared norm, such as 0.95",
    )  # fmt: skip


def _whole(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 4096:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 4096")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return value


def run_merge(args: argparse.Namespace, out: Output) -> int:
    """Merge LoRAs, into one another or into a base."""
    from loratui.errors import WeightsError
    from loratui.weights.operations import merge_into_base, merge_loras

    loras = [_with_share(text) for text in args.loras]
    if args.into:
        if args.rank or args.energy:
            raise WeightsError("A base has no rank.", "Leave --rank and --energy out with --into.")
        base = _base(args.into)
        ending = "" if base.is_dir() else base.suffix
        target = target_path(args, base.parent / f"{base.stem if ending else base.name}-merged{ending}")
        done = merge_into_base(base, loras, target, args.dtype, _progress(out))
        return _tell(done, out, f"{done.modules} weights changed")
    target = target_path(args, loras[0][0].with_name(f"{loras[0][0].stem}-merged.safetensors"))
    done = merge_loras(loras, target, args.rank, args.energy, args.dtype, _progress(out))
    return _tell_lora(done, out)


def run_resize(args: argparse.Namespace, out: Output) -> int:
    """Write a LoRA at another rank."""
    from loratui.errors import WeightsError
    from loratui.weights.operations import resize

    if not args.rank and not args.energy:
        raise WeightsError("No new rank is given.", "Give --rank N, --energy SHARE, or both.")
    source = Path(args.file).expanduser()
    target = target_path(args, source.with_name(f"{source.stem}-resized.safetensors"))
    return _tell_lora(resize(source, target, args.rank, args.energy, args.dtype, _progress(out)), out)


def run_extract(args: argparse.Namespace, out: Output) -> int:
    """Make a LoRA from two bases."""
    from loratui.errors import WeightsError
    from loratui.families.detect import detect
    from loratui.weights.operations import extract

    base, tuned = _base(args.base), _base(args.tuned)
    families = [detect(path) for path in (base, tuned)]
    for found in families:
        if not found.ok:
            problem = next(p for p in found.problems if p.severity == "error")
            raise WeightsError(problem.message, problem.advice)
    if families[0].family != families[1].family:
        raise WeightsError(
            f"{base} is {families[0].what} and {tuned} is {families[1].what}.",
            "Extract from bases of one family.",
        )
    if not args.rank and not args.energy:
        args.rank = 32
    stem = tuned.stem if tuned.is_file() else tuned.name
    target = target_path(args, tuned.parent / f"{stem}-lora.safetensors")
    done = extract(
        base, tuned, target, families[0].family, args.rank, args.energy, args.conv_rank, args.dtype or "fp16",
        _progress(out),
    )  # fmt: skip
    return _tell_lora(done, out)


def run_average(args: argparse.Namespace, out: Output) -> int:
    """Write the mean of checkpoints."""
    from loratui.cli.places import run_named
    from loratui.cli.weights import checkpoints
    from loratui.errors import WeightsError
    from loratui.weights.operations import average

    files: list[Path] = []
    folder, stem = Path.cwd(), "average"
    for text in args.sources:
        path = Path(text).expanduser()
        if path.is_file():
            files.append(path)
            folder, stem = path.parent, f"{path.stem}-average"
            continue
        run = run_named(text)
        steps = checkpoints(run)
        files += [steps[n] for n in sorted(steps)[-args.last :]]
        folder, stem = run.export_dir, f"{run.name}-average"
    if len(files) < 2:
        raise WeightsError(f"There is nothing to average: {len(files)} checkpoints.", "Name at least two.")
    done = average(files, target_path(args, folder / f"{stem}.safetensors"), args.dtype, _progress(out))
    return _tell(done, out, f"mean of {len(files)} checkpoints")


def run_convert(args: argparse.Namespace, out: Output) -> int:
    """Write a pickled checkpoint as .safetensors, in a process of its own."""
    import json
    import subprocess
    import sys

    from loratui.errors import WeightsError

    source = Path(args.file).expanduser()
    if not source.is_file():
        raise WeightsError(f"{source} does not exist.", "Check the path.")
    if source.suffix == ".safetensors":
        raise WeightsError(
            f"{source} is a .safetensors file already.", "`loratui export` changes its format."
        )
    target = target_path(args, source.with_suffix(".safetensors"))
    out.progress(f"reading {source.name}", now=True)
    command = [sys.executable, "-m", "loratui.jobs.unpickle", str(source), str(target), args.dtype]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    out.end_progress()
    try:
        answer = json.loads(ended.stdout)
    except ValueError:
        raise WeightsError(
            f"Reading {source} broke off (exit {ended.returncode}).", "It needs more memory than there is."
        ) from None
    if "error" in answer:
        raise WeightsError(answer["error"], answer["advice"])
    size = target.stat().st_size
    out.document({"file": str(target), "tensors": answer["tensors"], "bytes": size})
    out.line(f"{target} ({answer['tensors']} tensors, {size_text(size)})")
    return 0


def run_metadata(args: argparse.Namespace, out: Output) -> int:
    """Show metadata, or write a file with other metadata."""
    from loratui.errors import WeightsError
    from loratui.weights.header import read_header
    from loratui.weights.metadata import edit_metadata

    source = Path(args.file).expanduser()
    put = {}
    for text in args.set:
        key, mark, value = text.partition("=")
        if not mark or not key:
            raise WeightsError(f"{text!r} is not KEY=TEXT.", "Write such as modelspec.title=My LoRA.")
        put[key] = value
    if put or args.remove or args.strip or args.thumbnail:
        target = Path(args.out).expanduser() if args.out else source
        spare(target, args.force, (source,))
        picture = Path(args.thumbnail).expanduser() if args.thumbnail else None
        found = edit_metadata(source, target, put, args.remove, args.strip, picture)
        out.note(f"Wrote {target}.")
    else:
        found = read_header(source).metadata
        if not found:
            out.note(f"{source} says nothing of itself.")
    out.document(found)
    for key, value in sorted(found.items()):
        shown = value if len(value) <= 200 else f"{value[:200]}... ({len(value)} characters)"
        out.line(f"{key}: {shown}")
    return 0


def _with_share(text: str) -> tuple[Path, float]:
    """A LoRA and how much of it: `FILE` or `FILE=SHARE`."""
    from loratui.errors import WeightsError

    path = Path(text).expanduser()
    name, mark, share = text.rpartition("=")
    if path.is_file() or not mark:
        return path, 1.0
    try:
        return Path(name).expanduser(), float(share)
    except ValueError:
        raise WeightsError(f"{share!r} in {text!r} is not a number.", "Write such as FILE=0.8.") from None


def _base(text: str) -> Path:
    from loratui.families.detect import locate

    return locate(text)


def _progress(out: Output) -> Any:
    return lambda what, done, total: out.progress(f"{what}  {done}/{total}")


def _tell(done: Done, out: Output, text: str) -> int:
    out.end_progress()
    files = [done.file] if done.file.is_file() else [f for f in done.file.rglob("*") if f.is_file()]
    size = sum(f.stat().st_size for f in files)
    out.document({"file": str(done.file), "modules": done.modules, "bytes": size})
    out.line(f"{done.file} ({text}, {size_text(size)})")
    return 0


def _tell_lora(done: Done, out: Output) -> int:
    from loratui.cli.training import tell_problems
    from loratui.cli.weights import tell_matched
    from loratui.weights.verify import verify_file

    out.end_progress()
    found = verify_file(done.file)
    low, high = done.ranks
    out.document(
        {
            **found.as_json(), "file": str(done.file), "ranks": list(done.ranks),
            "kept": {"least": round(done.kept[0], 6), "mean": round(done.kept[1], 6)},
        }
    )  # fmt: skip
    rank = f"rank {high}" if low == high else f"ranks {low} to {high}"
    size = size_text(done.file.stat().st_size)
    out.line(f"{done.file} ({done.modules} modules, {rank}, {done.kept[1]:.1%} of the change kept, {size})")
    tell_matched(found.matched, out)
    if not found.ok:
        tell_problems(found.problems, out)
    return 0 if found.ok else 1
