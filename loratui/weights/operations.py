"""Work on finished weight files: merge, resize, extract, average. numpy alone.

Each writes a new file atomically and says what it did; nothing is changed in place unless the caller names
the same file as target.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loratui.errors import SaveError, WeightsError
from loratui.families.spec import family_spec
from loratui.weights import layouts
from loratui.weights.base_layers import read_layers
from loratui.weights.consumers import STRUCTURES, structure_text
from loratui.weights.header import Header, read_header
from loratui.weights.places import BaseFiles, open_base, open_transformer, part_of, structure_of_base, turned
from loratui.weights.tensors import STORED, Array, Entry, read, write
from loratui.weights.updates import LoraFile, Update, as_lora, decompose, open_lora, reduce

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Done:
    """What an operation wrote.

    Attributes:
        file: the new file or folder.
        modules: how many modules were worked on.
        ranks: smallest and largest rank in it, (0, 0) for bases.
        kept: smallest and mean share of a module's squared norm that was kept; 1 where nothing was lost.
    """

    file: Path
    modules: int
    ranks: tuple[int, int] = (0, 0)
    kept: tuple[float, float] = (1.0, 1.0)


def merge_into_base(
    base: Path, loras: Sequence[tuple[Path, float]], target: Path, dtype: str = "",
    progress: Progress | None = None,
) -> Done:  # fmt: skip
    """Write a base with LoRAs merged in: W' = W + sum of share * D.

    Args:
        base: a diffusers folder or an original-layout file.
        loras: files and their shares; all must be of one family.
        target: folder or file to write, like the base.
        dtype: `fp16`, `bf16` or `fp32` for the changed weights; empty keeps each weight's own.
        progress: told (what, done, total).

    Raises:
        WeightsError, BaseModelError: files of different families, or modules that the base does not have.
        SaveError: the target cannot be written.
    """
    opened = [(open_lora(path), share) for path, share in loras]
    _same_family([lora for lora, _ in opened])
    first = opened[0][0]
    files = open_base(base, first.structure) if first.structure else open_transformer(base, first.family)
    names = {name for lora, _ in opened for name in lora.names}
    missing = sorted(names - files.places.keys())
    if missing:
        raise WeightsError(
            f"{base} has no weight for {len(missing)} of {len(names)} modules, such as {missing[0]}.",
            "The LoRA is for another family of base.",
        )
    by_tensor: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names):
        file, place = files.places[name]
        by_tensor.setdefault((file, place.tensor), []).append(name)
    done = 0

    def changed(file: str, tensor: str) -> Array:
        nonlocal done
        whole = np.array(read(files.headers[file], tensor))
        for name in by_tensor[file, tensor]:
            place = files.places[name][1]
            part = part_of(whole, place)
            for lora, share in opened:
                if name in lora.names:
                    part[...] = turned(lora.update(name).apply(turned(part, place), share), place)
            done += 1
            if progress is not None:
                progress("merging", done, len(names))
        return whole

    def entries(file: str) -> dict[str, Entry]:
        header = files.headers[file]
        found = {}
        for tensor, info in header.tensors.items():
            if (file, tensor) not in by_tensor:
                found[tensor] = Entry.copy(header, tensor)
                continue
            kind = dtype or STORED.get(info.dtype, "fp16")
            found[tensor] = _lazy(lambda f=file, t=tensor: changed(f, t), info.shape, kind)  # type: ignore[misc]
        return found

    _check_apart(target, base)
    if "" in files.headers:
        write(target, entries(""), files.headers[""].metadata, hashed=False)
    else:
        _copy_folder(base, target, {f for f, _ in by_tensor})
        for file in sorted({f for f, _ in by_tensor}):
            write(target / file, entries(file), files.headers[file].metadata, hashed=False)
    return Done(target, len(names))


def merge_loras(
    loras: Sequence[tuple[Path, float]], target: Path, rank: int = 0, energy: float = 0.0, dtype: str = "",
    progress: Progress | None = None,
) -> Done:  # fmt: skip
    """Write one LoRA that changes what all of them change together: D = sum of share * D_i.

    Without `rank` and `energy` nothing is lost: the ranks add up.

    Raises:
        WeightsError: files of different families, or a DoRA, whose changes do not add up.
        SaveError: the target cannot be written.
    """
    opened = [(open_lora(path), share) for path, share in loras]
    _same_family([lora for lora, _ in opened])
    _no_dora([lora for lora, _ in opened])
    form = opened[0][0].form
    opened = [(lora.in_form(form), share) for lora, share in opened]
    names = sorted({name for lora, _ in opened for name in lora.names})
    tensors: dict[str, Entry] = {}
    report = _Report()
    kind = dtype or _dtype_of(opened[0][0].header)
    for n, name in enumerate(names):
        updates = [(lora.update(name), share) for lora, share in opened if name in lora.names]
        up, down = _stack(updates)
        if rank or energy:
            up, down, share = reduce(up, down, rank, energy)
            report.kept.append(share)
        _put(tensors, name, up, down, updates[0][0].kernel, kind, report, form)
        if progress is not None:
            progress("merging", n + 1, len(names))
    return _finish(target, tensors, opened[0][0].header.metadata, report, "merged", form)


def resize(
    path: Path, target: Path, rank: int = 0, energy: float = 0.0, dtype: str = "",
    progress: Progress | None = None,
) -> Done:  # fmt: skip
    """Write a LoRA at another rank, fixed or by the share of each module's squared norm to keep.

    A LoHa or LoKr becomes a LoRA.

    Raises:
        WeightsError: not a LoRA of a known family, or a DoRA.
        SaveError: the target cannot be written.
    """
    lora = open_lora(path)
    lora = lora.in_form(lora.form)
    _no_dora([lora])
    tensors: dict[str, Entry] = {}
    report = _Report()
    kind = dtype or _dtype_of(lora.header)
    for n, name in enumerate(lora.names):
        update = lora.update(name)
        pair = update.factors()
        up, down, share = reduce(*pair, rank, energy) if pair else decompose(update.delta(), rank, energy)
        report.kept.append(share)
        _put(tensors, name, up, down, update.kernel, kind, report, lora.form)
        if progress is not None:
            progress("resizing", n + 1, len(lora.names))
    return _finish(target, tensors, lora.header.metadata, report, "resized", lora.form)


def extract(
    base: Path, tuned: Path, target: Path, family: str, rank: int = 0, energy: float = 0.0,
    conv_rank: int = 0, dtype: str = "fp16", progress: Progress | None = None,
) -> Done:  # fmt: skip
    """Write the LoRA that turns a base into a fine-tune of it, as far as its rank goes.

    Args:
        base: folder or file.
        tuned: folder or file of the same family.
        target: the LoRA.
        family: of both: `sd15`, `sd2` or `sdxl`.
        rank: rank of each module; 0 for as many as `energy` asks for.
        energy: share of each module's squared norm to keep.
        conv_rank: rank of 3x3 convolutions; 0 leaves convolutions out.
        dtype: of the LoRA.
        progress: told (what, done, total).

    Raises:
        WeightsError: they differ in nothing.
        SaveError: the target cannot be written.
    """
    tensors: dict[str, Entry] = {}
    report = _Report()
    if family in layouts.families():
        return _extract_transformer(base, tuned, target, family, rank, energy, dtype, progress)
    structure = structure_of_base(base, family)
    one, two = (open_base(p, structure) for p in (base, tuned))
    names = [n for n in one.places if n in two.places and _has_update(n, one)]
    for n, name in enumerate(names):
        if progress is not None:
            progress("extracting", n, len(names))
        a, b = one.weight(name), two.weight(name)
        if a.shape != b.shape:
            raise WeightsError(
                f"{name} has another size in {tuned} than in {base}.", "They do not belong together."
            )
        kernel = tuple(a.shape[2:])
        wide = math.prod(kernel) > 1
        delta = (b.astype(np.float64) - a.astype(np.float64)).reshape(a.shape[0], -1)
        if (wide and not conv_rank) or not delta.any():
            continue
        up, down, share = decompose(delta, conv_rank if wide else rank, energy)
        report.kept.append(share)
        _put(tensors, name, up, down, kernel, dtype, report)
    if not tensors:
        raise WeightsError(f"{tuned} differs from {base} in no layer that a LoRA changes.")
    facts = _family_metadata(family)
    if structure != STRUCTURES[family]:
        facts["loratui_structure"] = structure_text(structure)
    return _finish(target, tensors, facts, report, "extracted")


def _extract_transformer(
    base: Path, tuned: Path, target: Path, family: str, rank: int, energy: float, dtype: str,
    progress: Progress | None,
) -> Done:  # fmt: skip
    """`extract` for a diffusion transformer, in the form that runs of its family export."""
    one, two = (open_transformer(p, family) for p in (base, tuned))
    layers = read_layers(base, family)
    assert layers is not None  # or it could not be opened
    spec = family_spec(family)
    form = spec.files if spec is not None else "peft"
    groups = {"lora_unet_" + o.replace(".", "_"): n for o, n in layers.names.originals.items()}
    if form == "peft":
        groups = {f"transformer.{n}": [n] for n in layers.names.parts}
    tensors: dict[str, Entry] = {}
    report = _Report()
    for n, (name, parts) in enumerate(groups.items()):
        dotted = [f"transformer.{part}" for part in parts]
        if progress is not None:
            progress("extracting", n, len(groups))
        if not all(d in one.places and d in two.places for d in dotted):
            continue
        a, b = (np.concatenate([files.weight(d) for d in dotted]) for files in (one, two))
        if a.shape != b.shape:
            raise WeightsError(
                f"{name} has another size in {tuned} than in {base}.", "They do not belong together."
            )
        delta = b.astype(np.float64) - a.astype(np.float64)
        if delta.any():
            up, down, share = decompose(delta, rank, energy)
            report.kept.append(share)
            _put(tensors, name, up, down, (), dtype, report, form)
    if not tensors:
        raise WeightsError(f"{tuned} differs from {base} in no layer that a LoRA changes.")
    facts = {"loratui_family": family}
    if layers.blocks != layouts.true_counts(family):
        facts["loratui_structure"] = json.dumps(layers.blocks)
    return _finish(target, tensors, facts, report, "extracted", form)


def average(paths: Sequence[Path], target: Path, dtype: str = "", progress: Progress | None = None) -> Done:
    """Write the mean of several checkpoints of one training, tensor by tensor.

    Raises:
        WeightsError: they do not hold the same tensors.
        SaveError: the target cannot be written.
    """
    headers = [read_header(p) for p in paths]
    first = headers[0]
    for other in headers[1:]:
        odd = sorted(set(first.tensors) ^ set(other.tensors))
        odd += [
            n for n, t in first.tensors.items() if n in other.tensors and other.tensors[n].shape != t.shape
        ]
        if odd:
            raise WeightsError(
                f"{other.path} and {first.path} differ in {len(odd)} tensors, such as {odd[0]}.",
                "Average checkpoints of one training; `loratui merge` adds different LoRAs.",
            )
    kind = dtype or _dtype_of(first)

    def mean(name: str) -> Array:
        whole: Array = np.mean([read(h, name).astype(np.float64) for h in headers], axis=0)
        return whole

    entries = {}
    for n, (name, info) in enumerate(first.tensors.items()):
        whole = "fp32" if name.endswith(".alpha") else kind
        entries[name] = _lazy(lambda n=name: mean(n), info.shape, whole)  # type: ignore[misc]
        if progress is not None:
            progress("averaging", n + 1, len(first.tensors))
    write(target, entries, {**first.metadata, "ss_training_comment": f"mean of {len(paths)} checkpoints"})
    return Done(target, len(entries))


class _Report:
    """What the modules' ranks and losses came to."""

    def __init__(self) -> None:
        self.ranks: list[int] = []
        self.kept: list[float] = []


