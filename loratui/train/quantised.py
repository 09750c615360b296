"""A frozen base in 8 or 4 bits: weights are stored small and made anew each time they are used.

    fp8   float8_e4m3fn, one scale an output channel
    int8  round to nearest, one scale an output channel
    nf4   4-bit NormalFloat, one scale for 64 numbers (Dettmers et al. 2023, arXiv:2305.14314, appendix E)

All three are plain torch: they work on every device, in linear layers and convolutions, under every network
type, and with block swap. The full weight lives within one forward or one backward of its layer; autograd
keeps the stored form. Norms, embeddings, the first and the last layer stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_INT8, _FP8 = 127.0, 448.0
_BLOCK = 64
_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip


def pack(weight: Tensor, form: str) -> tuple[Tensor, Tensor]:
    """The stored form of a weight, and its scales in fp32."""
    full = weight.detach().float()
    if form == "nf4":
        flat = nn.functional.pad(full.flatten(), (0, -full.numel() % _BLOCK)).view(-1, _BLOCK)
        scale = flat.abs().amax(1, keepdim=True).clamp_min(1e-12)
        table = torch.tensor(_NF4, device=full.device)
        codes = torch.bucketize(flat / scale, (table[1:] + table[:-1]) / 2).to(torch.uint8).flatten()
        return codes[0::2] << 4 | codes[1::2], scale
    top = _INT8 if form == "int8" else _FP8
    scale = (full.flatten(1).abs().amax(1) / top).clamp_min(1e-12)
    scale = scale.view(-1, *[1] * (full.dim() - 1))
    if form == "int8":
        return (full / scale).round_().to(torch.int8), scale
    return (full / scale).to(torch.float8_e4m3fn), scale


def unpack(codes: Tensor, scale: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """The weight that a stored form stands for."""
    if codes.dtype != torch.uint8:
        return (codes.float() * scale).to(dtype)
    table = torch.tensor(_NF4, device=codes.device)
    pairs = torch.stack((codes >> 4, codes & 15), 1).int()
    full = table[pairs].view(-1, _BLOCK) * scale
    return full.view(-1)[: math.prod(shape)].view(shape).to(dtype)


class _Layer(nn.Module):  # type: ignore[misc]
    """What both kinds of layers share. `weight` is the full one, made when it is asked for."""

    def _take(self, layer: Any, form: str, keep: bool) -> None:
        self.shape, self.dtype, self.form = layer.weight.shape, layer.weight.dtype, form
        codes, scale = pack(layer.weight, form)
        self.codes = nn.Parameter(codes, requires_grad=False)
        self.scale = nn.Parameter(scale, requires_grad=False)
        self.bias = layer.bias
        if keep:  # no parameter, so that it goes to no device and into no file
            self.original = layer.weight.detach()
        self.train(layer.training)

    def full(self, dtype: torch.dtype) -> Tensor:
        """The weight in a precision."""
        return unpack(self.codes, self.scale, self.shape, dtype)

    @property
    def weight(self) -> Tensor:
        """The weight in the precision that it was given in."""
        return self.full(self.dtype)

    def _compute(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Input and bias in the precision that the layer computes in: autocast's, else the input's."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return x.to(dtype), self.bias.to(dtype) if self.bias is not None else None


class QuantisedLinear(_Layer, nn.Linear):  # type: ignore[misc]
    """A linear layer with a stored weight."""

    def __init__(self, layer: nn.Linear, form: str, keep: bool = False) -> None:
        """Take over `layer`."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self._take(layer, form, keep)

    def forward(self, x: Tensor) -> Tensor:
        """x W^T + b."""
        x, bias = self._compute(x)
        result: Tensor = _Linear.apply(x, self.codes, self.scale, self.shape)
        return result if bias is None else result + bias


class QuantisedConv2d(_Layer, nn.Conv2d):  # type: ignore[misc]
    """A convolution with a stored weight; zeros around the picture."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """A plain convolution where sizes are given: peft makes its own layers by the class of the base's."""
        return super().__new__(cls) if isinstance(args[0], nn.Conv2d) else nn.Conv2d(*args, **kwargs)

    def __init__(self, layer: nn.Conv2d, form: str, keep: bool = False) -> None:
        """Take over `layer`."""
        nn.Module.__init__(self)
        for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
                     "transposed", "output_padding", "padding_mode"):  # fmt: skip
            setattr(self, name, getattr(layer, name))
        self._take(layer, form, keep)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of x."""
        x, bias = self._compute(x)
        how = (self.stride, self.padding, self.dilation, self.groups)
        result: Tensor = _Conv2d.apply(x, self.codes, self.scale, self.shape, how)
        return result if bias is None else result + bias[:, None, None]


class _Linear(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, scale: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(codes, scale)
        ctx.shape = shape
        return nn.functional.linear(x, unpack(codes, scale, shape, x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        codes, scale = ctx.saved_tensors
        return grads[0] @ unpack(codes, scale, ctx.shape, grads[0].dtype), None, None, None


class _Conv2d(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, scale: Tensor, shape: torch.Size, how: Any) -> Tensor:
        ctx.save_for_backward(codes, scale)
        ctx.shape, ctx.how, ctx.size = shape, how, x.shape
        return nn.functional.conv2d(x, unpack(codes, scale, shape, x.dtype), None, *how)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        codes, scale = ctx.saved_tensors
        weight = unpack(codes, scale, ctx.shape, grads[0].dtype)
        return nn.grad.conv2d_input(ctx.size, weight, grads[0], *ctx.how), None, None, None, None


def quantise(blocks: Sequence[nn.Module], form: str, keep: bool = False) -> None:
    """Store the weights of all linear layers and convolutions in `blocks` as `form`, one after the other.

    With `keep` each layer keeps the full weight as `original`, until LoftQ has looked at it.
    """
    for block in blocks:
        for name, layer in list(block.named_modules()):
            if type(layer) is nn.Linear:
                block.set_submodule(name, QuantisedLinear(layer, form, keep))
            elif type(layer) is nn.Conv2d and layer.padding_mode == "zeros":
                block.set_submodule(name, QuantisedConv2d(layer, form, keep))
