"""[data]: how pictures and captions become batches."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """How pictures and captions become batches."""

    resolution: int = 512
    """Training resolution in px: buckets have about this value squared in area."""
    batch_size: int = 1
    """Pictures per forward pass and process."""
    repeats: int = 1
    """How often each picture counts in an epoch; multiplies a kohya folder's own repeats."""
    bucketing: bool = True
    """Group pictures by aspect ratio; off crops all to a square."""
    bucket_step: int = 64
    """Bucket sides are multiples of this many px."""
    min_bucket: int = 256
    """Shortest bucket side in px."""
    max_bucket: int = 1024
    """Longest bucket side in px."""
    flip: bool = False
    """Mirror pictures at random; leave off for faces, text and anything asymmetric."""
    caption_dropout: float = 0.0
    """Share of samples trained with an empty caption, 0 to 1."""


SHORT_NAMES: dict[str, str] = {
    "batch_size": "batch_size",
    "resolution": "resolution",
}
RANGES: dict[str, tuple[float | None, float | None]] = {
    "resolution": (8, 8192),
    "batch_size": (1, 4096),
    "repeats": (1, 100000),
    "bucket_step": (8, 1024),
    "min_bucket": (8, 8192),
    "max_bucket": (8, 16384),
    "caption_dropout": (0, 1),
}
POSITIVE: frozenset[str] = frozenset()
CHOICES: dict[str, tuple[str, ...]] = {}
