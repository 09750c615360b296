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


def arguments(pipe, prompt: str, guidance: float) -> dict:
    """The call of the pipeline for a prompt."""
    return {"prompt": prompt, "guidance_scale": guidance}


def original(tensors: dict) -> dict:
    """diffusers' tensors as the original's file has them."""
    left, found = dict(tensors), {}
    for leaf in ("weight", "bias"):
        for n in range(2):
            a, b = f"transformer_blocks.{n}.", f"joint_blocks.{n}."
            found[f"{b}x_block.attn.qkv.{leaf}"] = kit.fuse(left, [f"{a}attn.to_{x}" for x in "qkv"], leaf)
            names = [f"{a}attn.add_{x}_proj" for x in "qkv"]
            found[f"{b}context_block.attn.qkv.{leaf}"] = kit.fuse(left, names, leaf)
        names = [f"transformer_blocks.0.attn2.to_{x}" for x in "qkv"]
        found[f"joint_blocks.0.x_block.attn2.qkv.{leaf}"] = kit.fuse(left, names, leaf)
    words = (
        ("transformer_blocks.", "joint_blocks."), (".attn.to_out.0.", ".x_block.attn.proj."),
        (".attn2.to_out.0.", ".x_block.attn2.proj."), (".attn.to_add_out.", ".context_block.attn.proj."),
        (".ff.net.0.proj.", ".x_block.mlp.fc1."), (".ff.net.2.", ".x_block.mlp.fc2."),
        (".ff_context.net.0.proj.", ".context_block.mlp.fc1."),
        (".ff_context.net.2.", ".context_block.mlp.fc2."),
        (".norm1.linear.", ".x_block.adaLN_modulation.1."), ("pos_embed.proj.", "x_embedder.proj."),
        (".norm1_context.linear.", ".context_block.adaLN_modulation.1."),
        (".attn.norm_q.", ".x_block.attn.ln_q."), (".attn.norm_k.", ".x_block.attn.ln_k."),
        (".attn2.norm_q.", ".x_block.attn2.ln_q."), (".attn2.norm_k.", ".x_block.attn2.ln_k."),
        (".attn.norm_added_q.", ".context_block.attn.ln_q."),
        (".attn.norm_added_k.", ".context_block.attn.ln_k."), ("pos_embed.pos_embed", "pos_embed"),
        ("time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.0"),
        ("time_text_embed.timestep_embedder.linear_2", "t_embedder.mlp.2"),
        ("time_text_embed.text_embedder.linear_1", "y_embedder.mlp.0"),
        ("time_text_embed.text_embedder.linear_2", "y_embedder.mlp.2"),
    )  # fmt: skip
    for name, tensor in left.items():
        swapped = name.startswith(("norm_out.linear.", "transformer_blocks.1.norm1_context."))
        if name.startswith("proj_out."):
            name = name.replace("proj_out", "final_layer.linear")
        if name.startswith("norm_out.linear"):
            name = name.replace("norm_out.linear", "final_layer.adaLN_modulation.1")
        for ours, theirs in words:
            name = name.replace(ours, theirs)
        found[name] = kit.swap(tensor) if swapped else tensor
    return found
