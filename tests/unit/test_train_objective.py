"""The objective against an independent implementation written from the papers' equations, in float64."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import train_kit as kit
from torch import Tensor

from loratui.families.sd15 import FAMILY
from loratui.train.adapter import NAME, Adapter
from loratui.train.objective import Objective
from loratui.train.schedule import lr_factor


def alphas() -> Tensor:
    """abar_t of SD: sqrt(beta) linear from sqrt(0.00085) to sqrt(0.012) over 1000 steps."""
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - beta, 0)


def _betas() -> list[float]:
    low, high = math.sqrt(0.00085), math.sqrt(0.012)
    return [(low + (high - low) * k / 999) ** 2 for k in range(1000)]


@pytest.fixture(scope="module")
def network():
    """A tiny U-Net in float64 with a LoRA whose B is not zero, so that every gradient is alive."""
    unet, _, _ = kit.tiny_parts(seed=5)
    unet.requires_grad_(False)
    parts = SimpleNamespace(denoiser=unet, text_encoders={})
    adapter = Adapter(FAMILY, parts, kit.tiny_config(network__target="full").network, seed=3)
    unet.double()
    torch.manual_seed(0)
    for layer in adapter.layers.values():
        weight = layer.lora_B[NAME].weight
        weight.data = torch.randn_like(weight) * 0.1
    return unet, adapter


def test_the_schedule_of_the_base_is_the_papers() -> None:
    from loratui.families.sampling import make_scheduler

    table = make_scheduler("ddim", kit.SCHEDULER).alphas_cumprod.double()
    assert torch.allclose(table, alphas(), rtol=2e-5)


def test_fp32_loss_is_the_float64_one() -> None:
    torch.manual_seed(2)
    x0, eps, out = (torch.randn(2, 4, 8, 8, dtype=torch.float64) for _ in range(3))
    t_B = torch.tensor([10, 700])

    def loss(dtype: torch.dtype) -> float:
        objective = Objective(alphas().to(dtype), "v_prediction", 5.0)
        return objective.loss(out.to(dtype), objective.target(x0.to(dtype), eps.to(dtype), t_B), t_B).item()

    assert loss(torch.float32) == pytest.approx(loss(torch.float64), rel=1e-6)


def test_zero_terminal_snr_has_finite_weights() -> None:
    table = torch.cat([alphas()[:999], torch.zeros(1, dtype=torch.float64)])
    for prediction in ("epsilon", "v_prediction"):
        weights = Objective(table, prediction, 5.0).weights(torch.tensor([0, 999]))
        assert torch.isfinite(weights).all()


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_learning_rate(schedule: str) -> None:
    config = kit.tiny_config(optimizer__schedule=schedule, optimizer__warmup_steps=10).optimizer
    factors = [lr_factor(config, step, 100) for step in range(100)]
    assert 0 < factors[0] < 0.2
    assert factors[:10] == sorted(factors[:10])
    assert factors[10] == 1.0
    assert all(0 < f <= 1 for f in factors)
    assert factors[-1] == (1.0 if schedule == "constant" else pytest.approx(factors[-1]))
    if schedule != "constant":
        assert factors[10:] == sorted(factors[10:], reverse=True)
        assert factors[-1] < 0.05


def scalar_loss(out, x0, eps, t, prediction, rules, abar_of) -> Tensor:
    """Sample by sample, as the papers write it; `rules` holds what differs from the plain loss."""
    total: Tensor | float = 0.0
    for b in range(len(t)):
        abar = abar_of[t[b]]
        snr = abar / (1 - abar)
        wanted = eps[b] if prediction == "epsilon" else math.sqrt(abar) * eps[b] - math.sqrt(1 - abar) * x0[b]
        weight = 1.0
        if rules.get("min_snr_gamma"):
            gamma = rules["min_snr_gamma"]
            weight = min(snr, gamma) / (snr if prediction == "epsilon" else snr + 1)
        elif rules.get("weighting") == "debiased":
            weight = 1 / math.sqrt(snr)
        elif rules.get("weighting") == "p2":
            weight = 1 / (1 + snr) ** rules["p2_gamma"]
        if "weighting" in rules and prediction == "v_prediction":
            weight *= abar
        d = out[b] - wanted
        kind, c = rules.get("kind", "l2"), rules.get("huber_c", 0.1)
        if kind == "l2":
            each = d**2
        else:
            if rules["huber_schedule"] == "exponential":
                c = math.exp(math.log(c) * t[b] / 1000)
            elif rules["huber_schedule"] == "snr":
                sigma = math.sqrt((1 - abar) / abar) if abar else math.inf
                c = (1 - c) / (1 + sigma) ** 2 + c
            each = (2 * c if kind == "huber" else 2) * (torch.sqrt(d**2 + c**2) - c)
        if "mask" in rules:
            m = rules["mask_floor"] + (1 - rules["mask_floor"]) * rules["mask"][b]
            m = m / (sum(m.flatten().tolist()) / m.numel()) if rules["mask_normalize"] else m
            each = torch.stack([each[ch] * m for ch in range(each.shape[0])])
        total = total + weight * each.mean() * (rules["weight"][b].item() if "weight" in rules else 1.0)
    return total / len(t)


MASK = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64).round()
RULES = [
    {"weighting": "debiased"},
    {"weighting": "p2", "p2_gamma": 0.5},
    {"weighting": "p2", "p2_gamma": 1.0},
    *({"kind": k, "huber_c": 0.1, "huber_schedule": s}
      for k in ("huber", "smooth_l1") for s in ("constant", "exponential", "snr")),
    {"mask": MASK, "mask_floor": 0.1, "mask_normalize": True},
    {"mask": MASK, "mask_floor": 0.0, "mask_normalize": False},
    {"weight": torch.tensor([1.0, 0.25, 3.0], dtype=torch.float64)},
]  # fmt: skip


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("number", range(len(RULES)))
def test_each_rule_gives_the_references_gradients(network, prediction: str, number: int) -> None:
    unet, adapter = network
    rules = RULES[number]
    torch.manual_seed(12)
    x0 = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    eps, text = torch.randn_like(x0), torch.randn(3, 7, 32, dtype=torch.float64)
    t_B = torch.tensor([3, 420, 999])
    given = {k: v for k, v in rules.items() if k not in {"mask", "weight"}}
    objective = Objective(alphas(), prediction, **given)
    out = unet(objective.diffuse(x0, eps, t_B), t_B, text, return_dict=False)[0]
    target = objective.target(x0, eps, t_B)
    ours = objective.losses(out, target, t_B, rules.get("mask"), rules.get("weight")).mean()
    abar_of = [math.prod(1.0 - b for b in _betas()[: k + 1]) for k in range(1000)]
    theirs = scalar_loss(out, x0, eps, t_B.tolist(), prediction, rules, abar_of)
    assert abs(ours.item() - theirs.item()) <= 1e-12 * abs(theirs.item())
    plain = Objective(alphas(), prediction).losses(out, target, t_B).mean()
    assert abs(plain.item() - ours.item()) > 1e-6 * abs(ours.item()), "the rule changes nothing"
    got = torch.autograd.grad(ours, adapter.parameters(), retain_graph=True)
    expected = torch.autograd.grad(theirs, adapter.parameters())
    largest = max(g.abs().max().item() for g in expected)
    worst = max((a - b).abs().max().item() for a, b in zip(got, expected, strict=True))
    assert worst <= 1e-10 * largest


def test_zero_terminal_snr_is_lin_et_al() -> None:
    """Algorithm 1 of Lin et al. 2023, written out, against what the run's schedule gives."""
    from loratui.train.assemble import noise_schedule

    root = [math.sqrt(math.prod(1.0 - b for b in _betas()[: k + 1])) for k in range(1000)]
    first, last = root[0], root[-1]
    expected = torch.tensor([((r - last) * first / (first - last)) ** 2 for r in root], dtype=torch.float64)
    table = noise_schedule(SimpleNamespace(scheduler={**kit.SCHEDULER, "rescale_betas_zero_snr": True}))
    assert float(table[-1]) == 0.0 and torch.allclose(table.double(), expected, rtol=1e-4, atol=1e-7)
    objective = Objective(expected, "v_prediction", 5.0)
    x0, eps = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64)
    t_B = torch.tensor([999])
    assert torch.equal(objective.diffuse(x0, eps, t_B), eps)
    assert torch.equal(objective.target(x0, eps, t_B), -x0)
    for kind in ("l2", "huber"):
        losses = Objective(expected, "v_prediction", kind=kind, weighting="debiased").losses(eps, -x0, t_B)
        assert torch.isfinite(losses).all()
