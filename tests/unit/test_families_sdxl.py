"""SDXL: two text encoders, sizes as conditions, sgm names, the refiner, zero terminal SNR."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import train_kit as kit
from PIL import Image
from safetensors.torch import load_file, save_file

from loratui.errors import BaseModelError
from loratui.families.detect import detect
from loratui.families.layouts import clip, ldm
from loratui.families.loading import CONFIGS
from loratui.families.protocol import load_family
from loratui.weights.convert import convert_file
from loratui.weights.verify import verify_file

FAMILY = load_family("sdxl")


def to_original(folder: Path) -> dict[str, torch.Tensor]:
    """A diffusers folder as the tensors of an original-layout file."""
    found = {}
    for part, prefix, modules_of, name_of in (
        ("unet", ldm.UNET_PREFIX, ldm.unet_modules, ldm.unet_original_name),
        ("vae", ldm.VAE_PREFIX, ldm.vae_modules, ldm.vae_original_name),
    ):
        modules = modules_of(json.loads((folder / part / "config.json").read_text()))
        for name, tensor in load_file(folder / part / "diffusion_pytorch_model.safetensors").items():
            original = prefix + name_of(name, modules)
            wide = ".mid.attn_1." in original and tensor.ndim == 2
            found[original] = tensor[:, :, None, None] if wide else tensor
    first = load_file(folder / "text_encoder" / "model.safetensors")
    found |= {clip.SDXL_PREFIXES[0] + "text_model." + clip.plain(n): t for n, t in first.items()}
    second = load_file(folder / "text_encoder_2" / "model.safetensors")
    stored = clip.transformers_to_openclip({clip.plain(n): t for n, t in second.items()}, torch.cat)
    stored["logit_scale"] = torch.tensor(4.6)
    found |= {clip.SDXL_PREFIXES[1] + n: t for n, t in stored.items()}
    return {name: tensor.contiguous() for name, tensor in found.items()}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same fp16 weights as a folder and as a single file."""
    folder = kit.tiny_sdxl_base(tmp_path_factory.mktemp("xl") / "base", width=64, heads=(1, 2))
    for path in folder.glob("*/*.safetensors"):
        save_file({n: t.half() for n, t in load_file(path).items()}, path, metadata={"format": "pt"})
    single = folder.parent / "model.safetensors"
    save_file(to_original(folder), single)
    return folder, single


def test_the_file_equals_the_folder_without_a_network(both, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(socket, "socket", lambda *a, **k: pytest.fail("the network was asked"))
    assert [detect(p).family for p in both] == ["sdxl", "sdxl"]
    one, two = (FAMILY.load(p, torch.float32) for p in both)
    assert list(one.text_encoders) == list(two.text_encoders) == ["lora_te1", "lora_te2"]
    for a, b in zip(one.networks(), two.networks(), strict=True):
        left, right = a.state_dict(), b.state_dict()
        assert left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)
    ids = torch.tensor([[49406, 320, 5, 7, *[49407] * 73]])
    for a, b in zip(one.text_encoders.values(), two.text_encoders.values(), strict=True):
        assert torch.equal(a(ids)[0], b(ids)[0])
    assert two.tokenizers["lora_te1"].pad_token_id == 49407 and two.tokenizers["lora_te2"].pad_token_id == 0
    with torch.no_grad():
        x, t = torch.randn(1, 4, 8, 8), torch.tensor([500])
        condition = {
            "prompt_embeds": torch.randn(1, 77, 128), "pooled_prompt_embeds": torch.randn(1, 24),
            "time_ids": torch.randn(1, 6),
        }  # fmt: skip
        assert torch.equal(FAMILY.predict(one, x, t, condition), FAMILY.predict(two, x, t, condition))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.bfloat16])
