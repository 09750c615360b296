"""Which samples make which batch, and every random draw that goes with them: functions of the seed alone.

order = f(seed, epoch); timestep, mirroring, version, caption dropout and noise = f(seed, step, slot), where a
slot counts the samples of one optimizer step over accumulation and batch. Any step can be asked for at any
time, so a resume has nothing to restore or to skip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from loratui.config.schema import ObjectiveConfig
from loratui.families.protocol import Condition, Size, stack
from loratui.train.cache import Cache
from loratui.train.captions import Variation
from loratui.train.flow import FlowTimesteps
from loratui.train.ranks import Ranks
from loratui.train.samples import Picture
from loratui.train.stateless import generator, seed_of
from loratui.train.variants import Variants


@dataclass(frozen=True, slots=True)
class Batch:
    """One forward pass. B samples of one bucket.

    Attributes:
        x0_BCHW: latents drawn from the codec's posterior, scaled.
        eps_BCHW: noise: standard normal, or of several resolutions.
        seen_BCHW: the noise that makes x_t, where it is not the target's (input perturbation); else None.
        offset_BC: standard normal draws for the noise offset.
        t_B: timesteps: whole numbers, of flow models floats.
        condition: encoded captions, stacked.
        pictures: what was drawn, by all processes together.
        captions: what was encoded, after dropout.
        share: samples of this process; 0 when there are more processes than samples.
        epoch: from 1.
        mask_BHW: weights of the loss over the picture, None without masks.
        weight_B: weight of each picture, None when all are 1.
    """

    x0_BCHW: Tensor
    eps_BCHW: Tensor
    offset_BC: Tensor
    t_B: Tensor
    condition: Condition
    pictures: tuple[Picture, ...]
    captions: tuple[str, ...]
    epoch: int
    share: int
    seen_BCHW: Tensor | None = None
    mask_BHW: Tensor | None = None
    weight_B: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Draws:
    """What of a sample is drawn otherwise than plainly; see the fields of `ObjectiveConfig`.

    Attributes:
        low, high: timesteps are in low .. high-1.
    """

    low: int = 0
    high: int = 1000
    bias: str = "none"
    multires_iterations: int = 0
    multires_discount: float = 0.3
    perturbation: float = 0.0
    masked: bool = False

    @classmethod
    def from_config(cls, config: ObjectiveConfig, timesteps: int) -> Draws:
        """Those of a run, on a base of that many timesteps."""
        low, high = min(config.timestep_min, timesteps - 1), min(config.timestep_max, timesteps)
        return cls(
            low, high, config.timestep_bias, config.multires_iterations, config.multires_discount,
            config.input_perturbation, config.masked,
        )  # fmt: skip

    def timestep(self, plain: int, timesteps: int, random: torch.Generator) -> int:
        """`plain` (uniform in 0 .. timesteps-1) where nothing else is asked for."""
        if self.bias == "none" and (self.low, self.high) == (0, timesteps):
            return plain
        u = float(torch.rand((), generator=random, dtype=torch.float64))
        share = {"none": u, "content": 1.0 - u**3, "style": u**3}[self.bias]
        return min(self.high - 1, self.low + int(share * (self.high - self.low)))

    def noise(self, eps_CHW: Tensor, random: torch.Generator) -> Tensor:
        """eps, with coarser noise added to it where that is asked for; its deviation stays 1."""
        if not self.multires_iterations:
            return eps_CHW
        channels, height, width = eps_CHW.shape
        total, h, w = eps_CHW.clone(), height, width
        for n in range(1, self.multires_iterations + 1):
            r = float(torch.rand((), generator=random)) * 2 + 2
            h, w = max(1, int(height / r**n)), max(1, int(width / r**n))
            coarse = torch.randn((1, channels, h, w), generator=random)
            up = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
            total += self.multires_discount**n * up
            if h == 1 or w == 1:
                break
        return total / total.std()


class Batches:
    """The endless stream of batches of a run, by number."""

    def __init__(
        self, pictures: Sequence[Picture], cache: Cache, *, seed: int, batch_size: int, accumulation: int,
        repeats: int, flip: bool, caption_dropout: float, timesteps: int, device: torch.device,
        size_condition: Callable[[Size, Size, Size], Condition] | None = None, encode: bool = True,
        draws: Draws | None = None, variation: Variation | None = None, ranks: Ranks | None = None,
        variants: Variants | None = None, flow: FlowTimesteps | None = None, empty: str = "",
    ) -> None:  # fmt: skip
        """Set up the order.

        Args:
            pictures: the manifest.
            cache: encodes what the batches hold.
            seed: of all draws.
            batch_size: samples of a forward pass of all processes; the last batch of a bucket may be smaller.
            accumulation: forward passes of an optimizer step.
            repeats: multiplies each picture's own.
            flip: mirror half of the samples.
            caption_dropout: share of samples without a caption.
            timesteps: T; t is uniform in 0 .. T-1.
            device: where batches go.
            size_condition: the family's answer for sizes, see `Family`.
            variation: of captions, None for none.
            draws: other timesteps, noise and masks; None for plain ones.
            ranks: the processes that batches are dealt to; None for this one alone.
            variants: versions of each picture, None for the pictures alone.
            encode: take encoded captions from the cache; off when the text encoders are trained.
            flow: draws the timesteps of flow models; None for whole ones.
            empty: the caption of those that are dropped.
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
        self.variation, self.ranks = variation or Variation(seed), ranks or Ranks()
        self.variants = variants or Variants()
        self.flow, self.empty = flow, empty
        self._plain = Draws(high=timesteps)
        self.draws = draws or self._plain
        self._weighted = any(p.weight != 1.0 for p in self.pictures)
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
        """This process's share of the batch of a forward pass.

        Args:
            step: optimizer step from 0.
            micro: forward pass within the step, from 0.
        """
        epoch, index = divmod(step * self.accumulation + micro, self.per_epoch)
        whole = [self.pictures[n] for n in self.order(epoch)[index]]
        slots = self.ranks.mine(range(micro * self.batch_size, micro * self.batch_size + len(whole)))
        chosen = self.ranks.mine(whole)
        if not chosen:
            nothing = torch.empty(0)
            return Batch(nothing, nothing, nothing, nothing, {}, tuple(whole), (), epoch + 1, 0)
        drawn = [self._draw(picture, step, slot) for picture, slot in zip(chosen, slots, strict=True)]
        x0, eps, seen, offset, t, conditions, captions, masks = zip(*drawn, strict=True)

        def moved(tensors: tuple[Tensor | None, ...]) -> Tensor | None:
            found = [one for one in tensors if one is not None]
            return torch.stack(found).to(self.device, non_blocking=True) if found else None

        return Batch(
            x0_BCHW=torch.stack(x0).to(self.device, non_blocking=True),
            eps_BCHW=torch.stack(eps).to(self.device, non_blocking=True),
            offset_BC=torch.stack(offset).to(self.device, non_blocking=True),
            t_B=torch.tensor(t, device=self.device),
            condition=stack(conditions, self.device),
            pictures=tuple(whole),
            captions=captions,
            epoch=epoch + 1,
            share=len(chosen),
            seen_BCHW=moved(seen),
            mask_BHW=moved(masks),
            weight_B=torch.tensor([p.weight for p in chosen], device=self.device) if self._weighted else None,
        )

    def dropout_seed(self, step: int, micro: int) -> int:
        """Seed of the masks of a forward pass, for dropout layers that know only the global generators."""
        return seed_of(self.seed, "dropout", step, micro)

    def _draw(
        self, picture: Picture, step: int, slot: int
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor, float, Condition, str, Tensor | None]:
        # All draws in a fixed order, used or not: turning one option on must not change the others' noise.
        # Options that came later draw from generators of their own.
        random = generator(self.seed, "draw", step, slot)
        t: float = int(torch.randint(self.timesteps, (), generator=random))
        flip, drop = torch.rand(2, generator=random).tolist()
        mirrored = self.flip and flip < 0.5
        picture = self.variants.at(picture, self.seed, step, slot)
        mean, std = self.cache.latents(picture, mirrored)
        x0 = mean + std * torch.randn(mean.shape, generator=random)
        eps = torch.randn(mean.shape, generator=random)
        offset = torch.randn(mean.shape[0], generator=random)
        seen, draws = None, self.draws
        if draws != self._plain:
            more = generator(self.seed, "timestep", step, slot)
            t = draws.timestep(int(t), self.timesteps, more)
            eps = draws.noise(eps, generator(self.seed, "multires", step, slot))
            if draws.perturbation > 0:
                xi = torch.randn(mean.shape, generator=generator(self.seed, "perturb", step, slot))
                seen = eps + draws.perturbation * xi
        if self.flow is not None:
            t = self.flow.draw(generator(self.seed, "sigma", step, slot), *mean.shape[1:])
        mask = self.cache.mask(picture, mirrored, (mean.shape[1], mean.shape[2])) if draws.masked else None
        caption = self.empty if drop < self.caption_dropout else self._caption(picture, step, slot)
        encoded = self.cache.condition(caption, keep=not self.variation.varies) if self.encode else {}
        return x0, eps, seen, offset, t, encoded | self.sizes(picture, mirrored), caption, mask

    def _caption(self, picture: Picture, step: int, slot: int) -> str:
        return self.variation.at(picture.caption_at(self.seed, step, slot), step, slot)

    def sizes(self, picture: Picture, mirrored: bool = False) -> Condition:
        """What the family wants to know of a picture's sizes and crop."""
        if self.size_condition is None:
            return {}
        bucket = picture.bucket
        left = bucket.scaled[0] - bucket.crop[2] if mirrored else bucket.crop[0]
        return self.size_condition(picture.size, (left, bucket.crop[1]), bucket.size)
