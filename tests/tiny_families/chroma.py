"""A random Chroma base of two double and two single blocks: T5, 4 latent channels."""

from __future__ import annotations

from pathlib import Path

import tiny_kit as kit
import torch


def make(folder: Path, seed: int = 0) -> Path:
    """Save it as a diffusers folder."""
    from diffusers.models.transformers.transformer_chroma import ChromaTransformer2DModel

    torch.manual_seed(seed)
    transformer = ChromaTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=32,
        num_attention_heads=1, joint_attention_dim=24, axes_dims_rope=(4, 14, 14),
        approximator_num_channels=16, approximator_hidden_dim=32, approximator_layers=1,
    )  # fmt: skip
    kit.shake(transformer)
    transformer.save_pretrained(folder / "transformer")
    kit.codec(latent_channels=4, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False,
              use_post_quant_conv=False).save_pretrained(folder / "vae")  # fmt: skip
    kit.t5_text(24).save_pretrained(folder / "text_encoder")
    kit.t5_tokenizer(folder / "tokenizer")
    kit.scheduler(folder / "scheduler", shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15,
                  base_image_seq_len=256, max_image_seq_len=4096)  # fmt: skip
    kit.index(folder, "chroma")
    return folder


def pipeline():
    """The pipeline's class, to load files with."""
    from diffusers.pipelines.chroma.pipeline_chroma import ChromaPipeline

    return ChromaPipeline


def cut(pipe, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The pipeline's own embeddings and mask, without what the mask hides."""
    with torch.no_grad():
        embeds, mask = pipe._get_t5_prompt_embeds(text, device=torch.device("cpu"))
    length = int(mask.sum())
    return embeds[:, :length], mask[:, :length]


def velocity(pipe, call, caption: str, noisy_CHW, sigma: float, guidance: float):
    """One sample's velocity: the pipeline encodes, packs and unpacks, `call` is the transformer."""
    embeds, _ = cut(pipe, caption)
    channels, height, width = noisy_CHW.shape
    tokens = pipe._pack_latents(noisy_CHW[None], 1, channels, height, width)
    output = call(
        hidden_states=tokens, timestep=torch.tensor([sigma], dtype=noisy_CHW.dtype),
        encoder_hidden_states=embeds.to(noisy_CHW), txt_ids=torch.zeros(embeds.shape[1], 3),
        img_ids=pipe._prepare_latent_image_ids(1, height // 2, width // 2, "cpu", torch.float32),
    )  # fmt: skip
    factor = pipe.vae_scale_factor
    return pipe._unpack_latents(output, height * factor, width * factor, factor)[0]


def arguments(pipe, prompt: str, guidance: float) -> dict:
    """The call of the pipeline; embeddings, because its float mask biases the attention to the filling."""
    (embeds, mask), (other, other_mask) = cut(pipe, prompt), cut(pipe, "")
    return {
        "prompt_embeds": embeds, "prompt_attention_mask": mask, "negative_prompt_embeds": other,
        "negative_prompt_attention_mask": other_mask, "guidance_scale": guidance,
    }  # fmt: skip


def original(tensors: dict) -> dict:
    """diffusers' tensors as the original's file has them."""
    from tiny_families import flux

    start, own, rest = "distilled_guidance_layer.", {}, {}
    for name, tensor in tensors.items():
        if name.startswith(start):
            name = name.replace("linear_1", "in_layer").replace("linear_2", "out_layer")
            own[name.replace("norms.0.weight", "norms.0.scale")] = tensor
        else:
            rest[name] = tensor
    return flux.original(rest) | own
