"""Stable Diffusion 3 and 3.5: rectified flow, CLIP-L, CLIP-G and T5, 1024 px (Esser et al. 2024,
arXiv:2403.03206).

The joint attention sees the last but one hidden states of both CLIPs side by side, filled up to T5's width,
and behind them T5's; the pooled outputs of both CLIPs go with the timestep. Bases without T5 get zeros in its
place, as they do when they sample.
"""

# /// family
# title = "Stable Diffusion 3 and 3.5"
# resolution = 1024
# latent_factor = 8
# blocks = 24
# notes = "rectified flow; CLIP-L, CLIP-G and T5, without T5 where the base has none"
# flow = true
# patch = 2
# files = "peft"
# networks = ["lora"]
# trains_text = false
# pipelines = ["StableDiffusion3Pipeline"]
# marks = ["joint_blocks.0.x_block.attn.qkv.weight", "y_embedder.mlp.0.weight"]
# parameters = 2_028_328_000
# others = 5_700_000_000
# optional = ["text_encoder_3"]
#
# [[captions]]
# tokens = 77 # of both CLIPs, side by side
# width = 2048
# fp32 = true
# inputs = ["time_text_embed.text_embedder.linear_1.weight", "y_embedder.mlp.0.weight"]
#
# [[captions]]
# tokens = 256
# width = 4096
# inputs = ["context_embedder.weight"]
#
# [layers]
# attention = [
#     ".attn.to_q", ".attn.to_k", ".attn.to_v", ".attn.to_out.0", ".attn.add_q_proj", ".attn.add_k_proj",
#     ".attn.add_v_proj", ".attn.to_add_out", ".attn2.to_q", ".attn2.to_k", ".attn2.to_v",
#     ".attn2.to_out.0",
# ]
# mlp = [".ff.net.0.proj", ".ff.net.2", ".ff_context.net.0.proj", ".ff_context.net.2"]
# more = [".norm1.linear", ".norm1_context.linear"]
#
# [names]
# blocks = { transformer_blocks = 38 }
# forms = { diffusers = ["peft"], comfyui = ["peft", "original", "kohya"] }
# turned = "norm1_context.linear"
# table = """
# transformer_blocks.{n}.attn.to_q             joint_blocks.{n}.x_block.attn.qkv                 0/3
# transformer_blocks.{n}.attn.to_k             joint_blocks.{n}.x_block.attn.qkv                 1/3
# transformer_blocks.{n}.attn.to_v             joint_blocks.{n}.x_block.attn.qkv                 2/3
# transformer_blocks.{n}.attn.to_out.0         joint_blocks.{n}.x_block.attn.proj
# transformer_blocks.{n}.attn.add_q_proj       joint_blocks.{n}.context_block.attn.qkv           0/3
# transformer_blocks.{n}.attn.add_k_proj       joint_blocks.{n}.context_block.attn.qkv           1/3
# transformer_blocks.{n}.attn.add_v_proj       joint_blocks.{n}.context_block.attn.qkv           2/3
# transformer_blocks.{n}.attn.to_add_out       joint_blocks.{n}.context_block.attn.proj
# transformer_blocks.{n}.attn2.to_q            joint_blocks.{n}.x_block.attn2.qkv                0/3
# transformer_blocks.{n}.attn2.to_k            joint_blocks.{n}.x_block.attn2.qkv                1/3
# transformer_blocks.{n}.attn2.to_v            joint_blocks.{n}.x_block.attn2.qkv                2/3
# transformer_blocks.{n}.attn2.to_out.0        joint_blocks.{n}.x_block.attn2.proj
# transformer_blocks.{n}.ff.net.0.proj         joint_blocks.{n}.x_block.mlp.fc1
# transformer_blocks.{n}.ff.net.2              joint_blocks.{n}.x_block.mlp.fc2
# transformer_blocks.{n}.ff_context.net.0.proj joint_blocks.{n}.context_block.mlp.fc1
# transformer_blocks.{n}.ff_context.net.2      joint_blocks.{n}.context_block.mlp.fc2
# transformer_blocks.{n}.norm1.linear          joint_blocks.{n}.x_block.adaLN_modulation.1
# transformer_blocks.{n}.norm1_context.linear  joint_blocks.{n}.context_block.adaLN_modulation.1
# """
#
# [configs]
# model_index = '''
# {
#   "_class_name": "StableDiffusion3Pipeline",
#   "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
#   "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
#   "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
#   "text_encoder_3": ["transformers", "T5EncoderModel"],
#   "tokenizer": ["transformers", "CLIPTokenizer"],
#   "tokenizer_2": ["transformers", "CLIPTokenizer"],
#   "tokenizer_3": ["transformers", "T5TokenizerFast"],
#   "transformer": ["diffusers", "SD3Transformer2DModel"],
#   "vae": ["diffusers", "AutoencoderKL"]
# }
# '''
# scheduler = '''
# {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
# '''
# vae = '''
# {
#   "_class_name": "AutoencoderKL",
#   "act_fn": "silu",
#   "block_out_channels": [128, 256, 512, 512],
#   "down_block_types": [
#     "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"
#   ],
#   "force_upcast": true,
#   "in_channels": 3,
#   "latent_channels": 16,
#   "layers_per_block": 2,
#   "norm_num_groups": 32,
#   "out_channels": 3,
#   "sample_size": 1024,
#   "scaling_factor": 1.5305,
#   "shift_factor": 0.0609,
#   "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
#   "use_post_quant_conv": false,
#   "use_quant_conv": false
# }
# '''
# ///

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor, nn

