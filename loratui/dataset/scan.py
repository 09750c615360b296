"""What a data set holds: pictures with size and caption, and everything that is wrong with them.

Only headers are read; a file is decoded only when its end looks cut off. Nothing is ever changed.
Folders are walked down, links followed once. A folder that holds kohya's `N_name` folders is read as kohya
reads it: only those, N repeats each, and `name` as the caption of pictures that have none.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from loratui.config.schema import DataConfig
from loratui.dataset import sidecar
from loratui.dataset.buckets import Bucket, Size
from loratui.dataset.formats import kind_of, need, open_image
from loratui.dataset.framing import PLAIN, Frame, Grids, grids
from loratui.dataset.gently import let_go, sort_gently
from loratui.dataset.jxl import jxl_size
from loratui.dataset.masks import Mask, MaskFinder, holds_masks_of_folders, is_mask_folder
from loratui.dataset.pixels import oriented_size, reason
from loratui.errors import DatasetError, Problem

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif", ".jxl"}
)
_BESIDE = re.compile(r"(-masklabel|-condlabel)\.png$", re.IGNORECASE)
_SKIPPED_FOLDERS = frozenset({"@eaDir", "__MACOSX", "__pycache__"})
_KOHYA = re.compile(r"^([0-9]+)_(.*)$", re.DOTALL)
MAX_PIXELS = 300_000_000
"""Pictures above this many px are refused: decoding one takes gigabytes."""
_ANIMATED = frozenset({"GIF", "WEBP", "AVIF", "PNG", "TIFF"})


@dataclass(frozen=True, slots=True)
class Source:
    """A folder of pictures.

    Attributes:
        path: absolute.
        repeats: how often each picture counts in an epoch.
        caption: caption of pictures that have none.
    """

    path: Path
    repeats: int = 1
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """One usable picture, sizes in px after EXIF orientation.

    Attributes:
        path: absolute.
        rel: relative to the project (or to its source, when that lies elsewhere), `/` between parts.
        width: in px.
        height: in px.
        caption: one line, as it is trained.
        caption_path: the sidecar, None when there is none.
        repeats: of its source or kohya folder.
        source: the source folder it came from.
        problems: findings about this picture.
        frame: how it is turned and cropped, chosen by hand.
        mask: which part of it counts, None for all of it.
        lines: of its caption, where there are several.
    """

    path: Path
    rel: str
    width: int
    height: int
    caption: str
    caption_path: Path | None
    repeats: int
    source: Path
    problems: tuple[Problem, ...] = ()
    frame: Frame = PLAIN
    mask: Mask | None = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BucketCount:
    """How many pictures fall into one bucket; `repeated` counts each as often as it repeats."""

    width: int
    height: int
    images: int
    repeated: int


@dataclass(frozen=True, slots=True)
class Scan:
    """The result of `scan`: usable pictures in training order, their buckets, and all findings."""

    pictures: tuple[Picture, ...] = ()
    problems: tuple[Problem, ...] = ()
    buckets: tuple[BucketCount, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Findings that keep a picture or a folder out of the training."""
        return tuple(p for p in self.problems if p.severity == "error")

    def as_json(self) -> dict[str, object]:
        """What `loratui scan --json` prints."""
        return {
            "images": len(self.pictures),
            "buckets": [
                {"width": b.width, "height": b.height, "images": b.images, "repeated": b.repeated}
                for b in self.buckets
            ],
            "framed": sum(not p.frame.plain for p in self.pictures),
            "masks": sum(p.mask is not None for p in self.pictures),
            "problems": [p.as_dict() for p in self.problems],
        }


@dataclass(frozen=True, slots=True)
class Look:
    """Where `scan` looks.

    Attributes:
        header: size after EXIF orientation and frames of a picture; raises DatasetError for an unusable one.
        caption: the caption of a picture; raises DatasetError for an unreadable one.
    """

    header: Callable[[Path], tuple[Size, int]]
    caption: Callable[[Path], sidecar.Caption]


