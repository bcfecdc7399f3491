"""Limits on the freed memory that malloc keeps: left alone, up to twice the largest piece that was mapped and freed (mallopt(3)).

A configuration travels and is decoded in pieces of megabytes, after which a process that is not busy would keep them for ever.
"""

import ctypes

MAPPED_BYTES = 256 * 1024
"""Allocations from this size on are mapped one by one, and given back when they are freed."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def limit_free_memory(free_bytes: int) -> None:
    """Keep at most so many free bytes at the top of this process's heap. A threshold that is set no longer grows (mallopt(3))."""
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
    libc.mallopt(_M_TRIM_THRESHOLD, free_bytes)
