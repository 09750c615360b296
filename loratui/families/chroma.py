"""Chroma: rectified flow, T5 alone, 1024 px (Rock 2025), from FLUX.1 schnell without its distillation.

Its modulations come from one small network that is told the timestep, so that there is no pooled text and no
guidance input; samples use a negative prompt. It attends to the caption's tokens and to one token of filling
behind them, and to no more: the rest is cut off here, which is the same, as text has no places. (diffusers
0.42's own pipeline adds its mask of ones and zeros to the attention instead of masking by it; where nothing
is left to mask, that changes nothing.)
"""

# /// family
# title = "Chroma"
# resolution = 1024
# latent_factor = 8
# blocks = 57
# notes = "rectified flow; FLUX.1 schnell without its distillation, T5 alone, a negative prompt"
# flow = true
# patch = 2
# files = "peft"
# networks = ["lora"]
# trains_text = false
# pipelines = ["ChromaPipeline"]
# marks = ["distilled_guidance_layer.in_proj.weight", "double_blocks.0.img_attn.qkv.weight"]
# parameters = 8_900_000_000
# others = 4_850_000_000
#
# [[captions]]
# tokens = 512
# around = 2
# width = 4096
# inputs = ["context_embedder.weight", "txt_in.weight"]
#
# [layers]
# # in the original, q, k, v and the MLP of a single block are one matrix: they are trained as one
# attention = [
#     ".attn.to_q", ".attn.to_k", ".attn.to_v", ".attn.to_out.0", ".attn.add_q_proj", ".attn.add_k_proj",
#     ".attn.add_v_proj", ".attn.to_add_out", ".proj_mlp", ".proj_out",
# ]
# mlp = [".ff.net.0.proj", ".ff.net.2", ".ff_context.net.0.proj", ".ff_context.net.2"]
#
# [names]
# blocks = { transformer_blocks = 19, single_transformer_blocks = 38 }
# forms = { diffusers = ["peft", "kohya"], comfyui = ["peft", "original", "kohya"] }
# mlp_ratios = [4, 7] # those of single blocks with q, k and v
# table = """
# transformer_blocks.{n}.attn.to_q             double_blocks.{n}.img_attn.qkv  0/3
# transformer_blocks.{n}.attn.to_k             double_blocks.{n}.img_attn.qkv  1/3
# transformer_blocks.{n}.attn.to_v             double_blocks.{n}.img_attn.qkv  2/3
# transformer_blocks.{n}.attn.to_out.0         double_blocks.{n}.img_attn.proj
# transformer_blocks.{n}.attn.add_q_proj       double_blocks.{n}.txt_attn.qkv  0/3
# transformer_blocks.{n}.attn.add_k_proj       double_blocks.{n}.txt_attn.qkv  1/3
# transformer_blocks.{n}.attn.add_v_proj       double_blocks.{n}.txt_attn.qkv  2/3
# transformer_blocks.{n}.attn.to_add_out       double_blocks.{n}.txt_attn.proj
# transformer_blocks.{n}.ff.net.0.proj         double_blocks.{n}.img_mlp.0
# transformer_blocks.{n}.ff.net.2              double_blocks.{n}.img_mlp.2
# transformer_blocks.{n}.ff_context.net.0.proj double_blocks.{n}.txt_mlp.0
# transformer_blocks.{n}.ff_context.net.2      double_blocks.{n}.txt_mlp.2
# single_transformer_blocks.{n}.attn.to_q      single_blocks.{n}.linear1       0/4
# single_transformer_blocks.{n}.attn.to_k      single_blocks.{n}.linear1       1/4
# single_transformer_blocks.{n}.attn.to_v      single_blocks.{n}.linear1       2/4
# single_transformer_blocks.{n}.proj_mlp       single_blocks.{n}.linear1       3/4
# single_transformer_blocks.{n}.proj_out       single_blocks.{n}.linear2
# """
#
# [configs]
# model_index = '''
# {
#   "_class_name": "ChromaPipeline",
#   "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
#   "text_encoder": ["transformers", "T5EncoderModel"],
#   "tokenizer": ["transformers", "T5TokenizerFast"],
#   "transformer": ["diffusers", "ChromaTransformer2DModel"],
#   "vae": ["diffusers", "AutoencoderKL"]
# }
# '''
# scheduler = '''
# {
#   "_class_name": "FlowMatchEulerDiscreteScheduler",
#   "base_image_seq_len": 256,
#   "base_shift": 0.5,
#   "max_image_seq_len": 4096,
#   "max_shift": 1.15,
#   "num_train_timesteps": 1000,
#   "shift": 3.0,
#   "use_dynamic_shifting": true
# }
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
#   "scaling_factor": 0.3611,
#   "shift_factor": 0.1159,
#   "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
#   "use_post_quant_conv": false,
#   "use_quant_conv": false
# }
# '''
# ///

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_chroma import (
    ChromaSingleTransformerBlock,
    ChromaTransformer2DModel,
)
from torch import Tensor, nn

