"""LoRA files put into a loaded base the way the programs do that load them: W' = W + sum of strength * D.

Any type that `weights.updates` reads, several at once, taken out again exactly: the touched weights are kept
as they were. In a base of half precision small updates are rounded, as they are in ComfyUI and A1111.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from loratui.errors import WeightsError
from loratui.families.protocol import Family, Parts
from loratui.train.adapter import UNET
from loratui.weights.updates import Update, open_lora


class Patched:
    """A base that LoRA files can be put into and taken out of."""

    def __init__(self, family: Family, parts: Parts) -> None:
        """Find out which module each name in files means."""
        self._modules: dict[str, nn.Module] = {}
        self._kept: dict[str, Tensor] = {}
        for key, host in ((UNET, parts.denoiser), *parts.text_encoders.items()):
            for name, module in host.named_modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    try:
                        self._modules[family.kohya_name(host, key, name)] = module
                    except (KeyError, ValueError):  # the first and last layers have no name in LoRA files
                        continue

    def put(self, loras: Sequence[tuple[Path, float]]) -> None:
        """Have exactly these LoRAs in the base, each with its strength.

        Raises:
            WeightsError: a file cannot be read, or has a module that the base has not.
        """
        self.take_out()
        try:
            for path, strength in loras:
                if strength:
                    self._add(path, strength)
        except BaseException:
            self.take_out()
            raise

    def take_out(self) -> None:
        """The bare base again, bit by bit."""
        for name, weight in self._kept.items():
            module = self._modules[name]
            with torch.no_grad():
                module.weight.copy_(weight.to(module.weight.device))
        self._kept.clear()

    def _add(self, path: Path, strength: float) -> None:
        for update in open_lora(path):
            module = self._modules.get(update.name)
            if module is None:
                raise WeightsError(
                    f"{path} changes {update.name}, which the base does not have.",
                    "The LoRA is for a base with other layers.",
                )
            weight = module.weight
            if update.name not in self._kept:
                self._kept[update.name] = weight.detach().to("cpu", copy=True)
            delta = _delta(update, self._kept[update.name], path).to(weight.device)
            with torch.no_grad():
                weight.copy_((weight.float() + strength * delta.reshape(weight.shape)).to(weight.dtype))


def _delta(update: Update, weight: Tensor, path: Path) -> Tensor:
    """D in fp32; of a DoRA the whole change, which depends on the weight of the base."""
    pair = None if "dora_scale" in update.parts else update.factors()
    if pair is not None:
        up, down = (torch.from_numpy(part).float() for part in pair)
        if (up.shape[0], down.shape[1]) != (weight.shape[0], weight[0].numel()):
            raise WeightsError(
                f"{path}: {update.name} is for a weight of {up.shape[0]} x {down.shape[1]} numbers, the"
                f" base's has {weight.shape[0]} x {weight[0].numel()}.",
                "The LoRA is for another size of base.",
            )
        return up @ down
    base = weight.float().numpy()
    return torch.from_numpy(update.apply(base) - base).float()
