"""Z-Image, base and Turbo: rectified flow, Qwen3 4B, 1024 px (Z-Image Team 2025, arXiv:2511.22699).

A transformer of one stream: two refiners make picture and caption ready apart, and the layers see both. It
takes lists, of latents with an axis of frames and of captions each of its own length, is told 1 - sigma and
answers x_0 - eps. Turbo is the same network distilled to 8 steps without guidance, which training undoes: it
is trained with an adapter merged in that undoes it first (`model.adapter`), and sampled without.
"""

# /// family
# title = "Z-Image"
# resolution = 1024
# latent_factor = 8
# blocks = 34
# notes = """rectified flow, Qwen3, a negative prompt; Turbo is trained with a training adapter \
#   (model.adapter)"""
# flow = true
# patch = 2
# files = "peft"
# networks = ["lora"]
# trains_text = false
# pipelines = ["ZImagePipeline"]
# marks = ["layers.0.adaLN_modulation.0.weight", "cap_pad_token", "x_pad_token"]
# unlike = ["siglip_pad_token"]
# distilled = "(?<!de)(?<!de[-_ .])turbo"
# wide = true
# parameters = 6_154_908_736
# others = 4_010_000_000
#
# [[captions]]
# tokens = 512
# around = 8
# width = 2560
# inputs = ["cap_embedder.1.weight"]
#
# [layers]
# attention = [".attention.to_q", ".attention.to_k", ".attention.to_v", ".attention.to_out.0"]
# mlp = [".feed_forward.w1", ".feed_forward.w2", ".feed_forward.w3"]
# more = [".adaLN_modulation.0"]
#
# [names]
# blocks = { layers = 30, noise_refiner = 2, context_refiner = 2 }
# forms = { diffusers = ["peft", "prefixed", "kohya"], comfyui = ["peft", "prefixed", "original", "kohya"] }
# table = """
# layers.{n}.attention.to_q              layers.{n}.attention.qkv             0/3
# layers.{n}.attention.to_k              layers.{n}.attention.qkv             1/3
# layers.{n}.attention.to_v              layers.{n}.attention.qkv             2/3
# layers.{n}.attention.to_out.0          layers.{n}.attention.out
# layers.{n}.feed_forward.w1             layers.{n}.feed_forward.w1
# layers.{n}.feed_forward.w2             layers.{n}.feed_forward.w2
# layers.{n}.feed_forward.w3             layers.{n}.feed_forward.w3
# layers.{n}.adaLN_modulation.0          layers.{n}.adaLN_modulation.0
# noise_refiner.{n}.attention.to_q       noise_refiner.{n}.attention.qkv      0/3
# noise_refiner.{n}.attention.to_k       noise_refiner.{n}.attention.qkv      1/3
# noise_refiner.{n}.attention.to_v       noise_refiner.{n}.attention.qkv      2/3
# noise_refiner.{n}.attention.to_out.0   noise_refiner.{n}.attention.out
# noise_refiner.{n}.feed_forward.w1      noise_refiner.{n}.feed_forward.w1
# noise_refiner.{n}.feed_forward.w2      noise_refiner.{n}.feed_forward.w2
# noise_refiner.{n}.feed_forward.w3      noise_refiner.{n}.feed_forward.w3
# noise_refiner.{n}.adaLN_modulation.0   noise_refiner.{n}.adaLN_modulation.0
# context_refiner.{n}.attention.to_q     context_refiner.{n}.attention.qkv    0/3
# context_refiner.{n}.attention.to_k     context_refiner.{n}.attention.qkv    1/3
# context_refiner.{n}.attention.to_v     context_refiner.{n}.attention.qkv    2/3
# context_refiner.{n}.attention.to_out.0 context_refiner.{n}.attention.out
# context_refiner.{n}.feed_forward.w1    context_refiner.{n}.feed_forward.w1
# context_refiner.{n}.feed_forward.w2    context_refiner.{n}.feed_forward.w2
# context_refiner.{n}.feed_forward.w3    context_refiner.{n}.feed_forward.w3
# """
#
# [configs]
# model_index = '''
# {
#   "_class_name": "ZImagePipeline",
#   "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
#   "text_encoder": ["transformers", "Qwen3Model"],
#   "tokenizer": ["transformers", "Qwen2Tokenizer"],
#   "transformer": ["diffusers", "ZImageTransformer2DModel"],
#   "vae": ["diffusers", "AutoencoderKL"]
# }
# '''
# scheduler = '''
# {
#   "_class_name": "FlowMatchEulerDiscreteScheduler",
#   "num_train_timesteps": 1000,
#   "shift": 3.0,
#   "use_dynamic_shifting": false
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
from diffusers.loaders.single_file_utils import convert_z_image_transformer_checkpoint_to_diffusers
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from torch import Tensor, nn

