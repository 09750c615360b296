"""Initialisations that begin elsewhere than at the base: A0 and B0 are not zero, nor is their product.

    PiSSA  A0, B0 = the r largest singular triples of W (Meng et al. 2024, arXiv:2404.02948, eq. 2 and 3)
    OLoRA  B0, A0 = the first r columns and rows of W = QR (Büyükakyüz 2024, arXiv:2406.01775)
    LoftQ  A0, B0 = the r largest singular triples of W - Q, what quantising took (Li et al. 2023,
           arXiv:2310.08659, algorithm 1 with one round, peft's default)

peft takes B0 A0 out of the weight. Here the weight stays as it is and the layer adds s (B A - B0 A0): the
same function with the same gradients, but no rounding of a changed weight, whatever precision it is held in,
and the base is still there. It is computed as s (B (A - A0) + (B - B0) A0), a LoRA of twice the rank, which
is zero to the last bit while nothing is trained, and accurate under autocast, where B A - B0 A0 would cancel.
With LoftQ B0 A0 stands for what the stored weight lacks, so the layer adds s B A, and only files are told of
the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from loratui.train.networks.protocol import NAME, draw_uniform


class _Down:
    """A of a layer that adds the difference to its start: its answers are those of A - A0 and of A0."""

    weight: nn.Parameter
    start: Tensor

    def _doubled(self) -> Tensor:
        return torch.cat((self.weight - self.start, self.start))


class _Up:
    """B of such a layer: it weighs the answers of A - A0 by B, those of A0 by B - B0."""

    weight: nn.Parameter
    start: Tensor

    def _doubled(self) -> Tensor:
        return torch.cat((self.weight, self.weight - self.start), 1)


class DownLinear(_Down, nn.Linear):  # type: ignore[misc]
    """See `_Down`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., 2 rank)."""
        return functional.linear(x, self._doubled())


class UpLinear(_Up, nn.Linear):  # type: ignore[misc]
    """See `_Up`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., 2 rank) -> (..., out)."""
        return functional.linear(x, self._doubled())


class DownConv2d(_Down, nn.Conv2d):  # type: ignore[misc]
    """See `_Down`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, 2 rank, H', W')."""
        return self._conv_forward(x, self._doubled(), None)


class UpConv2d(_Up, nn.Conv2d):  # type: ignore[misc]
    """See `_Up`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2 rank, H', W') -> (B, out, H', W')."""
        return self._conv_forward(x, self._doubled(), None)


def begin(layers: Sequence[Any], init: str, rounds: int, random: torch.Generator, fresh: bool = True) -> None:
    """Give the layers that are one matrix in files their start, and let them add the difference to it.

    Args:
        layers: of peft, over one input and with one A; mostly a single one.
        init: one of `MOVING`.
        rounds: of the fast approximation, 0 for the whole decomposition (PiSSA).
        random: for what is drawn.
        fresh: whether A0 and B0 are to be computed; else they come from a checkpoint and are zeros so far.
    """
    down = layers[0].lora_A[NAME]
    if fresh:
        draw_uniform(down.weight, down.weight[0].numel(), random)  # kept where the weight's own rank is less
        weights = [_lacking(layer) if init == "loftq" else _matrix(layer) for layer in layers]
        scale = layers[0].scaling[NAME]
        # All but OLoRA let the scale count: s B0 A0 is then the best approximation of that rank.
        a, b = _pair(torch.cat(weights), init, rounds, down.weight.shape[0], random)
        a, b = (a, b) if init == "olora" else (a / scale**0.5, b / scale**0.5)
        with torch.no_grad():
            down.weight[: a.shape[0]] = a.reshape(-1, *down.weight.shape[1:]).to(down.weight)
            for layer, rows in zip(layers, b.split([len(w) for w in weights]), strict=True):
                up = layer.lora_B[NAME].weight
                up.zero_()
                up[:, : b.shape[1]] = rows.reshape(len(rows), -1, *up.shape[2:]).to(up)
    for layer in layers:
        layer.get_base_layer().__dict__.pop("original", None)
    for module in (down, *(layer.lora_B[NAME] for layer in layers)):
        start = module.weight.detach().float().clone() if fresh else torch.zeros_like(module.weight).float()
        module.register_buffer("start", start, persistent=False)
        if init != "loftq":
            conv = isinstance(module, nn.Conv2d)
            if module is down:
                module.__class__ = DownConv2d if conv else DownLinear
            else:
                module.__class__ = UpConv2d if conv else UpLinear


def _matrix(layer: Any) -> Tensor:
    """W as (out, in times kernel) in fp32."""
    full: Tensor = layer.get_base_layer().weight.detach().float().flatten(1)
    return full


def _lacking(layer: Any) -> Tensor:
    """W - Q in fp32: zeros where the weight is not quantised."""
    stored = _matrix(layer)
    original = getattr(layer.get_base_layer(), "original", None)
    if original is None:
        return torch.zeros_like(stored)
    return original.to(stored.device).float().flatten(1) - stored


def _pair(
    weight: Tensor, init: str, rounds: int, rank: int, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(A0, B0) before the scale; fewer rows and columns than `rank` where the weight has no more."""
    if not weight.count_nonzero():
        return weight[:0], weight[:, :0]
    if init == "olora":
        q, r = torch.linalg.qr(weight)
        return r[:rank], q[:, :rank]
    if rounds:
        u, s, vt = _approximate(weight, rank, rounds, random)
    else:
        u, s, vt = (part.to(weight) for part in torch.linalg.svd(weight, full_matrices=False))
    root = s[:rank].sqrt()
    return root[:, None] * vt[:rank], u[:, :rank] * root


def _approximate(
    weight: Tensor, rank: int, rounds: int, random: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The largest singular triples by subspace iteration (Halko et al. 2011, arXiv:0909.4061, algorithms 4.4
    and 5.1), as `torch.svd_lowrank` has it, with a start that is drawn on the CPU.
    """
    rank = min(rank, *weight.shape)
    q, _ = torch.linalg.qr(weight @ torch.randn(weight.shape[1], rank, generator=random).to(weight))
    for _ in range(rounds):
        q, _ = torch.linalg.qr(weight.T @ q)
        q, _ = torch.linalg.qr(weight @ q)
    u, s, vt = torch.linalg.svd(q.T @ weight, full_matrices=False)
    return q @ u, s, vt
