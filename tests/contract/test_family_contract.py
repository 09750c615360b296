"""What every registered family promises; a new row in FAMILIES is tested by being there."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from pathlib import Path

import pytest
import torch
import train_kit as kit

from loratui.families.protocol import Family, load_family, stack
from loratui.families.spec import FAMILIES
from loratui.train.adapter import Adapter
from loratui.weights import layouts
from loratui.weights.consumers import STRUCTURES

NAMES = [spec.name for spec in FAMILIES]
CLASSIC = [spec.name for spec in FAMILIES if not spec.flow]
FLOW = [spec.name for spec in FAMILIES if spec.flow]


@pytest.fixture(scope="module", params=NAMES)
def loaded(request: pytest.FixtureRequest):
    """(family, parts) on the family's tiny base; a new family adds a fixture `tiny_NAME`."""
    family = load_family(request.param)
    return family, family.load(request.getfixturevalue(f"tiny_{request.param}"), torch.float32)


def test_it_answers_every_question(loaded) -> None:
    family, _ = loaded
    assert family.name in NAMES
    for name, member in inspect.getmembers(Family, inspect.isfunction):
        if not name.startswith("_"):
            theirs = inspect.signature(getattr(family, name))
            assert list(theirs.parameters) == list(inspect.signature(member).parameters)[1:], name
            assert inspect.getdoc(getattr(family, name)), name


def test_parts_are_frozen_and_whole(loaded) -> None:
    family, parts = loaded
    for network in parts.networks():
        assert not network.training
        assert all(not p.requires_grad and p.device.type == "cpu" for p in network.parameters())
    flow = {spec.name: spec.flow for spec in FAMILIES}[family.name]
    assert parts.prediction in ({"flow"} if flow else {"epsilon", "v_prediction"})
    assert len({parts.vae_identity, parts.text_identity, parts.base_hash}) == 3


def test_blocks_hold_most_weights_and_run_in_order(loaded) -> None:
    family, parts = loaded
    blocks, ran = family.blocks(parts.denoiser), []
    inside = [m for block in blocks for m in block.modules()]
    assert len({id(m) for m in inside}) == len(inside), "a block is in another"
    numbers = sum(p.numel() for block in blocks for p in block.parameters())
    assert numbers > 0.5 * sum(p.numel() for p in parts.denoiser.parameters())
    hooks = [b.register_forward_pre_hook(lambda m, _: ran.append(m)) for b in blocks]
    size = family.size_condition((16, 16), (0, 0), (16, 16))
    condition = stack([family.encode_captions(parts, [""])[0] | size], torch.device("cpu"))
    with torch.no_grad():
        family.predict(parts, torch.randn(1, parts.latent_channels, 8, 8), timesteps(parts, 5), condition)
    for hook in hooks:
        hook.remove()
    assert ran == blocks


def test_pictures_become_latents_of_the_stated_size(loaded) -> None:
    family, parts = loaded
    side = 8 * parts.latent_factor
    mean, std = family.encode_pictures(parts, torch.rand(2, 3, side, side + parts.latent_factor) * 2 - 1)
    assert mean.shape == std.shape == (2, parts.latent_channels, 8, 9)
    assert bool((std > 0).all())
    with torch.no_grad():
        pixels = family.decode_latents(parts, mean)
    assert pixels.shape == (2, 3, side, side + parts.latent_factor)


def test_captions_become_conditions_one_by_one(loaded) -> None:
    family, parts = loaded
    with torch.no_grad():
        alone = [family.encode_captions(parts, [text])[0] for text in ("a red fox", "")]
        together = family.encode_captions(parts, ["a red fox", ""])
    for one, two in zip(alone, together, strict=True):
        assert one.keys() == two.keys()
        assert all(torch.equal(one[k], two[k]) and one[k].dtype == torch.float32 for k in one)


def test_captions_of_different_lengths_make_a_batch(loaded) -> None:
    family, parts = loaded
    texts = ["a red fox in the long grass", "x", family.empty]
    noisy = torch.randn(3, parts.latent_channels, 8, 8)
    with torch.no_grad():
        conditions = family.encode_captions(parts, texts)
        conditions = [c | family.size_condition((16, 16), (0, 0), (16, 16)) for c in conditions]
        together = family.predict(parts, noisy, timesteps(parts, 5, 500, 900), stack(conditions, CPU))
        alone = [
            family.predict(parts, noisy[n : n + 1], timesteps(parts, t), stack([conditions[n]], CPU))
            for n, t in enumerate((5, 500, 900))
        ]
    assert torch.allclose(together, torch.cat(alone), atol=2e-5)


def test_prediction_has_the_shape_of_its_input_and_trains_the_adapter(loaded) -> None:
    family, parts = loaded
    adapter = Adapter(family, parts, kit.tiny_config().network, seed=1)
    with torch.no_grad():
        conditions = family.encode_captions(parts, ["x", "y"])
    noisy = torch.randn(2, parts.latent_channels, 8, 12)
    sizes = family.size_condition((640, 480), (8, 0), (512, 448))
    condition = stack([c | sizes for c in conditions], torch.device("cpu"))
    answer = family.predict(parts, noisy, timesteps(parts, 1, 999), condition)
    assert answer.shape == noisy.shape
    answer.square().mean().backward()
    trained = {p for p in parts.denoiser.parameters() if p.requires_grad}
    assert trained == set(adapter.parameters())
    assert all(layer.lora_B["default"].weight.grad is not None for layer in adapter.layers.values())


