"""Rows of pictures as the rooms show them: bucket, crop, signs and what the signs mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from loratui.config.schema import DataConfig
from loratui.dataset.buckets import Bucket, assign, buckets_of
from loratui.ui.widgets.caption_editor import tokens

if TYPE_CHECKING:
    from loratui.dataset.scan import Picture

_SIGNS = {
    "missing-caption": ("✎", "no caption"),
    "empty-caption": ("✎", "empty caption"),
    "caption-from-folder": ("▸", "caption of its folder"),
    "small": ("↑", "enlarged"),
    "shared-caption": ("≡", "shares its caption"),
    "caption-bom": ("B", "byte order mark"),
    "caption-not-utf8": ("B", "not UTF-8"),
    "caption-lines": ("¶", "several lines"),
    "animated": ("▦", "animated"),
    "unreadable-caption": ("!", "caption unreadable"),
}


@dataclass(frozen=True)
class Flag:
    """One thing to know of a picture: a sign, few words, a sentence, how bad."""

    sign: str
    words: str
    sentence: str
    severity: str


@dataclass(frozen=True)
class Seen:
    """A picture with what the list and the preview say of it."""

    picture: Picture
    bucket: Bucket
    tokens: int
    flags: tuple[Flag, ...]

    @property
    def amiss(self) -> bool:
        """Whether somebody should look at it."""
        return any(flag.severity != "info" for flag in self.flags)


@lru_cache(8)
def _buckets(data: DataConfig) -> tuple[tuple[int, int], ...]:
    return tuple(buckets_of(data))


def see(picture: Picture, data: DataConfig) -> Seen:
    """What there is to say of a picture under these data settings."""
    bucket = assign(picture.width, picture.height, _buckets(data))
    flags = []
    for problem in picture.problems:
        sign, words = _SIGNS.get(problem.code, ("!", problem.code.replace("-", " ")))
        if problem.code == "small" or "upscale" in problem.code or "enlarge" in problem.code:
            sign, words = "↑", f"enlarged {bucket.upscale:.1f}×"
        flags.append(Flag(sign, words, f"{problem.message} {problem.advice}".strip(), problem.severity))
    return Seen(picture, bucket, tokens(picture.caption), tuple(flags))


def crop_box(bucket: Bucket) -> tuple[float, float, float, float]:
    """The crop as shares of the picture."""
    width, height = bucket.scaled
    left, top, right, bottom = bucket.crop
    return left / width, top / height, right / width, bottom / height
