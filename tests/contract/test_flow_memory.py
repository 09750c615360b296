"""What spares memory, on every flow family: swapped blocks keep every bit, stored weights are near."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import train_kit as kit
from torch import Tensor

from loratui.families.protocol import load_family, stack
from loratui.families.spec import FAMILIES
from loratui.train.adapter import Adapter
from loratui.train.device import place
from loratui.train.fit import fit
from loratui.train.quantised import QuantisedLinear, quantise

FLOW = [spec.name for spec in FAMILIES if spec.flow]
FORMS = {"fp8": 0.15, "int8": 0.05, "nf4": 0.4}
"""Form -> relative error (Frobenius) that the gradients may have."""


@pytest.fixture(scope="module", params=FLOW)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def base(name: str, request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(f"tiny_{name}")
    return found


def gradients(name: str, base: Path, plain: bool = False, **memory: Any) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of a LoRA on every layer after two steps.

    Args:
        name: the family.
        base: its folder.
        plain: put what is stored back as plain layers of the same weights.
        memory: settings of that section.
    """
    config = kit.tiny_config(network__target="full", **{f"memory__{k}": v for k, v in memory.items()})
    family, placement = load_family(name), place(config.memory)
    parts = family.load(base, torch.float32)
    for parameter in parts.denoiser.parameters():  # a mapped file is not aligned as copies are
        parameter.data = parameter.data.clone()
    if config.memory.base_weights != "full":
        quantise(family.blocks(parts.denoiser), config.memory.base_weights)
    with torch.no_grad():
        conditions = family.encode_captions(parts, ["a red fox", "in the long grass"])
    adapter = Adapter(family, parts, config.network, 1)
    for n, parameter in enumerate(adapter.parameters()):  # B is zero at first, and A would learn nothing
        torch.manual_seed(n)
        parameter.data = torch.randn_like(parameter) * 0.1
    fit(family, parts, config.memory, placement)
    stored = [m for m in parts.denoiser.modules() if isinstance(m, QuantisedLinear)]
    assert bool(stored) == (memory.get("base_weights", "full") != "full")
    if plain:
        _as_plain(parts.denoiser)
    condition = stack(conditions, placement.device)
    side = 4 * parts.patch
    for step in range(2):
        torch.manual_seed(step)
        noisy = torch.randn(2, parts.latent_channels, side, side)
        answer = family.predict(parts, noisy, torch.tensor([10.0, 900.0]), condition)
        loss = answer.square().mean()
        loss.backward()
    return loss.detach(), [p.grad.clone() for p in adapter.parameters()]


def _as_plain(module: torch.nn.Module) -> None:
    for key, child in module.named_children():
        if isinstance(child, QuantisedLinear):
            made = torch.nn.Linear(child.in_features, child.out_features, child.bias is not None)
            made.weight.data = child.weight.detach().clone()
            if child.bias is not None:
                made.bias.data = child.bias.detach().clone()
            setattr(module, key, made.requires_grad_(False))
        else:
            _as_plain(child)


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    whole = sum(float((x - y).square().sum()) for x, y in zip(a, b, strict=True))
    return (whole / sum(float(y.square().sum()) for y in b)) ** 0.5


@pytest.mark.parametrize("checkpointing", [False, True])
def test_swapped_blocks_keep_every_bit(name: str, base: Path, checkpointing: bool) -> None:
    loss, plain = gradients(name, base, gradient_checkpointing=checkpointing)
    assert sum(bool(g.any()) for g in plain) > 0.9 * len(plain), "but where a last block's text ends"
    for count in (1, 2):
        other, swapped = gradients(name, base, gradient_checkpointing=checkpointing, blocks_to_swap=count)
        assert torch.equal(loss, other) and all(map(torch.equal, plain, swapped))


@pytest.mark.parametrize(
    "form", [f if f == "int8" else pytest.param(f, marks=pytest.mark.long) for f in FORMS]
)
def test_stored_weights_have_their_own_gradients(name: str, base: Path, form: str) -> None:
    """Those of plain layers of the stored weights, near the full base's, the same when swapped."""
    loss, stored = gradients(name, base, base_weights=form)
    exact, expected = gradients(name, base, plain=True, base_weights=form)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5) and distance(stored, expected) < 1e-4
    _, full = gradients(name, base)
    assert 0 < distance(stored, full) < FORMS[form]
    other, swapped = gradients(name, base, base_weights=form, blocks_to_swap=2, gradient_checkpointing=True)
    assert torch.equal(loss, other) and all(map(torch.equal, stored, swapped))
