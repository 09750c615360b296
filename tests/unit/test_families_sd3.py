"""Stable Diffusion 3 as one file of everything: the same numbers as the diffusers folder.

Stability's and ComfyUI's files hold transformer, VAE and text encoders, and never a tokenizer.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_kit
import torch
from safetensors.torch import load_file, save_file
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from loratui.errors import BaseModelError
from loratui.families.detect import detect
from loratui.families.layouts import ldm
from loratui.families.loading import CONFIGS
from loratui.families.protocol import load_family
from loratui.families.spec import row_of

ENCODERS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2", "t5xxl": "text_encoder_3"}
PROJECTION = "text_projection.weight"
CAPTIONS = ("a red fox", "", "two birds over a lake")


def write(folder: Path, path: Path, encoders: tuple[str, ...], projection: bool = True) -> Path:
    """A diffusers folder as one file.

    Args:
        folder: the base.
        path: the file.
        encoders: which it holds.
        projection: with CLIP-L's, which Stability's leave out.
    """
    transformer = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    stored = {f"model.diffusion_model.{n}": t for n, t in tiny_kit.tiny("sd3").original(transformer).items()}
    modules = ldm.vae_modules(row_of("sd3").packaged("vae") | {"block_out_channels": (32, 32)})
    for name, tensor in load_file(folder / "vae" / "diffusion_pytorch_model.safetensors").items():
        stored[f"first_stage_model.{ldm.vae_original_name(name, modules)}"] = tensor
    for encoder in encoders:
        for name, tensor in load_file(folder / ENCODERS[encoder] / "model.safetensors").items():
            plain = name if encoder == "t5xxl" or name == PROJECTION else ldm_clip(name)
            if plain != PROJECTION or projection or encoder != "clip_l":
                stored[f"text_encoders.{encoder}.transformer.{plain}"] = tensor
        if encoder != "t5xxl":
            stored[f"text_encoders.{encoder}.logit_scale"] = torch.tensor(4.6)
    save_file({n: t.contiguous().clone() for n, t in stored.items()}, path)
    return path


def copy(folder: Path, target: Path) -> Path:
    """The base with the true tokenizers of CLIP, which files are read with."""
    shutil.copytree(folder, target)
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        shutil.rmtree(target / name)
        tokenizer = CLIPTokenizer.from_pretrained(
            CONFIGS / "clip_tokenizer", local_files_only=True, pad_token=pad
        )
        tokenizer.model_max_length = 77
        tokenizer.save_pretrained(target / name)
    return target


def ldm_clip(name: str) -> str:
    """With the level that newer versions of transformers dropped."""
    return name if name.startswith("text_model.") else f"text_model.{name}"


def realign(parts: Any) -> None:
    """Weights into memory of their own: where a file holds them decides the last bit on some processors."""
    for module in (parts.denoiser, parts.vae, *parts.text_encoders.values()):
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = tensor.data.clone()


def alike(one: Path, one_text: tuple[Path, ...], two: Path, two_text: tuple[Path, ...] = ()) -> None:
    """Embeddings, latents and predictions of two bases are the same bits."""
    family = load_family("sd3")
    a, b = family.load(one, torch.float32, text=one_text), family.load(two, torch.float32, text=two_text)
    for parts in (a, b):
        realign(parts)
    torch.manual_seed(0)
    pixels, noisy = torch.randn(2, 3, 16, 16), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        latents = [torch.cat(family.encode_pictures(p, pixels)) for p in (a, b)]
        assert torch.equal(*latents)
        pairs = zip(family.encode_captions(a, CAPTIONS), family.encode_captions(b, CAPTIONS), strict=True)
        for mine, theirs in pairs:
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[k], theirs[k]) for k in mine)
            batch = {k: v[None] for k, v in mine.items()}
            velocity = [family.predict(p, noisy, torch.tensor([400.0]), batch) for p in (a, b)]
            assert torch.equal(*velocity)
            assert velocity[0].std() > 0.01
    assert (a.scheduler["shift"], a.patch, a.latent_factor) == (
        b.scheduler["shift"],
        b.patch,
        b.latent_factor,
    )


@pytest.mark.parametrize("encoders", [tuple(ENCODERS), ("clip_l", "clip_g")])
def test_everything_in_one_file(tiny_sd3: Path, tmp_path: Path, encoders: tuple[str, ...]) -> None:
    """With T5 and without, whose place is filled with zeros then."""
    path = write(tiny_sd3, tmp_path / "sd3.safetensors", encoders)
    found = detect(path)
    assert (found.family, found.layout, found.problems) == ("sd3", "original", ())
    folder = copy(tiny_sd3, tmp_path / "folder")
    if "t5xxl" not in encoders:
        shutil.rmtree(folder / "text_encoder_3")
        index = json.loads((folder / "model_index.json").read_text()) | {"text_encoder_3": [None, None]}
        (folder / "model_index.json").write_text(json.dumps(index))
    alike(path, (tiny_sd3 / "tokenizer_3",) if "t5xxl" in encoders else (), folder)


def test_a_file_without_the_projection_of_clip_l(tiny_sd3: Path, tmp_path: Path) -> None:
    """Stability's leave it out: it is the identity."""
    folder = copy(tiny_sd3, tmp_path / "folder")
    weights = folder / "text_encoder" / "model.safetensors"
    save_file(load_file(weights) | {PROJECTION: torch.eye(32)}, weights, {"format": "pt"})
    path = write(folder, tmp_path / "sd3.safetensors", tuple(ENCODERS), projection=False)
    alike(path, (tiny_sd3 / "tokenizer_3",), folder)


def test_no_file_holds_the_tokenizer_of_t5(tiny_sd3: Path, tmp_path: Path) -> None:
    path = write(tiny_sd3, tmp_path / "sd3.safetensors", tuple(ENCODERS))
    with pytest.raises(BaseModelError, match="tokenizer") as error:
        load_family("sd3").load(path, torch.float32)
    assert "model.text" in error.value.advice and "tokenizer_3" in error.value.advice
