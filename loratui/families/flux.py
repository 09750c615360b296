"""FLUX.1 dev and schnell: rectified flow, CLIP-L and T5, 1024 px (Black Forest Labs 2024).

A transformer of double blocks, where text and picture have weights of their own, and single blocks. Latents
go in as tokens of 2 x 2 with their places as ids; T5's hidden states are the text, CLIP's pooled output goes
with the timestep, and dev is distilled from guidance, whose value is one more input: in training 1, in
samples what the settings say. LoRA files name the original's fused matrices, whose parts share their A here.
"""

# /// family
# title = "FLUX.1"
# resolution = 1024
# latent_factor = 8
# blocks = 57
# notes = "rectified flow; dev is told a guidance; schnell is made for 4 steps, which training undoes"
# flow = true
# patch = 2
# networks = ["lora"]
# pipelines = ["FluxPipeline"]
# marks = [
#     "double_blocks.0.img_attn.qkv.weight", "double_blocks.0.img_mod.lin.weight",
#     "vector_in.in_layer.weight",
# ]
# distilled = "schnell"
# parameters = 11_901_408_320
# others = 4_970_000_000
#
# [[captions]]
# tokens = 512
# unguided = 256 # schnell
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
# more = [".norm1.linear", ".norm1_context.linear", ".norm.linear"]
#
# [names]
# blocks = { transformer_blocks = 19, single_transformer_blocks = 38 }
# forms = { diffusers = ["peft", "kohya"], comfyui = ["peft", "original", "kohya"] }
# mlp_ratios = [4, 7] # those of single blocks with q, k and v
# table = """
# transformer_blocks.{n}.attn.to_q             double_blocks.{n}.img_attn.qkv   0/3
# transformer_blocks.{n}.attn.to_k             double_blocks.{n}.img_attn.qkv   1/3
# transformer_blocks.{n}.attn.to_v             double_blocks.{n}.img_attn.qkv   2/3
# transformer_blocks.{n}.attn.to_out.0         double_blocks.{n}.img_attn.proj
# transformer_blocks.{n}.attn.add_q_proj       double_blocks.{n}.txt_attn.qkv   0/3
# transformer_blocks.{n}.attn.add_k_proj       double_blocks.{n}.txt_attn.qkv   1/3
# transformer_blocks.{n}.attn.add_v_proj       double_blocks.{n}.txt_attn.qkv   2/3
# transformer_blocks.{n}.attn.to_add_out       double_blocks.{n}.txt_attn.proj
# transformer_blocks.{n}.ff.net.0.proj         double_blocks.{n}.img_mlp.0
# transformer_blocks.{n}.ff.net.2              double_blocks.{n}.img_mlp.2
# transformer_blocks.{n}.ff_context.net.0.proj double_blocks.{n}.txt_mlp.0
# transformer_blocks.{n}.ff_context.net.2      double_blocks.{n}.txt_mlp.2
# transformer_blocks.{n}.norm1.linear          double_blocks.{n}.img_mod.lin
# transformer_blocks.{n}.norm1_context.linear  double_blocks.{n}.txt_mod.lin
# single_transformer_blocks.{n}.attn.to_q      single_blocks.{n}.linear1        0/4
# single_transformer_blocks.{n}.attn.to_k      single_blocks.{n}.linear1        1/4
# single_transformer_blocks.{n}.attn.to_v      single_blocks.{n}.linear1        2/4
# single_transformer_blocks.{n}.proj_mlp       single_blocks.{n}.linear1        3/4
# single_transformer_blocks.{n}.proj_out       single_blocks.{n}.linear2
# single_transformer_blocks.{n}.norm.linear    single_blocks.{n}.modulation.lin
# """
#
# [configs]
# model_index = '''
# {
#   "_class_name": "FluxPipeline",
#   "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
#   "text_encoder": ["transformers", "CLIPTextModel"],
#   "text_encoder_2": ["transformers", "T5EncoderModel"],
#   "tokenizer": ["transformers", "CLIPTokenizer"],
#   "tokenizer_2": ["transformers", "T5TokenizerFast"],
#   "transformer": ["diffusers", "FluxTransformer2DModel"],
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

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor, nn