from loratui.families import clip_text, clip_unet, encoders, original, sources, t5_text
from loratui.families.clip_unet import load_vae
from loratui.families.emphasis import Spoken, words
from loratui.families.loading import identity
from loratui.families.original import Tensors
from loratui.families.protocol import Condition, LazyModules, Parts, Size
from loratui.families.spec import row_of

T5_TOKENS = 256
CLIPS = (
    clip_text.part("lora_te1", "CLIP-L", "text_encoder", "tokenizer", "clip_l"),
    clip_text.part("lora_te2", "CLIP-G", "text_encoder_2", "tokenizer_2", "clip_g"),
)
T5 = t5_text.part("text_encoder_3", "tokenizer_3")


class StableDiffusion3:
    """See `families.protocol.Family` for what each method promises."""

    name = "sd3"
    empty = ""

    def load(
        self, base: Path, dtype: torch.dtype, prediction: str = "auto", vae: Path | None = None,
        text: Sequence[Path] = (),
    ) -> Parts:  # fmt: skip
        """Load a folder or a single file, with text encoders from elsewhere where it has none."""
        encoders.check(self.name, base, vae, text)
        denoiser, base_hash, scheduler = original.transformer(
            base, SD3Transformer2DModel, "joint_blocks.0.x_block.attn.qkv.weight", infer,
            lambda tensors, _: convert_sd3_transformer_checkpoint_to_diffusers(tensors), dtype,
            self.name,
        )  # fmt: skip
        codec, vae_identity = load_vae(
            vae or (base / "vae" if base.is_dir() else base), row_of(self.name).packaged("vae")
        )
        loaders, tokenizers, identities = clip_text.load_parts(CLIPS, base, text, projected=True)
        place = sources.find_encoder(T5, base, text)
        if place is not None:
            place, folder = sources.find(T5, base, text)
            loaders["t5"] = lambda: t5_text.load_encoder(place)
            tokenizers["t5"] = t5_text.load_tokenizer(folder)
            identities.append(original.place_identity(place, folder))
        return Parts(
            denoiser=denoiser,
            vae=codec,
            text_encoders=LazyModules(loaders),
            tokenizers=tokenizers,
            scheduler=scheduler,
            prediction="flow",
            latent_factor=2 ** (len(codec.config.block_out_channels) - 1),
            latent_channels=codec.config.latent_channels,
            vae_identity=vae_identity,
            text_identity=identity([], *identities),
            base_hash=base_hash,
            patch=denoiser.config.patch_size,
        )

    def encode_pictures(self, parts: Parts, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the shifted and scaled latents."""
        return clip_unet.encode_pictures(parts, pixels_BCHW)

    def decode_latents(self, parts: Parts, latents_BCHW: Tensor) -> Tensor:
        """Pixels of such latents."""
        return clip_unet.decode_latents(parts, latents_BCHW)

    def encode_captions(self, parts: Parts, captions: Sequence[Spoken]) -> list[Condition]:
        """Hidden states of the CLIPs and of T5, and the CLIPs' pooled outputs."""
        return original.alone(self.encode_batch, parts, captions)

    def encode_batch(self, parts: Parts, captions: Sequence[Spoken]) -> Condition:
        """The same as a batch, without weights of words."""
        texts = [words(caption) for caption in captions]
        hidden, pooled = [], []
        for clip in CLIPS:
            encoder = parts.text_encoders[clip.key]
            output = encoder(clip_text.token_ids(parts, clip.key, texts), output_hidden_states=True)
            hidden.append(output.hidden_states[-2])
            pooled.append(output.text_embeds)
        found = {"clip_embeds": torch.cat(hidden, dim=-1), "pooled_prompt_embeds": torch.cat(pooled, dim=-1)}
        if "t5" in parts.text_encoders:
            found["t5_embeds"] = t5_text.last_hidden_states(
                parts.text_encoders["t5"], parts.tokenizers["t5"], texts, T5_TOKENS
            )
        return found

    def size_condition(self, original: Size, crop: Size, target: Size) -> Condition:
        """Nothing: it knows no sizes."""
        return {}

    def predict(self, parts: Parts, noisy_BCHW: Tensor, timesteps_B: Tensor, condition: Condition) -> Tensor:
        """The velocity."""
        output: Tensor = parts.denoiser(
            hidden_states=noisy_BCHW,
            encoder_hidden_states=prompt_embeds(parts, condition, noisy_BCHW.dtype),
            pooled_projections=condition["pooled_prompt_embeds"].to(noisy_BCHW.dtype),
            timestep=timesteps_B,
            return_dict=False,
        )[0]
        return output

    def pipeline(self, parts: Parts, sampler: str) -> Any:
        """A StableDiffusion3Pipeline over these parts, for embeddings."""
        from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import (
            StableDiffusion3Pipeline,
        )

        pipeline = StableDiffusion3Pipeline(
            transformer=parts.denoiser,
            scheduler=original.flow_scheduler(sampler, parts.scheduler),
            vae=parts.vae,
            text_encoder=None,
            tokenizer=None,
            text_encoder_2=None,
            tokenizer_2=None,
            text_encoder_3=None,
            tokenizer_3=None,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def pipeline_inputs(
        self, parts: Parts, prompt: Condition, negative: Condition, guidance: float
    ) -> dict[str, Any]:
        """Embeddings and guidance under the pipeline's names."""
        found: dict[str, Any] = {"guidance_scale": guidance}
        for start, one in (("", prompt), ("negative_", negative)):
            batch = {name: tensor[None] for name, tensor in one.items()}
            found[f"{start}prompt_embeds"] = prompt_embeds(parts, batch, torch.float32)
            found[f"{start}pooled_prompt_embeds"] = batch["pooled_prompt_embeds"].float()
        return found

    def pipeline_latents(self, parts: Parts, latents: Tensor, width: int, height: int) -> Tensor:
        """As they are."""
        return latents

    def target_modules(self, denoiser: nn.Module, target: str) -> list[str]:
        """Layers of the joint blocks."""
        spec = row_of(self.name)
        return original.layers_of(denoiser, spec.layers[target])

    def blocks(self, denoiser: Any) -> list[nn.Module]:
        """The joint blocks."""
        return list(denoiser.transformer_blocks)

    def text_modules(self, encoder: nn.Module) -> list[str]:
        """None: its text encoders are not trained."""
        return []

    def kohya_name(self, network: nn.Module, key: str, module: str) -> str:
        """PEFT's dotted name, which is what diffusers and ComfyUI read of SD3."""
        return f"transformer.{module}"

    def metadata(self, parts: Parts) -> dict[str, str]:
        """Version and architecture as sd-scripts and the modelspec name them."""
        config = parts.denoiser.config
        size = "large" if config.num_layers > 24 else "medium"
        return {
            "ss_base_model_version": "sd3",
            "ss_v2": "False",
            "modelspec.architecture": f"stable-diffusion-3.5-{size}/lora" if config.qk_norm
            else "stable-diffusion-3-medium/lora",
            **original.structure_metadata(self.name, {"transformer_blocks": config.num_layers}),
        }  # fmt: skip


def prompt_embeds(parts: Parts, condition: Condition, dtype: torch.dtype) -> Tensor:
    """What the joint attention sees of a caption, [B, L, D]: the CLIPs', filled up to D, and T5's."""
    clip_BLD = condition["clip_embeds"].to(dtype)
    width = parts.denoiser.config.joint_attention_dim
    clip_BLD = nn.functional.pad(clip_BLD, (0, width - clip_BLD.shape[-1]))
    t5_BLD = condition.get("t5_embeds")
    if t5_BLD is None:
        t5_BLD = clip_BLD.new_zeros(clip_BLD.shape[0], T5_TOKENS, width)
    return torch.cat([clip_BLD, t5_BLD.to(dtype)], dim=1)


def infer(tensors: Tensors) -> dict[str, Any]:
    """Settings of a transformer from the tensors of an original-layout file."""
    width, joint = tensors["context_embedder.weight"].shape
    norm = tensors.get("joint_blocks.0.x_block.attn.ln_q.weight")
    head = norm.shape[0] if norm is not None else 64
    _, channels, patch, _ = tensors["x_embedder.proj.weight"].shape
    layers = original.count_blocks(tensors, "joint_blocks.")
    return {
        "sample_size": 128,
        "patch_size": patch,
        "in_channels": channels,
        "num_layers": layers,
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": joint,
        "caption_projection_dim": width,
        "pooled_projection_dim": tensors["y_embedder.mlp.0.weight"].shape[1],
        "out_channels": tensors["final_layer.linear.weight"].shape[0] // patch**2,
        "pos_embed_max_size": math.isqrt(tensors["pos_embed"].shape[1]),
        "dual_attention_layers": tuple(
            n for n in range(layers) if f"joint_blocks.{n}.x_block.attn2.qkv.weight" in tensors
        ),
        "qk_norm": "rms_norm" if norm is not None else None,
    }


FAMILY = StableDiffusion3()
