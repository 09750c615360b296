"""A run of 60 steps taken up again from each of its steps, for settings of all kinds; runs in a pool."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

STEPS = int(os.environ.get("LORATUI_RESUME_STEPS", "60"))
"""Of each run; fewer for a first look."""
RANDOM = {
    "optimizer__schedule": "cosine", "optimizer__warmup_steps": 4, "data__flip": True,
    "data__caption_dropout": 0.2, "objective__min_snr_gamma": 5.0, "objective__noise_offset": 0.05,
    "network__dropout": 0.1,
}  # fmt: skip
"""What draws at random in most runs."""
TAGS = {
    "data__shuffle_captions": True, "data__keep_tokens": 1, "data__tag_dropout": 0.3, "data__wildcards": True,
    "data__token_warmup_steps": 30,
}  # fmt: skip
MASKED = {
    "network__dropout": 0.0, "network__rank_dropout": 0.2, "network__module_dropout": 0.2,
}  # fmt: skip


def optimizer_rows() -> dict[str, dict[str, Any]]:
    """One for each optimizer that works on the CPU, all with an average where it has none of its own."""
    from loratui.optim.spec import OPTIMIZERS

    rows: dict[str, dict[str, Any]] = {}
    for spec in (s for s in OPTIMIZERS if not s.cuda):
        changes: dict[str, Any] = {
            "optimizer__name": spec.name,
            "optimizer__lr": 1.0 if spec.adaptive else 1e-3,
        }
        if spec.averaging:
            changes["optimizer__schedule"] = "constant"
        else:
            changes["objective__ema_decay"] = 0.9
        if "8bit" in spec.name:
            changes["optimizer__options"] = ("min_8bit_size=0",)  # or such small states stay 32-bit
        if spec.name == "other":
            changes["optimizer__other"] = "Adan"
        rows[f"optimizer {spec.name}"] = RANDOM | changes
    return rows


def network_rows() -> dict[str, dict[str, Any]]:
    """One for each type of network, with every dropout and option it has."""
    from loratui.weights.networks import NETWORKS

    rows = {}
    for spec in NETWORKS:
        changes: dict[str, Any] = {
            "network__kind": spec.name, "network__target": "full" if spec.name == "oft" else "full+conv",
        }  # fmt: skip
        changes |= {k: v for k, v in MASKED.items() if k.removeprefix("network__") in spec.options}
        if "dropout" not in spec.options:
            changes["network__dropout"] = 0.0
        else:
            changes["network__dropout"] = 0.1
        if "block_size" in spec.options:
            changes["network__block_size"] = 8
        rows[f"network {spec.name}"] = RANDOM | changes
    return rows


OTHERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation 3": RANDOM | {"optimizer__accumulation": 3},
    "captions varied": RANDOM | TAGS,
    "crops and colours": RANDOM | {"data__crop": "random", "data__colour_jitter": 0.1},
    "caption lines": RANDOM | {"data__caption_lines": "random"},
    "noises and timesteps": RANDOM | {
        "objective__multires_iterations": 3, "objective__noise_offset": 0.0,
        "objective__input_perturbation": 0.1, "objective__timestep_bias": "style",
        "objective__loss": "huber", "objective__validation_share": 0.3,
    },
    "cache in memory": RANDOM | {"optimizer__accumulation": 2, "objective__ema_decay": 0.9},
    "cache on disk": RANDOM | {"optimizer__accumulation": 2, "objective__ema_decay": 0.9},
    "text encoder": RANDOM | {"network__text_encoder": True, "network__text_stop": 40},
    "pivotal tuning": RANDOM | {"network__tokens": 2},
    "textual inversion": {"network__tokens": 2, "network__tokens_only": True, "data__flip": True},
    "norms limited, LoRA+": RANDOM | {"network__scale_norm": 0.05, "network__lora_plus": 4.0},
    "bf16": RANDOM | {"memory__precision": "bf16", "memory__gradient_checkpointing": True},
    "nf4 weights, blocks swapped": RANDOM | {"memory__base_weights": "nf4", "memory__blocks_to_swap": 1},
}  # fmt: skip


def rows() -> dict[str, dict[str, Any]]:
    """Name -> what differs from the tiny settings."""
    return optimizer_rows() | network_rows() | OTHERS


@dataclass(frozen=True, slots=True)
class Found:
    """What a campaign saw.

    Attributes:
        resumed: steps that were resumed from and reached the last one.
        different: those of them that ended in other bytes.
        last: hash of the whole run's last LoRA.
        steps_run: training steps of all the resumes.
    """

    resumed: list[int]
    different: list[int]
    last: str
    steps_run: int


def small_base(folder: Path) -> Path:
    """The tiny base with a U-Net of one level, as a step has to be cheap here."""
    import train_kit as kit
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    kit.tiny_base(folder)
    shutil.rmtree(folder / "unet")
    kit.torch.manual_seed(1)
    UNet2DConditionModel(
        sample_size=8, block_out_channels=(32,), layers_per_block=1, mid_block_type=None,
        down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
        attention_head_dim=2, cross_attention_dim=32, norm_num_groups=32,
    ).save_pretrained(folder / "unet")  # fmt: skip
    return folder


def campaign(name: str, parent: str) -> dict[str, Any]:
    """Train 60 steps with a checkpoint each, then again from each of them to the end."""
    import train_kit as kit

    from loratui.train import cache

    folder, changes = Path(tempfile.mkdtemp(dir=parent)), rows()[name]
    # Blocks are what swapping and quantising work on, and the small U-Net has none to spare.
    swaps = changes.get("memory__blocks_to_swap")
    base = kit.tiny_base(folder / "base") if swaps else small_base(folder / "base")
    remember = cache.TensorStore._remember
    if name == "cache on disk":
        cache.TensorStore._remember = lambda *args: None  # type: ignore[method-assign,assignment]
    try:
        return asdict(_from_every_step(folder, base, kit, changes))
    finally:
        cache.TensorStore._remember = remember  # type: ignore[method-assign]
        shutil.rmtree(folder, ignore_errors=True)


def _from_every_step(folder: Path, base: Path, kit: Any, changes: dict[str, Any]) -> Found:
    common = {"optimizer__steps": STEPS} | changes
    last = f"checkpoints/step-{STEPS:06d}/lora.safetensors"
    whole = _run(folder, base, kit, common | {"saving__every": 1, "saving__keep": 2 * STEPS}, "whole")
    kit.run_job_here(whole)
    wanted = kit.tensor_hash(whole.path / last)
    moved = {kit.tensor_hash(p / "lora.safetensors") for p in whole.checkpoints_dir.glob("step-*")}
    assert len(moved) > 0.9 * STEPS, "nothing is trained"
    resumed, different, steps = [], [], 0
    for step in range(1, STEPS):
        run = _run(folder, base, kit, common | {"saving__every": 10 * STEPS}, f"from-{step}")
        there = f"step-{step:06d}"
        shutil.copytree(whole.checkpoints_dir / there, run.checkpoints_dir / there)
        events = kit.run_job_here(run)
        done = [e["step"] for e in events if e["kind"] == "step"]
        assert done == list(range(step + 1, STEPS + 1)), (step, done)
        resumed.append(step)
        steps += len(done)
        if kit.tensor_hash(run.path / last) != wanted:
            different.append(step)
        shutil.rmtree(run.path)
    return Found(resumed, different, wanted, steps)


def _run(folder: Path, base: Path, kit: Any, changes: dict[str, Any], name: str) -> Any:
    run = kit.make_run(folder / "project", base, kit.tiny_config(**changes), name)
    if changes.get("data__wildcards"):
        rows = [json.loads(line) for line in run.manifest_path.read_text().splitlines()]
        for n, row in enumerate(rows):
            row["caption"] = f"sks thing, {{red|green|blue}}, tag {n}, square, on a {{hill|table}}"
        run.manifest_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def start(names: list[str], folder: Path, processes: int) -> tuple[ProcessPoolExecutor, dict[str, Future]]:
    """Begin all campaigns in a pool of fresh interpreters."""
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    return pool, {name: pool.submit(campaign, name, str(folder)) for name in names}