def test_a_file_in_fp8_is_read(both, tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {n: t.to(dtype) for n, t in load_file(both[1]).items()}
    save_file(tensors, tmp_path / "m.safetensors")
    assert detect(tmp_path / "m.safetensors").ok
    parts = FAMILY.load(tmp_path / "m.safetensors", torch.bfloat16)
    name = "mid_block.resnets.0.conv1.weight"
    stored = tensors[ldm.UNET_PREFIX + "middle_block.0.in_layers.2.weight"]
    assert torch.equal(parts.denoiser.state_dict()[name], stored.to(torch.bfloat16))


def test_true_sizes_give_the_packaged_settings() -> None:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from loratui.families.clip_unet import infer_unet, infer_vae

    unet_config = json.loads((CONFIGS / "sdxl" / "unet" / "config.json").read_text())
    vae_config = json.loads((CONFIGS / "sdxl" / "vae" / "config.json").read_text())
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel.from_config(unet_config), AutoencoderKL.from_config(vae_config)
    assert sum(p.numel() for p in unet.parameters()) == 2_567_463_684
    modules = ldm.unet_modules(unet_config)
    shapes = {
        ldm.UNET_PREFIX + ldm.unet_original_name(n, modules): tuple(p.shape)
        for n, p in unet.state_dict().items()
    }
    assert len(shapes) == 1680
    assert infer_unet(shapes, unet_config, FAMILY._heads) == unet_config
    modules = ldm.vae_modules(vae_config)
    shapes = {ldm.vae_original_name(n, modules): tuple(p.shape) for n, p in vae.state_dict().items()}
    assert infer_vae(shapes, vae_config) == vae_config


def test_conditions_are_those_of_the_reference_pipeline(tiny_sdxl: Path) -> None:
    """Embeddings, pooled output and sizes as diffusers' own pipeline makes them."""
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl, local_files_only=True)
    parts = FAMILY.load(tiny_sdxl, torch.float32)
    with torch.no_grad():
        theirs, _, pooled, _ = pipeline.encode_prompt("a red fox", do_classifier_free_guidance=False)
        (ours,) = FAMILY.encode_captions(parts, ["a red fox"])
    assert torch.allclose(ours["prompt_embeds"], theirs[0], atol=1e-6)
    assert torch.allclose(ours["pooled_prompt_embeds"], pooled[0], atol=1e-6)
    ids = pipeline._get_add_time_ids((480, 640), (16, 8), (448, 512), torch.float32, 24)
    sizes = FAMILY.size_condition((640, 480), (8, 16), (512, 448))
    assert torch.equal(sizes["time_ids"], ids[0])


def test_sizes_reach_the_batches(tiny_sdxl: Path, tmp_path: Path) -> None:
    """Original size, crop of the (mirrored) picture and bucket, each where it belongs."""
    from loratui.train.assemble import assemble

    config = kit.tiny_config(data__flip=True, data__batch_size=5, data__bucketing=False)
    run = kit.make_run(tmp_path, tiny_sdxl, config, family="sdxl")
    rows = [json.loads(line) for line in run.manifest_path.read_text().splitlines()]
    for row in rows:  # off-centre, so that mirroring shows
        left, top, right, bottom = row["crop"]
        row["scaled"] = [row["scaled"][0] + 5, row["scaled"][1]]
        row["crop"] = [left + 2, top, right + 2, bottom]
    run.manifest_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    training = assemble(kit.job_context(run))
    by_name = {row["rel"]: row for row in rows}
    seen = set()
    for step in range(6):
        batch = training.batches.at(step, 0)
        for picture, ids in zip(batch.pictures, batch.condition["time_ids"].tolist(), strict=True):
            row = by_name[picture.rel]
            plain, mirrored = row["crop"][0], row["scaled"][0] - row["crop"][2]
            assert ids[:2] == [row["height"], row["width"]] and ids[4:] == row["bucket"][::-1]
            assert ids[2] == row["crop"][1] and ids[3] in {plain, mirrored} and plain != mirrored
            seen.add(ids[3] == plain)
    assert seen == {True, False}


def psnr(a: Image.Image, b: Image.Image) -> float:
    error = np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@pytest.fixture(scope="module")
