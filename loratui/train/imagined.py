"""The memory of a training step, from fake tensors: every operation runs on shapes alone.

The base is built from its files' headers, the network put in, a batch of the largest bucket sent through
forward, backward and optimizer, and a sample drawn and decoded. Nothing is computed and nothing of size is
allocated; a mode beneath autograd counts the bytes of every storage that is alive (the method of torch's own
`torch.distributed._tools.mem_tracker`, kept to what is needed here).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from loratui.config.run import RunInfo
from loratui.config.schema import RunConfig
from loratui.families.loading import shapes_only
from loratui.families.protocol import Family, LazyModules, Parts, stack
from loratui.optim.spec import optimizer_spec
from loratui.train.adapter import Adapter
from loratui.train.assemble import load_base
from loratui.train.device import Placement

GIB = float(1 << 30)


@dataclass(frozen=True, slots=True)
class Imagined:
    """Bytes at the peak of each phase, in GiB.

    Attributes:
        weights_gib: of denoiser, codec and text encoders.
        cache_gib: while pictures and captions of the largest bucket are encoded.
        train_gib: in a step: weights on the device, activations, gradients, optimizer.
        sample_gib: while a sample is drawn and decoded.
        lora_gib: trained numbers with gradient and optimizer state.
    """

    weights_gib: float
    cache_gib: float
    train_gib: float
    sample_gib: float
    lora_gib: float

    @property
    def peak_gib(self) -> float:
        """The highest of all."""
        return max(self.weights_gib, self.cache_gib, self.train_gib, self.sample_gib)


class LiveBytes(TorchDispatchMode):  # type: ignore[misc]
    """Counts the bytes of all storages that operations made and that are still held."""

    def __init__(self) -> None:
        super().__init__()
        self._live: dict[int, int] = {}
        self.now = 0
        self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and look at what it made."""
        out = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self.see, out)
        return out

    def see(self, tensor: Tensor) -> None:
        """Count a tensor's storage unless it is counted."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live or tensor.device.type == "meta":
            return
        size = storage.nbytes()
        self._live[key] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._live.pop(key, 0)

    @contextmanager
    def phase(self) -> Iterator[Callable[[], float]]:
        """A span whose own peak in GiB the yielded function tells."""
        self.peak = self.now
        yield lambda: self.peak / GIB


def imagine(info: RunInfo, config: RunConfig, size_px: tuple[int, int]) -> Imagined:
    """Estimate the peaks of a training on the device's side.

    Args:
        info: base and family.
        config: resolved settings.
        size_px: (width, height) of the largest bucket.

    Raises:
        LoratuiError: the base cannot be used.
    """
    placement = Placement(torch.device("cpu"), _compute(config), None)
    with FakeTensorMode(allow_non_fake_inputs=True), LiveBytes() as live, shapes_only(), _replacing():
        with live.phase():
            family, parts = load_base(info, config, placement)
            weights = live.now / GIB  # what loading casts on its way is mapped from the file, or on the host
        with live.phase() as peak:
            condition, latents = _encode(family, parts, config, size_px)
            cache = peak()
            if isinstance(parts.text_encoders, LazyModules):
                parts.put_text_away()  # as caching does
        before = live.now
        adapter = _adapter(family, parts, info, config)
        state = _state_bytes(adapter, config)
        lora = (live.now - before) / GIB
        with live.phase() as peak:
            _step(family, parts, config, adapter, condition, latents, placement)
            train = peak() + state / GIB
        with live.phase() as peak:
            _sample(family, parts, config, adapter, condition, placement)
            sample = peak() + state / GIB
    return Imagined(weights, cache, train, sample if config.samples.every else 0.0, lora + state / GIB)


@contextmanager
def _replacing() -> Iterator[None]:
    """Let `Module.to` put new parameters in place of fake ones, which torch cannot swap in place."""
    usual = nn.Module._apply

    def replace(self: nn.Module, fn: Any, recurse: bool = True) -> nn.Module:
        for module in self.modules() if recurse else [self]:
            for key, value in module._parameters.items():
                if value is not None:
                    with torch.no_grad():
                        module._parameters[key] = nn.Parameter(fn(value), value.requires_grad)
            for key, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[key] = fn(buffer)
        return self

    nn.Module._apply = replace
    try:
        yield
    finally:
        nn.Module._apply = usual


def _compute(config: RunConfig) -> torch.dtype:
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[config.memory.precision]


def _encode(
    family: Family, parts: Parts, config: RunConfig, size_px: tuple[int, int]
) -> tuple[dict[str, Tensor], Tensor]:
    """What caching does: one picture and one caption; returns a batch of conditions and latents."""
    width, height = size_px
    batch = config.data.batch_size
    with torch.no_grad():
        mean, _ = family.encode_pictures(parts, torch.zeros(1, 3, height, width))
        one = dict(family.encode_captions(parts, ["a thing"])[0])
    one |= family.size_condition(size_px, (0, 0), size_px)
    return stack([one] * batch, torch.device("cpu")), torch.zeros(batch, *mean.shape[1:])


def _adapter(family: Family, parts: Parts, info: RunInfo, config: RunConfig) -> Adapter:
    adapter = Adapter(
        family, parts, config.network, config.objective.seed, info.trigger or "thing", fresh=False
    )
    if config.memory.gradient_checkpointing:
        parts.denoiser.enable_gradient_checkpointing()
    if config.memory.attention == "sliced":
        parts.denoiser.set_attention_slice("auto")
    return adapter


def _state_bytes(adapter: Adapter, config: RunConfig) -> float:
    """What the optimizer keeps, and the average's copy."""
    numbers = sum(p.numel() for p in adapter.parameters())
    spec = optimizer_spec(config.optimizer.name)
    each = (spec.state_bytes if spec else 8.0) + (4.0 if config.objective.ema_decay else 0.0)
    return float(numbers * each)


