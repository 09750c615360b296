"""From launch to first step, and the peak of memory, against a bare loop: whole processes that alternate.

    python benchmarks/launch.py [--model demo|sd15] [--pairs 6] [--steps 6] [--precision fp32|bf16]
                                [--base DIR]

Ours is the job as `loratui train` starts it, with latents and embeddings cached by a run before; the bare
loop is `bare.py`. Both train the same pictures with the same LoRA for as many steps and save it; ours also
writes its last checkpoint, exports and verifies the file, and draws no samples. The clock runs from the start
of the process until the first step is done; the peak is the kernel's own figure (ru_maxrss) of the whole
process, mapped weights included. `sd15` makes a base of SD1.5's true sizes with random weights, once for all
in --base, and trains at 128 px, batch 1.

Prints medians, and the median of the pairs' ratios with a 95 % bootstrap interval.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from step import interval, project_of  # noqa: E402

GIB = float(1 << 20)  # ru_maxrss is in KiB


def make_run(project: Any, args: argparse.Namespace, batch: int) -> tuple[Any, Path]:
    """A run directory that is ready to be trained, and its base."""
    from loratui.config.run import RunInfo
    from loratui.config.write import write_run
    from loratui.project import manifest
    from loratui.project.start import prepare
    from loratui.runs.directory import RunDir

    changes: dict[str, Any] = {
        "optimizer.steps": args.steps, "saving.every": args.steps, "samples.every": 0,
        "memory.precision": args.precision, "memory.device": "cpu", "data.batch_size": batch,
        "network.rank": 8, "network.target": "attention",
    }  # fmt: skip
    if args.precision == "bf16":
        changes["memory.base_precision"] = "bf16"
    if args.model == "sd15":
        changes |= {
            "data.resolution": 128, "data.min_bucket": 128, "data.max_bucket": 128, "data.bucketing": False,
        }  # fmt: skip
    ready = prepare(project, project.resolve("demo" if args.model == "demo" else None, changes))
    run = RunDir.create(project.runs_dir, "bench")
    info = RunInfo(
        id=run.id, name="bench", project=str(project.root), base_path=str(ready.base), family=ready.family,
        trigger=project.trigger, steps=args.steps, epochs=1,
    )  # fmt: skip
    write_run(run.config_path, info, ready.config)
    manifest.write(run, project, ready.config, ready.scan)
    return run, Path(ready.base)


def extract(run_path: str, target: str) -> None:
    """In a process of its own: what the bare loop reads, from the run's base and the project's cache."""
    import torch
    from safetensors.torch import save_file

    from loratui.config.load import load_run
    from loratui.runs.directory import RunDir
    from loratui.train.assemble import load_base
    from loratui.train.cache import Cache
    from loratui.train.device import place
    from loratui.train.samples import read_manifest

    run, folder = RunDir(run_path), Path(target)
    info, config = load_run(run.config_path)
    family, parts = load_base(info, config, place(config.memory))
    cache = Cache(Path(info.project) / ".loratui" / "cache", family, parts, torch.device("cpu"))
    pictures = read_manifest(run.manifest_path)
    pictures = [p for p in pictures if p.bucket.size == pictures[0].bucket.size]
    latents = torch.stack([cache.latents(p)[0] for p in pictures])
    text = torch.stack([cache.condition(p.caption)["prompt_embeds"] for p in pictures])
    save_file({"latents": latents, "text": text}, folder / "data.safetensors")
    if not (Path(info.base_path) / "unet").is_dir():
        parts.denoiser.float().save_pretrained(folder / "unet")


def watched(command: list[str], output: Path) -> tuple[float, float]:
    """Run a program; when it began (unix time), and its peak in GiB."""
    with output.open("wb") as file:
        begun = time.time()
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{output.read_text(errors='replace')}")
    return begun, usage.ru_maxrss / GIB


def ours(run: Any, log: Path) -> tuple[float, float]:
    """Seconds from launch to first step, and the peak, of our job."""
    from loratui.runs.journal import read_events

    begun, peak = watched([sys.executable, "-m", "loratui.jobs.train", str(run.path)], log)
    events = read_events(run.events_path).events
    assert events[-1]["state"] == "finished", events[-1]
    return next(e["t"] for e in events if e["kind"] == "step") - begun, peak


def measure(args: argparse.Namespace) -> list[tuple[float, float, float, float]]:
    """(our seconds, their seconds, our peak, their peak) for each pair."""
    batch = 4 if args.model == "demo" else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "log.txt"
        base = args.base or folder / "base"
        if args.model == "sd15" and not (base / "model_index.json").is_file():  # torch in another process
            make = f"from pathlib import Path; from step import true_size_base as f; f(Path({str(base)!r}))"
            subprocess.run([sys.executable, "-c", make], check=True, cwd=ROOT / "benchmarks")
        project = project_of(args.model, folder, base)
        os.environ["PYTHONPATH"] = str(ROOT)
        first, base = make_run(project, args, batch)
        ours(first, log)
        command = [sys.executable, __file__, "--extract", str(first.path), name]
        subprocess.run(command, check=True)
        unet = folder / "unet" if (folder / "unet").is_dir() else base / "unet"
        bare = [sys.executable, str(ROOT / "benchmarks" / "bare.py"), str(unet)]
        bare += [str(folder / "data.safetensors"), str(args.steps), str(batch), args.precision]
        bare += [str(folder / "bare.safetensors")]
        watched(bare, log)
        found = []
        for _ in range(args.pairs):
            run, _ = make_run(project, args, batch)
            own_s, own_gib = ours(run, log)
            begun, their_gib = watched(bare, log)
            found.append((own_s, float(log.read_text().split()[-1]) - begun, own_gib, their_gib))
            shutil.rmtree(run.path)
        return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("demo", "sd15"), default="demo")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--base", type=Path, help="folder of the sd15 base; made when it is not there")
    parser.add_argument("--extract", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.extract:
        extract(*args.extract)
        return
    found = measure(args)
    print(f"{args.model} {args.precision}, {len(found)} pairs of processes, {args.steps} steps each")
    for what, unit, a, b in (("first step after", "s", 0, 1), ("peak", "GiB", 2, 3)):
        ratios = [pair[a] / pair[b] for pair in found]
        low, high = interval(ratios)
        own, bare = (statistics.median(pair[n] for pair in found) for n in (a, b))
        print(f"{what}: ours {own:.2f} {unit}, bare {bare:.2f} {unit}; ratio {statistics.median(ratios):.3f}"
              f" (95 % {low:.3f} to {high:.3f})")  # fmt: skip


if __name__ == "__main__":
    main()
