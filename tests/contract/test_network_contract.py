"""What every network type promises; a new row in NETWORKS is tested by being there.

The weight change a file makes is worked out here from the papers' equations, as its readers do, and held
against what the injected network does to a layer.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import train_kit as kit
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import Tensor, nn

from loratui.config.checks import check
from loratui.config.schema import NetworkConfig
from loratui.errors import ConfigError
from loratui.families.protocol import load_family
from loratui.plan.sizes import sizes
from loratui.train.adapter import Adapter
from loratui.train.networks.protocol import load_network
from loratui.weights.convert import convert_file
from loratui.weights.networks import NETWORKS, network_of, network_spec
from loratui.weights.verify import verify_file

NAMES = [n.name for n in NETWORKS]
FAMILY = load_family("sd15")


def settings(kind: str, **changes):
    """A config with the target full+conv, its own convolution rank and every dropout the type has."""
    spec = network_spec(kind)
    target = "full" if kind == "oft" else "full+conv"
    own = {"network__kind": kind, "network__target": target, "network__alpha": 3.0}
    own |= {"network__block_size": 8} if "block_size" in spec.options else {}
    own |= {"network__conv_rank": 2, "network__conv_alpha": 1.0} if "conv_rank" in spec.options else {}
    for key in ("dropout", "rank_dropout", "module_dropout"):
        if key in spec.options:
            own[f"network__{key}"] = 0.2
    return kit.tiny_config(**(own | changes))


def changed(tensors: dict[str, Tensor], name: str, weight: Tensor) -> Tensor:
    """W' of a module by its tensors in a kohya file, as the papers have it."""
    part = {k.removeprefix(f"{name}."): t.double() for k, t in tensors.items() if k.startswith(f"{name}.")}
    weight, alpha = weight.double(), float(part["alpha"])
    if "lora_down.weight" in part:
        down, up = part["lora_down.weight"], part["lora_up.weight"]
        update = (up.flatten(1) @ down.flatten(1)).reshape(weight.shape) * alpha / down.shape[0]
        if "dora_scale" not in part:
            return weight + update
        norm = (weight + update).flatten(1).norm(dim=1).reshape(part["dora_scale"].shape)
        return part["dora_scale"] * (weight + update) / norm
    if "hada_w1_a" in part:
        rank = part["hada_w1_b"].shape[0]
        halves = []
        for n in "12":
            a, b = part[f"hada_w{n}_a"], part[f"hada_w{n}_b"]
            core = part.get(f"hada_t{n}")
            halves.append(a @ b if core is None else torch.einsum("ijkl,ip,jr->prkl", core, a, b))
        return weight + (halves[0] * halves[1]).reshape(weight.shape) * alpha / rank
    rank = 0
    factors = []
    for n in "12":
        if f"lokr_w{n}" in part:
            factors.append(part[f"lokr_w{n}"])
            continue
        a, b = part[f"lokr_w{n}_a"], part[f"lokr_w{n}_b"]
        rank = b.shape[0]
        core = part.get("lokr_t2") if n == "2" else None
        factors.append(a @ b if core is None else torch.einsum("ijkl,ip,jr->prkl", core, a, b))
    small, large = factors
    if large.ndim == 2 and weight.ndim == 4:
        large = large.reshape(large.shape[0], -1, *weight.shape[2:])
    if large.ndim == 4:
        small = small[:, :, None, None]
    scale = alpha / rank if rank else 1.0  # without a decomposed factor there is no rank to divide by
    return weight + scale * torch.kron(small.contiguous(), large.contiguous()).reshape(weight.shape)