@pytest.mark.long
@pytest.mark.parametrize("name", FLOW)
def test_memory_is_estimated_with_fake_tensors(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Nothing in encoding, step and sample may ask for the value of a tensor."""
    from loratui.config.run import RunInfo
    from loratui.train.imagined import imagine

    base = request.getfixturevalue(f"tiny_{name}")
    info = RunInfo(base_path=str(base), family=name, trigger="sks", project=str(tmp_path))
    found = imagine(info, kit.tiny_config(data__batch_size=2), (16, 16))
    assert found.weights_gib < found.train_gib


CPU = torch.device("cpu")


def timesteps(parts, *numbers: int) -> torch.Tensor:
    """Whole numbers, or floats for flow models."""
    return torch.tensor(numbers, dtype=torch.float32 if parts.prediction == "flow" else torch.int64)


def golden_rows(name: str) -> dict[str, tuple[str, str]]:
    """Module name -> shapes of lora_down and lora_up."""
    lines = (Path(__file__).parent.parent / "data" / "golden" / f"{name}.tsv").read_text().splitlines()
    return {row: (down, up) for row, down, up in (line.split("\t") for line in lines)}


_TARGETS = ("attention", "attention+mlp", "full", "full+conv")
_COUNTS = {"sd15": (128, 160, 192, 278), "sd2": (128, 160, 192, 278), "sdxl": (560, 700, 722, 788)}


@pytest.mark.parametrize("name", CLASSIC)
@pytest.mark.parametrize("target", _TARGETS)
def test_targets_of_the_true_model_are_the_reference_trainers(name: str, target: str) -> None:
    """At true sizes (meta tensors) names and shapes equal the golden lists."""
    import json

    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from loratui.families.loading import CONFIGS

    family = load_family(name)
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(
            json.loads((CONFIGS / name / "unet" / "config.json").read_text())
        )
    targets = family.target_modules(unet, target)
    assert len(targets) == len(set(targets)) == _COUNTS[name][_TARGETS.index(target)]
    golden = golden_rows(name)
    if target == "full+conv":  # SD2's residual blocks are SD1's
        found = golden_rows("sdxl_conv" if name == "sdxl" else "sd15_conv")
        golden |= {n: s for n, s in found.items() if name == "sdxl" or "resnets" in n or "samplers" in n}
    modules = dict(unet.named_modules())
    for module in targets:
        down, up = golden[family.kohya_name(unet, "lora_unet", module)]
        weight = tuple(modules[module].weight.shape)
        assert "x".join(map(str, (8, *weight[1:]))) == down
        assert int(up.split("x")[0]) == weight[0]
        assert len(weight) == 2 or up.endswith("x1x1") or "proj_" in module
    if target.startswith("full"):
        names = {family.kohya_name(unet, "lora_unet", m) for m in targets}
        assert names == {n for n in golden if n.startswith("lora_unet_")}


@pytest.mark.parametrize("name", CLASSIC)
def test_text_encoders_of_the_true_model_are_the_reference_trainers(name: str) -> None:
    import json

    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    from loratui.families.loading import CONFIGS

    family = load_family(name)
    golden = {n: s for n, s in golden_rows(name).items() if not n.startswith("lora_unet_")}
    found = {}
    for tower in family.towers:
        config = json.loads((CONFIGS / name / tower.folder / "config.json").read_text())
        with torch.device("meta"):
            encoder = CLIPTextModel(CLIPTextConfig.from_dict(config))
        modules = dict(encoder.named_modules())
        for module in family.text_modules(encoder):
            out, into = modules[module].weight.shape
            found[family.kohya_name(encoder, tower.key, module)] = (f"8x{into}", f"{out}x8")
    assert found == golden


def test_pipeline_shares_the_modules(loaded) -> None:
    family, parts = loaded
    flow = parts.prediction == "flow"
    for sampler in ("ddim", "euler", "euler_a", *(() if flow else ("dpmpp_2m",))):
        pipeline = family.pipeline(parts, sampler)
        denoiser = pipeline.transformer if flow else pipeline.unet
        assert denoiser is parts.denoiser and pipeline.vae is parts.vae
        assert flow or pipeline.scheduler.config.prediction_type == parts.prediction
    with pytest.raises(ValueError, match="no sampler"):
        family.pipeline(parts, "magic")


def test_metadata_names_the_family(loaded) -> None:
    family, parts = loaded
    facts = family.metadata(parts)
    assert all(isinstance(v, str) for v in facts.values())
    assert facts["modelspec.architecture"].endswith("/lora")
    assert {"ss_base_model_version", "ss_v2"} <= facts.keys()


@pytest.mark.parametrize("spec", FAMILIES, ids=NAMES)
def test_the_row_is_true(spec) -> None:
    assert importlib.util.find_spec(spec.module) is not None
    assert spec.name in (layouts.families() if spec.flow else STRUCTURES)
    source = Path(importlib.util.find_spec(spec.module).origin).read_text()
    imported = {
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    others = {other.module for other in FAMILIES} - {spec.module}
    assert not imported & others, "families do not know each other"
