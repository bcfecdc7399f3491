"""Limits on the freed memory that malloc keeps: by default up to twice the largest piece that was mapped and freed (mallopt(3)).

A configuration travels and is decoded in pieces of megabytes, which an idle process would keep for ever.
"""

import ctypes

MAPPED_BYTES = 128 * 1024
"""Allocations from this size on are mapped one by one; as much that is free is kept at the top of the heap."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def return_freed_memory() -> None:
    """Have this process return memory to the system as it frees it. A threshold that is set no longer grows (mallopt(3))."""
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
    libc.mallopt(_M_TRIM_THRESHOLD, MAPPED_BYTES)
