"""FLUX.2 klein and dev: rectified flow, a language model as text encoder, 1024 px (Black Forest Labs 2025).

A transformer of double and single blocks whose modulations are shared by all blocks of a kind. klein (4B and
9B) takes three layers of Qwen3, and its undistilled base a negative prompt; dev takes three of Mistral Small
3 and is distilled from guidance, whose value is one more input. Text has places of its own, and the model
attends to its filling. Latents are normalised by the codec's batch statistics, which differ by the place in
a patch of 2 x 2, the size of a token.
"""

# /// family
# title = "FLUX.2"
# resolution = 1024
# latent_factor = 8
# blocks = 25
# notes = """rectified flow; of klein (Qwen3) train the base, not the one distilled to 4 steps; dev \
#   (Mistral) is told a guidance"""
# flow = true
# patch = 2
# networks = ["lora"]
# trains_text = false
# pipelines = ["Flux2KleinPipeline", "Flux2Pipeline"]
# marks = ["double_blocks.0.img_attn.qkv.weight", "double_stream_modulation_img.lin.weight"]
# distilled = "klein(?!.*base)"
# parameters = 3_875_544_576
# others = 3_198_000_000
# larger = { dev = 20_000_000_000 } # klein has 4 or 9 billion numbers, dev 32
#
# [[captions]]
# tokens = 512
# width = 7680
# inputs = ["context_embedder.weight", "txt_in.weight"]
#
# [text_by_tensor]
# "guidance_in.in_layer.weight" = "Mistral3ForConditionalGeneration"
#
# [layers]
# attention = [
#     ".attn.to_q", ".attn.to_k", ".attn.to_v", ".attn.to_out.0", ".attn.add_q_proj", ".attn.add_k_proj",
#     ".attn.add_v_proj", ".attn.to_add_out", ".attn.to_qkv_mlp_proj", ".attn.to_out",
# ]
# mlp = [".ff.linear_in", ".ff.linear_out", ".ff_context.linear_in", ".ff_context.linear_out"]
#
# [names]
# blocks = { transformer_blocks = 8, single_transformer_blocks = 48 }
# forms = { diffusers = ["peft", "prefixed", "original", "kohya"], comfyui = ["peft", "original", "kohya"] }
# mlp_ratios = [6, 9] # gated; those of single blocks with q, k and v
# table = """
# transformer_blocks.{n}.attn.to_q                   double_blocks.{n}.img_attn.qkv  0/3
# transformer_blocks.{n}.attn.to_k                   double_blocks.{n}.img_attn.qkv  1/3
# transformer_blocks.{n}.attn.to_v                   double_blocks.{n}.img_attn.qkv  2/3
# transformer_blocks.{n}.attn.to_out.0               double_blocks.{n}.img_attn.proj
# transformer_blocks.{n}.attn.add_q_proj             double_blocks.{n}.txt_attn.qkv  0/3
# transformer_blocks.{n}.attn.add_k_proj             double_blocks.{n}.txt_attn.qkv  1/3
# transformer_blocks.{n}.attn.add_v_proj             double_blocks.{n}.txt_attn.qkv  2/3
# transformer_blocks.{n}.attn.to_add_out             double_blocks.{n}.txt_attn.proj
# transformer_blocks.{n}.ff.linear_in                double_blocks.{n}.img_mlp.0
# transformer_blocks.{n}.ff.linear_out               double_blocks.{n}.img_mlp.2
# transformer_blocks.{n}.ff_context.linear_in        double_blocks.{n}.txt_mlp.0
# transformer_blocks.{n}.ff_context.linear_out       double_blocks.{n}.txt_mlp.2
# single_transformer_blocks.{n}.attn.to_qkv_mlp_proj single_blocks.{n}.linear1
# single_transformer_blocks.{n}.attn.to_out          single_blocks.{n}.linear2
# """
#
# [configs]
# model_index = '''
# {
#   "_class_name": "Flux2KleinPipeline",
#   "is_distilled": false,
#   "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
#   "text_encoder": ["transformers", "Qwen3ForCausalLM"],
#   "tokenizer": ["transformers", "Qwen2TokenizerFast"],
#   "transformer": ["diffusers", "Flux2Transformer2DModel"],
#   "vae": ["diffusers", "AutoencoderKLFlux2"]
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
#   "_class_name": "AutoencoderKLFlux2",
#   "act_fn": "silu",
#   "batch_norm_eps": 0.0001,
#   "batch_norm_momentum": 0.1,
#   "block_out_channels": [128, 256, 512, 512],
#   "down_block_types": [
#     "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"
#   ],
#   "in_channels": 3,
#   "latent_channels": 32,
#   "layers_per_block": 2,
#   "mid_block_add_attention": true,
#   "norm_num_groups": 32,
#   "out_channels": 3,
#   "patch_size": [2, 2],
#   "sample_size": 1024,
#   "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
#   "use_post_quant_conv": true,
#   "use_quant_conv": true
# }
# '''
# ///

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE
from torch import Tensor, nn

