"""Copy pictures with their captions into a project, from a folder, a zip or a tar. Nothing is overwritten.

Archives are read entry by entry: no path leaves the target, links and devices are refused, and counts and
sizes are limited while they stream, so that a hostile archive ends in a row of the report.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from loratui.dataset import imports
from loratui.dataset.copying import unpacked
from loratui.dataset.imports import Layout
from loratui.dataset.scan import SUFFIXES, Source, walk_sources
from loratui.dataset.sidecar import SUFFIXES as CAPTION_SUFFIXES
from loratui.errors import DatasetError, Problem

if TYPE_CHECKING:
    from loratui.project.project import Project

MAX_FILES = 200_000
MAX_FILE_BYTES = 512 * 1024**2
MAX_TOTAL_BYTES = 200 * 1024**3
MAX_RATIO = 200
"""An entry that grows more than this when it is unpacked is a bomb; pictures hardly shrink at all."""

_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""What unpacking damaged archives raises; OSError is for the disks."""

_LISTS = frozenset({".csv", ".jsonl"})
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tbz2", ".txz")


@dataclass(slots=True)
class Imported:
    """What an import did.

    Attributes:
        images: pictures copied.
        captions: captions copied.
        present: pictures left out because the same bytes lie at their place already.
        renamed: pictures that got another name because theirs was taken.
        left: other files that lay there: neither pictures nor captions of one.
        layout: whose way of laying out a data set it was.
        problems: what was refused, and why.
        broken: why the archive ended early, empty when it did not.
    """

    images: int = 0
    captions: int = 0
    present: int = 0
    renamed: int = 0
    left: int = 0
    layout: str = "folder"
    problems: list[Problem] = field(default_factory=list)
    broken: str = ""

    def as_json(self) -> dict[str, Any]:
        """What `loratui import --json` prints."""
        return {
            "images": self.images,
            "captions": self.captions,
            "present": self.present,
            "renamed": self.renamed,
            "left": self.left,
            "layout": self.layout,
            "problems": [p.as_dict() for p in self.problems],
        }


@dataclass(frozen=True, slots=True)
class _Entry:
    """A picture or caption to copy: its place below the target, and how to open it."""

    rel: PurePosixPath
    open: Callable[[], IO[bytes]]


def is_archive(path: Path) -> bool:
    """Whether the name is one of a zip or tar."""
    return path.name.lower().endswith(_ARCHIVES)


def import_pictures(
    source: Path, target: Path, on_progress: Callable[[int, int], None] | None = None
) -> Imported:
    """Copy all pictures and captions of `source` into the folder `target`.

    Args:
        source: a folder, or a zip or tar archive. Sub-folders are kept, kohya's `N_name` too.
        target: made when it is not there.
        on_progress: called with (done, total); total is 0 while it is unknown.

    Raises:
        DatasetError: `source` cannot be read, or `target` cannot be written; pictures copied so far stay.
    """
    report = Imported()
    if source.is_dir():
        found = list(_folder(source))
        report.left = _files_in(source) - len(found)
        _copy(iter(found), len(found), target, report, on_progress)
    elif is_archive(source):
        try:
            with contextlib.closing(_archive(source, report)) as entries:
                _copy(entries, 0, target, report, on_progress)
        except _DAMAGE as error:
            raise _damaged(source, error) from error
        if report.broken and not report.images:
            raise _damaged(source, report.broken)
    elif source.exists():
        raise DatasetError(
            f"{source} is neither a folder nor a zip or tar.", "Give a folder of pictures or an archive."
        )
    else:
        raise DatasetError(f"{source} does not exist.", "Check the path.")
    return report


def _damaged(source: Path, error: Exception | str) -> DatasetError:
    text = str(error).rstrip(".") or type(error).__name__
    return DatasetError(f"{source} cannot be unpacked: {text}.", "The archive may be damaged.")


