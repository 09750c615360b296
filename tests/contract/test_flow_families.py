"""What every registered flow family proves on its tiny base: maths, learning, samples, resume, files.

A family is tested by having a row in FAMILIES and a module in tests/tiny_families, which says how to make its
base and how the velocity of one sample is computed straight from the pipeline's own pieces.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_kit
import torch
import train_kit as kit
from PIL import Image
from torch import Tensor
from torch.func import functional_call

from loratui.config.schema import NetworkConfig
from loratui.families.protocol import LazyModules, load_family, stack
from loratui.families.spec import FAMILIES
from loratui.train.adapter import Adapter
from loratui.train.assemble import objective_of
from loratui.weights.convert import convert_file
from loratui.weights.verify import verify_file

FLOW = [spec.name for spec in FAMILIES if spec.flow]
CPU = torch.device("cpu")
CAPTIONS = ("a red fox", "in the long grass, it sleeps")
T = (120.0, 801.0)


@pytest.fixture(scope="module", params=FLOW)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def base(name: str, request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(f"tiny_{name}")
    return found


@pytest.fixture(scope="module")
def pipeline(name: str, base: Path) -> Any:
    """diffusers' own pipeline, loaded by diffusers."""
    return frozen(tiny_kit.tiny(name).pipeline(), base)


def frozen(kind: Any, base: Path) -> Any:
    found = kind.from_pretrained(base, local_files_only=True)
    found.set_progress_bar_config(disable=True)
    for part in found.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False)  # recorded attention takes another kernel, with other last bits
    return found


