"""Reading what other tools left: which pictures, which captions, how often. Nothing is copied here.

    folder, kohya folders     N_name folders count N times each, `name` is the caption of those without one
    kohya dataset TOML        [general] -> [[datasets]] -> [[datasets.subsets]], the lower wins
    HF imagefolder            metadata.jsonl or metadata.csv beside the pictures, caption in `text`
    kohya JSON                {stem or path: {caption, tags}}

`read` tells which it is by looking. Paths named inside a file must lie under the folder that was given.
"""

from __future__ import annotations

import csv
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from loratui.dataset.masks import MaskFinder, holds_masks_of_folders
from loratui.dataset.scan import SUFFIXES, Source, natural_key, walk_sources
from loratui.dataset.sidecar import read_caption
from loratui.errors import DatasetError, Problem

Layout = Literal["folder", "kohya-folders", "kohya-toml", "imagefolder", "kohya-json"]
_KOHYA = re.compile(r"^([0-9]+)_(.*)$", re.DOTALL)
METADATA = ("metadata.jsonl", "metadata.csv")
_LARGEST = 256 * 1024 * 1024

DATASET_KEYS = frozenset(
    {
        *(
            "resolution",
            "batch_size",
            "enable_bucket",
            "min_bucket_reso",
            "max_bucket_reso",
            "bucket_reso_steps",
        ),
        *(
            "bucket_no_upscale",
            "validation_split",
            "validation_seed",
            "network_multiplier",
            "resize_interpolation",
        ),
        "skip_image_resolution",
    }
)
SUBSET_KEYS = frozenset(
    {
        *(
            "image_dir",
            "num_repeats",
            "class_tokens",
            "caption_extension",
            "is_reg",
            "alpha_mask",
            "cache_info",
        ),
        *(
            "shuffle_caption",
            "keep_tokens",
            "keep_tokens_separator",
            "secondary_separator",
            "caption_separator",
        ),
        *("caption_prefix", "caption_suffix", "enable_wildcard", "color_aug", "flip_aug", "random_crop"),
        *("face_crop_aug_range", "caption_dropout_rate", "caption_dropout_every_n_epochs"),
        *("caption_tag_dropout_rate", "token_warmup_min", "token_warmup_step", "custom_attributes"),
        *("metadata_file", "conditioning_data_dir", "resize_interpolation"),
    }
)