from loratui.families import clip_text, clip_unet, encoders, original, sources, t5_text
from loratui.families.clip_unet import UNET_KEY, load_vae
from loratui.families.emphasis import Spoken, words
from loratui.families.layouts import flux as layout
from loratui.families.loading import identity
from loratui.families.original import Shapes, Tensors
from loratui.families.protocol import Condition, LazyModules, Parts, Size
from loratui.families.spec import row_of
from loratui.weights.layouts import Names, names_of

MARK = "double_blocks.0.img_attn.qkv.weight"
CLIP = clip_text.part("lora_te1", "CLIP-L", "text_encoder", "tokenizer", "clip_l")
T5 = t5_text.part("text_encoder_2", "tokenizer_2")


class Flux1:
    """See `families.protocol.Family` for what each method promises."""

    name = "flux"
    empty = ""

    def load(
        self, base: Path, dtype: torch.dtype, prediction: str = "auto", vae: Path | None = None,
        text: Sequence[Path] = (),
    ) -> Parts:  # fmt: skip
        """Load a folder or a single file, with text encoders from elsewhere where it has none."""
        encoders.check(self.name, base, vae, text)
        denoiser, base_hash, scheduler = original.transformer(
            base, FluxTransformer2DModel, MARK, infer, convert, dtype, self.name
        )
        if not base.is_dir() and not denoiser.config.guidance_embeds:  # schnell
            scheduler |= {"use_dynamic_shifting": False, "shift": 1.0}
        codec, vae_identity = load_vae(
            vae or (base / "vae" if base.is_dir() else base), row_of(self.name).packaged("vae")
        )
        loaders, tokenizers, identities = clip_text.load_parts([CLIP], base, text, projected=False)
        place, folder = sources.find(T5, base, text)
        return Parts(
            denoiser=denoiser,
            vae=codec,
            text_encoders=LazyModules({**loaders, "t5": lambda: t5_text.load_encoder(place)}),
            tokenizers={**tokenizers, "t5": t5_text.load_tokenizer(folder)},
            scheduler=scheduler,
            prediction="flow",
            latent_factor=2 ** (len(codec.config.block_out_channels) - 1),
            latent_channels=codec.config.latent_channels,
            vae_identity=vae_identity,
            text_identity=identity([], *identities, original.place_identity(place, folder)),
            base_hash=base_hash,
            patch=2,
            extras={"t5_tokens": 512 if denoiser.config.guidance_embeds else 256},
        )

    def encode_pictures(self, parts: Parts, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the shifted and scaled latents."""
        return clip_unet.encode_pictures(parts, pixels_BCHW)

    def decode_latents(self, parts: Parts, latents_BCHW: Tensor) -> Tensor:
        """Pixels of such latents."""
        return clip_unet.decode_latents(parts, latents_BCHW)

    def encode_captions(self, parts: Parts, captions: Sequence[Spoken]) -> list[Condition]:
        """T5's hidden states, filling included: the model attends to it; CLIP's pooled output."""
        return original.alone(self.encode_batch, parts, captions)

    def encode_batch(self, parts: Parts, captions: Sequence[Spoken]) -> Condition:
        """The same as a batch, with gradients for CLIP."""
        texts = [words(caption) for caption in captions]
        pooled_BD = parts.text_encoders["lora_te1"](
            clip_text.token_ids(parts, "lora_te1", texts)
        ).pooler_output
        encoder, tokenizer = parts.text_encoders["t5"], parts.tokenizers["t5"]
        with torch.no_grad():
            text_BLD = t5_text.last_hidden_states(encoder, tokenizer, texts, parts.extras["t5_tokens"])
        return {"prompt_embeds": text_BLD, "pooled_prompt_embeds": pooled_BD}

    def size_condition(self, original: Size, crop: Size, target: Size) -> Condition:
        """Nothing: it knows no sizes."""
        return {}

    def predict(self, parts: Parts, noisy_BCHW: Tensor, timesteps_B: Tensor, condition: Condition) -> Tensor:
        """The velocity."""
        dtype, device = noisy_BCHW.dtype, noisy_BCHW.device
        height, width = noisy_BCHW.shape[2:]
        text_BLD = condition["prompt_embeds"].to(dtype)
        guided = parts.denoiser.config.guidance_embeds
        output_BLD = parts.denoiser(
            hidden_states=layout.pack(noisy_BCHW),
            encoder_hidden_states=text_BLD,
            pooled_projections=condition["pooled_prompt_embeds"].to(dtype),
            timestep=timesteps_B / 1000,
            guidance=torch.full_like(timesteps_B, parts.guidance) if guided else None,
            img_ids=layout.image_ids(height, width, device),
            txt_ids=layout.text_ids(text_BLD.shape[1], device),
            return_dict=False,
        )[0]
        return layout.unpack(output_BLD, height, width)

    def pipeline(self, parts: Parts, sampler: str) -> Any:
        """A FluxPipeline over these parts, for embeddings."""
        from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

        pipeline = FluxPipeline(
            transformer=parts.denoiser,
            scheduler=original.flow_scheduler(sampler, parts.scheduler),
            vae=parts.vae,
            text_encoder=None,
            tokenizer=None,
            text_encoder_2=None,
            tokenizer_2=None,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def pipeline_inputs(
        self, parts: Parts, prompt: Condition, negative: Condition, guidance: float
    ) -> dict[str, Any]:
        """Embeddings, and the guidance that the model is told; there is no negative prompt in that."""
        return {
            "prompt_embeds": prompt["prompt_embeds"][None].float(),
            "pooled_prompt_embeds": prompt["pooled_prompt_embeds"][None].float(),
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
        """Attention and MLP of CLIP; nothing of T5."""
        return [] if encoder.config.model_type == "t5" else clip_text.target_modules(encoder)

    def kohya_name(self, network: nn.Module, key: str, module: str) -> str:
        """The original's name of the matrix that holds the layer."""
        if key != UNET_KEY:
            return clip_text.kohya_name(key, module)
        return f"{key}_" + names(network).parts[module].original.replace(".", "_")

    def metadata(self, parts: Parts) -> dict[str, str]:
        """Version and architecture as sd-scripts and the modelspec name them."""
        return {
            "ss_base_model_version": "flux1",
            "ss_v2": "False",
            "modelspec.architecture": "flux-1-dev/lora"
            if parts.denoiser.config.guidance_embeds
            else "flux-1-schnell/lora",
            **original.structure_metadata(self.name, counts(parts.denoiser)),
        }


def counts(denoiser: Any) -> dict[str, int]:
    """Blocks of each kind."""
    config = denoiser.config
    return {"transformer_blocks": config.num_layers, "single_transformer_blocks": config.num_single_layers}


def names(denoiser: Any) -> Names:
    """Its layers' names in the original."""
    return names_of("flux", original.stated(counts(denoiser)))


def infer(tensors: Tensors) -> dict[str, Any]:
    """Settings of a transformer from the tensors of an original-layout file."""
    width, channels = tensors["img_in.weight"].shape
    head = tensors["double_blocks.0.img_attn.norm.query_norm.scale"].shape[0]
    return {
        "patch_size": 1,
        "in_channels": channels,
        "num_layers": original.count_blocks(tensors, "double_blocks."),
        "num_single_layers": original.count_blocks(tensors, "single_blocks."),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": tensors["txt_in.weight"].shape[1],
        "pooled_projection_dim": tensors["vector_in.in_layer.weight"].shape[1],
        "guidance_embeds": "guidance_in.in_layer.weight" in tensors,
        "axes_dims_rope": (head // 8, 7 * head // 16, 7 * head // 16),
    }


def convert(tensors: Tensors, shapes: Shapes) -> Tensors:
    """Tensors of an original-layout file under diffusers' names."""
    double, single = (original.count_blocks(tensors, f"{kind}_blocks.") for kind in ("double", "single"))
    blocks = {"transformer_blocks": double, "single_transformer_blocks": single}
    others = {**layout.ENDS, **layout.TIMES, **layout.norms(double, single)}
    parts = names_of("flux", original.stated(blocks)).parts
    return original.by_names(tensors, shapes, parts, others, ("norm_out.linear",))


FAMILY = Flux1()
