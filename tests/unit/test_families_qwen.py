"""What Qwen-Image has that the other flow families have not: its codec's names, its chat, its lookalikes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from loratui.errors import BaseModelError
from loratui.families.detect import detect
from loratui.families.layouts import wan
from loratui.families.protocol import load_family
from loratui.families.spec import row_of
from loratui.weights.layouts import names_of


def test_the_codecs_names_are_those_of_diffusers_converter() -> None:
    """At the true structure; each tensor holds its own name, so that mistakes cannot cancel out."""
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
    from diffusers.models.autoencoders.autoencoder_kl_qwenimage import AutoencoderKLQwenImage

    config = row_of("qwen").packaged("vae")
    with torch.device("meta"):
        codec = AutoencoderKLQwenImage.from_config(config)
    modules = wan.vae_modules(config)
    shapes = {n: tuple(t.shape) for n, t in codec.state_dict().items()}
    theirs = {wan.vae_original_name(name, modules): name for name in shapes}
    assert len(theirs) == len(shapes) == 194
    assert convert_wan_vae_to_diffusers(dict(theirs)) == {name: name for name in shapes}
    plain = {
        **config,
        "base_dim": 1,
        "z_dim": 1,
        "dim_mult": [],
        "num_res_blocks": 0,
        "temperal_downsample": [],
    }
    assert wan.infer_vae({n: shapes[ours] for n, ours in theirs.items()}, plain) == config


def test_the_chat_before_a_caption_has_as_many_tokens_as_are_cut_off(tiny_qwen: Path) -> None:
    """What is left of an empty caption is the end of the chat alone."""
    from loratui.families import qwen

    parts = qwen.FAMILY.load(tiny_qwen, torch.float32)
    tokenizer = parts.tokenizers["qwen"]
    before, _, after = qwen.CHAT.partition("{}")
    assert len(tokenizer(before).input_ids) == qwen.BEFORE
    with torch.no_grad():
        found = qwen.FAMILY.encode_captions(parts, ["", "abc", "x" * 3000])
    ends = len(tokenizer(after).input_ids)
    assert [len(c["prompt_mask"]) for c in found] == [ends, ends + 3, qwen.TOKENS]


@pytest.mark.parametrize("start", ["model.", "model.language_model.", "language_model.model.", ""])
def test_the_text_encoder_in_every_spelling(tiny_qwen: Path, tmp_path: Path, start: str) -> None:
    """As transformers and ComfyUI have saved it over time, with the vision tower and the head in the file."""
    family = load_family("qwen")
    whole = family.load(tiny_qwen, torch.float32)
    language = whole.text_encoders["qwen"].state_dict()
    stored = {start + n: t.clone() for n, t in language.items()}
    stored |= {"visual.blocks.0.attn.proj.weight": torch.ones(2, 2), "lm_head.weight": torch.ones(2, 2)}
    path, base = tmp_path / "qwen_2.5_vl_7b.safetensors", tmp_path / "base"
    save_file(stored, path)
    shutil.copytree(tiny_qwen, base, ignore=shutil.ignore_patterns("text_encoder"))
    parts = family.load(base, torch.float32, text=(path,))
    with torch.no_grad():
        one, two = (family.encode_captions(p, ["a red fox"])[0] for p in (parts, whole))
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_whole_files_hold_all_three(tiny_qwen: Path, tmp_path: Path) -> None:
    """A file of a whole base as ComfyUI saves it; the tokenizer is in none."""
    from tiny_families import qwen as tiny

    family = load_family("qwen")
    whole = family.load(tiny_qwen, torch.float32)
    stored = load_file(tiny_qwen / "transformer" / "diffusion_pytorch_model.safetensors")
    stored = {f"model.diffusion_model.{n}": t for n, t in stored.items()}
    stored |= {f"vae.{n}": t for n, t in tiny.codec_tensors(tiny_qwen).items()}
    start = "text_encoders.qwen25_7b.transformer.model."
    stored |= {start + n: t for n, t in whole.text_encoders["qwen"].state_dict().items()}
    path = tmp_path / "whole.safetensors"
    save_file({n: t.clone() for n, t in stored.items()}, path)
    found = detect(path)
    assert (found.family, found.problems) == ("qwen", ())
    assert found.parameters == sum(p.numel() for p in whole.denoiser.parameters())
    parts = family.load(path, torch.float32, text=(tiny_qwen / "tokenizer",))
    for network in ("denoiser", "vae"):
        mine, theirs = (getattr(p, network).state_dict() for p in (parts, whole))
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.mark.parametrize("mark", ["__index_timestep_zero__", "time_text_embed.addition_t_embedding.weight"])
def test_its_edit_and_layered_models_are_refused(tiny_qwen: Path, tmp_path: Path, mark: str) -> None:
    tensors = load_file(tiny_qwen / "transformer" / "diffusion_pytorch_model.safetensors")
    save_file({**tensors, mark: torch.zeros(2, 2)}, tmp_path / "edit.safetensors")
    found = detect(tmp_path / "edit.safetensors")
    assert not found.ok and found.problems[0].code == "other-family"
    base = tmp_path / "edit"
    shutil.copytree(tiny_qwen, base)
    index = json.loads((base / "model_index.json").read_text())
    (base / "model_index.json").write_text(json.dumps({**index, "_class_name": "QwenImageEditPlusPipeline"}))
    assert "QwenImageEditPlus" in detect(base).problems[0].message


def test_another_familys_vae_is_refused(tiny_qwen: Path, tiny_flux: Path) -> None:
    with pytest.raises(BaseModelError, match="another kind"):
        load_family("qwen").load(tiny_qwen, torch.float32, vae=tiny_flux)


def test_its_codec_decodes_in_tiles(tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """About the same picture, from pieces of half its side; afterwards it works as before."""
    from diffusers.models.autoencoders import autoencoder_kl_qwenimage as codecs

    from loratui.train.preview import tiles

    family = load_family("qwen")
    parts = family.load(tiny_qwen, torch.float32)
    torch.manual_seed(0)
    latents = torch.randn(1, 16, 24, 32)
    real, largest = codecs.QwenImageDecoder3d.forward, []

    def forward(self: torch.nn.Module, x: torch.Tensor, *args: object, **more: object) -> torch.Tensor:
        largest.append(max(x.shape[-2:]))
        return real(self, x, *args, **more)

    monkeypatch.setattr(codecs.QwenImageDecoder3d, "forward", forward)
    with torch.no_grad():
        whole = family.decode_latents(parts, latents)
        with tiles(parts.vae, 32):
            tiled = family.decode_latents(parts, latents)
        again = family.decode_latents(parts, latents)
    assert (largest[0], max(largest[1:-1]), largest[-1]) == (32, 16, 32) and len(largest) > 4
    assert tiled.shape == whole.shape and torch.equal(again, whole)
    # The attention in its middle sees a tile alone: not the same numbers, but the same picture.
    assert (tiled - whole).square().mean() < 0.2 * whole.var()


def test_diffusers_reads_every_kohya_name() -> None:
    """Its converter gives PEFT's names of all layers at the true structure, alpha folded in."""
    from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_qwen_lora_to_diffusers

    names = names_of("qwen")
    stored = {}
    for name in names.kohya:
        stored[f"{name}.lora_down.weight"], stored[f"{name}.lora_up.weight"] = (
            torch.ones(2, 3),
            torch.ones(3, 2),
        )
        stored[f"{name}.alpha"] = torch.tensor(2.0)
    found = _convert_non_diffusers_qwen_lora_to_diffusers(stored)
    wanted = {f"transformer.{n}.lora_{x}.weight" for n in names.parts for x in "AB"}
    assert found.keys() == wanted and len(names.parts) == 14 * 60


def test_the_true_models_layers_are_in_its_table() -> None:
    """Every layer that is trained, and all but the idle ones of the last block are."""
    from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformer2DModel

    with torch.device("meta"):
        transformer = QwenImageTransformer2DModel(num_layers=2)
    family, known = load_family("qwen"), names_of("qwen", '{"transformer_blocks": 2}').parts
    counts = [len(family.target_modules(transformer, t)) for t in ("attention", "attention+mlp", "full")]
    assert counts == [2 * 8 - 2, 2 * 12 - 4, 2 * 14 - 4]
    full = family.target_modules(transformer, "full")
    assert set(known) - set(full) == {
        f"transformer_blocks.1.{n}"
        for n in ("attn.add_q_proj", "attn.to_add_out", "txt_mlp.net.0.proj", "txt_mlp.net.2")
    }
