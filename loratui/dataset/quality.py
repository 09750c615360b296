"""What to look at: blur, light, shape and information of a picture, with the thresholds of cleanvision."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageFilter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLURRY, DARK, LIGHT, ODD_ASPECT, LOW_INFORMATION = 0.29, 0.32, 0.05, 0.35, 0.3
MEASURED_PX = 64
"""Blur is measured on a copy with this longest side."""
_STD_FLOOR = 0.18
_LIGHT_SIDE = 512
"""Light and entropy are measured on a copy with at most this longest side; the figures hardly move."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of one picture.

    Attributes:
        sharpness: 0 to about 2; under 0.29 counts as blurred.
        bright_p99: 99th percentile of the brightness, 0 to 1; under 0.32 counts as dark.
        bright_p5: 5th percentile of the brightness, 0 to 1; above 0.95 counts as light.
        aspect: the shorter side over the longer; under 0.35 counts as odd.
        information: a tenth of the entropy of its greys, 0 to 0.8; under 0.3 counts as low.
    """

    sharpness: float
    bright_p99: float
    bright_p5: float
    aspect: float
    information: float

    def findings(self) -> tuple[str, ...]:
        """Short names of what is wrong, in the order of the thresholds."""
        tests = (
            ("blurry", self.sharpness < BLURRY),
            ("dark", self.bright_p99 < DARK),
            ("light", 1.0 - self.bright_p5 < LIGHT),
            ("odd-aspect", self.aspect < ODD_ASPECT),
            ("low-information", self.information < LOW_INFORMATION),
        )
        return tuple(name for name, hit in tests if hit)

    def as_dict(self) -> dict[str, float]:
        """The figures as plain JSON."""
        return asdict(self)


def measure(image: Image.Image) -> Quality:
    """All figures of an upright RGB picture."""
    import numpy as np  # here, so that the app's first frame does not wait for it

    width, height = image.size
    small = image
    if max(image.size) > _LIGHT_SIDE:
        small = image.copy()
        small.thumbnail((_LIGHT_SIDE, _LIGHT_SIDE), Image.Resampling.BOX)
    low, high = np.percentile(brightness(small), (5, 99))
    return Quality(
        round(sharpness(image), 4),
        round(float(high), 4),
        round(float(low), 4),
        round(min(width / height, height / width), 4),
        round(0.1 * entropy(small.convert("L")), 4),
    )


def sharpness(image: Image.Image) -> float:
    """Edges plus spread of greys: (1 - exp(-sqrt(var)/100)) + (1 - exp(-std/100)), the latter 0 to 0.18."""
    import numpy as np  # here, so that the app's first frame does not wait for it

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
