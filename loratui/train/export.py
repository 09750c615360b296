"""The finished LoRA as one file: kohya keys with alpha, and the metadata that other programs read."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from loratui import __version__
from loratui.config.run import RunInfo
from loratui.config.schema import NetworkConfig, RunConfig
from loratui.families.protocol import Family, Parts
from loratui.train.checkpoint import write_atomic
from loratui.train.samples import Picture
from loratui.weights.embedding_files import embedding_metadata
from loratui.weights.networks import STARTS, network_spec

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def export_lora(path: Path, tensors: dict[str, Tensor], dtype: str, metadata: dict[str, str]) -> int:
    """Write a LoRA file atomically; returns its size in bytes.

    Args:
        path: in the run's own folder.
        tensors: kohya names; matrices are converted to `dtype`, alpha stays fp32.
        dtype: `fp16`, `bf16` or `fp32`.
        metadata: text metadata; the content hashes are added.

    Raises:
        SaveError: the disk is full or failing.
    """
    ready = {n: t if n.endswith(".alpha") else t.to(_DTYPES[dtype]).contiguous() for n, t in tensors.items()}
    # The hash covers the tensors' bytes alone, so it is taken from a file without metadata.
    bare = save_tensors(ready)
    start = 8 + int.from_bytes(bare[:8], "little")
    hashes = {
        "sshs_model_hash": hashlib.sha256(memoryview(bare)[start:]).hexdigest(),
        "sshs_legacy_hash": legacy_hash(bare),
    }
    data = save_tensors(ready, metadata={**metadata, **hashes})
    write_atomic(path, data)
    return len(data)


def export_embedding(
    path: Path, tensors: dict[str, Tensor], dtype: str, metadata: Mapping[str, str] | None = None
) -> int:
    """Write an embedding file atomically: `emb_params`, or `clip_l` and `clip_g` for SDXL; returns its size.

    Args:
        path: in the run's own folder; prompts call the embedding by its name.
        tensors: the vectors, [N, D].
        dtype: `fp16`, `bf16` or `fp32`.
        metadata: what the run's LoRA file says of itself, see `embedding_metadata`.

    Raises:
        SaveError: the disk is full or failing.
    """
    ready = {n: t.to(_DTYPES[dtype]).contiguous() for n, t in tensors.items()}
    data = save_tensors(ready, metadata=embedding_metadata(metadata or {}, path.stem))
    write_atomic(path, data)
    return len(data)


def legacy_hash(data: bytes) -> str:
    """The short hash A1111 once showed: 8 digits of the SHA-256 of 64 KiB at 1 MiB."""
    return hashlib.sha256(data[0x100000 : 0x100000 + 0x10000]).hexdigest()[:8]


def lora_metadata(
    family: Family, parts: Parts, info: RunInfo, config: RunConfig, pictures: Sequence[Picture],
    step: int, epoch: int, started_at: float,
) -> dict[str, str]:  # fmt: skip
    """`ss_*` as sd-scripts writes them and `modelspec.*` 1.0.1; all values are strings.

    Args:
        family: names version and architecture.
        parts: the loaded base.
        info: the run.
        config: its settings.
        pictures: its manifest.
        step: optimizer steps done.
        epoch: the epoch reached.
        started_at: unix time.
    """
    now = datetime.now(UTC)
    title = config.saving.name or info.name
    resolution = f"({config.data.resolution}, {config.data.resolution})"
    base = Path(info.base_path)
    facts: dict[str, Any] = {
        **family.metadata(parts),
        "ss_network_module": "networks.lora" if config.network.kind == "lora" else "lycoris.kohya",
        "ss_network_dim": config.network.rank * ranks_of(config.network),
        "ss_network_alpha": config.network.alpha * ranks_of(config.network),
        "ss_network_dropout": config.network.dropout or None,
        "ss_network_args": network_args(config.network),
        "ss_output_name": title,
        "ss_sd_model_name": base.name,
        "ss_sd_model_hash": parts.base_hash[:8],
        "ss_new_sd_model_hash": parts.base_hash,
        "ss_session_id": uuid.uuid5(uuid.NAMESPACE_URL, info.id).int & 0xFFFFFFFF,
        "ss_training_started_at": started_at,
        "ss_training_finished_at": now.timestamp(),
        "ss_training_comment": f"loratui {__version__} run {info.id}",
        "ss_steps": step,
        "ss_max_train_steps": info.steps,
        "ss_epoch": epoch,
        "ss_num_epochs": info.epochs,
        "ss_num_train_images": sum(p.repeats for p in pictures if not p.reg) * config.data.repeats,
        "ss_num_reg_images": sum(p.repeats for p in pictures if p.reg) * config.data.repeats,
        "ss_num_batches_per_epoch": -(
            -sum(p.repeats for p in pictures) * config.data.repeats // config.data.batch_size
        ),
        "ss_batch_size_per_device": config.data.batch_size // config.memory.processes,
        "ss_total_batch_size": config.data.batch_size * config.optimizer.accumulation,
        "ss_gradient_accumulation_steps": config.optimizer.accumulation,
        "ss_gradient_checkpointing": config.memory.gradient_checkpointing,
        "ss_learning_rate": config.optimizer.lr,
        "ss_unet_lr": config.optimizer.lr,
        "ss_text_encoder_lr": text_rate(config),
        "ss_optimizer": config.optimizer.name,
        "ss_lr_scheduler": config.optimizer.schedule,
        "ss_lr_warmup_steps": config.optimizer.warmup_steps,
        "ss_max_grad_norm": config.optimizer.max_grad_norm,
        "ss_mixed_precision": {"fp32": "no"}.get(config.memory.precision, config.memory.precision),
        "ss_seed": config.objective.seed,
        "ss_min_snr_gamma": config.objective.min_snr_gamma or None,
        "ss_noise_offset": config.objective.noise_offset or None,
        "ss_caption_dropout_rate": config.data.caption_dropout,
        "ss_clip_skip": None,
        "ss_resolution": resolution,
        "ss_enable_bucket": config.data.bucketing,
        "ss_min_bucket_reso": config.data.min_bucket,
        "ss_max_bucket_reso": config.data.max_bucket,
        "ss_cache_latents": True,
        "ss_tag_frequency": tag_frequency(pictures, info.name),
        "ss_dataset_dirs": dataset_dirs(pictures, info.name),
        "ss_datasets": [dataset_facts(pictures, config)],
        "ss_bucket_info": bucket_info(pictures, config.data.repeats),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": title,
        "modelspec.resolution": f"{config.data.resolution}x{config.data.resolution}",
        "modelspec.date": now.strftime("%Y-%m-%dT%H:%M:%S"),
    }
    if info.trigger:
        facts["modelspec.trigger_phrase"] = info.trigger
        facts["modelspec.usage_hint"] = f"Put {info.trigger} into the prompt."
    return {key: _text(value) for key, value in facts.items()}


def ranks_of(network: NetworkConfig) -> int:
    """Ranks of a file for one that is trained: two where the file holds A and its start, B and its start."""
    return 2 if network.init in STARTS else 1


def text_rate(config: RunConfig) -> float | None:
    """Learning rate of the (first) text encoder, None where it is not trained."""
    network = config.network
    return (network.text_lr or config.optimizer.lr / 2) if network.text_encoder else None


def network_args(network: NetworkConfig) -> dict[str, Any]:
    """`ss_network_args`: what tells this network from a plain one; conv_dim and conv_alpha are LoCon's."""
    found: dict[str, Any] = {"target": network.target}
    if network.target == "full+conv":
        found["conv_dim"] = (network.conv_rank or network.rank) * ranks_of(network)
        found["conv_alpha"] = (network.conv_alpha or network.alpha) * ranks_of(network)
    if network.init in STARTS:
        found["trained_dim"] = network.rank
    if network.kind != "lora":
        found["algo"] = network.kind
    spec, default = network_spec(network.kind), NetworkConfig()
    for key in sorted(spec.options - {"conv_rank", "conv_alpha", "dropout"}) if spec else []:
        if getattr(network, key) != getattr(default, key):
            found[key] = getattr(network, key)
    return found


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _folder(picture: Picture, name: str) -> str:
    """The folder a picture counts under; kohya readers expect `repeats_name`."""
    parent = Path(picture.rel).parent.name
    return parent if parent[:1].isdigit() and "_" in parent else f"{picture.repeats}_{parent or name}"


