"""A random Stable Diffusion 3 base of two joint blocks: CLIP-L, CLIP-G and T5, 4 latent channels."""

from __future__ import annotations

from pathlib import Path

import tiny_kit as kit
import torch


def make(folder: Path, seed: int = 0) -> Path:
    """Save it as a diffusers folder."""
    from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

    torch.manual_seed(seed)
    transformer = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=96, caption_projection_dim=32, pooled_projection_dim=64,
        pos_embed_max_size=16, dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip
    kit.shake(transformer)
    transformer.save_pretrained(folder / "transformer")
    kit.codec(latent_channels=4, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False,
              use_post_quant_conv=False).save_pretrained(folder / "vae")  # fmt: skip
    for number, seed_of in (("", 1), ("_2", 2)):
        torch.manual_seed(seed + seed_of)
        act = "gelu" if number else "quick_gelu"
        encoder = kit.clip_text(32, layers=2, projection=32, act=act)
        encoder.save_pretrained(folder / f"text_encoder{number}")
        kit.clip_tokenizer(folder / f"tokenizer{number}", "!" if number else "<|endoftext|>")
    kit.t5_text(96).save_pretrained(folder / "text_encoder_3")
    kit.t5_tokenizer(folder / "tokenizer_3")
    kit.scheduler(folder / "scheduler", shift=3.0)
    kit.index(folder, "sd3")
    return folder


def pipeline():
    """The pipeline's class, to load files with."""
    from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline

    return StableDiffusion3Pipeline


def velocity(pipe, call, caption: str, noisy_CHW, sigma: float, guidance: float):
    """One sample's velocity: the pipeline encodes, `call` is the transformer."""
    embeds, _, pooled, _ = pipe.encode_prompt(
        caption, None, None, device=torch.device("cpu"), do_classifier_free_guidance=False
    )
    return call(
        hidden_states=noisy_CHW[None], timestep=torch.tensor([1000 * sigma], dtype=noisy_CHW.dtype),
        encoder_hidden_states=embeds.to(noisy_CHW), pooled_projections=pooled.to(noisy_CHW),
    )[0]  # fmt: skip


def guidance(value: float) -> dict:
    """How the pipeline is told of the guidance."""
    return {"guidance_scale": value}
