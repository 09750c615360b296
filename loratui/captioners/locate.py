"""Finding a captioner's weights on this machine, and judging by their headers whether they can be loaded.

Torch-free and quick, so that a launch says what is missing before anything begins.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from loratui.captioners.protocol import Source
from loratui.captioners.spec import CaptionerSpec
from loratui.demo import captioners_path
from loratui.errors import BaseModelError, WeightsError
from loratui.paths import state_dir
from loratui.weights.header import read_header

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def models_dir() -> Path:
    """Where a user may copy captioners to: `NAME/` or `OWNER/NAME/` (`LORATUI_MODELS` overrides)."""
    return Path(os.environ.get("LORATUI_MODELS") or state_dir() / "captioners")


def hub_cache() -> Path:
    """The Hub's cache folder, as huggingface_hub chooses it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(os.environ.get("HF_HOME") or cache / "huggingface")
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(named or home / "hub").expanduser()


def locate(row: CaptionerSpec, model: str = "", relative_to: Path | None = None) -> Source:
    """Where the weights of a captioner lie.

    Args:
        row: the captioner.
        model: folder, file or Hub id; empty for the captioner's default.
        relative_to: the folder that relative paths begin at.

    Raises:
        BaseModelError: they are not here, or are of another kind, cut off or incomplete.
    """
    if not row.weights:
        return Source(name=model)
    name = model.strip() or row.default_model
    if not name and row.bundled:
        return _judged(row, Source(captioners_path() / row.bundled, None, row.name))
    if name.startswith("local-dir:"):
        name = name.removeprefix("local-dir:")
    path = Path(name).expanduser()
    path = path if path.is_absolute() else (relative_to or Path.cwd()) / path
    if path.is_file():
        return _judged(row, _of_file(row, path, name))
    if path.is_dir():
        return _judged(row, Source(path, None, name))
    folders = _places(row, name)
    for folder in folders:
        if folder.is_dir() and _weights(row, folder):
            return _judged(row, Source(folder, None, name))
    if not _HUB_ID.fullmatch(name.removeprefix("hf-hub:")):
        raise BaseModelError(
            f"The {row.title} model {path} does not exist.", "Name a folder, a weight file or a Hub id."
        )
    looked = ", ".join(str(f) for f in folders)
    raise BaseModelError(
        f"The {row.title} model {name} is not on this machine; looked in {looked}.",
        f"Fetch it with `loratui get {name}`, or copy its files into {models_dir() / name}.",
    )


def _places(row: CaptionerSpec, name: str) -> list[Path]:
    """Folders a Hub id may lie in: the user's own, then snapshots of the cache, the current one first."""
    name = name.removeprefix("hf-hub:")
    cached = hub_cache() / ("models--" + name.replace("/", "--"))
    own = models_dir()
    out = [own / name, own / name.rpartition("/")[2]]
    try:
        commit = (cached / "refs" / "main").read_text(encoding="utf-8").strip()
        out.append(cached / "snapshots" / commit)
    except OSError:
        out += sorted((cached / "snapshots").glob("*")) or [cached]
    return out


def _of_file(row: CaptionerSpec, path: Path, name: str) -> Source:
    fits = any(path.match(pattern) for pattern in row.weights)
    if not fits:
        kinds = ", ".join(row.weights)
        raise BaseModelError(f"{path} is no weight file of {row.title}.", f"It takes {kinds}.")
    return Source(path.parent, path, name)


def _weights(row: CaptionerSpec, folder: Path) -> list[Path]:
    for pattern in row.weights:
        found = sorted(p for p in folder.glob(pattern) if p.is_file())
        if found:
            return found
    return []


def _judged(row: CaptionerSpec, source: Source) -> Source:
    """The source, when configuration and weight files fit the captioner.

    Raises:
        BaseModelError: see `locate`.
    """
    folder = source.folder
    assert folder is not None
    again = f"Fetch it again with `loratui get {source.name}`." if "/" in source.name else "Copy it again."
    if row.bundled and source.name == row.name:
        again = "It is part of loratui: install loratui again."
    bare = source.weights is not None and row.config == "open_clip_config.json"
    if not bare and not (folder / row.config).is_file():
        raise BaseModelError(f"{folder} is no {row.title} model: it has no {row.config}.", again)
    if row.model_types:
        found = _json(folder / row.config).get("model_type")
        if found not in row.model_types:
            wanted = " or ".join(row.model_types)
            raise BaseModelError(
                f"{folder} holds a {found or 'nameless'} model; {row.title} needs {wanted}.",
                "Choose the captioner that fits: `loratui captioners` lists them.",
            )
    files = [source.weights] if source.weights is not None else _weights(row, folder)
    if not files:
        pickles = row.weights == ("*.safetensors",) and list(folder.glob("*.bin"))
        if pickles:
            raise BaseModelError(
                f"{folder} holds only pickled weights.",
                "Take the .safetensors: opening a pickle can run code.",
            )
        raise BaseModelError(f"{folder} has no weights ({', '.join(row.weights)}).", again)
    for file in files:
        if file.suffix == ".safetensors":
            try:
                read_header(file)
            except WeightsError as error:
                raise BaseModelError(error.message, again) from error
        elif file.stat().st_size == 0:
            raise BaseModelError(f"{file} is empty.", again)
    _check_shards(folder, source, again)
    return source


def _check_shards(folder: Path, source: Source, again: str) -> None:
    index = folder / "model.safetensors.index.json"
    if source.weights is not None or not index.is_file():
        return
    listed = _json(index).get("weight_map")
    names = set(listed.values()) if isinstance(listed, dict) else set()
    gone = sorted(str(n) for n in names if not (folder / str(n)).is_file())
    if gone:
        raise BaseModelError(f"{folder} lacks {len(gone)} of its weight files ({gone[0]}).", again)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{path} cannot be read: {error}.", "Fetch the model again.") from error
    return found if isinstance(found, dict) else {}
