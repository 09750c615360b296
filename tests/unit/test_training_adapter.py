"""The training adapter under a distilled base: as if merged while it trains, not there in what is drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_kit
import torch
import train_kit as kit
from PIL import Image
from safetensors.torch import load_file, save_file

from loratui.config.schema import NetworkConfig, RunConfig
from loratui.errors import ConfigError
from loratui.families.protocol import load_family, stack
from loratui.families.spec import family_spec
from loratui.plan.flow_checks import check_distilled
from loratui.train.adapter import Adapter
from loratui.train.quantised import quantise
from loratui.train.training_adapter import base_print, put_under, taken_out
from loratui.weights.convert import convert_file
from loratui.weights.layouts import names_of

FAMILY = "zimage"
"""Its bases are trained with one."""
BLOCKS = json.dumps({"layers": 2, "noise_refiner": 1, "context_refiner": 1})
CPU = torch.device("cpu")


def make(base: Path, path: Path, seed: int = 1, scale: float = 0.3) -> Path:
    """As the known one is: PEFT's pairs of all layers behind `diffusion_model.`."""
    weights = load_file(base / "transformer" / "diffusion_pytorch_model.safetensors")
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in names_of(FAMILY, BLOCKS).parts:
        out, into = weights[f"{layer}.weight"].shape
        start = f"diffusion_model.{layer}.lora_"
        tensors[f"{start}A.weight"] = torch.randn(4, into, generator=random) / into**0.5
        tensors[f"{start}B.weight"] = torch.randn(out, 4, generator=random) * scale
    save_file(tensors, path, {"loratui_structure": BLOCKS})
    return path


def batch(family, parts):
    with torch.no_grad():
        condition = stack(family.encode_captions(parts, ["a red fox", "x"]), CPU)
    return torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(3)), condition


def test_it_is_as_if_merged_and_leaves_no_trace(tiny_zimage: Path, tmp_path: Path) -> None:
    """Loss gradients of a network on top too, in float64; in kohya's form, with fused q, k and v, as well."""
    family = load_family(FAMILY)
    path = make(tiny_zimage, tmp_path / "adapter.safetensors")
    kohya = tmp_path / "kohya.safetensors"
    convert_file(path, kohya, "kohya", "fp32")
    merged = family.load(tiny_zimage, torch.float32)
    noisy, condition = batch(family, merged)
    noisy, t_B = noisy.double(), torch.tensor([120.0, 801.0], dtype=torch.float64)
    pairs = load_file(path)

    def gradients(parts) -> tuple[torch.Tensor, ...]:
        network = Adapter(family, parts, NetworkConfig(rank=2, alpha=2.0), seed=3)
        parts.denoiser.double()
        for n, parameter in enumerate(network.parameters()):
            parameter.data += 0.1 * torch.randn(
                parameter.shape, generator=torch.Generator().manual_seed(n), dtype=torch.float64
            )
        loss = family.predict(parts, noisy, t_B, condition).square().mean()
        return loss, *torch.autograd.grad(loss, network.parameters())

    with torch.no_grad():
        for layer in names_of(FAMILY, BLOCKS).parts:
            up, down = (pairs[f"diffusion_model.{layer}.lora_{x}.weight"].double() for x in "BA")
            weight = merged.denoiser.get_parameter(f"{layer}.weight")
            weight.data = weight.double() + up @ down
    bare = family.load(tiny_zimage, torch.float32)
    plain = gradients(bare)[0]
    expected = gradients(merged)
    for file in (path, kohya):
        parts = family.load(tiny_zimage, torch.float32)
        put_under(parts, FAMILY, file)
        assert base_print(parts) != base_print(bare)
        got = gradients(parts)
        largest = max(g.abs().max() for g in expected[1:])
        assert abs(got[0] - expected[0]) < 1e-6 * expected[0]
        assert max((a - b).abs().max() for a, b in zip(got, expected, strict=True)) < 1e-5 * largest
        assert abs(got[0] - plain) > 0.01 * plain
        with torch.no_grad(), taken_out(parts):
            again = family.predict(parts, noisy, t_B, condition)
        with torch.no_grad():
            assert torch.equal(again, family.predict(bare, noisy, t_B, condition))


