# Compiled by mypyc: see setup.py.
"""What an exchange asks of its two sides, and what they tell it. A codec is one side in one version of HTTP; it decides nothing.

Fields travel as one block: lines `Name: value`, each with its CRLF, which `split_block` takes apart. Bodies travel in pieces, which
are never empty. A message's length is its number of bytes, UNKNOWN_LENGTH where only its end tells, NO_BODY_LENGTH
where it can have none.
"""

import asyncio
from typing import Final, Protocol

from proxy.http.message import Failure, Request, ResponseHead

NO_BODY_LENGTH: Final = -2
"""An answer to HEAD, a 204 or a 304: whatever length its fields give (RFC 9110, 6.4.1)."""

NO_PIECES: Final[list[bytes]] = []
"""Nothing of a body; nobody changes it."""


class DownstreamCodec(Protocol):
    """The client's side of one exchange."""

    @property
    def write_paused(self) -> bool:
        """The client does not take what is written: no backend is read then, though its connection came only now."""
        ...

    @property
    def takes_codings(self) -> bool:
        """A body may keep transfer codings below chunked (RFC 9112, 7): HTTP/1.1 alone has words for them."""
        ...

    def respond_interim(self, head: ResponseHead) -> None:
        """Pass a 1xx answer on, where the version has any."""

    def respond(self, head: ResponseHead, added: bytes, length: int, pieces: list[bytes]) -> None:
        """Send the final head, with the fields `added`, and what is here of the body."""

    def respond_whole(self, head: ResponseHead, added: bytes, length: int, pieces: list[bytes], trailers: bytes) -> None:
        """Send the final head and all of the body."""

    def respond_data(self, pieces: list[bytes]) -> None:
        """Send more of the body."""

    def respond_end(self, pieces: list[bytes], trailers: bytes) -> None:
        """Send the last of the body."""

    def pause_request(self) -> None:
        """Take no more of the request's body."""

    def resume_request(self) -> None:
        """Go on with the request's body."""

    def finished(self) -> None:
        """Go on after the exchange: its answer is whole."""

    def fail(self, failure: Failure) -> None:
        """Answer in the backend's place: nothing but interim answers was sent."""

    def abort(self) -> None:
        """End so that what was sent of the answer does not look whole."""

    def detach(self, head: ResponseHead, added: bytes) -> tuple[asyncio.Transport, bytes, bytes]:
        """Give the connection away to another protocol: it, what is to be written to it first, and what came from it already."""
        ...


class UpstreamCodec(Protocol):
    """The backend's side of one exchange."""

    def send(self, request: Request, pieces: list[bytes]) -> None:
        """Send the head, with `request.fields`, and what is here of the body."""

    def send_whole(self, request: Request, pieces: list[bytes], trailers: bytes) -> None:
        """Send the head and all of the body."""

    def send_data(self, pieces: list[bytes]) -> None:
        """Send more of the body."""

    def send_end(self, pieces: list[bytes], trailers: bytes) -> None:
        """Send the last of the body."""

    def pause_answer(self) -> None:
        """Take no more of the answer."""

    def resume_answer(self) -> None:
        """Go on with the answer."""

    def release(self) -> None:
        """Give the connection back behind an answer that is whole; it ends if it cannot serve again."""

    def close(self) -> None:
        """Let the answer go; nothing more is told."""

    def detach(self) -> asyncio.Transport:
        """Give the connection away to another protocol."""
        ...


class UpstreamEvents(Protocol):
    """What the backend's side tells an exchange."""

    def interim(self, head: ResponseHead) -> None:
        """Take a 1xx answer."""

    def switched(self, head: ResponseHead, lines: list[bytes], rest: bytes) -> None:
        """Take a 101: its lines that matter, and what came behind it."""

    def answer(self, head: ResponseHead, length: int, pieces: list[bytes]) -> None:
        """Take the final head, and what came with it of the body."""

    def answer_whole(self, head: ResponseHead, length: int, pieces: list[bytes], trailers: bytes) -> None:
        """Take the final head and all of the body."""

    def answer_data(self, pieces: list[bytes]) -> None:
        """Take more of the body."""

    def answer_end(self, pieces: list[bytes], trailers: bytes) -> None:
        """Take the last of the body."""

    def upstream_malformed(self, cause: str) -> None:
        """Act on what is no answer; `cause`: why, by a name of causes.py."""

    def upstream_lost(self, cause: str, *, stale: bool) -> None:
        """Act on a connection that ended before the answer did; `stale`: it was pooled, and nothing came by it."""

    def upstream_paused(self) -> None:
        """Stop sending: the backend takes no more of the request."""

    def upstream_resumed(self) -> None:
        """Go on sending."""
