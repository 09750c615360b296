"""The exported file: it reproduces the trainer's own samples elsewhere, and says what it is."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import train_kit as kit
from PIL import Image
from safetensors import safe_open

from loratui.train.export import export_lora, legacy_hash


def psnr(a: Image.Image, b: Image.Image) -> float:
    error = np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_sd15: Path):
    """A short training hard enough that the LoRA changes its samples for everyone to see."""
    config = kit.tiny_config(
        optimizer__lr=0.1, optimizer__steps=30, samples__every=30, samples__steps=6,
        network__target="full+conv", network__alpha=4.0, network__conv_rank=2, network__conv_alpha=3.0,
        saving__dtype="fp16", saving__every=30, samples__width=32, samples__height=32,
    )  # fmt: skip
    run = kit.make_run(tmp_path_factory.mktemp("export"), tiny_sd15, config, "mine")
    return run, kit.run_job_here(run)


@pytest.mark.parametrize("sampler", ["ddim"])
def test_the_file_reproduces_the_trainers_sample(trained, tiny_sd15: Path, sampler: str) -> None:
    """Loaded by diffusers into the same base: >= 40 dB; the same without the LoRA: <= 30 dB."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    run, events = trained
    sample = next(e for e in events if e["kind"] == "sample" and e["step"] == 30)
    own = Image.open(run.path / sample["path"])
    settings = json.loads(own.text["loratui"])

    pipeline = StableDiffusionPipeline.from_pretrained(
        tiny_sd15,
        local_files_only=True,
        torch_dtype=torch.float32,
        safety_checker=None,
        feature_extractor=None,
    )
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)

    def draw(**more) -> Image.Image:
        return pipeline(
            settings["prompt"], negative_prompt=settings["negative"], num_inference_steps=settings["steps"],
            guidance_scale=settings["guidance"], width=settings["width"], height=settings["height"],
            generator=torch.Generator().manual_seed(settings["seed"]), **more,
        ).images[0]  # fmt: skip

    bare = draw()
    pipeline.load_lora_weights(str(run.export_dir), weight_name="mine.safetensors", local_files_only=True)
    with_lora, off = draw(), draw(cross_attention_kwargs={"scale": 0.0})
    assert psnr(own, with_lora) >= 40
    assert psnr(own, bare) <= 30 and psnr(own, off) <= 30


def test_step_0_shows_the_bare_base(trained) -> None:
    run, events = trained
    first, last = (next(e for e in events if e["kind"] == "sample" and e["step"] == s) for s in (0, 30))
    assert psnr(Image.open(run.path / first["path"]), Image.open(run.path / last["path"])) <= 30


def test_keys_alpha_and_metadata(trained) -> None:
    run, events = trained
    path = run.export_dir / "mine.safetensors"
    with safe_open(path, "pt") as file:
        meta, names = file.metadata(), list(file.keys())
        shapes = {n: file.get_tensor(n) for n in names}
    assert len(names) == 3 * 79 and all(n.startswith("lora_unet_") for n in names)
    wide = {n.split(".")[0] for n in names if shapes[n].shape[2:] == (3, 3)}
    assert len(wide) == 18 and all(shapes[f"{n}.lora_down.weight"].shape[0] == 2 for n in wide)
    assert all(shapes[f"{n}.lora_up.weight"].shape[1:] == (2, 1, 1) for n in wide)
    for name in names:
        if name.endswith(".alpha"):
            assert float(shapes[name]) == (3.0 if name.split(".")[0] in wide else 4.0)
    assert json.loads(meta["ss_network_args"]) == {"target": "full+conv", "conv_dim": 2, "conv_alpha": 3.0}
    assert all(shapes[n].dtype == torch.float16 for n in names if not n.endswith(".alpha"))
    expected = {
        "ss_base_model_version": "sd_v1", "ss_v2": "False", "ss_network_module": "networks.lora",
        "ss_network_dim": "4", "ss_network_alpha": "4.0", "ss_output_name": "mine", "ss_steps": "30",
        "modelspec.sai_model_spec": "1.0.1", "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.title": "mine", "modelspec.prediction_type": "epsilon",
        "modelspec.trigger_phrase": "sks thing",
        "modelspec.resolution": "16x16",
    }  # fmt: skip
    assert {k: meta[k] for k in expected} == expected
    assert all(isinstance(v, str) for v in meta.values())
    frequency = json.loads(meta["ss_tag_frequency"])
    assert sum(f.get("sks thing", 0) for f in frequency.values()) == 5
    dirs = json.loads(meta["ss_dataset_dirs"])
    assert sum(d["img_count"] for d in dirs.values()) == 5
    assert sum(b["count"] for b in json.loads(meta["ss_bucket_info"])["buckets"].values()) == 7
    assert meta["sshs_model_hash"] == kit.tensor_hash(path)
    assert len(meta["sshs_legacy_hash"]) == 8
    assert next(e for e in events if e["kind"] == "exported")["bytes"] == path.stat().st_size


def test_hashes_follow_the_tensors_not_the_metadata(tmp_path: Path) -> None:
    tensors = {"lora_unet_x.lora_down.weight": torch.arange(400_000, dtype=torch.float32)}

    def hashes(name: str, **meta: str) -> tuple[str, str]:
        export_lora(tmp_path / name, tensors, "fp32", meta)
        with safe_open(tmp_path / name, "pt") as file:
            found = file.metadata()
        return found["sshs_model_hash"], found["sshs_legacy_hash"]

    assert hashes("a", one="1") == hashes("b", one="two", three="3")
    data = bytes(range(256)) * 8192
    assert legacy_hash(data) == hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]


def test_checkpoints_are_loras_too(trained) -> None:
    from loratui.weights.verify import verify_file

    run, _ = trained
    found = verify_file(run.checkpoints_dir / "step-000030" / "lora.safetensors")
    assert found.ok and found.rank == 4
