"""The memory estimate against what a dry run measures, over 12 settings of a mid-size model on the CPU.

    python benchmarks/memory.py [--only 0 3 5]

The base is an SD1.x-layout model of 44 million random weights, made in a temporary folder. For each setting
the estimate is made from fake tensors in a child process and the dry run trains six steps in another; both
count memory above what the imports take. Prints both and their ratio; the aim is 0.8 to 1.2 for all.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

SETTINGS: tuple[dict[str, Any], ...] = (
    {"data.batch_size": 1},
    {"data.batch_size": 2},
    {"data.batch_size": 4},
    {"data.batch_size": 4, "memory.gradient_checkpointing": True},
    {"data.batch_size": 2, "memory.precision": "bf16", "memory.base_precision": "bf16"},
    {"data.batch_size": 1, "data.resolution": 384},
    {"data.batch_size": 2, "data.resolution": 384, "memory.gradient_checkpointing": True},
    {"data.batch_size": 2, "network.rank": 128},
    {"data.batch_size": 2, "network.text_encoder": True},
    {"data.batch_size": 2, "network.target": "full+conv"},
    {"data.batch_size": 2, "optimizer.name": "adafactor", "network.kind": "lokr"},
    {"data.batch_size": 2, "data.resolution": 384, "memory.attention": "sliced"},
)
USUAL = {
    "data.resolution": 256, "data.max_bucket": 1024, "memory.precision": "fp32", "memory.device": "cpu",
    "network.target": "attention+mlp", "optimizer.steps": 100, "samples.steps": 2,
}  # fmt: skip


def mid_size_base(folder: Path) -> Path:
    """A diffusers folder: a U-Net of three levels, a codec of factor 8, a text encoder of four layers."""
    import torch
    import train_kit as kit
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from loratui.families.loading import CONFIGS

    torch.manual_seed(0)
    UNet2DConditionModel(
        sample_size=32, block_out_channels=(128, 256, 384), layers_per_block=2, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=256,
        norm_num_groups=32,
    ).save_pretrained(folder / "unet")  # fmt: skip
    AutoencoderKL(
        block_out_channels=(32, 64, 64, 64), layers_per_block=1, norm_num_groups=32,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    ).save_pretrained(folder / "vae")  # fmt: skip
    kit.tiny_text(256, layers=4).save_pretrained(folder / "text_encoder")
    kit.byte_tokenizer(folder / "tokenizer", "<|endoftext|>")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(kit.SCHEDULER))
    shutil.copy(CONFIGS / "sd15" / "model_index.json", folder)
    return folder


def compare(folder: Path, wanted: list[int]) -> list[float]:
    """Ratios of estimate to measurement, printed as they come."""
    from loratui import demo
    from loratui.project.dryrun import dry_run
    from loratui.project.estimating import foresee
    from loratui.project.project import Project
    from loratui.project.start import prepare

    base = mid_size_base(folder / "base")
    pictures = demo.pictures_path()
    project = Project.create(
        folder / "project", base=str(base), trigger=demo.TRIGGER, images=pictures, name="memory"
    )
    ratios = []
    for index in wanted:
        ready = prepare(project, project.resolve(None, USUAL | SETTINGS[index]))
        begun = time.perf_counter()
        seen = foresee(project, ready)
        took = time.perf_counter() - begun
        assert seen is not None and seen.basis == "estimated"
        measured = dry_run(project, ready)
        (folder / "state" / "measured.jsonl").unlink()  # or the next estimate would be put right by it
        peak = measured.measurement.peak_gib
        ratios.append(seen.peak_gib / peak)
        print(
            f"{seen.peak_gib:6.3f} GiB estimated in {took:4.0f} s  {peak:6.3f} measured  "
            f"{ratios[-1]:5.2f}  {json.dumps(SETTINGS[index])}",
            flush=True,
        )
    return ratios


def main() -> None:
    """Compare, and say how far off the estimates are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=int, nargs="*", default=list(range(len(SETTINGS))), metavar="N")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loratui-memory-") as name:
        folder = Path(name)
        os.environ["LORATUI_STATE"], os.environ["LORATUI_CACHE"] = (
            str(folder / "state"),
            str(folder / "cache"),
        )
        ratios = compare(folder, args.only)
    off = max(abs(ratio - 1) for ratio in ratios)
    print(
        f"{len(ratios)} settings, {min(ratios):.2f} to {max(ratios):.2f}: at most {off:.0%} off (aim: 20 %)"
    )
    sys.exit(0 if off <= 0.2 else 1)


if __name__ == "__main__":
    main()
