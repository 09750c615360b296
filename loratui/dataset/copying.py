"""Bringing pictures into a folder: copied whole, with caption and mask, never over what is there."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from loratui.dataset import imports
from loratui.dataset.archive import Limits, is_archive, unpack
from loratui.dataset.imports import Found, Item, Part
from loratui.dataset.masks import BESIDE, Mask, open_mask
from loratui.dataset.scan import SUFFIXES
from loratui.dataset.sidecar import SUFFIXES as CAPTIONS
from loratui.dataset.sidecar import read_caption
from loratui.errors import DatasetError, Problem

_KEPT = (*SUFFIXES, *CAPTIONS, ".toml", ".json", ".jsonl", ".csv")


@dataclass(frozen=True, slots=True)
class Placed:
    """A folder that now holds pictures: a source of the project.

    Attributes:
        path: the folder.
        repeats: how often each picture counts.
        caption: caption of those without one.
        regularisation: whether they are regularisation pictures.
    """

    path: Path
    repeats: int = 1
    caption: str = ""
    regularisation: bool = False


@dataclass(slots=True)
class Copied:
    """What an import did.

    Attributes:
        layout: what the place turned out to be.
        images: pictures copied.
        captions: captions written.
        masks: masks copied.
        present: pictures passed over because they are there already, byte by byte.
        renamed: pictures that got another name because theirs was taken.
        sources: folders to name in loratui.toml.
        settings: settings of the layout, as it spells them.
        problems: what was passed over, and why.
    """

    layout: str = "folder"
    images: int = 0
    captions: int = 0
    masks: int = 0
    present: int = 0
    renamed: int = 0
    sources: tuple[Placed, ...] = ()
    settings: dict[str, object] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """What `loratui import --json` prints."""
        names = ("layout", "images", "captions", "masks", "present", "renamed")
        return {**{n: getattr(self, n) for n in names}, "problems": [p.as_dict() for p in self.problems]}


def import_any(
    source: Path,
    target: Path,
    *,
    limits: Limits | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Copied:
    """Import a folder, an archive, kohya folders, a kohya TOML or JSON, or an HF imagefolder into `target`.

    Raises:
        DatasetError: it cannot be read, is damaged or over a limit, or the target cannot be written.
    """
    if not (source.is_file() and is_archive(source)):
        return copy_in(imports.read(source), target, on_progress=on_progress)
    target.parent.mkdir(parents=True, exist_ok=True)
    with unpacked(source, target.parent, limits) as (inner, problems):
        copied = copy_in(imports.read(inner), target, move=True, on_progress=on_progress)
        copied.problems[:0] = problems
        return copied


@contextlib.contextmanager
def unpacked(
    source: Path, beside: Path | None = None, limits: Limits | None = None
) -> Iterator[tuple[Path, list[Problem]]]:
    """An archive's pictures, captions and lists in a folder that is removed afterwards.

    Yields:
        What to read: the folder that all lies in, or its dataset TOML or JSON; and what was refused.

    Raises:
        DatasetError: it is damaged, over a limit, or there is no room.
    """
    holder = Path(tempfile.mkdtemp(prefix=".loratui-import-", dir=beside))
    try:
        place = holder / (source.name.split(".")[0] or "files")  # folders are named after it
        report = unpack(source, place, keep=_wanted, limits=limits)
        yield _listing(_single_folder(place)), report.problems
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _wanted(name: str) -> bool:
    base = PurePosixPath(name.replace("\\", "/")).name
    return base.lower().endswith(_KEPT) and not base.startswith("._") and "__MACOSX" not in name


def _single_folder(folder: Path) -> Path:
    """The folder inside, where an archive wraps all in one that is not a kohya folder itself."""
    while True:
        inner = list(folder.iterdir())
        wrapped = len(inner) == 1 and inner[0].is_dir()
        if not wrapped or imports.detect(folder) == "kohya-folders":
            return folder
        folder = inner[0]


def _listing(folder: Path) -> Path:
    """The one dataset TOML or kohya JSON of the folder when all it names lies inside, else the folder."""
    tables = list(folder.glob("*.toml"))
    if len(tables) == 1:
        with contextlib.suppress(DatasetError):
            found = imports.read_kohya_toml(tables[0])
            inside = all(
                i.path.resolve().is_relative_to(folder.resolve()) for p in found.parts for i in p.items
            )
            if found.images and inside:
                return tables[0]
    lists = list(folder.glob("*.json"))
    if len(lists) == 1 and not any((folder / name).is_file() for name in imports.METADATA):
        with contextlib.suppress(DatasetError):
            if imports.read_kohya_json(lists[0]).images:
                return lists[0]
    return folder


def copy_in(
    found: Found,
    target: Path,
    *,
    move: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Copied:
    """Copy what was found into `target`.

    Kohya folders keep their names below it; each subset of a kohya TOML gets a folder of its own, and
    regularisation pictures go beside it (`NAME-reg`).

    Raises:
        DatasetError: the target cannot be written; pictures copied so far stay.
    """
    report = Copied(found.layout, settings=dict(found.settings), problems=list(found.problems))
    sources: dict[Path, Placed] = {}
    done = 0
    for part in found.parts:
        placed = _place_of(found, part, target)
        sources.setdefault(placed.path, placed)
        folder = placed.path / part.name if found.layout == "kohya-folders" else placed.path
        for item in part.items:
            try:
                _copy(item, folder, report, move)
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT} and not _readable(
                    item.path
                ):
                    _left_out(report, item, error)
                elif error.errno in {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES}:
                    raise DatasetError(
                        f"{folder} cannot be written: {error.strerror}.",
                        "Make room there; what was copied stays.",
                    ) from error
                else:
                    _left_out(report, item, error)
            done += 1
            if on_progress is not None and (done % 50 == 0 or done == found.images):
                on_progress(done, found.images)
    report.sources = tuple(sources.values())
    return report


def _readable(path: Path) -> bool:
    return os.access(path, os.R_OK)


def _left_out(report: Copied, item: Item, error: OSError) -> None:
    why = error.strerror or str(error)
    report.problems.append(Problem(item.rel, "unreadable-file", "error", f"is left out: {why}."))


def _place_of(found: Found, part: Part, target: Path) -> Placed:
    base = target.with_name(target.name + "-reg") if part.regularisation else target
    if found.layout == "kohya-folders":
        return Placed(base, 1, "", part.regularisation)
    if found.layout == "kohya-toml":
        return Placed(base / part.name, part.repeats, part.caption, part.regularisation)
    return Placed(base)


def _copy(item: Item, folder: Path, report: Copied, move: bool) -> None:
    place = folder / item.rel
    if place.is_file() and filecmp.cmp(item.path, place, shallow=False):
        report.present += 1
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    free = _free(place)
    if free != place:
        report.renamed += 1
        message = f"a file of this name is there; it became {free.name}."
        report.problems.append(Problem(item.rel, "renamed", "info", message))
    _caption(item, free, report)
    if item.mask is not None:
        _put_mask(item.mask, free.with_name(free.stem + BESIDE))
        report.masks += 1
    _put(item.path, free, move)  # the picture last: it appears with its caption
    report.images += 1


def _free(place: Path) -> Path:
    """A name whose stem nothing uses yet, so that captions never mix.

    A caption that is there without any picture is taken over by no one either.
    """
    stem, number = place.stem, 2
    free = place
    while any(os.path.lexists(free.with_suffix(s)) for s in (*CAPTIONS, *SUFFIXES, free.suffix)):
        free = place.with_name(f"{stem}-{number}{place.suffix}")
        number += 1
    return free


def _caption(item: Item, place: Path, report: Copied) -> None:
    if item.caption is None:
        old = read_caption(item.path)
        if old.exists:
            _put(old.path, place.with_suffix(old.path.suffix), False)
            report.captions += 1
    elif item.caption:
        with open(place.with_suffix(".txt"), "x", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(item.caption + "\n")
        report.captions += 1


def _put_mask(source: Path, place: Path) -> None:
    """Copy a mask; one of another format becomes the PNG that its new name says."""
    if source.suffix.lower() != ".png":
        with contextlib.suppress(DatasetError):
            grey = open_mask(Mask(source))
            with open(place, "xb") as file:
                grey.save(file, "PNG")
            return
    _put(source, place, False)


def _put(source: Path, place: Path, move: bool) -> None:
    """Copy (or move) a file under a temporary name, then give it its own, unless that is taken."""
    temporary = place.with_name(f".loratui-{os.getpid()}.tmp")
    try:
        if move:
            source.rename(temporary)
        else:
            shutil.copyfile(source, temporary)
            with contextlib.suppress(OSError):
                shutil.copystat(source, temporary)
            temporary.chmod(temporary.stat().st_mode | 0o600)
        try:
            os.link(temporary, place)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if os.path.lexists(place):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            temporary.rename(place)
    finally:
        temporary.unlink(missing_ok=True)


def without_captions(found: Found) -> Found:
    """The same pictures, without the captions the layout gives them."""
    parts = tuple(replace(p, items=tuple(replace(i, caption="") for i in p.items)) for p in found.parts)
    return replace(found, parts=parts)
