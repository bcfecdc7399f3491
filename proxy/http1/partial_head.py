# Compiled by mypyc: see setup.py.
"""A head of which only the beginning is here: what can be said of it, and where its end is. Each byte is looked at once."""

import re
from typing import Final

from proxy.http.local_replies import BAD_REQUEST, TOO_LARGE, TOO_LONG
from proxy.http.message import Answer
from proxy.http1.head_scanner import MAX_FIELDS, MAX_HEAD, MAX_LINE
from proxy.http1.request_line import MAX_METHOD, judge_line, judge_method

_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_BARE_CR: Final = re.compile(rb"\r(?!\n)")


def find_end(data: bytes | bytearray, seen: int) -> int:
    """Return where the empty line begins that ends a head (RFC 9112, 2.1), the CRLF before it included; -1: it is not here yet.

    `seen` bytes were searched before.
    """
    return data.find(b"\r\n\r\n", max(0, seen - 3))


class PartialHead:
    """What was found so far in the beginning of a request's head. `judge` is called whenever it has grown."""

    __slots__ = ("_line_end", "_lines", "_method_end", "seen")

    def __init__(self) -> None:
        self.seen = 0
        """Bytes that were looked at."""
        self._method_end = -1
        self._line_end = -1
        self._lines = 0

    def judge(self, data: bytes | bytearray) -> Answer | None:
        """Say what is wrong with a head that begins with `data`, of which `seen` bytes were here before; None: nothing yet."""
        size, seen = len(data), self.seen
        self.seen = size
        line_is_new = False
        if self._line_end < 0:
            self._line_end = data.find(b"\r\n", max(0, seen - 1))
            line_is_new = self._line_end >= 0
            if (self._line_end if line_is_new else size) > MAX_LINE:
                return self._judge_method(data, 0) or TOO_LONG
        if line_is_new:
            judged = judge_line(bytes(data[: self._line_end]))
            if isinstance(judged, Answer):
                return judged
        self._lines += data.count(b"\n", seen)
        if size > MAX_HEAD or self._lines > MAX_FIELDS + 2:
            return TOO_LARGE
        # A CR at the end may have its LF on the way; that of the last time is looked at again.
        end = size - 1 if data.endswith(b"\r") else size
        if _BARE_LF.search(data, seen) or _BARE_CR.search(data, max(0, seen - 1), end):
            return BAD_REQUEST
        return self._judge_method(data, seen) if self._line_end < 0 else None

    def look(self, late: bytearray) -> Answer | None:
        """As `judge`, where an empty line may come before the head (RFC 9112, 2.2): one is taken away."""
        if not self.seen and late.startswith(b"\r\n") and len(late) > 2 and not late.startswith(b"\r\n\r\n"):
            del late[:2]
        return None if b"\r\n".startswith(late) else self.judge(late)

    def _judge_method(self, data: bytes | bytearray, seen: int) -> Answer | None:
        """Judge the method, or what is here of it, unless it was whole before."""
        if self._method_end >= 0:
            return None
        self._method_end = data.find(b" ", seen)
        return judge_method(bytes(data[: self._method_end if self._method_end >= 0 else MAX_METHOD + 1]))
