"""Writing a data set as other tools read it: kohya folders with TOML, HF imagefolder, ai-toolkit, zip.

Everything goes to a new folder (or file) that appears whole at the end; pictures are copied, never changed.
Turns, crops and alpha masks are notes of the project that no other trainer reads: they are carried out on the
copies where that is wanted (`bake`), else the report names what was not carried.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tomlkit

from loratui.config.colours import WHITE, Paper
from loratui.dataset.baking import baked_mask, baked_picture, fitted_mask
from loratui.dataset.framing import PLAIN, Box, Frame
from loratui.dataset.masks import BESIDE, Mask
from loratui.errors import DatasetError

Format = Literal["kohya", "imagefolder", "ai-toolkit", "zip"]
FORMATS: dict[str, str] = {
    "kohya": "kohya folders (N_name), masks apart, and a dataset.toml for sd-scripts",
    "imagefolder": "Hugging Face imagefolder: pictures and metadata.jsonl",
    "ai-toolkit": "one flat folder of pictures with .txt captions; masks in a folder NAME-masks",
    "zip": "a zip of pictures, .txt captions and masks, in their folders",
}
MASKS = "masks"
"""Folder of masks in an export of kohya folders: one below it for each."""
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
        frame: its turn and mirroring, and whether it is cropped by hand.
        box: what the crop keeps of the turned picture, in fractions; None without a crop by hand.
        bake: whether frame and alpha mask are carried out on the copy.
        paper: shows through its transparent pixels where it is made anew.
    """

    path: Path
    rel: str
    caption: str = ""
    repeats: int = 1
    group: str = "pictures"
    mask: Mask | None = None
    frame: Frame = PLAIN
    box: Box | None = None
    bake: bool = False
    paper: Paper = WHITE

    @property
    def noted(self) -> tuple[str, ...]:
        """What of it stands in the notes of the project alone: turn, mirror, crop, alpha mask."""
        parts = ["turn"] if self.frame.turn else []
        parts += ["mirror"] if self.frame.mirror else []
        parts += ["crop"] if self.frame.box is not None else []
        parts += ["alpha mask"] if self.mask is not None and self.mask.kind == "alpha" else []
        return tuple(parts)

    @property
    def made(self) -> bool:
        """Whether the copy is another picture than the file."""
        return self.bake and bool(self.noted)

    @property
    def name(self) -> str:
        """Name of the copy: what is made anew is a PNG."""
        name = Path(self.rel).name
        return str(Path(name).with_suffix(".png")) if self.made else name

    @property
    def carries_mask(self) -> bool:
        """Whether its mask is written where the target knows masks."""
        return self.mask is not None and (self.mask.kind == "file" or self.bake)

    def made_bytes(self) -> bytes | None:
        """The copy where it is made anew, None where the file is copied.

        Raises:
            DatasetError: it cannot be decoded.
        """
        return baked_picture(self.path, self.frame, self.box, self.paper) if self.made else None

    def mask_bytes(self) -> bytes | None:
        """The mask beside the copy, None for none.

        Raises:
            DatasetError: it cannot be decoded.
            OSError: it cannot be read.
        """
        if self.mask is None or not self.carries_mask:
            return None
        if self.made:
            return baked_mask(self.mask, self.path, self.frame, self.box)
        return self.mask.path.read_bytes()

    def not_carried(self, kind: Format) -> tuple[str, ...]:
        """What of it gets lost on the way to another trainer."""
        lost = () if self.bake else self.noted
        if kind == "imagefolder" and self.mask is not None and "alpha mask" not in lost:
            return (*lost, "mask")
        return lost


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        path: folder or file.
        images: pictures in it.
        captions: of them, with a caption.
        baked: of them, made anew because of turn, crop or alpha mask.
        not_carried: places of pictures in the data set, each with what of it is not there.
        left_out: places of pictures that could not be made anew, each with the reason.
        masks: folder of the masks where they are kept apart, None where they are not.
    """

    path: Path
    images: int
    captions: int
    baked: int = 0
    not_carried: tuple[tuple[str, tuple[str, ...]], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    masks: Path | None = None

    def lost(self) -> str:
        """One sentence on what is not there, empty when all is."""
        if not self.not_carried:
            return ""
        counts: dict[str, int] = {}
        for _, parts in self.not_carried:
            for part in parts:
                counts[part] = counts.get(part, 0) + 1
        words = ", ".join(f"{count} × {part}" for part, count in counts.items())
        return f"Not carried along for {len(self.not_carried)} pictures: {words}."


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
    if ".." in target.parts:  # these paths are written into files
        target = target.parent.resolve() / target.name
    if os.path.lexists(target) and not (target.is_dir() and kind != "zip" and not any(target.iterdir())):
        raise DatasetError(f"{target} exists already.", "Export to a new folder or file.")
    ready = _Ready(pictures, on_progress, masks=kind != "imagefolder")
    masks = _masks_of(target, kind) if ready.masked else None
    if kind == "ai-toolkit" and masks is not None and os.path.lexists(masks):
        raise DatasetError(f"{masks} exists already.", "Export to a folder of another name.")
    try:
        if kind == "zip":
            _zip(ready, target)
        elif kind == "kohya":
            with _staged(target) as folder:
                _kohya(ready, folder, target, resolution)
        elif kind == "imagefolder":
            with _staged(target) as folder:
                _imagefolder(ready, folder)
        else:
            with _staged(target) as folder, _staged(masks) if masks else nullcontext() as apart:
                _flat(ready, folder, apart)
    except OSError as error:
        why = error.strerror or str(error)
        raise DatasetError(f"{target} cannot be written: {why}.", "Nothing was left there.") from error
    out = {p.path for p, _ in ready.left}
    there = [p for p in pictures if p.path not in out]
    lost = tuple((p.rel, parts) for p in there if (parts := p.not_carried(kind)))
    return Exported(
        target,
        len(there),
        sum(bool(p.caption.strip()) for p in there),
        sum(p.made for p in there),
        lost,
        tuple((p.rel, reason) for p, reason in ready.left),
        masks,
    )


def _masks_of(target: Path, kind: Format) -> Path | None:
    """Where masks go that may not lie beside the pictures: both trainers would take them for pictures."""
    return {"kohya": target / MASKS, "ai-toolkit": target.with_name(f"{target.name}-masks")}.get(kind)


class _Ready:
    """Pictures with what is made of them; one that cannot be decoded is left out and the others go on."""

    def __init__(self, pictures: Sequence[ExportPicture], on_progress: Progress | None, masks: bool) -> None:
        self._pictures, self._on_progress, self._masks = pictures, on_progress, masks
        self.left: list[tuple[ExportPicture, str]] = []
        self.masked = masks and any(p.carries_mask for p in pictures)

    def __iter__(self) -> Iterator[tuple[ExportPicture, bytes | None, bytes | None]]:
        """(picture, its copy where it is made anew, its mask where there is one)."""
        total = len(self._pictures)
        for done, picture in enumerate(self._pictures, 1):
            try:
                made = picture.made_bytes()
                mask = picture.mask_bytes() if self._masks else None
            except DatasetError as error:
                self.left.append((picture, error.message))
            else:
                yield picture, made, mask
            if self._on_progress is not None and (done % 50 == 0 or done == total):
                self._on_progress(done, total)


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


def _write(picture: ExportPicture, made: bytes | None, mask: bytes | None, place: Path, caption: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    _copy(picture, made, place)
    if caption:
        text = (caption + "\n").encode("utf-8", "replace")
        place.with_suffix(".txt").write_bytes(text)
    if mask is not None:
        place.with_name(place.stem + BESIDE).write_bytes(mask)


def _copy(picture: ExportPicture, made: bytes | None, place: Path) -> None:
    if made is not None:
        place.write_bytes(made)
    else:
        shutil.copyfile(picture.path, place)


def _kohya(ready: _Ready, folder: Path, target: Path, resolution: int) -> None:
    names: dict[str, _Names] = {}
    repeats: dict[str, int] = {}
    for picture, made, mask in ready:
        group = re.sub(r"[/\x00-\x1f]", " ", re.sub(r"^[0-9]+_", "", picture.group)).strip() or "pictures"
        sub = f"{picture.repeats}_{group}"
        repeats[sub] = picture.repeats
        name = names.setdefault(sub, _Names()).free(picture.name)
        place = folder / sub / name
        _write(picture, made, None, place, one_line(picture.caption))
        if ready.masked:  # sd-scripts wants one for every picture, or for none
            _beside(folder / MASKS / sub / name, fitted_mask(mask, place))
    document = tomlkit.document()
    document.add(tomlkit.comment("Data set for sd-scripts: --dataset_config dataset.toml"))
    document["general"] = {"caption_extension": ".txt", "enable_bucket": True}
    subsets = tomlkit.aot()
    for sub, count in repeats.items():
        subset = tomlkit.table()
        subset["image_dir"] = str((target / sub).absolute())
        subset["num_repeats"] = count
        if ready.masked:
            subset["conditioning_data_dir"] = str((target / MASKS / sub).absolute())
            subset["conditioning_data_dir"].comment("masks: train with --masked_loss")
        subsets.append(subset)
    dataset = tomlkit.table()
    dataset["resolution"] = resolution
    dataset["subsets"] = subsets
    datasets = tomlkit.aot()
    datasets.append(dataset)
    document["datasets"] = datasets
    (folder / "dataset.toml").write_text(tomlkit.dumps(document), "utf-8", errors="surrogateescape")


def _beside(place: Path, mask: bytes) -> None:
    """A mask of the stem of its picture, in a folder of masks."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.with_suffix(".png").write_bytes(mask)


