"""One training step of each family, text encoders included, against a straight implementation in float64.

The reference has no peft: it adds (alpha / rank) B A to the weights of a bare network (Hu et al. 2021, eq.
3), conditions it as the family's paper says, and writes the loss out sample by sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train_objective import _betas, scalar_loss
from torch import Tensor, nn
from torch.func import functional_call

from loratui.config.schema import NetworkConfig
from loratui.families.protocol import load_family
from loratui.train.adapter import Adapter
from loratui.train.objective import Objective

NETWORK = NetworkConfig(rank=4, alpha=2.0, target="full+conv", conv_rank=2, conv_alpha=3.0, text_encoder=True)
CAPTIONS = ["a red fox", "b"]
SIZES = ((640, 480), (8, 16), (512, 448))
T = [17, 999]


def gradients(loss: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """Zeros for what the loss does not depend on: SDXL reads no last layer of its first text encoder."""
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(leaves, found, strict=True)]


def condition(
    family: str, texts: dict[str, nn.Module], ids: dict[str, Tensor], changed: dict
) -> dict[str, Tensor]:
    """SD1.x, SD2.x: the last hidden states. SDXL: the last but one of both, and the pooled text."""
    answers = {
        key: functional_call(text, changed[key], (ids[key],), {"output_hidden_states": True})
        for key, text in texts.items()
    }
    if family != "sdxl":
        return {"text": answers["lora_te"].last_hidden_state}
    hidden = [answers[key].hidden_states[-2] for key in ("lora_te1", "lora_te2")]
    (width, height), (left, top), (to_width, to_height) = SIZES
    numbers = torch.tensor([[height, width, top, left, to_height, to_width]] * len(T), dtype=torch.float32)
    return {
        "text": torch.cat(hidden, dim=-1), "pooled": answers["lora_te2"].text_embeds, "sizes": numbers,
    }  # fmt: skip


def schedule(zero_terminal: bool) -> list[float]:
    """abar_t as Ho et al. 2020 define it; stretched to end in 0 by algorithm 1 of Lin et al. 2023."""
    table = [math.prod(1.0 - b for b in _betas()[: k + 1]) for k in range(1000)]
    if not zero_terminal:
        return table
    root = [math.sqrt(a) for a in table]
    return [((r - root[-1]) * root[0] / (root[0] - root[-1])) ** 2 for r in root]


def reference(family: str, base: Path, tensors: dict[str, Tensor], slots, x0, eps, n, case: Case):
    """(loss, gradients by name and part) of the straight implementation, in float64."""
    dtype = torch.float64
    kind = load_family(family)
    parts = kind.load(base, torch.float32)
    hosts = {"lora_unet": parts.denoiser.to(dtype)}
    hosts |= {key: text.to(dtype) for key, text in parts.text_encoders.items()}
    leaves: dict[str, Tensor] = {}
    changed: dict[str, dict[str, Tensor]] = {key: {} for key in hosts}
    for name, host, module in slots:
        down, up = (
            leaves.setdefault(f"{name}.{part}", tensors[f"{name}.{part}"].to(dtype).requires_grad_())
            for part in ("lora_down.weight", "lora_up.weight")
        )
        weight = hosts[host].get_submodule(module).weight
        scale = float(tensors[f"{name}.alpha"]) / down.shape[0]
        update = (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
        changed[host][f"{module}.weight"] = weight + scale * update
    ids = {
        key: parts.tokenizers[key](
            CAPTIONS, padding="max_length", max_length=77, return_tensors="pt"
        ).input_ids
        for key in parts.text_encoders
    }
    known = condition(family, parts.text_encoders, ids, changed)

    def answer(noisy: Tensor) -> Tensor:
        added = {"text_embeds": known["pooled"], "time_ids": known["sizes"]} if "pooled" in known else None
        return functional_call(
            parts.denoiser, changed["lora_unet"], (noisy, torch.tensor(T), known["text"]),
            {"added_cond_kwargs": added, "return_dict": False},
        )[0]  # fmt: skip

    abar = schedule(case.zero_terminal)
    noise = torch.stack([eps[b] + case.offset * n[b][:, None, None] for b in range(len(T))])
    noisy = [math.sqrt(abar[t]) * x0[b] + math.sqrt(1 - abar[t]) * noise[b] for b, t in enumerate(T)]
    prediction = case.prediction or parts.prediction
    loss = scalar_loss(answer(torch.stack(noisy)), x0, noise, T, prediction, case.rules, abar)
    return loss, dict(zip(leaves, gradients(loss, list(leaves.values())), strict=True))


@dataclass(frozen=True)
class Case:
    """One objective: rules of `scalar_loss`, and what they do not cover."""

    rules: dict[str, Any] = field(default_factory=dict)
    offset: float = 0.0
    prediction: str = ""
    zero_terminal: bool = False


MASK = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64).round()
CASES = {
    "plain": Case(),
    "min-SNR, noise offset": Case({"min_snr_gamma": 5.0}, offset=0.1),
    "v": Case({"min_snr_gamma": 5.0}, prediction="v_prediction"),
    "zero-terminal SNR": Case(prediction="v_prediction", zero_terminal=True),
    "zero-terminal SNR, min-SNR": Case(
        {"min_snr_gamma": 5.0}, prediction="v_prediction", zero_terminal=True
    ),
    "Huber": Case({"kind": "huber", "huber_c": 0.1, "huber_schedule": "snr"}),
    "masked": Case({"mask": MASK, "mask_floor": 0.1, "mask_normalize": True}),
    "prior preservation": Case({"weight": torch.tensor([1.0, 0.4], dtype=torch.float64)}),
}  # fmt: skip


TWICE = {"v", "zero-terminal SNR, min-SNR"}
"""Cases that others come near to."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] if n in TWICE else []) for n in CASES]
)
@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_gradients_equal_the_straight_implementation(
    family: str, name: str, request: pytest.FixtureRequest
) -> None:
    base, case = request.getfixturevalue(f"tiny_{family}"), CASES[name]
    kind = load_family(family)
    parts = kind.load(base, torch.float32)
    adapter = Adapter(kind, parts, NETWORK, seed=3)
    torch.manual_seed(7)
    for parameter in adapter.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    tensors = adapter.tensors()
    slots = [(s.name, s.host, s.module) for s in adapter.slots]
    x0, eps = (torch.randn(2, 4, 8, 8, dtype=torch.float64) for _ in range(2))
    n = torch.randn(2, 4, dtype=torch.float64)
    table = torch.tensor(schedule(case.zero_terminal), dtype=torch.float64)
    rules = {k: v for k, v in case.rules.items() if k not in {"mask", "weight"}}

    def ours(dtype: torch.dtype) -> Tensor:
        for network in (parts.denoiser, *parts.text_encoders.values()):
            network.to(dtype)
        objective = Objective(
            table.to(dtype), case.prediction or parts.prediction, noise_offset=case.offset, **rules
        )
        noise = objective.noise(eps.to(dtype), n.to(dtype))
        t_B = torch.tensor(T)
        sizes = {k: torch.stack([v] * 2) for k, v in kind.size_condition(*SIZES).items()}
        known = kind.encode_batch(parts, CAPTIONS) | sizes
        answer = kind.predict(parts, objective.diffuse(x0.to(dtype), noise, t_B), t_B, known)
        target = objective.target(x0.to(dtype), noise, t_B)
        mask, weight = (case.rules[k].to(dtype) if k in case.rules else None for k in ("mask", "weight"))
        return objective.losses(answer, target, t_B, mask, weight).mean()

    loss32 = ours(torch.float32)
    loss = ours(torch.float64)
    found = dict(zip([n for n in tensors if not n.endswith("alpha")],
                     gradients(loss, adapter.parameters()), strict=True))  # fmt: skip
    wanted_loss, wanted = reference(family, base, tensors, slots, x0, eps, n, case)
    assert abs(loss.item() - wanted_loss.item()) <= 1e-12 * abs(wanted_loss.item())
    assert loss32.item() == pytest.approx(wanted_loss.item(), rel=1e-6)
    assert found.keys() == wanted.keys()
    largest = max(g.abs().max().item() for g in wanted.values())
    text = max(g.abs().max().item() for n, g in wanted.items() if "text_model" in n)
    assert text > 1e-6 * largest, "the text encoders learn something"
    assert max((found[n] - wanted[n]).abs().max().item() for n in wanted) <= 1e-10 * largest