def scan(
    sources: Iterable[Source],
    *,
    root: Path | None = None,
    data: DataConfig | None = None,
    on_progress: Callable[[int], None] | None = None,
    look: Look | None = None,
    frames: Mapping[Path, Frame] | None = None,
    alpha: Container[Path] = (),
) -> Scan:
    """Read all sources.

    Args:
        sources: folders, in order; a picture that two of them hold counts once, for the first.
        root: the project; names are given relative to it.
        data: settings the buckets are made from.
        on_progress: called with the count of pictures read, now and then.
        look: where header and caption of a picture come from; the disk, unless an index knows them.
        frames: pictures that are turned or cropped by hand.
        alpha: pictures whose alpha channel is their mask.
    """
    data = data or DataConfig()
    look = look or Look(read_header, sidecar.read_caption)
    frames, masks = frames or {}, MaskFinder(SUFFIXES)
    walk = _Walk(root)
    for source in sources:
        walk.source(source)
    pictures: list[Picture] = []
    for found in walk.files:
        picture = _read(found, walk.problems, look)
        if picture is not None:
            frame, mask = frames.get(found.path, PLAIN), masks.of(found.path, found.path in alpha)
            pictures.append(
                picture if frame.plain and mask is None else replace(picture, frame=frame, mask=mask)
            )
        if on_progress is not None and len(pictures) % 200 == 0:
            on_progress(len(pictures))
    walk.end()
    pictures = _check_shared(pictures)
    pictures.sort(key=lambda p: natural_key(p.rel))
    return _bucketed(pictures, walk.problems, data)


def rebucket(found: Scan, data: DataConfig) -> Scan:
    """The same pictures in the buckets of other settings, without a look at the disk."""
    own = {id(f) for p in found.pictures for f in p.problems}
    general = [f for f in found.problems if id(f) not in own]
    pictures = list(found.pictures)
    for index, picture in enumerate(pictures):
        if picture.problems and any(f.code == "small-image" for f in picture.problems):
            kept = tuple(f for f in picture.problems if f.code != "small-image")
            pictures[index] = replace(picture, problems=kept)
    return _bucketed(pictures, general, data)


def _bucketed(pictures: list[Picture], general: Iterable[Problem], data: DataConfig) -> Scan:
    """Buckets, and pictures that are small for theirs."""
    known = grids(data)
    landed = [buckets_of_picture(picture, known) for picture in pictures]
    for index, (picture, own) in enumerate(zip(pictures, landed, strict=True)):
        finding = _check_size(picture, own[-1])
        if finding is not None:
            pictures[index] = replace(picture, problems=(*picture.problems, finding))
    problems = (*general, *(f for p in pictures for f in p.problems))
    return Scan(tuple(pictures), problems, _counted(pictures, landed))


def buckets_of_picture(picture: Picture, known: Grids) -> tuple[Bucket, ...]:
    """Where a picture lands at each resolution, with its scale and crop; the lowest first."""
    return known.buckets(picture.width, picture.height, picture.frame)


def count_buckets(pictures: Iterable[Picture], known: Grids) -> tuple[BucketCount, ...]:
    """Pictures per bucket, over all resolutions, the fullest first."""
    pictures = list(pictures)
    return _counted(pictures, (buckets_of_picture(picture, known) for picture in pictures))


def _counted(pictures: Iterable[Picture], landed: Iterable[tuple[Bucket, ...]]) -> tuple[BucketCount, ...]:
    images: Counter[Size] = Counter()
    repeated: Counter[Size] = Counter()
    for picture, own in zip(pictures, landed, strict=True):
        for bucket in own:
            size = bucket.width, bucket.height
            images[size] += 1
            repeated[size] += picture.repeats
    order = sorted(images, key=lambda s: (-repeated[s], s))
    return tuple(BucketCount(w, h, images[w, h], repeated[w, h]) for w, h in order)


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts `2.png` before `10.png`."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text.casefold())
    return (*((0, int(p), "") if p[0] in "0123456789" else (1, 0, p) for p in parts), (2, 0, text))


@dataclass(frozen=True, slots=True)
class _Found:
    path: Path
    rel: str
    source: Path
    repeats: int
    caption: str