def effective(layer: BaseTunerLayer) -> Tensor:
    """W' of an injected layer, from what it does to unit vectors."""
    base = layer.get_base_layer()
    bias = 0.0 if base.bias is None else base.bias.double()
    if isinstance(base, nn.Linear):
        return (layer(torch.eye(base.in_features, dtype=torch.float64)) - bias).T
    channels, side = base.in_channels, base.kernel_size[0]
    # One impulse for each input channel and kernel place; only the middle of the answer is looked at.
    found = torch.zeros_like(base.weight, dtype=torch.float64)
    for row in range(side):
        for column in range(side):
            impulse = torch.zeros(channels, channels, 5, 5, dtype=torch.float64)
            stride = base.stride[0]
            # output (y, x) sees input y * stride - padding + row
            y, x = 2 // stride * stride, 2 // stride * stride
            impulse[
                range(channels), range(channels), y - base.padding[0] + row, x - base.padding[1] + column
            ] = 1
            answer = layer(impulse)[:, :, y // stride, x // stride] - bias
            found[:, :, row, column] = answer.T
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module", params=NAMES)
def trained(request: pytest.FixtureRequest, project: Path, tiny_sd15: Path):
    """(kind, run, events) of 9 steps with text encoder, dropouts, accumulation and flips."""
    config = run_settings(request.param)
    run = kit.make_run(project, tiny_sd15, config, f"whole-{request.param}")
    return request.param, run, kit.run_job_here(run)


def run_settings(kind: str):
    return settings(
        kind, optimizer__steps=9, optimizer__accumulation=2, data__flip=True, data__caption_dropout=0.2,
        saving__every=1, saving__keep=100, network__text_encoder=True, network__text_lr=3e-3,
        network__text_stop=6,
    )  # fmt: skip


@pytest.mark.parametrize("kind", NAMES)
def test_it_changes_nothing_at_the_start(kind: str, tiny_sd15: Path) -> None:
    parts = FAMILY.load(tiny_sd15, torch.float32)
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([10, 900])
    with torch.no_grad():
        condition = FAMILY.encode_batch(parts, ["a", "b"])
        before = FAMILY.predict(parts, x, t, condition)
    adapter = Adapter(FAMILY, parts, settings(kind).network, seed=1)
    adapter.train(False)
    with torch.no_grad():
        assert torch.allclose(FAMILY.predict(parts, x, t, condition), before, atol=1e-5)
    again = Adapter(FAMILY, FAMILY.load(tiny_sd15, torch.float32), settings(kind).network, seed=1)
    other = Adapter(FAMILY, FAMILY.load(tiny_sd15, torch.float32), settings(kind).network, seed=2)
    one, two, three = adapter.tensors(), again.tensors(), other.tensors()
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert kind == "oft" or any(not torch.equal(one[k], three[k]) for k in one)
    assert {p for h in parts.networks() for p in h.parameters() if p.requires_grad} == set(
        adapter.parameters()
    )


def test_a_run_ends_with_a_file_that_its_programs_load(trained) -> None:
    kind, run, events = trained
    spec = network_spec(kind)
    assert events[-1]["state"] == "finished"
    assert next(e for e in events if e["kind"] == "exported")["format"] == spec.format
    found = verify_file(run.export_dir / f"whole-{kind}.safetensors")
    assert found.ok and found.network == kind and found.format == spec.format
    assert found.matched == dict.fromkeys(spec.loads, (54, 54) if kind == "oft" else (85, 85))
    assert bool(spec.note) == any(p.code == "not-everywhere" for p in found.problems)
    rates = [e["lr"] for e in events if e["kind"] == "step"]
    assert rates[0] == {"unet": 1e-2, "te": 3e-3}


@pytest.mark.parametrize("step", [1, 4, 6, 8])
def test_resume_ends_in_the_same_bytes(trained, project: Path, tiny_sd15: Path, step: int) -> None:
    kind, whole, _ = trained
    run = kit.make_run(project, tiny_sd15, run_settings(kind), f"again-{kind}-{step}")
    shutil.copytree(whole.checkpoints_dir / f"step-{step:06d}", run.checkpoints_dir / f"step-{step:06d}")
    kit.run_job_here(run)
    last = "checkpoints/step-000009/lora.safetensors"
    assert kit.tensor_hash(run.path / last) == kit.tensor_hash(whole.path / last)


def test_the_text_encoder_learns_until_its_stop_and_no_longer(trained) -> None:
    _, run, _ = trained
    at = {n: load_file(run.checkpoints_dir / f"step-{n:06d}" / "lora.safetensors") for n in (1, 5, 6, 9)}
    text = [n for n in at[9] if "text" in n and not n.endswith("alpha")]
    assert text and any(not torch.equal(at[1][n], at[5][n]) for n in text)
    assert all(torch.equal(at[6][n], at[9][n]) for n in text)
    assert any(not torch.equal(at[6][n], at[9][n]) for n in at[9] if n not in text)


@pytest.mark.parametrize("tucker", [False, True])
@pytest.mark.parametrize("kind", [n.name for n in NETWORKS if n.format == "kohya"])
def test_the_file_makes_the_weight_change_of_the_injected_network(
    kind: str, tucker: bool, tiny_sd15: Path
) -> None:
    if tucker and "tucker" not in network_spec(kind).options:
        pytest.skip("it has no such form")
    changes = {"network__tucker": tucker} if tucker else {}
    changes |= {"network__factor": 4} if kind == "lokr" else {}
    parts = FAMILY.load(tiny_sd15, torch.float32)
    adapter = Adapter(FAMILY, parts, settings(kind, **changes).network, seed=1)
    torch.manual_seed(3)
    for parameter in adapter.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    adapter.train(False)
    tensors = adapter.tensors()
    parts.denoiser.double()
    largest = 0.0
    with torch.no_grad():
        for slot in adapter.slots:
            weight = slot.layer.get_base_layer().weight
            inside, file = effective(slot.layer), changed(tensors, slot.name, weight)
            change = (inside - weight).abs().max().item()
            assert (inside - file).abs().max().item() <= 1e-10 * max(1.0, change), slot.name
            largest = max(largest, change)
    assert largest > 1e-3


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
@pytest.mark.parametrize("kind", NAMES)
def test_the_plan_counts_what_is_trained(kind: str, family: str, request: pytest.FixtureRequest) -> None:
    """From headers alone, for every type and family: layers and numbers as the injected network has them."""
    base = request.getfixturevalue(f"tiny_{family}")
    changes = {"network__text_encoder": True, "network__ranks": ("attn2=6", "mid_block=0")}
    if kind == "oft":
        changes["network__ranks"] = ("mid_block=0",)
    for tucker in (False, True) if "tucker" in network_spec(kind).options else (False,):
        config = settings(kind, **changes, **({"network__tucker": True} if tucker else {})).network
        made = load_family(family)
        adapter = Adapter(made, made.load(base, torch.float32), config, seed=1)
        found = sizes(base, family, config)
        assert (found.layers, found.lora) == (
            len(adapter.slots),
            sum(p.numel() for p in adapter.parameters()),
        )


def test_ranks_and_rates_by_pattern(tiny_sd15: Path) -> None:
    config = NetworkConfig(
        target="full+conv", rank=4, alpha=2.0, ranks=("attn2=8", "resnets=0", "up_blocks.*attn2=2"),
        rates=("mid_block=0.5",), lora_plus=16.0, text_encoder=True, text_lr=1e-4,
    )  # fmt: skip
    adapter = Adapter(FAMILY, FAMILY.load(tiny_sd15, torch.float32), config, seed=1)
    for slot in adapter.slots:
        rank = slot.layer.lora_A["default"].weight.shape[0]
        wanted = 4 if "attn2" not in slot.module else 2 if slot.module.startswith("up_blocks") else 8
        assert rank == wanted and slot.layer.scaling["default"] == 0.5, "the scale stays alpha / rank"
        assert "resnets" not in slot.module
    groups = {g["name"]: g for g in adapter.groups(1e-3)}
    assert {n: g["lr"] for n, g in groups.items()} == {
        "unet": 1e-3, "unet B": 1.6e-2, "unet x0.5": 5e-4, "unet B x0.5": 8e-3, "te": 1e-4, "te B": 1.6e-3,
    }  # fmt: skip
    grouped = [id(p) for g in groups.values() for p in g["params"]]
    assert sorted(grouped) == sorted(map(id, adapter.parameters()))
    ups = {id(s.layer.lora_B["default"].weight) for s in adapter.slots}
    assert all((id(p) in ups) == (" B" in n) for n, g in groups.items() for p in g["params"])
    with pytest.raises(ConfigError, match="typo"):
        Adapter(FAMILY, FAMILY.load(tiny_sd15, torch.float32), NetworkConfig(ranks=("typo=3",)), seed=1)


def test_rank_stabilized_scales_by_the_root_and_says_so_in_the_file(tiny_sd15: Path) -> None:
    config = NetworkConfig(rank=16, alpha=8.0, rank_stabilized=True)
    adapter = Adapter(FAMILY, FAMILY.load(tiny_sd15, torch.float32), config, seed=1)
    assert all(s.layer.scaling["default"] == 2.0 for s in adapter.slots)  # 8 / sqrt(16)
    alphas = {float(t) for n, t in adapter.tensors().items() if n.endswith("alpha")}
    assert alphas == {32.0}  # alpha / 16 is 2


@pytest.mark.parametrize("init", ["gaussian", "orthogonal"])
def test_initialisations(init: str, tiny_sd15: Path) -> None:
    config = NetworkConfig(rank=8, alpha=8.0, init=init, target="full+conv")
    adapter = Adapter(FAMILY, FAMILY.load(tiny_sd15, torch.float32), config, seed=1)
    for slot in adapter.slots:
        down, up = (slot.layer.lora_A["default"].weight, slot.layer.lora_B["default"].weight)
        assert (up.flatten(1) @ down.flatten(1)).abs().max() < 1e-6
        assert down.abs().max() > 0 and bool(up.abs().max() > 0) == (init == "orthogonal")
    if init == "gaussian":
        values = torch.cat([s.layer.lora_A["default"].weight.flatten() for s in adapter.slots])
        assert float(values.detach().std()) == pytest.approx(1 / 8, rel=0.05)


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_max_norm_shrinks_what_is_too_large_and_nothing_else(kind: str, tiny_sd15: Path) -> None:
    config = NetworkConfig(kind=kind, rank=4, alpha=4.0, scale_norm=0.5)
    adapter = Adapter(FAMILY, FAMILY.load(tiny_sd15, torch.float32), config, seed=1)
    torch.manual_seed(3)
    for n, slot in enumerate(adapter.slots):
        for parameter in adapter.network.parts(slot.layer).values():
            parameter.data = (0.02 if n % 2 else 0.6) * torch.randn_like(parameter)

    def norms() -> list[float]:
        return [float(s.layer.get_delta_weight("default").detach().norm()) for s in adapter.slots]

    before = norms()
    said = adapter.limit_norms()
    after = norms()
    assert max(before) > 0.5 > min(before)
    for old, new in zip(before, after, strict=True):
        assert new == pytest.approx(min(old, 0.5), rel=1e-4)
    assert said["norm_max"] == pytest.approx(max(before), rel=1e-4)
    assert said["norms_shrunk"] == sum(b > 0.5 for b in before)


def test_lokr_without_decomposed_factors_has_a_scale_of_one(tiny_sd15: Path) -> None:
    """Readers know no rank there, so alpha / rank must not count in training either."""
    parts = FAMILY.load(tiny_sd15, torch.float32)
    config = NetworkConfig(kind="lokr", rank=64, alpha=1.0)
    adapter = Adapter(FAMILY, parts, config, seed=1)
    whole = [n for n in adapter.tensors() if n.endswith("lokr_w2")]
    assert len(whole) == len(adapter.slots)
    assert all(slot.layer.scaling["default"] == 1.0 for slot in adapter.slots)


def test_a_dora_goes_to_peft_and_back(tiny_sd15: Path, project: Path, tmp_path: Path) -> None:
    """diffusers loads the PEFT form and computes the trainer's answer with it."""
    from diffusers import StableDiffusionPipeline

    from loratui.train.export import export_lora

    parts = FAMILY.load(tiny_sd15, torch.float32)
    adapter = Adapter(FAMILY, parts, settings("dora", network__dropout=0.0).network, seed=1)
    torch.manual_seed(3)
    for parameter in adapter.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    adapter.train(False)
    export_lora(tmp_path / "k.safetensors", adapter.tensors(), "fp32", FAMILY.metadata(parts))
    convert_file(tmp_path / "k.safetensors", tmp_path / "p.safetensors", "peft")
    convert_file(tmp_path / "p.safetensors", tmp_path / "b.safetensors", "kohya")
    assert verify_file(tmp_path / "p.safetensors").matched == {"diffusers": (79, 79)}
    back, there = load_file(tmp_path / "b.safetensors"), load_file(tmp_path / "k.safetensors")
    for name in there:
        if name.endswith("dora_scale"):
            assert torch.equal(back[name], there[name])
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd15, local_files_only=True, safety_checker=None)
    pipeline.load_lora_weights(str(tmp_path), weight_name="p.safetensors", local_files_only=True)
    x, t, text = torch.randn(1, 4, 8, 8), torch.tensor([400]), torch.randn(1, 7, 32)
    with torch.no_grad():
        theirs = pipeline.unet(x, t, text, return_dict=False)[0]
        ours = parts.denoiser(x, t, text, return_dict=False)[0]
        with adapter.scaled_off():
            bare = parts.denoiser(x, t, text, return_dict=False)[0]
    assert torch.allclose(theirs, ours, atol=1e-5)
    assert (ours - bare).abs().max() > 1e-2