def import_into(
    project: Project, source: Path, on_progress: Callable[[int, int], None] | None = None
) -> tuple[Imported, Path]:
    """`import_pictures` into a project: into its data set, or into a new source beside it.

    A folder with kohya's `N_name` folders is read as kohya reads it, so loose pictures and such folders are
    not mixed: what does not fit goes to a folder of its own, which is added to loratui.toml.

    Returns:
        The report, and the folder the pictures went to.
    """
    if is_archive(source) and _has_list(source):
        project.cache_dir.mkdir(parents=True, exist_ok=True)
        with unpacked(source, project.cache_dir) as (inner, problems):
            report, target = import_into(project, inner, on_progress)
            report.problems[:0] = problems
            return report, target
    layout = _layout(source)
    if layout is not None:
        return _import_layout(project, source, layout, on_progress)
    first = project.scan_sources()[0].path
    inside = first.is_relative_to(project.root)
    target = first if inside and _fits(source, first) else _free_folder(project.root, source)
    report = import_pictures(source, target, on_progress)
    if any(map(_is_kohya, _tops(source))):
        report.layout = "kohya-folders"
    if target != first and report.images:
        project.add_source(target.relative_to(project.root).as_posix())
    return report, target


def _layout(source: Path) -> Layout | None:
    """The layout of a place whose captions or repeats stand in a file of its own; None for all others."""
    if is_archive(source) or not (source.is_dir() or source.suffix.lower() in {".toml", ".json", *_LISTS}):
        return None
    found = imports.detect(source)
    return found if found in {"kohya-toml", "kohya-json", "imagefolder"} else None


def _import_layout(
    project: Project, source: Path, layout: Layout, on_progress: Callable[[int, int], None] | None
) -> tuple[Imported, Path]:
    """Each part of a data set into a folder of its own, which becomes a source with the part's repeats."""
    found = imports.read(source, layout)
    report = Imported(problems=list(found.problems), layout=layout)
    parts = [part for part in found.parts if part.items]
    first = project.scan_sources()[0].path
    target = first
    for part in parts:
        if part.regularisation:
            message = "are regularisation pictures; this trainer has no use for them, so they are left out."
            report.problems.append(Problem(part.name, "regularisation", "warning", message))
            continue
        empty = next(walk_sources([Source(first)]), None) is None
        plain = part.repeats == 1 and not part.caption
        target = first
        if not (plain and empty and first.is_relative_to(project.root)):
            target = _free_folder(project.root, Path(part.name))
        before = report.images
        entries = [entry for item in part.items for entry in _item_entries(item)]
        _copy(iter(entries), len(entries), target, report, on_progress)
        if target != first and report.images > before:
            project = project.add_source(
                target.relative_to(project.root).as_posix(), part.repeats, part.caption
            )
    return report, target


def _has_list(source: Path) -> bool:
    """Whether an archive holds a list that tells what its pictures are: names only are looked at."""
    names = [PurePosixPath(name.replace("\\", "/")) for name in names_in(source)]
    tops = {name.parts[0] for name in names if name.parts and not name.name.startswith(".")} - {"__MACOSX"}
    depth = 2 if len(tops) == 1 else 1  # one folder may wrap it all
    lists = [n for n in names if len(n.parts) <= depth and n.suffix.lower() in {*_LISTS, ".toml", ".json"}]
    return any(n.name in imports.METADATA or n.suffix.lower() in {".toml", ".json"} for n in lists)


def _files_in(folder: Path) -> int:
    """Files of a folder and below, without hidden ones."""
    count = 0
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += sum(not name.startswith(".") for name in files)
    return count


def _item_entries(item: imports.Item) -> Iterator[_Entry]:
    rel = PurePosixPath(item.rel)
    yield _Entry(rel, _opener(item.path))
    if item.caption is not None:
        data = (item.caption + "\n").encode("utf-8", "replace")
        yield _Entry(rel.with_suffix(".txt"), lambda: io.BytesIO(data))
        return
    for suffix in CAPTION_SUFFIXES:
        caption = item.path.with_suffix(suffix)
        if caption.is_file():
            yield _Entry(rel.with_suffix(suffix), _opener(caption))
            break


def _fits(source: Path, target: Path) -> bool:
    if not target.is_dir() or next(walk_sources([Source(target)]), None) is None:
        return True
    tops = {p.name for p in target.iterdir() if p.is_dir()}
    return any(map(_is_kohya, tops)) == any(map(_is_kohya, _tops(source)))


