# Compiled by mypyc: see setup.py.
"""What comes of a request's body before there is a connection for it; of a request that is whole it may be sent once more."""

from typing import Final

EARLY_LIMIT: Final = 64 * 1024
"""Bytes of a body that wait for a connection,"""
PIECE_COST: Final = 64
"""and what each piece of it counts beside its bytes: it is an object that is held, and maybe a chunk that is made."""


class EarlyBody:
    """Pieces of one body, and the fields behind it."""

    __slots__ = ("_size", "pieces", "trailers")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.trailers = b""
        self._size = 0

    def add(self, pieces: list[bytes], size: int) -> bool:
        """Keep pieces of `size` bytes; tell whether that is as much as may wait."""
        self.pieces += pieces
        self._size += size + PIECE_COST * len(pieces)
        return self._size > EARLY_LIMIT
