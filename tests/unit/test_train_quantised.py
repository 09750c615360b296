"""A base in 8 or 4 bits: near the full one, exact gradients of what is stored, exact resume and swap."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import train_kit as kit
from safetensors import safe_open

from loratui.errors import RunError
from loratui.train.quantised import QuantisedConv2d, QuantisedLinear, pack, quantise, unpack

FORMS = {"fp8": 0.04, "int8": 0.01, "nf4": 0.1}
"""Form -> relative error (Frobenius) that a normal weight may have."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(48, 96), (7, 5), (16, 8, 3, 3)])
def test_stored_weights_are_near(form: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape)
    codes, scale = pack(weight, form)
    back = unpack(codes, scale, weight.shape, torch.float32)
    assert 0 < float((back - weight).norm() / weight.norm()) < FORMS[form]
    again = unpack(*pack(back, form), weight.shape, torch.float32)
    assert torch.allclose(again, back, rtol=1e-6, atol=0)
    zeros = torch.zeros(shape)
    assert torch.equal(unpack(*pack(zeros, form), zeros.shape, torch.float32), zeros)


def test_nf4_is_that_of_bitsandbytes() -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    torch.manual_seed(0)
    weight = torch.randn(32, 128)
    codes, scale = pack(weight, "nf4")
    theirs, state = functional.quantize_4bit(weight, quant_type="nf4", blocksize=64)
    assert torch.equal(codes.flatten(), theirs.flatten()) and torch.equal(scale.flatten(), state.absmax)
    ours = unpack(codes, scale, weight.shape, torch.float32)
    assert torch.allclose(ours, functional.dequantize_4bit(theirs, state), rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("autocast", [False, True])
def test_layers_are_those_of_the_stored_weight(form: str, autocast: bool) -> None:
    torch.manual_seed(0)
    linear, conv = torch.nn.Linear(24, 12), torch.nn.Conv2d(8, 6, 3, stride=2, padding=1)
    for layer, made, x in (
        (linear, QuantisedLinear(linear, form), torch.randn(2, 5, 24)),
        (conv, QuantisedConv2d(conv, form), torch.randn(2, 8, 9, 7)),
    ):
        layer.weight.data = made.weight
        layer.requires_grad_(False)
        results = []
        for one in (layer, made):
            seen = x.clone().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                y = one(seen)
            y.float().square().sum().backward()
            results.append((y, seen.grad))
        assert results[0][0].dtype == results[1][0].dtype
        for plain, stored in zip(*results, strict=True):
            limit = 0.02 if autocast else 1e-5
            error = (plain - stored).detach().float().norm() / plain.detach().float().norm()
            assert float(error) < limit


def test_autograd_keeps_the_stored_form_only() -> None:
    made = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Conv1d(1, 1, 1))
    quantise([made], "int8")
    kept: list[torch.dtype] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.dtype) if tensor.numel() == 64 * 64 else None
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        made[0](torch.randn(2, 64, requires_grad=True))
    assert kept == [torch.int8]
    assert type(made[1]) is torch.nn.Conv1d


def losses(events: list[dict]) -> list[float]:
    return [e["loss"] for e in events if e["kind"] == "step"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")


@pytest.mark.parametrize("form", FORMS)
def test_runs_are_near_exact_in_resume_and_whole_in_export(
    project: Path, tiny_sd15: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"optimizer__steps": 4, "saving__every": 2, "network__target": "full+conv"}
    full = kit.make_run(project, tiny_sd15, kit.tiny_config(**changes), f"full-{form}")
    stored = kit.tiny_config(**changes, memory__base_weights=form)
    whole = kit.make_run(project, tiny_sd15, stored, f"whole-{form}")
    full_losses, stored_losses = losses(kit.run_job_here(full)), losses(kit.run_job_here(whole))
    assert full_losses != stored_losses and stored_losses == pytest.approx(full_losses, rel=0.1)
    (ours,) = whole.export_dir.glob("*.safetensors")
    (theirs,) = full.export_dir.glob("*.safetensors")
    with safe_open(ours, "pt") as a, safe_open(theirs, "pt") as b:
        assert list(a.keys()) == list(b.keys())
        for name in a.keys():  # noqa: SIM118 - not a mapping
            assert a.get_tensor(name).isfinite().all() and a.get_tensor(name).dtype == torch.float32

    resumed = kit.make_run(project, tiny_sd15, stored, f"resumed-{form}")
    shutil.copytree(whole.checkpoints_dir / "step-000002", resumed.checkpoints_dir / "step-000002")
    assert losses(kit.run_job_here(resumed)) == stored_losses[2:]
    assert kit.tensor_hash(next(resumed.export_dir.glob("*.safetensors"))) == kit.tensor_hash(ours)

    if form == "int8":
        return
    swap = kit.tiny_config(
        **changes, memory__base_weights=form, memory__blocks_to_swap=5, memory__gradient_checkpointing=True
    )
    swapped = kit.make_run(project, tiny_sd15, swap, f"swapped-{form}")
    kit.run_job_here(swapped)
    assert kit.tensor_hash(next(swapped.export_dir.glob("*.safetensors"))) == kit.tensor_hash(ours)

    other = kit.make_run(project, tiny_sd15, kit.tiny_config(**changes), f"other-{form}")
    shutil.copytree(whole.checkpoints_dir / "step-000002", other.checkpoints_dir / "step-000002")
    with pytest.raises(RunError, match="precision differs"):
        kit.run_job_here(other)


@pytest.mark.parametrize("kind", ["dora", "loha", "lokr", "oft"])
def test_every_network_trains_over_it(project: Path, tiny_sd15: Path, kind: str) -> None:
    config = kit.tiny_config(
        optimizer__steps=2, network__kind=kind, memory__base_weights="nf4", memory__precision="bf16"
    )
    events = kit.run_job_here(kit.make_run(project, tiny_sd15, config, kind))
    assert events[-1]["state"] == "finished"
