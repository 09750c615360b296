"""Initialisations that begin elsewhere than at the base: their start, the runs with them, and their files."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import torch
import train_kit as kit
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file

from loratui.config.checks import check
from loratui.families.protocol import load_family
from loratui.train import eva
from loratui.train.adapter import Adapter
from loratui.train.assemble import load_base
from loratui.train.device import Placement
from loratui.train.patched import Patched
from loratui.train.quantised import quantise
from loratui.weights.header import read_header
from loratui.weights.verify import verify_file

FAMILY = load_family("sd15")
SEEN = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
TEXT = torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(6))


def network(init: str, **changes):
    """rank 4, alpha 6; convolutions, text encoder and dropout for those that change no quantised base."""
    own = {"network__init": init, "network__alpha": 6.0, "network__target": "full+conv"}
    own |= {"network__conv_rank": 2, "network__dropout": 0.1, "network__text_encoder": init != "loftq"}
    own |= {"memory__base_weights": "nf4"} if init == "loftq" else {}
    return kit.tiny_config(**(own | changes))


def answer(parts):
    with torch.no_grad():
        return parts.denoiser(SEEN, torch.tensor([400]), TEXT, return_dict=False)[0]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module", params=["pissa", "olora", "loftq"])
def trained(request: pytest.FixtureRequest, project: Path, tiny_sd15: Path):
    init = request.param
    config = network(init, optimizer__steps=4, saving__every=1, saving__keep=9, saving__name=init)
    run = kit.make_run(project, tiny_sd15, config, f"whole-{init}")
    return init, config, run, kit.run_job_here(run)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_the_start_and_what_follows_are_pefts(init: str, tiny_sd15: Path) -> None:
    plain = {"network__target": "attention+mlp", "network__text_encoder": False, "network__dropout": 0.0}
    config = network(init, **plain).network
    parts = FAMILY.load(tiny_sd15, torch.float32)
    before = answer(parts)
    theirs = copy.deepcopy(parts)
    adapter = Adapter(FAMILY, parts, config, seed=1)
    assert torch.equal(answer(parts), before), "nothing is changed yet, to the last bit"
    settings = LoraConfig(
        r=4, lora_alpha=6, init_lora_weights=init, target_modules=[s.module for s in adapter.slots]
    )
    inject_adapter_in_model(settings, theirs.denoiser)
    modules = dict(theirs.denoiser.named_modules())
    torch.manual_seed(3)
    for slot in adapter.slots:
        other = modules[slot.module]
        start = [slot.layer.lora_B["default"].weight @ slot.layer.lora_A["default"].weight]
        start += [other.lora_B["default"].weight @ other.lora_A["default"].weight]
        assert (start[0] - start[1]).abs().max() < 1e-3 * start[0].abs().max()
        for part in ("lora_A", "lora_B"):  # where signs of vectors differ, both go on from ours
            weight = getattr(slot.layer, part)["default"].weight
            weight.data += 0.05 * torch.randn_like(weight)
            getattr(other, part)["default"].weight.data.copy_(weight)
    ours = answer(parts)
    assert torch.allclose(answer(theirs), ours, atol=1e-4)
    assert (ours - before).abs().max() > 1e-2
    with adapter.scaled_off():
        assert torch.equal(answer(parts), before), "the true base, to the last bit"
    assert {p for p in parts.denoiser.parameters() if p.requires_grad} == set(adapter.parameters())


def test_rounds_come_near_to_the_whole_decomposition(tiny_sd15: Path) -> None:
    left = {}
    for rounds in (0, 1, 4):
        parts = FAMILY.load(tiny_sd15, torch.float32)
        config = network("pissa", network__text_encoder=False, network__init_rounds=rounds).network
        total = 0.0
        for slot in Adapter(FAMILY, parts, config, seed=1).slots:
            a, b = (getattr(slot.layer, part)["default"].start.flatten(1) for part in ("lora_A", "lora_B"))
            weight = slot.layer.get_base_layer().weight.flatten(1)
            total += float((weight - slot.layer.scaling["default"] * b @ a).square().sum())
        left[rounds] = total
    assert left[0] < left[4] < left[1] < 1.2 * left[0] and left[4] < 1.02 * left[0]


def test_the_file_makes_the_change_of_the_trained_model(trained, tiny_sd15: Path) -> None:
    """On the base as it is on the disk; and the checkpoint's file, which holds B and -B0, makes it too."""
    init, config, run, events = trained
    assert events[-1]["state"] == "finished"
    path = run.export_dir / f"{init}.safetensors"
    found = verify_file(path)
    assert found.ok and found.rank == 8 and set(found.matched) == {"diffusers", "comfyui", "a1111"}
    facts = read_header(path).metadata
    assert (facts["ss_network_dim"], facts["ss_network_alpha"]) == ("8", "12.0")
    assert f'"init": "{init}"' in facts["ss_network_args"] and '"trained_dim": 4' in facts["ss_network_args"]

    parts = FAMILY.load(tiny_sd15, torch.float32)
    base = answer(parts)
    if init == "loftq":
        quantise(FAMILY.blocks(parts.denoiser), "nf4", keep=True)
    adapter = Adapter(FAMILY, parts, config.network, seed=1)
    adapter.train(False)
    with adapter.scaled_off():
        bare = answer(parts)
    last = run.checkpoints_dir / "step-000004" / "lora.safetensors"
    adapter.load(load_file(last))
    wanted = answer(parts)
    whole = FAMILY.load(tiny_sd15, torch.float32)
    patched = Patched(FAMILY, whole)
    changes = []
    for file in (path, last):
        patched.put([(file, 1.0)])
        changes.append(answer(whole) - base)
    assert changes[0].abs().max() > 1e-2
    assert torch.allclose(changes[0], changes[1], atol=1e-5)
    if init == "loftq":  # weight by weight, as what quantising took stays between the two answers
        modules = dict(whole.denoiser.named_modules())
        untouched = dict(FAMILY.load(tiny_sd15, torch.float32).denoiser.named_modules())
        for slot in adapter.slots:
            a, b = (getattr(slot.layer, part)["default"] for part in ("lora_A", "lora_B"))
            way = b.weight.flatten(1) @ a.weight.flatten(1) - b.start.flatten(1) @ a.start.flatten(1)
            way = slot.layer.scaling["default"] * way
            change = (modules[slot.module].weight - untouched[slot.module].weight).flatten(1)
            assert (change - way).abs().max() < 1e-6
    else:
        assert torch.equal(bare, base)
        assert torch.allclose(base + changes[0], wanted, atol=1e-5)


