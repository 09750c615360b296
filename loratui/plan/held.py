"""Which pictures are held back for validation: decided at launch, by the plan and the manifest alike."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from loratui.dataset.scan import Picture


def held_back(pictures: Sequence[Picture], share: float, seed: int) -> frozenset[str]:
    """Names (`Picture.rel`) of the pictures that validation holds back: a share of them, one at least.

    Which ones hangs on the names, so that nothing is read; another picture more changes little.

    Args:
        pictures: the project's own; one at least is left to train on.
        share: 0 holds nothing back.
        seed: of the choice.
    """
    if share <= 0 or len(pictures) < 2:
        return frozenset()
    count = min(len(pictures) - 1, max(1, round(share * len(pictures))))

    def rank(picture: Picture) -> bytes:
        return hashlib.sha256(f"{seed}/held/{picture.rel}".encode("utf-8", "surrogatepass")).digest()

    return frozenset(p.rel for p in sorted(pictures, key=rank)[:count])