def _is_kohya(name: str) -> bool:
    number, sign, _ = name.partition("_")
    return bool(sign) and number.isascii() and number.isdecimal() and int(number) >= 1


def _tops(source: Path) -> set[str]:
    """Names of the folders at the top of a folder or archive."""
    if source.is_dir():
        return {p.name for p in source.iterdir() if p.is_dir()}
    return {parts[0] for name in names_in(source) if len(parts := PurePosixPath(name).parts) > 1}


def names_in(archive: Path) -> list[str]:
    """What an archive holds; nothing when it cannot be read: the import itself says what is wrong with it."""
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as zipped:
                return zipped.namelist()
        names: list[str] = []
        most = MAX_RATIO * archive.stat().st_size + MAX_FILE_BYTES
        with tarfile.open(archive, "r:*") as tarred:
            for info in tarred:
                names.append(info.name)
                if info.offset_data + info.size > most or len(names) > MAX_FILES:
                    break  # to look further would unpack a bomb
        return names
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        return []


def _free_folder(root: Path, source: Path) -> Path:
    stem = "".join(
        c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in source.name.split(".")[0]
    )
    stem = f"dataset-{stem.strip('-.') or 'import'}"[:60]
    number = 1
    while (path := root / (stem if number == 1 else f"{stem}-{number}")).exists():
        number += 1
    return path


def _folder(source: Path) -> Iterator[_Entry]:
    for path in walk_sources([Source(source)]):
        rel = PurePosixPath(path.relative_to(source).as_posix())
        yield _Entry(rel, _opener(path))
        for suffix in CAPTION_SUFFIXES:
            caption = path.with_suffix(suffix)
            if caption.is_file():
                yield _Entry(rel.with_suffix(suffix), _opener(caption))
                break


