"""The loss on pictures that are held back, always with the same noise and timesteps.

The plain loss jumps with the timesteps drawn. Here each held picture is noised at the middle of each quarter
of the timesteps with noise of its own, so two points of the curve differ by the weights alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from loratui.families.protocol import stack
from loratui.train.samples import Picture
from loratui.train.stateless import generator, seed_of

if TYPE_CHECKING:
    from loratui.train.loop import Training


def split(pictures: Sequence[Picture], share: float, seed: int) -> tuple[list[Picture], list[Picture]]:
    """(trained on, held back): a share of the pictures, the same at each resume; each side keeps one.

    The manifest says which; where none is marked in it, the hashes decide. A picture is on one side with all
    its resolutions.

    Args:
        pictures: the manifest.
        share: 0 holds nothing back.
        seed: of the choice.
    """
    hashes = {p.hash for p in pictures}
    if share <= 0 or len(hashes) < 2:
        return list(pictures), []
    if any(p.held for p in pictures):
        return [p for p in pictures if not p.held], [p for p in pictures if p.held]
    count = min(len(hashes) - 1, max(1, round(share * len(hashes))))
    held = set(sorted(hashes, key=lambda one: seed_of(seed, "held", one))[:count])
    return [p for p in pictures if p.hash not in held], [p for p in pictures if p.hash in held]


def validation_loss(t: Training) -> float:
    """Mean loss over the held pictures and four timesteps each, of the published weights without dropout."""
    cache, seed, total = t.batches.cache, t.config.objective.seed, len(t.objective.alphas_cumprod_T)
    t_B = torch.tensor([total * (2 * k + 1) // 8 for k in range(4)], device=t.placement.device)
    if t.batches.flow is not None:
        t_B = t_B.float()
    found: list[torch.Tensor] = []
    t.adapter.train(False)
    try:
        with torch.no_grad(), t.published.weights():
            for picture in (t.batches.variants.of(p, 0) for p in t.ranks.mine(t.held)):
                mean, std = cache.latents(picture)
                random = generator(seed, "validation", picture.hash)
                x0 = mean + std * torch.randn(mean.shape, generator=random)
                eps = torch.randn((4, *mean.shape), generator=random).to(t.placement.device)
                x0_BCHW = x0[None].expand(4, -1, -1, -1).to(t.placement.device)
                one = t.batches.sizes(picture)
                if t.adapter.trains_text:
                    one = one | t.family.encode_captions(t.parts, [t.adapter.spell(picture.caption)])[0]
                else:
                    one = one | cache.condition(picture.caption)
                condition = stack([one] * 4, t.placement.device)
                with t.placement.autocast():
                    answer = t.family.predict(t.parts, t.objective.diffuse(x0_BCHW, eps, t_B), t_B, condition)
                found.append(t.objective.losses(answer, t.objective.target(x0_BCHW, eps, t_B), t_B))
    finally:
        t.adapter.train(True)
    if t.ranks.count == 1:
        return float(torch.cat(found).mean())
    losses_N = torch.cat([*found, torch.zeros(0, device=t.placement.device)]).double()
    total = t.ranks.sum(torch.stack([losses_N.sum(), losses_N.new_tensor(len(losses_N))]))
    return float(total[0] / total[1])
