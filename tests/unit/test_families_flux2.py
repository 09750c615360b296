"""FLUX.2: dev beside klein, which the contract tests take, and what only this family has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_kit
import torch
import train_kit as kit
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from loratui.config.checks import check
from loratui.config.presets import list_presets
from loratui.config.schema import NetworkConfig
from loratui.errors import BaseModelError
from loratui.families.detect import Detected, detect
from loratui.families.flux2 import FAMILY, convert
from loratui.families.layouts import flux2 as layout
from loratui.families.protocol import stack
from loratui.families.spec import FAMILIES, row_of
from loratui.plan.cards import Card
from loratui.plan.family_checks import check_family
from loratui.plan.flow_checks import is_distilled
from loratui.plan.memory import estimate
from loratui.plan.sizes import sizes
from loratui.project.bases import offspring, said
from loratui.project.recommending import recommend
from loratui.weights.layouts import names_of
from loratui.weights.verify import verify_file

TINY = tiny_kit.tiny("flux2")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = TINY.make(tmp_path_factory.mktemp("dev") / "base", dev=True)
    return found


@pytest.fixture(scope="module")
def pipeline(dev: Path) -> Any:
    found = TINY.pipeline(dev=True).from_pretrained(dev, local_files_only=True)
    found.set_progress_bar_config(disable=True)
    return found


def test_dev_conditions_and_answers_as_its_pipeline(dev: Path, pipeline: Any) -> None:
    """Mistral's states bit by bit, the velocity with guidance in fp32; tower and 2 layers are not read."""
    found = detect(dev)
    assert (found.family, found.problems) == ("flux2", ())
    parts = FAMILY.load(dev, torch.float32)
    parts.guidance = 2.5
    captions = ("a red fox", "in the long grass, it sleeps")
    conditions = FAMILY.encode_captions(parts, captions)
    encoder = parts.text_encoders["chat"]
    assert len(encoder.layers) == 30 and not any("vision" in n for n, _ in encoder.named_modules())
    torch.manual_seed(3)
    noisy, t_B = torch.randn(2, 4, 8, 12), torch.tensor([120.0, 801.0])
    with torch.no_grad():
        ours = FAMILY.predict(parts, noisy, t_B, stack(conditions, CPU))
        for n, caption in enumerate(captions):
            embeds, _ = pipeline.encode_prompt(caption, device=CPU)
            assert torch.equal(conditions[n]["prompt_embeds"], embeds[0])
            call = lambda **given: pipeline.transformer(**given, return_dict=False)[0]  # noqa: E731
            theirs = TINY.velocity(pipeline, call, caption, noisy[n], float(t_B[n]) / 1000, 2.5)
            assert torch.allclose(ours[n], theirs, atol=1e-5)
        other = FAMILY.predict(parts, noisy, t_B + 50, stack(conditions, CPU))
        parts.guidance = 1.0
        unguided = FAMILY.predict(parts, noisy, t_B, stack(conditions, CPU))
    assert (ours - other).abs().max() > 1e-3 < (ours - unguided).abs().max()
    assert FAMILY.metadata(parts)["modelspec.architecture"] == "Flux.2-dev/lora"


def test_dev_is_drawn_as_its_pipeline_draws(dev: Path, pipeline: Any) -> None:
    parts = FAMILY.load(dev, torch.float32)
    given = {"width": 32, "height": 16, "num_inference_steps": 4}
    seed = lambda: torch.Generator().manual_seed(5)  # noqa: E731
    theirs = pipeline(prompt="a red fox", guidance_scale=3.0, generator=seed(), **given).images[0]
    ours = FAMILY.pipeline(parts, "euler")
    prompt, none = FAMILY.encode_captions(parts, ["a red fox", FAMILY.empty])
    with torch.no_grad():
        drawn = ours(
            **FAMILY.pipeline_inputs(parts, prompt, none, 3.0), **given, generator=seed(),
            output_type="latent",
        ).images  # fmt: skip
        pixels = FAMILY.decode_latents(parts, FAMILY.pipeline_latents(parts, drawn, 32, 16))
    picture = ours.image_processor.postprocess(pixels)[0]
    assert distance(theirs, picture) <= 1


def distance(one: Image.Image, two: Image.Image) -> int:
    return int(np.abs(np.asarray(one, int) - np.asarray(two, int)).max())


