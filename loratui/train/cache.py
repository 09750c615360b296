"""Latents and text embeddings on disk, each in a .safetensors file named by a hash of all it depends on.

What is stored of a picture is the mean and the standard deviation of its latents, not one draw: a draw is
taken anew each time it is trained on (as the model's own training did), the file is good for any seed, and
cached and uncached training are the same numbers. A key never changes meaning, so a stale entry cannot be
hit: it is merely never asked for again. Writes are atomic, so runs may share a cache.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from loratui.config.colours import WHITE
from loratui.dataset.masks import Mask, mask_pixels
from loratui.dataset.pixels import trained_pixels
from loratui.errors import DatasetError
from loratui.families.emphasis import Spoken
from loratui.families.protocol import Condition, Family, LazyModules, Parts
from loratui.train.ranks import Ranks
from loratui.train.samples import Picture
from loratui.train.variants import Variants

FORMAT = "2"
"""Part of every key: raise it when what an entry holds changes."""
MEMORY_BYTES = 512 * 1024 * 1024
"""Entries kept in memory up to this; the rest is read again from disk."""

Progress = Callable[[str, int, int], None]


class TensorStore:
    """Named tensors in one folder, with a bounded copy in memory; or in memory alone, without a bound."""

    def __init__(self, folder: Path, memory_bytes: int = MEMORY_BYTES, writes: bool = True) -> None:
        self.folder = folder
        self.writes = writes
        self._memory: dict[str, dict[str, Tensor]] = {}
        self._room = memory_bytes

    def path(self, key: str) -> Path:
        """Where an entry lies; two levels, so that no folder holds more than a few hundred files."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def holds(self, key: str) -> bool:
        """Whether an entry is there."""
        return key in self._memory or self.path(key).exists()

    def get(self, key: str) -> dict[str, Tensor] | None:
        """An entry, or None when it is not there or damaged (it is then removed and made again)."""
        if key in self._memory:
            return self._memory[key]
        try:
            tensors: dict[str, Tensor] = load_tensors(self.path(key).read_bytes())
        except FileNotFoundError:
            return None
        except SafetensorError:
            self.path(key).unlink(missing_ok=True)
            return None
        self._remember(key, tensors)
        return tensors

    def put(self, key: str, tensors: dict[str, Tensor]) -> None:
        """Write an entry atomically; concurrent writers of one key write the same bytes."""
        if not self.writes:
            self._memory[key] = tensors
            return
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        data = save_tensors({name: t.contiguous() for name, t in tensors.items()})
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".tmp-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        self._remember(key, tensors)

    def _remember(self, key: str, tensors: dict[str, Tensor]) -> None:
        size = sum(t.numel() * t.element_size() for t in tensors.values())
        if size <= self._room:
            self._memory[key] = tensors
            self._room -= size


