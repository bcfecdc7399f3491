# Compiled by mypyc: see setup.py.
"""Work that connections left for later, in the order in which they left it: a round robin over the turns of the event loop.

What one connection may do in one turn is counted where the work is done: requests, chunks, frames, TLS records. What is over that
count waits here, so that a client who sends for ever costs others a bounded wait, however many such clients there are.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

TURN_SECONDS: Final = 0.004
"""How long one turn of the loop goes on with deferred work of all connections; one piece of work is always done."""


class RunQueue:
    """The work of one worker that waits for a turn of the loop."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()

    def add(self, work: Callable[[], None]) -> None:
        """Do a piece of work in one of the next turns, after all that waits already. It must check that it is still wanted."""
        self._waiting.append(work)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        waiting = self._waiting
        end = time.monotonic() + TURN_SECONDS
        try:
            # Each once: what it leaves again waits behind the others, and behind what has come meanwhile.
            for _ in range(len(waiting)):
                waiting[0]()
                waiting.popleft()
                if time.monotonic() >= end:
                    break
        except BaseException:
            waiting.popleft()  # a piece that fails holds up no other
            raise
        finally:
            if waiting:
                self._loop.call_soon(self._turn)
