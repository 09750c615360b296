"""The LoRA inside the denoiser: injected by peft, fp32 whatever the base is held in.

W' = W + (alpha / rank) B A, with B = 0 at the start (Hu et al. 2021, eq. 3).
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from loratui.config.schema import NetworkConfig
from loratui.errors import ConfigError
from loratui.families.protocol import Family
from loratui.train.stateless import generator

NAME = "default"


class Adapter:
    """The trained matrices of one network.

    Attributes:
        layers: kohya name -> peft layer, in the network's order.
    """

    def __init__(self, family: Family, denoiser: nn.Module, config: NetworkConfig, seed: int) -> None:
        """Inject matrices into the modules of `config.target`; A drawn from the seed by name, B zero."""
        if config.kind != "lora":
            raise ConfigError(f"There is no network named {config.kind!r}.", "Set network.kind to lora.")
        targets = family.target_modules(denoiser, config.target)
        if not targets:
            raise ConfigError(
                f"The base has no layer for network.target = {config.target!r}.", "Choose another target."
            )
        modules = dict(denoiser.named_modules())
        wide = [name for name in targets if _is_wide(modules[name])]
        ranks = dict.fromkeys(wide, config.conv_rank or config.rank)
        alphas = dict.fromkeys(wide, config.conv_alpha or config.alpha)
        settings = LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            rank_pattern={f"^{re.escape(n)}$": r for n, r in ranks.items() if r != config.rank},
            alpha_pattern={f"^{re.escape(n)}$": a for n, a in alphas.items() if a != config.alpha},
            lora_dropout=config.dropout,
            # One expression: peft compares a list entry by entry with every module's name.
            target_modules="|".join(name.replace(".", r"\.") for name in targets),
            init_lora_weights=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inject_adapter_in_model(settings, denoiser, adapter_name=NAME)
        self.denoiser = denoiser
        self.layers: dict[str, LoraLayer] = {
            family.kohya_name(denoiser, "lora_unet", name): module
            for name, module in denoiser.named_modules()
            if isinstance(module, LoraLayer)
        }
        assert len(self.layers) == len(targets), "peft injected other modules than asked for"
        for name, layer in self.layers.items():
            down = layer.lora_A[NAME].weight
            bound = 1.0 / math.sqrt(
                down[0].numel()
            )  # kaiming_uniform(a=sqrt(5)), what every LoRA starts from
            draw = generator(seed, "init", name)
            down.data = (torch.rand(down.shape, generator=draw) * 2.0 - 1.0).mul_(bound).to(down.device)
            layer.lora_B[NAME].weight.data = torch.zeros_like(layer.lora_B[NAME].weight, dtype=torch.float32)
        self.train(True)

    def parameters(self) -> list[nn.Parameter]:
        """A and B of each layer, in order."""
        return [m.weight for layer in self.layers.values() for m in (layer.lora_A[NAME], layer.lora_B[NAME])]

    def train(self, mode: bool) -> None:
        """Turn the update's dropout on or off; nothing else of the frozen network changes with it."""
        for layer in self.layers.values():
            layer.lora_dropout.train(mode)

    @contextmanager
    def scaled_off(self) -> Iterator[None]:
        """The bare base, for as long as the block lasts."""
        for layer in self.layers.values():
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.enable_adapters(True)

    def tensors(self) -> dict[str, Tensor]:
        """The matrices under kohya names, with alpha: fp32 on the CPU, copies."""
        found: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            found[f"{name}.lora_down.weight"] = (
                layer.lora_A[NAME].weight.detach().to("cpu", copy=True).contiguous()
            )
            found[f"{name}.lora_up.weight"] = (
                layer.lora_B[NAME].weight.detach().to("cpu", copy=True).contiguous()
            )
            found[f"{name}.alpha"] = torch.tensor(float(layer.lora_alpha[NAME]))
        return found

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take matrices back from `tensors()`.

        Raises:
            KeyError, ValueError: one is missing, left over or of another shape.
        """
        expected = {
            f"{name}.{part}"
            for name in self.layers
            for part in ("lora_down.weight", "lora_up.weight", "alpha")
        }
        if set(tensors) != expected:
            odd = sorted(set(tensors) ^ expected)
            raise KeyError(f"{len(odd)} tensors differ in name, such as {odd[0]}")
        with torch.no_grad():
            for name, layer in self.layers.items():
                for part, module in (("lora_down", layer.lora_A[NAME]), ("lora_up", layer.lora_B[NAME])):
                    tensor = tensors[f"{name}.{part}.weight"]
                    if tensor.shape != module.weight.shape:
                        raise ValueError(f"{name}.{part} has shape {tuple(tensor.shape)}")
                    module.weight.copy_(tensor)


def _is_wide(module: nn.Module) -> bool:
    """Whether a layer is a convolution that sees more than one pixel: those have a rank of their own."""
    return isinstance(module, nn.Conv2d) and math.prod(module.kernel_size) > 1
