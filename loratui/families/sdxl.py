"""Stable Diffusion XL: epsilon or v-prediction, CLIP ViT-L/14 and OpenCLIP ViT-bigG/14, 1024 px.

Podell et al. 2023, arXiv:2307.01952. The U-Net is conditioned on the last but one hidden states of both text
encoders, on the second one's pooled output, and on six numbers: the size the picture had, where it was
cropped, and the size it is trained at (section 2.2 there).
"""

# /// family
# title = "Stable Diffusion XL"
# resolution = 1024
# latent_factor = 8
# blocks = 87
# notes = "epsilon or v-prediction, two text encoders, told of sizes and crops; the refiner is refused"
#
# [[captions]]
# tokens = 77
# width = 2048
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
from loratui.families.layouts import clip, ldm
from loratui.families.protocol import Condition, Parts, Size


class StableDiffusionXL:
    """See `families.protocol.Family` for what each method promises."""

    name = "sdxl"
    empty = ""
    towers = (
        TextTower(
            "lora_te1", "text_encoder", "tokenizer", "<|endoftext|>",
            lambda base: clip_text.read_transformers(base, clip.SDXL_PREFIXES[0]),
        ),
        TextTower(
            "lora_te2", "text_encoder_2", "tokenizer_2", "!",
            lambda base: clip_text.read_openclip(base, clip.SDXL_PREFIXES[1], drop_last=False),
            projected=True,
        ),
    )  # fmt: skip

    def load(
        self, base: Path, dtype: torch.dtype, prediction: str = "auto", vae: Path | None = None,
        text: Sequence[Path] = (),
    ) -> Parts:  # fmt: skip
        """Load a folder or a single file from the disk; both have their text encoders in them."""
        if base.is_dir():
            return clip_unet.load_folder(base, self.towers, dtype, prediction, vae)
        return clip_unet.load_single(base, "sdxl", self.towers, self._heads, dtype, prediction, vae)

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
        """Hidden states of both text encoders side by side, and the second one's pooled output.

        An empty caption is encoded like any other, as sd-scripts and ComfyUI do; it is not set to zeros.
        Weights do not touch the pooled output, as in A1111.
        """
        return clip_text.one_by_one(self.encode_batch, parts, captions)

    def encode_batch(self, parts: Parts, captions: Sequence[Spoken]) -> Condition:
        """The same as a batch, with gradients."""
        hidden = []
        pooled_BD = None
        for key, text in parts.text_encoders.items():
            ids_NL, weights_NL = clip_text.window_ids(parts, key, captions)
            output = text(ids_NL, output_hidden_states=True)
            weighted_NLD = clip_text.emphasised(output.hidden_states[-2], weights_NL)
            hidden.append(clip_text.side_by_side(parts, weighted_NLD))
            if "text_embeds" in output:
                pooled_BD = output.text_embeds[:: int(parts.extras.get("windows", 1))]  # the first window's
        assert pooled_BD is not None, "the second text encoder ends in a projection"
        return {"prompt_embeds": torch.cat(hidden, dim=-1), "pooled_prompt_embeds": pooled_BD}

    def size_condition(self, original: Size, crop: Size, target: Size) -> Condition:
        """The six numbers, in the order of the paper's code: height before width, top before left."""
        numbers = [*original[::-1], *crop[::-1], *target[::-1]]
        return {"time_ids": torch.tensor(numbers, dtype=torch.float32)}

    def predict(self, parts: Parts, noisy_BCHW: Tensor, timesteps_B: Tensor, condition: Condition) -> Tensor:
        """The U-Net's output."""
        added = {"text_embeds": condition["pooled_prompt_embeds"], "time_ids": condition["time_ids"]}
        output: Tensor = parts.denoiser(
            noisy_BCHW, timesteps_B, condition["prompt_embeds"], added_cond_kwargs=added, return_dict=False
        )[0]
        return output

    def pipeline(self, parts: Parts, sampler: str) -> Any:
        """A StableDiffusionXLPipeline over these parts."""
        return sampling.stable_diffusion_xl_pipeline(parts, sampler)

    def pipeline_inputs(
        self, parts: Parts, prompt: Condition, negative: Condition, guidance: float
    ) -> dict[str, Any]:
        """Embeddings and guidance under the pipeline's names."""
        return sampling.embeddings(prompt, negative) | {"guidance_scale": guidance}

    def pipeline_latents(self, parts: Parts, latents: Tensor, width: int, height: int) -> Tensor:
        """As they are."""
        return latents

    def target_modules(self, denoiser: nn.Module, target: str) -> list[str]:
        """Layers of the transformer blocks, and with full+conv of the residual blocks."""
        return clip_unet.target_modules(denoiser, target)

    def blocks(self, denoiser: nn.Module) -> list[nn.Module]:
        """Residual and transformer blocks."""
        return clip_unet.blocks(denoiser)

    def text_modules(self, encoder: nn.Module) -> list[str]:
        """Attention and MLP of every layer."""
        return clip_text.target_modules(encoder)

    def kohya_name(self, network: nn.Module, key: str, module: str) -> str:
        """U-Net modules under the original layout's names, which is what SDXL files have."""
        if key != clip_unet.UNET_KEY:
            return clip_text.kohya_name(key, module)
        original = ldm.unet_original_name(module, ldm.unet_modules(dict(network.config)))
        return f"{key}_" + original.replace(".", "_")

    def metadata(self, parts: Parts) -> dict[str, str]:
        """Version, architecture and prediction as sd-scripts names them; A1111 looks for `sdxl_`."""
        v = parts.prediction == "v_prediction"
        facts = {
            "ss_base_model_version": "sdxl_base_v1-0",
            "ss_v2": "False",
            "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
            "modelspec.prediction_type": "v" if v else "epsilon",
        }
        if v:
            facts["ss_v_parameterization"] = "True"
        if parts.scheduler.get("rescale_betas_zero_snr"):
            facts["ss_zero_terminal_snr"] = "True"
        return facts | clip_unet.structure_metadata(parts, self.name)


FAMILY = StableDiffusionXL()
