"""The training loop, top to bottom."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from loratui.config.load import as_dict
from loratui.errors import SaveError
from loratui.families.protocol import Condition
from loratui.train.adapter import Adapter
from loratui.train.batches import Batch, Batches
from loratui.train.checkpoint import Checkpoints, Snapshot
from loratui.train.device import Placement
from loratui.train.nonfinite import is_finite, overcome
from loratui.train.objective import Objective
from loratui.train.preview import Preview, draw_round, requests_of
from loratui.train.published import Published
from loratui.train.quarters import Quarters
from loratui.train.ranks import Ranks
from loratui.train.requests import Requests
from loratui.train.schedule import lr_factor
from loratui.train.validation import validation_loss


@dataclass(slots=True)
class Training:
    """A run, assembled: what the loop works with.

    Attributes:
        context: journal, control requests and the stop flag of the job.
        info: `[run]` of run.toml.
        config: its settings.
        family, parts, adapter, optimizer, published, objective, batches, preview, checkpoints, placement:
            see there.
        prompts: what samples show; may be changed while the run goes on.
        metadata: metadata of the LoRA files at a step and epoch.
        fingerprints: of settings and data, kept in each checkpoint.
        step: optimizer steps done.
        saved_step: step of the newest checkpoint, -1 when there is none.
        held: pictures that are held back for validation.
        ranks: the processes that train together, mostly this one alone.
        quarters: losses by quarter of the timesteps.
        lr_scale: multiplies the learning rate; halved by each roll-back.
        save_every, sample_every: steps between saves and rounds of samples; the settings', until changed.
        skipped: steps left out in a row because they were no numbers.
        rollbacks: how often this process went back to a checkpoint.
    """

    context: Any
    info: Any
    config: Any
    family: Any
    parts: Any
    adapter: Adapter
    optimizer: torch.optim.Optimizer
    published: Published
    objective: Objective
    batches: Batches
    preview: Preview
    checkpoints: Checkpoints
    placement: Placement
    prompts: list[str]
    metadata: Any
    fingerprints: dict[str, str] = field(default_factory=dict)
    step: int = 0
    saved_step: int = -1
    held: list[Any] = field(default_factory=list)
    ranks: Ranks = field(default_factory=Ranks)
    quarters: Quarters = field(default_factory=Quarters)
    lr_scale: float = 1.0
    save_every: int = 0
    sample_every: int = 0
    skipped: int = 0
    rollbacks: int = 0

    def __post_init__(self) -> None:
        self.save_every, self.sample_every = self.config.saving.every, self.config.samples.every

    @property
    def journal(self) -> Any:
        """Where events go."""
        return self.context.journal

    def save(self) -> None:
        """Write a checkpoint of this moment, unless it is written already, then prune.

        Raises:
            SaveError: it could not be written.
        """
        if self.saved_step == self.step:
            return
        self.ranks.check_equal(self.published.everything())
        self.ranks.once(self._write)
        self.saved_step = self.step

    def _write(self) -> None:
        scaler = self.placement.accelerator.scaler
        lora, trained = self.published.state()
        saved = self.checkpoints.save(
            Snapshot(
                step=self.step,
                lora=lora,
                trained=trained,
                optimizer=self.optimizer.state_dict(),
                scaler=scaler.state_dict() if scaler is not None else {},
                facts={
                    "prompts": self.prompts,
                    "fingerprints": self.fingerprints,
                    "settings": as_dict(self.config),
                    "lr_scale": self.lr_scale,
                },
                metadata=self.metadata(self.step),
            )
        )
        root = self.context.run.path
        self.journal.write(
            "checkpoint", step=self.step, path=saved.path.relative_to(root).as_posix(),
            seconds=round(saved.seconds, 4), bytes=saved.bytes,
        )  # fmt: skip
        for gone in self.checkpoints.prune():
            self.journal.write("pruned", step=gone.step, path=gone.path.relative_to(root).as_posix())

    def epochs_begun(self, step: int | None = None) -> int:
        """The epoch, from 1, that the optimizer step after `step` (the newest when None) begins in."""
        done = self.step if step is None else step
        return int(done * self.config.optimizer.accumulation) // self.batches.per_epoch + 1

    def sample(self, extra: list[str] | None = None) -> None:
        """Draw one round of samples with the network as it is, rank 0 alone.

        Args:
            extra: prompts to draw once, beside the run's own.
        """
        if not self.ranks.first:
            return
        requests = requests_of(
            self.config.samples,
            self.prompts if extra is None else extra,
            self.config.data.resolution,
            self.parts.side_px,
        )
        folder = self.context.run.samples_dir / f"step-{self.step:06d}"
        with self.published.weights():
            first = 0 if extra is None else max(len(self.prompts), _pictures(folder))
            draw_round(self.preview, requests, folder, self.step, self.context, first)

    def validate(self) -> None:
        """Measure the loss on the held pictures."""
        if self.held:
            loss = validation_loss(self)
            self.journal.write("validation", step=self.step, loss=loss)

    def condition(self, batch: Batch) -> Condition:
        """What the denoiser is told of a batch; text encoders that are trained encode its captions now."""
        if not self.adapter.trains_text:
            return batch.condition
        stop = self.config.network.text_stop
        with torch.set_grad_enabled(not stop or self.step < stop):
            encoded: Condition = self.family.encode_batch(
                self.parts, [self.adapter.spell(c) for c in batch.captions]
            )
        return batch.condition | encoded

    def sample_due(self) -> bool:
        """Whether this step is one of those that samples are drawn at."""
        every = self.sample_every
        return every > 0 and bool(self.prompts) and self.step % every == 0


def train(t: Training) -> bool:
    """Run optimizer steps until the last one, or until a stop is asked for.

    Returns:
        Whether the last step was reached; both ways the newest state is saved.

    Raises:
        NonFiniteError: the loss or a gradient became NaN or Inf and `optimizer.on_nan` did not help; nothing
            of that step was applied.
        SaveError: a checkpoint could not be written and the user chose to stop.
    """
    config, journal, placement = t.config, t.journal, t.placement
    accelerator, steps = placement.accelerator, t.info.steps
    accumulation, max_norm = config.optimizer.accumulation, config.optimizer.max_grad_norm
    parameters = t.adapter.parameters()
    peak_lrs = [group["initial_lr"] for group in t.optimizer.param_groups]
    requests = Requests(t)
    journal.write("state", state="running")
    if t.sample_due() and not (t.context.run.samples_dir / f"step-{t.step:06d}").exists():
        t.sample()
    if t.step == 0:
        t.validate()
    memory_at = 0.0

    while t.step < steps:
        if requests.stop_wanted():
            journal.write("state", state="stopping")
            save_or_pause(t, requests)
            return False

        begun = time.perf_counter()
        data_s = compute_s = 0.0
        factor = lr_factor(config.optimizer, t.step, steps)
        for group, peak in zip(t.optimizer.param_groups, peak_lrs, strict=True):
            group["lr"] = peak * factor * t.lr_scale
        losses: list[torch.Tensor] = []
        pictures: list[Any] = []
        for micro in range(accumulation):
            mark = time.perf_counter()
            batch = t.batches.at(t.step, micro)
            data_s += time.perf_counter() - mark
            pictures += batch.pictures
            if not batch.share:  # fewer samples than processes
                losses.append(torch.zeros((), device=placement.device))
                continue
            mark = time.perf_counter()
            if t.adapter.drops:  # peft draws its masks from the global generators
                torch.manual_seed(t.batches.dropout_seed(t.step, micro))
                t.ranks.samples = len(batch.pictures)
            eps_BCHW = t.objective.noise(batch.eps_BCHW, batch.offset_BC)
            seen_BCHW = eps_BCHW
            if batch.seen_BCHW is not None:
                seen_BCHW = t.objective.noise(batch.seen_BCHW, batch.offset_BC)
            noisy_BCHW = t.objective.diffuse(batch.x0_BCHW, seen_BCHW, batch.t_B)
            with placement.autocast():
                condition = t.condition(batch)
                answer_BCHW = t.family.predict(t.parts, noisy_BCHW, batch.t_B, condition)
            target_BCHW = t.objective.target(batch.x0_BCHW, eps_BCHW, batch.t_B)
            losses_B = t.objective.losses(answer_BCHW, target_BCHW, batch.t_B, batch.mask_BHW, batch.weight_B)
            loss = t.ranks.loss(losses_B, len(batch.pictures))
            accelerator.backward(loss / accumulation)
            losses.append(loss.detach())
            t.quarters.add(batch.t_B, losses_B.detach())
            compute_s += time.perf_counter() - mark

        mark = time.perf_counter()
        loss_mean = t.ranks.combine(parameters, torch.stack(losses).mean())
        norm = clip(t, parameters, max_norm)
        loss_value, norm_value = torch.stack(
            [loss_mean, norm.to(loss_mean)]
        ).tolist()  # the one wait for the device
        compute_s += time.perf_counter() - mark
        if not is_finite(t, loss_value, norm_value):
            if overcome(t, loss_value, norm_value, pictures) and t.step == steps:
                save_or_pause(t, requests)
            continue
        t.skipped = 0

        mark = time.perf_counter()
        optimizer_step(t)
        norms = t.adapter.limit_norms()
        t.optimizer.zero_grad(set_to_none=True)
        t.step += 1
        t.published.update(t.step)
        done = time.perf_counter()
        optimizer_s, step_s = done - mark, done - begun
        journal.write(
            "step", step=t.step, epoch=batch.epoch, loss=loss_value,
            lr={group.get("name", "unet"): group["lr"] for group in t.optimizer.param_groups},
            grad_norm=norm_value, step_s=round(step_s, 6), images=len(pictures),
            times={
                "data": round(data_s, 6), "compute": round(compute_s, 6), "optimizer": round(optimizer_s, 6),
                "io": round(requests.io_s, 6),
            },
            **norms,
        )  # fmt: skip
        t.quarters.tell(journal, t.step, last=t.step == steps, ranks=t.ranks)
        if done - memory_at >= 2.0:
            memory_at = done
            journal.write("memory", **placement.memory())
        # What is written between steps counts to the next one's `io`.
        requests.io_s = time.perf_counter() - done

        if t.step % config.objective.validation_every == 0 or t.step == steps:
            t.validate()
        if t.step % t.save_every == 0 or t.step == steps:
            save_or_pause(t, requests)
        if t.sample_due() or (t.step == steps and t.sample_every > 0 and t.prompts):
            t.sample()
    return True


def _pictures(folder: Path) -> int:
    """How many samples lie there: further ones are numbered from that on."""
    return sum(1 for _ in folder.glob("*.png"))


def clip(t: Training, parameters: list[torch.nn.Parameter], max_norm: float) -> torch.Tensor:
    """Unscale and clip the gradients; returns their norm before clipping (max_norm 0: only measured)."""
    if t.placement.accelerator.scaler is not None:
        t.placement.accelerator.scaler.unscale_(t.optimizer)
    if max_norm > 0:
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm, foreach=True)
    grads = [p.grad for p in parameters if p.grad is not None]
    return torch.nn.utils.get_total_norm(grads, foreach=True)


def optimizer_step(t: Training) -> None:
    """Apply the gradients, through the scaler where there is one."""
    scaler = t.placement.accelerator.scaler
    if scaler is None:
        t.optimizer.step()
    else:
        scaler.step(t.optimizer)
        scaler.update()


def save_or_pause(t: Training, requests: Requests) -> None:
    """Save; when the disk will not take it, hold the run in memory until the user resumes or stops it.

    Raises:
        SaveError: the user chose to stop.
    """
    while True:
        try:
            t.save()
            return
        except SaveError as error:
            t.journal.write("warning", code="save-failed", message=error.message, advice=error.advice)
            if not requests.wait_paused(reason=error.message, advice=error.advice):
                raise
