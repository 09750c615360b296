"""WD taggers in ONNX: booru tags with a confidence each, run by onnxruntime.

Recipe of their author: composited on white, padded to a square with white, scaled to the model's side
(448) bicubically, BGR, float32 from 0 to 255, NHWC. `selected_tags.csv` names the outputs: category 9 is
the rating, 0 general, 4 characters.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loratui.captioners.protocol import Said, Source, Tag
from loratui.captioners.spec import WdOptions
from loratui.dataset.tags import underscores_to_spaces
from loratui.errors import BaseModelError, ConfigError

FACETS = {0: "general", 1: "artist", 3: "copyright", 4: "character", 9: "rating"}
WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Labels:
    """Names and categories of the model's outputs, in their order."""

    names: tuple[str, ...]
    categories: NDArray[np.int64]


class Wd:
    """A loaded tagger."""

    first_batch = 8

    def __init__(self, session: Any, labels: Labels, options: WdOptions) -> None:
        self.session = session
        self.labels = labels
        self.options = options
        entry = session.get_inputs()[0]
        self.input_name = entry.name
        side = entry.shape[1]
        self.side = side if isinstance(side, int) else 448
        self.one_by_one = entry.shape[0] == 1

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """Pixels HWC in BGR, float32 from 0 to 255."""
        square = max(image.size)
        padded = Image.new("RGB", (square, square), WHITE)
        padded.paste(image, ((square - image.width) // 2, (square - image.height) // 2))
        if square != self.side:
            padded = padded.resize((self.side, self.side), Image.Resampling.BICUBIC)
        return np.ascontiguousarray(np.asarray(padded, dtype=np.float32)[:, :, ::-1])

    def caption(self, prepared: list[NDArray[np.float32]]) -> list[Said]:
        """Tags of each picture above the thresholds."""
        if self.one_by_one:
            scores = np.concatenate([self._scores(p[None]) for p in prepared])
        else:
            scores = self._scores(np.stack(prepared))
        return [Said(tags=self._tags(row)) for row in scores]

    def _scores(self, pixels_NHWC: NDArray[np.float32]) -> NDArray[np.float32]:
        out: NDArray[np.float32] = self.session.run(None, {self.input_name: pixels_NHWC})[0]
        return out

    def _tags(self, scores: NDArray[np.float32]) -> tuple[Tag, ...]:
        options = self.options
        general = self._chosen(scores, 0, options.general_threshold, 0.0)
        character = self._chosen(scores, 4, options.character_threshold, 0.15)
        tags = [*character, *general] if options.characters_first else [*general, *character]
        if options.top_k:
            kept = sorted(tags, key=lambda t: -t.confidence)[: options.top_k]
            tags = [t for t in tags if t in kept]
        if options.rating:
            best = self._chosen(scores, 9, -1.0, None)[:1]
            tags += best
        return tuple(tags)

    def _chosen(
        self, scores: NDArray[np.float32], category: int, threshold: float, mcut_floor: float | None
    ) -> list[Tag]:
        """Tags of one category above the threshold or the largest gap, the surest first."""
        indices = np.flatnonzero(self.labels.categories == category)
        ranked = indices[np.argsort(-scores[indices], kind="stable")]
        if self.options.mcut and mcut_floor is not None and len(ranked):
            threshold = max(mcut_floor, mcut(scores[ranked]))
        write = underscores_to_spaces if self.options.spaces else str
        facet = FACETS.get(category, "")
        return [
            Tag(write(self.labels.names[i]), round(float(scores[i]), 4), facet)
            for i in ranked
            if scores[i] > threshold
        ]

    def free(self) -> None:
        """Nothing is kept between passes."""


def mcut(descending: NDArray[np.float32]) -> float:
    """The middle of the largest gap between neighbours (Largeron et al. 2012)."""
    if len(descending) < 2:
        return 0.0
    gaps = descending[:-1] - descending[1:]
    at = int(np.argmax(gaps))
    return float((descending[at] + descending[at + 1]) / 2)


def read_labels(path: Path) -> Labels:
    """The outputs' names from `selected_tags.csv`.

    Raises:
        BaseModelError: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        names = tuple(row["name"] for row in rows)
        categories = np.array([int(row["category"]) for row in rows], dtype=np.int64)
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise BaseModelError(f"{path} cannot be read: {error}.", "Fetch the tagger again.") from error
    return Labels(names, categories)


def load(options: WdOptions, source: Source) -> Wd:
    """Load a tagger.

    Raises:
        BaseModelError: the graph or the labels are damaged, or do not belong together.
        ConfigError: a device that this onnxruntime cannot use.
    """
    import onnxruntime

    folder = source.folder
    assert folder is not None
    graph = source.weights or (
        folder / "model.onnx" if (folder / "model.onnx").is_file() else min(folder.glob("*.onnx"))
    )
    labels = read_labels(folder / "selected_tags.csv")
    there = onnxruntime.get_available_providers()
    cuda = "CUDAExecutionProvider" in there
    if options.device.startswith("cuda") and not cuda:
        raise ConfigError("This onnxruntime has no CUDA.", "Install onnxruntime-gpu, or set device to cpu.")
    chosen = ["CPUExecutionProvider"]
    if cuda and options.device != "cpu":
        chosen.insert(0, "CUDAExecutionProvider")
    try:
        session = onnxruntime.InferenceSession(str(graph), providers=chosen)
    except Exception as error:  # onnxruntime has its own exceptions, all different
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise BaseModelError(
            f"{graph} cannot be loaded: {first[:200]}.", "Fetch the tagger again."
        ) from error
    outputs = session.get_outputs()[0].shape[-1]
    if isinstance(outputs, int) and outputs != len(labels.names):
        raise BaseModelError(
            f"{graph} has {outputs} outputs and its selected_tags.csv {len(labels.names)} names.",
            "Take both files from one model.",
        )
    shape = session.get_inputs()[0].shape
    if len(shape) != 4 or not (shape[-1] in (3, None) or isinstance(shape[-1], str)):
        raise BaseModelError(f"{graph} is no tagger: its input has the shape {shape}.", "It must be NHWC.")
    return Wd(session, labels, options)
