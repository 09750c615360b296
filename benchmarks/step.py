"""Seconds a step of our loop against a bare loop over the same model and LoRA, in one process.

    python benchmarks/step.py [--model demo|sd15] [--pairs 10] [--block 10] [--precision fp32|bf16]
                              [--weights full|nf4|int8|fp8] [--pictures 100000] [--base DIR]

The bare loop is what one would write in a notebook: frozen U-Net, cached latents and embeddings, noise, loss,
backward, fused AdamW, nothing logged, nothing clipped. Blocks of steps of either side alternate, so that a
machine that drifts slows both. Ours is the whole job: journal, control requests, clipping, the lot; only
saves and samples are left out. `sd15` makes a base of SD1.5's true sizes with random weights in a temporary
folder, or once for all in --base, and trains at 128 px, batch 1 (about 4 GB of disk and 6 of memory). With
--weights the base of both sides is stored in fewer bits: compare two runs. With --pictures ours has as many
entries of the demo's pictures in its cache; the bare loop keeps its few.

Prints the median of the pairs' ratios with a 95 % bootstrap interval, and the share of our step that lies
outside of forward, backward and optimizer.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def true_size_base(folder: Path) -> Path:
    """A diffusers folder of SD1.5's sizes with random weights, from the packaged settings."""
    import json
    import shutil

    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    from loratui.families.loading import CONFIGS

    torch.manual_seed(0)
    configs = CONFIGS / "sd15"

    def read(part: str) -> dict[str, Any]:
        return json.loads((configs / part / "config.json").read_text(encoding="utf-8"))

    UNet2DConditionModel.from_config(read("unet")).save_pretrained(folder / "unet")
    AutoencoderKL.from_config(read("vae")).save_pretrained(folder / "vae")
    CLIPTextModel(CLIPTextConfig.from_dict(read("text_encoder"))).save_pretrained(folder / "text_encoder")
    shutil.copytree(CONFIGS / "clip_tokenizer", folder / "tokenizer")
    shutil.copytree(configs / "scheduler", folder / "scheduler")
    shutil.copy(configs / "model_index.json", folder)
    return folder


def project_of(model: str, root: Path, kept: Path | None = None) -> Any:
    """A project on the demo's pictures, with the demo's base or one of true sizes."""
    from loratui import demo
    from loratui.project.demo import make_demo
    from loratui.project.project import Project

    if model == "demo":
        return make_demo(root / "demo")
    base = kept or root / "base"
    if not (base / "model_index.json").is_file():
        true_size_base(base)
    return Project.create(
        root / "project", base=str(base), trigger=demo.TRIGGER, images=demo.pictures_path(), name="bench"
    )


class Bare:
    """The bare loop over the parts of an assembled training; its weights are the same LoRA."""

    def __init__(self, training: Any, batch: int) -> None:
        """Take latents and embeddings of the first bucket, as many as fit a batch."""
        import torch

        self.t = training
        stream = training.batches
        bucket = stream.pictures[0].bucket.size
        self.pictures = [p for p in stream.pictures if p.bucket.size == bucket]
        self.latents = [stream.cache.latents(p)[0] for p in self.pictures]
        self.text = [stream.cache.condition(p.caption)["prompt_embeds"] for p in self.pictures]
        self.optimizer = torch.optim.AdamW(training.adapter.parameters(), lr=1e-4, fused=True)
        self.batch = batch

    def steps(self, count: int) -> float:
        """Seconds a step over a block of steps."""
        import torch
        import torch.nn.functional as F

        t = self.t
        table = t.objective.alphas_cumprod_T
        begun = time.perf_counter()
        for _ in range(count):
            chosen = [random.randrange(len(self.pictures)) for _ in range(self.batch)]
            x0 = torch.stack([self.latents[n] for n in chosen])
            text = torch.stack([self.text[n] for n in chosen])
            eps, at = torch.randn_like(x0), torch.randint(1000, (self.batch,))
            abar = table[at][:, None, None, None]
            with t.placement.autocast():
                out = t.parts.denoiser(abar.sqrt() * x0 + (1 - abar).sqrt() * eps, at, text).sample
            F.mse_loss(out.float(), eps).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        return (time.perf_counter() - begun) / count


