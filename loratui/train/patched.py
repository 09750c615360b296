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
from loratui.families.spec import family_spec
from loratui.train.adapter import UNET
from loratui.weights import layouts
from loratui.weights.updates import Update, open_lora


class Patched:
    """A base that LoRA files can be put into and taken out of."""

    def __init__(self, family: Family, parts: Parts) -> None:
        """Find out which module each name in files means."""
        self._modules: dict[str, nn.Module] = {}
        self._kept: dict[str, Tensor] = {}
        if family.name in layouts.families():
            self._modules = _dotted(family, parts)
            return
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


def _dotted(family: Family, parts: Parts) -> dict[str, nn.Module]:
    """A transformer's layers, and those of the text encoders that it trains, by diffusers' dotted names."""
    spec = family_spec(family.name)
    hosts = {"transformer": parts.denoiser}
    if spec is not None and spec.trains_text:  # others stay unread
        own = {"lora_te1": "text_encoder", "lora_te2": "text_encoder_2"}
        hosts |= {name: parts.text_encoders[key] for key, name in own.items() if key in parts.text_encoders}
    found: dict[str, nn.Module] = {}
    for start, host in hosts.items():
        for name, module in host.named_modules():
            if isinstance(module, nn.Linear):
                found[f"{start}.{name}"] = module
                if start != "transformer" and not name.startswith("text_model."):
                    found[f"{start}.text_model.{name}"] = module
    return found


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