def _put(
    tensors: dict[str, Entry], name: str, up: Array, down: Array, kernel: tuple[int, ...], dtype: str,
    report: _Report, form: str = "kohya",
) -> None:  # fmt: skip
    rank = down.shape[0]
    report.ranks.append(rank)
    up, down = as_lora(up, down, kernel)
    if form == "peft":
        tensors[f"{name}.lora_A.weight"] = Entry.of(down, dtype)
        tensors[f"{name}.lora_B.weight"] = Entry.of(up, dtype)
        return
    tensors[f"{name}.lora_up.weight"] = Entry.of(up, dtype)
    tensors[f"{name}.lora_down.weight"] = Entry.of(down, dtype)
    # The scale is in `up`, so alpha is the rank: readers without alpha take the same scale of 1.
    tensors[f"{name}.alpha"] = Entry.of(np.array(rank, np.float32), "fp32")


def _finish(
    target: Path, tensors: dict[str, Entry], metadata: Mapping[str, str], report: _Report, what: str,
    form: str = "kohya",
) -> Done:  # fmt: skip
    lowest, highest = min(report.ranks), max(report.ranks)
    dropped = {"lora_adapter_metadata", "ss_network_args", "sshs_model_hash", "sshs_legacy_hash"}
    facts = {k: v for k, v in metadata.items() if k not in dropped}
    dim = str(highest) if lowest == highest else "Dynamic"
    facts |= {"ss_network_module": "networks.lora", "ss_network_dim": dim, "ss_network_alpha": dim,
              "ss_training_comment": f"{what} by loratui"}  # fmt: skip
    if form == "peft":
        facts.pop("ss_network_alpha")  # its scale is in B
    write(target, tensors, facts)
    kept = report.kept or [1.0]
    return Done(target, len(report.ranks), (lowest, highest), (min(kept), sum(kept) / len(kept)))


