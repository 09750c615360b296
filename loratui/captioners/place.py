"""Device and number format of a captioner on torch, and loading that refuses what is not whole."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from loratui.captioners.protocol import Source
from loratui.captioners.spec import TorchOptions
from loratui.errors import BaseModelError, ConfigError, MissingPackageError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a captioner computes."""

    device: torch.device
    dtype: torch.dtype

    def free(self) -> None:
        """Give cached memory of the device back."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def place(options: TorchOptions) -> Place:
    """Choose the device.

    Raises:
        ConfigError: no such device, or one that cannot compute so.
    """
    name = options.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"There is no device {name!r}.", "Set device to auto, cpu or cuda:N.") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or (device.index or 0) >= count:
            raise ConfigError(f"There is no {name} here.", "Set device to auto or cpu.")
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise ConfigError(f"{name} is not supported.", "Set device to auto, cpu or cuda:N.")
    precision = options.precision
    if precision == "auto":
        if device.type == "cpu":
            precision = "fp32"
        else:
            precision = "bf16" if torch.cuda.is_bf16_supported(False) else "fp16"
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("fp16 needs a CUDA device.", "Set precision to auto, bf16 or fp32.")
    return Place(device, _DTYPES[precision])


def load_transformers(model_class: Any, source: Source, where: Place, quantize: str = "none") -> Any:
    """Load a transformers model from its folder, offline, with every weight it has from the file.

    Raises:
        BaseModelError: weights are missing, damaged or of another shape.
        MissingPackageError: quantisation without bitsandbytes.
    """
    folder = source.folder
    assert folder is not None
    arguments: dict[str, Any] = {"dtype": where.dtype, "local_files_only": True, "output_loading_info": True}
    if quantize != "none":
        arguments |= {"quantization_config": _quantization(quantize, where), "device_map": {"": where.device}}
    try:
        if source.weights is not None:
            model, report = _from_file(model_class, source.weights, folder, where)
        else:
            model, report = model_class.from_pretrained(folder, use_safetensors=True, **arguments)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        if "out of memory" in str(error):
            raise
        raise BaseModelError(
            f"{source.weights or folder} cannot be loaded: {_first(error)}.",
            "Fetch the model again; it may be cut off or of another kind.",
        ) from error
    missing = sorted(_names(report, "missing_keys"))
    other = sorted(_names(report, "mismatched_keys"))
    if missing or other:
        count, which = len(missing) + len(other), (missing or other)[0]
        raise BaseModelError(
            f"{source.weights or folder} lacks {count} of the model's weights ({which} ...).",
            "A model with random weights would write nonsense: fetch the whole model again.",
        )
    return model.eval() if quantize != "none" else model.to(where.device).eval()


def _from_file(model_class: Any, weights: Path, folder: Path, where: Place) -> tuple[Any, Any]:
    """One weight file, with the configuration beside it."""
    from safetensors.torch import load_file
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    state = load_file(str(weights))
    loaded: tuple[Any, Any] = model_class.from_pretrained(
        None, config=config, state_dict=state, dtype=where.dtype, output_loading_info=True
    )
    return loaded


def _names(report: Any, key: str) -> list[str]:
    found = report.get(key, ()) if isinstance(report, dict) else getattr(report, key, ())
    return [str(name[0]) if isinstance(name, tuple) else str(name) for name in found]


def _quantization(quantize: str, where: Place) -> Any:
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise MissingPackageError(
            f"quantize = {quantize} needs bitsandbytes, which is not installed.",
            "Install it with `pip install bitsandbytes`, or set quantize to none.",
        )
    if where.device.type != "cuda":
        raise ConfigError("Quantisation needs a CUDA device.", "Set quantize to none.")
    from transformers import BitsAndBytesConfig

    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=where.dtype
    )


def load_processor(processor_class: Any, source: Source, pil: bool = True) -> Any:
    """A processor or tokenizer of the model's folder, offline.

    With `pil` pictures are resized as the model's authors did, to the last bit; torchvision rounds otherwise.

    Raises:
        BaseModelError: its files are missing or damaged.
    """
    assert source.folder is not None
    try:
        arguments = {"backend": "pil"} if pil else {}
        return processor_class.from_pretrained(source.folder, local_files_only=True, **arguments)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaseModelError(
            f"{source.folder} has no usable {processor_class.__name__}: {_first(error)}.",
            "Fetch the model again: files of its tokenizer or image processor are missing.",
        ) from error


def to_device(batch: dict[str, Any], where: Place) -> dict[str, Any]:
    """Tensors on the device; floating ones in the model's number format."""
    return {
        key: value.to(where.device, where.dtype if value.is_floating_point() else None)
        for key, value in batch.items()
        if isinstance(value, torch.Tensor)
    }


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:240]
