"""The network inside denoiser and text encoders: put in by peft, fp32 whatever the base is held in.

What differs between LoRA, DoRA, LoHa, LoKr and OFT is in `train.networks`, one file each.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import inject_adapter_in_model
from torch import Tensor, nn

from loratui.config.patterns import last_match, unused
from loratui.config.schema import NetworkConfig
from loratui.errors import ConfigError
from loratui.families.protocol import Family, Parts
from loratui.families.spec import family_spec
from loratui.train.networks.initial import begin
from loratui.train.networks.protocol import NAME, Network, Plan, load_network
from loratui.train.stateless import generator
from loratui.train.tokens import Tokens
from loratui.weights.networks import STARTS, network_spec

__all__ = ["NAME", "Adapter", "Slot"]

UNET = "lora_unet"


@dataclass(slots=True)
class Slot:
    """One updated module.

    Attributes:
        name: of the module in files.
        host: `lora_unet` or the text encoder's key.
        module: its name in the host.
        layer: what peft has put in its place.
        rate: multiple of its host's learning rate.
    """

    name: str
    host: str
    module: str
    layer: Any
    rate: float = 1.0


class Adapter:
    """The trained network.

    Attributes:
        slots: updated modules, the denoiser's first, in the networks' order.
        layers: host and module -> peft layer.
        dotted: files have PEFT's names, not kohya's.
        drops: whether there are random dropouts.
        trains_text: whether text encoders are among the hosts.
        moves: whether A and B begin with a product that is not zero, so that files hold the way from there.
    """

    def __init__(
        self, family: Family, parts: Parts, config: NetworkConfig, seed: int, trigger: str = "",
        fresh: bool = True, progress: Callable[[str, int, int], None] | None = None,
    ) -> None:  # fmt: skip
        """Put updates into the modules of `config.target`, drawn from the seed by name.

        Args:
            family, parts, config, seed, trigger: of the run.
            fresh: whether starts that are computed from the base are; a checkpoint brings them.
            progress: told how many layers have theirs.

        Raises:
            ConfigError: the network does not exist, or the base has no layer for it.
        """
        self.network: Network = load_network(config.kind)
        self.config = config
        self.drops = max(config.dropout, config.rank_dropout, config.module_dropout) > 0
        self.tokens = Tokens(parts, trigger, config, seed) if config.tokens else None
        self.trains_text = config.trains_text
        targets = family.target_modules(parts.denoiser, config.target)
        if not targets:
            raise ConfigError(
                f"The base has no layer for network.target = {config.target!r}.", "Choose another target."
            )
        alone = self.tokens is not None and config.tokens_only
        spec = family_spec(family.name)
        self.dotted = spec is not None and spec.files == "peft"
        self.slots = [] if alone else self._inject(family, UNET, parts.denoiser, targets)
        if config.text_encoder:
            for key, encoder in parts.text_encoders.items():
                self.slots += self._inject(family, key, encoder, family.text_modules(encoder))
        names = [f"{slot.host}.{slot.module}" for slot in self.slots]
        for idle in unused([*config.ranks, *config.rates], [*names, *(f"{UNET}.{t}" for t in targets)]):
            raise ConfigError(f"No module's name fits {idle!r}.", "See network.ranks and network.rates.")
        if not self.slots and not alone:
            raise ConfigError("network.ranks leaves no module to train.", "Give some of them a rank.")
        for slot in self.slots:
            self.network.initialise(slot.layer, config, generator(seed, "init", slot.name))
            for parameter in self.network.parts(slot.layer).values():
                parameter.data = parameter.data.float()
        self._tie()
        self.moves = bool(self.slots) and config.init in STARTS
        if self.moves:
            self._begin(seed, fresh, progress or (lambda what, done, total: None))
        self.layers: dict[str, Any] = {f"{slot.host}.{slot.module}": slot.layer for slot in self.slots}
        self.train(True)

    def _tie(self) -> None:
        """Let the layers that are one matrix in files (fused q, k and v) share their A.

        Their update is then of the rank of the file's one matrix, as reference trainers have it.
        """
        for group in self._groups().values():
            for slot in group[1:]:
                if slot.layer.lora_A[NAME].weight.shape != group[0].layer.lora_A[NAME].weight.shape:
                    raise ConfigError(
                        f"network.ranks gives parts of {slot.name} different ranks.",
                        "They are one matrix in the file: give them one rank.",
                    )
                slot.layer.lora_A[NAME] = group[0].layer.lora_A[NAME]

    def _begin(self, seed: int, fresh: bool, progress: Callable[[str, int, int], None]) -> None:
        """Starts that are computed from the base's weights; see `train.networks.initial`."""
        config, groups = self.config, self._groups()
        for done, (name, group) in enumerate(groups.items()):
            if fresh:
                progress("decomposing the base", done, len(groups))
            layers, random = [slot.layer for slot in group], generator(seed, "init", name)
            begin(layers, config.init, config.init_rounds, random, fresh)
        if fresh:
            progress("decomposing the base", len(groups), len(groups))

    def starts(self) -> list[Tensor]:
        """A0 and B0 of all layers, where there are any; they never change."""
        if not self.moves:
            return []
        modules = [m for s in self.slots for m in (s.layer.lora_A[NAME], s.layer.lora_B[NAME])]
        return list({id(m): m.start for m in modules}.values())

    def _groups(self) -> dict[str, list[Slot]]:
        """Slots by their name in files; several where the file has one matrix for them."""
        found: dict[str, list[Slot]] = {}
        for slot in self.slots:
            found.setdefault(slot.name, []).append(slot)
        return found

    def _inject(self, family: Family, key: str, host: nn.Module, targets: list[str]) -> list[Slot]:
        config, modules = self.config, dict(host.named_modules())
        ranks: dict[str, int] = {}
        alphas: dict[str, float] = {}
        for name in targets:
            wide = _is_wide(modules[name])
            rank = (config.conv_rank or config.rank) if wide else config.rank
            alpha = (config.conv_alpha or config.alpha) if wide else config.alpha
            wanted = int(last_match(config.ranks, f"{key}.{name}", rank))
            if wanted:
                ranks[name], alphas[name] = wanted, alpha * wanted / rank
        if not ranks:
            return []
        # One expression: peft compares a list entry by entry with every module's name.
        settings = self.network.settings(
            Plan(ranks, alphas, config),
            "|".join(name.replace(".", r"\.") for name in ranks),
            {_exactly(n): r for n, r in ranks.items() if r != config.rank},
            {_exactly(n): a for n, a in alphas.items() if a != config.alpha},
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inject_adapter_in_model(settings, host, adapter_name=NAME)
        modules = dict(host.named_modules())
        return [
            Slot(family.kohya_name(host, key, n), key, n, modules[n],
                 last_match(config.rates, f"{key}.{n}", 1.0))
            for n in ranks
        ]  # fmt: skip

    def parameters(self) -> list[nn.Parameter]:
        """What is trained, module by module, in order."""
        all_of = (p for slot in self.slots for p in self.network.parts(slot.layer).values())
        found = list({id(p): p for p in all_of}.values())
        return found + (list(self.tokens.rows.values()) if self.tokens is not None else [])

    def groups(self, lr: float) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer: `params`, `lr` and a `name` for curves.

        Args:
            lr: the denoiser's learning rate; text encoders have their own in the settings.
        """
        config = self.config
        text = {}
        for n, key in enumerate(dict.fromkeys(s.host for s in self.slots if s.host != UNET)):
            first = config.text_lr or lr / 2
            text[key] = (config.text_lr_2 or first) if n else first
        found: dict[str, dict[str, Any]] = {}
        seen: set[int] = set()
        for slot in self.slots:
            for part, parameter in self.network.parts(slot.layer).items():
                if id(parameter) in seen:
                    continue
                seen.add(id(parameter))
                host = slot.host.removeprefix("lora_")
                fast = config.lora_plus != 1.0 and self.network.is_fast(part)
                name = host + (" B" if fast else "") + (f" x{slot.rate:g}" if slot.rate != 1.0 else "")
                rate = text.get(slot.host, lr) * slot.rate * (config.lora_plus if fast else 1.0)
                group = found.setdefault(name, {"name": name, "lr": rate, "params": []})
                group["params"].append(parameter)
        groups = list(found.values())
        if self.tokens is not None:  # undecayed: an embedding at zero means nothing
            rows = list(self.tokens.rows.values())
            groups.append(
                {"name": "tokens", "lr": config.token_lr or lr, "params": rows, "weight_decay": 0.0}
            )
        return groups

    def spell(self, text: str) -> str:
        """A caption or prompt as the text encoders are to read it."""
        return self.tokens.spell(text) if self.tokens is not None else text

    def train(self, mode: bool) -> None:
        """Turn the update's dropouts on or off; nothing else of the frozen networks changes with it."""
        for slot in self.slots:
            for module in self.network.dropping(slot.layer):
                module.train(mode and self.drops)

    @contextmanager
    def scaled_off(self) -> Iterator[None]:
        """The bare base, for as long as the block lasts; with LoftQ what stands for it, Q + s B0 A0."""
        stands = self.config.init == "loftq" and self.moves
        trained = [p.detach().clone() for p in self.parameters()] if stands else []
        for slot in self.slots:
            if stands:
                for module in (slot.layer.lora_A[NAME], slot.layer.lora_B[NAME]):
                    module.weight.data.copy_(module.start)
            else:
                slot.layer.enable_adapters(False)
        if self.tokens is not None:
            self.tokens.switch(False)
        try:
            yield
        finally:
            if self.tokens is not None:
                self.tokens.switch(True)
            for slot in self.slots if not stands else []:
                slot.layer.enable_adapters(True)
            for parameter, tensor in zip(self.parameters() if stands else [], trained, strict=True):
                parameter.data.copy_(tensor)

    def limit_norms(self) -> dict[str, float]:
        """Max-norm regularisation after a step, where `network.scale_norm` asks for it.

        Returns:
            Mean and largest norm of the updates before, and how many were shrunk; empty when it is off.
        """
        limit = self.config.scale_norm
        norms = [self.network.shrink(s.layer, limit) for s in self.slots] if limit > 0 else []
        found = [n for n in norms if n is not None]
        if not found:
            return {}
        all_norms = torch.stack(found).float().cpu()
        return {
            "norm_mean": float(all_norms.mean()),
            "norm_max": float(all_norms.max()),
            "norms_shrunk": int((all_norms > limit).sum()),
        }

    def tensors(self) -> dict[str, Tensor]:
        """The parameters under the names that files have, with alpha: fp32 on the CPU, copies.

        Where the network moves away from a start, files have twice the rank: A and A0, B and -B0.
        """
        return self._tensors(moved=False) | (self.tokens.tensors() if self.tokens is not None else {})

    def _tensors(self, moved: bool) -> dict[str, Tensor]:
        """`moved`: hold A - A0 and A0, B and B - B0 instead, which does not cancel in half precision."""
        found: dict[str, Tensor] = {}
        for group in self._groups().values():
            slot = group[0]
            for part, parameter in self.network.parts(slot.layer).items():
                parameters = [parameter]
                if part == "lora_up.weight":
                    parameters += [s.layer.lora_B[NAME].weight for s in group[1:]]
                values = [self.network.stored(part, p.detach().to("cpu", copy=True)) for p in parameters]
                value = (torch.cat(values) if values[1:] else values[0]).contiguous()
                if self.moves:
                    value = _from_start(value, self._start(group, part), part, moved)
                found[self._key(slot, part)] = value
            alpha = self.network.alpha(slot.layer)
            if alpha is not None:
                found[f"{slot.name}.alpha"] = torch.tensor(2.0 * alpha if self.moves else alpha)
        return found

    @staticmethod
    def _start(group: list[Slot], part: str) -> Tensor:
        if part == "lora_down.weight":
            start: Tensor = group[0].layer.lora_A[NAME].start.cpu()
            return start
        return torch.cat([slot.layer.lora_B[NAME].start.cpu() for slot in group])

    def network_tensors(self) -> dict[str, Tensor]:
        """What the exported LoRA holds: `tensors()` without the new tokens.

        In PEFT's form without alpha, which not every reader heeds there: B holds the scale.
        """
        found = self._tensors(moved=True)
        if not self.dotted:
            return found
        folded = {}
        for name, tensor in found.items():
            module, _, part = name.rpartition(".lora_")
            if part == "B.weight":
                folded[name] = tensor * (found[f"{module}.alpha"] / found[f"{module}.lora_A.weight"].shape[0])
            elif module:
                folded[name] = tensor
        return folded

    @staticmethod
    def _take_start(slot: Slot, part: str, values: Tensor) -> Tensor:
        """Put the start that a checkpoint's matrix holds in place; returns the rest."""
        if part == "lora_down.weight":
            value, start = values.chunk(2)
            slot.layer.lora_A[NAME].start.copy_(start)
            return value
        value, start = values.chunk(2, 1)
        slot.layer.lora_B[NAME].start.copy_(-start)
        return value

    def _key(self, slot: Slot, part: str) -> str:
        if self.dotted:
            part = {"lora_down.weight": "lora_A.weight", "lora_up.weight": "lora_B.weight"}[part]
        return f"{self._prefix(slot)}.{part}"

    def _prefix(self, slot: Slot) -> str:
        spec = network_spec(self.config.kind)
        if spec is None or spec.format == "kohya":
            return slot.name
        host = {
            UNET: "unet",
            "lora_te": "text_encoder",
            "lora_te1": "text_encoder",
            "lora_te2": "text_encoder_2",
        }
        text = "" if slot.host == UNET or slot.module.startswith("text_model.") else "text_model."
        return f"{host[slot.host]}.{text}{slot.module}"

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take parameters back from `tensors()`.

        Raises:
            KeyError, ValueError: one is missing, left over or of another shape.
        """
        expected = self.tensors()
        if set(tensors) != set(expected):
            odd = sorted(set(tensors) ^ set(expected))
            raise KeyError(f"{len(odd)} tensors differ in name, such as {odd[0]}")
        with torch.no_grad():
            for group in self._groups().values():
                row = 0
                for slot in group:
                    for part, parameter in self.network.parts(slot.layer).items():
                        name = self._key(slot, part)
                        values = tensors[name]
                        if values.shape != expected[name].shape:
                            raise ValueError(f"{name} has shape {tuple(values.shape)}")
                        if part == "lora_up.weight" and len(group) > 1:
                            values = values[row : row + parameter.shape[0]]
                            row += parameter.shape[0]
                        if self.moves:
                            values = self._take_start(slot, part, values)
                        parameter.copy_(values.reshape(parameter.shape))
            if self.tokens is not None:
                rows = zip(self.tokens.rows.values(), self.tokens.tensors(), strict=True)
                for parameter, name in rows:
                    if tensors[name].shape != parameter.shape:
                        raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}")
                    parameter.copy_(tensors[name])


def _from_start(value: Tensor, start: Tensor, part: str, moved: bool) -> Tensor:
    """One file's matrix that holds a factor and its start; either form of both has the same product."""
    if part == "lora_down.weight":
        return torch.cat((value - start if moved else value, start))
    return torch.cat((value, value - start if moved else -start), 1)


def _exactly(name: str) -> str:
    return "^" + name.replace(".", r"\.") + "$"


def _is_wide(module: nn.Module) -> bool:
    """Whether a layer is a convolution that sees more than one pixel: those have a rank of their own."""
    return isinstance(module, nn.Conv2d) and math.prod(module.kernel_size) > 1
