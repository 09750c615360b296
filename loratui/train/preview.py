"""Pictures drawn during training, through the diffusers pipeline over the very modules that train.

Nothing is loaded twice, and nothing here touches the training's randomness: each picture's start noise comes
from its own seed. A sample that fails is an event; training goes on.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor, nn

from loratui.config.schema import SamplesConfig
from loratui.families.emphasis import read
from loratui.families.protocol import Condition, Family, LazyModules, Parts
from loratui.train.adapter import Adapter
from loratui.train.cache import Cache
from loratui.train.checkpoint import write_atomic
from loratui.train.device import Placement
from loratui.train.shortage import is_out_of_memory
from loratui.train.training_adapter import taken_out

_NAMES = {"ddim": "DDIM", "euler": "Euler", "euler_a": "Euler a", "dpmpp_2m": "DPM++ 2M"}


@dataclass(frozen=True, slots=True)
class Request:
    """One picture to draw. Sizes in px."""

    prompt: str
    negative: str
    seed: int
    width: int
    height: int
    steps: int
    guidance: float
    sampler: str

    def text_chunks(self, facts: dict[str, Any]) -> PngInfo:
        """Text chunks: `parameters` as A1111 and its readers know it, `loratui` as JSON."""
        lines = [self.prompt]
        if self.negative:
            lines.append(f"Negative prompt: {self.negative}")
        lines.append(
            f"Steps: {self.steps}, Sampler: {_NAMES[self.sampler]}, CFG scale: {self.guidance:g}, "
            f"Seed: {self.seed}, Size: {self.width}x{self.height}"
        )
        own = {
            "prompt": self.prompt, "negative": self.negative, "seed": self.seed, "width": self.width,
            "height": self.height, "steps": self.steps, "guidance": self.guidance, "sampler": self.sampler,
            **facts,
        }  # fmt: skip
        info = PngInfo()
        info.add_itxt("parameters", "\n".join(lines))
        info.add_itxt("loratui", json.dumps(own, ensure_ascii=False))
        return info


class Preview:
    """Draws requests with the network as it is now.

    Attributes:
        sparing: the memory has run out in a sample before.
        weights: brackets in prompts are weights.
    """

    def __init__(
        self, family: Family, parts: Parts, adapter: Adapter, cache: Cache, placement: Placement,
        weights: bool = True,
    ) -> None:  # fmt: skip
        self.family, self.parts, self.adapter, self.cache, self.placement = (
            family,
            parts,
            adapter,
            cache,
            placement,
        )
        self.sparing = False
        self.weights = weights

    def condition(self, prompt: str) -> Condition:
        """An encoded prompt: from the cache, or anew when the text encoders are trained."""
        spoken = read(prompt) if self.weights else prompt
        if not self.adapter.trains_text:
            return self.cache.condition(spoken)
        spell = self.adapter.spell
        spelled = spell(spoken) if isinstance(spoken, str) else spoken.spelled(spell)
        with torch.no_grad():
            return self.family.encode_captions(self.parts, [spelled])[0]

    def draw(self, requests: Sequence[Request]) -> list[Image.Image]:
        """Draw pictures in one batch; they must differ in prompt, negative and seed only.

        When the memory runs out it is done again in the way that needs least, and so from then on: encoders
        and denoiser in main memory while the codec decodes, and that in tiles.
        """
        if not self.sparing:
            try:
                return self._draw(requests)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Not in the handler, whose traceback holds what the first attempt has made.
            self.sparing = True
            self.placement.free()
        return self._draw(requests)

    def _draw(self, requests: Sequence[Request]) -> list[Image.Image]:
        """The denoiser computes in fp32 where the base is held in fp32, else under autocast; the codec in
        fp32.
        """
        first = requests[0]
        parts, device = self.parts, self.placement.device
        pipeline = self.family.pipeline(parts, first.sampler)
        half = next(parts.denoiser.parameters()).dtype != torch.float32
        self.adapter.train(False)
        try:
            given = [
                self.family.pipeline_inputs(
                    parts,
                    self.condition(r.prompt),
                    self.condition(r.negative or self.family.empty),
                    r.guidance,
                )
                for r in requests
            ]
            inputs = {key: joined([g[key] for g in given], device) for key in given[0]}
            parts.vae.to(device)
            with ExitStack() as aside, torch.no_grad(), taken_out(parts):
                if self.sparing:
                    aside.enter_context(elsewhere(in_memory(parts), device))
                with self.placement.autocast(enabled=half):
                    drawn = pipeline(
                        **inputs,
                        width=first.width,
                        height=first.height,
                        num_inference_steps=first.steps,
                        generator=[torch.Generator("cpu").manual_seed(r.seed) for r in requests],
                        output_type="latent",
                        return_dict=False,
                    )[0]
                latents_BCHW = self.family.pipeline_latents(parts, drawn.float(), first.width, first.height)
                if self.sparing:
                    aside.enter_context(elsewhere([parts.denoiser], device))
                    aside.enter_context(tiles(parts.vae, max(latents_BCHW.shape[-2:])))
                pixels = [self.family.decode_latents(parts, one[None]) for one in latents_BCHW]
                pictures: list[Image.Image] = pipeline.image_processor.postprocess(torch.cat(pixels))
                return pictures
        finally:
            self.adapter.train(True)
            if device.type != "cpu":
                parts.vae.to("cpu")
                self.placement.free()


def joined(values: list[Any], device: torch.device) -> Any:
    """One argument of the pipeline for several prompts: tensors and lists one after the other."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values).to(device)
    if isinstance(first, list):
        return [one.to(device) for value in values for one in value]
    return first


