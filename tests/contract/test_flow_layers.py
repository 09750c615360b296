"""What the plan and `verify` know of every flow family's layers, from headers alone, against the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_kit
import torch
import train_kit as kit
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from loratui.config.schema import NetworkConfig
from loratui.families.detect import detect
from loratui.families.protocol import Family, Parts, load_family
from loratui.families.spec import FAMILIES
from loratui.plan.family_checks import check_family
from loratui.plan.sizes import sizes
from loratui.train.adapter import Adapter
from loratui.train.export import export_lora
from loratui.weights.base_layers import read_layers
from loratui.weights.header import read_header
from loratui.weights.verify import verify_file

FLOW = [spec.name for spec in FAMILIES if spec.flow]


@pytest.fixture(scope="module", params=FLOW)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def base(name: str, request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(f"tiny_{name}")
    return found


@pytest.fixture(scope="module")
def file(name: str, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same transformer in the original's layout, alone."""
    tensors: dict[str, torch.Tensor] = {}
    for path in (base / "transformer").glob("*.safetensors"):
        tensors |= load_file(path)
    target = tmp_path_factory.mktemp("file") / "model.safetensors"
    original = tiny_kit.tiny(name).original(tensors)
    save_file({f"model.diffusion_model.{n}": t.contiguous() for n, t in original.items()}, target)
    return target


@pytest.fixture(scope="module")
def lora(name: str, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of all layers, written as a run writes it."""
    family = load_family(name)
    parts = family.load(base, torch.float32)
    adapter = Adapter(family, parts, NetworkConfig(rank=4, alpha=4.0, target="full"), seed=3)
    path = tmp_path_factory.mktemp("lora") / "lora.safetensors"
    export_lora(path, adapter.network_tensors(), "fp32", family.metadata(parts))
    return path


def built(family: Family, parts: Parts, target: str) -> tuple[int, int, int]:
    """(modules of the file, trained numbers, numbers of the denoiser) of the network itself."""
    whole = sum(t.numel() for t in parts.denoiser.state_dict().values())
    adapter = Adapter(family, parts, NetworkConfig(rank=6, target=target), seed=3)  # type: ignore[arg-type]
    names = {slot.name for slot in adapter.slots}
    return len(names), sum(p.numel() for p in adapter.parameters()), whole


@pytest.mark.parametrize("target", ["attention", "attention+mlp", "full"])
def test_the_plan_counts_what_the_network_trains(name: str, base: Path, file: Path, target: str) -> None:
    family = load_family(name)
    expected = built(family, family.load(base, torch.float32), target)
    for source in (base, file):
        found = sizes(source, name, NetworkConfig(rank=6, target=target))  # type: ignore[arg-type]
        assert found is not None and found.exact
        assert (found.layers, found.lora) == expected[:2], source.name
        assert found.denoiser in {expected[2], _numbers(source)}


def test_blocks_to_swap_are_those_of_the_base(name: str, base: Path, file: Path) -> None:
    """Counted from headers, as the family finds them; one more is refused before anything is loaded."""
    family = load_family(name)
    count = len(family.blocks(family.load(base, torch.float32).denoiser))
    for source in (base, file):
        found = sizes(source, name, NetworkConfig())
        assert found is not None and found.blocks == count
        for asked in (count, count + 1):
            config = kit.tiny_config(memory__blocks_to_swap=asked, model__family=name)
            said = [p for p in check_family(config, name, source, detect(source)) if "blocks" in p.code]
            wrong = [("error", {"memory.blocks_to_swap": count})] if asked > count else []
            assert [(p.severity, p.fix) for p in said] == wrong, source.name


def _numbers(path: Path) -> int:
    """Of a file: originals may hold tables that diffusers computes."""
    return 0 if path.is_dir() else sum(t.numel() for t in load_file(path).values())


def test_folder_and_file_have_the_same_layers(name: str, base: Path, file: Path) -> None:
    one, two = read_layers(base, name), read_layers(file, name)
    assert one is not None and two is not None
    assert one.shapes == two.shapes and one.blocks == two.blocks


def test_a_right_file_fits_its_base(name: str, base: Path, file: Path, lora: Path) -> None:
    for source in (base, file):
        found = verify_file(lora, source)
        assert found.ok and not found.problems, found.problems


def test_wrong_shapes_are_named(name: str, base: Path, file: Path, lora: Path, tmp_path: Path) -> None:
    """Names alone would pass; both sides of the one that does not fit are said."""
    tensors = load_arrays(lora)
    key = next(k for k in tensors if k.endswith(("lora_A.weight", "lora_down.weight")))
    tensors[key] = np.zeros((4, tensors[key].shape[1] + 2), np.float32)
    bad = tmp_path / "bad.safetensors"
    save_arrays(tensors, bad, read_header(lora).metadata)
    for source in (base, file):
        found = verify_file(bad, source)
        said = [p.message for p in found.problems if p.code == "wrong-shape"]
        assert not found.ok and len(said) == 1 and "1 modules" in said[0]
        assert key.rpartition(".lora_")[0] in said[0] and f"({tensors[key].shape[1]} to" in said[0]


def test_a_layer_that_the_base_lacks_is_named(name: str, base: Path, lora: Path, tmp_path: Path) -> None:
    """A LoRA for more blocks than the base has."""
    tensors = load_arrays(lora)
    key = next(k for k in tensors if "1." in k or "_1_" in k)
    more = {
        k.replace("1", "7", 1): v for k, v in tensors.items() if k.startswith(key.rpartition(".lora_")[0])
    }
    metadata = {k: v for k, v in read_header(lora).metadata.items() if k != "loratui_structure"}
    bad = tmp_path / "more.safetensors"
    save_arrays({**tensors, **more}, bad, metadata)
    found = verify_file(bad, base)
    assert "no-layer" in {p.code for p in found.problems} and not found.ok


def test_blocks_that_differ_are_found_without_a_base(tmp_path: Path) -> None:
    tensors = {}
    for n in range(6):
        start = f"transformer.transformer_blocks.{n}.attn.to_q"
        tensors[f"{start}.lora_A.weight"] = np.zeros((4, 30 if n == 3 else 32), np.float32)
        tensors[f"{start}.lora_B.weight"] = np.zeros((64 if n == 5 else 32, 4), np.float32)
    path = tmp_path / "odd.safetensors"
    save_arrays(tensors, path, {"loratui_family": "sd3"})
    found = verify_file(path)
    said = [p.message for p in found.problems if p.code == "wrong-shape"]
    assert len(said) == 1 and "1 modules" in said[0] and "blocks.3." in said[0]
