"""Stable Diffusion 2.x: v- or epsilon prediction, OpenCLIP ViT-H/14 without its last layer, 768 or 512 px."""

# /// family
# title = "Stable Diffusion 2.x"
# resolution = 768
# latent_factor = 8
# blocks = 38
# notes = "v-prediction at 768 px, OpenCLIP ViT-H/14"
#
# [[captions]]
# tokens = 77
# width = 1024
# fp32 = true
# ///

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from loratui.families import clip_text, clip_unet, sampling
from loratui.families.clip_text import TextTower
from loratui.families.emphasis import Spoken
from loratui.families.layouts import clip
from loratui.families.protocol import Condition, Parts, Size


class StableDiffusion2:
    """See `families.protocol.Family` for what each method promises."""

    name = "sd2"
    empty = ""
    towers = (
        # Trained on the output of the last layer but one: the last one stored is never run.
        TextTower(
            "lora_te", "text_encoder", "tokenizer", "!",
            lambda base: clip_text.read_openclip(base, clip.SD2_PREFIX, drop_last=True),
        ),
    )  # fmt: skip

    def load(
        self, base: Path, dtype: torch.dtype, prediction: str = "auto", vae: Path | None = None,
        text: Sequence[Path] = (),
    ) -> Parts:  # fmt: skip
        """Load a folder or a single file from the disk; both have their text encoders in them."""
        if base.is_dir():
            return clip_unet.load_folder(base, self.towers, dtype, prediction, vae)
        return clip_unet.load_single(base, "sd2", self.towers, self._heads, dtype, prediction, vae)

    @staticmethod
    def _heads(channels: Sequence[int]) -> list[int]:
        return [c // 64 for c in channels]  # 64 features a head

    def encode_pictures(self, parts: Parts, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the scaled latents."""
        return clip_unet.encode_pictures(parts, pixels_BCHW)

    def decode_latents(self, parts: Parts, latents_BCHW: Tensor) -> Tensor:
        """Pixels of scaled latents."""
        return clip_unet.decode_latents(parts, latents_BCHW)

    def encode_captions(self, parts: Parts, captions: Sequence[Spoken]) -> list[Condition]:
        """The text encoder's last hidden states."""
        return clip_text.one_by_one(self.encode_batch, parts, captions)

    def encode_batch(self, parts: Parts, captions: Sequence[Spoken]) -> Condition:
        """The same as a batch, with gradients."""
        return {"prompt_embeds": clip_text.last_hidden_states(parts, "lora_te", captions)}

    def size_condition(self, original: Size, crop: Size, target: Size) -> Condition:
        """Nothing: the U-Net knows no sizes."""
        return {}

    def predict(self, parts: Parts, noisy_BCHW: Tensor, timesteps_B: Tensor, condition: Condition) -> Tensor:
        """The U-Net's output."""
        return clip_unet.predict(parts, noisy_BCHW, timesteps_B, condition)

    def pipeline(self, parts: Parts, sampler: str) -> Any:
        """A StableDiffusionPipeline over these parts."""
        return sampling.stable_diffusion_pipeline(parts, sampler)

    def pipeline_inputs(
        self, parts: Parts, prompt: Condition, negative: Condition, guidance: float
    ) -> dict[str, Any]:
        """Embeddings and guidance under the pipeline's names."""
        return sampling.embeddings(prompt, negative) | {"guidance_scale": guidance}

    def pipeline_latents(self, parts: Parts, latents: Tensor, width: int, height: int) -> Tensor:
        """As they are."""
        return latents

    def target_modules(self, denoiser: nn.Module, target: str) -> list[str]:
        """Layers of the transformer blocks."""
        return clip_unet.target_modules(denoiser, target)

    def blocks(self, denoiser: nn.Module) -> list[nn.Module]:
        """Residual and transformer blocks."""
        return clip_unet.blocks(denoiser)

    def text_modules(self, encoder: nn.Module) -> list[str]:
        """Attention and MLP of every layer."""
        return clip_text.target_modules(encoder)

    def kohya_name(self, network: nn.Module, key: str, module: str) -> str:
        """The key plus the diffusers or transformers path."""
        return clip_unet.kohya_name(key, module)

    def metadata(self, parts: Parts) -> dict[str, str]:
        """Version, architecture and prediction as sd-scripts names them."""
        v = parts.prediction == "v_prediction"
        return {
            "ss_base_model_version": "sd_v2_v" if v else "sd_v2",
            "ss_v2": "True",
            "modelspec.architecture": f"stable-diffusion-v2-{'768-v' if v else '512'}/lora",
            "modelspec.prediction_type": "v" if v else "epsilon",
            **clip_unet.structure_metadata(parts, self.name),
        }


FAMILY = StableDiffusion2()