@dataclass(frozen=True, slots=True)
class Item:
    """One picture to import.

    Attributes:
        path: where it lies.
        rel: its place below the target, `/` between parts.
        caption: the caption the layout gives it; None to take its sidecar as it is, byte by byte.
        mask: a mask that belongs to it, None for none.
    """

    path: Path
    rel: str
    caption: str | None = None
    mask: Path | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Pictures with the same settings: they become one source.

    Attributes:
        name: of the folder it becomes.
        items: its pictures.
        repeats: how often each counts in an epoch.
        caption: caption of those without one.
        regularisation: whether they are regularisation pictures.
        settings: further settings of the layout, as it spells them.
    """

    name: str
    items: tuple[Item, ...]
    repeats: int = 1
    caption: str = ""
    regularisation: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """What a place holds.

    Attributes:
        layout: which tool's.
        parts: its pictures by setting.
        settings: settings of the whole (resolution, batch size...), as the layout spells them.
        problems: what was passed over, and why.
    """

    layout: Layout
    parts: tuple[Part, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @property
    def images(self) -> int:
        """How many pictures there are."""
        return sum(len(p.items) for p in self.parts)


def detect(source: Path) -> Layout:
    """Which layout a folder or file has.

    Raises:
        DatasetError: it is not there, or none of them.
    """
    if source.is_file():
        if source.suffix.lower() == ".toml":
            return "kohya-toml"
        if source.suffix.lower() == ".json":
            return "kohya-json"
        if source.name.lower() in METADATA:
            return "imagefolder"
        raise DatasetError(
            f"{source.name} is no data set.", "Name a folder, an archive, a dataset TOML or a JSON."
        )
    if not source.is_dir():
        raise DatasetError(f"{source} does not exist.", "Check the path.")
    if any((source / name).is_file() for name in METADATA):
        return "imagefolder"
    if any(_kohya_name(p) for p in source.iterdir()):
        return "kohya-folders"
    return "folder"


def read(source: Path, layout: Layout | None = None) -> Found:
    """What a folder or file holds.

    Raises:
        DatasetError: it cannot be read; a file names its line where there is one.
    """
    layout = layout or detect(source)
    if layout == "kohya-toml":
        return read_kohya_toml(source)
    if layout == "kohya-json":
        return read_kohya_json(source)
    if layout == "imagefolder":
        return read_imagefolder(source)
    if layout == "kohya-folders":
        return read_kohya_folders(source)
    return Found("folder", (Part(source.name, tuple(_items(source))),))


def _kohya_name(path: Path) -> re.Match[str] | None:
    match = _KOHYA.match(path.name)
    return match if match and int(match[1]) >= 1 and path.is_dir() else None


def _items(folder: Path, deep: bool = True) -> Iterator[Item]:
    if deep:
        paths = sorted(
            walk_sources([Source(folder)]), key=lambda p: natural_key(p.relative_to(folder).as_posix())
        )
    else:
        paths = _flat(folder)
    finder = MaskFinder(SUFFIXES)
    for path in paths:
        yield Item(path, path.relative_to(folder).as_posix(), mask=_mask(path, finder))


def _flat(folder: Path) -> list[Path]:
    """Pictures directly in a folder, as kohya counts them."""
    wanted = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted((p for p in wanted if not _is_label(p) and p.is_file()), key=lambda p: natural_key(p.name))


def _is_label(path: Path) -> bool:
    return path.name.lower().endswith(("-masklabel.png", "-condlabel.png"))


def _mask(picture: Path, finder: MaskFinder | None = None) -> Path | None:
    """Its mask file: beside it, or in a folder of masks."""
    found = (finder or MaskFinder(SUFFIXES)).of(picture)
    return found.path if found is not None else None


def read_kohya_folders(source: Path, regularisation: bool = False) -> Found:
    """Immediate `N_name` folders; others are passed over and named."""
    parts: list[Part] = []
    problems: list[Problem] = []
    for folder in sorted(source.iterdir(), key=lambda p: natural_key(p.name)):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        match = _kohya_name(folder)
        if match is None and holds_masks_of_folders(folder):
            continue
        if match is None:
            message = "is passed over: its name does not begin with a count and `_`."
            problems.append(Problem(folder.name, "not-in-kohya-folder", "warning", message))
            continue
        items = tuple(_items(folder, deep=False))
        parts.append(Part(folder.name, items, int(match[1]), match[2], regularisation))
    return Found("kohya-folders", tuple(parts), {}, tuple(problems))


# --- kohya dataset TOML -----------------------------------------------------------------------------------


def read_kohya_toml(source: Path) -> Found:
    """A dataset TOML of sd-scripts; `image_dir` may be relative to the file."""
    text = _text(source)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DatasetError(f"{source.name}: {error}.", "Mend the file, then import again.") from None
    problems: list[Problem] = []
    general = _table(table.get("general", {}), "general", problems)
    for key in table.keys() - {"general", "datasets"}:
        problems.append(_unknown(source, text, key))
    parts: list[Part] = []
    settings: dict[str, Any] = {k: v for k, v in general.items() if k in DATASET_KEYS}
    datasets = table.get("datasets", [])
    if not isinstance(datasets, list) or not datasets:
        raise DatasetError(f"{source.name} has no [[datasets]].", "It is no dataset TOML of sd-scripts.")
    for index, dataset in enumerate(datasets):
        dataset = _table(dataset, f"datasets[{index}]", problems)
        own = {k: v for k, v in dataset.items() if k != "subsets"}
        for key in (own.keys() | general.keys()) - DATASET_KEYS - SUBSET_KEYS:
            problems.append(_unknown(source, text, key))
        if index == 0:
            settings |= {k: v for k, v in own.items() if k in DATASET_KEYS}
        subsets = dataset.get("subsets", [])
        for number, subset in enumerate(subsets if isinstance(subsets, list) else []):
            subset = _table(subset, f"subsets[{number}]", problems)
            for key in subset.keys() - SUBSET_KEYS:
                problems.append(_unknown(source, text, key))
            merged = {k: v for k, v in {**general, **own, **subset}.items() if k in SUBSET_KEYS}
            part = _subset(source, merged, problems)
            if part is not None:
                parts.append(part)
    return Found("kohya-toml", tuple(_named_apart(parts)), settings, tuple(problems))


def _table(value: Any, name: str, problems: list[Problem]) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    problems.append(Problem(name, "not-a-table", "warning", "is passed over: it is no table."))
    return {}


def _unknown(source: Path, text: str, key: str) -> Problem:
    line = next(
        (n for n, row in enumerate(text.splitlines(), 1) if re.match(rf"\s*{re.escape(key)}\s*=", row)), 0
    )
    where = f"{source.name}:{line}" if line else source.name
    return Problem(key, "unknown-key", "warning", "is not a key of sd-scripts; it is passed over.", where)


def _subset(source: Path, merged: dict[str, Any], problems: list[Problem]) -> Part | None:
    raw = merged.get("image_dir")
    if not isinstance(raw, str) or not raw:
        problems.append(
            Problem("image_dir", "missing-key", "error", "a subset lacks image_dir.", source.name)
        )
        return None
    folder = Path(os.path.normpath(source.parent / Path(raw).expanduser()))
    if not folder.is_dir():
        problems.append(Problem(raw, "missing-folder", "error", "this folder does not exist.", source.name))
        return None
    repeats = merged.get("num_repeats", 1)
    if not isinstance(repeats, int) or repeats < 1:
        problems.append(
            Problem("num_repeats", "bad-value", "warning", "is no count; 1 is taken.", source.name)
        )
        repeats = 1
    extension = str(merged.get("caption_extension", ".caption"))
    items = [_with_extension(item, extension) for item in _items(folder, deep=False)]
    metadata = merged.get("metadata_file")
    if isinstance(metadata, str):
        listed = read_kohya_json(Path(os.path.normpath(source.parent / metadata)), folder)
        captions = {i.path: i.caption for p in listed.parts for i in p.items}
        items = [replace(i, caption=captions.get(i.path, i.caption)) for i in items]
        problems += listed.problems
    masks = merged.get("conditioning_data_dir")
    if isinstance(masks, str) and masks:
        items = _with_masks(items, Path(os.path.normpath(source.parent / Path(masks).expanduser())))
        message = "the pictures in conditioning_data_dir are taken as masks."
        problems.append(Problem(masks, "masks-taken", "info", message, source.name))
    prefix, suffix = str(merged.get("caption_prefix", "")), str(merged.get("caption_suffix", ""))
    if prefix or suffix:
        message = "caption_prefix and caption_suffix are kept as settings; use the edits prefix and suffix."
        problems.append(Problem("caption_prefix", "not-applied", "info", message, source.name))
    known = {
        *("image_dir", "num_repeats", "class_tokens", "is_reg", "caption_extension", "metadata_file"),
        "conditioning_data_dir",
    }
    rest = {k: v for k, v in merged.items() if k not in known}
    tokens = merged.get("class_tokens")
    caption = tokens if isinstance(tokens, str) else ""
    return Part(folder.name, tuple(items), repeats, caption, merged.get("is_reg") is True, rest)


def _with_masks(items: Iterable[Item], folder: Path) -> list[Item]:
    """Pictures without a mask get the one of their stem in a folder of masks."""
    try:
        by_stem = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES}
    except OSError:
        by_stem = {}
    return [replace(i, mask=i.mask or by_stem.get(i.path.stem)) for i in items]


def _with_extension(item: Item, extension: str) -> Item:
    """The caption of the extension the file asks for, where it is not the one that is read anyway."""
    if extension in {".txt", ".caption"} and read_caption(item.path).path.suffix == extension:
        return item
    other = item.path.with_suffix(extension) if re.fullmatch(r"\.\w+", extension) else None
    if other is not None and other.is_file():
        return replace(item, caption=_text(other).strip())
    return item


def _named_apart(parts: Iterable[Part]) -> Iterator[Part]:
    """Parts whose names differ, since they become folders side by side."""
    taken: set[str] = set()
    for part in parts:
        name, number = part.name or "pictures", 2
        while name.casefold() in taken:
            name, number = f"{part.name}-{number}", number + 1
        taken.add(name.casefold())
        yield replace(part, name=name)


# --- HF imagefolder and kohya JSON --------------------------------------------------------------------------


def read_imagefolder(source: Path) -> Found:
    """A folder (or its metadata file) with `file_name` and `text` per picture."""
    folder = source.parent if source.is_file() else source
    problems: list[Problem] = []
    items: list[Item] = []
    seen: set[Path] = set()
    file = source if source.is_file() else next(folder / n for n in METADATA if (folder / n).is_file())
    for line, row in _csv_rows(file) if file.suffix == ".csv" else _json_rows(file, problems):
        where = f"{file.name}:{line}"
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            problems.append(Problem("file_name", "missing-key", "error", "this row lacks file_name.", where))
            continue
        path = _inside(folder, name)
        if path is None:
            problems.append(Problem(name, "outside", "error", "lies outside the folder.", where))
        elif not path.is_file() or path.suffix.lower() not in SUFFIXES:
            problems.append(Problem(name, "missing-file", "error", "is no picture in the folder.", where))
        elif path not in seen:
            seen.add(path)
            text = row.get("text", row.get("caption"))
            caption = text.strip() if isinstance(text, str) else None
            items.append(Item(path, path.relative_to(folder).as_posix(), caption, _mask(path)))
    rest = [i for i in _items(folder) if i.path not in seen]
    if rest:
        problems.append(
            Problem(file.name, "not-listed", "info", f"{len(rest)} pictures are not listed in it.")
        )
    return Found("imagefolder", (Part(folder.name, (*items, *rest)),), {}, tuple(problems))


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(_text(file).splitlines())
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DatasetError(
            f"{file.name}:{reader.line_num}: {error}.", "Mend the file, then import again."
        ) from None


def _json_rows(file: Path, problems: list[Problem]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_text(file).splitlines(), 1):
        if not line.strip():
            continue
        row = _json(line)
        if isinstance(row, dict):
            yield number, row
        else:
            where = f"{file.name}:{number}"
            problems.append(Problem(file.name, "bad-row", "error", "this line is no JSON object.", where))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_kohya_json(source: Path, folder: Path | None = None) -> Found:
    """A JSON of sd-scripts' tools: `{stem or path: {caption, tags}}`, tags a string or a list."""
    folder = folder or source.parent
    table = _json(_text(source))
    if not isinstance(table, dict):
        raise DatasetError(
            f"{source.name} is no JSON object.", "It should map pictures to captions and tags."
        )
    by_name: dict[str, Path] = {}
    for item in _items(folder):
        by_name.setdefault(item.path.stem, item.path)
        by_name[item.rel] = by_name[item.path.name] = item.path
        by_name[str(Path(item.rel).with_suffix(""))] = item.path
    items: list[Item] = []
    problems: list[Problem] = []
    for key, value in table.items():
        name = key.replace("\\", "/")
        path = by_name.get(name) or by_name.get(Path(name).name) or by_name.get(Path(name).stem)
        if path is None or not isinstance(value, dict):
            what = "has no picture here." if path is None else "has no caption and tags."
            problems.append(Problem(key, "missing-file", "warning", what, source.name))
            continue
        tags = value.get("tags")
        words = (
            ", ".join(str(t) for t in tags)
            if isinstance(tags, list)
            else tags
            if isinstance(tags, str)
            else ""
        )
        caption = value.get("caption")
        text = ", ".join(x.strip() for x in (caption if isinstance(caption, str) else "", words) if x.strip())
        items.append(Item(path, path.relative_to(folder).as_posix(), text or None, _mask(path)))
    return Found("kohya-json", (Part(folder.name, tuple(items)),), {}, tuple(problems))


def _inside(folder: Path, name: str) -> Path | None:
    """The file a relative name stands for, None when it leads out of the folder (through links too)."""
    path = folder / name.replace("\\", "/")
    if Path(name).is_absolute() or ".." in path.parts or "\x00" in name:
        return None
    return path if path.resolve().is_relative_to(folder.resolve()) else None


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > _LARGEST:
            raise DatasetError(f"{file.name} is too large to be a list of captions.", "Split it.")
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise DatasetError(f"{file.name} is not UTF-8.", "Convert it, then import again.") from None
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}.", "Check its mode.") from error