def test_dev_from_files_as_others_have_them(dev: Path, tmp_path: Path) -> None:
    """Transformer in the original layout, codec, and Mistral cut to 30 layers without norm, each a file."""
    tensors = load_file(dev / "transformer" / "diffusion_pytorch_model.safetensors")
    files = {
        "model": {f"model.diffusion_model.{n}": t for n, t in TINY.original(tensors).items()},
        "ae": TINY.codec_tensors(dev),
        "mistral": {
            "model." + n.split("language_model.", 1)[1].removeprefix("model."): t
            for n, t in load_file(dev / "text_encoder" / "model.safetensors").items()
            if "language_model." in n and not n.endswith("model.norm.weight") and ".layers.31." not in n
            and ".layers.30." not in n
        } | {"tekken_model": torch.zeros(9, dtype=torch.uint8)},
    }  # fmt: skip
    del files["ae"]["bn.num_batches_tracked"]
    for name, rows in files.items():
        save_file({n: t.contiguous() for n, t in rows.items()}, tmp_path / f"{name}.safetensors")
    model, codec, mistral = (tmp_path / f"{name}.safetensors" for name in files)
    found = FAMILY.load(model, torch.float32, vae=codec, text=(mistral, dev / "tokenizer"))
    whole = FAMILY.load(dev, torch.float32)
    for network in ("denoiser", "vae"):
        mine, theirs = (getattr(p, network).state_dict() for p in (found, whole))
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)
    one, two = (
        {k: str(v).strip("[]()") for k, v in p.denoiser.config.items() if k[0] != "_"} for p in (found, whole)
    )
    assert one == two
    one, two = (FAMILY.encode_captions(p, ["a red fox"])[0]["prompt_embeds"] for p in (found, whole))
    assert torch.equal(one, two)
    with pytest.raises(BaseModelError, match=r"Mistral tokenizer \(tokenizer\) is missing"):
        FAMILY.load(model, torch.float32, vae=codec, text=(mistral,))


def test_an_encoder_of_another_size_is_refused(dev: Path, tiny_flux2: Path, tmp_path: Path) -> None:
    """Qwen3-4B named for klein 9B says so before anything is encoded; so does Qwen3 for dev."""
    copy = tmp_path / "text_encoder"
    shutil.copytree(tiny_flux2 / "text_encoder", copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "hidden_size": 16}))
    base = tmp_path / "base"
    shutil.copytree(tiny_flux2, base)
    shutil.rmtree(base / "text_encoder")
    with pytest.raises(BaseModelError, match="makes 48 features and the transformer takes 24") as error:
        FAMILY.load(base, torch.float32, text=(copy,))
    assert "Qwen3-8B" in error.value.advice
    other = tmp_path / "other"
    shutil.copytree(dev, other)
    shutil.rmtree(other / "text_encoder")
    with pytest.raises(BaseModelError, match=r"Mistral text encoder \(text_encoder\) is missing"):
        FAMILY.load(other, torch.float32, text=(tiny_flux2,))


def test_a_tokenizer_without_a_template_gets_the_models_chat(tiny_flux2: Path, dev: Path) -> None:
    for base in (tiny_flux2, dev):
        parts = FAMILY.load(base, torch.float32)
        one = FAMILY.encode_captions(parts, ["a red fox"])[0]["prompt_embeds"]
        assert parts.tokenizers["chat"].chat_template
        parts.tokenizers["chat"].chat_template = None
        two = FAMILY.encode_captions(parts, ["a red fox"])[0]["prompt_embeds"]
        assert torch.equal(one, two)


def test_a_distilled_klein_is_drawn_without_guidance(tiny_flux2: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_flux2, base)
    index = json.loads((base / "model_index.json").read_text())
    (base / "model_index.json").write_text(json.dumps({**index, "is_distilled": True}))
    parts = FAMILY.load(base, torch.float32)
    condition = FAMILY.encode_captions(parts, ["a fox"])[0]
    inputs = FAMILY.pipeline_inputs(parts, condition, condition, 4.0)
    assert inputs["guidance_scale"] == 1.0 and "negative_prompt_embeds" not in inputs
    assert FAMILY.pipeline(parts, "euler").config.is_distilled
    klein = next(spec for spec in FAMILIES if spec.name == "flux2")
    assert is_distilled(klein, "black-forest-labs/FLUX.2-klein-9B", base)
    assert not is_distilled(klein, "black-forest-labs/FLUX.2-klein-base-9B", base)
    assert not is_distilled(klein, "flux2_dev_fp8.safetensors", base)
    parts.extras["distilled"] = False
    assert FAMILY.pipeline_inputs(parts, condition, condition, 4.0)["guidance_scale"] == 4.0


def test_latents_are_normalised_as_the_pipeline_does(tiny_flux2: Path) -> None:
    pipe = TINY.pipeline().from_pretrained(tiny_flux2, local_files_only=True)
    parts = FAMILY.load(tiny_flux2, torch.float32)
    pixels = torch.rand(1, 3, 16, 24) * 2 - 1
    with torch.no_grad():
        theirs = pipe._unpatchify_latents(pipe._encode_vae_image(pixels, None))
        ours, _ = FAMILY.encode_pictures(parts, pixels)
    assert torch.allclose(ours, theirs, atol=1e-6)
    mean, deviation = layout.statistics(parts.vae, 5, 7)
    assert mean.shape == deviation.shape == (4, 5, 7)
    assert torch.equal(mean[:, 0, 0], mean[:, 4, 6]) and not torch.equal(mean[:, 0, 0], mean[:, 0, 1])


