"""Where the access log's bytes go, without ever blocking the loop and without changing what other processes share.

O_NONBLOCK belongs to the open file, which all processes that inherited it share; so it is never set on a descriptor that was
given to us, only on one of our own opening.
"""

import contextlib
import os
import queue
import socket
import stat
import threading
from typing import Protocol

THREAD_LIMIT = 1024 * 1024
"""Bytes that may wait for the writer thread."""
END_WITHIN = 0.5
"""Seconds that the writer thread may take to end; what it has not written then is lost."""


class Sink(Protocol):
    """Something to write to."""

    def write(self, data: memoryview) -> int:
        """Take some bytes now and return how many. Raises BlockingIOError: none at present, OSError: these are lost."""
        ...

    def lost(self) -> int:
        """Return how many lines were taken and lost since the last call."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class FileSink:
    """A descriptor of our own that does not block, or one of a regular file, which never waits for a reader."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: memoryview) -> int:
        """Write what is taken at once."""
        return os.write(self._fd, data)

    def lost(self) -> int:
        """Return 0: what was written is in the file."""
        return 0

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)


class SocketSink:
    """A socket, such as the journal's: it cannot be opened anew, but each call can say that it must not wait."""

    __slots__ = ("_socket",)

    def __init__(self, fd: int) -> None:
        # The timeout that Python would set is a flag of the shared open file; -1 as type and family asks the descriptor itself.
        self._socket = socket.socket(fileno=fd)

    def write(self, data: memoryview) -> int:
        """Send what is taken at once."""
        return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def lost(self) -> int:
        """Return 0: what was sent is with the reader."""
        return 0

    def close(self) -> None:
        """Close the descriptor."""
        self._socket.close()


class ThreadSink:
    """Anything else, such as a pipe that another user made: a thread of ours waits for its reader."""

    __slots__ = ("_fd", "_lines_lost", "_queue", "_thread", "_waiting")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._waiting = threading.Semaphore(THREAD_LIMIT // 4096)
        self._lines_lost: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, data: memoryview) -> int:
        """Hand at most 4 KiB over."""
        if not self._waiting.acquire(blocking=False):
            raise BlockingIOError
        part = bytes(data[:4096])
        self._queue.put(part)
        return len(part)

    def lost(self) -> int:
        """Return how many lines the thread could not write."""
        found = 0
        with contextlib.suppress(queue.Empty):
            while True:
                found += self._lines_lost.get_nowait()
        return found

    def close(self) -> None:
        """End the thread; one that waits for its reader is left behind with the descriptor."""
        self._queue.put(None)
        self._thread.join(END_WITHIN)

    def _run(self) -> None:
        while (part := self._queue.get()) is not None:
            rest = memoryview(part)
            try:
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            except OSError:
                self._lines_lost.put(bytes(rest).count(b"\n"))
            self._waiting.release()
        os.close(self._fd)


def open_sink(fd: int) -> Sink:
    """Make a way to write to the file behind a descriptor, which itself stays as it is."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        # A duplicate shares its offset with the supervisor's and the other workers' lines; one of our own would overwrite them.
        return FileSink(os.dup(fd))
    if stat.S_ISSOCK(mode):
        return SocketSink(os.dup(fd))
    try:
        return FileSink(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return ThreadSink(os.dup(fd))
