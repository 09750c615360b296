"""The handful of questions a model family answers; the training loop asks nothing else of it.

A family is one module with a `FAMILY` object that satisfies `Family`. To add one: write the module, add a
row to `families.spec.FAMILIES`; tests/contract/test_family_contract.py then runs on it by itself.

Shape suffixes: B batch, C channels, H and W latent height and width, L tokens, D features.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from loratui.errors import BaseModelError
from loratui.families.emphasis import Spoken
from loratui.families.spec import family_spec

Size = tuple[int, int]
Condition = dict[str, Tensor]
"""What a caption becomes, without batch axis: tensors by name (`prompt_embeds` of shape [L, D], ...)."""


@dataclass(slots=True)
class Parts:
    """The components of a loaded base; the one copy that training and sampling share.

    Attributes:
        denoiser: the network the LoRA goes into, frozen.
        vae: the picture codec, frozen, fp32.
        text_encoders: by their kohya prefix (`lora_te`), frozen, fp32.
        tokenizers: by the same keys.
        scheduler: the base's scheduler config.
        prediction: `epsilon` or `v_prediction`.
        latent_factor: px per latent px.
        latent_channels: channels of a latent.
        vae_identity: content hash of codec weights and settings; keys the latent cache.
        text_identity: content hash of text encoders and tokenizers; keys the embedding cache.
        base_hash: content hash of the denoiser's weights, for the file's metadata and resume checks.
    """

    denoiser: nn.Module
    vae: nn.Module
    text_encoders: dict[str, nn.Module]
    tokenizers: dict[str, Any]
    scheduler: dict[str, Any]
    prediction: str
    latent_factor: int
    latent_channels: int
    vae_identity: str
    text_identity: str
    base_hash: str
    extras: dict[str, Any] = field(default_factory=dict)

    def networks(self) -> Iterator[nn.Module]:
        """Every module that holds weights."""
        yield self.denoiser
        yield self.vae
        yield from self.text_encoders.values()


class Family(Protocol):
    """What the trainer asks. Calls happen in the order of the methods, the last four at any time."""

    name: str

    def load(
        self, base: Path, dtype: torch.dtype, prediction: str = "auto", vae: Path | None = None
    ) -> Parts:
        """Load a diffusers folder or a single file from the disk only; everything frozen and on the CPU.

        Args:
            base: folder or .safetensors file.
            dtype: what the denoiser is held in; codec and text encoders are fp32.
            prediction: `auto` reads it from the base.
            vae: another codec to take.

        Raises:
            BaseModelError: a component is missing or does not fit; the message names it.
        """

    def encode_pictures(self, parts: Parts, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the scaled latents, each [B, C, H, W], for pixels in -1..1."""

    def encode_captions(self, parts: Parts, captions: Sequence[Spoken]) -> list[Condition]:
        """Conditions of captions or weighted prompts, on the CPU in fp32, each as if it were alone."""

    def encode_batch(self, parts: Parts, captions: Sequence[Spoken]) -> Condition:
        """The same with a leading batch axis, on the encoders' device and with gradients: to train them."""

    def size_condition(self, original: Size, crop: Size, target: Size) -> Condition:
        """What the denoiser is told of a picture's sizes besides its caption; empty for most families.

        Args:
            original: (width, height) of the picture as it was, in px.
            crop: (left, top) of the crop in the scaled picture, in px.
            target: (width, height) of what it is trained at, in px.
        """

    def predict(self, parts: Parts, noisy_BCHW: Tensor, timesteps_B: Tensor, condition: Condition) -> Tensor:
        """The denoiser's output for a batch; `condition` has a leading batch axis here."""

    def pipeline(self, parts: Parts, sampler: str) -> Any:
        """A diffusers pipeline over these very parts (nothing is copied), with a fresh scheduler."""

    def pipeline_inputs(self, prompt: Condition, negative: Condition) -> dict[str, Tensor]:
        """Keyword arguments of the pipeline call for one prompt, with a leading batch axis of 1."""

    def target_modules(self, denoiser: nn.Module, target: str) -> list[str]:
        """Names of the modules that get an update for a `network.target`."""

    def blocks(self, denoiser: nn.Module) -> list[nn.Module]:
        """The modules that hold most of its weights, in the order in which they run; none is in another.

        They are what visits the device one by one (`train.swap`) and what is compiled. Where gradient
        checkpointing recomputes a part, that part is one of them or holds none.
        """

    def text_modules(self, encoder: nn.Module) -> list[str]:
        """Names of the modules of a text encoder that get an update when it is trained."""

    def kohya_name(self, network: nn.Module, key: str, module: str) -> str:
        """The name of a module in LoRA files: what ComfyUI and A1111 expect.

        Args:
            network: the denoiser or a text encoder.
            key: `lora_unet`, or the text encoder's key in `Parts.text_encoders`.
            module: its name in the network.
        """

    def metadata(self, parts: Parts) -> dict[str, str]:
        """The metadata by which ComfyUI and A1111 tell the family of a file."""


def load_family(name: str) -> Family:
    """Import the family of that name.

    Raises:
        BaseModelError: there is none.
    """
    spec = family_spec(name)
    if spec is None:
        raise BaseModelError(f"There is no model family named {name!r}.", "`loratui families` lists them.")
    family: Family = importlib.import_module(spec.module).FAMILY
    return family


def stack(conditions: Sequence[Condition], device: torch.device) -> Condition:
    """Batch conditions along a new first axis and move them to the device."""
    return {
        key: torch.stack([c[key] for c in conditions]).to(device, non_blocking=True) for key in conditions[0]
    }