from loratui.errors import BaseModelError
from loratui.families import chat_text, clip_unet, encoders, original, sources, t5_text
from loratui.families.clip_unet import load_vae
from loratui.families.emphasis import Spoken, words
from loratui.families.loading import identity
from loratui.families.original import Shapes, Tensors
from loratui.families.protocol import Condition, LazyModules, Parts, Size
from loratui.families.spec import row_of

MARK = "layers.0.adaLN_modulation.0.weight"
TOKENS = 512
DIFFUSERS = "all_x_embedder.2-1.weight"
"""Some single files have diffusers' names."""


class ZImage:
    """See `families.protocol.Family` for what each method promises."""

    name = "zimage"
    empty = ""

    def load(
        self, base: Path, dtype: torch.dtype, prediction: str = "auto", vae: Path | None = None,
        text: Sequence[Path] = (),
    ) -> Parts:  # fmt: skip
        """Load a folder or a single file, with the text encoder from elsewhere where it has none."""
        encoders.check(self.name, base, vae, text)
        denoiser, base_hash, scheduler = original.transformer(
            base, ZImageTransformer2DModel, MARK, infer, convert, dtype, self.name
        )
        codec, vae_identity = load_vae(
            vae or (base / "vae" if base.is_dir() else base), row_of(self.name).packaged("vae")
        )
        part = chat_text.qwen3("text_encoder", "tokenizer", ()).part
        place, folder = sources.find(part, base, text)
        found, needed = chat_text.width(place), denoiser.config.cap_feat_dim
        if found != needed:
            raise BaseModelError(
                f"The Qwen3 text encoder in {place.folder or place.file} is {found} wide, and {base} needs"
                f" {needed}.",
                "It is another size of Qwen3; Z-Image has the one of 4B.",
            )
        chat = chat_text.qwen3("text_encoder", "tokenizer", (chat_text.depth(place) - 1,), thinking=True)
        return Parts(
            denoiser=denoiser,
            vae=codec,
            text_encoders=LazyModules({"qwen3": lambda: chat_text.load_encoder(chat, place)}),
            tokenizers={"qwen3": t5_text.load_tokenizer(folder)},
            scheduler=scheduler,
            prediction="flow",
            latent_factor=2 ** (len(codec.config.block_out_channels) - 1),
            latent_channels=codec.config.latent_channels,
            vae_identity=vae_identity,
            text_identity=identity([], original.place_identity(place, folder), "cut"),
            base_hash=base_hash,
            patch=2,
            extras={"chat": chat},
        )

    def encode_pictures(self, parts: Parts, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the shifted and scaled latents."""
        return clip_unet.encode_pictures(parts, pixels_BCHW)

    def decode_latents(self, parts: Parts, latents_BCHW: Tensor) -> Tensor:
        """Pixels of such latents."""
        return clip_unet.decode_latents(parts, latents_BCHW)

    def encode_captions(self, parts: Parts, captions: Sequence[Spoken]) -> list[Condition]:
        """Qwen3's hidden states of the caption in its chat, without filling, and a mask of ones."""
        return original.cut(self.encode_batch, parts, captions)

    def encode_batch(self, parts: Parts, captions: Sequence[Spoken]) -> Condition:
        """The same as a batch, filled up."""
        texts = [words(caption) for caption in captions]
        chat, tokenizer = parts.extras["chat"], parts.tokenizers["qwen3"]
        text_BLD = chat_text.stacked_states(chat, parts.text_encoders["qwen3"], tokenizer, texts, TOKENS)
        lengths_B = torch.tensor(chat_text.lengths(chat, tokenizer, texts, TOKENS), device=text_BLD.device)
        mask_BL = torch.arange(TOKENS, device=text_BLD.device)[None] < lengths_B[:, None]
        return {"prompt_embeds": text_BLD, "prompt_mask": mask_BL.to(text_BLD.dtype)}

    def size_condition(self, original: Size, crop: Size, target: Size) -> Condition:
        """Nothing: it knows no sizes."""
        return {}

    def predict(self, parts: Parts, noisy_BCHW: Tensor, timesteps_B: Tensor, condition: Condition) -> Tensor:
        """The velocity."""
        text_BLD = condition["prompt_embeds"].to(noisy_BCHW.dtype)
        lengths = original.lengths(condition["prompt_mask"])
        answers = parts.denoiser(
            list(noisy_BCHW[:, :, None].unbind()),
            (1000 - timesteps_B) / 1000,
            [text_LD[:length] for text_LD, length in zip(text_BLD, lengths, strict=True)],
            return_dict=False,
        )[0]
        return -torch.stack(answers)[:, :, 0]

    def pipeline(self, parts: Parts, sampler: str) -> Any:
        """A ZImagePipeline over these parts, for embeddings."""
        from diffusers.pipelines.z_image.pipeline_z_image import ZImagePipeline

        pipeline = ZImagePipeline(
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
        """Lists of embeddings; guidance 0 leaves the negative prompt out, as Turbo wants it."""
        return {
            "prompt_embeds": [prompt["prompt_embeds"].float()],
            "negative_prompt_embeds": [negative["prompt_embeds"].float()],
            "guidance_scale": guidance,
        }

    def pipeline_latents(self, parts: Parts, latents: Tensor, width: int, height: int) -> Tensor:
        """As they are."""
        return latents

    def target_modules(self, denoiser: nn.Module, target: str) -> list[str]:
        """Layers of both refiners and of the stream."""
        spec = row_of(self.name)
        return original.layers_of(denoiser, spec.layers[target])

    def blocks(self, denoiser: Any) -> list[nn.Module]:
        """The picture's refiner, the caption's, and the layers."""
        return [*denoiser.noise_refiner, *denoiser.context_refiner, *denoiser.layers]

    def text_modules(self, encoder: nn.Module) -> list[str]:
        """None: Qwen3 is not trained."""
        return []

    def kohya_name(self, network: nn.Module, key: str, module: str) -> str:
        """PEFT's dotted name, which diffusers and ComfyUI read."""
        return f"transformer.{module}"

    def metadata(self, parts: Parts) -> dict[str, str]:
        """Version and architecture."""
        config = parts.denoiser.config
        counts = {
            "layers": config.n_layers,
            "noise_refiner": config.n_refiner_layers,
            "context_refiner": config.n_refiner_layers,
        }
        return {
            "ss_base_model_version": "zimage",
            "ss_v2": "False",
            "modelspec.architecture": "z-image/lora",
            **original.structure_metadata(self.name, counts),
        }


def infer(tensors: Tensors) -> dict[str, Any]:
    """Settings of a transformer from the tensors of a single file."""
    named = DIFFUSERS in tensors
    width, patch = tensors[DIFFUSERS if named else "x_embedder.weight"].shape
    norm = tensors.get(f"layers.0.attention.{'norm_q' if named else 'q_norm'}.weight")
    head = norm.shape[0] if norm is not None else 128
    return {
        "in_channels": patch // 4,
        "dim": width,
        "n_layers": original.count_blocks(tensors, "layers."),
        "n_refiner_layers": original.count_blocks(tensors, "noise_refiner."),
        "n_heads": width // head,
        "n_kv_heads": width // head,
        "qk_norm": norm is not None,
        "cap_feat_dim": tensors["cap_embedder.1.weight"].shape[1],
        "axes_dims": (head // 4, 3 * head // 8, 3 * head // 8),
        "axes_lens": (1536, 512, 512),
    }


def convert(tensors: Tensors, shapes: Shapes) -> Tensors:
    """Tensors of a single file under diffusers' names."""
    if DIFFUSERS in tensors:
        return tensors
    found: Tensors = convert_z_image_transformer_checkpoint_to_diffusers(tensors)
    return found


FAMILY = ZImage()