class _Walk:
    """Collects picture files of all sources, each real file and folder once."""

    def __init__(self, root: Path | None) -> None:
        self.root = root
        self.files: list[_Found] = []
        self.problems: list[Problem] = []
        self._folders: set[tuple[int, int]] = set()
        self._seen: set[str] = set()
        self._runs = None if root is None else str(root / "runs")  # samples are no training pictures

    def source(self, source: Source) -> None:
        entries = self._entries(source.path)
        if entries is None:
            return
        kohya = [(e, m) for e in entries if (m := _KOHYA.match(e.name)) and _is_dir(e) and int(m[1]) >= 1]
        if not kohya:
            self._folder(source.path, entries, source, source.repeats, source.caption)
            return
        chosen = {e.name for e, _ in kohya}
        for entry in entries:
            if entry.name in chosen or _hidden(entry.name):
                continue
            if _is_dir(entry) and holds_masks_of_folders(Path(entry.path)):
                continue
            if _is_dir(entry) or _is_picture(entry.name):
                self._warn(
                    Path(entry.path),
                    "not-in-kohya-folder",
                    "is skipped: only pictures in `N_name` folders count here.",
                )
        for entry, match in kohya:
            inner = self._entries(Path(entry.path))
            if inner is not None:
                inner[:] = [e for e in inner if not _is_dir(e)]
                caption = source.caption or match[2]
                self._folder(Path(entry.path), inner, source, source.repeats * int(match[1]), caption)

    def end(self) -> None:
        """Forget what was found."""
        let_go(self._seen)
        let_go(self.files)

    def _folder(
        self, folder: Path, entries: list[os.DirEntry[str]], source: Source, repeats: int, caption: str
    ) -> None:
        names = [entry.name for entry in entries]
        for entry in entries:
            if _hidden(entry.name):
                continue
            if _is_dir(entry):
                aside = entry.path == self._runs or is_mask_folder(Path(entry.path), names, SUFFIXES)
                inner = None if aside else self._entries(Path(entry.path))
                if inner is not None:
                    self._folder(Path(entry.path), inner, source, repeats, caption)
            elif _is_picture(entry.name) and entry.path not in self._seen:
                self._seen.add(entry.path)
                path = folder / entry.name
                self.files.append(_Found(path, self._rel(path, source.path), source.path, repeats, caption))
        let_go(entries)

    def _entries(self, folder: Path) -> list[os.DirEntry[str]] | None:
        """Its folders and pictures, sorted; None when it was walked (a link loop) or cannot be read."""
        try:
            stat = folder.stat()
            identity = (stat.st_dev, stat.st_ino)
            if identity in self._folders:
                return None
            self._folders.add(identity)
            with os.scandir(folder) as found:
                # captions and the like are none of this walk's business
                kept = (e for e in found if os.path.splitext(e.name)[1].lower() in SUFFIXES or _is_dir(e))  # noqa: PTH122
                return sort_gently(kept, lambda e: e.name)
        except FileNotFoundError:
            self._error(
                folder, "missing-folder", "this folder does not exist.", "Create it, or mend loratui.toml."
            )
        except NotADirectoryError:
            self._error(folder, "not-a-folder", "this is a file, not a folder of pictures.")
        except OSError as error:
            message = f"this folder cannot be read: {error.strerror}."
            self._error(folder, "unreadable-folder", message, "Check its owner and mode.")
        return None

    def _rel(self, path: Path, source: Path) -> str:
        for base in (self.root, source.parent):
            if base is not None:
                try:
                    return path.relative_to(base).as_posix()
                except ValueError:
                    continue
        return path.as_posix()

    def _error(self, path: Path, code: str, message: str, advice: str = "") -> None:
        self.problems.append(Problem(str(path), code, "error", message, advice=advice))

    def _warn(self, path: Path, code: str, message: str) -> None:
        self.problems.append(Problem(str(path), code, "warning", message))


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points at itself
        return False


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _SKIPPED_FOLDERS


def _is_picture(name: str) -> bool:
    if name.startswith(".") or _BESIDE.search(name):
        return False
    return Path(name).suffix.lower() in SUFFIXES


def _read(found: _Found, problems: list[Problem], look: Look) -> Picture | None:
    """Header, end of file and caption of one picture; None and an error in `problems` when it is unusable."""
    path, name = found.path, found.rel
    try:
        size, frames = look.header(path)
    except DatasetError as error:
        code = error.problems[0].code if error.problems else "unreadable-image"
        problems.append(Problem(name, code, "error", error.message, advice=error.advice))
        return None
    notes: list[Problem] = []
    if frames > 1:
        notes.append(Problem(name, "animated", "info", f"has {frames} frames; the first one is used."))
    if any(0xDC80 <= ord(c) <= 0xDCFF for c in name):
        notes.append(
            Problem(name, "name-not-utf8", "info", "the file name is not UTF-8; it is used as it is.")
        )
    caption, where, lines = _caption(found, notes, look)
    return Picture(path, name, *size, caption, where, found.repeats, found.source, tuple(notes), lines=lines)


def _caption(found: _Found, notes: list[Problem], look: Look) -> tuple[str, Path | None, tuple[str, ...]]:
    name = found.rel
    try:
        read = look.caption(found.path)
    except DatasetError as error:
        notes.append(Problem(name, "unreadable-caption", "warning", error.message, advice=error.advice))
        return found.caption, None, ()
    if not read.exists:
        if found.caption:
            notes.append(
                Problem(
                    name,
                    "caption-from-folder",
                    "info",
                    f"has no caption; its folder gives {found.caption!r}.",
                )
            )
        else:
            notes.append(
                Problem(name, "missing-caption", "warning", f"has no caption file ({read.path.name}).")
            )
        return found.caption, None, ()
    label = read.path.name
    if not read.line:
        notes.append(Problem(name, "empty-caption", "warning", f"its caption {label} is empty."))
    if read.encoding != "utf-8":
        what = (
            "begins with a byte order mark"
            if read.encoding == "utf-8-sig"
            else f"is {read.encoding}, not UTF-8"
        )
        code = "caption-bom" if read.encoding == "utf-8-sig" else "caption-not-utf8"
        notes.append(
            Problem(
                name,
                code,
                "warning",
                f"its caption {label} {what}; it is read right here, other trainers stumble.",
            )
        )
    if "\n" in read.text:
        notes.append(Problem(name, "caption-lines", "info", f"its caption {label} has several lines."))
    return read.line or found.caption, read.path, read.lines if len(read.lines) > 1 else ()