def test_an_oft_file_is_what_peft_loads(trained, tiny_sd15: Path) -> None:
    kind, run, _ = trained
    if kind != "oft":
        pytest.skip("of another network")
    from peft import OFTConfig, inject_adapter_in_model
    from peft.utils import set_peft_model_state_dict

    parts = FAMILY.load(tiny_sd15, torch.float32)
    adapter = Adapter(FAMILY, parts, run_settings("oft").network, seed=1)
    tensors = load_file(run.export_dir / "whole-oft.safetensors")
    unet = {n.removeprefix("unet."): t.float() for n, t in tensors.items() if n.startswith("unet.")}
    plain = FAMILY.load(tiny_sd15, torch.float32).denoiser
    targets = [n.removesuffix(".oft_R.weight") for n in unet]
    inject_adapter_in_model(OFTConfig(r=0, oft_block_size=8, target_modules=targets), plain)
    outcome = set_peft_model_state_dict(plain, unet)
    assert not outcome.unexpected_keys
    adapter.load(load_file(run.checkpoints_dir / "step-000009" / "lora.safetensors"))
    adapter.train(False)
    x, t, text = torch.randn(1, 4, 8, 8), torch.tensor([400]), torch.randn(1, 7, 32)
    with torch.no_grad():
        ours = parts.denoiser(x, t, text, return_dict=False)[0]
        assert torch.allclose(plain(x, t, text, return_dict=False)[0], ours, atol=1e-5)
        with adapter.scaled_off():
            assert (parts.denoiser(x, t, text, return_dict=False)[0] - ours).abs().max() > 1e-4


