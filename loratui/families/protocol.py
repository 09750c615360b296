"""The handful of questions a model family answers; the training loop asks nothing else of it.

A family is one module with a `FAMILY` object that satisfies `Family`. To add one: copy
`families/_template.py`, which says when each method is called, and add its name to `families.spec.NAMES`; the
contract tests then run on it by themselves.

Shape suffixes: B batch, C channels, H and W latent height and width, L tokens, D features.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from loratui.errors import BaseModelError
from loratui.families.emphasis import Spoken
from loratui.families.spec import family_spec

T = TypeVar("T")
Size = tuple[int, int]
Condition = dict[str, Tensor]
"""What a caption becomes, without batch axis: tensors by name (`prompt_embeds` of shape [L, D], ...).

Tensors of one name may differ in their first axis from caption to caption: `stack` fills up with zeros, so a
mask of ones beside them says in a batch where each one ends.
"""


class Lazy(Mapping[str, T]):
    """Things that are read when they are first asked for, and may be let go of again."""

    def __init__(self, loaders: Mapping[str, Callable[[], T]]) -> None:
        """Remember how to read each."""
        self._loaders = dict(loaders)
        self._loaded: dict[str, T] = {}

    def __getitem__(self, key: str) -> T:
        if key not in self._loaded:
            self._loaded[key] = self._loaders[key]()
        return self._loaded[key]

    def __contains__(self, key: object) -> bool:
        return key in self._loaders

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Those that are in memory now."""
        return tuple(self._loaded)

    def release(self) -> None:
        """Let go of all."""
        self._loaded.clear()


class LazyModules(Lazy[nn.Module]):
    """Text encoders of several gigabytes: once all captions are in the cache, none is read any more."""


@dataclass(slots=True)
class Parts:
    """The components of a loaded base; the one copy that training and sampling share.

    Attributes:
        denoiser: the network the LoRA goes into, frozen.
        vae: the picture codec, frozen, fp32.
        text_encoders: by their kohya prefix (`lora_te`), frozen; fp32, or large ones in bf16 and lazily.
        tokenizers: by the same keys.
        scheduler: the base's scheduler config.
        prediction: `epsilon`, `v_prediction`, or `flow` for the velocity of a rectified flow.
        latent_factor: px per latent px.
        latent_channels: channels of a latent.
        vae_identity: content hash of codec weights and settings; keys the latent cache.
        text_identity: content hash of text encoders and tokenizers; keys the embedding cache.
        base_hash: content hash of the denoiser's weights, for the file's metadata and resume checks.
        patch: latent px per side that the denoiser takes as one token; sides are multiples of
            latent_factor * patch.
        guidance: what distilled models with a guidance input are told in training.
        extras: what the family itself keeps.
    """

    denoiser: nn.Module
    vae: nn.Module
    text_encoders: Mapping[str, nn.Module]
    tokenizers: Mapping[str, Any]
    scheduler: dict[str, Any]
    prediction: str
    latent_factor: int
    latent_channels: int
    vae_identity: str
    text_identity: str
    base_hash: str
    patch: int = 1
    guidance: float = 1.0
    extras: dict[str, Any] = field(default_factory=dict)

    @property
    def side_px(self) -> int:
        """What the sides of every picture are multiples of."""
        return self.latent_factor * self.patch

    def put_text_away(self) -> None:
        """Free the device, and the memory where encoders can be read again, until text is encoded anew."""
        if isinstance(self.text_encoders, LazyModules):
            self.text_encoders.release()
            return
        for encoder in self.text_encoders.values():
            encoder.to("cpu")

    def networks(self) -> Iterator[nn.Module]:
        """Every module that holds weights."""
        yield self.denoiser
        yield self.vae
        yield from self.text_encoders.values()


class Family(Protocol):
    """What the trainer asks. Calls happen in the order of the methods, the last four at any time.

    Attributes:
        name: as in the table of families.
        empty: the caption that stands for none: of samples without negative, and of dropped captions.
    """

    name: str
    empty: str

    def load(
        self, base: Path, dtype: torch.dtype, prediction: str = "auto", vae: Path | None = None,
        text: Sequence[Path] = (),
    ) -> Parts:  # fmt: skip
        """Load a diffusers folder or a single file from the disk only; everything frozen and on the CPU.

        Args:
            base: folder or .safetensors file.
            dtype: what the denoiser is held in; codec and text encoders are fp32.
            prediction: `auto` reads it from the base.
            vae: another codec to take.
            text: folders and files with the text encoders and tokenizers that the base lacks.

        Raises:
            BaseModelError: a component is missing or does not fit; the message names it.
        """

    def encode_pictures(self, parts: Parts, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the scaled latents, each [B, C, H, W], for pixels in -1..1."""

    def decode_latents(self, parts: Parts, latents_BCHW: Tensor) -> Tensor:
        """Pixels in about -1..1, [B, 3, H, W], of scaled latents: the way back from `encode_pictures`."""

    def encode_captions(self, parts: Parts, captions: Sequence[Spoken]) -> list[Condition]:
        """Conditions of captions or weighted prompts, each as if it were alone.

        On the CPU in fp32, or in the precision of large encoders that are held in bf16.
        """

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
        """The denoiser's output for a batch; `condition` has a leading batch axis here.

        Timesteps are whole numbers 0 .. 999, of flow models 1000 sigma as floats. What the denoiser packs
        (tokens of latent patches, ids of places) is packed and unpacked here.
        """

    def pipeline(self, parts: Parts, sampler: str) -> Any:
        """A diffusers pipeline over these very parts (nothing is copied), with a fresh scheduler."""

    def pipeline_inputs(
        self, parts: Parts, prompt: Condition, negative: Condition, guidance: float
    ) -> dict[str, Any]:
        """Keyword arguments of the pipeline call for one prompt.

        Tensors have a leading batch axis of 1 and lists one entry; several prompts are joined along it. Other
        values, such as the guidance under the pipeline's name for it, are the same for all.
        """

    def pipeline_latents(self, parts: Parts, latents: Tensor, width: int, height: int) -> Tensor:
        """Latents that the pipeline gives with output_type="latent", as `decode_latents` takes them.

        Args:
            parts: the loaded base.
            latents: of one picture or more, packed as the pipeline has them.
            width: of the picture in px.
            height: of the picture in px.
        """

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
    """Batch conditions along a new first axis and move them to the device, shorter ones filled with zeros."""
    return {
        key: _stacked([c[key] for c in conditions]).to(device, non_blocking=True) for key in conditions[0]
    }


def _stacked(tensors: list[Tensor]) -> Tensor:
    if tensors[0].dim() and len({t.shape[0] for t in tensors}) > 1:
        longest = max(t.shape[0] for t in tensors)
        tensors = [torch.cat([t, t.new_zeros(longest - t.shape[0], *t.shape[1:])]) for t in tensors]
    return torch.stack(tensors)
