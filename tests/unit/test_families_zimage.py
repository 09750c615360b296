"""Z-Image: files with diffusers' names, refusals, the names that its LoRA files may have."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from loratui.config.presets import list_presets
from loratui.config.schema import RunConfig
from loratui.errors import BaseModelError
from loratui.families.detect import Detected, detect
from loratui.families.protocol import load_family
from loratui.families.spec import family_spec
from loratui.plan.cards import Card
from loratui.plan.flow_checks import check_distilled
from loratui.project.bases import offspring
from loratui.project.recommending import recommend
from loratui.weights.convert import convert_file
from loratui.weights.layouts import names_of
from loratui.weights.verify import verify_file

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


def test_a_file_with_diffusers_names(tiny_zimage: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    shutil.copy(tiny_zimage / TRANSFORMER, path)
    assert detect(path).family == "zimage"
    family = load_family("zimage")
    mine = family.load(path, torch.float32, vae=tiny_zimage, text=(tiny_zimage,)).denoiser
    theirs = family.load(tiny_zimage, torch.float32).denoiser
    assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in mine.state_dict().items())
    assert {k: mine.config[k] for k in ("n_heads", "n_layers", "n_refiner_layers", "cap_feat_dim")} == {
        k: theirs.config[k] for k in ("n_heads", "n_layers", "n_refiner_layers", "cap_feat_dim")
    }


def test_the_true_size_is_read_from_a_file() -> None:
    """Settings that come from shapes are diffusers' own defaults, which are the true model's."""
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

    from loratui.families.zimage import infer

    with torch.device("meta"):
        true = ZImageTransformer2DModel()
    found = infer(dict(true.state_dict()))
    found["axes_dims"] = list(found["axes_dims"])
    assert all(true.config[k] == v for k, v in found.items() if k != "axes_lens")
    assert sum(p.numel() for p in true.parameters()) == 6_154_908_736
    listed = load_family("zimage").target_modules(true, "full")
    assert set(listed) == set(names_of("zimage").parts)


def test_the_omni_model_and_another_qwen3_are_refused(tiny_zimage: Path, tmp_path: Path) -> None:
    tensors = load_file(tiny_zimage / TRANSFORMER)
    save_file(tensors | {"siglip_pad_token": torch.zeros(1, 96)}, tmp_path / "omni.safetensors")
    assert not detect(tmp_path / "omni.safetensors").ok
    wide = tmp_path / "wide"
    shutil.copytree(tiny_zimage, wide)
    config = json.loads((wide / "text_encoder" / "config.json").read_text())
    (wide / "text_encoder" / "config.json").write_text(json.dumps(config | {"hidden_size": 4096}))
    with pytest.raises(BaseModelError, match="4096 wide") as error:
        load_family("zimage").load(wide, torch.float32)
    assert "4B" in error.value.advice


def test_captions_are_read_without_a_chat_template_too(tiny_zimage: Path, tmp_path: Path) -> None:
    """ComfyUI's users take Qwen3's tokenizer from anywhere: the chat is its own then."""
    plain = tmp_path / "plain"
    shutil.copytree(tiny_zimage, plain)
    (plain / "tokenizer" / "chat_template.jinja").unlink()
    family = load_family("zimage")
    one, two = (
        family.encode_captions(family.load(base, torch.float32), ["a red fox"])[0]
        for base in (plain, tiny_zimage)
    )
    assert all(torch.equal(one[k], two[k]) for k in one)


def lora(path: Path, prefix: str) -> None:
    """A file as other trainers write it: A and B of rank 2 for every layer of the tiny base."""
    blocks = {"layers": 2, "noise_refiner": 1, "context_refiner": 1}
    tensors = {}
    for layer in names_of("zimage", json.dumps(blocks)).parts:
        out, into = 96, 96
        if "feed_forward" in layer:
            out, into = (96, 256) if layer.endswith("w2") else (256, 96)
        if "adaLN" in layer:
            out, into = 384, 96
        tensors[f"{prefix}{layer}.lora_A.weight"] = torch.randn(2, into)
        tensors[f"{prefix}{layer}.lora_B.weight"] = torch.randn(out, 2)
    save_file(tensors, path, {"loratui_structure": json.dumps(blocks)})


@pytest.mark.parametrize("prefix", ["transformer.", "diffusion_model."])
def test_files_of_other_trainers_are_read_in_diffusers(
    tiny_zimage: Path, tmp_path: Path, prefix: str
) -> None:
    """Both prefixes count as matched, and the kohya form changes the base by the same in diffusers."""
    from diffusers.pipelines.z_image.pipeline_z_image import ZImagePipeline

    given, kohya = tmp_path / "given.safetensors", tmp_path / "kohya.safetensors"
    lora(given, prefix)
    found = verify_file(given)
    assert found.ok and found.family == "zimage"
    assert all(n == of == found.modules for n, of in found.matched.values())
    convert_file(given, kohya, "kohya")
    assert any("attention_qkv" in name for name in load_file(kohya))
    changed = []
    for path in (given, kohya):
        pipe = ZImagePipeline.from_pretrained(tiny_zimage, local_files_only=True)
        pipe.load_lora_weights(str(tmp_path), weight_name=path.name, local_files_only=True)
        pipe.fuse_lora()
        pipe.unload_lora_weights()
        changed.append(pipe.transformer.state_dict())
    bare = load_file(tiny_zimage / TRANSFORMER)
    assert all(torch.allclose(changed[0][k], changed[1][k], atol=1e-4) for k in bare)
    moved = [k for k in bare if not torch.equal(changed[0][k], bare[k])]
    assert len(moved) == found.modules == len(names_of("zimage", json.dumps(
        {"layers": 2, "noise_refiner": 1, "context_refiner": 1})).parts)  # fmt: skip


def test_the_plan_knows_turbo_by_its_name() -> None:
    spec = family_spec("zimage")
    assert spec is not None

    def codes(base: str, **changes: object) -> set[str]:
        config = RunConfig()
        model = replace(config.model, base=base, adapter=str(changes.get("adapter", "")))
        samples = replace(config.samples, every=1, guidance=float(str(changes.get("guidance", 0.0))))
        config = replace(config, model=model, samples=samples)
        return {p.code for p in check_distilled(config, spec, Path(base))}

    assert codes("Tongyi-MAI/Z-Image-Turbo") == {"distilled"}
    assert codes("z_image_turbo_bf16.safetensors", guidance=4.0) == {"distilled", "distilled-guidance"}
    assert codes("/hub/models--Tongyi-MAI--Z-Image-Turbo/snapshots/0a1b") == {"distilled"}
    assert codes("z_image_turbo_bf16.safetensors", adapter="a.safetensors") == set()
    assert codes("Tongyi-MAI/Z-Image", guidance=4.0) == set()
    assert codes("z_image_de_turbo_v1_bf16.safetensors", guidance=4.0) == set()
    fp16 = replace(RunConfig(), memory=replace(RunConfig().memory, precision="fp16"))
    assert [p.code for p in check_distilled(fp16, spec, Path("x"))] == ["fp16-overflow"]


def test_turbo_has_a_preset_of_its_own() -> None:
    presets = list_presets()[0]
    for kind, name in (("", "zimage-character"), ("turbo", "zimage-turbo-character")):
        found = recommend(presets, "zimage", "character", Card(gib=24), kind)
        assert found is not None and found.preset.name == name
    assert offspring("Tongyi-MAI/Z-Image-Turbo", Detected("zimage")) == "turbo"
