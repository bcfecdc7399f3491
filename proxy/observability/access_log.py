"""The access log: one line per request, one at a socket's open and one at its close, in text or JSON.

Writing never blocks the loop: lines wait in a bounded buffer, and what does not fit is dropped and counted. Everything that a
client chose is escaped. What is written to, and how, is in access_log_sink.py.
"""

import asyncio
import datetime as dt
import json
from typing import Literal

from proxy.http.message import Request
from proxy.observability.access_log_sink import Sink, open_sink

Mode = Literal["off", "text", "json"]

BUFFER_LIMIT = 1024 * 1024
"""Bytes that may wait for a slow reader of the log."""
FLUSH_AFTER = 0.1
"""Seconds that a line waits for others, so that many lines cost one write."""
FLUSH_AT = 32 * 1024
"""Bytes that are written without waiting for more: half of what an empty pipe takes."""
RETRY_FIRST = 0.002
"""Seconds until a reader that did not take all is asked again; twice that each time that it takes nothing, FLUSH_AFTER at most."""

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 256))} | {ord('"'): '\\"', ord("\\"): "\\\\"}


def escape(text: str) -> str:
    """Make a client's text safe for one line between double quotes."""
    return text.translate(_ESCAPES)


class AccessLog:
    """The log of one worker."""

    __slots__ = ("_buffer", "_loop", "_mode", "_pending", "_retry", "_sink", "_size", "_timer", "_torn", "dropped", "enabled")

    def __init__(self, mode: Mode, loop: asyncio.AbstractEventLoop, fd: int = 1) -> None:
        self.enabled = mode != "off"
        """Whether lines are wanted; the hot path looks here first."""
        self.dropped = 0
        """Lines lost because the reader was slow, the disk full or the pipe closed."""
        self._mode = mode
        self._loop = loop
        self._sink: Sink | None = open_sink(fd) if self.enabled else None
        self._buffer: list[bytes] = []
        self._pending = memoryview(b"")
        """Offered to the reader and not taken yet."""
        self._size = 0
        """Bytes in `_buffer` and `_pending`."""
        self._retry = 0.0
        """Seconds of the present wait for the reader; 0: it takes all."""
        self._torn = False
        """Half a line was written and the rest is lost: the next one begins on a line of its own."""
        self._timer: asyncio.TimerHandle | None = None

    def request(
        self,
        request: Request,
        status: int,
        service: str,
        response_bytes: int,
        seconds: float,
        route_id: str,
        endpoint: str = "",
        cause: str = "",
    ) -> None:
        """Write the line of an answered request. `cause`: why it was not answered as it was meant to be, by a name of causes.py."""
        self._line(
            "request",
            request,
            route_id,
            service,
            {"status": status, "bytes": response_bytes, "seconds": round(seconds, 6), "endpoint": endpoint, "cause": cause},
        )

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
        cause: str,
        side: str,
        seconds: float,
        messages_in: int,
        messages_out: int,
        bytes_in: int,
        bytes_out: int,
    ) -> None:
        """Write the line of a socket that is gone. `cause` and `side`: what the proxy closed it for, and who sent that."""
        self._line(
            "socket-close",
            request,
            route_id,
            service,
            {
                "endpoint": endpoint,
                "code": code,
                "by": by,
                "cause": cause,
                "side": side,
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
            self.write(json.dumps(fields, ensure_ascii=True).replace("\x7f", "\\u007f").encode() + b"\n")
            return
        parts = [f'{name}="{escape(value)}"' if isinstance(value, str) else f"{name}={value}" for name, value in fields.items()]
        self.write(" ".join(parts).encode("ascii", "backslashreplace") + b"\n")

    def write(self, line: bytes) -> None:
        """Add a line to the next flush; drop it when too many wait."""
        if self._size + len(line) > BUFFER_LIMIT:
            self.dropped += 1
            return
        self._buffer.append(line)
        self._size += len(line)
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_AFTER, self.flush)
        elif self._size >= FLUSH_AT and not self._retry:
            self._timer.cancel()
            self.flush()

    def flush(self) -> None:
        """Write what the reader takes now; ask again soon for the rest."""
        self._timer = None
        sink = self._sink
        if sink is None:
            return
        self.dropped += sink.lost()
        taken = 0
        try:
            while self._offer():
                sent = sink.write(self._pending)
                self._pending = self._pending[sent:]
                self._size -= sent
                taken += sent
        except BlockingIOError:
            self._retry = min(FLUSH_AFTER, self._retry * 2) if self._retry and not taken else RETRY_FIRST
            self._timer = self._loop.call_later(self._retry, self.flush)
        except OSError:
            self._lose()

    def _offer(self) -> bool:
        """Fill `_pending` when it is empty; tell whether there is anything to write."""
        if self._pending:
            return True
        self._retry = 0.0
        if not self._buffer:
            return False
        if self._torn:
            self._torn = False
            self._buffer.insert(0, b"\n")
            self._size += 1
        self._pending = memoryview(b"".join(self._buffer))
        self._buffer = []
        return True

    def _lose(self) -> None:
        """Drop and count all that waits: the disk is full, or nobody reads any more."""
        whole = self._pending.obj
        begun = isinstance(whole, bytes) and len(self._pending) < len(whole)
        before = len(whole) - len(self._pending) - 1 if isinstance(whole, bytes) else 0
        self._torn = self._torn or (begun and isinstance(whole, bytes) and whole[before] != ord("\n"))
        self.dropped += bytes(self._pending).count(b"\n") + len(self._buffer)
        self._buffer, self._pending, self._size, self._retry = [], memoryview(b""), 0, 0.0

    def close(self) -> None:
        """Write what can be written at once and let go; the rest is dropped and counted."""
        if self._sink is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self.flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._lose()
        self._sink.close()
        self.dropped += self._sink.lost()
        self._sink = None
        self.enabled = False