def _step(
    family: Family, parts: Parts, config: RunConfig, adapter: Adapter, condition: dict[str, Tensor],
    latents_BCHW: Tensor, placement: Placement,
) -> None:  # fmt: skip
    timesteps_B = torch.zeros(latents_BCHW.shape[0], dtype=_timestep(parts))
    with placement.autocast():
        if adapter.trains_text:
            spoken = [adapter.spell(f"{adapter.tokens.trigger if adapter.tokens else ''} thing")]
            condition = condition | family.encode_batch(parts, spoken * latents_BCHW.shape[0])
        answer_BCHW = family.predict(parts, latents_BCHW, timesteps_B, condition)
    loss = (answer_BCHW.float() - latents_BCHW).pow(2).mean()
    loss.backward()
    del loss, answer_BCHW
    for parameter in adapter.parameters():
        parameter.grad = None


def _timestep(parts: Parts) -> torch.dtype:
    return torch.float32 if parts.prediction == "flow" else torch.int64


def _sample(
    family: Family, parts: Parts, config: RunConfig, adapter: Adapter, condition: dict[str, Tensor],
    placement: Placement,
) -> None:  # fmt: skip
    """Two denoiser passes in one (guidance), then the decoding."""
    factor = parts.latent_factor
    step, side = parts.side_px, config.data.resolution
    height, width = (
        (given or side) // step * step // factor for given in (config.samples.height, config.samples.width)
    )
    two = {key: value[:1].expand(2, *value.shape[1:]) for key, value in condition.items()}
    adapter.train(False)
    half = next(parts.denoiser.parameters()).dtype != torch.float32
    with torch.no_grad():
        noise_BCHW = torch.zeros(2, parts.latent_channels, height, width)
        with placement.autocast(enabled=half):
            family.predict(parts, noise_BCHW, torch.zeros(2, dtype=_timestep(parts)), two)
        family.decode_latents(parts, noise_BCHW[:1])