@pytest.mark.parametrize("form", ["fp8", "nf4"])
def test_a_quantised_base_takes_it_too(tiny_zimage: Path, tmp_path: Path, form: str) -> None:
    family = load_family(FAMILY)
    bare, parts = (family.load(tiny_zimage, torch.float32) for _ in range(2))
    for one in (bare, parts):
        quantise(family.blocks(one.denoiser), form)
    put_under(parts, FAMILY, make(tiny_zimage, tmp_path / "adapter.safetensors"))
    noisy, condition = batch(family, parts)
    t_B = torch.tensor([120.0, 801.0])
    with torch.no_grad():
        plain = family.predict(bare, noisy, t_B, condition)
        assert not torch.allclose(family.predict(parts, noisy, t_B, condition), plain, atol=1e-2)
        with taken_out(parts):
            assert torch.equal(family.predict(parts, noisy, t_B, condition), plain)


def test_what_does_not_fit_is_refused(tiny_zimage: Path, tmp_path: Path) -> None:
    parts = load_family(FAMILY).load(tiny_zimage, torch.float32)
    path = make(tiny_zimage, tmp_path / "adapter.safetensors")
    tensors = load_file(path)
    save_file({n: t[:, :8].contiguous() for n, t in tensors.items()}, tmp_path / "small.safetensors")
    with pytest.raises(ConfigError, match=r"model\.adapter"):
        put_under(parts, FAMILY, tmp_path / "small.safetensors")
    with pytest.raises(ConfigError, match=r"model\.adapter"):
        put_under(parts, FAMILY, tiny_zimage / "vae" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ConfigError, match="transformers"):
        put_under(parts, "sd15", path)


def test_a_run_trains_over_it_and_draws_without(tiny_zimage: Path, tmp_path: Path) -> None:
    """The trainer's sample is what diffusers draws from the bare base and the exported file."""
    path = make(tiny_zimage, tmp_path / "adapter.safetensors")
    changes = {
        "optimizer__lr": 0.05, "optimizer__steps": 4, "network__target": "full", "samples__every": 4,
        "samples__width": 32, "samples__height": 16, "samples__sampler": "euler", "samples__guidance": 0.0,
        "saving__every": 2, "model__adapter": str(path),
    }  # fmt: skip
    run = kit.make_run(tmp_path, tiny_zimage, kit.tiny_config(**changes), "over", FAMILY)
    events = kit.run_job_here(run)
    assert events[-1]["state"] == "finished"
    sample = next(e for e in events if e["kind"] == "sample" and e["step"] == 4)
    own = Image.open(run.path / sample["path"])
    said = json.loads(own.text["loratui"])
    pipe = tiny_kit.tiny(FAMILY).pipeline().from_pretrained(tiny_zimage, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(str(run.export_dir), weight_name="over.safetensors", local_files_only=True)
    theirs = pipe(
        said["prompt"], guidance_scale=0.0, num_inference_steps=said["steps"], width=32, height=16,
        generator=torch.Generator().manual_seed(said["seed"]),
    ).images[0]  # fmt: skip
    error = np.mean((np.asarray(own, float) - np.asarray(theirs, float)) ** 2)
    assert error == 0 or 10 * np.log10(255**2 / error) >= 40

    changes.pop("model__adapter")
    without = kit.make_run(tmp_path, tiny_zimage, kit.tiny_config(**changes), "bare", FAMILY)
    losses = [
        [e["loss"] for e in found if e["kind"] == "step"] for found in (events, kit.run_job_here(without))
    ]
    assert losses[0] != losses[1]


def test_the_plan_refuses_it_for_a_unet() -> None:
    classic = family_spec("sd15")
    assert classic is not None
    wrong = replace(RunConfig(), model=replace(RunConfig().model, adapter="a.safetensors"))
    assert [p.severity for p in check_distilled(wrong, classic, Path("x"))] == ["error"]