from loratui.errors import BaseModelError
from loratui.families import chat_text, encoders, original, sources, t5_text
from loratui.families.clip_unet import UNET_KEY, load_vae
from loratui.families.emphasis import Spoken, words
from loratui.families.layouts import flux as packing
from loratui.families.layouts import flux2 as layout
from loratui.families.loading import identity, read_json
from loratui.families.original import Shapes, Tensors
from loratui.families.protocol import Condition, LazyModules, Parts, Size
from loratui.families.spec import row_of
from loratui.weights.layouts import Names, names_of

MARK = "double_stream_modulation_img.lin.weight"
QWEN3 = chat_text.qwen3("text_encoder", "tokenizer", (9, 18, 27))
MISTRAL = chat_text.mistral("text_encoder", "tokenizer", (10, 20, 30), SYSTEM_MESSAGE)
TOKENS = 512


class Flux2:
    """See `families.protocol.Family` for what each method promises."""

    name = "flux2"
    empty = ""

    def load(
        self, base: Path, dtype: torch.dtype, prediction: str = "auto", vae: Path | None = None,
        text: Sequence[Path] = (),
    ) -> Parts:  # fmt: skip
        """Load a folder or a single file, with the text encoder from elsewhere where it has none."""
        encoders.check(self.name, base, vae, text)
        denoiser, base_hash, scheduler = original.transformer(
            base, Flux2Transformer2DModel, MARK, infer, convert, dtype, self.name
        )
        index = read_json(base / "model_index.json") if base.is_dir() else {}
        distilled = bool(index.get("is_distilled"))
        codec, vae_identity = load_vae(
            vae or (base / "vae" if base.is_dir() else base),
            row_of(self.name).packaged("vae"),
            AutoencoderKLFlux2,
        )
        chat = MISTRAL if denoiser.config.guidance_embeds else QWEN3
        place, folder = sources.find(chat.part, base, text)
        check_width(chat, place, denoiser.config.joint_attention_dim)
        return Parts(
            denoiser=denoiser,
            vae=codec,
            text_encoders=LazyModules({"chat": lambda: chat_text.load_encoder(chat, place)}),
            tokenizers={"chat": t5_text.load_tokenizer(folder)},
            scheduler=scheduler,
            prediction="flow",
            latent_factor=2 ** (len(codec.config.block_out_channels) - 1),
            latent_channels=codec.config.latent_channels,
            vae_identity=vae_identity,
            text_identity=identity([], original.place_identity(place, folder), chat.layers),
            base_hash=base_hash,
            patch=2,
            extras={"distilled": distilled},
        )

    def encode_pictures(self, parts: Parts, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the normalised latents."""
        posterior = parts.vae.encode(pixels_BCHW).latent_dist
        mean_CHW, deviation_CHW = layout.statistics(parts.vae, *posterior.mean.shape[2:])
        return (posterior.mean - mean_CHW) / deviation_CHW, posterior.std / deviation_CHW

    def decode_latents(self, parts: Parts, latents_BCHW: Tensor) -> Tensor:
        """Pixels of such latents."""
        mean_CHW, deviation_CHW = layout.statistics(parts.vae, *latents_BCHW.shape[2:])
        pixels: Tensor = parts.vae.decode(latents_BCHW * deviation_CHW + mean_CHW, return_dict=False)[0]
        return pixels

    def encode_captions(self, parts: Parts, captions: Sequence[Spoken]) -> list[Condition]:
        """Hidden states of three layers, filling included: the model attends to it."""
        return original.alone(self.encode_batch, parts, captions)

    def encode_batch(self, parts: Parts, captions: Sequence[Spoken]) -> Condition:
        """The same as a batch; never with gradients."""
        chat = MISTRAL if parts.denoiser.config.guidance_embeds else QWEN3
        texts = [words(caption) for caption in captions]
        encoder, tokenizer = parts.text_encoders["chat"], parts.tokenizers["chat"]
        return {"prompt_embeds": chat_text.stacked_states(chat, encoder, tokenizer, texts, TOKENS)}

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
            hidden_states=packing.pack(noisy_BCHW),
            encoder_hidden_states=text_BLD,
            timestep=timesteps_B / 1000,
            guidance=torch.full_like(timesteps_B, parts.guidance) if guided else None,
            img_ids=layout.image_ids(height, width, device),
            txt_ids=layout.text_ids(text_BLD.shape[1], device),
            return_dict=False,
        )[0]
        return packing.unpack(output_BLD, height, width)

    def pipeline(self, parts: Parts, sampler: str) -> Any:
        """The pipeline of klein or of dev over these parts, for embeddings."""
        given: dict[str, Any] = {
            "transformer": parts.denoiser, "vae": parts.vae, "text_encoder": None, "tokenizer": None,
            "scheduler": original.flow_scheduler(sampler, parts.scheduler),
        }  # fmt: skip
        if parts.denoiser.config.guidance_embeds:
            from diffusers.pipelines.flux2.pipeline_flux2 import Flux2Pipeline as Pipeline
        else:
            from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline as Pipeline

            given["is_distilled"] = parts.extras["distilled"]
        pipeline: Any = Pipeline(**given)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def pipeline_inputs(
        self, parts: Parts, prompt: Condition, negative: Condition, guidance: float
    ) -> dict[str, Any]:
        """Embeddings and guidance; dev has no negative prompt."""
        found: dict[str, Any] = {
            "prompt_embeds": prompt["prompt_embeds"][None].float(), "guidance_scale": guidance,
        }  # fmt: skip
        if parts.denoiser.config.guidance_embeds:
            return found
        if parts.extras["distilled"]:
            return found | {"guidance_scale": 1.0}
        return found | {"negative_prompt_embeds": negative["prompt_embeds"][None].float()}

    def pipeline_latents(self, parts: Parts, latents: Tensor, width: int, height: int) -> Tensor:
        """dev's tokens, or klein's latents, which its pipeline gives without their normalisation."""
        if latents.dim() == 3:
            side = parts.side_px
            return packing.unpack(latents, 2 * (height // side), 2 * (width // side))
        mean_CHW, deviation_CHW = layout.statistics(parts.vae, *latents.shape[2:])
        return (latents - mean_CHW) / deviation_CHW

    def target_modules(self, denoiser: nn.Module, target: str) -> list[str]:
        """Layers of double and single blocks; `full` has no more, as modulations are outside of blocks."""
        spec = row_of(self.name)
        return original.layers_of(denoiser, spec.layers[target])

    def blocks(self, denoiser: Any) -> list[nn.Module]:
        """The double blocks, then the single ones."""
        return [*denoiser.transformer_blocks, *denoiser.single_transformer_blocks]

    def text_modules(self, encoder: nn.Module) -> list[str]:
        """None: language models are not trained."""
        return []

    def kohya_name(self, network: nn.Module, key: str, module: str) -> str:
        """The original's name of the matrix that holds the layer."""
        return f"{UNET_KEY}_" + names(network).parts[module].original.replace(".", "_")

    def metadata(self, parts: Parts) -> dict[str, str]:
        """Version and architecture as musubi-tuner names them."""
        config = parts.denoiser.config
        size = "9b" if config.num_attention_heads * config.attention_head_dim >= 4096 else "4b"
        model = "dev" if config.guidance_embeds else f"klein-{size}"
        return {
            "ss_base_model_version": "flux_2_" + model.replace("-", "_"),
            "ss_v2": "False",
            "modelspec.architecture": f"Flux.2-{model}/lora",
            **original.structure_metadata(self.name, counts(parts.denoiser)),
        }


def check_width(chat: chat_text.Chat, place: sources.Place, wanted: int) -> None:
    """Refuse a text encoder of another size than the transformer's.

    Raises:
        BaseModelError: its features do not fit.
    """
    found = len(chat.layers) * chat_text.width(place)
    if found != wanted:
        raise BaseModelError(
            f"The {chat.part.title} text encoder makes {found} features and the transformer takes {wanted}.",
            "klein 4B goes with Qwen3-4B, klein 9B with Qwen3-8B, dev with Mistral Small 3.",
        )


def counts(denoiser: Any) -> dict[str, int]:
    """Blocks of each kind."""
    config = denoiser.config
    return {"transformer_blocks": config.num_layers, "single_transformer_blocks": config.num_single_layers}


def names(denoiser: Any) -> Names:
    """Its layers' names in the original."""
    return names_of("flux2", original.stated(counts(denoiser)))


def infer(tensors: Tensors) -> dict[str, Any]:
    """Settings of a transformer from the tensors of an original-layout file."""
    width, channels = tensors["img_in.weight"].shape
    norm = "double_blocks.0.img_attn.norm.query_norm."
    head = tensors[f"{norm}scale" if f"{norm}scale" in tensors else f"{norm}weight"].shape[0]
    return {
        "patch_size": 1,
        "in_channels": channels,
        "num_layers": original.count_blocks(tensors, "double_blocks."),
        "num_single_layers": original.count_blocks(tensors, "single_blocks."),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": tensors["txt_in.weight"].shape[1],
        "timestep_guidance_channels": tensors["time_in.in_layer.weight"].shape[1],
        "mlp_ratio": tensors["double_blocks.0.img_mlp.2.weight"].shape[1] / width,
        "axes_dims_rope": (head // 4,) * 4,
        "guidance_embeds": "guidance_in.in_layer.weight" in tensors,
    }


def convert(tensors: Tensors, shapes: Shapes) -> Tensors:
    """Tensors of an original-layout file under diffusers' names."""
    double, single = (original.count_blocks(tensors, f"{kind}_blocks.") for kind in ("double", "single"))
    blocks = {"transformer_blocks": double, "single_transformer_blocks": single}
    others = {**layout.ENDS, **layout.norms(double, single)}
    parts = names_of("flux2", original.stated(blocks)).parts
    return original.by_names(tensors, shapes, parts, others, ("norm_out.linear",))


FAMILY = Flux2()
