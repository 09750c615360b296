"""A random FLUX.1 dev base of two double and two single blocks: CLIP-L and T5, 4 latent channels."""

from __future__ import annotations

from pathlib import Path

import tiny_kit as kit
import torch


def make(folder: Path, seed: int = 0) -> Path:
    """Save it as a diffusers folder."""
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

    torch.manual_seed(seed)
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=32,
        num_attention_heads=1, joint_attention_dim=24, pooled_projection_dim=32, guidance_embeds=True,
        axes_dims_rope=(4, 14, 14),
    )  # fmt: skip
    kit.shake(transformer)
    transformer.save_pretrained(folder / "transformer")
    kit.codec(latent_channels=4, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False,
              use_post_quant_conv=False).save_pretrained(folder / "vae")  # fmt: skip
    torch.manual_seed(seed + 1)
    kit.clip_text(32).save_pretrained(folder / "text_encoder")
    kit.clip_tokenizer(folder / "tokenizer", "<|endoftext|>")
    kit.t5_text(24).save_pretrained(folder / "text_encoder_2")
    kit.t5_tokenizer(folder / "tokenizer_2")
    kit.scheduler(folder / "scheduler", shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15,
                  base_image_seq_len=256, max_image_seq_len=4096)  # fmt: skip
    kit.index(folder, "flux")
    return folder


def pipeline():
    """The pipeline's class, to load files with."""
    from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

    return FluxPipeline


def velocity(pipe, call, caption: str, noisy_CHW, sigma: float, guidance: float):
    """One sample's velocity: the pipeline encodes, packs and unpacks, `call` is the transformer."""
    embeds, pooled, text_ids = pipe.encode_prompt(caption, None, device=torch.device("cpu"))
    channels, height, width = noisy_CHW.shape
    tokens = pipe._pack_latents(noisy_CHW[None], 1, channels, height, width)
    output = call(
        hidden_states=tokens, timestep=torch.tensor([sigma], dtype=noisy_CHW.dtype),
        guidance=torch.tensor([guidance], dtype=noisy_CHW.dtype), pooled_projections=pooled.to(noisy_CHW),
        encoder_hidden_states=embeds.to(noisy_CHW), txt_ids=text_ids,
        img_ids=pipe._prepare_latent_image_ids(1, height // 2, width // 2, "cpu", torch.float32),
    )  # fmt: skip
    factor = pipe.vae_scale_factor
    return pipe._unpack_latents(output, height * factor, width * factor, factor)[0]


def arguments(pipe, prompt: str, guidance: float) -> dict:
    """The call of the pipeline for a prompt."""
    return {"prompt": prompt, "guidance_scale": guidance}


def original(tensors: dict) -> dict:
    """diffusers' tensors as the original's file has them."""
    left, found = dict(tensors), {}
    for leaf in ("weight", "bias"):
        for n in range(2):
            a, b = f"transformer_blocks.{n}.attn.", f"double_blocks.{n}."
            found[f"{b}img_attn.qkv.{leaf}"] = kit.fuse(left, [f"{a}to_{x}" for x in "qkv"], leaf)
            found[f"{b}txt_attn.qkv.{leaf}"] = kit.fuse(left, [f"{a}add_{x}_proj" for x in "qkv"], leaf)
            s = f"single_transformer_blocks.{n}."
            names = [f"{s}attn.to_{x}" for x in "qkv"] + [f"{s}proj_mlp"]
            found[f"single_blocks.{n}.linear1.{leaf}"] = kit.fuse(left, names, leaf)
    words = (
        ("single_transformer_blocks.", "single_blocks."), ("transformer_blocks.", "double_blocks."),
        (".attn.to_out.0.", ".img_attn.proj."), (".attn.to_add_out.", ".txt_attn.proj."),
        (".ff.net.0.proj.", ".img_mlp.0."), (".ff.net.2.", ".img_mlp.2."),
        (".ff_context.net.0.proj.", ".txt_mlp.0."), (".ff_context.net.2.", ".txt_mlp.2."),
        (".norm1.linear.", ".img_mod.lin."), (".norm1_context.linear.", ".txt_mod.lin."),
        (".norm.linear.", ".modulation.lin."), (".proj_out.", ".linear2."),
        ("time_text_embed.timestep_embedder", "time_in"), ("time_text_embed.text_embedder", "vector_in"),
        ("time_text_embed.guidance_embedder", "guidance_in"), (".linear_1.", ".in_layer."),
        (".linear_2.", ".out_layer."), ("context_embedder.", "txt_in."), ("x_embedder.", "img_in."),
    )  # fmt: skip
    for name, tensor in left.items():
        if name.startswith("norm_out.linear."):
            leaf = name.rpartition(".")[2]
            found[f"final_layer.adaLN_modulation.1.{leaf}"] = kit.swap(tensor)
            continue
        if name.startswith("proj_out."):
            found["final_layer.linear." + name.rpartition(".")[2]] = tensor
            continue
        for ours, theirs in words:
            name = name.replace(ours, theirs)
        start = ".norm." if "single" in name else ".img_attn.norm."
        name = name.replace(".attn.norm_added_q.weight", ".txt_attn.norm.query_norm.scale")
        name = name.replace(".attn.norm_added_k.weight", ".txt_attn.norm.key_norm.scale")
        name = name.replace(".attn.norm_q.weight", f"{start}query_norm.scale")
        found[name.replace(".attn.norm_k.weight", f"{start}key_norm.scale")] = tensor
    return found