class Cache:
    """What the trainer needs of pictures and captions, encoded once."""

    def __init__(
        self, folder: Path, family: Family, parts: Parts, device: torch.device, writes: bool = True
    ) -> None:
        """Keep entries in folder/latents and folder/text, else in memory; encode on `device`."""
        self.family, self.parts, self.device = family, parts, device
        self._latents = TensorStore(folder / "latents", writes=writes)
        self._text = TensorStore(folder / "text", writes=writes)

    def latent_key(self, picture: Picture, flip: bool) -> str:
        """Hash of the picture's bytes, paper, turn, scaling, crop, mirroring, colours, and of the codec."""
        bucket, frame = picture.bucket, picture.frame
        more: tuple[object, ...] = ((frame.turn, frame.mirror),) if frame.turn or frame.mirror else ()
        if picture.paper != WHITE:
            more += (("paper", picture.paper),)
        if picture.jitter is not None:
            more += (picture.jitter,)
        return digest(
            FORMAT, picture.hash, bucket.scaled, bucket.crop, flip, self.parts.vae_identity, "fp32", *more
        )

    def text_key(self, caption: Spoken) -> str:
        """Hash of a caption, with its weights, and of everything that encodes it."""
        return digest(FORMAT, caption, self.parts.text_identity, "fp32")

    def latents(self, picture: Picture, flip: bool = False) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the scaled latents, [C, H, W] each, fp32 on the CPU."""
        key = self.latent_key(picture, flip)
        entry = self._latents.get(key)
        if entry is None:
            entry = self._encode(picture, flip)
            self._latents.put(key, entry)
        return entry["mean"], entry["std"]

    def mask(self, picture: Picture, flip: bool, size: tuple[int, int]) -> Tensor:
        """The picture's mask as it lies over its latents, [H, W] in 0 to 1; ones without one.

        Args:
            picture: of the manifest.
            flip: mirrored.
            size: (H, W) of the latents.

        Raises:
            DatasetError: the mask cannot be read, or is not the one of the manifest any more.
        """
        if picture.mask is None:
            return torch.ones(size)
        bucket, frame = picture.bucket, picture.frame
        other = (frame.turn, frame.mirror, picture.mask_alpha)
        more = (other,) if any(other) else ()
        key = digest(FORMAT, "mask", picture.mask_hash, bucket.scaled, bucket.crop, flip, size, *more)
        entry = self._latents.get(key)
        if entry is None:
            if hashlib.sha256(_bytes(picture.mask)).hexdigest() != picture.mask_hash:
                raise DatasetError(
                    f"{picture.mask} has changed since the run was started.",
                    "Start a new run to train with the new mask.",
                )
            mask = Mask(picture.mask, "alpha" if picture.mask_alpha else "file")
            grey = mask_pixels(mask, bucket, frame)
            pixels_HW = torch.from_numpy(np.array(grey, dtype=np.float32)) / 255.0
            if flip:
                pixels_HW = pixels_HW.flip(-1)
            area = torch.nn.functional.interpolate(pixels_HW[None, None], size, mode="area")
            entry = {"mask": area[0, 0].contiguous()}
            self._latents.put(key, entry)
        return entry["mask"]

    def condition(self, caption: Spoken, keep: bool = True) -> Condition:
        """The encoded caption, fp32 on the CPU.

        Args:
            caption: the text.
            keep: store it; off for captions that hardly come back, whose encoders then stay on the device.
        """
        if not keep:
            for encoder in self.parts.text_encoders.values():
                encoder.to(self.device)  # nothing happens where they are
            with torch.no_grad():
                return self.family.encode_captions(self.parts, [caption])[0]
        key = self.text_key(caption)
        entry = self._text.get(key)
        if entry is None:
            encoders = self.parts.text_encoders
            asleep = isinstance(encoders, LazyModules) and not encoders.loaded
            with torch.no_grad():
                entry = self.family.encode_captions(self.parts, [caption])[0]
            if asleep:  # one new prompt must not keep gigabytes in memory
                self.parts.put_text_away()
            self._text.put(key, entry)
        return entry

    def fill(
        self, pictures: Sequence[Picture], captions: Sequence[Spoken], flips: bool, progress: Progress,
        ranks: Ranks | None = None, variants: Variants | None = None,
    ) -> None:  # fmt: skip
        """Encode what is missing, the models on the device only while they are needed.

        Several processes each encode their share of everything (what is missing changes meanwhile) and wait
        for each other; in memory alone each encodes all of it.

        Args:
            pictures: of the manifest.
            captions: all that can be said of them ahead.
            flips: mirrored, too.
            progress: told what is done.
            ranks: the processes that share the work.
            variants: the versions of each picture; None for the pictures alone.

        Raises:
            DatasetError: a picture cannot be read, or is not the one of the manifest any more.
        """
        ranks, variants = ranks or Ranks(), variants or Variants()
        share = ranks if self._latents.writes else Ranks()
        sides = (False, True) if flips else (False,)
        wanted = share.mine([(p, n, s) for p in pictures for n in range(variants.count) for s in sides])
        keys: dict[str, tuple[Picture, int, bool]] = {}  # versions may be alike
        for picture, n, side in wanted:
            key = self.latent_key(variants.of(picture, n), side)
            if key not in keys and not self._latents.holds(key):
                keys[key] = picture, n, side
        missing = [(variants.of(picture, n), side) for picture, n, side in keys.values()]
        if missing:
            self.parts.vae.to(self.device)
            for done, (picture, flip) in enumerate(missing):
                progress("caching latents", done, len(missing))
                self.latents(picture, flip)
            progress("caching latents", len(missing), len(missing))
            self.parts.vae.to("cpu")
        unique = share.mine(list(dict.fromkeys(captions)))
        texts = [c for c in unique if not self._text.holds(self.text_key(c))]
        if texts:
            for encoder in self.parts.text_encoders.values():
                encoder.to(self.device)
            for done, caption in enumerate(texts):
                progress("caching text", done, len(texts))
                self.condition(caption)
            progress("caching text", len(texts), len(texts))
            self.parts.put_text_away()
        ranks.barrier()

    def _encode(self, picture: Picture, flip: bool) -> dict[str, Tensor]:
        if hashlib.sha256(_bytes(picture.path)).hexdigest() != picture.hash.removeprefix("sha256:"):
            raise DatasetError(
                f"{picture.path} has changed since the run was started.",
                "Start a new run to train on the new picture.",
            )
        image = trained_pixels(picture.path, picture.bucket, picture.frame, picture.paper)
        if picture.jitter is not None:
            image = picture.jitter.apply(image)
        pixels_CHW = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1.0
        if flip:
            pixels_CHW = pixels_CHW.flip(-1)
        # One at a time: in a batch the last bits would depend on which other pictures were missing.
        with torch.no_grad():
            vae_device = next(self.parts.vae.parameters()).device
            mean, std = self.family.encode_pictures(self.parts, pixels_CHW[None].contiguous().to(vae_device))
        if not bool(torch.isfinite(mean).all() and torch.isfinite(std).all()):
            raise DatasetError(f"The VAE makes NaN of {picture.path}.", "Name a working VAE with model.vae.")
        return {"mean": mean[0].float().cpu(), "std": std[0].float().cpu()}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read: {error.strerror or error}.",
            "Put it back, or start a new run without it.",
        ) from error


def digest(*parts: object) -> str:
    """The key of what depends on these parts."""
    return hashlib.sha256("\n".join(repr(p) for p in parts).encode("utf-8", "surrogatepass")).hexdigest()
