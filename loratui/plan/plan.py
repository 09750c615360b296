"""The plan of a training: what it will do and need, and what speaks against it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratui.config.checks import check
from loratui.config.docs import field_table
from loratui.config.load import as_dict
from loratui.config.schema import RunConfig
from loratui.dataset.framing import grids
from loratui.dataset.scan import Picture, Scan, count_buckets
from loratui.errors import Problem
from loratui.families.spec import family_spec
from loratui.plan.captions import caption_bytes
from loratui.plan.held import held_back
from loratui.plan.memory import Memory, checkpoint_bytes, estimate
from loratui.plan.picture_checks import check_class, check_pictures
from loratui.plan.sizes import Sizes, sizes
from loratui.plan.steps import BucketPlan, bucket_plans, moments, steps_of
from loratui.weights.networks import STARTS

if TYPE_CHECKING:
    from loratui.project.project import Project

_EXPORT_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a training will do.

    Attributes:
        images: different pictures.
        repeated: pictures of an epoch, repeats counted.
        per_epoch: batches of an epoch.
        steps: optimizer steps.
        epochs: passes over the data that the steps touch.
        buckets: the fullest first.
        saves: checkpoints written.
        pictures: sample pictures drawn.
        class_pictures: pictures of the class that the base draws before the first step.
        sizes: of base and LoRA, None when the base is unknown.
        memory: rough estimate, None when the base is unknown.
        disk: bytes by what they are for, with `total` and `free`.
        config: the settings.
        problems: warnings and errors about settings, pictures, captions and disk.
    """

    images: int
    repeated: int
    per_epoch: int
    steps: int
    epochs: int
    buckets: tuple[BucketPlan, ...]
    saves: int
    pictures: int
    sizes: Sizes | None
    memory: Memory | None
    disk: dict[str, int]
    config: RunConfig
    problems: tuple[Problem, ...]
    class_pictures: int = 0

    @property
    def lora_bytes(self) -> int:
        """Size of the network's exported file, 0 when unknown or where there is none."""
        return _network_bytes(self.sizes, self.config) if self.sizes else 0

    @property
    def tokens_bytes(self) -> int:
        """Size of the embedding file of new tokens, 0 when unknown or without any."""
        return _token_bytes(self.sizes, self.config) if self.sizes else 0

    def as_json(self) -> dict[str, Any]:
        """What `loratui plan --json` prints."""
        size = self.sizes
        nested: dict[str, dict[str, Any]] = {}
        table = field_table()
        for path, value in as_dict(self.config).items():
            info = table[path]
            nested.setdefault(info.section, {})[info.key] = list(value) if isinstance(value, tuple) else value
        return {
            "images": self.images,
            "repeated": self.repeated,
            "batches_per_epoch": self.per_epoch,
            "steps": self.steps,
            "epochs": self.epochs,
            "buckets": [
                {
                    "width": b.width,
                    "height": b.height,
                    "images": b.images,
                    "repeated": b.repeated,
                    "batches": b.batches,
                    "leftover": b.leftover,
                }
                for b in self.buckets
            ],
            "checkpoints": self.saves,
            "samples": self.pictures,
            "class_pictures_to_draw": self.class_pictures,
            "lora": None
            if size is None
            else {
                "layers": size.layers,
                "parameters": size.lora,
                "tokens": size.tokens,
                "bytes": self.lora_bytes,
                "exact": size.exact,
            },
            "memory": None if self.memory is None else self.memory.as_json(),
            "disk": self.disk,
            "config": nested,
            "problems": [p.as_dict() for p in self.problems],
        }


