"""Loading and running bases made of a UNet2DConditionModel, a KL codec and CLIP text encoders.

SD1.x, SD2.x and SDXL are all that; their modules say what differs. Nothing here touches the network: settings
of single files come from the package (`configs/`) and from the shapes of the file's own tensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from loratui.errors import BaseModelError
from loratui.families import clip_text
from loratui.families.clip_text import TextTower
from loratui.families.layouts import clip, ldm
from loratui.families.loading import (
    CONFIGS,
    assemble,
    check_header,
    identity,
    read_json,
    read_tensors,
    weight_files,
)
from loratui.families.protocol import Condition, Lazy, LazyModules, Parts
from loratui.weights.consumers import STRUCTURES, structure_from_text

Shapes = dict[str, tuple[int, ...]]
UNET_KEY = "lora_unet"
"""The start of the U-Net's modules' names in kohya files."""


def load_folder(
    base: Path, towers: Sequence[TextTower], dtype: torch.dtype, prediction: str, vae: Path | None
) -> Parts:
    """Load a diffusers folder; see `Family.load`."""
    unet_files = weight_files(base / "unet")
    unet_config = read_json(base / "unet" / "config.json")
    unet = assemble(
        lambda: UNet2DConditionModel.from_config(unet_config), read_tensors(unet_files), dtype, "U-Net"
    )
    texts = {tower.key: clip_text.find_in_folder(base, tower) for tower in towers}
    scheduler = read_json(base / "scheduler" / "scheduler_config.json")
    return _parts(
        unet, load_vae(vae or base / "vae"), texts, scheduler, prediction, identity(unet_files, unet_config)
    )


def load_single(
    base: Path, configs: str, towers: Sequence[TextTower], heads: Callable[[Sequence[int]], Any],
    dtype: torch.dtype, prediction: str, vae: Path | None,
) -> Parts:  # fmt: skip
    """Load an original-layout file; see `Family.load`.

    Args:
        base: the file.
        configs: name of the folder of packaged settings.
        towers: its text encoders.
        heads: `attention_head_dim` for given `block_out_channels`, which no tensor shape tells.
        dtype: what the U-Net is held in.
        prediction: what the U-Net predicts, or `auto`.
        vae: another codec to take.
    """
    folder = CONFIGS / configs
    header = check_header(base)
    shapes: Shapes = {name: info.shape for name, info in header.tensors.items()}
    unet_config = infer_unet(shapes, read_json(folder / "unet" / "config.json"), heads)
    modules = ldm.unet_modules(unet_config)
    tensors = read_tensors([base], ldm.UNET_PREFIX)
    names = _meta_names(lambda: UNet2DConditionModel.from_config(unet_config))
    unet = assemble(
        lambda: UNet2DConditionModel.from_config(unet_config),
        _renamed(tensors, {n: ldm.unet_original_name(n, modules) for n in names}),
        dtype, "U-Net",
    )  # fmt: skip
    texts = {tower.key: clip_text.find_in_file(base, folder, tower) for tower in towers}
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    if "ztsnr" in shapes:  # the mark that fine-tunes with a zero terminal SNR carry
        scheduler["rescale_betas_zero_snr"] = True
    return _parts(
        unet,
        load_vae(vae or base, read_json(folder / "vae" / "config.json")),
        texts,
        scheduler,
        prediction,
        identity([base], unet_config),
    )


def load_vae(
    source: Path, packaged: dict[str, Any] | None = None, kind: Any = AutoencoderKL
) -> tuple[Any, str]:
    """A KL codec in fp32 from a diffusers folder or an original-layout file (of a codec or a whole base).

    Args:
        source: the folder or the file.
        packaged: the family's settings of the codec, for what a file does not tell; SD1.x's by default.
        kind: diffusers' class.

    Returns:
        The codec and its content hash.
    """
    if source.is_dir():
        folder = source / "vae" if (source / "vae" / "config.json").is_file() else source
        config, files = read_json(folder / "config.json"), weight_files(folder)
        tensors = {_modern_attention(k): v for k, v in read_tensors(files).items()}
        codec = assemble(lambda: kind.from_config(config), tensors, torch.float32, "VAE")
        return codec, identity(files, config)
    found = check_header(source).tensors
    prefix = ldm.VAE_PREFIX if any(name.startswith(ldm.VAE_PREFIX) for name in found) else ""
    shapes = {_outside(n[len(prefix) :]): info.shape for n, info in found.items() if n.startswith(prefix)}
    config = infer_vae(shapes, packaged or read_json(CONFIGS / "sd15" / "vae" / "config.json"))
    modules = ldm.vae_modules(config)
    names = _meta_names(lambda: kind.from_config(config))
    stored = {_outside(n): tensor for n, tensor in read_tensors([source], prefix).items()}
    tensors = _renamed(stored, {n: ldm.vae_original_name(n, modules) for n in names})
    if "bn.running_mean" in tensors:  # not all files have the count beside
        tensors.setdefault("bn.num_batches_tracked", torch.tensor(0))
    codec = assemble(lambda: kind.from_config(config), tensors, torch.float32, "VAE")
    return codec, identity([source], config, "vae")


def _outside(name: str) -> str:
    """Some originals have these two within encoder and decoder."""
    for side, layer in (("encoder", "quant_conv."), ("decoder", "post_quant_conv.")):
        name = name.removeprefix(f"{side}.") if name.startswith(f"{side}.{layer}") else name
    return name


def _modern_attention(name: str) -> str:
    """Old diffusers codecs name the attention's projections otherwise."""
    if ".attentions." in name:
        for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
            name = name.replace(f".{old}.", f".{new}.")
    return name


