"""A random Z-Image base of two layers and two refiners: Qwen3 of three layers, 4 latent channels."""

from __future__ import annotations

from pathlib import Path

import tiny_kit as kit
import torch

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def make(folder: Path, seed: int = 0) -> Path:
    """Save it as a diffusers folder."""
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

    torch.manual_seed(seed)
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=96, n_layers=2, n_refiner_layers=1, n_heads=3, n_kv_heads=3, cap_feat_dim=24,
        axes_dims=(8, 12, 12), axes_lens=(1536, 512, 512),
    )  # fmt: skip
    kit.shake(transformer)
    transformer.save_pretrained(folder / "transformer")
    kit.codec(latent_channels=4, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False,
              use_post_quant_conv=False).save_pretrained(folder / "vae")  # fmt: skip
    text(folder / "text_encoder", seed)
    tokenizer(folder / "tokenizer")
    kit.scheduler(folder / "scheduler", shift=3.0, use_dynamic_shifting=False)
    kit.index(folder, "zimage")
    return folder


def text(folder: Path, seed: int) -> None:
    """Qwen3 of three layers, of which the second is taken."""
    from transformers.models.qwen3.configuration_qwen3 import Qwen3Config
    from transformers.models.qwen3.modeling_qwen3 import Qwen3Model

    torch.manual_seed(seed + 7)
    config = Qwen3Config(
        hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, head_dim=8,
        num_key_value_heads=1, vocab_size=280, rope_theta=1e6, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    encoder = Qwen3Model(config).eval()
    kit.shake(encoder, 0.1)
    encoder.save_pretrained(folder)


def tokenizer(folder: Path) -> None:
    """Qwen's tokenizer of bytes with Qwen3's chat."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

    vocabulary = {letter: n for n, letter in enumerate(sorted(ByteLevel.alphabet()))}
    found = Qwen2Tokenizer(vocab=vocabulary, merges=[])
    found.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    found.chat_template = CHAT
    found.save_pretrained(folder)


def pipeline():
    """The pipeline's class, to load files with."""
    from diffusers.pipelines.z_image.pipeline_z_image import ZImagePipeline

    return ZImagePipeline


def velocity(pipe, call, caption: str, noisy_CHW, sigma: float, guidance: float):
    """One sample's velocity: the pipeline encodes, `call` is the transformer, told of 1 - sigma."""
    with torch.no_grad():
        embeds, _ = pipe.encode_prompt(caption, torch.device("cpu"), do_classifier_free_guidance=False)
    answer = call(
        x=[noisy_CHW[:, None]], t=torch.tensor([1 - sigma], dtype=noisy_CHW.dtype),
        cap_feats=[embeds[0].to(noisy_CHW)],
    )  # fmt: skip
    return -answer[0][:, 0]


def arguments(pipe, prompt: str, guidance: float) -> dict:
    """The call of the pipeline for a prompt."""
    return {"prompt": prompt, "negative_prompt": "", "guidance_scale": guidance}


def original(tensors: dict) -> dict:
    """diffusers' tensors as the original's file has them."""
    left, found = dict(tensors), {}
    for block in ("layers.0", "layers.1", "noise_refiner.0", "context_refiner.0"):
        start = f"{block}.attention."
        found[f"{start}qkv.weight"] = kit.fuse(left, [f"{start}to_{x}" for x in "qkv"], "weight")
    words = (
        ("all_x_embedder.2-1.", "x_embedder."), ("all_final_layer.2-1.", "final_layer."),
        (".attention.to_out.0.", ".attention.out."), (".attention.norm_q.", ".attention.q_norm."),
        (".attention.norm_k.", ".attention.k_norm."),
    )  # fmt: skip
    for name, tensor in left.items():
        for ours, theirs in words:
            name = name.replace(ours, theirs)
        found[name] = tensor
    return found
