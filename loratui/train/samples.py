"""The frozen data set of a run: one line of manifest.jsonl is one picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from loratui.config.colours import WHITE, Paper, read_paper
from loratui.dataset.buckets import Bucket
from loratui.dataset.framing import PLAIN, Frame
from loratui.dataset.variants import Jitter
from loratui.errors import DatasetError
from loratui.train.stateless import seed_of


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture as it was at launch. Sizes in px, after the turn.

    Attributes:
        mask: the file that holds its mask, None for none, with the SHA-256 of the file.
        mask_alpha: the mask is the alpha channel of that file.
        frame: how it is turned and mirrored; the crop is the bucket's.
        paper: shows through transparent pixels.
        weight: multiplies its loss.
        reg: of the class in general, not the project's own.
        held: not trained on, for validation.
        lines: of its caption, where one is drawn for each sample; `caption` is the first.
        placed: its crop was made by hand.
        jitter: other colours, of a version of it.
        seed: the base draws it with this seed before the training (`train.prior`); None when it is there.
    """

    path: Path
    rel: str
    hash: str
    caption: str
    repeats: int
    bucket: Bucket
    size: tuple[int, int] = (0, 0)
    mask: Path | None = None
    mask_hash: str = ""
    mask_alpha: bool = False
    frame: Frame = PLAIN
    weight: float = 1.0
    reg: bool = False
    held: bool = False
    lines: tuple[str, ...] = ()
    placed: bool = False
    jitter: Jitter | None = None
    seed: int | None = None
    paper: Paper = WHITE

    @property
    def captions(self) -> tuple[str, ...]:
        """Every caption that it may be trained with."""
        return self.lines or (self.caption,)

    def caption_at(self, seed: int, step: int, slot: int) -> str:
        """The caption of a sample: one of its lines, where there are several."""
        if not self.lines:
            return self.caption
        return self.lines[seed_of(seed, "line", step, slot) % len(self.lines)]


def read_manifest(path: Path) -> list[Picture]:
    """Read manifest.jsonl.

    Raises:
        DatasetError: missing, damaged or empty.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        pictures = [_picture(json.loads(line)) for line in lines if line.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path} cannot be read: {error}.", "Start the run again from the project."
        ) from error
    if not pictures:
        raise DatasetError("The run has no pictures.", "Add pictures to the project and start again.")
    return pictures


def _picture(entry: dict[str, object]) -> Picture:
    width, height = (int(n) for n in entry["bucket"])  # type: ignore[attr-defined]
    scaled_w, scaled_h = (int(n) for n in entry["scaled"])  # type: ignore[attr-defined]
    left, top, right, bottom = (int(n) for n in entry["crop"])  # type: ignore[attr-defined]
    share = 1.0 - (width * height) / max(1, scaled_w * scaled_h)
    bucket = Bucket(
        width, height, (scaled_w, scaled_h), (left, top, right, bottom), share,
        scaled_w / max(1, int(entry["width"])),  # type: ignore[call-overload]
    )  # fmt: skip
    return Picture(
        path=Path(str(entry["path"])),
        rel=str(entry["rel"]),
        hash=str(entry["hash"]),
        caption=str(entry["caption"]),
        repeats=int(entry["repeats"]),  # type: ignore[call-overload]
        bucket=bucket,
        mask=Path(str(entry["mask"])) if entry.get("mask") else None,
        mask_hash=str(entry.get("mask_hash") or ""),
        mask_alpha=bool(entry.get("mask_alpha", False)),
        paper=read_paper(entry.get("paper")),
        weight=float(entry.get("weight", 1.0)),  # type: ignore[arg-type]
        reg=bool(entry.get("reg", False)),
        held=bool(entry.get("held", False)),
        lines=tuple(str(line) for line in entry.get("lines", ())),  # type: ignore[attr-defined]
        placed=bool(entry.get("placed", False)),
        seed=None if entry.get("seed") is None else int(entry["seed"]),  # type: ignore[call-overload]
        size=(int(entry["width"]), int(entry["height"])),  # type: ignore[call-overload]
        frame=Frame(int(entry.get("turn", 0)), bool(entry.get("mirror", False))),  # type: ignore[call-overload]
    )
