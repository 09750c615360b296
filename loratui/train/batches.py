"""Which samples make which batch, and every random draw that goes with them: functions of the seed alone.

order = f(seed, epoch); timestep, mirroring, caption dropout and noise = f(seed, step, slot), where a slot
counts the samples of one optimizer step over accumulation and batch. Any step can be asked for at any time,
so a resume has nothing to restore or to skip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from loratui.families.protocol import Condition, Size, stack
from loratui.train.cache import Cache
from loratui.train.samples import Picture
from loratui.train.stateless import generator, seed_of


@dataclass(frozen=True, slots=True)
class Batch:
    """One forward pass. B samples of one bucket.

    Attributes:
        x0_BCHW: latents drawn from the codec's posterior, scaled.
        eps_BCHW: standard normal noise.
        offset_BC: standard normal draws for the noise offset.
        t_B: timesteps.
        condition: encoded captions, stacked.
        pictures: what was drawn, for messages.
        captions: what was encoded, after dropout.
        epoch: from 1.
    """

    x0_BCHW: Tensor
    eps_BCHW: Tensor
    offset_BC: Tensor
    t_B: Tensor
    condition: Condition
    pictures: tuple[Picture, ...]
    captions: tuple[str, ...]
    epoch: int


class Batches:
    """The endless stream of batches of a run, by number."""

    def __init__(
        self, pictures: Sequence[Picture], cache: Cache, *, seed: int, batch_size: int, accumulation: int,
        repeats: int, flip: bool, caption_dropout: float, timesteps: int, device: torch.device,
        size_condition: Callable[[Size, Size, Size], Condition] | None = None, encode: bool = True,
    ) -> None:  # fmt: skip
        """Set up the order.

        Args:
            pictures: the manifest.
            cache: encodes what the batches hold.
            seed: of all draws.
            batch_size: samples of a forward pass; the last batch of a bucket may be smaller.
            accumulation: forward passes of an optimizer step.
            repeats: multiplies each picture's own.
            flip: mirror half of the samples.
            caption_dropout: share of samples with an empty caption.
            timesteps: T; t is uniform in 0 .. T-1.
            device: where batches go.
            size_condition: the family's answer for sizes, see `Family`.
            encode: take encoded captions from the cache; off when the text encoders are trained.
        """
        self.pictures, self.cache, self.seed = list(pictures), cache, seed
        self.batch_size, self.accumulation = batch_size, accumulation
        self.flip, self.caption_dropout, self.timesteps, self.device = (
            flip,
            caption_dropout,
            timesteps,
            device,
        )
        self.size_condition, self.encode = size_condition, encode
        self._buckets: dict[tuple[int, int], list[int]] = {}
        for n, picture in enumerate(self.pictures):
            members = self._buckets.setdefault(picture.bucket.size, [])
            members.extend([n] * (picture.repeats * repeats))
        self.per_epoch = sum(-(-len(members) // batch_size) for members in self._buckets.values())
        self._epoch, self._order = -1, [[0]]

    def order(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch (from 0) as indices of pictures: shuffled in buckets, then as batches."""
        if epoch != self._epoch:
            batches = []
            for size in sorted(self._buckets):
                members = self._buckets[size]
                shuffle = torch.randperm(
                    len(members), generator=generator(self.seed, "order", epoch, *size)
                ).tolist()
                for start in range(0, len(members), self.batch_size):
                    batches.append([members[i] for i in shuffle[start : start + self.batch_size]])
            shuffle = torch.randperm(len(batches), generator=generator(self.seed, "batches", epoch)).tolist()
            self._epoch, self._order = epoch, [batches[i] for i in shuffle]
        return self._order

    def at(self, step: int, micro: int) -> Batch:
        """The batch of a forward pass.

        Args:
            step: optimizer step from 0.
            micro: forward pass within the step, from 0.
        """
        epoch, index = divmod(step * self.accumulation + micro, self.per_epoch)
        chosen = [self.pictures[n] for n in self.order(epoch)[index]]
        slots = range(micro * self.batch_size, micro * self.batch_size + len(chosen))
        drawn = [self._draw(picture, step, slot) for picture, slot in zip(chosen, slots, strict=True)]
        x0, eps, offset, t, conditions, captions = zip(*drawn, strict=True)
        return Batch(
            x0_BCHW=torch.stack(x0).to(self.device, non_blocking=True),
            eps_BCHW=torch.stack(eps).to(self.device, non_blocking=True),
            offset_BC=torch.stack(offset).to(self.device, non_blocking=True),
            t_B=torch.tensor(t, device=self.device),
            condition=stack(conditions, self.device),
            pictures=tuple(chosen),
            captions=captions,
            epoch=epoch + 1,
        )

    def dropout_seed(self, step: int, micro: int) -> int:
        """Seed of the masks of a forward pass, for dropout layers that know only the global generators."""
        return seed_of(self.seed, "dropout", step, micro)

    def _draw(
        self, picture: Picture, step: int, slot: int
    ) -> tuple[Tensor, Tensor, Tensor, int, Condition, str]:
        # All draws in a fixed order, used or not: turning one option on must not change the others' noise.
        random = generator(self.seed, "draw", step, slot)
        t = int(torch.randint(self.timesteps, (), generator=random))
        flip, drop = torch.rand(2, generator=random).tolist()
        mirrored = self.flip and flip < 0.5
        mean, std = self.cache.latents(picture, mirrored)
        x0 = mean + std * torch.randn(mean.shape, generator=random)
        eps = torch.randn(mean.shape, generator=random)
        offset = torch.randn(mean.shape[0], generator=random)
        caption = "" if drop < self.caption_dropout else picture.caption
        encoded = self.cache.condition(caption) if self.encode else {}
        return x0, eps, offset, t, encoded | self._sizes(picture, mirrored), caption

    def _sizes(self, picture: Picture, mirrored: bool) -> Condition:
        if self.size_condition is None:
            return {}
        bucket = picture.bucket
        left = bucket.scaled[0] - bucket.crop[2] if mirrored else bucket.crop[0]
        return self.size_condition(picture.size, (left, bucket.crop[1]), bucket.size)