def _meta_names(build: Callable[[], torch.nn.Module]) -> list[str]:
    with torch.device("meta"):
        return list(build().state_dict())


def _renamed(tensors: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """diffusers name -> tensor; names without a tensor are left out and reported by `assemble`."""
    return {ours: tensors[theirs] for ours, theirs in names.items() if theirs in tensors}


def _parts(
    unet: UNet2DConditionModel, codec: tuple[AutoencoderKL, str],
    texts: dict[str, clip_text.Found], scheduler: dict[str, Any], prediction: str,
    base_hash: str,
) -> Parts:  # fmt: skip
    if prediction == "auto":
        prediction = scheduler.get("prediction_type") or "epsilon"
    vae, vae_identity = codec
    channels, latent_channels = unet.config.in_channels, vae.config.latent_channels
    if channels != latent_channels:
        raise BaseModelError(
            f"The U-Net takes {channels} channels and the VAE makes {latent_channels}.",
            "Inpainting and picture-to-picture variants cannot be trained here; take the plain base model.",
        )
    width, wanted = sum(t.config.hidden_size for t in texts.values()), unet.config.cross_attention_dim
    if width != wanted:
        raise BaseModelError(
            f"The text encoder makes {width} features and the U-Net takes {wanted}.",
            "The base mixes parts of different families.",
        )
    if scheduler.get("rescale_betas_zero_snr"):
        if prediction == "epsilon":
            raise BaseModelError(
                "The base has a zero terminal SNR and predicts epsilon, which says nothing about that step.",
                "Set objective.prediction to v_prediction.",
            )
        # Sampling must begin at the step without signal, which only trailing steps do (Lin et al. 2023, 3.3).
        scheduler = {**scheduler, "timestep_spacing": "trailing"}
    identities = [text.identity for text in texts.values()]
    return Parts(
        denoiser=unet,
        vae=vae,
        text_encoders=LazyModules({key: text.encoder for key, text in texts.items()}),
        tokenizers=Lazy({key: text.tokenizer for key, text in texts.items()}),
        scheduler={**scheduler, "prediction_type": prediction},
        prediction=prediction,
        latent_factor=2 ** (len(vae.config.block_out_channels) - 1),
        latent_channels=vae.config.latent_channels,
        vae_identity=vae_identity,
        text_identity=identities[0] if len(identities) == 1 else identity([], *identities),
        base_hash=base_hash,
        extras={"text_layers": [int(text.config.num_hidden_layers) for text in texts.values()]},
    )


def infer_unet(
    shapes: Shapes, config: dict[str, Any], heads: Callable[[Sequence[int]], Any]
) -> dict[str, Any]:
    """U-Net settings from the shapes in an original-layout file; `config` gives what no shape tells.

    For true SD1.x and SD2.x files this returns the packaged settings.
    """
    p = ldm.UNET_PREFIX
    downsamplers = sorted(
        int(n.removeprefix(p + "input_blocks.").split(".")[0])
        for n in shapes
        if n.startswith(p + "input_blocks.") and n.endswith(".0.op.weight")
    )
    blocks = sorted({int(n.split(".")[3]) for n in shapes if n.startswith(p + "input_blocks.")})
    if not blocks:
        raise BaseModelError("The file holds no U-Net.", "It is no Stable Diffusion checkpoint.")
    layers = downsamplers[0] - 1 if downsamplers else blocks[-1]
    levels = len(downsamplers) + 1
    firsts = [1 + level * (layers + 1) for level in range(levels)]
    channels = [shapes[f"{p}input_blocks.{n}.0.out_layers.3.weight"][0] for n in firsts]
    attends = [f"{p}input_blocks.{n}.1.norm.weight" in shapes for n in firsts]
    attends_up = [
        f"{p}output_blocks.{level * (layers + 1)}.1.norm.weight" in shapes for level in range(levels)
    ]
    middle = f"{p}middle_block.1."
    depths = [
        len({name.split(".")[6] for name in shapes if name.startswith(f"{p}input_blocks.{n}.1.transformer")})
        for n in firsts
    ]
    found = config | {
        "block_out_channels": channels,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attends_up],
        "attention_head_dim": heads(channels),
        "cross_attention_dim": shapes[f"{middle}transformer_blocks.0.attn2.to_k.weight"][1],
        "in_channels": shapes[f"{p}input_blocks.0.0.weight"][1],
        "out_channels": shapes[f"{p}out.2.weight"][0],
    }
    if "transformer_layers_per_block" in config:
        found["transformer_layers_per_block"] = [depth or 1 for depth in depths]
        sizes = shapes[f"{p}label_emb.0.0.weight"][1]
        found["projection_class_embeddings_input_dim"] = sizes
        pooled = shapes.get(clip.SDXL_PREFIXES[1] + "text_projection", (0, 1280))[1]
        found["addition_time_embed_dim"] = (sizes - pooled) // 6  # six numbers beside the pooled text
    return found


