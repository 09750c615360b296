"""From a run directory to a `Training` that is ready to go."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loratui.config.load import as_dict, load_run
from loratui.config.run import RunInfo
from loratui.config.schema import RunConfig
from loratui.dataset.framing import Box
from loratui.errors import BaseModelError, ConfigError
from loratui.families.detect import detect
from loratui.families.emphasis import Spoken, read, with_trigger
from loratui.families.protocol import Family, Parts, load_family
from loratui.families.sampling import make_scheduler
from loratui.optim import optimizer_settings
from loratui.train import eva, faces, prior
from loratui.train.adapter import Adapter
from loratui.train.batches import Batches, Draws
from loratui.train.cache import Cache, Progress
from loratui.train.captions import Variation
from loratui.train.checkpoint import Checkpoints, Snapshot
from loratui.train.device import Placement, base_dtype, place
from loratui.train.export import lora_metadata
from loratui.train.fit import fit
from loratui.train.flow import FlowObjective, FlowTimesteps
from loratui.train.loop import Training
from loratui.train.objective import Objective
from loratui.train.preview import Preview
from loratui.train.published import Published
from loratui.train.quantised import quantise
from loratui.train.ranks import Ranks, join
from loratui.train.resume import fingerprints, newest_snapshot, restore
from loratui.train.samples import Picture, read_manifest
from loratui.train.training_adapter import put_under
from loratui.train.validation import split
from loratui.train.variants import FaceKey, Variants, face_key
from loratui.train.warmstart import start_from


def assemble(context: Any) -> Training:
    """Load the base, fill the caches, put the adapter in, and take up the newest good checkpoint.

    Args:
        context: of the job: `run`, `journal`, `controls()`, `ack()`, `stop_requested`.

    Raises:
        LoratuiError: what cannot be used, with advice.
    """
    journal, run = context.journal, context.run
    info, config = load_run(run.config_path)
    placement = place(config.memory)
    ranks = join(config.memory.processes, placement.device, context)
    context.set_device(str(placement.device))
    pictures, started_at = read_manifest(run.manifest_path), time.time()

    family, parts = _told_base(context, info, config, placement)
    place_of_cache = Path(info.project) / ".loratui" / "cache"
    cache = Cache(place_of_cache, family, parts, placement.device, config.data.cache == "disk")
    adapter = None
    if prior.undrawn(pictures):
        journal.write("state", state="caching")
        adapter = inject(family, parts, info, config, placement, pictures, True, Caching(context))
        pictures = prior.draw(
            run.manifest_path, config, family, parts, adapter, cache, placement, Caching(context), ranks
        )

    checkpoints = Checkpoints(run.checkpoints_dir, config.saving.keep)
    prints = fingerprints(info, config, pictures, parts)
    snapshot = newest_snapshot(context, checkpoints, prints, as_dict(config))
    prompts = _prompts(info, config, snapshot)
    fresh = snapshot is None

    journal.write("state", state="caching")
    variation = Variation.from_config(config.data, config.objective.seed)
    captions = captions_ahead(config, pictures, prompts, variation, family.empty)
    variants = Variants.from_config(config.data, faces_of(context, config, pictures, place_of_cache, ranks))
    cache.fill(pictures, captions, config.data.flip, Caching(context), ranks, variants)
    adapter = adapter or inject(family, parts, info, config, placement, pictures, fresh, Caching(context))
    trained, held = split(pictures, config.objective.validation_share, config.objective.seed)
    batches = make_batches(trained, cache, config, variation, not adapter.trains_text, ranks, variants)
    objective = objective_of(parts, config).to(placement.device)
    if fresh and config.network.start_from:
        start_from(adapter, Path(info.project) / Path(config.network.start_from).expanduser())
    if fresh and config.network.init == "eva":
        eva.look(adapter, family, parts, objective, batches, placement, Caching(context))
    ranks.take_up(adapter)
    optimizer = make_optimizer(adapter, config)
    published = Published(adapter, optimizer, config.objective.ema_decay)
    if snapshot is not None:
        restore(published, placement.accelerator.scaler, snapshot)
        ranks.check_equal(published.everything())

    def metadata(at_step: int) -> dict[str, str]:
        epoch = -(-at_step * config.optimizer.accumulation // batches.per_epoch)
        return lora_metadata(family, parts, info, config, pictures, at_step, epoch, started_at)

    return Training(
        context=context,
        info=info,
        config=config,
        family=family,
        parts=parts,
        adapter=adapter,
        optimizer=optimizer,
        published=published,
        objective=objective,
        batches=batches,
        held=held,
        ranks=ranks,
        preview=Preview(family, parts, adapter, cache, placement, config.samples.weights),
        checkpoints=checkpoints,
        placement=placement,
        prompts=prompts,
        metadata=metadata,
        fingerprints=prints,
        step=snapshot.step if snapshot else 0,
        saved_step=snapshot.step if snapshot else -1,
        lr_scale=float(snapshot.facts.get("lr_scale", 1.0)) if snapshot else 1.0,
    )


def _told_base(context: Any, info: RunInfo, config: RunConfig, placement: Placement) -> tuple[Family, Parts]:
    context.journal.write("progress", what="loading base", done=0, total=1)
    loaded = load_base(info, config, placement)
    context.journal.write("progress", what="loading base", done=1, total=1)
    return loaded


def _prompts(info: RunInfo, config: RunConfig, snapshot: Snapshot | None) -> list[str]:
    """Of the samples: those a checkpoint was made with, as they may have been edited during the run."""
    prompts = [with_trigger(p, info.trigger, config.samples.weights) for p in config.samples.prompts]
    return prompts if snapshot is None else list(snapshot.facts.get("prompts", prompts))


def make_batches(
    pictures: list[Picture], cache: Cache, config: RunConfig, variation: Variation, encode: bool,
    ranks: Ranks, variants: Variants,
) -> Batches:  # fmt: skip
    """The stream of batches of a run; see `Batches` for the parts."""
    family, seed = cache.family, config.objective.seed
    parts, flow = cache.parts, None
    timesteps = int(parts.scheduler.get("num_train_timesteps", 1000))
    if parts.prediction == "flow":
        flow = FlowTimesteps.of(config.objective, parts.scheduler, parts.patch)
    return Batches(
        pictures, cache, seed=seed, batch_size=config.data.batch_size,
        accumulation=config.optimizer.accumulation, repeats=config.data.repeats, flip=config.data.flip,
        caption_dropout=config.data.caption_dropout, timesteps=timesteps, device=cache.device,
        size_condition=family.size_condition, encode=encode, variation=variation,
        draws=Draws.from_config(config.objective, timesteps), ranks=ranks, variants=variants, flow=flow,
        empty=family.empty,
    )  # fmt: skip


def faces_of(
    context: Any, config: RunConfig, pictures: Sequence[Picture], cache: Path, ranks: Ranks
) -> dict[FaceKey, Box]:
    """The faces of the pictures, where crops go by them; says how many have none."""
    if config.data.crop != "face":
        return {}
    found = faces.find(pictures, cache, Caching(context), ranks)
    without = len({face_key(p) for p in pictures if not p.placed} - found.keys())
    if without:
        context.journal.write(
            "warning", code="no-face", message=f"{without} pictures have no face that was found; they are"
            " cropped in the middle.", advice="Crop them by hand with C in Dataset, if that matters.",
        )  # fmt: skip
    return found


def captions_ahead(
    config: RunConfig, pictures: Sequence[Picture], prompts: Sequence[str], variation: Variation,
    empty: str = "",
) -> list[Spoken]:  # fmt: skip
    """What can be encoded before the first step: nothing while text encoders or tokens are trained."""
    if config.network.trains_text:
        return []
    spoken = [config.samples.negative or empty, *prompts] if config.samples.every > 0 else []
    drawn = [read(prompt) if config.samples.weights else prompt for prompt in spoken]
    # Captions that vary are made anew at each step.
    return drawn if variation.varies else [empty, *(c for p in pictures for c in p.captions), *drawn]


def make_optimizer(adapter: Adapter, config: RunConfig) -> torch.optim.Optimizer:
    """The optimizer of the settings; each group remembers its peak, as `lr` itself follows the schedule."""
    optimizer: torch.optim.Optimizer = optimizer_settings(config.optimizer).build(
        adapter.groups(config.optimizer.lr)
    )
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def inject(
    family: Family, parts: Parts, info: RunInfo, config: RunConfig, placement: Placement,
    pictures: Sequence[Picture], fresh: bool = True, progress: Progress | None = None,
) -> Adapter:  # fmt: skip
    """Put what is trained on the device and the network into it.

    Args:
        family, parts, info, config, placement, pictures: of the run.
        fresh: whether the network begins, and does not go on from a checkpoint.
        progress: told how far the base is decomposed, for the initialisations that do that.

    Raises:
        ConfigError: the base has no layer for the network, or no caption has the new tokens' trigger.
    """
    if not config.memory.blocks_to_swap:
        parts.denoiser.to(placement.device)
    adapter = Adapter(family, parts, config.network, config.objective.seed, info.trigger, fresh, progress)
    if adapter.tokens is not None:
        adapter.tokens.check_captions([c for p in pictures for c in p.captions])
    if adapter.trains_text:
        for encoder in parts.text_encoders.values():
            encoder.to(placement.device)
    fit(family, parts, config.memory, placement)
    return adapter


def load_base(info: RunInfo, config: RunConfig, placement: Placement) -> tuple[Family, Parts]:
    """Load the run's base in the precision that its settings ask for.

    Raises:
        BaseModelError: it is missing, damaged or of another family.
    """
    base = Path(info.base_path)
    found = detect(base)
    if not found.ok:
        problem = next(p for p in found.problems if p.severity == "error")
        raise BaseModelError(problem.message, problem.advice)
    family = load_family(info.family or found.family)
    dtype = base_dtype(config.memory, found.parameters, placement.device)
    vae = Path(info.project) / Path(config.model.vae).expanduser() if config.model.vae else None
    text = [Path(info.project) / Path(name).expanduser() for name in config.model.text]
    prediction: str = config.objective.prediction
    if prediction == "auto" and found.layout == "original":
        prediction = found.prediction
    parts = family.load(base, dtype, prediction, vae, text)
    parts.guidance = config.objective.guidance
    if config.memory.base_weights != "full":
        keep = config.network.init == "loftq"
        quantise(family.blocks(parts.denoiser), config.memory.base_weights, keep)
    if config.model.adapter:
        put_under(parts, family.name, Path(info.project) / Path(config.model.adapter).expanduser())
    read_captions_by(parts, config, family)
    if config.objective.zero_terminal_snr:
        if parts.prediction == "epsilon":
            raise ConfigError(
                "objective.zero_terminal_snr needs a base of v-prediction, and this one predicts the noise.",
                "Turn it off, or set objective.prediction to v_prediction and train for long.",
            )
        # Samples take it from here, too; `trailing` begins them where all is noise (Lin et al. 2023).
        parts.scheduler |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return family, parts


def read_captions_by(parts: Parts, config: RunConfig, family: Family) -> None:
    """Tell the family which layer and how many tokens count; both are part of what keys the cache.

    Raises:
        ConfigError: the family has no such choice.
    """
    skip, tokens = config.model.clip_skip, int(config.data.max_tokens)
    if skip > 1:
        layers = min(len_layers(encoder) for encoder in parts.text_encoders.values())
        if family.name != "sd15" or skip > layers:
            raise ConfigError(
                f"model.clip_skip = {skip} cannot be: "
                + (f"the text encoder has {layers} layers." if family.name == "sd15" else
                   f"{family.name} has its layer fixed."),
                "Set it to 1.",
            )  # fmt: skip
        parts.extras["clip_skip"] = skip
        parts.text_identity += f"-skip{skip}"
    if tokens > 75:
        parts.extras["windows"] = tokens // 75
        parts.text_identity += f"-{tokens}"


def len_layers(encoder: torch.nn.Module) -> int:
    """Transformer layers of a text encoder."""
    return int(encoder.config.num_hidden_layers)


def objective_of(parts: Parts, config: RunConfig) -> Objective:
    """What a run on a base minimises."""
    if parts.prediction == "flow":
        return FlowObjective.of(config.objective)
    return Objective.from_config(config.objective, noise_schedule(parts), parts.prediction)


def noise_schedule(parts: Parts) -> Tensor:
    """abar_t of the base's own schedule, fp32."""
    table: Tensor = make_scheduler("ddim", parts.scheduler).alphas_cumprod
    return table.to(torch.float32)


class Stopped(Exception):
    """A stop was asked for before the first step; there is nothing to save."""


class Caching:
    """Progress events while the caches fill, at most five a second; a stop is heeded between two entries."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._at = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Report `done` of `total`.

        Raises:
            Stopped: a signal or a request asked for it.
        """
        context, now = self._context, time.monotonic()
        if done in {0, total} or now - self._at >= 0.2:
            self._at = now
            context.journal.write("progress", what=what, done=done, total=total)
        for request in context.controls():
            context.ack(
                request, request.kind == "stop", "" if request.kind == "stop" else "Not training yet."
            )
            if request.kind == "stop":
                raise Stopped
        if context.stop_requested and context.leads:
            raise Stopped