def trained(tiny_sdxl: Path, tmp_path_factory: pytest.TempPathFactory):
    config = kit.tiny_config(
        optimizer__lr=0.1, optimizer__steps=30, samples__every=30, samples__steps=6, samples__width=32,
        samples__height=32, network__target="full+conv", network__alpha=4.0, network__conv_rank=2,
        saving__every=10, saving__dtype="fp16",
    )  # fmt: skip
    run = kit.make_run(tmp_path_factory.mktemp("train"), tiny_sdxl, config, "xl", family="sdxl")
    return run, kit.run_job_here(run), config


def test_the_exported_file_reproduces_the_trainers_sample(trained, tiny_sdxl: Path, tmp_path: Path) -> None:
    """In diffusers, from the kohya file with sgm names and from its PEFT form; the bare base differs."""
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline

    run, events, _ = trained
    matched = next(e for e in events if e["kind"] == "verified")["matched"]
    assert set(map(tuple, matched.values())) == {(119, 119)}
    sample = next(e for e in events if e["kind"] == "sample" and e["step"] == 30)
    own = Image.open(run.path / sample["path"])
    settings = json.loads(own.text["loratui"])
    kohya = run.export_dir / "xl.safetensors"
    assert all(n.startswith(("lora_unet_input", "lora_unet_mid", "lora_unet_out")) for n in load_file(kohya))
    convert_file(kohya, tmp_path / "peft.safetensors", "peft")
    convert_file(tmp_path / "peft.safetensors", tmp_path / "back.safetensors", "kohya")
    assert load_file(tmp_path / "back.safetensors").keys() == load_file(kohya).keys()
    pictures = {}
    for name in ("bare", str(kohya), str(tmp_path / "peft.safetensors")):
        pipeline = StableDiffusionXLPipeline.from_pretrained(
            tiny_sdxl, local_files_only=True, add_watermarker=False, force_zeros_for_empty_prompt=False
        )
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
        pipeline.set_progress_bar_config(disable=True)
        if name != "bare":
            path = Path(name)
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True)
        pictures[name] = pipeline(
            settings["prompt"], negative_prompt=settings["negative"], num_inference_steps=settings["steps"],
            guidance_scale=settings["guidance"], width=32, height=32,
            generator=torch.Generator().manual_seed(settings["seed"]),
        ).images[0]  # fmt: skip
    bare = pictures.pop("bare")
    assert all(psnr(own, picture) >= 40 for picture in pictures.values())
    assert psnr(own, bare) <= 30


def test_a_resume_ends_in_the_same_bytes(trained, tiny_sdxl: Path, tmp_path: Path) -> None:
    whole, _, config = trained
    run = kit.make_run(whole.path.parent.parent, tiny_sdxl, config, "again", family="sdxl")
    shutil.copytree(whole.checkpoints_dir / "step-000020", run.checkpoints_dir / "step-000020")
    events = kit.run_job_here(run)
    assert [e["step"] for e in events if e["kind"] == "step"] == list(range(21, 31))
    last = "checkpoints/step-000030/lora.safetensors"
    assert kit.tensor_hash(run.path / last) == kit.tensor_hash(whole.path / last)


def test_both_forms_of_names_are_one_module(tmp_path: Path) -> None:
    """Readers of SDXL files take sgm and diffusers names; the conversion writes sgm names."""
    name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn2_to_k"
    tensors = {
        f"{name}.lora_down.weight": torch.randn(4, 2048), f"{name}.lora_up.weight": torch.randn(640, 4),
        f"{name}.alpha": torch.tensor(4.0),
    }  # fmt: skip
    save_file(tensors, tmp_path / "a.safetensors")
    found = verify_file(tmp_path / "a.safetensors")
    assert found.ok and found.family == "sdxl" and set(found.matched.values()) == {(1, 1)}
    convert_file(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "kohya")
    assert "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k.alpha" in load_file(
        tmp_path / "b.safetensors"
    )