def _opener(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: open(path, "rb")


def _archive(source: Path, report: Imported) -> Generator[_Entry, None, None]:
    if source.name.lower().endswith(".zip"):
        with zipfile.ZipFile(source) as zipped:
            yield from _zip(zipped, report)
    else:
        with tarfile.open(source, "r:*") as tarred:
            yield from _tar(tarred, report)


def _zip(archive: zipfile.ZipFile, report: Imported) -> Iterator[_Entry]:
    for info in archive.infolist():
        if info.is_dir():
            continue
        kind = (info.external_attr >> 16) & 0o170000
        rel = _safe(info.filename, report, regular=kind in {0, 0o100000})
        if rel is None:
            continue
        if info.flag_bits & 1:
            _refuse(report, info.filename, "encrypted", "is encrypted.")
        elif info.file_size > MAX_FILE_BYTES or info.file_size > MAX_RATIO * max(info.compress_size, 1024):
            _refuse(report, info.filename, "too-large", "grows too much when it is unpacked.")
        else:
            yield _Entry(rel, lambda info=info: archive.open(info))  # type: ignore[misc]


def _tar(archive: tarfile.TarFile, report: Imported) -> Iterator[_Entry]:
    for info in archive:
        if info.isdir():
            continue
        rel = _safe(info.name, report, regular=info.isreg())
        if rel is None:
            continue
        if info.size > MAX_FILE_BYTES:
            _refuse(report, info.name, "too-large", "is too large for a picture.")
            continue
        stream = archive.extractfile(info)
        if stream is not None:
            yield _Entry(rel, lambda stream=stream: stream)  # type: ignore[misc]


def _safe(name: str, report: Imported, *, regular: bool) -> PurePosixPath | None:
    """The place of an archive entry below the target; None when it is no picture or caption, or refused."""
    path = PurePosixPath(name.replace("\\", "/"))
    hidden = any(part.startswith(".") and part != ".." for part in path.parts) or "__MACOSX" in path.parts
    if hidden or path.suffix.lower() not in {*SUFFIXES, *CAPTION_SUFFIXES}:
        report.left += not hidden
        return None
    if not regular:
        _refuse(report, name, "not-a-file", "is a link or a device, not a file.")
        return None
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        _refuse(report, name, "outside", "would land outside the project.")
        return None
    if any(len(os.fsencode(part)) > 255 for part in path.parts):
        _refuse(report, name, "long-name", "has a name that is too long.")
        return None
    return path


def _refuse(report: Imported, name: str, code: str, message: str) -> None:
    report.problems.append(Problem(name, code, "error", message))


def _copy(
    entries: Iterator[_Entry],
    total: int,
    target: Path,
    report: Imported,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Copy entries one by one; a picture whose name is taken gets a new one, and its caption with it."""
    names: dict[str, PurePosixPath] = {}  # stem as it came -> stem as it was written
    budget = MAX_TOTAL_BYTES
    done = 0
    # captions of an archive may come before their pictures: those wait
    waiting: list[tuple[PurePosixPath, bytes]] = []
    while True:
        try:
            entry = next(entries)
        except StopIteration:
            break
        except _DAMAGE as error:  # what came before is kept, with its captions
            report.broken = str(error) or type(error).__name__
            _refuse(report, "", "damaged", f"the archive breaks off here: {report.broken}.")
            break
        done += 1
        if done > MAX_FILES:
            _refuse(report, str(entry.rel), "too-many", f"is past the limit of {MAX_FILES} files.")
            break
        try:
            if entry.rel.suffix.lower() in CAPTION_SUFFIXES:
                with entry.open() as stream:
                    waiting.append((entry.rel, stream.read(1 << 20)))
            elif _inside(target / entry.rel, target):
                budget -= _picture(entry, target, report, names, budget)
            else:
                _refuse(report, str(entry.rel), "outside", "would land outside the project, through a link.")
        except _DAMAGE as error:
            _refuse(report, str(entry.rel), "damaged", f"cannot be unpacked: {error}.")
        except OSError as error:
            raise DatasetError(
                f"{target / str(entry.rel)} cannot be copied: {error.strerror or error}.",
                "Check space and modes; what was copied so far stays.",
            ) from error
        if on_progress is not None and done % 20 == 0:
            on_progress(done, total)
    for rel, text in waiting:
        _caption(rel, text, target, report, names)
    if on_progress is not None:
        on_progress(done, total or done)


def _inside(place: Path, target: Path) -> bool:
    """Whether the folder of `place` really lies in `target`, links followed."""
    return place.parent.resolve().is_relative_to(target.resolve())


def _picture(
    entry: _Entry, target: Path, report: Imported, names: dict[str, PurePosixPath], budget: int
) -> int:
    """Copy one picture; the count of bytes."""
    place = target / entry.rel
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".loratui-{os.getpid()}.part")
    digest = hashlib.sha256()
    size = 0
    try:
        with entry.open() as stream, open(temporary, "wb") as file:
            while chunk := stream.read(1 << 20):
                size += len(chunk)
                if size > min(MAX_FILE_BYTES, budget):
                    _refuse(report, str(entry.rel), "too-large", "is too large, or the whole import is.")
                    return 0
                digest.update(chunk)
                file.write(chunk)
        stem = str(entry.rel.with_suffix(""))
        number = 1
        while place.exists():
            if _same(place, size, digest.hexdigest()):
                report.present += 1
                names.setdefault(stem, PurePosixPath(place.relative_to(target).with_suffix("")))
                return size
            number += 1
            place = target / entry.rel.with_name(f"{entry.rel.stem}-{number}{entry.rel.suffix}")
        shutil.move(temporary, place)
        report.images += 1
        report.renamed += number > 1
        names.setdefault(stem, PurePosixPath(place.relative_to(target).with_suffix("")))
    finally:
        temporary.unlink(missing_ok=True)
    return size


def _same(path: Path, size: int, digest: str) -> bool:
    if path.stat().st_size != size:
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == digest


def _caption(
    rel: PurePosixPath, text: bytes, target: Path, report: Imported, names: dict[str, PurePosixPath]
) -> None:
    stem = names.get(str(rel.with_suffix("")))
    if stem is None:  # a text that belongs to no picture
        report.left += 1
        return
    place = target / f"{stem}{rel.suffix}"
    if place.exists():
        if place.read_bytes() != text:
            message = f"differs from the caption {place.name} that is there already, which is kept."
            report.problems.append(Problem(str(rel), "caption-kept", "warning", message))
        return
    try:
        place.write_bytes(text)
    except OSError as error:
        raise DatasetError(
            f"{place} cannot be written: {error.strerror}.", "Check space and modes."
        ) from error
    report.captions += 1
