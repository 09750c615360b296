"""Single files of flow families: the same numbers as the diffusers folder, whole or in parts, bf16 or fp8."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_kit
import torch
from safetensors.torch import load_file, save_file

from loratui.errors import BaseModelError
from loratui.families.detect import detect
from loratui.families.layouts import ldm
from loratui.families.protocol import load_family

FILES = tuple(tiny_kit.ORIGINAL)
Tensors = dict[str, torch.Tensor]


def vae_tensors(name: str, folder: Path) -> Tensors:
    """The codec under the original's names: latent diffusion's, unless the family says otherwise."""
    own = getattr(tiny_kit.tiny(name), "codec_tensors", None)
    if own is not None:
        return dict(own(folder))
    config = json.loads((folder / "vae" / "config.json").read_text())
    modules = ldm.vae_modules(config)
    tensors = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    return {ldm.vae_original_name(n, modules): t for n, t in tensors.items()}


@pytest.fixture(scope="module", params=FILES)
def both(request: pytest.FixtureRequest) -> tuple[str, Path, Tensors]:
    """(family, folder, the transformer under the original's names)."""
    folder = request.getfixturevalue(f"tiny_{request.param}")
    tensors = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    return request.param, folder, tiny_kit.tiny(request.param).original(tensors)


def same(name: str, one: Any, two: Any, exact: bool = True) -> None:
    for network in ("denoiser", "vae"):
        mine, theirs = getattr(one, network).state_dict(), getattr(two, network).state_dict()
        assert mine.keys() == theirs.keys()
        for key in mine:
            assert torch.allclose(
                mine[key], theirs[key], atol=0 if exact else 0.2, rtol=0 if exact else 0.1
            ), key
    family = load_family(name)
    with torch.no_grad():
        a, b = (family.encode_captions(parts, ["a red fox"])[0] for parts in (one, two))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert (one.prediction, one.latent_factor, one.patch) == (two.prediction, two.latent_factor, two.patch)


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", ""])
def test_the_transformer_alone_with_parts_from_elsewhere(both: Any, tmp_path: Path, prefix: str) -> None:
    name, folder, tensors = both
    path, vae = tmp_path / "model.safetensors", tmp_path / "ae.safetensors"
    save_file({prefix + n: t.contiguous() for n, t in tensors.items()}, path)
    save_file({n: t.contiguous() for n, t in vae_tensors(name, folder).items()}, vae)
    found = detect(path)
    assert (found.family, found.layout, found.prediction) == (name, "original", "flow")
    assert {p.code for p in found.problems} == {"no-vae", "no-text"}
    family = load_family(name)
    whole = family.load(folder, torch.float32)
    same(name, whole, family.load(path, torch.float32, vae=vae, text=(folder,)))
    with pytest.raises(BaseModelError, match="no VAE"):
        family.load(path, torch.float32, text=(folder,))
    with pytest.raises(BaseModelError, match="text encoder") as error:
        family.load(path, torch.float32, vae=vae)
    assert "model.text" in error.value.advice


@pytest.mark.parametrize("scaled", [False, True])
def test_fp8_files(both: Any, tmp_path: Path, scaled: bool) -> None:
    """With and without a scale beside each weight."""
    name, folder, tensors = both
    stored: Tensors = {}
    for key, tensor in tensors.items():
        if tensor.dim() != 2 or not key.endswith("weight"):
            stored[key] = tensor.contiguous()
            continue
        scale = tensor.abs().max() / 400 if scaled else torch.tensor(1.0)
        stored[key] = (tensor / scale).to(torch.float8_e4m3fn).contiguous()
        if scaled:
            stored[key.removesuffix("weight") + "scale_weight"] = scale.float()
    path = tmp_path / "fp8.safetensors"
    save_file(stored, path)
    family = load_family(name)
    parts = family.load(path, torch.bfloat16, vae=folder, text=(folder,))
    same(name, family.load(folder, torch.bfloat16), parts, exact=False)


def test_encoders_as_single_files(both: Any, tmp_path: Path) -> None:
    """As ComfyUI's users have them: each encoder a file, the tokenizer a folder."""
    name, folder, tensors = both
    path = tmp_path / "model.safetensors"
    save_file({n: t.contiguous() for n, t in tensors.items()}, path)
    text: list[Path] = []
    for part in sorted(folder.glob("text_encoder*")):
        if name == "sd3" and part.name != "text_encoder_3":
            continue  # tiny CLIP-L and CLIP-G are told apart by their folders; true ones by their widths
        file = tmp_path / f"{part.name}.safetensors"
        weights = load_file(part / "model.safetensors")
        clip = any(n.endswith("layer_norm1.weight") for n in weights)
        plain = {
            ("" if n.startswith("text_") or not clip else "text_model.") + n: t for n, t in weights.items()
        }
        save_file(plain, file)
        text.append(file)
    text += [
        *sorted(folder.glob("tokenizer*")),
        *([folder] if len(list(folder.glob("text_encoder*"))) > 1 else []),
    ]
    family = load_family(name)
    parts = family.load(path, torch.float32, vae=folder, text=text)
    same(name, family.load(folder, torch.float32), parts)


def test_a_missing_tokenizer_is_named(both: Any, tmp_path: Path) -> None:
    name, folder, _ = both
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    gone = sorted(copy.glob("tokenizer*"))[-1]  # T5's: CLIP's is packaged
    shutil.rmtree(gone)
    with pytest.raises(BaseModelError, match="tokenizer") as error:
        load_family(name).load(copy, torch.float32)
    assert "tokenizer.json" in error.value.advice and gone.name in error.value.advice


def test_flux_is_converted_as_diffusers_does() -> None:
    """Every row of every matrix ends in the same place, at the true width: diffusers knows no other."""
    from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers

    from loratui.families.flux import convert

    rows = {"img_in": 3072, "txt_in": 3072, "final_layer.linear": 64, "final_layer.adaLN_modulation.1": 6144}
    for kind in ("time", "vector", "guidance"):
        rows |= {f"{kind}_in.in_layer": 3072, f"{kind}_in.out_layer": 3072}
    for side in ("img", "txt"):
        start = f"double_blocks.0.{side}_"
        rows |= {
            f"{start}attn.qkv": 9216, f"{start}attn.proj": 3072, f"{start}mlp.0": 12288,
            f"{start}mlp.2": 3072, f"{start}mod.lin": 18432,
        }  # fmt: skip
    rows |= {"single_blocks.0.linear1": 21504, "single_blocks.0.linear2": 3072}
    rows |= {"single_blocks.0.modulation.lin": 9216}
    tensors = {}
    for n, (name, count) in enumerate(rows.items()):
        tensors[f"{name}.weight"] = torch.arange(count, dtype=torch.float64)[:, None] + 1e6 * n
        tensors[f"{name}.bias"] = torch.arange(count, dtype=torch.float64) - 1e6 * n
    norms = [f"double_blocks.0.{side}_attn.norm" for side in ("img", "txt")] + ["single_blocks.0.norm"]
    for n, norm in enumerate(norms):
        tensors[f"{norm}.query_norm.scale"] = torch.full((128,), 2.0 * n)
        tensors[f"{norm}.key_norm.scale"] = torch.full((128,), 2.0 * n + 1)
    theirs = convert_flux_transformer_checkpoint_to_diffusers(dict(tensors))
    ours = convert(tensors, {name: tuple(t.shape) for name, t in theirs.items()})
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_flux_files_have_the_reference_trainers_modules() -> None:
    """At true size (meta tensors) names and sides equal the golden list, fused ones and CLIP-L too."""
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    lines = (Path(__file__).parent.parent / "data" / "golden" / "flux1.tsv").read_text().splitlines()
    golden = {name: (down, up) for name, down, up in (line.split("\t") for line in lines)}
    family = load_family("flux")
    with torch.device("meta"):
        hosts = {
            "lora_unet": FluxTransformer2DModel(guidance_embeds=True),
            "lora_te1": CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072)),
        }
    into: dict[str, int] = {}
    out: dict[str, int] = {}
    for key, host in hosts.items():
        listed = family.target_modules(host, "full") if key == "lora_unet" else family.text_modules(host)
        for module in listed:
            name, weight = family.kohya_name(host, key, module), host.get_submodule(module).weight
            assert into.setdefault(name, weight.shape[1]) == weight.shape[1]
            out[name] = out.get(name, 0) + weight.shape[0]
    assert {name: (f"8x{into[name]}", f"{out[name]}x8") for name in into} == golden