def test_the_type_is_told_by_its_tensors() -> None:
    assert network_of({"down", "up", "alpha"}).name == "lora"
    assert network_of({"down", "up", "alpha", "dora_scale"}).name == "dora"
    assert network_of({"lokr_w1", "lokr_w2_a", "lokr_w2_b"}).name == "lokr"
    assert network_of({"down", "hada_w1_a"}) is None and network_of(set()) is None


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="magic"):
        load_network("magic")


def test_what_a_type_has_no_use_for_is_an_error() -> None:
    def codes(**changes) -> set[tuple[str, str]]:
        config = kit.tiny_config(**{f"network__{k}": v for k, v in changes.items()})
        return {(p.path, p.severity) for p in check(config) if p.path.startswith("network.")}

    assert codes() == set()
    assert codes(kind="loha", dropout=0.1) >= {("network.dropout", "error"), ("network.kind", "warning")}
    assert codes(rank_dropout=0.1) == {("network.rank_dropout", "error")}
    assert codes(kind="oft", target="full+conv") >= {("network.target", "error")}
    assert codes(kind="oft", target="full") == {("network.kind", "warning")}
    assert codes(init="orthogonal", rank=3) == {("network.init", "error")}
    assert codes(init="orthogonal", rank=4) == set()
    assert codes(ranks=("attn2",)) == {("network.ranks", "error")}
    assert codes(rates=("(=2",)) == {("network.rates", "error")}
    assert codes(text_lr=1e-4) == {("network.text_encoder", "warning")}
    assert codes(text_lr=1e-4, text_encoder=True) == set()


