"""Diffusion transformers from files: diffusers folders, and single files in the original layouts.

Single files are of the whole base (all-in-one checkpoints) or of the transformer alone, as ComfyUI's users
have them; their weights are bf16, fp16 or fp8, with or without scales beside them. Names are changed by
diffusers' own converters; settings come from the shapes of the tensors. Nothing here touches the network.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import is_fake

from loratui.errors import BaseModelError
from loratui.families.emphasis import Spoken
from loratui.families.loading import (
    assemble,
    check_header,
    identity,
    read_json,
    read_tensors,
    weight_files,
)
from loratui.families.protocol import Condition, Parts
from loratui.families.sources import Place
from loratui.families.spec import SMALL, row_of
from loratui.weights.layouts import Part, true_counts

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "")
_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
Tensors = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


def read_plain(
    files: Iterable[Path], prefix: str = "", wanted: Callable[[str], bool] | None = None
) -> Tensors:
    """Tensors of files, fp8 ones as bf16 and with the scales that lie beside them multiplied in.

    Args:
        files: where they are.
        prefix: of their names, removed.
        wanted: whether a tensor of that name, without the prefix, is needed; all are by default.
    """
    stored = read_tensors(files, prefix)
    found: Tensors = {}
    for name, tensor in stored.items():
        if wanted is not None and not wanted(name):
            continue
        if name.endswith((".scale_weight", ".scale_input", ".weight_scale", ".input_scale", ".comfy_quant")):
            continue
        if name.rpartition(".")[2] == "scaled_fp8":
            continue
        if tensor.dtype in _FP8:
            stem = name.removesuffix(".weight")
            scale = stored.get(f"{stem}.scale_weight", stored.get(f"{stem}.weight_scale"))
            tensor = tensor.to(torch.bfloat16)
            if scale is not None:
                tensor = (tensor.float() * scale.float()).to(torch.bfloat16)
        found[name] = tensor
    return found


def small_or_bf16(tensors: Tensors) -> torch.dtype:
    """What a text encoder is held in: fp32, large ones in bf16."""
    numbers = sum(t.numel() for t in tensors.values())
    return torch.float32 if numbers <= SMALL else torch.bfloat16


def transformer(
    base: Path, kind: Any, mark: str, infer: Callable[[Tensors], dict[str, Any]],
    convert: Callable[[Tensors, Shapes], Tensors], dtype: torch.dtype, family: str,
) -> tuple[Any, str, dict[str, Any]]:  # fmt: skip
    """The transformer of a diffusers folder or of a file, its content hash, and its scheduler's settings.

    Args:
        base: the folder or the file.
        kind: diffusers' class.
        mark: as for `transformer_from_file`, like `infer` and `convert`.
        infer: settings from the tensors.
        convert: from the original's names to diffusers'.
        dtype: what it is held in.
        family: whose packaged settings of the scheduler say what a file does not tell.

    Raises:
        BaseModelError: something is missing or does not fit.
    """
    if base.is_dir():
        module, content = transformer_from_folder(base, kind, dtype)
        return module, content, read_json(base / "scheduler" / "scheduler_config.json")
    module, content = transformer_from_file(base, kind, mark, infer, convert, dtype)
    return module, content, row_of(family).packaged("scheduler")


def transformer_from_folder(base: Path, kind: Any, dtype: torch.dtype) -> tuple[Any, str]:
    """The transformer of a diffusers folder, and its content hash."""
    folder = base / "transformer"
    files, config = weight_files(folder), read_json(folder / "config.json")
    module = assemble(lambda: kind.from_config(config), read_plain(files), dtype, "transformer")
    return module, identity(files, config)


def transformer_from_file(
    base: Path, kind: Any, mark: str, infer: Callable[[Tensors], dict[str, Any]],
    convert: Callable[[Tensors, Shapes], Tensors], dtype: torch.dtype,
) -> tuple[Any, str]:  # fmt: skip
    """The transformer of a file in the original layout, and its content hash.

    Args:
        base: the file.
        kind: diffusers' class.
        mark: a tensor by which the prefix is found.
        infer: settings from the tensors, prefix removed.
        convert: from the original's names to diffusers', whose shapes it is given.
        dtype: what it is held in.

    Raises:
        BaseModelError: something is missing or does not fit.
    """
    prefix = prefix_of(base, mark)
    tensors = read_plain([base], prefix)
    if not prefix:  # of a file of the transformer alone
        tensors = {
            n: t for n, t in tensors.items() if not n.startswith(("text_encoders.", "first_stage_model."))
        }
    try:
        config = infer(tensors)
        with torch.device("meta"):
            shapes = {n: tuple(t.shape) for n, t in kind.from_config(config).state_dict().items()}
        named = convert(dict(tensors), shapes)
        module = assemble(lambda: kind.from_config(config), named, dtype, "transformer")
    except (KeyError, IndexError) as error:
        raise BaseModelError(
            f"{base} lacks the tensor {error} of the transformer.", "The file is incomplete."
        ) from error
    return module, identity([base], config)


def prefix_of(base: Path, mark: str) -> str:
    """What stands before the transformer's names in a file.

    Raises:
        BaseModelError: it holds none.
    """
    names = check_header(base).tensors
    for prefix in PREFIXES:
        if prefix + mark in names:
            return prefix
    raise BaseModelError(f"{base} holds no transformer of this family.", "Check model.base and model.family.")


def by_names(
    tensors: Tensors, shapes: Shapes, parts: Mapping[str, Part], others: Mapping[str, str],
    swapped: Sequence[str] = (),
) -> Tensors:  # fmt: skip
    """Tensors of the original under diffusers' names, fused matrices cut by diffusers' shapes.

    Args:
        tensors: by the original's names.
        shapes: of diffusers' module.
        parts: layers of the blocks, from `weights.layouts`.
        others: diffusers' module -> the original's, for what is not in blocks, and for norms, whose `scale`
            is diffusers' `weight`.
        swapped: modules that give shift and scale, which diffusers has the other way around.

    Raises:
        KeyError: the original lacks a tensor.
    """
    found: Tensors = {}
    rows: dict[str, int] = {}
    order = sorted(
        shapes, key=lambda n: parts[n.rpartition(".")[0]].index if n.rpartition(".")[0] in parts else 0
    )
    for name in order:
        module, _, leaf = name.rpartition(".")
        part = parts.get(module)
        whole = part.original if part else others[module]
        key = f"{whole}.{leaf}"
        tensor = tensors[key if key in tensors else f"{whole}.scale"]
        if part and part.count > 1:
            start = rows.get(key, 0)
            rows[key] = start + shapes[name][0]
            tensor = tensor[start : rows[key]]
        if module in swapped:
            shift, scale = tensor.chunk(2)
            tensor = torch.cat([scale, shift])
        found[name] = tensor
    return found


def count_blocks(tensors: Tensors, start: str) -> int:
    """Blocks of a kind: one more than the largest number behind `start`."""
    found = [int(n[len(start) :].split(".")[0]) for n in tensors if n.startswith(start)]
    return 1 + max(found, default=-1)


def layers_of(denoiser: nn.Module, endings: Sequence[str], idle: Sequence[str] = ()) -> list[str]:
    """The linear layers whose name ends so, block by block, in a block in the order of `endings`.

    Args:
        denoiser: the network.
        endings: of the names of its layers.
        idle: of the names of layers that are left out in the last block.
    """
    found: dict[str, list[tuple[int, str]]] = {}
    for name, module in denoiser.named_modules():
        ending = next((n for n, e in enumerate(endings) if f".{name}".endswith(e)), None)
        if isinstance(module, nn.Linear) and ending is not None:
            block = name.split(".")[:2]
            if block[-1].isdigit():  # layers outside of the blocks stay as they are
                found.setdefault(".".join(block), []).append((ending, name))
    if idle and found:
        last = list(found)[-1]
        found[last] = [row for row in found[last] if not f".{row[1]}".endswith(tuple(idle))]
    return [name for rows in found.values() for _, name in sorted(rows)]


def alone(
    encode: Callable[[Parts, Sequence[Spoken]], Condition], parts: Parts, captions: Sequence[Spoken]
) -> list[Condition]:
    """Conditions of captions on the CPU, in the precision of their encoder, each encoded alone."""
    return [
        {name: tensor[0].cpu().contiguous() for name, tensor in encode(parts, [caption]).items()}
        for caption in captions
    ]


def cut(
    encode: Callable[[Parts, Sequence[Spoken]], Condition], parts: Parts, captions: Sequence[Spoken]
) -> list[Condition]:
    """`alone`, without the filling that `prompt_mask` hides."""
    found = []
    for condition in alone(encode, parts, captions):
        length = lengths(condition["prompt_mask"][None])[0]
        found.append({name: tensor[:length].contiguous() for name, tensor in condition.items()})
    return found


def lengths(mask_BL: Tensor) -> list[int]:
    """Ones in each row; all of it where memory is estimated, with fake tensors that hold no values."""
    if is_fake(mask_BL):
        return [mask_BL.shape[1]] * mask_BL.shape[0]
    return [int(n) for n in mask_BL.sum(1).round().tolist()]


def flow_scheduler(sampler: str, config: dict[str, Any]) -> Any:
    """A fresh scheduler of a flow model with the base's own shift.

    Args:
        sampler: `ddim` and `euler` are one and the same for a flow, `euler_a` draws new noise at each step.
        config: the base's scheduler config.

    Raises:
        ValueError: there is no such sampler for a flow.
    """
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
        FlowMatchEulerDiscreteScheduler as Scheduler,
    )

    if sampler not in {"ddim", "euler", "euler_a"}:
        raise ValueError(f"no sampler named {sampler} for flow models")
    known = inspect.signature(Scheduler.__init__).parameters
    given = {k: v for k, v in config.items() if k in known}
    return Scheduler.from_config({**given, "stochastic_sampling": sampler == "euler_a"})


def place_identity(place: Place, tokenizer: Path | None) -> str:
    """Content hash of a text encoder and its tokenizer."""
    files = weight_files(place.folder) if place.folder is not None else [place.file] if place.file else []
    own = [p for p in sorted(tokenizer.iterdir()) if p.is_file()] if tokenizer is not None else []
    config = read_json(place.folder / "config.json") if place.folder is not None else {}
    return identity([*files, *own], config, place.prefix)


def structure_metadata(family: str, counts: dict[str, int]) -> dict[str, str]:
    """What `verify` needs to look names up when the base has another count of blocks."""
    true = true_counts(family)
    same = all(n == true[kind] for kind, n in counts.items())
    return {"loratui_family": family} | ({} if same else {"loratui_structure": stated(counts)})


def stated(counts: dict[str, int]) -> str:
    """Counts of blocks as `weights.layouts` reads them."""
    return json.dumps(counts)