def _imagefolder(ready: _Ready, folder: Path) -> None:
    names = _Names()
    with open(folder / "metadata.jsonl", "w", encoding="utf-8", newline="\n") as listing:
        for picture, made, _ in ready:
            name = names.free(picture.name)
            _copy(picture, made, folder / name)
            text = one_line(picture.caption).encode("utf-8", "replace").decode()
            listing.write(json.dumps({"file_name": name, "text": text}) + "\n")


def _flat(ready: _Ready, folder: Path, masks: Path | None) -> None:
    names = _Names()
    for picture, made, mask in ready:
        name = names.free(picture.name)
        _write(picture, made, None, folder / name, picture.caption.strip())
        if mask is not None and masks is not None:
            _beside(masks / name, mask)


def _zip(ready: _Ready, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    names: dict[str, _Names] = {}
    handle, temporary = tempfile.mkstemp(prefix=".loratui-export-", dir=target.parent)
    try:
        with (
            os.fdopen(handle, "wb") as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as out,
        ):
            for picture, made, beside in ready:
                folder, _, _ = picture.rel.rpartition("/")
                name = picture.name
                place = f"{folder}/" * bool(folder) + names.setdefault(folder, _Names()).free(name)
                place = place.encode("utf-8", "replace").decode()
                if made is not None:
                    out.writestr(place, made)
                else:
                    out.write(picture.path, place)
                stem = place[: place.rindex(".")] if "." in name else place
                if picture.caption.strip():
                    out.writestr(f"{stem}.txt", (picture.caption.strip() + "\n").encode("utf-8", "replace"))
                if beside is not None:
                    out.writestr(stem + BESIDE, beside)
        mask = os.umask(0o022)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        os.link(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)