def infer_vae(shapes: Shapes, config: dict[str, Any]) -> dict[str, Any]:
    """Codec settings from the shapes in an original-layout file (prefix removed)."""
    levels = 1 + max((int(n.split(".")[2]) for n in shapes if n.startswith("encoder.down.")), default=-1)
    if not levels:
        raise BaseModelError(
            "The file holds no VAE.", "Take a full checkpoint, or name a VAE with model.vae."
        )
    layers = 1 + max(int(n.split(".")[4]) for n in shapes if n.startswith("encoder.down.0.block."))
    plain: dict[str, Any] = {}
    if "post_quant_conv.weight" not in shapes:  # codecs with a shift have none
        plain = {"use_quant_conv": False, "use_post_quant_conv": False}
    widths = [
        [shapes[f"{side}.{n}.block.0.conv1.weight"][0] for n in range(levels)]
        for side in ("encoder.down", "decoder.up")
    ]
    if widths[0] != widths[1]:  # a small decoder
        plain["decoder_block_out_channels"] = widths[1]
    return (
        config
        | plain
        | {
            "block_out_channels": widths[0],
            "layers_per_block": layers,
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            "latent_channels": shapes["decoder.conv_in.weight"][1],
        }
    )


def encode_pictures(parts: Parts, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """See `Family.encode_pictures`."""
    posterior = parts.vae.encode(pixels_BCHW).latent_dist
    scale = parts.vae.config.scaling_factor
    shift = getattr(parts.vae.config, "shift_factor", None) or 0.0
    return (posterior.mean - shift) * scale, posterior.std * scale


def decode_latents(parts: Parts, latents_BCHW: Tensor) -> Tensor:
    """See `Family.decode_latents`."""
    shift = getattr(parts.vae.config, "shift_factor", None) or 0.0
    scaled = latents_BCHW / parts.vae.config.scaling_factor
    pixels: Tensor = parts.vae.decode(scaled + shift if shift else scaled, return_dict=False)[0]
    return pixels


def predict(parts: Parts, noisy_BCHW: Tensor, timesteps_B: Tensor, condition: Condition) -> Tensor:
    """See `Family.predict`."""
    output: Tensor = parts.denoiser(noisy_BCHW, timesteps_B, condition["prompt_embeds"], return_dict=False)[0]
    return output


def target_modules(denoiser: torch.nn.Module, target: str) -> list[str]:
    """The layers of the transformer blocks; `full` adds the projections around them.

    `full+conv` adds the residual blocks' convolutions and time projections and the down- and upsamplers,
    which is what sd-scripts' LoCon trains; the first and the last convolution stay as they are.
    """
    endings = [f".attn{n}.{leaf}" for n in (1, 2) for leaf in ("to_q", "to_k", "to_v", "to_out.0")]
    if target != "attention":
        endings += [".ff.net.0.proj", ".ff.net.2"]
    if target in {"full", "full+conv"}:
        endings += [".proj_in", ".proj_out"]
    inside = [".conv1", ".conv2", ".conv_shortcut", ".time_emb_proj"] if target == "full+conv" else []
    between = ["samplers.0.conv"] if target == "full+conv" else []
    return [
        name
        for name, module in denoiser.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
        and (
            (".attentions." in name and name.endswith(tuple(endings)))
            or (".resnets." in name and name.endswith(tuple(inside)))
            or name.endswith(tuple(between))
        )
    ]


def blocks(denoiser: Any) -> list[torch.nn.Module]:
    """Residual and transformer blocks in the order in which they run: at each place of a level first the
    residual block, then the transformer behind it.
    """
    found: list[torch.nn.Module] = []
    for level in (*denoiser.down_blocks, denoiser.mid_block, *denoiser.up_blocks):
        for resnet, attention in zip_longest(level.resnets, getattr(level, "attentions", ())):
            found.append(resnet)
            found += attention.transformer_blocks if attention is not None else ()
    return found


def structure_metadata(parts: Parts, family: str) -> dict[str, str]:
    """What `verify` needs to look names up when the base has other blocks than the true model (the demo)."""
    unet = parts.denoiser.config
    depths = unet.transformer_layers_per_block
    depths = [depths] * len(unet.down_block_types) if isinstance(depths, int) else list(depths)
    layers: list[int] = parts.extras["text_layers"]
    structure = {
        "attention": [
            d * ("CrossAttn" in kind) for kind, d in zip(unet.down_block_types, depths, strict=True)
        ],
        "middle": depths[-1],
        "layers": unet.layers_per_block,
        "text_layers": layers if len(layers) > 1 else layers[0],
    }
    text = json.dumps(structure)
    return {} if structure_from_text(text, family) == STRUCTURES[family] else {"loratui_structure": text}


def kohya_name(key: str, module: str) -> str:
    """`lora_unet_` and the diffusers path with underscores: what every consumer of SD1/SD2 files reads."""
    return f"{key}_" + module.replace(".", "_") if key == UNET_KEY else clip_text.kohya_name(key, module)