def _stack(updates: Sequence[tuple[Update, float]]) -> tuple[Array, Array]:
    ups, downs = [], []
    for update, share in updates:
        pair = update.factors()
        up, down = pair if pair is not None else decompose(update.delta(), energy=1.0)[:2]
        ups.append(up * share)
        downs.append(down)
    return np.concatenate(ups, axis=1), np.concatenate(downs, axis=0)


def _lazy(make: Callable[[], Array], shape: tuple[int, ...], dtype: str) -> Entry:
    from loratui.weights.tensors import NAMES, encode_array

    return Entry(NAMES[dtype], shape, lambda: encode_array(make(), dtype))


def _has_update(name: str, base: BaseFiles) -> bool:
    """Whether a LoRA can change the weight: a matrix or a convolution, no norm."""
    file, place = base.places[name]
    info = base.headers[file].tensors[place.tensor]
    outside = ("conv_in", "conv_out", "input_blocks_0_0", "unet_out_2")
    between = ("time_embed", "label_emb", "add_embedding")
    return len(info.shape) in {2, 4} and not name.endswith(outside) and not any(b in name for b in between)


def _same_family(loras: Sequence[LoraFile]) -> None:
    families = {lora.family: lora.header.path for lora in loras}
    if len(families) > 1:
        listed = ", ".join(f"{path.name} ({family})" for family, path in families.items())
        raise WeightsError(f"The files are of different families: {listed}.", "Merge files of one family.")


