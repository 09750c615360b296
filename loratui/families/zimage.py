"""Z-Image, base and Turbo: rectified flow, Qwen3 4B, 1024 px (Z-Image Team 2025, arXiv:2511.22699).

A transformer of one stream: two refiners make picture and caption ready apart, and the layers see both. It
takes lists, of latents with an axis of frames and of captions each of its own length, is told 1 - sigma and
answers x_0 - eps. Turbo is the same network distilled to 8 steps without guidance, which training undoes: it
is trained with an adapter merged in that undoes it first (`model.adapter`), and sampled without.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_z_image_transformer_checkpoint_to_diffusers
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from torch import Tensor, nn

from loratui.errors import BaseModelError
from loratui.families import chat_text, clip_unet, original, sources, t5_text
from loratui.families.clip_unet import load_vae
from loratui.families.emphasis import Spoken, words
from loratui.families.loading import CONFIGS, identity
from loratui.families.original import Shapes, Tensors
from loratui.families.protocol import Condition, LazyModules, Parts, Size
from loratui.families.spec import family_spec

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
        denoiser, base_hash, scheduler = original.transformer(
            base, ZImageTransformer2DModel, MARK, infer, convert, dtype, CONFIGS / "zimage"
        )
        codec, vae_identity = load_vae(vae or (base / "vae" if base.is_dir() else base), CONFIGS / "zimage")
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
        spec = family_spec(self.name)
        assert spec is not None
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