from loratui.families import clip_unet, encoders, original, sources, t5_text
from loratui.families.clip_unet import load_vae
from loratui.families.emphasis import Spoken, words
from loratui.families.layouts import flux as layout
from loratui.families.loading import identity
from loratui.families.original import Shapes, Tensors
from loratui.families.protocol import Condition, LazyModules, Parts, Size
from loratui.families.spec import row_of
from loratui.weights.layouts import names_of

MARK = "distilled_guidance_layer.in_proj.weight"
T5 = t5_text.part("text_encoder", "tokenizer")
TOKENS = 512


class Chroma:
    """See `families.protocol.Family` for what each method promises."""

    name = "chroma"
    empty = ""

    def load(
        self, base: Path, dtype: torch.dtype, prediction: str = "auto", vae: Path | None = None,
        text: Sequence[Path] = (),
    ) -> Parts:  # fmt: skip
        """Load a folder or a single file, with the text encoder from elsewhere where it has none."""
        encoders.check(self.name, base, vae, text)
        denoiser, base_hash, scheduler = original.transformer(
            base, ChromaTransformer2DModel, MARK, infer, convert, dtype, self.name
        )
        codec, vae_identity = load_vae(
            vae or (base / "vae" if base.is_dir() else base), row_of(self.name).packaged("vae")
        )
        place, folder = sources.find(T5, base, text)
        return Parts(
            denoiser=denoiser,
            vae=codec,
            text_encoders=LazyModules({"t5": lambda: t5_text.load_encoder(place)}),
            tokenizers={"t5": t5_text.load_tokenizer(folder)},
            scheduler=scheduler,
            prediction="flow",
            latent_factor=2 ** (len(codec.config.block_out_channels) - 1),
            latent_channels=codec.config.latent_channels,
            vae_identity=vae_identity,
            text_identity=identity([], original.place_identity(place, folder), "cut"),
            base_hash=base_hash,
            patch=2,
        )

    def encode_pictures(self, parts: Parts, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the shifted and scaled latents."""
        return clip_unet.encode_pictures(parts, pixels_BCHW)

    def decode_latents(self, parts: Parts, latents_BCHW: Tensor) -> Tensor:
        """Pixels of such latents."""
        return clip_unet.decode_latents(parts, latents_BCHW)

    def encode_captions(self, parts: Parts, captions: Sequence[Spoken]) -> list[Condition]:
        """T5's hidden states of the caption's tokens and one of filling, and a mask of ones."""
        return original.cut(self.encode_batch, parts, captions)

    def encode_batch(self, parts: Parts, captions: Sequence[Spoken]) -> Condition:
        """The same as a batch, filled up."""
        texts = [words(caption) for caption in captions]
        encoder, tokenizer = parts.text_encoders["t5"], parts.tokenizers["t5"]
        text_BLD = t5_text.last_hidden_states(encoder, tokenizer, texts, TOKENS, masked=True)
        lengths_B = torch.tensor(t5_text.lengths(tokenizer, texts, TOKENS), device=text_BLD.device)
        mask_BL = torch.arange(TOKENS, device=text_BLD.device)[None] <= lengths_B[:, None]
        return {"prompt_embeds": text_BLD, "prompt_mask": mask_BL.to(text_BLD.dtype)}

    def size_condition(self, original: Size, crop: Size, target: Size) -> Condition:
        """Nothing: it knows no sizes."""
        return {}

    def predict(self, parts: Parts, noisy_BCHW: Tensor, timesteps_B: Tensor, condition: Condition) -> Tensor:
        """The velocity."""
        device = noisy_BCHW.device
        height, width = noisy_BCHW.shape[2:]
        tokens_BLD = layout.pack(noisy_BCHW)
        mask_BL = condition["prompt_mask"].bool()
        whole_BL = torch.cat([mask_BL, mask_BL.new_ones(tokens_BLD.shape[:2])], dim=1)
        remember_masks(parts.denoiser, whole_BL)
        output_BLD = parts.denoiser(
            hidden_states=tokens_BLD,
            encoder_hidden_states=condition["prompt_embeds"].to(noisy_BCHW.dtype),
            timestep=timesteps_B / 1000,
            img_ids=layout.image_ids(height, width, device),
            txt_ids=layout.text_ids(mask_BL.shape[1], device),
            attention_mask=whole_BL,
            return_dict=False,
        )[0]
        return layout.unpack(output_BLD, height, width)

    def pipeline(self, parts: Parts, sampler: str) -> Any:
        """A ChromaPipeline over these parts, for embeddings."""
        from diffusers.pipelines.chroma.pipeline_chroma import ChromaPipeline

        pipeline = ChromaPipeline(
            transformer=parts.denoiser,
            scheduler=original.flow_scheduler(sampler, parts.scheduler),
            vae=parts.vae,
            text_encoder=None,
            tokenizer=None,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def pipeline_inputs(
        self, parts: Parts, prompt: Condition, negative: Condition, guidance: float
    ) -> dict[str, Any]:
        """Embeddings, masks and guidance under the pipeline's names."""
        return {
            "prompt_embeds": prompt["prompt_embeds"][None].float(),
            "prompt_attention_mask": prompt["prompt_mask"][None].float(),
            "negative_prompt_embeds": negative["prompt_embeds"][None].float(),
            "negative_prompt_attention_mask": negative["prompt_mask"][None].float(),
            "guidance_scale": guidance,
        }

    def pipeline_latents(self, parts: Parts, latents: Tensor, width: int, height: int) -> Tensor:
        """Tokens as latents."""
        side = parts.side_px
        return layout.unpack(latents, 2 * (height // side), 2 * (width // side))

    def target_modules(self, denoiser: nn.Module, target: str) -> list[str]:
        """Layers of double and single blocks."""
        spec = row_of(self.name)
        return original.layers_of(denoiser, spec.layers[target])

    def blocks(self, denoiser: Any) -> list[nn.Module]:
        """The double blocks, then the single ones."""
        return [*denoiser.transformer_blocks, *denoiser.single_transformer_blocks]

    def text_modules(self, encoder: nn.Module) -> list[str]:
        """None: T5 is not trained."""
        return []

    def kohya_name(self, network: nn.Module, key: str, module: str) -> str:
        """PEFT's dotted name, which diffusers and ComfyUI read."""
        return f"transformer.{module}"

    def metadata(self, parts: Parts) -> dict[str, str]:
        """Version and architecture."""
        config = parts.denoiser.config
        blocks = {
            "transformer_blocks": config.num_layers,
            "single_transformer_blocks": config.num_single_layers,
        }
        return {
            "ss_base_model_version": "chroma",
            "ss_v2": "False",
            "modelspec.architecture": "chroma/lora",
            **original.structure_metadata(self.name, blocks),
        }


def remember_masks(denoiser: Any, mask_BL: Tensor) -> None:
    """Give single blocks their mask under gradient checkpointing, where diffusers 0.42 leaves it out."""
    if not denoiser.gradient_checkpointing:
        return
    recompute: Callable[..., Any] = getattr(
        denoiser._gradient_checkpointing_func, "plain", denoiser._gradient_checkpointing_func
    )

    def masked(block: nn.Module, *given: Any) -> Any:
        single = isinstance(block, ChromaSingleTransformerBlock)
        return recompute(block, *given, *([mask_BL] if single else []))

    masked.plain = recompute  # type: ignore[attr-defined]
    denoiser._gradient_checkpointing_func = masked


def infer(tensors: Tensors) -> dict[str, Any]:
    """Settings of a transformer from the tensors of an original-layout file."""
    width, channels = tensors["img_in.weight"].shape
    hidden, told = tensors["distilled_guidance_layer.in_proj.weight"].shape
    head = tensors["double_blocks.0.img_attn.norm.query_norm.scale"].shape[0]
    return {
        "patch_size": 1,
        "in_channels": channels,
        "num_layers": original.count_blocks(tensors, "double_blocks."),
        "num_single_layers": original.count_blocks(tensors, "single_blocks."),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": tensors["txt_in.weight"].shape[1],
        "axes_dims_rope": (head // 8, 7 * head // 16, 7 * head // 16),
        "approximator_num_channels": told,
        "approximator_hidden_dim": hidden,
        "approximator_layers": original.count_blocks(tensors, "distilled_guidance_layer.layers."),
    }


def convert(tensors: Tensors, shapes: Shapes) -> Tensors:
    """Tensors of an original-layout file under diffusers' names."""
    double, single = (original.count_blocks(tensors, f"{kind}_blocks.") for kind in ("double", "single"))
    others = {**layout.ENDS, **layout.norms(double, single)}
    start = "distilled_guidance_layer."
    others |= {f"{start}{name}": f"{start}{name}" for name in ("in_proj", "out_proj")}
    for n in range(original.count_blocks(tensors, f"{start}layers.")):
        others[f"{start}norms.{n}"] = f"{start}norms.{n}"
        others[f"{start}layers.{n}.linear_1"] = f"{start}layers.{n}.in_layer"
        others[f"{start}layers.{n}.linear_2"] = f"{start}layers.{n}.out_layer"
    blocks = {"transformer_blocks": double, "single_transformer_blocks": single}
    return original.by_names(tensors, shapes, names_of("chroma", original.stated(blocks)).parts, others)


FAMILY = Chroma()