def test_what_cannot_be_trained_is_named(both, tmp_path: Path) -> None:
    folder, single = both
    tensors = load_file(single)
    first = ldm.UNET_PREFIX + "input_blocks.0.0.weight"

    def kind(name: str, content: dict[str, torch.Tensor]) -> tuple[str, str]:
        save_file(content, tmp_path / f"{name}.safetensors")
        problem = next(p for p in detect(tmp_path / f"{name}.safetensors").problems if p.severity == "error")
        return problem.code, problem.message

    refiner = {
        n.replace("embedders.1.", "embedders.0."): t
        for n, t in tensors.items()
        if not n.startswith(clip.SDXL_PREFIXES[0])
    }
    assert kind("refiner", refiner)[0] == "refiner"
    inpainting = tensors | {first: torch.zeros(64, 9, 3, 3)}
    assert kind("inpainting", inpainting)[0] == "variant"
    assert "inpainting" in kind("inpainting", inpainting)[1]
    assert (
        kind("scaled", tensors | {first.replace("weight", "scale_weight"): torch.ones(1)})[0] == "scaled-fp8"
    )
    assert kind("edm", tensors | {"edm_mean": torch.zeros(4)})[0] == "variant"
    copy = shutil.copytree(folder, tmp_path / "refiner-folder")
    shutil.rmtree(copy / "text_encoder")
    assert detect(copy).problems[0].code == "refiner"
    shutil.rmtree(shutil.copytree(folder, tmp_path / "half") / "tokenizer_2")
    assert detect(tmp_path / "half").problems[0].code == "incomplete"


def test_zero_terminal_snr_is_read_and_used(both, tmp_path: Path) -> None:
    """The marks of v-prediction fine-tunes: abar_T = 0, and sampling begins at that step."""
    from loratui.train.assemble import noise_schedule

    tensors = load_file(both[1]) | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    save_file(tensors, tmp_path / "v.safetensors")
    found = detect(tmp_path / "v.safetensors")
    assert found.prediction == "v_prediction"
    parts = FAMILY.load(tmp_path / "v.safetensors", torch.float32, found.prediction)
    assert (
        float(noise_schedule(parts)[-1])
        < 1e-6
        < 1e-3
        < float(noise_schedule(FAMILY.load(both[1], torch.float32))[-1])
    )
    for sampler in ("ddim", "euler", "euler_a", "dpmpp_2m"):
        scheduler = FAMILY.pipeline(parts, sampler).scheduler
        scheduler.set_timesteps(10)
        assert int(scheduler.timesteps[0]) == 999
        assert scheduler.config.rescale_betas_zero_snr
    facts = FAMILY.metadata(parts)
    assert (facts["ss_v_parameterization"], facts["ss_zero_terminal_snr"]) == ("True", "True")
    with pytest.raises(BaseModelError, match="zero terminal SNR"):
        FAMILY.load(tmp_path / "v.safetensors", torch.float32, "epsilon")


def test_both_text_encoders_learn_at_rates_of_their_own(tiny_sdxl: Path, tmp_path: Path) -> None:
    config = kit.tiny_config(
        optimizer__steps=4, network__text_encoder=True, network__text_lr=2e-3, network__text_lr_2=3e-3,
        saving__every=1, saving__keep=9, samples__every=4,
    )  # fmt: skip
    run = kit.make_run(tmp_path, tiny_sdxl, config, "te", family="sdxl")
    events = kit.run_job_here(run)
    assert events[-1]["state"] == "finished"
    assert next(e for e in events if e["kind"] == "step")["lr"] == {"unet": 1e-2, "te1": 2e-3, "te2": 3e-3}
    assert not [e for e in events if e["kind"] == "sample_failed"]
    found = verify_file(run.export_dir / "te.safetensors")
    assert found.ok and found.modules == 64 + 24
    one, two = (load_file(run.checkpoints_dir / f"step-00000{n}" / "lora.safetensors") for n in (1, 4))
    for key in ("lora_te1", "lora_te2"):
        ups = [n for n in one if n.startswith(key) and n.endswith("up.weight")]
        assert any(not torch.equal(one[n], two[n]) for n in ups)
    assert not list((tmp_path / ".loratui" / "cache" / "text").glob("*/*")), "stale captions would be kept"