def test_half_precision_does_not_cancel_in_the_file(tiny_sd15: Path) -> None:
    adapter = Adapter(FAMILY, FAMILY.load(tiny_sd15, torch.float32), network("pissa").network, seed=1)
    torch.manual_seed(3)
    for parameter in adapter.parameters():
        parameter.data += 1e-4 * torch.randn_like(parameter)  # far less than a start's last fp16 digit

    def product(tensors, name: str, dtype: torch.dtype) -> torch.Tensor:
        down, up = (tensors[f"{name}.lora_{part}.weight"].to(dtype).double() for part in ("down", "up"))
        return up.flatten(1) @ down.flatten(1)

    exact, file = adapter.tensors(), adapter.network_tensors()
    for slot in adapter.slots:
        wanted = product(exact, slot.name, torch.float64)
        error = (product(file, slot.name, torch.float16) - wanted).norm() / wanted.norm()
        assert error < 2e-3, slot.name


@pytest.mark.parametrize("step", [2])
def test_resume_ends_in_the_same_bytes(trained, project: Path, tiny_sd15: Path, step: int) -> None:
    """The start is not computed again: a run may go on where another library decomposes otherwise."""
    init, config, whole, _ = trained
    run = kit.make_run(project, tiny_sd15, config, f"again-{init}-{step}")
    shutil.copytree(whole.checkpoints_dir / f"step-{step:06d}", run.checkpoints_dir / f"step-{step:06d}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loratui.train.networks.initial._pair", lambda *a: pytest.fail("decomposed again"))
        kit.run_job_here(run)
    last = "checkpoints/step-000004/lora.safetensors"
    assert kit.tensor_hash(run.path / last) == kit.tensor_hash(whole.path / last)
    for name in (f"{init}.safetensors",):
        assert kit.tensor_hash(run.export_dir / name) == kit.tensor_hash(whole.export_dir / name)


def test_loftq_takes_back_what_quantising_took(tiny_sd15: Path) -> None:
    full = FAMILY.load(tiny_sd15, torch.float32)
    stored = FAMILY.load(tiny_sd15, torch.float32)
    quantise(FAMILY.blocks(stored.denoiser), "nf4", keep=True)
    lost = (answer(stored) - answer(full)).norm()
    weights = {n: m.weight for n, m in full.denoiser.named_modules() if hasattr(m, "weight")}
    adapter = Adapter(FAMILY, stored, network("loftq", network__rank=8).network, seed=1)
    adapter.train(False)
    assert (answer(stored) - answer(full)).norm() < lost
    for slot in adapter.slots:
        base, layer = slot.layer.get_base_layer(), slot.layer
        assert not hasattr(base, "original")
        before = weights[slot.module].flatten(1) - base.weight.flatten(1)
        a, b = (getattr(layer, part)["default"].weight.flatten(1) for part in ("lora_A", "lora_B"))
        after = before - layer.scaling["default"] * b @ a
        s = torch.linalg.svdvals(before)
        rank = a.shape[0]
        best = pytest.approx(float(s[rank:].norm()), rel=1e-3, abs=1e-6)
        assert float(after.detach().norm()) == best, slot.module
    start = answer(stored)
    for parameter in adapter.parameters():
        parameter.data += 0.1
    with adapter.scaled_off():
        assert torch.equal(answer(stored), start)
    assert not torch.equal(answer(stored), start)


def test_a_quantised_base_goes_with_pissa_too(tiny_sd15: Path) -> None:
    config = network("pissa", memory__base_weights="int8", network__text_encoder=False)
    info = kit.RunInfo(id="t", name="t", project="", base_path=str(tiny_sd15), family="sd15", trigger="",
                       steps=1, epochs=1)  # fmt: skip
    _, parts = load_base(info, config, Placement(torch.device("cpu"), torch.float32, None))
    before = answer(parts)
    Adapter(FAMILY, parts, config.network, seed=1).train(False)
    assert torch.equal(answer(parts), before)


