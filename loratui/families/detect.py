"""Which family a base checkpoint is of, from JSON and safetensors headers alone: no torch, milliseconds.

`locate` turns what the user names (folder, file, Hub id) into a path here; `detect` says what it is.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from loratui.errors import BaseModelError, Problem, WeightsError
from loratui.families import marks
from loratui.families.detected import Detected, component, count, json_of, refused
from loratui.weights.header import Header, read_header

__all__ = ["Detected", "detect", "locate"]

UNET = "model.diffusion_model."
_SUPPORTED = "`loratui families` lists what can be trained."
_REFINER = (
    "The refiner only finishes pictures of the base at low noise, and no program loads a LoRA into it:"
    " train on the SDXL base."
)


def locate(base: str, relative_to: Path | None = None) -> Path:
    """The path of a base named by a path, by `demo`, or by a Hub id that has been fetched.

    Raises:
        BaseModelError: it is not on this machine; the advice gives the command that fetches it.
    """
    if not base.strip():
        raise BaseModelError(
            "No base model is named.", "Set model.base to a folder, a .safetensors file or a Hub id."
        )
    if base == "demo":
        from loratui.demo import base_path

        return Path(base_path())
    path = Path(base).expanduser()
    candidate = path if path.is_absolute() else (relative_to or Path.cwd()) / path
    if candidate.exists():
        return candidate.resolve()
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base):
        snapshot = _hub_snapshot(base)
        if snapshot is not None:
            return snapshot
        raise BaseModelError(f"{base} is not on this machine.", f"Fetch it with: loratui get {base}")
    raise BaseModelError(f"The base model {candidate} does not exist.", "Check model.base.")


def _hub_snapshot(repo: str) -> Path | None:
    """The snapshot of a Hub repository in the local cache that holds a model_index.json."""
    home = Path(
        os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    )
    cache = Path(
        os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or home / "hub"
    ).expanduser()
    folder = cache / ("models--" + repo.replace("/", "--"))
    try:
        commit = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
        snapshots = [folder / "snapshots" / commit]
    except OSError:
        snapshots = sorted((folder / "snapshots").glob("*"))
    return next((s for s in snapshots if (s / "model_index.json").is_file()), None)


def detect(path: Path) -> Detected:
    """Say what the base at `path` is; never raises for what it finds there."""
    try:
        if path.is_dir():
            return _detect_folder(path)
        return _detect_file(path)
    except (BaseModelError, WeightsError) as error:
        return refused("unreadable", error.message, error.advice)


_OTHER_PIPELINES = {"PixArt": "PixArt", "Kandinsky": "Kandinsky", "WuerstchenP": "Wuerstchen"}


def _detect_folder(path: Path) -> Detected:
    if not (path / "model_index.json").is_file():
        inside = sorted(path.glob("*.safetensors"))
        if inside:
            advice = f"Name the file itself, such as {inside[0]}."
        else:
            advice = "Name a folder that holds model_index.json, or a single .safetensors file."
        return refused("not-a-model", f"{path} is not a diffusers model: it has no model_index.json.", advice)
    pipeline = str(json_of(path / "model_index.json").get("_class_name", ""))
    row = marks.of_pipeline(pipeline)
    if row is not None:
        return marks.detect_folder(path, row)
    kin = marks.kin_of_pipeline(pipeline)
    if kin is not None:
        what = f"{kin.title} (another kind of it)"
        message = f"{path} is another kind of {kin.title} ({pipeline})."
        return refused("other-family", message, _SUPPORTED, what, "diffusers")
    for start, title in _OTHER_PIPELINES.items():
        if pipeline.startswith(start):
            return refused("other-family", f"{path} is a {title} model.", _SUPPORTED, title, "diffusers")
    if pipeline.startswith("StableDiffusionXL") and not (path / "text_encoder" / "config.json").is_file():
        return refused("refiner", f"{path} is the SDXL refiner.", _REFINER, "the SDXL refiner", "diffusers")
    if not pipeline.startswith("StableDiffusion"):
        return refused(
            "other-family", f"{path} holds a {pipeline or 'nameless'} pipeline.", _SUPPORTED, pipeline
        )
    unet = json_of(path / "unet" / "config.json")
    text = json_of(path / "text_encoder" / "config.json")
    vae = json_of(path / "vae" / "config.json")
    scheduler = json_of(path / "scheduler" / "scheduler_config.json")
    xl = pipeline.startswith("StableDiffusionXL") or bool(unet.get("projection_class_embeddings_input_dim"))
    for part in ("tokenizer", "tokenizer_2") if xl else ("tokenizer",):
        if not (path / part).is_dir():
            return refused("incomplete", f"{path / part} is missing.", "Download the base model again.")
    if str(scheduler.get("_class_name", "")).startswith("EDM"):
        return refused("variant", f"{path} was trained with EDM's noise levels.", _SUPPORTED, "an EDM model")
    channels = int(unet.get("in_channels") or 4)
    refusal = _channels_refusal(path, channels, int(vae.get("latent_channels") or 4))
    if refusal is not None:
        return refusal
    headers: dict[str, list[Header]] = {
        part: component(path / part)
        for part in ("unet", "vae", "text_encoder", *(("text_encoder_2",) if xl else ()))
    }
    width = unet.get("cross_attention_dim")
    if xl:
        family, what = "sdxl", "Stable Diffusion XL"
    elif unet.get("use_linear_projection") or width == 1024 or text.get("hidden_act") == "gelu":
        family, what = "sd2", "Stable Diffusion 2.x"
    else:
        family, what = "sd15", "Stable Diffusion 1.x"
    return Detected(
        family=family,
        layout="diffusers",
        prediction=str(scheduler.get("prediction_type") or "epsilon"),
        stated=bool(scheduler.get("prediction_type")),
        parameters=sum(count(h, "") for h in headers["unet"]),
        bytes=sum(h.size for found in headers.values() for h in found),
        latent_factor=2 ** (len(vae.get("block_out_channels") or (0, 0, 0, 0)) - 1),
        what=what,
    )


def _channels_refusal(path: Path, channels: int, latent_channels: int) -> Detected | None:
    if channels == latent_channels:
        return None
    if channels == 2 * latent_channels + 1:
        what = f"an inpainting model ({channels} input channels)"
    elif channels == 2 * latent_channels:
        what = f"a picture-to-picture model ({channels} input channels)"
    elif channels == latent_channels + 1:
        what = f"a depth or upscaling model ({channels} input channels)"
    else:
        what = f"a variant with {channels} input channels"
    advice = "Take the plain base model; its LoRA also loads in the variant."
    return refused("variant", f"{path} is {what}.", advice, what)


def _detect_file(path: Path) -> Detected:
    if path.suffix.lower() in {".ckpt", ".pt", ".pth", ".bin"}:
        return refused(
            "pickle",
            f"{path} is a pickled checkpoint, which can run code when it is opened.",
            f"`loratui convert {path}` writes it as .safetensors without running it; or take the .safetensors"
            " file of the same model.",
        )
    header = read_header(path)
    names = header.tensors
    row = marks.of_file(header)
    if row is not None:
        return marks.detect_file(path, header, row)
    other = _other_file(names, header)
    if other == _REFINER:
        return refused("refiner", f"{path} is the SDXL refiner.", _REFINER, "the SDXL refiner", "original")
    if other:
        return refused("other-family", f"{path} is {other}.", _SUPPORTED, other, "original")
    if not any(name.startswith(UNET + "input_blocks.0.0.") for name in names):
        return refused("not-a-model", f"{path} holds no Stable Diffusion U-Net.", _SUPPORTED)
    if any(name.endswith(".scale_weight") or name == "scaled_fp8" for name in names):
        return refused(
            "scaled-fp8",
            f"{path} holds fp8 weights with scales beside them.",
            "Take the fp16 or bf16 file, or one whose fp8 weights are unscaled.",
        )
    if "edm_mean" in names or "edm_vpred.sigma_max" in names:
        return refused("variant", f"{path} was trained with EDM's noise levels.", _SUPPORTED, "an EDM model")
    if any(name.startswith("conditioner.embedders.1.model.") for name in names):
        family, what = "sdxl", "Stable Diffusion XL"
    elif any(name.startswith("cond_stage_model.model.") for name in names):
        family, what = "sd2", "Stable Diffusion 2.x"
    elif any(name.startswith("cond_stage_model.transformer.") for name in names):
        family, what = "sd15", "Stable Diffusion 1.x"
    else:
        return refused(
            "incomplete",
            f"{path} holds a U-Net without a text encoder.",
            "Take a full checkpoint: U-Net, VAE and text encoder in one file.",
            layout="original",
        )
    channels = header.shape(UNET + "input_blocks.0.0.weight")
    latent = header.shape("first_stage_model.post_quant_conv.weight")
    refusal = _channels_refusal(path, channels[1] if channels else 4, latent[0] if latent else 4)
    if refusal is not None:
        return refusal
    problems: list[Problem] = []
    prediction = _guess_prediction(header, family)
    if not any(name.startswith("first_stage_model.") for name in names):
        problems.append(
            Problem(
                "model.vae", "no-vae", "warning", f"{path} holds no VAE.", advice="Name one with model.vae."
            )
        )
    if not prediction:
        prediction = "v_prediction" if family == "sd2" else "epsilon"
        if family == "sd2":
            problems.append(
                Problem(
                    "objective.prediction",
                    "guessed-prediction",
                    "warning",
                    "The file does not say what the model predicts; v-prediction (SD2.x at 768 px) is taken.",
                    advice="Set objective.prediction to epsilon for a 512 px SD2 base.",
                )
            )
    levels = {n.split(".")[3] for n in names if n.startswith("first_stage_model.encoder.down.")}
    return Detected(
        family=family,
        layout="original",
        prediction=prediction,
        stated="v_pred" in header.tensors or "modelspec.prediction_type" in header.metadata,
        problems=tuple(problems),
        parameters=count(header, UNET),
        bytes=header.size,
        latent_factor=2 ** (len(levels) - 1) if levels else 8,
        what=what,
    )


def _guess_prediction(header: Header, family: str) -> str:
    stated = header.metadata.get("modelspec.prediction_type", "")
    if stated in {"v", "v_prediction"} or "v_pred" in header.tensors:
        return "v_prediction"
    if stated in {"epsilon", "eps"}:
        return "epsilon"
    architecture = header.metadata.get("modelspec.architecture", "")
    if architecture.startswith("stable-diffusion-v2-"):
        return "v_prediction" if architecture.startswith("stable-diffusion-v2-768-v") else "epsilon"
    return "" if family == "sd2" else "epsilon"


def _other_file(names: dict[str, Any], header: Header) -> str:
    """What a file is when it is something we know and cannot train, else an empty string."""

    def holds(start: str) -> bool:
        return any(name.startswith(start) for name in names)

    if holds("conditioner.embedders.0.model.") and not holds("conditioner.embedders.1."):
        return _REFINER
    kin = marks.kin_of_file(header)
    if kin:
        return f"a model with the blocks of {' or '.join(row.title for row in kin)}"
    if holds("transformer_blocks.") or holds("model.diffusion_model.transformer_blocks."):
        return "a diffusion transformer"
    if holds("lora_unet_") or holds("lora_te") or any(".lora_A." in n or ".lora_down." in n for n in names):
        return "a LoRA, not a base model"
    if holds("down_blocks.") and holds("up_blocks."):
        return "a bare diffusers U-Net, not a whole base model"
    if holds("encoder.down.") or holds("encoder.down_blocks."):
        return "a VAE, not a base model"
    return ""
