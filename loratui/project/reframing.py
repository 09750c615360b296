"""A wish for the frames of many pictures: what it would change, what is left alone and why; then one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loratui.dataset.buckets import Bucket, buckets_of
from loratui.dataset.framing import Frame, framed
from loratui.dataset.masks import alpha_in
from loratui.dataset.reframing import Reframe
from loratui.dataset.rows import PictureRow
from loratui.errors import DatasetError
from loratui.project.collection import Collection
from loratui.project.history import Actor, Outcome


@dataclass(frozen=True, slots=True)
class FrameChange:
    """One picture that would change.

    Attributes:
        row: of the picture.
        frame: as it would be.
        alpha: whether its alpha channel would be its mask; None when that stays.
        bucket: what the trainer would make of it.
    """

    row: PictureRow
    frame: Frame
    alpha: bool | None
    bucket: Bucket


@dataclass(frozen=True, slots=True)
class FramePlan:
    """What a wish comes to.

    Attributes:
        wish: what is asked for.
        changes: pictures that would change.
        left: pictures left alone, each with the reason.
    """

    wish: Reframe
    changes: tuple[FrameChange, ...]
    left: tuple[tuple[PictureRow, str], ...]


def plan_frames(collection: Collection, rows: Sequence[PictureRow], wish: Reframe) -> FramePlan:
    """What would happen to these pictures; nothing is changed."""
    sizes = buckets_of(collection.data)
    changes, left = [], []
    for row in rows:
        known = row.known
        if known.code:
            left.append((row, "cannot be read"))
            continue
        try:
            frame = wish.frame(known.width, known.height, row.frame)
        except DatasetError as error:
            left.append((row, error.message))
            continue
        alpha, reason = _alpha(row, wish.alpha)
        if frame == row.frame and alpha is None:
            left.append((row, reason or "already so"))
            continue
        changes.append(FrameChange(row, frame, alpha, framed(known.width, known.height, frame, sizes)))
    return FramePlan(wish, tuple(changes), tuple(left))


def _alpha(row: PictureRow, wanted: bool | None) -> tuple[bool | None, str]:
    """What changes about the alpha channel of a picture, or why nothing does."""
    is_on = row.mask is not None and row.mask.kind == "alpha"
    if wanted is None or wanted == is_on:
        return None, ""
    if wanted and row.mask is not None:
        return None, f"has the mask file {row.mask.path.name}"
    if wanted and not alpha_in(row.known.path):
        return None, "has no alpha channel"
    return wanted, ""


def commit_frames(collection: Collection, plan: FramePlan, actor: Actor | None = None) -> Outcome:
    """Do what was planned, as one step of the history.

    Raises:
        DatasetError: the history cannot be written.
        LockedError: another process holds it.
    """
    label = plan.wish.describe()
    frames = {c.row.known.path: c.frame for c in plan.changes if c.frame != c.row.frame}
    alpha = {c.row.known.path: c.alpha for c in plan.changes if c.alpha is not None}
    return collection.frame(frames, alpha, label, actor or Actor("batch", label))
