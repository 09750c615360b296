"""merge, resize, extract and start_from on the files of every flow family, against the network itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_kit
import torch
import train_kit as kit
from safetensors.torch import load_file, save_file

from loratui.config.schema import NetworkConfig
from loratui.families.protocol import load_family
from loratui.families.spec import FAMILIES
from loratui.train.adapter import Adapter
from loratui.train.export import export_lora
from loratui.train.patched import Patched
from loratui.train.warmstart import start_from
from loratui.weights.convert import convert_file
from loratui.weights.header import read_header
from loratui.weights.operations import extract, merge_into_base, merge_loras, resize
from loratui.weights.updates import open_lora
from loratui.weights.verify import verify_file

FLOW = [spec.name for spec in FAMILIES if spec.flow]
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module", params=FLOW)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def base(name: str, request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(f"tiny_{name}")
    return found


def transformer(folder: Path) -> Tensors:
    found: Tensors = {}
    for path in (folder / "transformer").glob("*.safetensors"):
        found |= load_file(path)
    return found


def single(name: str, folder: Path, target: Path) -> Path:
    """The transformer in the original's layout."""
    original = tiny_kit.tiny(name).original(transformer(folder))
    save_file({f"model.diffusion_model.{n}": t.contiguous() for n, t in original.items()}, target)
    return target


def adapter_of(name: str, base: Path, seed: int) -> tuple[Adapter, dict[str, str]]:
    family = load_family(name)
    parts = family.load(base, torch.float32)
    adapter = Adapter(family, parts, NetworkConfig(rank=4, alpha=2.0, target="full"), seed=seed)
    for n, parameter in enumerate(adapter.parameters()):
        torch.manual_seed(seed + n)
        parameter.data = 0.1 * torch.randn_like(parameter)
    return adapter, family.metadata(parts)


@pytest.fixture(scope="module")
def two(name: str, base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Tensors]:
    """Two files as runs export them, and what the first changes, layer by layer."""
    folder, files = tmp_path_factory.mktemp("two"), []
    deltas: Tensors = {}
    for n in range(2):
        adapter, metadata = adapter_of(name, base, 100 * n)
        files.append(folder / f"{n}.safetensors")
        export_lora(files[n], adapter.network_tensors(), "fp32", metadata)
        if n == 0:
            for slot in adapter.slots:
                parts = list(adapter.network.parts(slot.layer).values())
                deltas[f"{slot.module}.weight"] = (0.5 * parts[1] @ parts[0]).detach()
    return files[0], files[1], deltas


