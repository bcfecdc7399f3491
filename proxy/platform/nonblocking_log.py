"""The ordinary log: lines on standard error that never wait. A pipe that nobody reads must not stop a worker or the supervisor.

A line that cannot be written now is lost, and the next one that can says how many were.
"""

import logging
import os
import select

LINE_BYTES = 4096
"""A pipe that is ready for writing takes this much without waiting (pipe(7), PIPE_BUF); longer lines are cut."""


class NonblockingHandler(logging.Handler):
    """Writes to a descriptor that may be blocking and is shared with other processes."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it as lost."""
        try:
            self._write(self.format(record))
        except Exception:  # noqa: BLE001  a log that cannot be written must not end who writes it
            self._lost += 1

    def _write(self, text: str) -> None:
        if not any(events & select.POLLOUT for _, events in self._poll.poll(0)):
            self._lost += 1
            return
        if self._lost:
            text = f"({self._lost} lines before this one are lost) {text}"
        data = text.encode("utf-8", "backslashreplace")
        if len(data) >= LINE_BYTES:
            data = data[: LINE_BYTES - 4] + b"..."
        os.write(self._descriptor, data + b"\n")
        self._lost = 0
