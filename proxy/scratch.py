"""Where a worker's TLS connections are decrypted to: one piece of memory for all, since each read is taken out of it at once.

Without it uvloop makes a bytes object of 256 KiB for every read and shrinks it, which costs as much as the decryption.
"""

from collections.abc import Callable

SIZE = 256 * 1024
"""Bytes of one read at most: what uvloop reads from a socket for TLS."""


class Scratch:
    """The memory, of one worker. Nothing stays in it between two turns of the loop."""

    __slots__ = ("view",)

    def __init__(self) -> None:
        self.view = memoryview(bytearray(SIZE))


class Inbox:
    """The door of one connection: the two methods of `asyncio.BufferedProtocol`, which hand each read on as bytes."""

    __slots__ = ("_take", "_view")

    def __init__(self, scratch: Scratch, take: Callable[[bytes], None]) -> None:
        self._view = scratch.view
        self._take = take

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where to read to."""
        del sizehint
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on what was read."""
        self._take(self._view[:nbytes].tobytes())
