"""Randomness without state: every draw is a function of the seed and of what it is for.

A resumed run needs no saved generator, and the draws of one sample do not depend on the batch size, the
device or the number of processes. Generators live on the CPU for that reason; their draws are moved.
"""

from __future__ import annotations

import hashlib

import torch


def seed_of(seed: int, *purpose: int | str) -> int:
    """63 bits from SHA-256 of the seed and the purpose, such as ("order", epoch) or ("draw", step, slot)."""
    text = "/".join(str(p) for p in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *purpose: int | str) -> torch.Generator:
    """A fresh CPU generator for one purpose."""
    return torch.Generator("cpu").manual_seed(seed_of(seed, *purpose))