def _no_dora(loras: Sequence[LoraFile]) -> None:
    for lora in loras:
        if any("dora_scale" in m.parts for m in lora.names.values()):
            raise WeightsError(
                f"{lora.header.path} is a DoRA: its change depends on the base's own weights.",
                "Merge it into a base: `loratui merge FILE --into BASE`.",
            )


def _dtype_of(header: Header) -> str:
    kinds = {info.dtype for name, info in header.tensors.items() if not name.endswith("alpha")}
    return STORED.get(next(iter(kinds)), "fp32") if len(kinds) == 1 else "fp32"


def _family_metadata(family: str) -> dict[str, str]:
    return {
        "sd15": {"ss_base_model_version": "sd_v1", "ss_v2": "False",
                 "modelspec.architecture": "stable-diffusion-v1/lora"},
        "sd2": {"ss_base_model_version": "sd_v2", "ss_v2": "True",
                "modelspec.architecture": "stable-diffusion-v2-512/lora"},
        "sdxl": {"ss_base_model_version": "sdxl_base_v1-0", "ss_v2": "False",
                 "modelspec.architecture": "stable-diffusion-xl-v1-base/lora"},
    }[family]  # fmt: skip


def _check_apart(target: Path, base: Path) -> None:
    if target.exists() and target.resolve() == base.resolve():
        raise WeightsError(
            f"{target} is the base itself.", "Give another --out: bases are never overwritten."
        )


def _copy_folder(base: Path, target: Path, without: set[str]) -> None:
    """Copy all of a folder but the files that are written anew."""
    try:
        for path in sorted(base.rglob("*")):
            relative = path.relative_to(base)
            if relative.as_posix() in without:
                continue
            if path.is_dir():
                (target / relative).mkdir(parents=True, exist_ok=True)
            else:
                (target / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(os.path.realpath(path), target / relative)
    except OSError as error:
        raise SaveError(
            f"{target} cannot be written: {error.strerror or error}.", "Check the disk."
        ) from error