def in_memory(parts: Parts) -> list[nn.Module]:
    """The text encoders that are loaded now."""
    encoders = parts.text_encoders
    loaded = encoders.loaded if isinstance(encoders, LazyModules) else encoders
    return [encoders[key] for key in loaded]


@contextmanager
def elsewhere(modules: Iterable[nn.Module], device: torch.device) -> Iterator[None]:
    """Keep the weights of modules in main memory while the block lasts."""
    tensors = [t for m in modules for t in (*m.parameters(), *m.buffers()) if t.device == device]
    # What is swapped out already is one number seen from everywhere, and would grow to its full size.
    moved = [t for t in tensors if t.numel() <= 1 or t.untyped_storage().nbytes() >= t.nbytes]
    for tensor in moved:
        tensor.data = tensor.data.to("cpu")
    try:
        yield
    finally:
        for tensor in moved:
            tensor.data = tensor.data.to(device)


@contextmanager
def tiles(vae: Any, side: int) -> Iterator[None]:
    """Let a codec work in overlapping tiles of half the picture, and of 64 latent pixels at most.

    Args:
        vae: a codec of diffusers: a KL one, or one of a video model.
        side: the longer side of the latents.
    """
    latent = min(64, -(-side // 2))
    if hasattr(vae, "tile_latent_min_size"):
        px = latent * 2 ** (len(vae.config.block_out_channels) - 1)
        wanted = {"tile_latent_min_size": latent, "tile_sample_min_size": px}
    elif hasattr(vae, "tile_sample_stride_height"):
        factor = vae.spatial_compression_ratio
        lengths = {"min": latent * factor, "stride": max(1, latent * 3 // 4) * factor}
        sides = ("height", "width")
        wanted = {f"tile_sample_{what}_{way}": px for what, px in lengths.items() for way in sides}
    else:
        yield
        return
    wanted["use_tiling"] = True
    before = {name: getattr(vae, name) for name in wanted}
    try:
        for name, value in wanted.items():
            setattr(vae, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(vae, name, value)


def requests_of(config: SamplesConfig, prompts: Sequence[str], resolution: int, factor: int) -> list[Request]:
    """The pictures of one round: one a prompt, seeds counting up, sides rounded to what the codec can do."""
    width = (config.width or resolution) // factor * factor
    height = (config.height or resolution) // factor * factor
    return [
        Request(
            prompt,
            config.negative,
            config.seed + index,
            width,
            height,
            config.steps,
            config.guidance,
            config.sampler,
        )
        for index, prompt in enumerate(prompts)
    ]


def write_picture(path: Path, picture: Image.Image, request: Request, facts: dict[str, Any]) -> None:
    """Write a PNG with its text chunks, atomically."""
    data = io.BytesIO()
    picture.save(data, "PNG", pnginfo=request.text_chunks(facts))
    write_atomic(path, data.getvalue())


def draw_round(
    preview: Preview, requests: Sequence[Request], folder: Path, step: int, context: Any, first: int = 0,
    label: str = "",
) -> None:  # fmt: skip
    """Draw and write one round of samples, numbered from `first`; a signal ends the round early.

    `label` says what they are drawn with, where that is not just the step.
    """
    journal, root = context.journal, context.run.path
    named = {"label": label} if label else {}
    for index, request in enumerate(requests, first):
        if context.stop_requested:
            return
        begun = time.perf_counter()
        path = folder / f"{index:02d}.png"
        roomy = not preview.sparing
        try:
            picture = preview.draw([request])[0]
            write_picture(path, picture, request, {"step": step, "index": index, **named})
        except Exception as error:  # whatever goes wrong with a picture must not end the training
            text = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {text[0] if text else ''}"
            if is_out_of_memory(error):
                reason = "The memory ran out, in tiles and with the base in main memory, too. " + reason
            preview.placement.free()
            journal.write("sample_failed", step=step, index=index, prompt=request.prompt, error=reason)
            continue
        if roomy and preview.sparing:
            journal.write(
                "warning", code="sample-memory",
                message=f"The memory ran out in a sample at step {step}; samples are now decoded in tiles,"
                " with the base in main memory meanwhile.",
                advice="They take longer; smaller samples.width and samples.height would not.",
            )  # fmt: skip
        journal.write(
            "sample",
            step=step,
            index=index,
            prompt=request.prompt,
            seed=request.seed,
            path=path.relative_to(root).as_posix(),
            seconds=round(time.perf_counter() - begun, 3),
            width=picture.width,
            height=picture.height,
            **({"sparing": True} if preview.sparing else {}),
            **named,
        )
