"""Base models on this machine: in the Hub's cache, in a folder; and popular offspring told by name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loratui.captioners.locate import hub_cache
from loratui.families.detect import Detected, detect, locate
from loratui.families.spec import family_spec

Offspring = str
"""A word for an offspring of a family with presets of its own: one of `_NAMES`, `noobai-vpred`, or one of its
row's `FamilySpec.kinds`; empty for the plain base."""
_NAMES: dict[str, tuple[tuple[str, Offspring], ...]] = {
    "sdxl": (
        (r"pony|autismmix|(?<![a-z])pdxl", "pony"),
        (r"illustrious|noob|(?<![a-z])(il|wai|nai)(?![a-z])", "illustrious"),
    ),
    "sd15": (
        (r"anime|anything|counterfeit|abyssorange|(?<![a-z])aom\d|nai(?![a-z])|meina|pastelmix", "anime"),
    ),
}
"""As the models are called by their makers."""
_VPRED = re.compile(r"v[-_ ]?pred", re.IGNORECASE)
_MOST = 2000


@dataclass(frozen=True, slots=True)
class Base:
    """A base model on this machine.

    Attributes:
        name: what to write as base: a Hub id or a path.
        path: where it lies.
        found: what it is.
    """

    name: str
    path: Path
    found: Detected


def offspring(base: str, found: Detected) -> Offspring:
    """Which popular offspring of its family a base is, by its v-pred mark or by the name of its file."""
    name = Path(base).name.lower() if base else ""
    if found.family == "sdxl" and (found.prediction == "v_prediction" or _VPRED.search(name)):
        return "noobai-vpred"
    spec = family_spec(found.family)
    if spec is not None and spec.distilled and re.search(spec.distilled, name):
        return "turbo"
    for word, numbers in (spec.larger if spec is not None else {}).items():
        if found.parameters >= numbers:
            return word
    rows = _NAMES.get(found.family, ())
    return next((kind for pattern, kind in rows if re.search(pattern, name)), "")


def hub_bases() -> list[Base]:
    """The base models in the Hub's cache that can be trained, by name."""
    bases = []
    try:
        names = sorted(p.name for p in hub_cache().iterdir() if p.name.startswith("models--"))
    except OSError:
        return []
    for name in names:
        repo = name.removeprefix("models--").replace("--", "/", 1)
        try:
            path = locate(repo)
        except Exception:  # a folder that is no repository, or holds none whole
            continue
        found = detect(path)
        if found.ok:
            bases.append(Base(repo, path, found))
    return bases


def is_model_folder(folder: Path) -> bool:
    """Whether a folder is a diffusers pipeline."""
    try:
        return (folder / "model_index.json").is_file()
    except OSError:
        return False


def inside(folder: Path, wanted: Callable[[str], bool]) -> tuple[list[Path], list[Path]]:
    """Folders, and files whose name is wanted, in a folder; hidden ones are left out.

    Raises:
        OSError: the folder cannot be read.
    """
    folders: list[Path] = []
    files: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or len(folders) + len(files) >= _MOST:
                continue
            try:
                if entry.is_dir():
                    folders.append(folder / entry.name)
                elif wanted(entry.name.lower()):
                    files.append(folder / entry.name)
            except OSError:
                continue
    return sorted(folders, key=_by_name), sorted(files, key=_by_name)


def _by_name(path: Path) -> str:
    return path.name.casefold()


def said(base: str, found: Detected) -> str:
    """What a base is in a few words: family, offspring, size."""
    if not found.ok:
        errors = [p for p in found.problems if p.severity == "error"]
        return found.what or (errors[0].message if errors else "not a base model known here")
    spec = family_spec(found.family)
    titles = {
        "pony": "Pony by its name",
        "illustrious": "Illustrious by its name",
        "noobai-vpred": "predicts velocity",
        "anime": "drawn pictures by its name",
        "turbo": "distilled by its name",
    }
    if spec is not None:
        titles |= {word: f"{word} by its size" for word in spec.larger}
    words = [spec.title if spec else found.family, titles.get(offspring(base, found), "")]
    words.append(f"{found.bytes / 1e9:.1f} GB" if found.bytes >= 1e8 else f"{found.bytes / 1e6:.1f} MB")
    return " · ".join(word for word in words if word)
