"""A tiny SD base, a tiny data set and a job context, for tests of the trainer."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from loratui.config.run import RunInfo
from loratui.config.schema import (
    DataConfig,
    MemoryConfig,
    NetworkConfig,
    OptimizerConfig,
    RunConfig,
    SamplesConfig,
    SavingConfig,
)
from loratui.config.write import write_run
from loratui.jobs._main import Context
from loratui.runs.directory import RunDir
from loratui.runs.journal import Journal, read_events
from loratui.runs.launch import newest_checkpoint, open_attempt

torch.set_num_threads(1)  # these networks are too small to share, and the golden loss is one thread's

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def tiny_parts(seed: int = 0, sd2: bool = False, width: int = 32, heads: Any = 2) -> tuple[Any, Any, Any]:
    """A U-Net of 2 levels, a codec of factor 2 and a text encoder of 1 layer, with random weights."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(width, 2 * width),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=heads,
        cross_attention_dim=width,
        norm_num_groups=32,
        use_linear_projection=sd2,
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 32),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=32,
        sample_size=16,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=1,
            num_attention_heads=max(1, width // 64),
            vocab_size=49408,
            hidden_act="gelu" if sd2 else "quick_gelu",
            eos_token_id=2,
            bos_token_id=0,
            pad_token_id=1,
        )
    )
    return unet.eval(), vae.eval(), text.eval()


def tiny_text(width: int, layers: int = 1, sd1: bool = True, projection: int = 0) -> Any:
    """A CLIP text encoder with random weights; with a projection when `projection` is not 0."""
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        vocab_size=49408,
        hidden_act="quick_gelu" if sd1 else "gelu",
        eos_token_id=2,
        bos_token_id=0,
        pad_token_id=1,
        projection_dim=projection or width,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def tiny_sdxl_base(folder: Path, seed: int = 0, width: int = 32, heads: Any = 2, **scheduler: Any) -> Path:
    """An SDXL-layout base with random weights as a diffusers folder: transformers at the inner level only."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from loratui.families.loading import CONFIGS

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(width, 2 * width),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=heads,
        transformer_layers_per_block=(1, 2),
        cross_attention_dim=2 * width,
        norm_num_groups=32,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 24,
    )
    _, vae, _ = tiny_parts(seed)
    torch.manual_seed(seed + 1)
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    tiny_text(width, layers=2).save_pretrained(folder / "text_encoder")
    tiny_text(width, layers=2, sd1=False, projection=24).save_pretrained(folder / "text_encoder_2")
    byte_tokenizer(folder / "tokenizer", "<|endoftext|>")
    byte_tokenizer(folder / "tokenizer_2", "!")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({**SCHEDULER, **scheduler}))
    shutil.copy(CONFIGS / "sdxl" / "model_index.json", folder)
    return folder


def tiny_base(folder: Path, seed: int = 0, sd2: bool = False, **kwargs: Any) -> Path:
    """Save `tiny_parts` as a diffusers folder."""
    from loratui.families.loading import CONFIGS

    unet, vae, text = tiny_parts(seed, sd2, **kwargs)
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    text.save_pretrained(folder / "text_encoder")
    byte_tokenizer(folder / "tokenizer", "!" if sd2 else "<|endoftext|>")
    (folder / "scheduler").mkdir()
    settings = {**SCHEDULER, "prediction_type": "v_prediction" if sd2 else "epsilon"}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))
    shutil.copy(CONFIGS / ("sd2" if sd2 else "sd15") / "model_index.json", folder)
    return folder


def byte_tokenizer(folder: Path, pad: str) -> None:
    """CLIP's tokenizer without its merges: characters only, and read in no time."""
    from loratui.families.loading import CONFIGS

    vocab = json.loads((CONFIGS / "clip_tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    kept = {word: n for word, n in vocab.items() if n < 512 or n >= 49406}
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(kept), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    marks = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": pad, **marks}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def tiny_config(**changes: Any) -> RunConfig:
    """Settings for the tiny base: 8 steps of 2 pictures of 16 px, a checkpoint every 3, no samples."""
    config = RunConfig(
        data=DataConfig(resolution=16, batch_size=2, bucket_step=8, min_bucket=8, max_bucket=32),
        network=NetworkConfig(rank=4, alpha=2.0),
        optimizer=OptimizerConfig(lr=1e-2, steps=8),
        memory=MemoryConfig(device="cpu", precision="fp32"),
        samples=SamplesConfig(prompts=("a red square", "a blue circle"), every=0, steps=3, guidance=3.0),
        saving=SavingConfig(every=3, keep=3, dtype="fp32"),
    )
    for dotted, value in changes.items():
        section, _, name = dotted.partition("__")
        config = replace(config, **{section: replace(getattr(config, section), **{name: value})})
    return config


def tiny_pictures(folder: Path, count: int = 5) -> list[Path]:
    """PNGs of two aspect ratios."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for n in range(count):
        image = Image.new("RGB", (24, 16) if n % 3 == 2 else (20, 20), (40 * n % 256, 200 - 30 * n, 90))
        ImageDraw.Draw(image).rectangle((2 + n, 3, 9 + n, 12), fill=(255, 20 * n, 0))
        path = folder / f"p{n}.png"
        image.save(path)
        found.append(path)
    return found


def make_run(
    project: Path, base: Path, config: RunConfig, name: str = "t", family: str = "sd15", score: str = ""
) -> RunDir:
    """A run directory with run.toml and manifest.jsonl, nothing started."""
    from loratui.dataset.framing import Grids

    pictures = sorted((project / "dataset").glob("*.png")) or tiny_pictures(project / "dataset")
    run = RunDir.create(project / "runs", name)
    info = RunInfo(
        id=run.id, name=name, project=str(project), base_path=str(base), family=family, trigger="sks thing",
        steps=config.optimizer.steps, epochs=1, score=score,
    )  # fmt: skip
    write_run(run.config_path, info, config)
    rows = []
    for n, path in enumerate(pictures):
        with Image.open(path) as image:
            width, height = image.size
        rows += [
            {
                "path": str(path), "rel": path.name, "hash": hashlib.sha256(path.read_bytes()).hexdigest(),
                "width": width, "height": height, "caption": f"sks thing, number {n}", "repeats": 1 + n % 2,
                **({"lines": [f"sks thing, number {n}", f"the {n}th thing"]}
                   if config.data.caption_lines == "random" else {}),
                "bucket": list(bucket.size), "scaled": list(bucket.scaled), "crop": list(bucket.crop),
            }
            for bucket in Grids(config.data).buckets(width, height)
        ]  # fmt: skip
    run.manifest_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def job_context(run: RunDir) -> Context:
    """A job's context without its process, lock and signals; opens the attempt as a launcher would."""
    journal = Journal(run, heartbeat=False)
    open_attempt(journal, "train", newest_checkpoint(run))
    return Context(run, journal)


def run_job_here(run: RunDir, tweak: Any = None) -> list[dict[str, Any]]:
    """Run the train job in this process; returns the run's events."""
    from loratui.jobs import train as job

    context = job_context(run)
    if tweak is not None:
        tweak(context)
    try:
        job.main(context)
    finally:
        context.journal.close()
    return events(run)


def events(run: RunDir, kind: str = "") -> list[dict[str, Any]]:
    """Events of a run."""
    return [e for e in read_events(run.events_path).events if not kind or e["kind"] == kind]


def tensor_hash(path: Path) -> str:
    """SHA-256 of the tensor bytes of a .safetensors file."""
    data = path.read_bytes()
    return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()