def same(found: Tensors, expected: Tensors, limit: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.allclose(found[key], tensor, atol=limit, rtol=limit), key


def changed(base: Path, deltas: Tensors, strength: float = 1.0) -> Tensors:
    return {k: t + strength * deltas[k] if k in deltas else t for k, t in transformer(base).items()}


def file_deltas(path: Path) -> Tensors:
    return {
        f"{update.name.removeprefix('transformer.')}.weight": torch.from_numpy(update.delta()).float()
        for update in open_lora(path)
    }


def test_merged_into_a_folder_and_a_file(name: str, base: Path, two, tmp_path: Path) -> None:
    one, _, deltas = two
    done = merge_into_base(base, [(one, 0.7)], tmp_path / "merged")
    assert done.modules == len(deltas)
    same(transformer(tmp_path / "merged"), changed(base, deltas, 0.7))
    file = single(name, base, tmp_path / "base.safetensors")
    merge_into_base(file, [(one, 0.7)], tmp_path / "merged.safetensors")
    expected = single(name, tmp_path / "merged", tmp_path / "expected.safetensors")
    same(load_file(tmp_path / "merged.safetensors"), load_file(expected))


def test_merged_loras_add_up_in_either_form(name: str, two, tmp_path: Path) -> None:
    one, other, deltas = two
    more = file_deltas(other)
    assert file_deltas(one).keys() == deltas.keys() == more.keys()
    expected = {k: 0.5 * deltas[k] - 1.5 * more[k] for k in deltas}
    mixed = tmp_path / "other-form.safetensors"
    convert_file(other, mixed, "peft" if verify_file(other).format == "kohya" else "kohya")
    for second in (other, mixed):
        done = merge_loras([(one, 0.5), (second, -1.5)], tmp_path / "sum.safetensors")
        same(file_deltas(done.file), expected)
        found = verify_file(done.file)
        assert found.ok and found.format == verify_file(one).format


def test_resized_to_more_and_to_less(name: str, two, tmp_path: Path) -> None:
    one, other, deltas = two
    both = merge_loras([(one, 1.0), (other, 1e-3)], tmp_path / "both.safetensors").file
    small = resize(both, tmp_path / "small.safetensors", rank=4)
    assert small.ranks == (4, 4) and small.kept[0] > 0.999
    found = verify_file(small.file)
    assert found.ok and found.rank == 4 and found.modules == verify_file(one).modules
    for key, delta in file_deltas(small.file).items():
        assert (delta - deltas[key]).norm() < 0.02 * deltas[key].norm(), key


def test_extracted_from_folder_and_file(name: str, base: Path, two, tmp_path: Path) -> None:
    one, _, deltas = two
    merge_into_base(base, [(one, 1.0)], tmp_path / "tuned")
    files = [single(name, f, tmp_path / f"{f.name}.safetensors") for f in (base, tmp_path / "tuned")]
    for n, (old, new) in enumerate([(base, tmp_path / "tuned"), (files[0], files[1])]):
        done = extract(old, new, tmp_path / f"lora{n}.safetensors", name, rank=4, dtype="fp32")
        same(file_deltas(done.file), deltas, 1e-4)
        found = verify_file(done.file, base)
        assert found.ok and found.family == name and found.modules == verify_file(one).modules


def test_a_training_starts_from_either_form(name: str, base: Path, two, tmp_path: Path) -> None:
    one, _, _ = two
    expected, _ = adapter_of(name, base, 0)
    mixed = tmp_path / "other-form.safetensors"
    convert_file(one, mixed, "peft" if verify_file(one).format == "kohya" else "kohya")
    for source in (one, mixed) if verify_file(mixed).rank == 4 else (one,):
        adapter, _ = adapter_of(name, base, 300)
        start_from(adapter, source)
        for mine, theirs in zip(adapter.slots, expected.slots, strict=True):
            pairs = [
                list(a.network.parts(s.layer).values()) for a, s in ((adapter, mine), (expected, theirs))
            ]
            a, b = (up @ down for down, up in pairs)
            assert torch.allclose(a, b, atol=1e-6), mine.module


def test_put_into_a_loaded_base_and_taken_out(name: str, base: Path, two) -> None:
    one, other, deltas = two
    family = load_family(name)
    parts = family.load(base, torch.float32)
    patched = Patched(family, parts)
    before = {k: t.clone() for k, t in parts.denoiser.state_dict().items()}
    patched.put([(one, 0.5), (other, 1.0)])
    more = file_deltas(other)
    now = {k: t for k, t in parts.denoiser.state_dict().items() if k in deltas}
    same(now, {k: before[k] + 0.5 * deltas[k] + more[k] for k in deltas})
    patched.take_out()
    assert all(torch.equal(t, before[k]) for k, t in parts.denoiser.state_dict().items())


def test_golden_names_of_flux_are_worked_on(tmp_path: Path) -> None:
    """A file with the modules of the reference trainer's at true size, CLIP-L's too."""
    lines = (Path(__file__).parent.parent / "data" / "golden" / "flux1.tsv").read_text().splitlines()
    tensors: Tensors = {}
    for module, down, up in (line.split("\t") for line in lines):
        if "_1_" not in module and "layers_0" not in module:
            continue
        tensors[f"{module}.lora_down.weight"] = torch.ones(2, int(down[2:]))
        tensors[f"{module}.lora_up.weight"] = torch.ones(int(up[:-2]), 2)
        tensors[f"{module}.alpha"] = torch.tensor(2.0)
    path = tmp_path / "flux.safetensors"
    save_file(tensors, path)
    done = resize(path, tmp_path / "one.safetensors", rank=1)
    assert read_header(done.file).tensors.keys() == tensors.keys()
    assert verify_file(done.file).ok and done.kept == (1.0, 1.0)
    assert kit.tensor_hash(path) != kit.tensor_hash(done.file)
