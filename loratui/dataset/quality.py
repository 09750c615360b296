"""What to look at: blur, light, shape and information of a picture.

Thresholds are cleanvision's, with two figures of our own beside them: its measure of blur grows with few
greys and so passes blurred pictures of low contrast, and its entropy calls every flat drawing empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if (
    TYPE_CHECKING
):  # at run time in the functions: the app's first frame waits neither for numpy nor for Pillow
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

BLURRY, DARK, LIGHT, ODD_ASPECT, LOW_INFORMATION = 0.29, 0.32, 0.05, 0.35, 0.3
SOFT = 0.19
"""Under so much acuity a picture is blurred: an edge takes more than five pixels of 512."""
EMPTY = 0.25
"""Under so many of its fields with anything in them, a picture of few greys holds little."""
MEASURED_PX = 64
"""Blur is measured on a copy with this longest side."""
_STD_FLOOR = 0.18
_FIELD, _GREYS, _LEVELS = 32, 8.0, 16.0
_LIGHT_SIDE = 512
"""Light and entropy are measured on a copy with at most this longest side; the figures hardly move."""


class Quality(NamedTuple):
    """Figures of one picture.

    Attributes:
        sharpness: 0 to about 2; under 0.29 counts as blurred.
        bright_p99: 99th percentile of the brightness, 0 to 1; under 0.32 counts as dark.
        bright_p5: 5th percentile of the brightness, 0 to 1; above 0.95 counts as light.
        aspect: the shorter side over the longer; under 0.35 counts as odd.
        information: a tenth of the entropy of its greys, 0 to 0.8; under 0.3 counts as low.
        acuity: from `acuity`, 0 to 1; under 0.19 counts as blurred.
        detail: from `detail`, 0 to 1; from 0.25 on, few greys are a drawing and not emptiness.
    """

    sharpness: float
    bright_p99: float
    bright_p5: float
    aspect: float
    information: float
    acuity: float = 1.0
    detail: float = 0.0

    @property
    def blurry(self) -> bool:
        """Whether it counts as blurred."""
        return self.sharpness < BLURRY or self.acuity < SOFT

    def findings(self) -> tuple[str, ...]:
        """Short names of what is wrong, in the order of the thresholds."""
        sharp, bright_p99, bright_p5, aspect, information, acuity, detail = self
        out = ["blurry"] if sharp < BLURRY or acuity < SOFT else []
        if bright_p99 < DARK:
            out.append("dark")
        if 1.0 - bright_p5 < LIGHT:
            out.append("light")
        if aspect < ODD_ASPECT:
            out.append("odd-aspect")
        if information < LOW_INFORMATION and detail < EMPTY:
            out.append("low-information")
        return tuple(out)

    def as_dict(self) -> dict[str, float]:
        """The figures as plain JSON."""
        return self._asdict()


def measure(image: Image.Image) -> Quality:
    """All figures of an upright RGB picture."""
    import numpy as np
    from PIL import Image

    width, height = image.size
    small = image
    if max(image.size) > _LIGHT_SIDE:
        small = image.copy()
        small.thumbnail((_LIGHT_SIDE, _LIGHT_SIDE), Image.Resampling.BOX)
    low, high = np.percentile(brightness(small), (5, 99))
    grey = np.asarray(small.convert("L"), dtype=np.float32)
    return Quality(
        round(sharpness(image), 4),
        round(float(high), 4),
        round(float(low), 4),
        round(min(width / height, height / width), 4),
        round(0.1 * entropy(small.convert("L")), 4),
        round(acuity(grey), 4),
        round(detail(grey), 4),
    )


def sharpness(image: Image.Image) -> float:
    """Edges plus spread of greys: (1 - exp(-sqrt(var)/100)) + (1 - exp(-std/100)), the latter 0 to 0.18."""
    import numpy as np
    from PIL import ImageFilter

    ratio = max(image.size) / MEASURED_PX
    small = image
    if ratio > 1:
        size = (max(int(image.width / ratio), 1), max(int(image.height / ratio), 1))
        small = image.resize(size)
    grey = small.convert("L")
    edges = np.asarray(grey.filter(ImageFilter.FIND_EDGES), dtype=np.float64)
    edge_score = 1.0 - float(np.exp(-0.01 * np.sqrt(edges.var())))
    spread = float(np.std(np.asarray(grey.histogram(), dtype=np.float64)))
    spread_score = 1.0 - float(np.exp(-0.01 * spread))
    return edge_score + (spread_score if spread_score > _STD_FLOOR else 0.0)


def acuity(grey: NDArray[np.float32]) -> float:
    """How steep the steepest edges are, whatever their contrast: 1 for an edge of one pixel.

    In fields of 32 px, the largest step between neighbours over the whole range of the field; of the fields
    that have a fair share of the picture's contrast, the one that nine tenths stay below. So a sharp subject
    before a soft background is sharp, and contrast cancels out. A blur of radius r gives about 0.4 / r.

    Args:
        grey: (height, width), 0 to 255, at most 512 px a side.

    Returns:
        0 to 1; 1 where no field has enough contrast to judge by.
    """
    import numpy as np

    steps = np.zeros_like(grey)
    steps[:, :-1] = np.abs(np.diff(grey, axis=1))
    steps[:-1] = np.maximum(steps[:-1], np.abs(np.diff(grey, axis=0)))
    side = min(_FIELD, *grey.shape)
    reach = _fields(grey, side).max((1, 3)) - _fields(grey, side).min((1, 3))
    low, high = np.percentile(grey, (1, 99))
    fair = reach >= max(_GREYS, 0.25 * float(high - low))
    if not fair.any():
        return 1.0
    # a level less: rounding alone makes steps of one level out of the softest slope
    steepest = np.maximum(_fields(steps, side).max((1, 3))[fair] - 1.0, 0.0)
    return float(np.quantile(steepest / (reach[fair] - 1.0), 0.9))


def detail(grey: NDArray[np.float32]) -> float:
    """Share of the fields of a picture, about 8 x 8, in which greys differ by 16 levels or more.

    Args:
        grey: (height, width), 0 to 255.
    """
    side = max(1, min(grey.shape) // 8)
    fields = _fields(grey, side)
    return float((fields.max((1, 3)) - fields.min((1, 3)) >= _LEVELS).mean())


def _fields(grey: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """(rows, side, columns, side); what is left over at the right and below is cut off."""
    rows, columns = grey.shape[0] // side, grey.shape[1] // side
    return grey[: rows * side, : columns * side].reshape(rows, side, columns, side)


def brightness(image: Image.Image) -> NDArray[np.float64]:
    """Perceived brightness of each pixel, 0 to 1: sqrt(.241 R^2 + .691 G^2 + .068 B^2) / 255."""
    import numpy as np  # here, so that the app's first frame does not wait for it

    rgb = np.asarray(image.convert("RGB"), dtype=np.float64)
    squares: NDArray[np.float64] = np.sqrt(rgb**2 @ np.array([0.241, 0.691, 0.068])) / 255.0
    return squares


def entropy(grey: Image.Image) -> float:
    """Shannon entropy of the greys, in bits."""
    import numpy as np  # here, so that the app's first frame does not wait for it

    counts = np.asarray(grey.histogram(), dtype=np.float64)
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())
