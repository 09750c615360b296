"""Merge, resize, extract, average, metadata: the weight change is what it should be, and the files load."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import train_kit as kit
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from loratui.cli import main
from loratui.config.schema import NetworkConfig
from loratui.errors import WeightsError
from loratui.families.protocol import load_family
from loratui.train.adapter import Adapter
from loratui.train.export import export_lora
from loratui.weights.header import read_header
from loratui.weights.operations import average, extract, merge_into_base, merge_loras, resize
from loratui.weights.tensors import _FLOAT8, Entry, write
from loratui.weights.updates import open_lora
from loratui.weights.verify import verify_file

FAMILIES = ("sd15", "sd2", "sdxl")


def make_lora(folder: Path, base: Path, family: str, name: str, seed: int, **network) -> Path:
    """A LoRA with random numbers in it, as the trainer exports it."""
    kind = load_family(family)
    parts = kind.load(base, torch.float32)
    settings = {"rank": 4, "alpha": 3.0, "target": "full+conv", "conv_rank": 2, "text_encoder": True}
    adapter = Adapter(kind, parts, NetworkConfig(**(settings | network)), seed)
    torch.manual_seed(seed)
    for parameter in adapter.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    path = folder / f"{name}.safetensors"
    export_lora(path, adapter.tensors(), "fp32", kind.metadata(parts))
    return path


def deltas(path: Path) -> dict[str, np.ndarray]:
    lora = open_lora(path)
    return {name: lora.update(name).delta() for name in lora.names}


@pytest.fixture(scope="module")
def bases(tiny_sd15: Path, tiny_sd2: Path, tiny_sdxl: Path) -> dict[str, Path]:
    return {"sd15": tiny_sd15, "sd2": tiny_sd2, "sdxl": tiny_sdxl}


@pytest.fixture(scope="module", params=FAMILIES)
def files(request: pytest.FixtureRequest, bases, tmp_path_factory: pytest.TempPathFactory):
    """(family, base folder, two LoRAs of it)."""
    folder = tmp_path_factory.mktemp(request.param)
    base = bases[request.param]
    return request.param, base, [make_lora(folder, base, request.param, f"l{n}", n) for n in (1, 2)]


def original_of(family: str, folder: Path, path: Path) -> Path:
    """The base as an original-layout file."""
    import test_families_sdxl as xl
    import test_families_single_file as single

    tensors = xl.to_original(folder) if family == "sdxl" else single.to_original(folder, family == "sd2")
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("layout", ["folder", "file"])
def test_a_merged_base_computes_what_the_network_did(files, tmp_path: Path, layout: str) -> None:
    family, folder, (first, second) = files
    if layout == "file" and family != "sd15":
        pytest.skip("the tiny base has other heads than a file of its size is taken to have")
    base = folder if layout == "folder" else original_of(family, folder, tmp_path / "b.safetensors")
    target = tmp_path / ("merged" if layout == "folder" else "merged.safetensors")
    merge_into_base(base, [(first, 1.0), (second, -0.5)], target)
    kind = load_family(family)
    plain, merged = kind.load(base, torch.float32), kind.load(target, torch.float32)
    adapter = Adapter(
        kind, plain, NetworkConfig(rank=4, alpha=3.0, target="full+conv", conv_rank=2, text_encoder=True), 1
    )
    sums = {n: d.copy() for n, d in deltas(first).items()}
    for name, delta in deltas(second).items():
        sums[name] -= 0.5 * delta
    hosts = {"lora_unet": merged.denoiser, **merged.text_encoders}
    for slot in adapter.slots:
        before = slot.layer.get_base_layer().weight.double().numpy()
        after = hosts[slot.host].get_submodule(slot.module).weight.double().numpy()
        wanted = before + sums[slot.name].reshape(before.shape)
        assert np.abs(after - wanted).max() <= 1e-6 * np.abs(wanted).max(), slot.name
        assert np.abs(after - before).max() > 1e-4
    touched = {(s.host, f"{s.module}.weight") for s in adapter.slots}
    fresh = kind.load(base, torch.float32)
    for key, host in {"lora_unet": fresh.denoiser, **fresh.text_encoders}.items():
        for name, tensor in host.state_dict().items():
            if (key, name) not in touched:
                assert torch.equal(tensor, hosts[key].state_dict()[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_has_a_place_in_an_original_file(family: str, bases, tmp_path: Path) -> None:
    """By names alone, with fused q, k and v; both layouts of one base hold the same weights there."""
    from loratui.weights.consumers import structure_from_text
    from loratui.weights.places import open_base

    folder = bases[family]
    kind = load_family(family)
    parts = kind.load(folder, torch.float32)
    structure = structure_from_text(kind.metadata(parts)["loratui_structure"], family)
    one = open_base(folder, structure)
    two = open_base(original_of(family, folder, tmp_path / "o.safetensors"), structure)
    assert one.places.keys() == two.places.keys() and len(one.places) > 80
    assert any(place.third > 0 for _, place in two.places.values()) == (family != "sd15")
    for name in one.places:
        a, b = one.weight(name), two.weight(name)
        assert np.array_equal(a.reshape(-1), b.reshape(-1)), name


def test_merged_loras_add_up(files, tmp_path: Path) -> None:
    _, _, (first, second) = files
    done = merge_loras([(first, 0.7), (second, 0.4)], tmp_path / "m.safetensors")
    a, b, both = deltas(first), deltas(second), deltas(tmp_path / "m.safetensors")
    assert done.ranks == (4, 8) and verify_file(done.file).ok
    for name, delta in both.items():
        wanted = 0.7 * a[name] + 0.4 * b[name]
        assert np.abs(delta - wanted).max() <= 1e-6 * np.abs(wanted).max()


def test_resizing_is_the_best_approximation(files, tmp_path: Path) -> None:
    _, _, (first, second) = files
    whole = merge_loras([(first, 1.0), (second, 1.0)], tmp_path / "w.safetensors").file
    done = resize(whole, tmp_path / "r.safetensors", rank=3)
    assert done.ranks == (3, 3) and verify_file(done.file).ok and done.kept[0] < 0.999
    before, after = deltas(whole), deltas(done.file)
    for name, delta in before.items():
        s = np.linalg.svd(delta, compute_uv=False)
        error = np.linalg.norm(delta - after[name])
        assert error == pytest.approx(np.sqrt((s[3:] ** 2).sum()), rel=1e-3, abs=1e-6), (
            name
        )  # Eckart and Young
    same = resize(whole, tmp_path / "s.safetensors", energy=1.0)
    assert same.kept[0] == pytest.approx(1.0) and same.ranks[1] <= 8
    few = resize(whole, tmp_path / "f.safetensors", energy=0.6)
    assert few.ranks[0] < few.ranks[1] <= 8 and few.kept[0] >= 0.6
    after = deltas(few.file)
    for name, delta in before.items():
        kept = 1 - (np.linalg.norm(delta - after[name]) / np.linalg.norm(delta)) ** 2
        assert kept >= 0.6 - 1e-6


@pytest.mark.parametrize("kind", ["loha", "lokr"])
def test_other_networks_become_loras(kind: str, tiny_sd15: Path, tmp_path: Path) -> None:
    source = make_lora(tmp_path, tiny_sd15, "sd15", kind, 3, kind=kind, text_encoder=False)
    done = resize(source, tmp_path / "r.safetensors", energy=1.0)
    found = verify_file(done.file)
    assert found.network == "lora" and set(found.matched) == {"diffusers", "comfyui", "a1111"} and found.ok
    before, after = deltas(source), deltas(done.file)
    for name, delta in before.items():
        assert np.abs(delta - after[name]).max() <= 2e-6 * max(1e-3, np.abs(delta).max())


def test_extracting_finds_the_lora_that_was_merged(files, tmp_path: Path) -> None:
    family, base, (first, _) = files
    merge_into_base(base, [(first, 1.0)], tmp_path / "tuned")
    tuned = tmp_path / "tuned"
    done = extract(base, tuned, tmp_path / "e.safetensors", family, rank=4, conv_rank=2, dtype="fp32")
    wanted, found = deltas(first), deltas(done.file)
    # The base is stored in fp32, so the difference of two weights has only their precision.
    assert set(wanted) == set(found)
    for name, delta in wanted.items():
        assert np.linalg.norm(delta - found[name]) <= 1e-4 * np.linalg.norm(delta), name
    assert (
        extract(base, tmp_path / "tuned", tmp_path / "n.safetensors", family, rank=4).modules < done.modules
    )
    assert verify_file(done.file).ok
    with pytest.raises(WeightsError, match="differs"):
        extract(base, base, tmp_path / "x.safetensors", family, rank=4)


def test_a_dora_merges_into_a_base_only(tiny_sd15: Path, tmp_path: Path) -> None:
    path = make_lora(tmp_path, tiny_sd15, "sd15", "d", 5, kind="dora", text_encoder=False)
    for broken in (
        lambda: resize(path, tmp_path / "r.safetensors", rank=2),
        lambda: merge_loras([(path, 1.0), (path, 1.0)], tmp_path / "r.safetensors"),
    ):
        with pytest.raises(WeightsError, match="DoRA"):
            broken()
    merge_into_base(tiny_sd15, [(path, 1.0)], tmp_path / "merged")
    kind = load_family("sd15")
    plain, merged = kind.load(tiny_sd15, torch.float32), kind.load(tmp_path / "merged", torch.float32)
    settings = NetworkConfig(kind="dora", rank=4, alpha=3.0, target="full+conv", conv_rank=2)
    adapter = Adapter(kind, plain, settings, 1)
    adapter.load(load_file(path))
    adapter.train(False)
    x, t, text = torch.randn(1, 4, 8, 8), torch.tensor([400]), {"prompt_embeds": torch.randn(1, 7, 32)}
    with torch.no_grad():
        assert torch.allclose(kind.predict(merged, x, t, text), kind.predict(plain, x, t, text), atol=1e-4)


def test_the_mean_of_checkpoints(files, tmp_path: Path) -> None:
    _, _, (first, second) = files
    average([first, second], tmp_path / "a.safetensors")
    a, b, mean = (load_file(p) for p in (first, second, tmp_path / "a.safetensors"))
    assert mean.keys() == a.keys()
    assert all(torch.allclose(mean[k], (a[k] + b[k]) / 2, atol=1e-7) for k in a)
    assert verify_file(tmp_path / "a.safetensors").ok
    del b[next(iter(b))]
    save_file(b, tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match="differ in 1 tensors"):
        average([first, tmp_path / "b.safetensors"], tmp_path / "c.safetensors")


def test_files_of_different_families_do_not_mix(bases, tmp_path: Path) -> None:
    one = make_lora(tmp_path, bases["sd15"], "sd15", "one", 1)
    two = make_lora(tmp_path, bases["sdxl"], "sdxl", "two", 1)
    with pytest.raises(WeightsError, match="different families"):
        merge_loras([(one, 1.0), (two, 1.0)], tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match="has no weight for"):
        merge_into_base(bases["sd15"], [(two, 1.0)], tmp_path / "m")


def test_the_command_line(files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, base, (first, second) = files

    def run(*words: object) -> dict:
        assert main([*map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    merged = run("merge", f"{first}=0.5", second, "--out", tmp_path / "m")
    assert Path(merged["file"]).name == "m.safetensors" and merged["ranks"] == [4, 8]
    resized = run("resize", merged["file"], "--rank", 2, "--dtype", "fp16")
    assert resized["rank"] == 2 and 0 < resized["kept"]["mean"] < 1
    folder = run("merge", first, "--into", base, "--out", tmp_path / "base")
    assert (Path(folder["file"]) / "model_index.json").is_file()
    found = run("extract", base, folder["file"], "--rank", 4, "--conv-rank", 2)
    assert found["modules"] == open_lora(first).names.__len__()
    assert run("average", first, second, "--out", tmp_path / "mean")["modules"] > 0
    assert main(["resize", merged["file"], "--rank", "2"]) == 2, "the file exists already"
    assert main(["resize", merged["file"]]) == 2
    assert main(["merge", f"{first}=much"]) == 2
    assert main(["merge", str(first), "--into", str(base), "--out", str(base), "--force"]) == 2
    capsys.readouterr()


def test_metadata_is_edited_and_tensors_are_not(files, tmp_path: Path, capsys) -> None:
    _, _, (first, _) = files
    Image.new("RGB", (900, 600), "red").save(tmp_path / "p.png")
    words = ["metadata", str(first), "--out", str(tmp_path / "m.safetensors")]
    words += ["--thumbnail", str(tmp_path / "p.png"), "--set", "modelspec.title=Neu & schön"]
    assert (
        main([*words, "--set", "modelspec.title=Neu & schön", "--remove", "modelspec.prediction_type"]) == 0
    )
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        found = file.metadata()
    assert found["modelspec.title"] == "Neu & schön" and "modelspec.prediction_type" not in found
    assert (
        found["modelspec.thumbnail"].startswith("data:image/jpeg;base64,")
        and len(found["modelspec.thumbnail"]) < 9000
    )
    assert kit.tensor_hash(tmp_path / "m.safetensors") == kit.tensor_hash(first) == found["sshs_model_hash"]
    assert main(["metadata", str(tmp_path / "m.safetensors"), "--strip"]) == 0
    stripped = read_header(tmp_path / "m.safetensors").metadata
    assert "modelspec.title" not in stripped and "ss_base_model_version" in stripped
    assert verify_file(tmp_path / "m.safetensors").ok
    assert main(["metadata", str(first), "--set", "nonsense"]) == 2
    capsys.readouterr()


def test_float8_values_are_torchs() -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    for name, kind in (("F8_E4M3", torch.float8_e4m3fn), ("F8_E5M2", torch.float8_e5m2)):
        theirs = codes.view(kind).float().numpy()
        assert np.array_equal(_FLOAT8[name], theirs, equal_nan=True)


def test_hashes_are_those_of_the_exporter(tmp_path: Path) -> None:
    values = {f"lora_unet_x{n}.lora_down.weight": torch.randn(300, 701) for n in range(4)}
    export_lora(tmp_path / "a.safetensors", values, "fp16", {"one": "1"})
    entries = {n: Entry.of(t.numpy(), "fp16") for n, t in values.items()}
    write(tmp_path / "b.safetensors", entries, {"two": "2"})
    one, two = (read_header(tmp_path / f"{n}.safetensors").metadata for n in "ab")
    assert one["sshs_model_hash"] == two["sshs_model_hash"]
    assert one["sshs_legacy_hash"] == two["sshs_legacy_hash"]