def test_what_does_not_go_together_is_refused() -> None:
    def codes(**changes):
        return {p.code for p in check(kit.tiny_config(**changes)) if p.severity == "error"}

    assert codes(network__init="pissa") == set()
    assert codes(network__init="pissa", network__kind="dora") == {"init-of-lora"}
    assert codes(network__init="olora", network__scale_norm=1.0) == {"norm-of-start"}
    assert codes(network__init="pissa", network__start_from="a.safetensors") == {"two-starts"}
    assert codes(network__init="loftq") == {"nothing-quantised"}
    assert codes(network__init="loftq", memory__base_weights="nf4") == set()
    assert codes(network__init="eva", memory__processes=2) == {"eva-alone"}
    assert codes(network__init="eva", network__start_from="a.safetensors") == {"two-starts"}
    assert codes(network__init="pissa", network__kind="loha") == {"not-of-network"}


def test_layers_that_are_one_matrix_in_files_have_one_start(tiny_flux: Path) -> None:
    """FLUX.1's q, k and v: decomposed as the one matrix that they are, read back from a file bit by bit."""
    flux = load_family("flux")
    config = network("olora", network__target="attention").network
    made = [Adapter(flux, flux.load(tiny_flux, torch.float32), config, seed=1) for _ in range(2)]
    adapter, again = made
    torch.manual_seed(3)
    for parameter in adapter.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    tensors = adapter.tensors()
    again.load(tensors)
    for left, right in zip(adapter.parameters() + adapter.starts(), again.parameters() + again.starts(),
                           strict=True):  # fmt: skip
        assert torch.equal(left, right)
    groups = [group for group in adapter._groups().values() if len(group) > 1]
    assert groups
    for group in groups:
        matrix = torch.cat([slot.layer.get_base_layer().weight for slot in group])
        down = group[0].layer.lora_A["default"]
        q, r = torch.linalg.qr(matrix)
        assert torch.allclose(down.start, r[:4], atol=1e-5)
        starts = [(s.layer.lora_B["default"].start @ down.start) for s in group]
        assert torch.allclose(torch.cat(starts), q[:, :4] @ r[:4], atol=1e-5)
        way = [s.layer.lora_B["default"].weight @ down.weight for s in group]
        change = 1.5 * (torch.cat(way) - torch.cat(starts))
        for file in (tensors, adapter.network_tensors()):
            up, low = (file[f"{group[0].name}.lora_{part}.weight"] for part in ("up", "down"))
            assert torch.allclose(float(file[f"{group[0].name}.alpha"]) / 8 * up @ low, change, atol=1e-5)


def test_eva_begins_with_what_the_layers_see(
    project: Path, tiny_sd15: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The components of the inputs in the batches that were looked at; and its resume is exact."""
    seen: dict[str, list[torch.Tensor]] = {}
    monkeypatch.setattr(eva, "PASSES", 3)
    forward = eva._forward

    def recorded(adapter, *args) -> None:
        hooks = [
            slot.layer.get_base_layer().register_forward_pre_hook(
                lambda module, given, name=slot.name: seen.setdefault(name, []).append(
                    given[0].flatten(0, -2)
                )
            )
            for slot in adapter.slots
            if isinstance(slot.layer.get_base_layer(), torch.nn.Linear)
        ]
        forward(adapter, *args)
        for hook in hooks:
            hook.remove()

    monkeypatch.setattr(eva, "_forward", recorded)
    changes = {"network__target": "full+conv", "network__text_encoder": True, "saving__every": 1}
    config = kit.tiny_config(network__init="eva", optimizer__steps=2, optimizer__lr=1e-12, **changes)
    run = kit.make_run(project, tiny_sd15, config, "eva")
    assert kit.run_job_here(run)[-1]["state"] == "finished"
    tensors = load_file(run.checkpoints_dir / "step-000001" / "lora.safetensors")
    checked = 0
    for name, batches in seen.items():
        x, down = torch.cat(batches), tensors[f"{name}.lora_down.weight"]
        if min(len(b) for b in batches) < 4:  # the time's one row a picture
            continue
        x = x - x.mean(0)
        best = torch.linalg.svdvals(x)[:4].square().sum()
        q, _ = torch.linalg.qr(down.T)
        assert torch.allclose(down @ down.T, torch.eye(4), atol=1e-3), name
        assert (x @ q).square().sum() > 0.9 * best, name
        checked += 1
    assert checked >= 20
    again = kit.make_run(project, tiny_sd15, config, "eva-again")
    shutil.copytree(run.checkpoints_dir / "step-000001", again.checkpoints_dir / "step-000001")
    monkeypatch.setattr(eva, "look", lambda *a: pytest.fail("looked again"))
    kit.run_job_here(again)
    last = "checkpoints/step-000002/lora.safetensors"
    assert kit.tensor_hash(again.path / last) == kit.tensor_hash(run.path / last)
