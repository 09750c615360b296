"""Original-layout files: read with no network, equal to their folder and to what diffusers reads."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch
import train_kit as kit
from safetensors.torch import load_file, save_file

from loratui.errors import BaseModelError
from loratui.families.detect import detect
from loratui.families.layouts import clip, ldm
from loratui.families.loading import CONFIGS
from loratui.families.protocol import load_family

FAMILIES = ["sd15", "sd2"]


def to_original(folder: Path, sd2: bool) -> dict[str, torch.Tensor]:
    """A diffusers folder as the tensors of an original-layout file."""
    unet_config = json.loads((folder / "unet" / "config.json").read_text())
    vae_config = json.loads((folder / "vae" / "config.json").read_text())
    found = {}
    modules = ldm.unet_modules(unet_config)
    for name, tensor in load_file(folder / "unet" / "diffusion_pytorch_model.safetensors").items():
        found[ldm.UNET_PREFIX + ldm.unet_original_name(name, modules)] = tensor
    modules = ldm.vae_modules(vae_config)
    for name, tensor in load_file(folder / "vae" / "diffusion_pytorch_model.safetensors").items():
        original = ldm.VAE_PREFIX + ldm.vae_original_name(name, modules)
        if ".mid.attn_1." in original and original.endswith("weight") and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]  # the original has 1x1 convolutions there
        found[original] = tensor
    text = {clip.plain(n): t for n, t in load_file(folder / "text_encoder" / "model.safetensors").items()}
    if sd2:
        stored = clip.transformers_to_openclip(text, torch.cat)
        last = {
            n.replace("resblocks.0.", "resblocks.1."): t + 1 for n, t in stored.items() if "resblocks.0." in n
        }
        found |= {clip.SD2_PREFIX + n: t for n, t in (stored | last).items()}
    else:
        found |= {clip.SD1_PREFIX + "text_model." + n: t for n, t in text.items()}
        found[clip.SD1_PREFIX + "text_model.embeddings.position_ids"] = torch.arange(77)[None]
    found["model_ema.decay"] = torch.tensor(0.9999)
    return {name: tensor.contiguous() for name, tensor in found.items()}


@pytest.fixture(scope="module", params=FAMILIES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """(family, folder, file, text layers) with the same weights in both layouts."""
    sd2 = request.param == "sd2"
    extra = {"width": 64, "heads": (1, 2)} if sd2 else {"width": 64, "heads": 8}
    folder = kit.tiny_base(tmp_path_factory.mktemp(request.param) / "base", sd2=sd2, **extra)
    path = folder.parent / "model.safetensors"
    save_file({n: t.half() for n, t in to_original(folder, sd2).items()}, path)
    # What the file holds is fp16, so the folder is read through fp16 as well.
    for part in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        name = folder / f"{part}.safetensors"
        save_file({n: t.half() for n, t in load_file(name).items()}, name, metadata={"format": "pt"})
    return request.param, folder, path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every socket is refused."""

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def test_the_file_equals_the_folder_without_a_network(both, no_network) -> None:
    name, folder, path = both
    assert detect(path).family == detect(folder).family == name
    assert (detect(path).layout, detect(folder).layout) == ("original", "diffusers")
    family = load_family(name)
    prediction = "v_prediction" if name == "sd2" else "epsilon"
    one, two = family.load(folder, torch.float32), family.load(path, torch.float32, detect(path).prediction)
    assert one.prediction == two.prediction == prediction
    for a, b in zip(one.networks(), two.networks(), strict=True):
        left, right = a.state_dict(), b.state_dict()
        assert left.keys() == right.keys()
        assert all(torch.equal(left[k], right[k]) for k in left)
        assert all(not p.requires_grad for p in b.parameters())
    # The folder's tokenizer has no merges: compare what each network computes from the same ids instead.
    ids = torch.tensor([[49406, 320, 5, 7, *[49407] * 73]])
    with torch.no_grad():
        for a, b in zip(one.text_encoders.values(), two.text_encoders.values(), strict=True):
            assert torch.equal(a(ids)[0], b(ids)[0])
        pixels = torch.randn(1, 3, 16, 16)
        assert torch.equal(family.encode_pictures(one, pixels)[0], family.encode_pictures(two, pixels)[0])
        x, t = torch.randn(1, 4, 8, 8), torch.tensor([500])
        condition = {"prompt_embeds": torch.randn(1, 77, 64)}
        assert torch.equal(family.predict(one, x, t, condition), family.predict(two, x, t, condition))


