"""From files to components without a network: shared by families whose parts are U-Net, KL codec and CLIP.

Weights are memory-mapped and assigned, never initialised first, and converted one tensor at a time, so the
peak is one copy of the model plus one tensor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import Tensor, nn

from loratui.errors import BaseModelError, WeightsError
from loratui.weights.header import Header, fingerprint, read_header

CONFIGS = Path(__file__).parent / "configs"
M = TypeVar("M", bound=nn.Module)
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_shapes_only = False


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the base.

    Raises:
        BaseModelError: missing or damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BaseModelError(
            f"{path} is missing.", "Download the base model again, it is incomplete."
        ) from error
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{path} cannot be read: {error}.", "Download the base model again.") from error
    if not isinstance(found, dict):
        raise BaseModelError(f"{path} holds no settings.", "Download the base model again.")
    return found


def weight_files(folder: Path) -> list[Path]:
    """The .safetensors files of one component, full precision before the fp16 variant, shards in order.

    Raises:
        BaseModelError: none there; says when only pickled files are.
    """
    for stem in ("diffusion_pytorch_model", "model"):
        for variant in ("", ".fp16", ".bf16", ".non_ema"):
            whole = folder / f"{stem}{variant}.safetensors"
            if whole.is_file():
                return [whole]
            index = folder / f"{stem}.safetensors.index{variant}.json"
            if index.is_file():
                return [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    if list(folder.glob("*.bin")) or list(folder.glob("*.ckpt")):
        raise BaseModelError(
            f"{folder} holds only pickled weights.",
            "Convert them to .safetensors: opening a pickle can run code.",
        )
    raise BaseModelError(
        f"{folder} holds no .safetensors weights.", "Download the base model again, it is incomplete."
    )


@contextmanager
def shapes_only() -> Iterator[None]:
    """Let `read_tensors` make empty tensors of the right shapes: for fake tensors, which hold nothing."""
    global _shapes_only
    _shapes_only = True
    try:
        yield
    finally:
        _shapes_only = False


def read_tensors(paths: Iterable[Path], prefix: str = "") -> dict[str, Tensor]:
    """Memory-mapped tensors of files whose name starts with `prefix`, the prefix removed."""
    found: dict[str, Tensor] = {}
    for path in paths:
        header = check_header(path)
        if _shapes_only:
            for name, info in header.tensors.items():
                if name.startswith(prefix):
                    found[name[len(prefix) :]] = torch.empty(info.shape, dtype=_DTYPES[info.dtype])
            continue
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                if name.startswith(prefix):
                    found[name[len(prefix) :]] = file.get_tensor(name)
    return found


def check_header(path: Path) -> Header:
    """`read_header` with the error of a base model."""
    try:
        return read_header(path)
    except WeightsError as error:
        raise BaseModelError(error.message, error.advice) from error


def assemble(
    build: Callable[[], M],
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype,
    what: str,
    ignore: tuple[str, ...] = (),
) -> M:
    """Build a module on the meta device and give it its weights.

    Args:
        build: makes the module from its config.
        tensors: by the module's own names.
        dtype: what floating-point weights are converted to.
        what: the component's name for messages.
        ignore: prefixes of tensors that a file may hold beyond the module.

    Raises:
        BaseModelError: weights are missing, left over or of another shape; the message names the first.
    """
    with init_empty_weights(include_buffers=False):
        module = build()
    wanted = {name: tuple(p.shape) for name, p in module.named_parameters()}
    wanted |= {name: tuple(b.shape) for name, b in module.named_buffers() if name in module.state_dict()}
    missing = [name for name in wanted if name not in tensors]
    extra = [name for name in tensors if name not in wanted and not name.startswith(ignore)]
    if missing or extra:
        found = [f"{len(missing)} weights missing, such as {missing[0]}"] if missing else []
        found += [f"{len(extra)} unknown, such as {extra[0]}"] if extra else []
        raise BaseModelError(
            f"The {what} does not fit its settings: {'; '.join(found)}.",
            "The base is incomplete or of another family.",
        )
    ready = {}
    for name, shape in wanted.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != shape:
            if tensor.numel() != torch.Size(shape).numel():
                raise BaseModelError(
                    f"The {what}'s {name} is {tuple(tensor.shape)} where {shape} is expected.",
                    "The base is of another family or size.",
                )
            tensor = tensor.reshape(shape)  # 1x1 convolutions that became linear layers
        ready[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    module.load_state_dict(ready, assign=True)
    module.requires_grad_(False).eval()
    return module


def identity(files: Iterable[Path], *settings: Any) -> str:
    """Content hash of weight files and of the settings that decide what they compute."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(fingerprint(path).encode())
    for setting in settings:
        digest.update(json.dumps(setting, sort_keys=True, default=str).encode())
    return digest.hexdigest()
