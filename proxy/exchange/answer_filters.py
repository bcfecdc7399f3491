# Compiled by mypyc: see setup.py.
"""One answer on its way through the answer filters of its route. A route without any has no such object.

Head filters come first, in their order, then the pieces of the body go through the body filters that these gave. Everything runs in
the turn in which it came, until a filter returns an awaitable: then what comes behind it waits, and the owner is told, who stops
reading the backend.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from typing import Protocol, cast

from proxy.exchange.contract import NO_BODY_LENGTH, NO_PIECES
from proxy.filters.contract import AnswerFilter, BodyFilter
from proxy.http.answer_head import BODILESS_STATUSES, AnswerHead
from proxy.http.message import UNKNOWN_LENGTH, Request, ResponseHead

_log = logging.getLogger("sluice.exchange")


class FilterOwner(Protocol):
    """Who sends on what the filters made of an answer."""

    def respond(self, head: ResponseHead, added: bytes, length: int, pieces: list[bytes]) -> None:
        """Send the head, with the fields `added`, and what is here of the body."""

    def respond_whole(self, head: ResponseHead, added: bytes, length: int, pieces: list[bytes], trailers: bytes) -> None:
        """Send the head, with the fields `added`, and all of the body."""

    def respond_data(self, pieces: list[bytes]) -> None:
        """Send more of the body."""

    def respond_end(self, pieces: list[bytes], trailers: bytes) -> None:
        """Send the last of the body."""

    def switch(self, head: ResponseHead) -> None:
        """Go on with a 101."""

    def filter_waits(self) -> None:
        """Stop reading the backend: a filter needs time."""

    def filter_goes_on(self) -> None:
        """Read the backend again."""

    def filter_failed(self) -> None:
        """Give the answer up."""

    def body_not_wanted(self) -> None:
        """Let the rest of the backend's answer go."""


