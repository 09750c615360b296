"""What is known of each picture, in `.loratui/cache/index.sqlite`: a cache, rebuilt when missing or damaged.

`refresh` looks at size and time of each picture and caption and reads only what changed. Quality figures,
hashes and content hashes are added as they become known and forgotten when the picture changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from loratui.config.colours import WHITE, Paper
from loratui.dataset import faces
from loratui.dataset.gently import let_go
from loratui.dataset.headers import header_size, problem_of
from loratui.dataset.measure_pool import Measured, Work, measure_all
from loratui.dataset.quality import Quality
from loratui.dataset.sidecar import SUFFIXES as CAPTIONS
from loratui.dataset.sidecar import read_caption_file
from loratui.errors import DatasetError

VERSION = 3
_OPAQUE = (".jpg", ".jpeg")
_BATCH = 500
_WHOLE = (1 << 64) - 1
_COLUMNS = (
    *("path", "size", "mtime_ns", "width", "height", "frames", "code", "message", "content"),
    *("cap_suffix", "cap_size", "cap_mtime_ns", "caption", "encoding"),
    *("sharpness", "bright_p99", "bright_p5", "aspect", "information", "acuity", "detail"),
    *("phash", "measured", "face"),
)
_SCHEMA = """
CREATE TABLE about (version INTEGER NOT NULL, paper TEXT NOT NULL);
CREATE TABLE pictures (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, width INTEGER, height INTEGER, frames INTEGER,
    code TEXT, message TEXT, content TEXT,
    cap_suffix TEXT, cap_size INTEGER, cap_mtime_ns INTEGER, caption TEXT, encoding TEXT,
    sharpness REAL, bright_p99 REAL, bright_p5 REAL, aspect REAL, information REAL,
    acuity REAL, detail REAL, phash INTEGER, measured TEXT, face TEXT
) WITHOUT ROWID;
"""


@dataclass(slots=True)
class Indexed:
    """One picture as the index knows it. Never changed; not frozen, because that makes ten of them cost as
    much as a hundred, and a list of a hundred thousand waits for it. Paths are made when they are asked for.

    Attributes:
        file: path of the picture, as a string.
        size: of the file in bytes.
        mtime_ns: its time of change.
        width: in px as shown, 0 when it cannot be read.
        height: in px as shown.
        frames: more than 1 in an animation.
        code: short name of what is wrong with the file, empty when nothing is.
        message: the same as a sentence.
        content: SHA-256 of the file, empty when not yet known.
        suffix: of the sidecar, empty when there is none.
        caption: its text.
        encoding: how its bytes were read, empty when there is none.
        quality: figures, None when not yet measured or not measurable.
        phash: perceptual hash, None likewise.
        measured: `ok`, the reason why it could not be measured, or empty when it was not tried yet.
        face: its largest face in fractions of it, empty when it has none, None when that was not looked for.
    """

    file: str
    size: int
    mtime_ns: int
    width: int
    height: int
    frames: int
    code: str
    message: str
    content: str
    suffix: str
    caption: str
    encoding: str
    quality: Quality | None
    phash: int | None
    measured: str
    face: tuple[float, ...] | None = None
    _path: Path | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def path(self) -> Path:
        """Of the picture."""
        if self._path is None:
            self._path = Path(self.file)
        return self._path

    @property
    def caption_path(self) -> Path | None:
        """The sidecar, None when there is none."""
        return Path(self.caption_file) if self.suffix else None

    @property
    def caption_file(self) -> str:
        """The sidecar, or where it would lie, as a string."""
        return os.path.splitext(self.file)[0] + (self.suffix or ".txt")  # noqa: PTH122 -- a tenth of with_suffix

    @property
    def face_share(self) -> float | None:
        """Height of its largest face as a share of its own; 0 without one, None when not looked for."""
        if self.face is None:
            return None
        return round(self.face[3] - self.face[1], 4) if len(self.face) == 4 else 0.0


@dataclass(slots=True)
class Refreshed:
    """What a refresh found: how many of each kind, and which pictures have a new file or caption."""

    added: int = 0
    changed: int = 0
    captions: int = 0
    removed: int = 0
    same: int = 0
    touched: list[Path] = field(default_factory=list)

    @property
    def anything(self) -> bool:
        """Whether something differs from before."""
        return bool(self.added or self.changed or self.captions or self.removed)


class Index:
    """The index of one project.

    Args:
        cache: the project's cache folder; where it cannot be written, the index lives in memory.
        paper: shows through transparent pixels; figures and thumbnails depend on it.

    Attributes:
        rebuilt: why the file on disk was thrown away, empty when it was not.
    """

    def __init__(self, cache: Path, paper: Paper = WHITE) -> None:
        self.paper = paper
        self.path = cache / "index.sqlite"
        self.cache = cache
        self.rebuilt = ""
        self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            return self._connect()
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or os.access(self.cache, os.W_OK) is False:
                return self._prepare(sqlite3.connect(":memory:", check_same_thread=False))
            self.rebuilt = str(error)
        except sqlite3.DatabaseError as error:
            self.rebuilt = str(error)
        except OSError:
            return self._prepare(sqlite3.connect(":memory:", check_same_thread=False))
        for name in ("index.sqlite", "index.sqlite-journal", "index.sqlite-wal", "index.sqlite-shm"):
            with contextlib.suppress(OSError):
                (self.cache / name).unlink()
        try:
            return self._connect()
        except (sqlite3.Error, OSError):
            return self._prepare(sqlite3.connect(":memory:", check_same_thread=False))

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=5.0, check_same_thread=False)
        try:
            return self._prepare(db)
        except BaseException:
            db.close()
            raise

    def _prepare(self, db: sqlite3.Connection) -> sqlite3.Connection:
        # a cache on any file system: no WAL (network folders lack it), no waiting for the disk
        db.execute("PRAGMA journal_mode=TRUNCATE")
        db.execute("PRAGMA synchronous=OFF")
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            db.executescript(_SCHEMA)
            db.execute("INSERT INTO about VALUES (?, ?)", (VERSION, repr(self.paper)))
            db.commit()
        elif tables != {"about", "pictures"} or db.execute("SELECT version FROM about").fetchone() != (
            VERSION,
        ):
            raise sqlite3.DatabaseError("of another version")
        found = tuple(row[1] for row in db.execute("PRAGMA table_info(pictures)"))
        if found != _COLUMNS or db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("damaged")
        if db.execute("SELECT paper FROM about").fetchone() != (repr(self.paper),):
            self._other_paper(db)
        return db

    def _other_paper(self, db: sqlite3.Connection) -> None:
        """What shows through transparent pixels is another: their pictures are measured again."""
        see_through = [
            (key,)
            for (key,) in db.execute("SELECT path FROM pictures")
            if not os.fsdecode(key).lower().endswith(_OPAQUE)
        ]
        db.executemany("UPDATE pictures SET measured = '' WHERE path = ?", see_through)
        db.execute("UPDATE about SET paper = ?", (repr(self.paper),))
        db.commit()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # --- keeping up ---------------------------------------------------------------------------------------

    def refresh(
        self,
        pictures: Iterable[Path],
        on_progress: Callable[[int], None] | None = None,
        forget: bool = True,
    ) -> Refreshed:
        """Bring the index to what lies on disk.

        Args:
            pictures: the picture files to look at.
            on_progress: called with the count of pictures looked at, now and then.
            forget: whether these are all there are, so that the index forgets others.
        """
        select = "SELECT path, size, mtime_ns, cap_suffix, cap_size, cap_mtime_ns FROM pictures"
        if forget:
            known = {row[0]: row[1:] for row in self._db.execute(select)}
        else:
            pictures = list(pictures)
            rows = (
                self._db.execute(f"{select} WHERE path = ?", (os.fsencode(p),)).fetchone() for p in pictures
            )
            known = {row[0]: row[1:] for row in rows if row is not None}
        report = Refreshed()
        folders: dict[str, dict[str, os.stat_result]] = {}
        for done, picture in enumerate(pictures, 1):
            key = os.fsencode(picture)
            old = known.pop(key, None)
            try:
                stat = picture.stat()
            except OSError:
                known.setdefault(key, (0, 0, "", 0, 0))
                continue
            suffix, cap_size, cap_time = _caption_state(picture, folders)
            if old is None or old[:2] != (stat.st_size, stat.st_mtime_ns):
                self._read(key, picture, stat)
                self._read_caption(key, picture, suffix, cap_size, cap_time)
                report.added += old is None
                report.changed += old is not None
                report.touched.append(picture)
            elif old[2:] != (suffix, cap_size, cap_time):
                self._read_caption(key, picture, suffix, cap_size, cap_time)
                report.captions += 1
                report.touched.append(picture)
            else:
                report.same += 1
            if done % _BATCH == 0:
                self._db.commit()
                if on_progress is not None:
                    on_progress(done)
        for listing in folders.values():
            let_go(listing)
        gone = [(key,) for key in known]
        report.removed = (
            self._db.executemany("DELETE FROM pictures WHERE path = ?", gone).rowcount if gone else 0
        )
        self._db.commit()
        return report

    def _read(self, key: bytes, picture: Path, stat: os.stat_result) -> None:
        width = height = frames = 0
        code = message = ""
        try:
            (width, height), frames = header_size(picture)
        except DatasetError as error:
            problem = problem_of(error, picture)
            code, message = problem.code, problem.message
        columns = "path, size, mtime_ns, width, height, frames, code, message, content, measured"
        self._db.execute(
            f"INSERT OR REPLACE INTO pictures ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', '')",
            (key, stat.st_size, stat.st_mtime_ns, width, height, frames, code, _clean(message)),
        )

    def _read_caption(self, key: bytes, picture: Path, suffix: str, size: int, time_ns: int) -> None:
        caption = encoding = ""
        if suffix:
            try:
                found = read_caption_file(picture.with_suffix(suffix))
                caption, encoding = found.text, found.encoding
            except DatasetError:
                encoding = "unreadable"
        self._db.execute(
            "UPDATE pictures SET cap_suffix=?, cap_size=?, cap_mtime_ns=?, caption=?, encoding=? "
            "WHERE path=?",
            (suffix, size, time_ns, _clean(caption), encoding, key),
        )

    # --- reading ------------------------------------------------------------------------------------------

    def rows(self) -> list[Indexed]:
        """All pictures, by path."""
        select = f"SELECT {', '.join(_COLUMNS)} FROM pictures ORDER BY path"
        return [_indexed(row) for row in self._db.execute(select)]

    def get(self, picture: Path) -> Indexed | None:
        """One picture."""
        select = f"SELECT {', '.join(_COLUMNS)} FROM pictures WHERE path = ?"
        row = self._db.execute(select, (os.fsencode(picture),)).fetchone()
        return _indexed(row) if row else None

    def of_caption(self, caption: Path) -> list[Path]:
        """The pictures a sidecar belongs to: usually one, more when they share it."""
        stem = os.fsencode(caption.with_suffix(""))
        keys = self._between(stem + b".", stem + b"/")
        return [p for key in keys if (p := Path(os.fsdecode(key))).stem == caption.stem]

    def holds_below(self, folder: Path) -> bool:
        """Whether a picture lies in this folder or deeper."""
        name = os.fsencode(folder)
        return next(iter(self._between(name + b"/", name + b"0")), None) is not None

    def _between(self, first: bytes, last: bytes) -> Iterator[bytes]:
        select = "SELECT path FROM pictures WHERE path >= ? AND path < ? ORDER BY path"
        return (key for (key,) in self._db.execute(select, (first, last)).fetchall())

    # --- figures ------------------------------------------------------------------------------------------

    def unmeasured(self) -> list[Path]:
        """Readable pictures whose figures are not known."""
        select = "SELECT path FROM pictures WHERE measured = '' AND code = '' ORDER BY path"
        return [Path(os.fsdecode(key)) for (key,) in self._db.execute(select)]

    def count_unmeasured(self) -> int:
        """How many pictures `unmeasured` would give."""
        select = "SELECT count(*) FROM pictures WHERE measured = '' AND code = ''"
        return int(self._db.execute(select).fetchone()[0])

    def hashes_stamp(self) -> tuple[int, ...]:
        """Other numbers whenever the perceptual hashes are others."""
        select = (
            "SELECT count(phash), total(phash & 4294967295), total(phash >> 32 & 4294967295) FROM pictures"
        )
        return tuple(int(value) for value in self._db.execute(select).fetchone())

    def measure(self, workers: int = 0, thumbnails: bool = False, **limits: Any) -> Iterator[Measured]:
        """Measure what is not measured yet, in worker processes, and keep the figures as they come.

        Closing the iterator stops the work; what is done is kept.

        Args:
            workers: processes; 0 for one less than there are cores.
            thumbnails: whether to make those too, see `thumbnail_path`.
            **limits: `seconds` and `memory` of `measure_all`.
        """
        select = "SELECT path FROM pictures WHERE measured = '' AND code = '' ORDER BY path"
        # bytes: a hundred thousand objects that the garbage collector walks would stop the keys
        keys = [key for (key,) in self._db.execute(select)]

        def work() -> Iterator[Work]:
            for path in map(Path, map(os.fsdecode, keys)):
                yield Work(path, self.thumbnail_path(path) if thumbnails else None, self.paper)

        ready = measure_all(work(), workers, **limits)
        try:
            for number, found in enumerate(ready, 1):
                self.keep(found)
                if number % 50 == 0:
                    self._db.commit()
                yield found
        finally:
            ready.close()
            self._db.commit()

    def unlooked(self) -> list[Path]:
        """Measured pictures whose faces were not looked for; none where no detector is installed."""
        if not faces.can_see():
            return []
        select = "SELECT path FROM pictures WHERE measured = 'ok' AND face IS NULL ORDER BY path"
        return [Path(os.fsdecode(key)) for (key,) in self._db.execute(select)]

    def look_for_faces(self, workers: int = 0, **limits: Any) -> Iterator[Measured]:
        """Look for the largest face of each picture, in worker processes, and keep what is found.

        It takes several times as long as `measure`, so it is a pass of its own.

        Args:
            workers: processes; 0 for one less than there are cores.
            **limits: `seconds` and `memory` of `measure_all`.
        """
        work = (Work(p, None, self.paper, True) for p in self.unlooked())
        ready = measure_all(work, workers, **limits)
        try:
            for number, found in enumerate(ready, 1):
                words = " ".join(f"{x:.4f}" for x in found.face or ())
                self._db.execute("UPDATE pictures SET face=? WHERE path=?", (words, os.fsencode(found.path)))
                if number % 50 == 0:
                    self._db.commit()
                yield replace(found, face=found.face or ())
        finally:
            ready.close()
            self._db.commit()

    def keep(self, found: Measured) -> None:
        """Keep the figures of one picture (the caller commits by `flush`)."""
        q = found.quality
        values: tuple[Any, ...] = (None,) * 8
        if q is not None:
            signed = found.phash - (1 << 64) if found.phash >> 63 else found.phash
            figures = (q.sharpness, q.bright_p99, q.bright_p5, q.aspect, q.information, q.acuity, q.detail)
            values = (*figures, signed)
        self._db.execute(
            "UPDATE pictures SET sharpness=?, bright_p99=?, bright_p5=?, aspect=?, information=?, "
            "acuity=?, detail=?, phash=?, measured=? WHERE path=?",
            (*values, "ok" if q is not None else _clean(found.error) or "failed", os.fsencode(found.path)),
        )

    def flush(self) -> None:
        """Write what was kept."""
        self._db.commit()

    def content_hash(self, picture: Path) -> str:
        """SHA-256 of a picture's file, read once and kept until it changes.

        Raises:
            OSError: it cannot be read.
        """
        key = os.fsencode(picture)
        stat = picture.stat()
        where = "path = ? AND size = ? AND mtime_ns = ?"
        stamp = (key, stat.st_size, stat.st_mtime_ns)
        row = self._db.execute(f"SELECT content FROM pictures WHERE {where}", stamp).fetchone()
        if row and row[0]:
            return str(row[0])
        with open(picture, "rb") as file:
            name = hashlib.file_digest(file, "sha256").hexdigest()
        self._db.execute(f"UPDATE pictures SET content = ? WHERE {where}", (name, *stamp))
        return name

    def thumbnail_path(self, picture: Path) -> Path:
        """Where the thumbnail of a picture, as it is now, lies or will lie."""
        try:
            stat = picture.stat()
            stamp = f"{stat.st_size}-{stat.st_mtime_ns}"
        except OSError:
            stamp = "gone"
        if self.paper != WHITE and picture.suffix.lower() not in _OPAQUE:
            stamp += f"-{self.paper}"
        name = hashlib.sha256(os.fsencode(picture) + b"\0" + stamp.encode()).hexdigest()[:32]
        return self.cache / "thumbnails" / name[:2] / f"{name}.jpg"


def _clean(text: str) -> str:
    """Text that SQLite takes: no lone surrogates."""
    return text.encode("utf-8", "replace").decode()


def _caption_state(picture: Path, folders: dict[str, dict[str, os.stat_result]]) -> tuple[str, int, int]:
    """Suffix, size and time of the sidecar; the folder is listed once for all its pictures."""
    folder = str(picture.parent)
    listing = folders.get(folder)
    if listing is None:
        listing = folders[folder] = _sidecars(folder)
    for suffix in CAPTIONS:
        stat = listing.get(picture.stem + suffix)
        if stat is not None:
            return suffix, stat.st_size, stat.st_mtime_ns
    return "", 0, 0


def _sidecars(folder: str) -> dict[str, os.stat_result]:
    out: dict[str, os.stat_result] = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(CAPTIONS):
                with contextlib.suppress(OSError):
                    out[entry.name] = entry.stat()
    return out


def _indexed(row: tuple[Any, ...]) -> Indexed:
    key, size, mtime_ns, width, height, frames, code, message, content = row[:9]
    suffix, _cap_size, _cap_time, caption, encoding = row[9:14]
    phash, measured, face = row[21:]
    return Indexed(
        os.fsdecode(key),
        size,
        mtime_ns,
        width,
        height,
        frames,
        code,
        message,
        content,
        suffix or "",
        caption or "",
        encoding or "",
        None if row[14] is None else Quality._make(row[14:21]),
        None if phash is None else phash & _WHOLE,
        measured,
        None if face is None else tuple(float(x) for x in face.split()),
    )
