"""Block swap: the same bits with it and without, and no copy of a weight outlives its use."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
import train_kit as kit

from loratui.config.checks import check
from loratui.errors import ConfigError
from loratui.families.protocol import load_family, stack
from loratui.train import assemble
from loratui.train.adapter import Adapter
from loratui.train.device import place
from loratui.train.fit import fit
from loratui.train.swap import Swap, spread

FAMILIES = ("sd15", "sd2", "sdxl")


def gradients(family_name: str, base: Path, **memory: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Loss and gradients of a LoRA on every layer, dropouts off, after two steps."""
    config = kit.tiny_config(network__target="full+conv", **{f"memory__{k}": v for k, v in memory.items()})
    family, placement = load_family(family_name), place(config.memory)
    parts = family.load(base, torch.float32)
    adapter = Adapter(family, parts, config.network, 1)
    for n, parameter in enumerate(adapter.parameters()):  # B is zero at first, and A would learn nothing
        torch.manual_seed(n)
        parameter.data = torch.randn_like(parameter) * 0.1
    fit(family, parts, config.memory, placement)
    condition = stack(family.encode_captions(parts, ["a red fox", ""]), placement.device)
    size = family.size_condition((16, 16), (0, 0), (16, 16))
    condition |= stack([size, size], placement.device) if size else {}
    for step in range(2):
        torch.manual_seed(step)
        noisy, times = torch.randn(2, parts.latent_channels, 8, 8), torch.tensor([10, 900])
        loss = family.predict(parts, noisy, times, condition).square().mean()
        loss.backward()
    return loss.detach(), [p.grad.clone() for p in adapter.parameters()]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_keep_every_bit(
    family: str, checkpointing: bool, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(f"tiny_{family}")
    loss, plain = gradients(family, base, gradient_checkpointing=checkpointing)
    for count in (1, 3, 11):
        swapped_loss, swapped = gradients(
            family, base, gradient_checkpointing=checkpointing, blocks_to_swap=count
        )
        assert torch.equal(loss, swapped_loss)
        assert all(map(torch.equal, plain, swapped))
    assert all(bool(g.any()) for g in plain)


class Counted(torch.nn.Module):
    """Linear layers with and without bias; one is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8, bias=False)
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Twice through `a`, once through `b`."""
        return torch.nn.functional.silu(self.b(self.a(torch.tanh(self.a(x)))))


def test_no_copy_lives_from_forward_to_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    blocks = [Counted() for _ in range(6)]
    x = torch.randn(3, 8, requires_grad=True)
    plain = torch.nn.Sequential(*blocks)(x).sum()
    (wanted,) = torch.autograd.grad(plain, x)
    alive: set[int] = set()
    swap = Swap(blocks, torch.device("cpu"))
    real = swap.copies

    def most(index: int) -> list[torch.Tensor]:
        found = real(index)
        alive.add(index)
        assert len(swap._visits) <= 2
        return found

    monkeypatch.setattr(swap, "copies", most)
    result = torch.nn.Sequential(*blocks)(x).sum()
    gc.collect()
    assert not swap._visits and alive == set(range(6))
    assert all(t.untyped_storage().nbytes() == 4 for b in blocks for t in b.parameters())
    saved = _saved_tensors(result.grad_fn)
    assert swap.visits == 6
    assert all(t.shape != (8, 8) for t in saved)
    (found,) = torch.autograd.grad(result, x)
    assert torch.equal(found, wanted) and torch.equal(result, plain) and swap.visits == 12


def _saved_tensors(node: Any) -> list[torch.Tensor]:
    """What hooks have left in the graph itself: raw saved values, not unpacked."""
    found, seen, queue = [], set(), [node]
    while queue:
        at = queue.pop()
        if at is None or at in seen:
            continue
        seen.add(at)
        for name in dir(at):
            if name.startswith("_raw_saved_"):
                value = getattr(at, name)
                data = getattr(value, "data", None)
                found += [data] if isinstance(data, torch.Tensor) else []
        queue += [n for n, _ in at.next_functions]
    return found


def test_a_use_without_a_visit_shows() -> None:
    block = Counted()
    Swap([block], torch.device("cpu"))
    assert block(torch.ones(1, 8)).isfinite().all()
    assert block.a.weight.shape == (8, 8) and block.a.weight.isnan().all()


def test_blocks_are_spread() -> None:
    blocks = [torch.nn.Identity() for _ in range(10)]
    for count in range(11):
        assert len(spread(blocks, count)) == count
    assert [blocks.index(b) for b in spread(blocks, 5)] == [1, 3, 5, 7, 9]


def test_whole_runs_end_in_the_same_bytes(
    tmp_path: Path, tiny_sd15: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From weights in memory of their own: a mapped file is not aligned as copies are, which changes bits."""
    real = assemble.load_base

    def copied(*given: Any) -> Any:
        family, parts = real(*given)
        for parameter in parts.denoiser.parameters():
            parameter.data = parameter.data.clone()
        return family, parts

    monkeypatch.setattr(assemble, "load_base", copied)
    files = []
    for n, memory in enumerate(({}, {"memory__blocks_to_swap": 7})):
        config = kit.tiny_config(optimizer__steps=4, samples__every=2, samples__steps=2, **memory)
        run = kit.make_run(tmp_path, tiny_sd15, config, f"r{n}")
        assert kit.run_job_here(run)[-1]["state"] == "finished"
        files.append(run)
    lora = [kit.tensor_hash(next(run.export_dir.glob("*.safetensors"))) for run in files]
    pictures = [[p.read_bytes() for p in sorted(run.samples_dir.rglob("*.png"))] for run in files]
    assert lora[0] == lora[1] and pictures[0] == pictures[1] and len(pictures[0]) == 6


def test_too_many_blocks_are_refused(tmp_path: Path, tiny_sd15: Path) -> None:
    config = kit.tiny_config(memory__blocks_to_swap=39, model__family="sd15")
    assert [p.code for p in check(config)] == ["too-many-blocks"]
    with pytest.raises(ConfigError, match="has 12 blocks"):
        kit.run_job_here(kit.make_run(tmp_path, tiny_sd15, kit.tiny_config(memory__blocks_to_swap=30)))
