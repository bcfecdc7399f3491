"""What filters are. A request filter sees a request before it goes on; an answer filter the backend's answer on its way back.

Both are functions, made when their route is compiled, and synchronous unless they return an awaitable. No filter of today
returns one, or changes a body. Both are for what has to ask or keep something: external authorization asks with the head,
compression has the pieces of a body, pages of errors are bodies in place of the backend's.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from proxy.http.answer_head import AnswerHead
from proxy.http.message import Answer, Request

Verdict = Answer | Awaitable[Answer | None] | None
"""None: pass. Only an awaitable leaves the synchronous path."""
Filter = Callable[[Request], Verdict]


class BodyFilter(Protocol):
    """Changes the body of one answer. Without it, Content-Length stays and bytes pass as they come."""

    def data(self, data: bytes) -> bytes | Awaitable[bytes]:
        """Take a piece, which is never empty; return what goes on, nothing to keep it for later."""
        ...

    def end(self) -> bytes | Awaitable[bytes]:
        """Return what was kept, at the end of the body."""
        ...


AnswerVerdict = BodyFilter | Awaitable[BodyFilter | None] | None
"""None: the body passes as it is. While an awaitable runs the backend is not read; one deadline holds, a lost client cancels it."""
AnswerFilter = Callable[[Request, AnswerHead], AnswerVerdict]
"""Called once for each final answer of a backend, and for a 101 whose body is the socket's; it changes the head in place."""
