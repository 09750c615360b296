"""Give the memory of decoded photos back to the system.

The C library raises its limit for blocks of their own with every large one that is freed, up to 32 MB, and
keeps an arena for each thread: after some photos a hundred megabytes lie in gaps that nothing fits into.
"""

from __future__ import annotations

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_OWN_BLOCK = 256 * 1024


def give_back_freed() -> None:
    """Blocks from 256 kB go back when they are freed; threads share two arenas. GNU only."""
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl, macOS: they do so anyway
        return
    mallopt(_M_ARENA_MAX, 2)
    mallopt(_M_MMAP_THRESHOLD, _OWN_BLOCK)
