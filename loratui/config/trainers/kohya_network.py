"""sd-scripts' network: module, arguments, text encoders and their rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loratui.config.trainers.report import Ledger

SAID = {
    "network.kind", "network.rank", "network.alpha", "network.target", "network.conv_rank",
    "network.conv_alpha", "network.dropout", "network.rank_dropout", "network.module_dropout",
    "network.factor", "network.decompose_both", "network.tucker", "network.lora_plus", "network.scale_norm",
    "network.start_from", "network.text_encoder", "network.text_lr", "network.text_lr_2",
}  # fmt: skip
_MODULES = {
    "networks.lora": "lora", "networks.dylora": "lora", "networks.lora_fa": "lora", "lycoris.kohya": "lora",
    "networks.oft": "oft",
}  # fmt: skip
_ALGORITHMS = {
    "lora": "lora", "locon": "lora", "loha": "loha", "lokr": "lokr", "dora": "dora", "diag-oft": "oft",
}  # fmt: skip
_PRESETS = {"full": "full+conv", "attn-mlp": "attention+mlp", "attn-only": "attention"}


def arguments_of(value: Any) -> dict[str, str]:
    """`network_args` or `optimizer_args`: a list of key=value, or one text of them."""
    if isinstance(value, str):
        items = value.split()
    elif isinstance(value, list):
        items = [str(v) for v in value]
    elif isinstance(value, dict):
        items = [f"{k}={v}" for k, v in value.items()]
    else:
        items = []
    found: dict[str, str] = {}
    for item in items:
        key, equals, text = item.partition("=")
        if equals and key.strip():
            found[key.strip()] = text.strip().strip("\"'")
    return found


def read(ledger: Ledger) -> None:
    """Enter everything about the network."""
    _sizes(ledger)
    arguments = arguments_of(ledger.get("network_args"))
    algorithm = arguments.get("algo", "").lower()
    module = ledger.text("network_module")
    kind = _MODULES.get(module, "lora")
    if module == "lycoris.kohya":
        kind = _ALGORITHMS.get(algorithm or "lora", "lora")
    if _true(arguments.get("dora_wd", "")) and kind == "lora":
        kind = "dora"
    if module:
        _module(ledger, module, algorithm, kind)
    elif kind != "lora":
        ledger.also("network.kind", kind)
    preset = arguments.get("preset", "full").lower()
    convolutions = _count(arguments.get("conv_dim")) > 0 or (module == "lycoris.kohya" and preset == "full")
    # sd-scripts takes every linear layer and 1x1 projection of the transformer blocks
    target = "full+conv" if convolutions else "full"
    if module == "lycoris.kohya" and preset in _PRESETS:
        target = _PRESETS[preset]
    if kind == "oft" and target == "full+conv":
        target = "full"
    ledger.also("network.target", target)
    if "network_args" in ledger:
        _arguments(ledger, arguments, kind)
    _text(ledger)
    for key, ours in (
        ("network_weights", "network.start_from"),
        ("scale_weight_norms", "network.scale_norm"),
    ):
        if key in ledger:
            ledger.take(key, ours)
    if "dim_from_weights" in ledger:
        ledger.fine("dim_from_weights", "the file's ranks must be those of the settings")


def _sizes(ledger: Ledger) -> None:
    if "network_dim" in ledger:
        ledger.take("network_dim", "network.rank")
    if "network_alpha" in ledger:
        alpha = ledger.number("network_alpha")
        if not ledger.done("network_alpha"):
            if alpha == 0:  # sd-scripts: 0 stands for the rank
                rank = ledger.values.get("network.rank", 4)
                ledger.take("network_alpha", "network.alpha", rank, "0 stands for the rank there")
            else:
                ledger.take("network_alpha", "network.alpha")
    if "network_dropout" in ledger:
        ledger.take("network_dropout", "network.dropout")


def _module(ledger: Ledger, module: str, algorithm: str, kind: str) -> None:
    if module in _MODULES and (module != "lycoris.kohya" or not algorithm or algorithm in _ALGORITHMS):
        why = {
            "networks.dylora": "DyLoRA trains all ranks at once; here the rank is fixed",
            "networks.lora_fa": "LoRA-FA freezes A; here both are trained",
            "networks.oft": "the OFT here is PEFT's: it turns the input and loads in PEFT alone",
        }.get(module, "")
        if algorithm == "diag-oft":
            why = "the OFT here is PEFT's: it turns the input and loads in PEFT alone"
        ledger.take("network_module", "network.kind", kind, why)
    else:
        name = f"{module} with {algorithm}" if algorithm else module
        ledger.take("network_module", "network.kind", "lora", f"{name} does not exist here")


def _arguments(ledger: Ledger, arguments: Mapping[str, str], kind: str) -> None:
    """The list is one key: it is taken when all of it is, changed when something is left out."""
    left: list[str] = []
    for key, text in arguments.items():
        if key in {"algo", "preset"}:
            continue
        match key:
            case "conv_dim":
                ledger.also("network.conv_rank", text)
            case "conv_alpha":
                ledger.also("network.conv_alpha", text)
            case "rank_dropout" | "module_dropout" if kind in {"loha", "lokr"} or (
                key == "module_dropout" and kind == "oft"
            ):
                ledger.also(f"network.{key}", text)
            case "dropout" if kind in {"lora", "dora"}:
                ledger.also("network.dropout", text)
            case "factor" if kind == "lokr":
                ledger.also("network.factor", text)
            case "decompose_both" if kind == "lokr":
                ledger.also("network.decompose_both", text)
            case "use_tucker" | "use_cp" if kind in {"loha", "lokr"}:
                ledger.also("network.tucker", text)
            case "loraplus_lr_ratio" | "loraplus_unet_lr_ratio":
                ledger.also("network.lora_plus", text)
            case "dora_wd" if kind == "dora" or not _true(text):
                pass
            case _ if text.strip().lower() in {"", "0", "0.0", "false", "none"}:
                pass  # switched off
            case _:
                left.append(key)
    why = f"left out: {', '.join(left)}" if left else ""
    ledger.take("network_args", "network.kind", kind, why)


def _text(ledger: Ledger) -> None:
    """sd-scripts trains the text encoders unless told not to; here they rest unless told to."""
    rates = ledger.get("text_encoder_lr")
    rates = rates if isinstance(rates, list) else [rates]
    only = ledger.truth("network_train_unet_only")
    cached = ledger.truth("cache_text_encoder_outputs")
    off = only or cached or ("text_encoder_lr" in ledger and all(_number(rate) == 0 for rate in rates))
    if ledger.truth("network_train_text_encoder_only"):
        ledger.ignore("network_train_text_encoder_only", "the U-Net is always trained here")
    if "network_train_unet_only" in ledger:
        ledger.take("network_train_unet_only", "network.text_encoder", not only)
    if off:
        ledger.also("network.text_encoder", False)
        if "text_encoder_lr" in ledger:
            ledger.fine("text_encoder_lr", "the text encoder is not trained")
        return
    base = ledger.number("learning_rate", 1e-4) if "learning_rate" in ledger else 1e-4
    first = _number(rates[0]) if rates[0] is not None else base
    ledger.also("network.text_encoder", True)
    if "text_encoder_lr" in ledger:
        ledger.take("text_encoder_lr", "network.text_lr", first)
        if len(rates) > 1 and _number(rates[1]) > 0:
            ledger.also("network.text_lr_2", _number(rates[1]))
    else:
        ledger.default("text_encoder_lr", "network.text_lr", base)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _count(value: Any) -> int:
    number = _number(value)
    return int(number) if number == number and abs(number) < 1e9 else 0


def _true(text: str) -> bool:
    return text.strip().lower() in {"true", "1", "yes"}


def write(values: Mapping[str, Any], arguments: dict[str, Any]) -> None:
    """Add the network's arguments."""
    kind = values["network.kind"]
    arguments["network_dim"] = values["network.rank"]
    arguments["network_alpha"] = values["network.alpha"]
    extra: list[str] = []
    if kind == "lora" and values["network.target"] in {"full", "full+conv"}:
        arguments["network_module"] = "networks.lora"
        if values["network.target"] == "full+conv":
            extra.append(f"conv_dim={values['network.conv_rank'] or values['network.rank']}")
            extra.append(f"conv_alpha={values['network.conv_alpha'] or values['network.alpha']:g}")
    else:
        arguments["network_module"] = "lycoris.kohya"
        extra.append("algo=" + {"lora": "lora", "dora": "lora", "oft": "diag-oft"}.get(kind, kind))
        if kind == "dora":
            extra.append("dora_wd=True")
        names = {ours: theirs for theirs, ours in _PRESETS.items()}
        if values["network.target"] in names:
            extra.append(f"preset={names[values['network.target']]}")
        else:
            extra.append("preset=unet-transformer-only")
        if values["network.target"] == "full+conv":
            extra.append(f"conv_dim={values['network.conv_rank'] or values['network.rank']}")
            extra.append(f"conv_alpha={values['network.conv_alpha'] or values['network.alpha']:g}")
    if values["network.dropout"]:
        arguments["network_dropout"] = values["network.dropout"]
    for key in ("rank_dropout", "module_dropout"):
        if values[f"network.{key}"]:
            extra.append(f"{key}={values[f'network.{key}']:g}")
    if kind == "lokr":
        extra.append(f"factor={values['network.factor']}")
        if values["network.decompose_both"]:
            extra.append("decompose_both=True")
    if values["network.tucker"]:
        extra.append("use_tucker=True")
    if values["network.lora_plus"] != 1.0:
        extra.append(f"loraplus_lr_ratio={values['network.lora_plus']:g}")
    if extra:
        arguments["network_args"] = extra
    if values["network.start_from"]:
        arguments["network_weights"] = values["network.start_from"]
    if values["network.scale_norm"]:
        arguments["scale_weight_norms"] = values["network.scale_norm"]
    if values["network.text_encoder"]:
        first = values["network.text_lr"] or values["optimizer.lr"] / 2
        second = values["network.text_lr_2"]
        arguments["text_encoder_lr"] = [first, second] if second else first
    else:
        arguments["network_train_unet_only"] = True