@pytest.fixture
def no_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers rounds to fp32 in norms and rotations, which blows the last bits of float64 up."""
    from diffusers.models.normalization import RMSNorm

    to_float = Tensor.float
    monkeypatch.setattr(Tensor, "float", lambda x: x if x.dtype == torch.float64 else to_float(x))

    def forward(self: Any, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return x if self.weight is None else x * self.weight

    monkeypatch.setattr(RMSNorm, "forward", forward)


@pytest.mark.usefixtures("no_rounding")
def test_gradients_equal_the_straight_implementation(name: str, base: Path, pipeline: Any) -> None:
    """v = eps - x_0, x_t = (1 - sigma) x_0 + sigma eps, W + (alpha / rank) B A; one by one, in float64."""
    compare_gradients(name, base, pipeline)


@pytest.mark.usefixtures("no_rounding")
@pytest.mark.parametrize(("family", "variant"), tiny_kit.VARIANTS)
def test_gradients_of_a_variant_equal_the_straight_implementation(
    family: str, variant: str, tmp_path: Path
) -> None:
    tiny, flag = tiny_kit.tiny(family), {variant: True}
    base = tiny.make(tmp_path / "base", **flag)
    compare_gradients(family, base, frozen(tiny.pipeline(**flag), base))


def compare_gradients(name: str, base: Path, pipeline: Any) -> None:
    family = load_family(name)
    parts = family.load(base, torch.float32)
    parts.guidance = 2.5
    adapter = Adapter(family, parts, NetworkConfig(rank=4, alpha=2.0, target="full"), seed=3)
    torch.manual_seed(7)
    for parameter in adapter.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    with torch.no_grad():
        conditions = family.encode_captions(parts, CAPTIONS)
    shape = (2, parts.latent_channels, 4 * parts.patch, 6 * parts.patch)
    x0, eps = (torch.randn(shape, dtype=torch.float64) for _ in range(2))

    parts.denoiser.double()
    objective = objective_of(parts, kit.tiny_config())
    t_B = torch.tensor(T, dtype=torch.float64)
    answer = family.predict(parts, objective.diffuse(x0, eps, t_B), t_B, stack(conditions, CPU))
    ours = objective.loss(answer, objective.target(x0, eps, t_B), t_B)
    got = torch.autograd.grad(ours, adapter.parameters())

    transformer = pipeline.transformer
    before = {n: p.detach().clone() for n, p in transformer.named_parameters()}
    transformer.double().requires_grad_(False)
    leaves = {id(p): p.detach().clone().requires_grad_() for p in adapter.parameters()}
    changed = {}
    for slot in adapter.slots:
        down, up = (leaves[id(p)] for p in adapter.network.parts(slot.layer).values())
        key = f"{slot.module}.weight"
        changed[key] = transformer.get_parameter(key) + 0.5 * up @ down

    def call(**given: Tensor) -> Tensor:
        return functional_call(transformer, changed, (), {**given, "return_dict": False})[0]

    tiny = tiny_kit.tiny(name)
    errors = []
    for n, caption in enumerate(CAPTIONS):
        sigma = T[n] / 1000
        noisy = (1 - sigma) * x0[n] + sigma * eps[n]
        velocity = tiny.velocity(pipeline, call, caption, noisy, sigma, guidance=2.5)
        errors.append((velocity - (eps[n] - x0[n])).square().mean())
    theirs = sum(errors) / len(errors)
    expected = torch.autograd.grad(theirs, list(leaves.values()))
    transformer.to(torch.float32)
    with torch.no_grad():
        for n, p in transformer.named_parameters():
            p.copy_(before[n])
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-11)
    largest = max(g.abs().max().item() for g in expected)
    assert largest > 1e-6
    assert max((a - b).abs().max().item() for a, b in zip(got, expected, strict=True)) <= 1e-10 * largest


def test_gradient_checkpointing_changes_nothing(name: str, base: Path) -> None:
    """Losses and gradients of a batch of captions of different lengths."""
    family = load_family(name)
    parts = family.load(base, torch.float32)
    adapter = Adapter(family, parts, NetworkConfig(rank=2, alpha=2.0), seed=3)
    with torch.no_grad():
        condition = stack(family.encode_captions(parts, CAPTIONS), CPU)
    torch.manual_seed(1)
    noisy = torch.randn(2, parts.latent_channels, 2 * parts.patch, 2 * parts.patch)
    found = []
    for checkpointed in (False, True):
        if checkpointed:
            parts.denoiser.enable_gradient_checkpointing()
        loss = family.predict(parts, noisy, torch.tensor(T), condition).square().mean()
        found.append([loss, *torch.autograd.grad(loss, adapter.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_it_learns_a_picture_and_not_without_its_adapter(name: str, base: Path) -> None:
    """The loss on 8 fixed pairs of noise and timestep halves within 200 steps."""
    family = load_family(name)
    parts = family.load(base, torch.float32)
    adapter = Adapter(family, parts, NetworkConfig(rank=8, alpha=8.0, target="full"), seed=3)
    objective = objective_of(parts, kit.tiny_config())
    torch.manual_seed(1)
    side = 4 * parts.patch
    x0 = torch.randn(1, parts.latent_channels, side, side).expand(8, -1, -1, -1)
    eps, t_B = torch.randn(x0.shape), torch.linspace(60, 960, 8)
    with torch.no_grad():
        whole = family.encode_captions(parts, ["a red fox"])[0]
        short = {k: v[:12] if v.dim() > 1 or "mask" in k else v for k, v in whole.items()}  # to be quick
        condition = stack([short] * 8, CPU)

    def train(lr: float, steps: int) -> list[float]:
        optimizer = torch.optim.AdamW(adapter.parameters(), lr)
        found = []
        for _ in range(steps):
            answer = family.predict(parts, objective.diffuse(x0, eps, t_B), t_B, condition)
            loss = objective.loss(answer, objective.target(x0, eps, t_B), t_B)
            found.append(loss.item())
            if found[-1] <= 0.5 * found[0]:
                break
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return found

    assert len(set(train(0.0, 3))) == 1, "a frozen adapter learns nothing"
    losses = train(0.02, 200)
    assert losses[-1] <= 0.5 * losses[0], (losses[0], losses[-1])


def settings(**changes: Any) -> Any:
    return kit.tiny_config(
        **{
            "optimizer__lr": 0.05, "optimizer__steps": 8, "network__target": "full", "network__alpha": 3.0,
            "samples__every": 8, "samples__steps": 4, "samples__width": 32, "samples__height": 16,
            "samples__sampler": "euler", "saving__every": 4, "data__caption_dropout": 0.3, "data__flip": True,
            **changes,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    return tmp_path_factory.mktemp(f"flow-{name}")


@pytest.fixture(scope="module")
def trained(project: Path, base: Path, name: str) -> Any:
    """A short training hard enough that everyone sees it in its samples."""
    run = kit.make_run(project, base, settings(), "mine", name)
    return run, kit.run_job_here(run)


def test_the_file_reproduces_the_trainers_sample(trained: Any, name: str, pipeline: Any) -> None:
    """In diffusers' own pipeline: >= 40 dB with the file, <= 30 dB without it."""
    run, events = trained
    sample = next(e for e in events if e["kind"] == "sample" and e["step"] == 8)
    own = Image.open(run.path / sample["path"])
    said = json.loads(own.text["loratui"])

    def draw() -> Image.Image:
        return pipeline(
            **tiny_kit.tiny(name).arguments(pipeline, said["prompt"], said["guidance"]),
            num_inference_steps=said["steps"], width=said["width"], height=said["height"],
            generator=torch.Generator().manual_seed(said["seed"]),
        ).images[0]  # fmt: skip

    bare = draw()
    given = run.export_dir / "mine.safetensors"
    peft = run.path / "peft.safetensors"
    convert_file(given, peft, "peft")
    assert verify_file(peft).ok and verify_file(peft).format == "peft"
    pipeline.load_lora_weights(str(run.path), weight_name=peft.name, local_files_only=True)
    try:
        with_lora = draw()
    finally:
        pipeline.unload_lora_weights()
    assert psnr(own, with_lora) >= 40
    assert psnr(own, bare) <= 30


def psnr(a: Image.Image, b: Image.Image) -> float:
    error = np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def test_the_file_is_verified_key_by_key(trained: Any, name: str) -> None:
    run, events = trained
    assert events[-1]["state"] == "finished"
    found = verify_file(run.export_dir / "mine.safetensors")
    spec = next(s for s in FAMILIES if s.name == name)
    assert found.ok and (found.family, found.format) == (name, spec.files)
    assert set(found.matched) == {"diffusers", "comfyui"}
    assert all(n == of == found.modules for n, of in found.matched.values())


def test_resume_ends_in_the_same_bytes_and_reads_no_text_encoder(
    trained: Any, project: Path, base: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = trained
    run = kit.make_run(project, base, settings(), "again", name)
    shutil.copytree(whole.checkpoints_dir / "step-000004", run.checkpoints_dir / "step-000004")

    def never(self: LazyModules, key: str) -> Any:
        raise AssertionError(f"{key} was read although every caption is in the cache")

    monkeypatch.setattr(LazyModules, "__getitem__", never)
    events = kit.run_job_here(run)
    assert [e["step"] for e in events if e["kind"] == "step"] == [5, 6, 7, 8]
    last = "checkpoints/step-000008/lora.safetensors"
    assert kit.tensor_hash(run.path / last) == kit.tensor_hash(whole.path / last)
    mine = run.export_dir / "again.safetensors"
    assert kit.tensor_hash(mine) == kit.tensor_hash(whole.export_dir / "mine.safetensors")
