"""Colours as people write them."""

from __future__ import annotations

from functools import lru_cache

Paper = tuple[int, int, int]
"""What shows through transparent pixels: red, green, blue, 0 to 255."""
WHITE: Paper = (255, 255, 255)


@lru_cache(maxsize=64)
def read_colour(text: str) -> Paper | None:
    """Red, green and blue of a name (`grey`) or of `#rgb`, `#rrggbb`; None for anything else."""
    from PIL import ImageColor

    try:
        found = ImageColor.getrgb(text.strip())
    except ValueError:
        return None
    return (found[0], found[1], found[2]) if len(found) == 3 else None


def read_paper(value: object) -> Paper:
    """Three numbers as they stand in a manifest; white for anything else."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        return WHITE
    red, green, blue = (n if isinstance(n, int) and 0 <= n <= 255 else 255 for n in value)
    return red, green, blue