def test_a_small_decoder_is_read_from_a_file(tmp_path: Path) -> None:
    from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2

    from loratui.families.clip_unet import load_vae

    codec = AutoencoderKLFlux2(
        block_out_channels=(32, 64), decoder_block_out_channels=(32, 32), layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
    ).eval()  # fmt: skip
    codec.save_pretrained(tmp_path / "vae")
    save_file(
        {n: t.contiguous() for n, t in TINY.codec_tensors(tmp_path).items()}, tmp_path / "ae.safetensors"
    )
    found, _ = load_vae(tmp_path / "ae.safetensors", row_of("flux2").packaged("vae"), AutoencoderKLFlux2)
    latents = torch.randn(1, 4, 4, 4)
    with torch.no_grad():
        assert torch.equal(found.decode(latents).sample, codec.decode(latents).sample)


def test_files_are_converted_as_diffusers_does(tiny_flux2: Path, dev: Path) -> None:
    from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers

    for base in (tiny_flux2, dev):
        kept = load_file(base / "transformer" / "diffusion_pytorch_model.safetensors")
        original = TINY.original(kept)
        theirs: dict[str, Tensor] = convert_flux2_transformer_checkpoint_to_diffusers(dict(original))
        ours = convert(original, {n: tuple(t.shape) for n, t in kept.items()})
        assert ours.keys() == theirs.keys() == kept.keys()
        assert all(torch.equal(ours[n], theirs[n]) and torch.equal(ours[n], kept[n]) for n in kept)


@pytest.mark.parametrize("outputs", [7, 9])
def test_a_file_that_says_nothing_is_told_from_flux_1_by_its_shapes(tmp_path: Path, outputs: int) -> None:
    """The names of single blocks are the same in both; only the gated MLP is wider."""
    tensors = {}
    for n in range(20):
        name = f"lora_unet_single_blocks_{n}_linear1"
        tensors[f"{name}.lora_down.weight"] = torch.zeros(2, 32)
        tensors[f"{name}.lora_up.weight"] = torch.zeros(32 * outputs, 2)
    save_file(tensors, tmp_path / "lora.safetensors")
    found = verify_file(tmp_path / "lora.safetensors")
    assert (found.family == "flux2") == (outputs == 9)
    assert found.matched == {"diffusers": (20, 20), "comfyui": (20, 20)}


@pytest.mark.parametrize("form", ["kohya", "original", "prefixed"])
def test_diffusers_has_a_place_for_every_name_of_the_table(form: str) -> None:
    """Its converters of files by musubi-tuner and by ai-toolkit, for all layers of dev."""
    from diffusers.loaders import lora_conversion_utils as theirs

    names = names_of("flux2")
    rows = {"kohya": list(names.kohya), "prefixed": [f"diffusion_model.{n}" for n in names.parts]}
    rows["original"] = [f"diffusion_model.{n}" for n in names.originals]
    kohya = form == "kohya"
    leaves = ("lora_down.weight", "lora_up.weight") if kohya else ("lora_A.weight", "lora_B.weight")
    state = {f"{n}.{leaf}": torch.ones((3, 3)) for n in rows[form] for leaf in leaves}
    convert_files = (
        theirs._convert_kohya_flux2_lora_to_diffusers if kohya
        else theirs._convert_non_diffusers_flux2_lora_to_diffusers
    )  # fmt: skip
    found = {key.rsplit(".", 2)[0] for key in convert_files(state)}
    assert found == {f"transformer.{n}" for n in names.parts}


@pytest.mark.parametrize(("numbers", "kind"), [(9_000_000_000, ""), (32_000_000_000, "dev")])
def test_dev_is_known_by_its_size_and_has_presets_of_its_own(numbers: int, kind: str) -> None:
    found = Detected("flux2", parameters=numbers)
    assert offspring("x", found) == kind and ("dev by its size" in said("x", found)) == bool(kind)
    chosen = recommend(list_presets()[0], "flux2", "style", Card(gib=48), kind)
    assert chosen is not None and chosen.preset.name == ("flux2-dev-style" if kind else "flux2-style")


@pytest.mark.parametrize(("double", "single", "fits"), [(8, 48, True), (5, 20, False)])
def test_blocks_that_can_be_swapped_are_those_of_the_model(
    tmp_path: Path, double: int, single: int, fits: bool
) -> None:
    """dev has 56, klein 4B 25, counted in the header: 40 are a share of the first, too many for the other."""
    names = names_of("flux2", json.dumps({"transformer_blocks": double, "single_transformer_blocks": single}))
    path = tmp_path / "model.safetensors"
    save_file({f"{name}.weight": torch.zeros(24, 8) for name in names.originals}, path)
    size = sizes(path, "flux2", NetworkConfig())
    assert size is not None and size.blocks == double + single
    config = kit.tiny_config(model__family="flux2", memory__blocks_to_swap=40)
    assert not [p for p in check(config) if p.code == "too-many-blocks"]
    said = [p.fix for p in check_family(config, "flux2", path, Detected("flux2")) if "blocks" in p.code]
    assert said == ([] if fits else [{"memory.blocks_to_swap": 25}])
    plain = kit.tiny_config(model__family="flux2")
    shares = [estimate(c, size, 1024).weights_gib for c in (config, plain)]
    assert shares[0] / shares[1] == pytest.approx(1 - 0.9 * (38 / 56 if fits else 23 / 25))
