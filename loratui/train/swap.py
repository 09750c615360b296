"""Block swap: the frozen weights of some blocks live in host memory and visit the device while they are used.

A block's weights are copied to the device for its forward and, as autograd needs them again, for its
backward; the next block's copies are under way meanwhile, on a stream of their own on CUDA. Between visits a
parameter holds one NaN seen from everywhere (stride 0), so that a use without a visit shows at once.

What autograd saves of a weight is often a view (`weight.t()`), which would keep the copy alive from forward
to backward. So while a block runs, saved views of its copies are kept as (block, weight, shape) and made
again from the weights' second visit. Under gradient checkpointing nothing is saved in the first forward;
then the recomputation, itself a forward of the block, is the second visit. The copies have the bits of the
originals and nothing is computed otherwise, so losses and gradients are those of a run without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

Packed: TypeAlias = Tensor | tuple[int, int, torch.Size, tuple[int, ...], int]


@dataclass(slots=True)
class Visit:
    """Copies of one block's weights on the device, and what to wait for before they are read."""

    copies: list[Tensor]
    ready: Any = None


class Swap:
    """Swaps the frozen parameters of blocks that run one after the other.

    Attributes:
        bytes: of the weights that are held on the host.
        visits: copies of a block made so far.
    """

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device) -> None:
        """Move the frozen parameters of `blocks` to the host.

        Args:
            blocks: in the order in which they run; none is part of another. Parameters that are trained
                (a network's that is in them already) stay where they are.
            device: where the rest of the model computes. On the CPU copies are made all the same.
        """
        self.device = device
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._places = [_frozen(block) for block in blocks]
        self._host: list[list[Tensor]] = []
        self._nothing: list[list[nn.Parameter]] = []
        self._visits: dict[int, Visit] = {}
        self._last, self._way = 0, 1
        self.visits = 0
        for index, block in enumerate(blocks):
            self._host.append([self._to_host(owner, name) for owner, name in self._places[index]])
            self._nothing.append([self._empty(t) for t in self._host[index]])
            self._leave(index)
            block.forward = _Visited(self, index, block.forward)
        self.bytes = sum(t.nbytes for tensors in self._host for t in tensors)

    def _to_host(self, owner: nn.Module, name: str) -> Tensor:
        tensor: Tensor = getattr(owner, name).detach().to("cpu")
        return tensor.pin_memory() if self._side is not None else tensor

    def _empty(self, host: Tensor) -> nn.Parameter:
        nothing = torch.full((1,), float("nan"), device=self.device).to(host.dtype).expand(host.shape)
        return nn.Parameter(nothing, requires_grad=False)

    def _fetch(self, index: int) -> Visit:
        """Begin to copy a block's weights; at most this one and one other are kept."""
        found = self._visits.get(index)
        if found is None:
            self.visits += 1
            if self._side is None:
                found = Visit([t.to(self.device, copy=True) for t in self._host[index]])
            else:
                # What is freed on the main stream may be handed out here before it is done with.
                self._side.wait_stream(torch.cuda.current_stream(self.device))
                with torch.cuda.stream(self._side):
                    copies = [t.to(self.device, non_blocking=True) for t in self._host[index]]
                    found = Visit(copies, self._side.record_event())
            self._visits[index] = found
        return found

    def copies(self, index: int) -> list[Tensor]:
        """A block's weights on the device, ready to be read; the next block's are fetched meanwhile."""
        if index != self._last:  # backward runs through the blocks downwards
            self._way = 1 if index > self._last else -1
        self._last, ahead = index, index + self._way
        if not 0 <= ahead < len(self._host):  # the turning point
            ahead = index - self._way
        for other in [i for i in self._visits if i not in {index, ahead}]:
            del self._visits[other]
        visit = self._fetch(index)
        if visit.ready is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(visit.ready)
            for copy in visit.copies:
                copy.record_stream(stream)
            visit.ready = None
        if self._side is not None and 0 <= ahead < len(self._host):
            self._fetch(ahead)
        return visit.copies

    def arrive(self, index: int) -> list[Tensor]:
        """Put the copies in the parameters' place.

        As new parameters, not as `data` of the old ones: autograd may have kept those themselves.
        """
        copies = self.copies(index)
        for (owner, name), copy in zip(self._places[index], copies, strict=True):
            owner._parameters[name] = nn.Parameter(copy, requires_grad=False)
        return copies

    def _leave(self, index: int) -> None:
        for (owner, name), nothing in zip(self._places[index], self._nothing[index], strict=True):
            owner._parameters[name] = nothing

    def leave(self, index: int) -> None:
        """Take the copies out of the parameters and let go of them."""
        self._leave(index)
        self._visits.pop(index, None)

    def release(self) -> None:
        """Let go of every copy; the next use makes new ones."""
        self._visits.clear()
        self._last, self._way = 0, 1


class _Visited:
    """The forward of a block, with its weights there while it runs."""

    def __init__(self, swap: Swap, index: int, forward: Any) -> None:
        self._swap, self._index, self._forward = swap, index, forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        swap, index = self._swap, self._index
        copies = swap.arrive(index)
        of_storage = {t.untyped_storage().data_ptr(): n for n, t in enumerate(copies) if t.numel()}

        def pack(saved: Tensor) -> Packed:
            place = of_storage.get(saved.untyped_storage().data_ptr())
            if place is None or saved.dtype != copies[place].dtype:
                return saved
            return index, place, saved.shape, saved.stride(), saved.storage_offset()

        def unpack(kept: Packed) -> Tensor:
            if isinstance(kept, Tensor):
                return kept
            block, place, shape, stride, offset = kept
            return swap.copies(block)[place].as_strided(shape, stride, offset)

        try:
            with ExitStack() as stack:
                if torch.is_grad_enabled() and not _recorded_elsewhere():
                    stack.enter_context(saved_tensors_hooks(pack, unpack))
                return self._forward(*args, **kwargs)
        finally:
            swap.leave(index)


def _frozen(block: nn.Module) -> list[tuple[nn.Module, str]]:
    """Where a block's frozen parameters are: module and name in it."""
    return [
        (owner, name)
        for owner in block.modules()
        for name, parameter in owner._parameters.items()
        if parameter is not None and not parameter.requires_grad
    ]


def _recorded_elsewhere() -> bool:
    """Whether gradient checkpointing decides what is saved: only the innermost hooks are asked."""
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


def spread(blocks: Sequence[nn.Module], count: int) -> list[nn.Module]:
    """`count` of the blocks, evenly spread: what stays in between gives the copies time to arrive."""
    return [
        block for n, block in enumerate(blocks) if (n + 1) * count // len(blocks) > n * count // len(blocks)
    ]
