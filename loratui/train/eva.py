"""EVA: A begins as the main directions of what its layer sees (Paischer et al. 2024, arXiv:2410.07170).

Some of the first batches go through the base, without gradients, and an incremental PCA of each linear
layer's input is kept, peft's own. A takes its r first components, B is zero, so nothing is changed yet. Every
layer keeps the rank of the settings (peft's rho = 1). Convolutions keep the default, as in peft, and so do
layers that see fewer rows in a batch than they have ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft.utils.incremental_pca import IncrementalPCA
from torch import Tensor, nn

from loratui.families.protocol import Family, Parts
from loratui.train.adapter import Adapter
from loratui.train.batches import Batch, Batches
from loratui.train.device import Placement
from loratui.train.networks.protocol import NAME
from loratui.train.objective import Objective

PASSES = 16
"""Batches that are looked at, at most."""
ALIKE = 0.99
"""Cosine between a component before and after a batch from which on it has settled; peft's tau."""


class _Inputs:
    """Components of the layers' inputs; layers that are given one tensor one after the other share them."""

    def __init__(self) -> None:
        self.of: dict[int, IncrementalPCA] = {}
        self._last: tuple[Tensor, int, IncrementalPCA] | None = None
        self.settled = True

    def see(self, layer: Any, x: Tensor) -> None:
        """Take a batch of a layer's inputs, (..., in)."""
        rank = layer.lora_A[NAME].weight.shape[0]
        if self._last is not None and self._last[0] is x and self._last[1] == rank:
            self.of[id(layer)] = self._last[2]
            return
        rows = x.detach().float().flatten(0, -2)
        if len(rows) < rank or rank > rows.shape[1]:
            return
        usual = IncrementalPCA(n_components=rank, lowrank=True, lowrank_seed=42, lowrank_q=None)
        pca = self.of.setdefault(id(layer), usual)
        before = getattr(pca, "components_", None)
        pca.partial_fit(rows)
        self._last = (x, rank, pca)
        if before is None:
            self.settled = False
        elif self.settled:
            alike = nn.functional.cosine_similarity(before, pca.components_).abs()
            self.settled = bool(alike.min() >= ALIKE)


def look(
    adapter: Adapter, family: Family, parts: Parts, objective: Objective, batches: Batches,
    placement: Placement, progress: Callable[[str, int, int], None],
) -> int:  # fmt: skip
    """Give A its start from the batches that the run begins with.

    Args:
        adapter: fresh; A of linear layers is replaced.
        family, parts, objective, batches, placement: of the run, ready to be trained.
        progress: told how many batches were seen.

    Returns:
        How many layers have got theirs.
    """
    inputs = _Inputs()
    layers = {id(s.layer): s.layer for s in adapter.slots if isinstance(s.layer.get_base_layer(), nn.Linear)}
    hooks = [
        layer.register_forward_pre_hook(lambda module, given: inputs.see(module, given[0]))
        for layer in layers.values()
    ]
    adapter.train(False)
    try:
        with torch.no_grad():
            for done in range(PASSES):
                progress("looking at the layers' inputs", done, PASSES)
                batch = batches.at(*divmod(done, batches.accumulation))
                inputs.settled = True
                if batch.share:
                    _forward(adapter, family, parts, objective, batch, placement)
                if done and inputs.settled:
                    break
        progress("looking at the layers' inputs", PASSES, PASSES)
    finally:
        for hook in hooks:
            hook.remove()
        adapter.train(True)
    for key, pca in inputs.of.items():
        down = layers[key].lora_A[NAME].weight
        down.data = pca.components_.detach().float().to(down.device).contiguous().clone()
    return len(inputs.of)


def _forward(
    adapter: Adapter, family: Family, parts: Parts, objective: Objective, batch: Batch, placement: Placement
) -> None:
    eps_BCHW = objective.noise(batch.eps_BCHW, batch.offset_BC)
    noisy_BCHW = objective.diffuse(batch.x0_BCHW, eps_BCHW, batch.t_B)
    with placement.autocast():
        condition = batch.condition
        if adapter.trains_text:
            condition = condition | family.encode_batch(parts, [adapter.spell(c) for c in batch.captions])
        family.predict(parts, noisy_BCHW, batch.t_B, condition)