def read_header(path: Path) -> tuple[Size, int]:
    """Size after EXIF orientation, and frames, of a picture; decoded only when the file looks cut off.

    Raises:
        DatasetError: with one problem, whose code says what is wrong with the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            size, frames = _jxl_header(path) or _pillow_header(path)
    except DatasetError:
        raise
    except Image.DecompressionBombError as error:
        raise _unusable(path, "too-large", "has too many pixels to decode.", "Shrink it.") from error
    except PermissionError as error:
        raise _unusable(
            path, "unreadable-file", "cannot be read: permission denied.", "Check its mode."
        ) from error
    except Exception as error:  # damaged files raise OSError, SyntaxError, struct.error, ValueError ...
        code = "truncated-image" if "truncated" in str(error).lower() else "corrupt-image"
        raise _unusable(
            path, code, f"cannot be decoded: {reason(error)}.", "It is left out of the training."
        ) from error
    if min(size) < 1:
        raise _unusable(path, "corrupt-image", "has no pixels.", "It is left out of the training.")
    return size, frames


def _pillow_header(path: Path) -> tuple[Size, int]:
    with open_image(path) as image:
        size = oriented_size(image)
        frames = int(getattr(image, "n_frames", 1)) if image.format in _ANIMATED else 1
        _check_pixels(path, size)
        if _looks_cut(path, image.format or ""):
            image.load()
    return size, frames


def _jxl_header(path: Path) -> tuple[Size, int] | None:
    """Of a JPEG XL file, None of all others; nothing is decoded."""
    with open(path, "rb") as file:
        if kind_of(file) != "jxl":
            return None
        need(path, "jxl")
        file.seek(0)
        size = jxl_size(file)
    _check_pixels(path, size)
    return size, 1


def _check_pixels(path: Path, size: Size) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        message = f"has {size[0]} x {size[1]} px, too many to decode."
        raise _unusable(path, "too-large", message, "Shrink it.")


def _unusable(path: Path, code: str, message: str, advice: str) -> DatasetError:
    return DatasetError(message, advice, (Problem(str(path), code, "error", message, advice=advice),))


def _looks_cut(path: Path, kind: str) -> bool:
    """Whether the end of the file lacks what its format ends with (a few bytes read, nothing decoded)."""
    if kind not in {"JPEG", "PNG", "WEBP", "GIF"}:
        return False
    with open(path, "rb") as file:
        if kind == "WEBP":
            head = file.read(8)
            return path.stat().st_size < int.from_bytes(head[4:8], "little") + 8
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 1024))
        tail = file.read()
    mark = {"JPEG": b"\xff\xd9", "PNG": b"IEND", "GIF": b";"}[kind]
    return mark not in tail


def _check_shared(pictures: list[Picture]) -> list[Picture]:
    """Mark pictures that share one sidecar (`a.jpg` and `a.png`)."""
    owners = Counter(p.caption_path for p in pictures if p.caption_path is not None)
    shared = {path for path, count in owners.items() if count > 1}
    checked = []
    for picture in pictures:
        if picture.caption_path in shared and picture.caption_path is not None:
            message = f"shares its caption {picture.caption_path.name} with another picture of the same stem."
            note = Problem(picture.rel, "shared-caption", "warning", message, advice="Rename one of them.")
            picture = replace(picture, problems=(*picture.problems, note))
        checked.append(picture)
    return checked


def _check_size(picture: Picture, bucket: Bucket) -> Problem | None:
    if bucket.upscale >= 2.0:
        message = (
            f"{picture.width} x {picture.height} px is small for its bucket "
            f"{bucket.width} x {bucket.height}: enlarged {bucket.upscale:.1f} times."
        )
        return Problem(picture.rel, "small-image", "warning", message)
    return None


def walk_sources(sources: Iterable[Source]) -> Iterator[Path]:
    """Paths of all picture files, unread: to see quickly whether anything is there."""
    walk = _Walk(None)
    for source in sources:
        walk.source(source)
    paths = [f.path for f in walk.files]
    walk.end()
    return iter(paths)
