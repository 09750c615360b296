"""Where the parts of a base are: in its folder or file, or in the folders and files that `model.text` names.

Torch-free: folders by their names, files by the names of their tensors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from loratui.errors import BaseModelError, WeightsError
from loratui.weights.header import Header, read_header


@dataclass(frozen=True, slots=True)
class TextPart:
    """A text encoder that a family needs.

    Attributes:
        title: for people.
        folder: where diffusers folders keep it.
        tokenizer: where they keep its tokenizer.
        mark: a tensor's name, without prefix, that tells its files.
        hint: part of the prefix that it has in files of a whole base (`clip_l`).
        kinds: `model_type` in its config.json, where a folder of its own is named.
        classes: beginnings of `tokenizer_class` of its tokenizer, where a folder of its own is named.
        files: a folder with one of these holds its tokenizer.
    """

    title: str
    folder: str
    tokenizer: str
    mark: str
    hint: str
    kinds: tuple[str, ...]
    classes: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where weights are: a folder with config.json, or a file's tensors with a prefix."""

    folder: Path | None = None
    file: Path | None = None
    prefix: str = ""


def header_of(file: Path) -> Header:
    """`read_header`, read once while the file stays as it is: a plan asks for each part of a base, each time.

    Raises:
        WeightsError: as there.
    """
    try:
        stat = file.stat()
    except OSError:
        return read_header(file)  # which says what is the matter
    return _header(file, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _header(file: Path, size: int, changed: int) -> Header:
    return read_header(file)


def find_encoder(part: TextPart, base: Path, text: Sequence[Path]) -> Place | None:
    """A text encoder in the base, else in what `model.text` names; None where there is none."""
    for source in (base, *text):
        if source.is_dir():
            for folder in (source / part.folder, source):
                config = folder / "config.json"
                width = int(_kind(config, "hidden_size") or 0)
                named = folder != source or width not in _others(part)
                if _kind(config, "model_type") in part.kinds and named:
                    return Place(folder=folder)
        elif source.suffix == ".safetensors" and source.is_file():
            prefixes = _prefixes(source, part.mark)
            if source == base:  # several encoders in one file are told apart by their prefixes
                prefixes = [p for p in prefixes if part.hint in p]
            elif len(prefixes) > 1:
                prefixes = [p for p in prefixes if part.hint in p] or prefixes
            if prefixes and (source == base or _fits(source, part, prefixes[0])):
                return Place(file=source, prefix=prefixes[0])
    return None


def find_tokenizer(part: TextPart, base: Path, text: Sequence[Path]) -> Path | None:
    """The folder of its tokenizer; None where there is none."""
    for source in (base, *text):
        if not source.is_dir():
            continue
        if _is_tokenizer(source / part.tokenizer, part):
            return source / part.tokenizer
        named = _kind(source / "tokenizer_config.json", "tokenizer_class")
        if _is_tokenizer(source, part) and named.startswith(part.classes):
            return source
    return None


def find(part: TextPart, base: Path, text: Sequence[Path]) -> tuple[Place, Path]:
    """A text encoder that the family cannot do without, and the folder of its tokenizer.

    Raises:
        BaseModelError: one of them is neither in the base nor in what `model.text` names.
    """
    place, folder = find_encoder(part, base, text), find_tokenizer(part, base, text)
    if place is None:
        raise no_encoder(part, base, text)
    if folder is None:
        raise no_tokenizer(part, base, text)
    return place, folder


def no_encoder(part: TextPart, base: Path, text: Sequence[Path]) -> BaseModelError:
    """The error of a text encoder that is nowhere; says where it was looked for."""
    return BaseModelError(
        f"The {part.title} text encoder ({part.folder}) is missing: it is not in {_listed((base, *text))}.",
        f"Name {part.title} with model.text: the .safetensors file of the encoder, as in ComfyUI's"
        f" models/text_encoders, or a diffusers folder of the same family (its {part.folder}).",
    )


def no_tokenizer(part: TextPart, base: Path, text: Sequence[Path]) -> BaseModelError:
    """The error of a tokenizer that is nowhere; says which files were looked for, and where."""
    wanted = " or ".join(part.files)
    folders = [path for path in (base, *text) if path.is_dir()]
    where = f"There is no {wanted} in {_listed([f / part.tokenizer for f in folders])}"
    if not folders:
        where = "Files of weights hold none, and no folder is named"
    near = next((f for f in folders if f != base and _is_tokenizer(f, part)), None)
    if near is not None:
        where += f", and the tokenizer_config.json in {near} does not say a {part.classes[0]} tokenizer_class"
    return BaseModelError(
        f"The {part.title} tokenizer ({part.tokenizer}) is missing: {where[0].lower()}{where[1:]}.",
        f"Name a folder with model.text that holds the {part.title} tokenizer: a diffusers folder of the same"
        f" family (its {part.tokenizer}), or a folder with {wanted} and tokenizer_config.json.",
    )


def _listed(paths: Sequence[Path]) -> str:
    return " or ".join(str(path) for path in paths)


def _is_tokenizer(folder: Path, part: TextPart) -> bool:
    return any((folder / name).is_file() for name in part.files)


def _kind(path: Path, key: str) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get(key, ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _prefixes(file: Path, mark: str) -> list[str]:
    try:
        names = header_of(file).tensors
    except WeightsError:
        return []
    return [
        name[: -len(mark)] for name in names if name.endswith(mark) and name[: -len(mark)][-1:] in {"", "."}
    ]


_WIDTHS = {"clip_l": 768, "clip_g": 1280}


def _fits(file: Path, part: TextPart, prefix: str) -> bool:
    """CLIP-L and CLIP-G files have the same names; their widths differ."""
    return header_of(file).tensors[prefix + part.mark].shape[-1] not in _others(part)


def _others(part: TextPart) -> set[int]:
    """Widths of other encoders of the same names."""
    if part.hint not in _WIDTHS:
        return set()
    return {width for hint, width in _WIDTHS.items() if hint != part.hint}
