"""The access log: one line per request, one at a socket's open and one at its close, in text or JSON.

Writing never blocks the loop: lines wait in a bounded buffer, and what does not fit is dropped and counted. Everything that a
client chose is escaped.
"""

import asyncio
import datetime as dt
import json
import os
import stat
from typing import Literal

from proxy.exchange import Request

Mode = Literal["off", "text", "json"]

BUFFER_LIMIT = 1024 * 1024
"""Bytes that may wait for a slow reader of the log."""
FLUSH_AFTER = 0.1
"""Seconds that a line waits for others, so that many lines cost one write."""

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 256))} | {ord('"'): '\\"', ord("\\"): "\\\\"}


def escape(text: str) -> str:
    """Make a client's text safe for one line between double quotes."""
    return text.translate(_ESCAPES)


def reopen_nonblocking(fd: int) -> int:
    """Open the file behind a descriptor anew, non-blocking, so that other processes' view of it stays as it is.

    A socket cannot be opened anew; a duplicate of it is returned.
    """
    if stat.S_ISSOCK(os.fstat(fd).st_mode):
        return os.dup(fd)
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return os.dup(fd)


class AccessLog:
    """The log of one worker."""

    __slots__ = ("_buffer", "_fd", "_loop", "_mode", "_size", "_timer", "dropped", "enabled")

    def __init__(self, mode: Mode, loop: asyncio.AbstractEventLoop, fd: int = 1) -> None:
        self.enabled = mode != "off"
        """Whether lines are wanted; the hot path looks here first."""
        self.dropped = 0
        """Lines lost because the reader was slow, the disk full or the pipe closed."""
        self._mode = mode
        self._loop = loop
        self._fd = reopen_nonblocking(fd) if self.enabled else -1
        self._buffer: list[bytes] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    def request(self, request: Request, status: int, service: str, response_bytes: int, seconds: float, route_id: str) -> None:
        """Write the line of an answered request."""
        self._line("request", request, route_id, service, {"status": status, "bytes": response_bytes, "seconds": round(seconds, 6)})

    def socket_open(self, request: Request, route_id: str, service: str, endpoint: str) -> None:
        """Write the line of a socket that was opened."""
        self._line("socket-open", request, route_id, service, {"endpoint": endpoint})

    def socket_close(
        self,
        request: Request,
        route_id: str,
        service: str,
        endpoint: str,
        *,
        code: int,
        by: str,
        seconds: float,
        messages_in: int,
        messages_out: int,
        bytes_in: int,
        bytes_out: int,
    ) -> None:
        """Write the line of a socket that is gone."""
        self._line(
            "socket-close",
            request,
            route_id,
            service,
            {
                "endpoint": endpoint,
                "code": code,
                "by": by,
                "seconds": round(seconds, 3),
                "messages_in": messages_in,
                "messages_out": messages_out,
                "bytes_in": bytes_in,
                "bytes_out": bytes_out,
            },
        )

    def _line(self, event: str, request: Request, route_id: str, service: str, rest: dict[str, object]) -> None:
        if not self.enabled:
            return
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields: dict[str, object] = {
            "time": now,
            "event": event,
            "client": request.address,
            "method": request.method,
            "host": request.authority,
            "target": request.target,
            "agent": next(iter(request.values("user-agent")), ""),
            "id": request.id,
            "route": route_id,
            "service": service,
            **rest,
        }
        if self._mode == "json":
            self.write(json.dumps(fields, ensure_ascii=True).encode() + b"\n")
            return
        parts = [f'{name}="{escape(value)}"' if isinstance(value, str) else f"{name}={value}" for name, value in fields.items()]
        self.write(" ".join(parts).encode("ascii", "backslashreplace") + b"\n")

    def write(self, line: bytes) -> None:
        """Let one line wait for the next flush; drop it when too many wait."""
        if self._size + len(line) > BUFFER_LIMIT:
            self.dropped += 1
            return
        self._buffer.append(line)
        self._size += len(line)
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_AFTER, self.flush)

    def flush(self) -> None:
        """Write what the reader takes now; keep the rest for the next turn."""
        self._timer = None
        if not self._buffer:
            return
        data = b"".join(self._buffer)
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.dropped += len(self._buffer)
            self._buffer, self._size = [], 0
            return
        rest = data[sent:]
        self._buffer = rest.splitlines(keepends=True)
        self._size = len(rest)
        if rest:
            self._timer = self._loop.call_later(FLUSH_AFTER, self.flush)

    def close(self) -> None:
        """Write what can be written at once and let go."""
        if self._timer is not None:
            self._timer.cancel()
        if self.enabled:
            self.flush()
            if self._timer is not None:
                self._timer.cancel()
            os.close(self._fd)
            self.enabled = False
