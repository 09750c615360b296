"""Writing a data set as other tools read it: kohya folders with TOML, HF imagefolder, ai-toolkit, zip.

Everything goes to a new folder (or file) that appears whole at the end; pictures are copied, never changed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tomlkit

from loratui.errors import DatasetError

Format = Literal["kohya", "imagefolder", "ai-toolkit", "zip"]
FORMATS: dict[str, str] = {
    "kohya": "kohya folders (N_name) and a dataset.toml for sd-scripts",
    "imagefolder": "Hugging Face imagefolder: pictures and metadata.jsonl",
    "ai-toolkit": "one flat folder of pictures with .txt captions",
    "zip": "a zip of pictures, .txt captions and masks, in their folders",
}
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ExportPicture:
    """One picture to write.

    Attributes:
        path: where it lies.
        rel: its place in the data set, `/` between parts.
        caption: the caption, empty for none; may have several lines.
        repeats: how often it counts in an epoch.
        group: name of its source, for the folder names of kohya.
        mask: its mask, None for none.
    """

    path: Path
    rel: str
    caption: str = ""
    repeats: int = 1
    group: str = "pictures"
    mask: Path | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    path: Path
    images: int
    captions: int


def export(
    pictures: Sequence[ExportPicture],
    target: Path,
    kind: Format,
    resolution: int = 512,
    on_progress: Progress | None = None,
) -> Exported:
    """Write a data set.

    Args:
        pictures: what to write, in order.
        target: a folder (for `zip`: a file) that does not exist yet.
        kind: see `FORMATS`.
        resolution: px, for the dataset TOML.
        on_progress: called with (done, total).

    Raises:
        DatasetError: the target exists or cannot be written; nothing is left behind.
    """
    if not pictures:
        raise DatasetError("There is nothing to export.", "Choose at least one picture.")
    if kind not in FORMATS:
        raise DatasetError(f"There is no export called {kind}.", f"There are: {', '.join(FORMATS)}.")
    if os.path.lexists(target) and not (target.is_dir() and kind != "zip" and not any(target.iterdir())):
        raise DatasetError(f"{target} exists already.", "Export to a new folder or file.")
    captions = sum(bool(p.caption.strip()) for p in pictures)
    try:
        if kind == "zip":
            _zip(pictures, target, on_progress)
        else:
            with _staged(target) as folder:
                {"kohya": _kohya, "imagefolder": _imagefolder, "ai-toolkit": _flat}[kind](
                    pictures, folder, target, resolution, on_progress
                )
    except OSError as error:
        why = error.strerror or str(error)
        raise DatasetError(f"{target} cannot be written: {why}.", "Nothing was left there.") from error
    return Exported(target, len(pictures), captions)


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".loratui-export-", dir=target.parent))
    try:
        yield folder
        mask = os.umask(0o022)
        os.umask(mask)
        folder.chmod(0o777 & ~mask)
        folder.rename(target)  # over an empty folder, too
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def one_line(caption: str) -> str:
    """The caption as trainers that read one line need it."""
    return " ".join(part.strip() for part in caption.split("\n") if part.strip())


class _Names:
    """Free names in one folder: no two pictures share a stem, whatever their case."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def free(self, name: str) -> str:
        stem, suffix = Path(name).stem, Path(name).suffix
        number, free = 2, stem
        while free.casefold() in self.taken:
            free, number = f"{stem}-{number}", number + 1
        self.taken.add(free.casefold())
        return free + suffix


def _write(picture: ExportPicture, place: Path, caption: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(picture.path, place)
    if caption:
        text = (caption + "\n").encode("utf-8", "replace")
        place.with_suffix(".txt").write_bytes(text)
    if picture.mask is not None:
        shutil.copyfile(picture.mask, place.with_name(place.stem + "-masklabel.png"))


def _tell(on_progress: Progress | None, done: int, total: int) -> None:
    if on_progress is not None and (done % 50 == 0 or done == total):
        on_progress(done, total)


def _kohya(
    pictures: Sequence[ExportPicture],
    folder: Path,
    target: Path,
    resolution: int,
    on_progress: Progress | None,
) -> None:
    names: dict[str, _Names] = {}
    repeats: dict[str, int] = {}
    for done, picture in enumerate(pictures, 1):
        group = re.sub(r"[/\x00-\x1f]", " ", re.sub(r"^[0-9]+_", "", picture.group)).strip() or "pictures"
        sub = f"{picture.repeats}_{group}"
        repeats[sub] = picture.repeats
        name = names.setdefault(sub, _Names()).free(Path(picture.rel).name)
        _write(picture, folder / sub / name, one_line(picture.caption))
        _tell(on_progress, done, len(pictures))
    document = tomlkit.document()
    document.add(tomlkit.comment("Data set for sd-scripts: --dataset_config dataset.toml"))
    document["general"] = {"caption_extension": ".txt", "enable_bucket": True}
    subsets = tomlkit.aot()
    for sub, count in repeats.items():
        subset = tomlkit.table()
        subset["image_dir"] = str((target / sub).absolute())
        subset["num_repeats"] = count
        if any((folder / sub).glob("*-masklabel.png")):
            subset.add(
                tomlkit.comment("masks lie beside the pictures as NAME-masklabel.png (OneTrainer's way)")
            )
        subsets.append(subset)
    dataset = tomlkit.table()
    dataset["resolution"] = resolution
    dataset["subsets"] = subsets
    datasets = tomlkit.aot()
    datasets.append(dataset)
    document["datasets"] = datasets
    (folder / "dataset.toml").write_text(tomlkit.dumps(document), "utf-8", errors="surrogateescape")


def _imagefolder(
    pictures: Sequence[ExportPicture],
    folder: Path,
    target: Path,
    resolution: int,
    on_progress: Progress | None,
) -> None:
    names = _Names()
    with open(folder / "metadata.jsonl", "w", encoding="utf-8", newline="\n") as listing:
        for done, picture in enumerate(pictures, 1):
            name = names.free(Path(picture.rel).name)
            shutil.copyfile(picture.path, folder / name)
            text = one_line(picture.caption).encode("utf-8", "replace").decode()
            listing.write(json.dumps({"file_name": name, "text": text}) + "\n")
            _tell(on_progress, done, len(pictures))


def _flat(
    pictures: Sequence[ExportPicture],
    folder: Path,
    target: Path,
    resolution: int,
    on_progress: Progress | None,
) -> None:
    names = _Names()
    for done, picture in enumerate(pictures, 1):
        _write(picture, folder / names.free(Path(picture.rel).name), picture.caption.strip())
        _tell(on_progress, done, len(pictures))


def _zip(pictures: Sequence[ExportPicture], target: Path, on_progress: Progress | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    names: dict[str, _Names] = {}
    handle, temporary = tempfile.mkstemp(prefix=".loratui-export-", dir=target.parent)
    try:
        with (
            os.fdopen(handle, "wb") as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as out,
        ):
            for done, picture in enumerate(pictures, 1):
                folder, _, name = picture.rel.rpartition("/")
                place = f"{folder}/" * bool(folder) + names.setdefault(folder, _Names()).free(name)
                place = place.encode("utf-8", "replace").decode()
                out.write(picture.path, place)
                stem = place[: place.rindex(".")] if "." in name else place
                if picture.caption.strip():
                    out.writestr(f"{stem}.txt", (picture.caption.strip() + "\n").encode("utf-8", "replace"))
                if picture.mask is not None:
                    out.write(picture.mask, f"{stem}-masklabel.png")
                _tell(on_progress, done, len(pictures))
        mask = os.umask(0o022)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        os.link(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)