def plan(
    project: Project, config: RunConfig, scan: Scan, base: Path | None = None,
    class_pictures: Sequence[Picture] = (),
) -> Plan:  # fmt: skip
    """Plan a training.

    Args:
        project: for the trigger, the prompts and the disk.
        config: settings.
        scan: made with the same data settings.
        base: the resolved base, when it is there: sizes are counted from it, else taken from its family.
        class_pictures: regularisation pictures, trained beside the project's own.
    """
    counts = scan.buckets
    held = held_back(scan.pictures, config.objective.validation_share, config.objective.seed)
    if class_pictures or held:
        trained = [p for p in scan.pictures if p.rel not in held]
        counts = count_buckets([*trained, *class_pictures], grids(config.data))
    buckets = bucket_plans(counts, config.data.batch_size, config.data.repeats)
    per_epoch = sum(b.batches for b in buckets)
    steps, epochs = steps_of(config, per_epoch)
    saves = moments(config.saving.every, steps)
    prompts = config.samples.prompts or project.prompts or ("",)
    pictures = (
        (moments(config.samples.every, steps) + 1) * len(prompts) if config.samples.every and steps else 0
    )
    size = sizes(base, config.model.family, config.network)
    area = max((b.width * b.height for b in buckets), default=config.data.resolution**2)
    memory = estimate(config, size, area) if size else None
    drawn = sum(not p.path.exists() for p in class_pictures) if config.data.reg_generate else 0
    disk = _disk(project, config, scan, size, saves, pictures, buckets)
    disk["samples"] += (extra := drawn * config.data.resolution**2 * 2)
    disk["total"] += extra
    problems = [p for p in check(config) if p.severity != "error"]
    problems += [*check_pictures(project, config, scan, buckets, steps), *_space(disk)]
    problems += check_class(config, scan, len(class_pictures), drawn)
    return Plan(
        images=len(scan.pictures),
        repeated=sum(b.repeated for b in buckets),
        per_epoch=per_epoch,
        steps=steps,
        epochs=epochs,
        buckets=buckets,
        saves=saves,
        pictures=pictures,
        sizes=size,
        memory=memory,
        disk=disk,
        config=config,
        problems=tuple(problems),
        class_pictures=drawn,
    )


def _network_bytes(size: Sizes, config: RunConfig) -> int:
    return size.lora * _EXPORT_BYTES[config.saving.dtype] * (2 if config.network.init in STARTS else 1)


def _token_bytes(size: Sizes, config: RunConfig) -> int:
    return size.tokens * _EXPORT_BYTES[config.saving.dtype]


def _disk(
    project: Project,
    config: RunConfig,
    scan: Scan,
    size: Sizes | None,
    saves: int,
    pictures: int,
    buckets: tuple[BucketPlan, ...],
) -> dict[str, int]:
    """Bytes needed: kept checkpoints (and one being written), the export, caches, sample PNGs."""
    trained = size.lora + size.tokens if size else 0
    kept = min(saves, config.saving.keep) + 1 if saves else 0
    side_px = config.samples.width or config.data.resolution, config.samples.height or config.data.resolution
    captions = {p.caption for p in scan.pictures} | {""}
    each = (2 if config.data.flip else 1) * config.data.versions
    spec = family_spec(config.model.family)
    factor, channels = (spec.latent_factor, spec.latent_channels) if spec is not None else (8, 4)
    places = sum(b.images * (b.width // factor) * (b.height // factor) for b in buckets)
    needed = {
        "checkpoints": int(kept * trained * checkpoint_bytes(config)),
        "export": _network_bytes(size, config) + _token_bytes(size, config) if size else 0,
        # mean and deviation in fp32, of each version, mirrored and not
        "caches": each * places * channels * 2 * 4
        + (0 if config.network.trains_text else caption_bytes(config.model.family, size, captions)),
        "samples": pictures * side_px[0] * side_px[1] * 2,
    }
    if config.data.cache == "memory":
        needed["caches"] = 0
    needed["total"] = sum(needed.values())
    folder = project.root
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    needed["free"] = shutil.disk_usage(folder).free
    return needed


def _space(disk: dict[str, int]) -> list[Problem]:
    if disk["total"] <= disk["free"]:
        return []
    gib = float(1 << 30)
    needed, free = disk["total"] / gib, disk["free"] / gib
    message = f"the run needs about {needed:.1f} GiB of disk and {free:.1f} GiB are free."
    return [
        Problem("disk", "disk-full", "error", message, advice="Free some space, or keep fewer checkpoints.")
    ]