def many(training: Any, count: int) -> None:
    """Let the training have that many pictures: the project's own under other hashes, with cache entries."""
    from dataclasses import replace

    from loratui.train.assemble import make_batches
    from loratui.train.captions import Variation

    old, cache = training.batches, training.batches.cache
    config = training.config
    pictures = []
    for n in range(count):
        own = old.pictures[n % len(old.pictures)]
        picture = replace(own, hash=f"{own.hash}-{n}")
        mean, std = cache.latents(own)
        cache._latents.put(cache.latent_key(picture, False), {"mean": mean, "std": std})
        pictures.append(picture)
    variation = Variation.from_config(config.data, config.objective.seed)
    training.batches = make_batches(pictures, cache, config, variation, True, training.ranks, old.variants)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run the alternation; returns ratios, medians and our shares of time."""
    from loratui.config.run import RunInfo
    from loratui.config.write import write_run
    from loratui.jobs._main import Context
    from loratui.project import manifest
    from loratui.project.start import prepare
    from loratui.runs.directory import RunDir
    from loratui.runs.journal import Journal, read_events
    from loratui.runs.launch import open_attempt
    from loratui.train.assemble import assemble
    from loratui.train.loop import train

    model, block, pairs = args.model, args.block, args.pairs + 1
    batch = 4 if model == "demo" else 1
    with tempfile.TemporaryDirectory() as folder:
        project = project_of(model, Path(folder), args.base)
        steps = block * (pairs + 1)
        changes: dict[str, Any] = {
            "optimizer.steps": steps, "saving.every": steps, "samples.every": 0,
            "memory.precision": args.precision, "memory.base_weights": args.weights,
            "memory.device": "cpu", "data.batch_size": batch,
            "network.rank": 8, "network.target": "attention",
        }  # fmt: skip
        if model == "sd15":
            changes |= {
                "data.resolution": 128, "data.min_bucket": 128, "data.max_bucket": 128,
                "data.bucketing": False,
            }  # fmt: skip
        ready = prepare(project, project.resolve("demo" if model == "demo" else None, changes))
        run = RunDir.create(project.runs_dir, "bench")
        info = RunInfo(
            id=run.id, name="bench", project=str(project.root), base_path=str(ready.base),
            family=ready.family, trigger=project.trigger, steps=steps, epochs=1,
        )  # fmt: skip
        write_run(run.config_path, info, ready.config)
        manifest.write(run, project, ready.config, ready.scan)
        with Journal(run) as journal:
            open_attempt(journal, "train", 0)
            context = Context(run, journal)
            training = assemble(context)
            bare = Bare(training, batch)
            if args.pictures:
                many(training, args.pictures)
            found = _alternate(training, bare, block, lambda: train(training))
        events = [e for e in read_events(run.events_path).events if e["kind"] == "step"][block:]
    parts: dict[str, float] = {}
    for event in events:
        for part, seconds in event["times"].items():
            parts[part] = parts.get(part, 0.0) + seconds
    total = sum(parts.values())
    found["outside"] = (parts["data"] + parts["io"]) / total
    return found


def _alternate(training: Any, bare: Bare, block: int, run: Callable[[], bool]) -> dict[str, Any]:
    """Blocks of ours between blocks of the bare loop, which runs when ours looks for requests."""
    ours: list[float] = []
    theirs: list[float] = []
    looked = training.context.controls
    mark = 0.0

    def controls() -> Any:
        nonlocal mark
        answer = looked()
        if training.step % block == 0:
            if training.step:
                ours.append((time.perf_counter() - mark) / block)
            theirs.append(bare.steps(block))
            mark = time.perf_counter()
        return answer

    training.context.controls = controls
    run()
    pairs = list(zip(ours[1:], theirs[1:], strict=False))  # the first block warms both up
    return {"ratios": [a / b for a, b in pairs], "ours": [a for a, _ in pairs], "bare": [b for _, b in pairs]}


def interval(values: list[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    dice = random.Random(0)
    medians = sorted(statistics.median(dice.choices(values, k=len(values))) for _ in range(2000))
    return medians[50], medians[1949]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("demo", "sd15"), default="demo")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--block", type=int, default=10)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--weights", choices=("full", "nf4", "int8", "fp8"), default="full")
    parser.add_argument("--pictures", type=int, default=0)
    parser.add_argument("--base", type=Path, help="folder of the sd15 base; made when it is not there")
    args = parser.parse_args()
    found = measure(args)
    low, high = interval(found["ratios"])
    ours, bare = (1000 * statistics.median(found[side]) for side in ("ours", "bare"))
    name = f"{args.model} {args.precision}, {len(found['ratios'])} pairs of {args.block} steps"
    name += f", {args.weights}" if args.weights != "full" else ""
    name += f", {args.pictures:,} pictures" if args.pictures else ""
    print(f"{name}: ours {ours:.1f} ms, bare {bare:.1f} ms a step")
    print(f"ratio {statistics.median(found['ratios']):.3f} (95 % {low:.3f} to {high:.3f})")
    print(f"outside forward, backward and optimizer: {100 * found['outside']:.2f} %")


if __name__ == "__main__":
    main()
