"""Begin from an existing LoRA instead of from nothing: `network.start_from`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from loratui.errors import ConfigError, LoratuiError
from loratui.train.adapter import Adapter
from loratui.weights.convert import convert_file


def start_from(adapter: Adapter, source: Path) -> None:
    """Put the weights of a kohya or PEFT file into a fresh adapter of the same type, targets and ranks.

    A file may carry another alpha than the settings: B is scaled so that the change to the base is the same.

    Raises:
        ConfigError: the file cannot be read, or has other layers or ranks.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "start.safetensors"
            convert_file(source, plain, "peft" if adapter.dotted else "kohya", "fp32")
            tensors: dict[str, Tensor] = load_file(plain)
    except LoratuiError as error:
        raise ConfigError(f"network.start_from: {error.message}", error.advice) from error
    if adapter.tokens is not None:  # new words begin anew: a LoRA file has none
        tensors |= adapter.tokens.tensors()
    expected = adapter.tensors()
    if adapter.dotted:  # such files have no alpha: it is the rank
        ranks = {n.removesuffix(".lora_A.weight"): t.shape[0] for n, t in tensors.items() if "lora_A" in n}
        tensors |= {f"{name}.alpha": torch.tensor(float(rank)) for name, rank in ranks.items()}
    odd = sorted(set(tensors) ^ set(expected))
    if odd:
        whose = "the file lacks" if odd[0] in expected else "the settings have no place for"
        raise ConfigError(
            f"network.start_from does not fit the settings: {whose} {odd[0]}"
            + (f" and {len(odd) - 1} more." if len(odd) > 1 else "."),
            "Take the network.kind, network.target and network.text_encoder that the file was made with.",
        )
    for name, tensor in tensors.items():
        if tensor.numel() != expected[name].numel():
            raise ConfigError(
                f"network.start_from has another rank: {name} is {list(tensor.shape)},"
                f" not {list(expected[name].shape)}.",
                "Set network.rank to the file's, or change the file's with `loratui resize`.",
            )
    for name in list(tensors):
        if name.endswith((".lora_up.weight", ".lora_B.weight")):
            alpha = name.rpartition(".lora_")[0] + ".alpha"
            tensors[name] = tensors[name] * (tensors[alpha] / expected[alpha])
    adapter.load(tensors)