def test_the_readmes_table_is_generated() -> None:
    """`python tools/make_pictures.py table` writes it; the tests around this one hold who loads what."""
    import importlib.util

    root = Path(__file__).resolve().parents[2]
    spec = importlib.util.spec_from_file_location("make_pictures", root / "tools" / "make_pictures.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.network_table() in (root / "README.md").read_text("utf-8")


def test_diffusers_loads_what_the_table_says(trained, tiny_sd15: Path) -> None:
    """Its own loader on the exported file: loaded whole, refused, or with a part of it dropped."""
    from diffusers import StableDiffusionPipeline

    kind, run, _ = trained
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd15, local_files_only=True, safety_checker=None)
    x, t, text = torch.randn(1, 4, 8, 8), torch.tensor([400]), torch.randn(1, 7, 32)
    with torch.no_grad():
        before = pipeline.unet(x, t, text, return_dict=False)[0]
    try:
        pipeline.load_lora_weights(str(run.export_dir), weight_name=f"whole-{kind}.safetensors")
    except Exception:
        assert "diffusers" not in network_spec(kind).loads
        return
    with torch.no_grad():
        after = pipeline.unet(x, t, text, return_dict=False)[0]
    ours = _answer_of(kind, run, tiny_sd15, x, t, text)
    whole = torch.allclose(after, ours, atol=1e-4)
    assert whole == ("diffusers" in network_spec(kind).loads)
    assert (ours - before).abs().max() > 1e-3


def _answer_of(kind: str, run, base: Path, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
    parts = FAMILY.load(base, torch.float32)
    adapter = Adapter(FAMILY, parts, run_settings(kind).network, seed=1)
    adapter.load(load_file(run.checkpoints_dir / "step-000009" / "lora.safetensors"))
    adapter.train(False)
    with torch.no_grad():
        answer: Tensor = parts.denoiser(x, t, text, return_dict=False)[0]
    return answer
