"""Rules across `[network]`: what a network type has, and what to know of its files."""

from __future__ import annotations

from typing import Any

from loratui.config.finding import error, info, warning
from loratui.config.patterns import parse
from loratui.config.schema import NetworkConfig
from loratui.errors import Problem
from loratui.weights.networks import NETWORKS, OPTIONAL, STARTS, network_spec


def check_network(network: NetworkConfig) -> list[Problem]:
    """Errors and warnings about the network."""
    found: list[Problem] = []
    if network.alpha > 4 * network.rank:
        message = f"alpha {network.alpha:g} with rank {network.rank} multiplies the update by more than 4."
        advice, fix = "Use at most the rank, or a lower lr.", {"network.alpha": float(network.rank)}
        found.append(warning("network.alpha", "alpha-high", message, advice, fix))
    if network.start_from and network.kind not in {"lora", "dora"}:
        message = "only LoRA and DoRA can go on from a file."
        none = {"network.start_from": ""}
        found.append(error("network.start_from", "no-start", message, "Resume the run instead.", none))
    for key in ("ranks", "rates"):
        try:
            parse(getattr(network, key))
        except ValueError as wrong:
            advice = "Write such as attn2=0.5; the part before = is a regular expression."
            found.append(error(f"network.{key}", "bad-pattern", f"{wrong}.", advice))
    return found + _kind(network) + _text(network)


def _kind(network: NetworkConfig) -> list[Problem]:
    """What the chosen type has and can."""
    found: list[Problem] = []
    spec = network_spec(network.kind)
    if spec is None:
        return found
    default = NetworkConfig()
    for key in sorted(OPTIONAL - spec.options):
        if getattr(network, key) != getattr(default, key):
            fits = ", ".join(n.name for n in NETWORKS if key in n.options)
            message, path = f"{spec.title} has no {key}.", f"network.{key}"
            fix: dict[str, Any] = {path: getattr(default, key)}
            found.append(error(path, "not-of-network", message, f"It belongs to: {fits}.", fix))
    if network.init == "orthogonal" and (network.rank % 2 or network.conv_rank % 2):
        ranks = {f"network.{key}": getattr(network, key) for key in ("rank", "conv_rank")}
        odd = {path: rank + 1 for path, rank in ranks.items() if rank % 2}
        message = "orthogonal needs an even rank."
        found.append(error("network.init", "odd-rank", message, "Make it even.", odd))
    found += _init(network)
    if network.kind == "oft" and network.target == "full+conv":
        message = "OFT turns no 3x3 convolution: peft's does not leave the base as it was."
        full = {"network.target": "full"}
        found.append(error("network.target", "oft-convolutions", message, "Use full.", full))
    if spec.note:
        found.append(warning("network.kind", "not-everywhere", spec.note))
    return found


def _init(network: NetworkConfig) -> list[Problem]:
    """What the initialisations that look at the base go with, and what they do to the file."""
    found: list[Problem] = []
    init, path = network.init, "network.init"
    usual = {path: "default"}
    if init in {*STARTS, "eva"} and network.start_from:
        message = f"{init} and network.start_from are two beginnings."
        found.append(error(path, "two-starts", message, "Leave one of them out.", usual))
    if network.init_rounds and init != "pissa":
        message = f"{init} has no rounds."
        found.append(warning("network.init_rounds", "no-rounds", message, "", {"network.init_rounds": 0}))
    if init not in STARTS:
        return found
    if network.kind == "dora":
        message = f"{init} is for LoRA: a DoRA's magnitudes are those of the whole weight."
        found.append(error(path, "init-of-lora", message, "Use network.kind = lora.", usual))
    if network.scale_norm:
        message = f"with {init} the norm of B A is not that of the change to the base."
        off = {"network.scale_norm": 0.0}
        found.append(error("network.scale_norm", "norm-of-start", message, "Turn it off.", off))
    message = f"files will have twice the rank, {2 * network.rank}: with {init} they hold start and end."
    advice = "`loratui resize` makes a file smaller, at some loss."
    return [*found, info(path, "rank-doubles", message, advice)]


def _text(network: NetworkConfig) -> list[Problem]:
    """New tokens and text encoders."""
    found: list[Problem] = []
    four = {"network.tokens": 4}
    if network.tokens_only and not network.tokens:
        message = "tokens_only with no tokens."
        found.append(error("network.tokens", "no-tokens", message, "Set it to 4.", four))
    if network.tokens_only and network.text_encoder:
        message = "tokens_only trains nothing but the new tokens."
        off = {"network.text_encoder": False}
        found.append(error("network.text_encoder", "tokens-only", message, "Leave it off.", off))
    if not network.tokens and (network.token_init or network.token_lr):
        message = "the tokens' settings do nothing without tokens."
        found.append(warning("network.tokens", "tokens-off", message, "Set it to 4.", four))
    if not network.trains_text and (network.text_lr or network.text_lr_2 or network.text_stop):
        message = "the text encoder's settings do nothing while it is not trained."
        on = {"network.text_encoder": True}
        found.append(warning("network.text_encoder", "text-off", message, "Set it to true.", on))
    return found