def test_diffusers_reads_the_same_from_the_file(both, no_network) -> None:
    """An independent reader of the same file agrees with ours on U-Net and codec."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    name, folder, path = both
    parts = load_family(name).load(path, torch.float32)
    for cls, part, ours in (
        (UNet2DConditionModel, "unet", parts.denoiser),
        (AutoencoderKL, "vae", parts.vae),
    ):
        theirs = cls.from_single_file(
            str(path), config=str(folder), subfolder=part, local_files_only=True, torch_dtype=torch.float32
        ).state_dict()
        mine = ours.state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_a_pipeline_runs_on_the_file(both, no_network) -> None:
    name, _, path = both
    family = load_family(name)
    parts = family.load(path, torch.float32)
    with torch.no_grad():
        prompt, negative = family.encode_captions(parts, ["a red fox", ""])
        pipeline = family.pipeline(parts, "dpmpp_2m")
        picture = pipeline(
            **family.pipeline_inputs(parts, prompt, negative, 3.0), num_inference_steps=2, width=16,
            height=16, generator=torch.Generator().manual_seed(1),
        ).images[0]  # fmt: skip
    assert picture.size == (16, 16)


def test_packaged_tokenizer_is_clips(no_network) -> None:
    """Token ids of known sentences, as published with CLIP's own tokenizer."""
    import open_clip
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    ours = CLIPTokenizer.from_pretrained(
        CONFIGS / "clip_tokenizer", local_files_only=True, model_max_length=77
    )
    theirs = open_clip.tokenizer.SimpleTokenizer()
    texts = [
        "a photo of a cat",
        "sks robot, blue background",
        "it's 3 o'clock!",
        "naïve café 日本語 🙂",
        "A  B\tC",
    ]
    for text in texts:
        mine = ours(text, padding="max_length", truncation=True).input_ids
        reference = theirs(text)[0]
        end = int(reference.argmax()) + 1
        assert mine[:end] == reference[:end].tolist(), text
    assert ours("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]


@pytest.mark.parametrize("name", FAMILIES)
def test_true_sizes_give_the_packaged_settings(name: str) -> None:
    """Shapes alone (meta tensors) give the settings of the true models, so of any fine-tune too."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from loratui.families.clip_unet import infer_unet, infer_vae

    family = load_family(name)
    unet_config = json.loads((CONFIGS / name / "unet" / "config.json").read_text())
    vae_config = json.loads((CONFIGS / name / "vae" / "config.json").read_text())
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel.from_config(unet_config), AutoencoderKL.from_config(vae_config)
    modules = ldm.unet_modules(unet_config)
    shapes = {
        ldm.UNET_PREFIX + ldm.unet_original_name(n, modules): tuple(p.shape)
        for n, p in unet.state_dict().items()
    }
    assert len(shapes) == 686
    assert infer_unet(shapes, unet_config, family._heads) == unet_config
    modules = ldm.vae_modules(vae_config)
    shapes = {ldm.vae_original_name(n, modules): tuple(p.shape) for n, p in vae.state_dict().items()}
    assert infer_vae(shapes, vae_config) == vae_config


def test_missing_weights_are_named(both, tmp_path: Path) -> None:
    name, _, path = both
    tensors = load_file(path)
    gone = ldm.UNET_PREFIX + "middle_block.0.in_layers.2.weight"
    del tensors[gone]
    broken = tmp_path / "broken.safetensors"
    save_file(tensors, broken)
    with pytest.raises(BaseModelError, match=r"U-Net.*mid_block\.resnets\.0\.conv1\.weight"):
        load_family(name).load(broken, torch.float32)
