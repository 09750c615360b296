"""What the short names of findings mean to people: a sign, a few words, a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from loratui.dataset.buckets import Bucket, Buckets, buckets_of
from loratui.dataset.framing import Frame, framed
from loratui.dataset.rows import INFO, PictureRow

if TYPE_CHECKING:
    from loratui.config.schema import DataConfig


@dataclass(frozen=True, slots=True)
class Sign:
    """One thing to know of a picture.

    Attributes:
        sign: one cell.
        words: where there is room.
        sentence: for the preview.
        calm: whether it asks for nothing.
    """

    sign: str
    words: str
    sentence: str
    calm: bool = False


_TABLE: dict[str, tuple[str, str, str]] = {
    "missing-caption": ("✎", "no caption", "Has no caption: e writes one."),
    "empty-caption": ("✎", "empty caption", "Its caption file is empty: e writes one."),
    "caption-from-folder": ("▸", "caption of its folder", "Has no caption; its folder gives one."),
    "unreadable-caption": ("!", "caption unreadable", "Its caption cannot be read: check owner and mode."),
    "caption-bom": ("B", "byte order mark", "Its caption begins with a byte order mark; others stumble."),
    "caption-not-utf8": ("B", "not UTF-8", "Its caption is not UTF-8; it is read right here."),
    "caption-lines": (
        "¶",
        "several lines",
        "Its caption has several lines; `data.caption_lines` says what is trained.",
    ),
    "animated": ("▦", "animated", "Has several frames; the first one is used."),
    "small-image": ("↑", "small", "Is small for its bucket and will be enlarged."),
    "blurry": ("~", "blurred", "Looks blurred: compare it with the others."),
    "dark": ("◖", "dark", "Is very dark."),
    "light": ("◗", "light", "Is very light."),
    "odd-aspect": ("▯", "odd shape", "Is very long or tall: much of it is cropped."),
    "low-information": ("▢", "nearly empty", "Holds little to learn from."),
}


def signs(row: PictureRow, data: DataConfig, calm: frozenset[str] = INFO) -> list[Sign]:
    """What there is to say of a picture, what matters first."""
    out: list[Sign] = []
    for code in row.problems:
        if code == row.known.code:
            out.append(Sign("✖", code.replace("-", " "), row.known.message))
            continue
        sign, words, sentence = _TABLE.get(code, ("!", code.replace("-", " "), code.replace("-", " ")))
        if code == "small-image" and (bucket := bucket_of(row, data)) is not None:
            words = f"enlarged {bucket.upscale:.1f}×"
            sentence = f"Is small for its bucket: enlarged {bucket.upscale:.1f} times."
        out.append(Sign(sign, words, sentence, code in calm))
    if row.dup:
        out.append(Sign("≈", f"{row.dup} alike", f"{row.dup} pictures look alike: S compares."))
    out.sort(key=lambda s: s.calm)
    if not row.frame.plain:
        out.append(Sign("⊡", "framed", f"{_framed(row.frame)} by hand; the file is as it was.", True))
    if row.mask is not None:
        where = "its alpha channel" if row.mask.kind == "alpha" else row.mask.path.name
        out.append(Sign("◪", "mask", f"Has a mask: {where}.", True))
    return out


def _framed(frame: Frame) -> str:
    done = [f"turned by {frame.turn}°"] if frame.turn else []
    done += ["mirrored"] if frame.mirror else []
    done += ["cropped"] if frame.box is not None else []
    return ", ".join(done).capitalize()


@lru_cache(8)
def _sizes(data: DataConfig) -> Buckets:
    return buckets_of(data)


@lru_cache(4096)
def _bucket(width: int, height: int, frame: Frame, data: DataConfig) -> Bucket:
    return framed(width, height, frame, _sizes(data))


def bucket_of(row: PictureRow, data: DataConfig) -> Bucket | None:
    """The bucket of a picture under these settings, None when it cannot be read."""
    known = row.known
    return _bucket(known.width, known.height, row.frame, data) if known.width and known.height else None