class FilteredAnswer:
    """What the filters of a route make of one answer."""

    __slots__ = (
        *(
            "_bodies",
            "_body",
            "_codings",
            "_content_length",
            "_ended",
            "_filters",
            "_head",
            "_head_out",
            "_length",
            "_loop",
            "_next",
            "_out",
            "_owner",
            "_replaced",
        ),
        *("_request", "_stage", "_switch", "_task", "_trailers", "_work"),
    )

    def __init__(
        self,
        owner: FilterOwner,
        loop: asyncio.AbstractEventLoop,
        filters: tuple[AnswerFilter, ...],
        request: Request,
        head: ResponseHead,
        added: bytes,
        length: int,
    ) -> None:
        """Begin with a head that gets the fields `added`; the length of its body as in contract.py."""
        self._owner = owner
        self._loop = loop
        self._filters = filters
        self._request = request
        self._length = length
        self._switch = head.status == 101
        self._head = AnswerHead(head, added, has_body=length != NO_BODY_LENGTH and not self._switch)
        self._codings = head.codings
        self._body: bytes | None = None
        """What takes the place of the backend's body."""
        self._content_length: bytes | None = None
        """As the head says it; None: what the backend said."""
        self._next = 0
        """The head filter that is asked next."""
        self._bodies: list[BodyFilter] = []
        self._work: deque[tuple[int, bytes | None]] = deque()
        """Pieces on their way, each with the body filter that gets it next; None: the end."""
        self._stage: tuple[int, bytes | None] = (-1, None)
        """What is awaited: a head filter (-1), or the body filter of that number, with that piece."""
        self._out: list[bytes] = []
        self._trailers = b""
        self._ended = False
        """The end came out of the last filter, or is not wanted any more."""
        self._head_out = False
        self._replaced = False
        """The backend's body goes nowhere."""
        self._task: asyncio.Future[object] | None = None

    @property
    def filter_runs(self) -> bool:
        """A filter needs time."""
        return self._task is not None

    def data(self, pieces: list[bytes]) -> None:
        """Take pieces of the backend's body."""
        if not self._replaced:
            self._work.extend([(0, piece) for piece in pieces])
        self.proceed()

    def end(self, pieces: list[bytes], trailers: bytes) -> None:
        """Take the last of it."""
        if not self._replaced:
            self._work.extend([(0, piece) for piece in pieces])
            self._work.append((0, None))
            self._trailers = trailers
        self.proceed()

    def cancel(self) -> None:
        """Give it up."""
        self._ended = True
        self._next = len(self._filters)
        self._work.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def proceed(self) -> None:
        """Go on until nothing is left, or a filter needs time."""
        if self._task is not None:
            return
        try:
            awaited = self._advance()
        except Exception:  # noqa: BLE001  a filter's fault is its route's, and nobody else's
            _log.exception("an answer filter failed")
            self._owner.filter_failed()
            return
        if awaited is not None:
            # Not within a coroutine of ours: one that is cancelled before it began would never have awaited the filter's.
            self._task = asyncio.ensure_future(awaited, loop=self._loop)
            self._task.add_done_callback(self._awaited)
            self._owner.filter_waits()

    def _awaited(self, task: "asyncio.Future[object]") -> None:
        """Go on with what a filter needed time for."""
        if task is not self._task:
            if not task.cancelled():
                task.exception()  # nobody asks any more, so it is not said either
            return
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None or task.cancelled():
            _log.error("an answer filter failed", exc_info=error)
            self._owner.filter_failed()
            return
        stage, piece = self._stage
        try:
            if stage < 0:
                self._took_verdict(task.result())
            else:
                self._took(stage, piece, task.result())
        except TypeError:
            _log.exception("an answer filter failed")
            self._owner.filter_failed()
            return
        self.proceed()
        if self._task is None and not self._ended:
            self._owner.filter_goes_on()

    def _advance(self) -> Awaitable[object] | None:
        """Work until a filter needs time: what it waits for; None: all is done that is here."""
        while self._next < len(self._filters):
            verdict = self._filters[self._next](self._request, self._head)
            self._next += 1
            if isinstance(verdict, Awaitable):
                self._stage = (-1, None)
                return verdict
            self._took_verdict(verdict)
        if self._switch:
            self._ended = True
            self._owner.switch(self._head.render(None))
            return None
        if not self._head_out:
            self._prepare()
        while self._work:
            stage, piece = self._work.popleft()
            if stage >= len(self._bodies):
                if piece is None:
                    self._ended = True
                else:
                    self._out.append(piece)
                continue
            body = self._bodies[stage]
            result = body.end() if piece is None else body.data(piece)
            if isinstance(result, Awaitable):
                self._stage = (stage, piece)
                self._send()
                return result
            self._took(stage, piece, result)
        self._send()
        return None

    def _took_verdict(self, verdict: object) -> None:
        head = self._head
        if head.replaced:
            # What filters before this one would have done to the body, nobody does to this one.
            self._body, head.replaced = head.body, False
            self._bodies.clear()
        if verdict is not None:
            self._bodies.append(cast("BodyFilter", verdict))

    def _took(self, stage: int, piece: bytes | None, result: object) -> None:
        """Go on with what a body filter made of a piece."""
        if not isinstance(result, bytes):
            raise TypeError(f"a body filter returned {type(result).__name__}")
        if piece is None:
            self._work.appendleft((stage + 1, None))
        if result:
            self._work.appendleft((stage + 1, result))

    def _prepare(self) -> None:
        """Settle what body there is, when all head filters have had their say."""
        head, body = self._head, self._body
        if head.partial and body is None:
            self._bodies.clear()
        if self._bodies:
            if self._codings and body is None:
                raise ValueError("a transfer coding that is not undone keeps the body from being filtered")
            head.drop_fields_of_old_body()
        if self._request.method == "HEAD" or head.status in BODILESS_STATUSES:
            if body is not None and not self._bodies and head.status not in BODILESS_STATUSES:
                self._content_length = b"%d" % len(body)
            elif head.has_body or head.status == 204:
                self._content_length = b""
            self._length = NO_BODY_LENGTH
            self._bodies.clear()
            if head.has_body:
                self._restart(b"")
        elif body is not None or self._length == NO_BODY_LENGTH:
            body = body or b""
            self._length = UNKNOWN_LENGTH if self._bodies else len(body)
            self._content_length = b"" if self._bodies else b"%d" % len(body)
            self._restart(body)
        elif self._bodies:
            self._length = UNKNOWN_LENGTH

    def _restart(self, body: bytes) -> None:
        """Go on with another body than the backend's."""
        self._replaced = True
        self._trailers = b""
        self._work.clear()
        if body:
            self._work.append((0, body))
        self._work.append((0, None))
        self._owner.body_not_wanted()

    def _send(self) -> None:
        """Send what came out of the last filter."""
        out, self._out = self._out or NO_PIECES, []
        if not self._head_out:
            self._head_out = True
            head = self._head.render(self._content_length)
            if self._ended:
                self._owner.respond_whole(head, b"", self._length, out, self._trailers)
            else:
                self._owner.respond(head, b"", self._length, out)
        elif self._ended:
            self._owner.respond_end(out, self._trailers)
        elif out:
            self._owner.respond_data(out)
