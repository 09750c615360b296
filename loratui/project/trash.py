"""Removing a picture means moving it, with its caption and mask, to `.loratui/trash`; it can come back.

    .loratui/trash/20260102-030405-1/item.json     what lies here and where it was, written first
    .loratui/trash/20260102-030405-1/files/0 1 2   the files

A move within a file system is a rename; across, a copy that is flushed before the original goes. An item
that was cut off in the middle says so, and `recover` puts its files back.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratui.dataset import masks
from loratui.dataset.scan import SUFFIXES as PICTURES
from loratui.dataset.sidecar import SUFFIXES as CAPTIONS
from loratui.errors import DatasetError
from loratui.files import sync_folder


@dataclass(frozen=True, slots=True)
class Item:
    """One picture in the trash.

    Attributes:
        id: name of its folder.
        picture: where the picture was.
        files: where each of its files was, the picture first.
        time: unix time of the removal.
        complete: False when the move was cut off.
        folder: where it lies now.
    """

    id: str
    picture: Path
    files: tuple[Path, ...]
    time: float
    complete: bool
    folder: Path

    @property
    def kept(self) -> Path:
        """The picture as it lies in the trash, for a preview."""
        return self.folder / "files" / "0"


class Trash:
    """The trash of one project.

    Args:
        root: the project folder.
        roots: further folders whose files may be moved and put back.
    """

    def __init__(self, root: Path, roots: Sequence[Path] = ()) -> None:
        self.root = root.absolute()
        self.folder = self.root / ".loratui" / "trash"
        self._roots = tuple(Path(os.path.realpath(r)) for r in (root, *roots))

    def put(self, pictures: Iterable[Path]) -> list[Item]:
        """Move pictures away, each with its caption and mask.

        Raises:
            DatasetError: one cannot be moved; it stays whole where it was, those before it are in the trash.
        """
        return [self._put(p.absolute()) for p in pictures]

    def items(self) -> list[Item]:
        """What lies in the trash, the newest first."""
        out: list[Item] = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for folder in self.folder.iterdir():
                item = self._read(folder)
                if item is not None:
                    out.append(item)
        return sorted(out, key=lambda i: (i.time, i.id), reverse=True)

    def restore(self, ids: Iterable[str]) -> list[Item]:
        """Put items back where they were; nothing that is there now is overwritten.

        Raises:
            DatasetError: an item is unknown, or one of its places is taken; it stays in the trash.
        """
        return [self._restore(i) for i in ids]

    def purge(self, ids: Iterable[str]) -> int:
        """Delete items for good, and say how many bytes that freed."""
        freed = 0
        for name in ids:
            item = self._item(name)
            freed += sum(f.stat().st_size for f in (item.folder / "files").glob("*"))
            shutil.rmtree(item.folder)
        return freed

    def recover(self) -> list[Item]:
        """Put back what was cut off in the middle of a move."""
        return [self._restore(i.id) for i in self.items() if not i.complete]

    # --- inside -----------------------------------------------------------------------------------------

    def _put(self, picture: Path) -> Item:
        if not picture.is_file():
            raise DatasetError(f"{picture} is not there any more.", "Scan the dataset again.")
        files = [picture, *_companions(picture)]
        for file in files:
            self._check(file)
        now = time.time()
        try:
            folder = self._fresh_folder(now)
            item = Item(folder.name, picture, tuple(files), now, False, folder)
            self._write(item)
            try:
                for index, file in enumerate(files):
                    _move(file, folder / "files" / str(index))
            except OSError:
                self._restore(item.id)
                raise
            item = Item(item.id, picture, item.files, now, True, folder)
            self._write(item)
        except OSError as error:
            why = error.strerror or str(error)
            raise DatasetError(
                f"{picture} cannot be moved to the trash: {why}.", "Check that its folder is not read-only."
            ) from error
        return item

    def _fresh_folder(self, now: float) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
        for number in range(1, 1_000_000):
            folder = self.folder / f"{stamp}-{number}"
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                (folder / "files").mkdir()
                return folder
        raise OSError(errno.EEXIST, "too many removals in one second")

    def _write(self, item: Item) -> None:
        values = {"time": item.time, "complete": item.complete, "files": [self._key(f) for f in item.files]}
        temporary = item.folder / "item.json.tmp"
        with open(temporary, "w", encoding="ascii") as file:
            json.dump(values, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(item.folder / "item.json")
        sync_folder(item.folder)

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def _read(self, folder: Path) -> Item | None:
        try:
            values: dict[str, Any] = json.loads((folder / "item.json").read_text("ascii"))
            files = tuple(self.root / str(f) for f in values["files"])
            return Item(folder.name, files[0], files, float(values["time"]), bool(values["complete"]), folder)
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return None  # cut off before anything was moved, or not ours

    def _item(self, name: str) -> Item:
        item = (
            self._read(self.folder / name) if name and "/" not in name and name not in {".", ".."} else None
        )
        if item is None:
            raise DatasetError(
                f"There is no {name} in the trash.", "`loratui trash DIR` lists what there is."
            )
        return item

    def _check(self, path: Path) -> None:
        folder = Path(os.path.realpath(path.parent))
        if not any(folder.is_relative_to(r) for r in self._roots):
            raise DatasetError(f"{path} lies outside the project and its sources.", "It is not touched.")

    def _restore(self, name: str) -> Item:
        item = self._item(name)
        waiting = [(item.folder / "files" / str(i), f) for i, f in enumerate(item.files)]
        waiting = [(kept, place) for kept, place in waiting if kept.exists()]
        for kept, place in waiting:
            self._check(place)
            if os.path.lexists(place) and not _same(kept, place):
                raise DatasetError(
                    f"{place} is taken by another file now.", "Move that one away, then restore again."
                )
        try:
            for kept, place in reversed(waiting):  # the picture last: it appears with its caption
                place.parent.mkdir(parents=True, exist_ok=True)
                if os.path.lexists(place):  # cut off after the copy and before the original went
                    kept.unlink()
                else:
                    _move(kept, place)
        except OSError as error:
            why = error.strerror or str(error)
            raise DatasetError(
                f"{item.picture} cannot be put back: {why}.", "It stays in the trash."
            ) from error
        shutil.rmtree(item.folder)
        return item


def _companions(picture: Path) -> list[Path]:
    """Caption files and mask of a picture, unless another picture of the same stem needs them."""
    stem = picture.stem
    for sibling in picture.parent.iterdir():
        if sibling != picture and sibling.stem == stem and sibling.suffix.lower() in PICTURES:
            return []
    found = [picture.with_suffix(s) for s in CAPTIONS]
    found.append(picture.with_name(stem + masks.BESIDE))
    mask = masks.MaskFinder(PICTURES).of(picture)
    if mask is not None and mask.path not in found:
        found.append(mask.path)
    return [f for f in found if os.path.lexists(f)]


def _move(source: Path, target: Path) -> None:
    """Move a file and never overwrite; across file systems the copy is on disk before the original goes."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in {
            errno.EXDEV,
            errno.EPERM,
            errno.ENOTSUP,
            errno.EMLINK,
            errno.ENOSYS,
            errno.EOPNOTSUPP,
        }:
            raise
        _copy(source, target)
    source.unlink()


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def _copy(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    temporary = target.with_name(f".loratui-{os.getpid()}-{target.name[:100]}.tmp")
    try:
        shutil.copy2(source, temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        temporary.replace(target)
        sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