def tag_frequency(pictures: Sequence[Picture], name: str) -> dict[str, dict[str, int]]:
    """How often each comma-separated tag occurs, per folder."""
    found: dict[str, Counter[str]] = {}
    for picture in pictures:
        counter = found.setdefault(_folder(picture, name), Counter())
        counter.update(tag for tag in (t.strip() for t in picture.caption.split(",")) if tag)
    return {folder: dict(counter.most_common()) for folder, counter in found.items()}


def dataset_dirs(pictures: Sequence[Picture], name: str) -> dict[str, dict[str, int]]:
    """Repeats and pictures per folder."""
    found: dict[str, dict[str, int]] = {}
    for picture in pictures:
        entry = found.setdefault(_folder(picture, name), {"n_repeats": picture.repeats, "img_count": 0})
        entry["img_count"] += 1
    return found


def dataset_facts(pictures: Sequence[Picture], config: RunConfig) -> dict[str, Any]:
    """The one data set of the run."""
    return {
        "is_dreambooth": True,
        "batch_size_per_device": config.data.batch_size,
        "num_train_images": sum(p.repeats for p in pictures if not p.reg) * config.data.repeats,
        "num_reg_images": sum(p.repeats for p in pictures if p.reg) * config.data.repeats,
        "resolution": [config.data.resolution, config.data.resolution],
        "enable_bucket": config.data.bucketing,
        "flip_aug": config.data.flip,
    }


def bucket_info(pictures: Sequence[Picture], repeats: int) -> dict[str, Any]:
    """Sizes of the buckets and how many samples fall in each."""
    counts: Counter[tuple[int, int]] = Counter()
    for picture in pictures:
        counts[picture.bucket.size] += picture.repeats * repeats
    shares = [p.bucket.crop_share for p in pictures]
    return {
        "buckets": {
            str(n): {"resolution": list(size), "count": counts[size]} for n, size in enumerate(sorted(counts))
        },
        "mean_img_ar_error": round(sum(shares) / max(1, len(shares)), 6),
    }
