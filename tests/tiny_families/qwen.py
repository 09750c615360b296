"""A random Qwen-Image base of two blocks: Qwen2.5-VL of one layer, the video codec at factor 2."""

from __future__ import annotations

import json
from pathlib import Path

import tiny_kit as kit
import torch
from safetensors.torch import load_file

# With these the system message is as many tokens as in the true vocabulary, before a caption of characters.
WORDS = (
    "system", "user", "assistant", "Describe", " the", " image", " by", " detailing", " color", " shape",
    " size", " texture", " quantity", " text", " spatial", " relationships", " of", " objects", " and",
    " background",
)  # fmt: skip
MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def make(folder: Path, seed: int = 0) -> Path:
    """Save it as a diffusers folder."""
    from diffusers.models.autoencoders.autoencoder_kl_qwenimage import AutoencoderKLQwenImage
    from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformer2DModel

    torch.manual_seed(seed)
    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=64, out_channels=16, num_layers=2, attention_head_dim=32,
        num_attention_heads=2, joint_attention_dim=128, axes_dims_rope=(4, 14, 14),
    )  # fmt: skip
    kit.shake(transformer)
    transformer.save_pretrained(folder / "transformer")
    torch.manual_seed(seed)
    codec = AutoencoderKLQwenImage(
        base_dim=8, z_dim=16, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[True]
    )
    codec.save_pretrained(folder / "vae")
    text(folder / "text_encoder", seed)
    tokenizer(folder / "tokenizer")
    kit.scheduler(
        folder / "scheduler", shift=1.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9,
        base_image_seq_len=256, max_image_seq_len=8192, shift_terminal=0.02,
    )  # fmt: skip
    kit.index(folder, "qwen")
    return folder


def text(folder: Path, seed: int) -> None:
    """Qwen2.5-VL with its vision tower and its head, as diffusers' folders have it."""
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(seed + 7)
    rope = {"type": "mrope", "mrope_section": [16, 24, 24]}
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 128, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1,
            "num_key_value_heads": 1, "vocab_size": 300, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
            "rope_scaling": rope, "bos_token_id": None, "eos_token_id": None,
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 1, "out_hidden_size": 128,
            "fullatt_block_indexes": [0],
        },
    )  # fmt: skip
    Qwen2_5_VLForConditionalGeneration(config).eval().save_pretrained(folder)


def tokenizer(folder: Path) -> None:
    """Qwen2's tokenizer of bytes, and the words of the system message."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

    vocabulary = {letter: n for n, letter in enumerate(sorted(ByteLevel.alphabet()))}
    found = Qwen2Tokenizer(vocab=vocabulary, merges=[])
    found.add_special_tokens({"additional_special_tokens": list(MARKS[1:])})
    found.add_tokens(list(WORDS))
    assert len(found) <= 300
    found.save_pretrained(folder)


def pipeline():
    """The pipeline's class, to load files with."""
    from diffusers.pipelines.qwenimage.pipeline_qwenimage import QwenImagePipeline

    return QwenImagePipeline


def velocity(pipe, call, caption: str, noisy_CHW, sigma: float, guidance: float):
    """One sample's velocity: the pipeline encodes, packs and unpacks, `call` is the transformer."""
    with torch.no_grad():
        embeds, mask = pipe.encode_prompt(caption, device=torch.device("cpu"))
    assert mask is None
    channels, height, width = noisy_CHW.shape
    tokens = pipe._pack_latents(noisy_CHW[None, None], 1, channels, height, width)
    output = call(
        hidden_states=tokens, timestep=torch.tensor([sigma], dtype=noisy_CHW.dtype),
        encoder_hidden_states=embeds.to(noisy_CHW), img_shapes=[[(1, height // 2, width // 2)]],
    )  # fmt: skip
    factor = pipe.vae_scale_factor
    return pipe._unpack_latents(output, height * factor, width * factor, factor)[0, :, 0]


def arguments(pipe, prompt: str, guidance: float) -> dict:
    """The call of the pipeline for a prompt."""
    return {"prompt": prompt, "negative_prompt": " ", "true_cfg_scale": guidance}


def original(tensors: dict) -> dict:
    """The original's file has diffusers' names."""
    return dict(tensors)


def codec_tensors(folder: Path) -> dict:
    """The codec under the original's names."""
    from loratui.families.layouts import wan

    modules = wan.vae_modules(json.loads((folder / "vae" / "config.json").read_text()))
    tensors = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    return {wan.vae_original_name(name, modules): tensor for name, tensor in tensors.items()}
