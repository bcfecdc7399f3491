"""`sluice sockets` and `sluice drain`: the client of the proxy's admin socket, and how what it says is shown."""

from collections.abc import Iterable, Sequence
from http import HTTPStatus

import aiohttp
import msgspec

from proxy.model.sockets import Drained, DrainOrder, SocketRow

SECONDS = 15.0
"""How long the proxy may take to answer."""
_HEAD = ("ROUTE", "ENDPOINT", "CLIENT", "AGE", "IDLE", "IN", "OUT", "BYTES IN", "BYTES OUT", "RTT", "CLOSING")
_NUMBERS = range(3, 10)


class CommandError(Exception):
    """The proxy cannot be asked, or refuses; the message is a sentence."""


async def fetch_sockets(path: str) -> list[SocketRow]:
    """Ask for the open sockets; raises `CommandError`."""
    return msgspec.json.decode(await _ask(path, "GET", "/v1/sockets", None), type=list[SocketRow])


async def order_drain(path: str, order: DrainOrder) -> int:
    """Have sockets closed; returns how many. Raises `CommandError`."""
    return msgspec.json.decode(await _ask(path, "POST", "/v1/drain", msgspec.json.encode(order)), type=Drained).sockets


async def _ask(path: str, method: str, target: str, body: bytes | None) -> bytes:
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=path), timeout=aiohttp.ClientTimeout(SECONDS)) as session,
            session.request(method, "http://proxy" + target, data=body) as response,
        ):
            answer = await response.read()
    except TimeoutError:
        raise CommandError(f"The proxy at {path} gave no answer within {SECONDS:g} s.") from None
    except (aiohttp.ClientError, OSError) as error:
        # aiohttp's own text names a transport that nobody chose ("ssl:default").
        why = (isinstance(error, OSError) and error.strerror) or error
        raise CommandError(
            f"The proxy cannot be asked at {path}: {why}. --admin-socket names another path; "
            "`sluice standalone` makes a socket only where the same option stands behind its folder."
        ) from None
    if response.status != HTTPStatus.OK:
        raise CommandError(answer.decode(errors="replace").strip())
    return answer


def table(rows: Sequence[SocketRow]) -> str:
    """Show sockets as a table, one line for each."""
    cells = [_HEAD, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if number in _NUMBERS else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    return "\n".join(lines)


def _cells(row: SocketRow) -> tuple[str, ...]:
    counts: Iterable[int] = (row.messages_in, row.messages_out, row.bytes_in, row.bytes_out)
    closing = f"{row.closing} in {duration(row.closes_in)}" if row.closing else ""
    rtt = f"{row.rtt * 1000:.1f}ms" if row.rtt is not None else ""
    return (row.route, row.endpoint, row.client, duration(row.age), duration(row.idle), *map(str, counts), rtt, closing)


def duration(seconds: float) -> str:
    """Show a time in at most two units: 3s, 2m10s, 5h02m, 3d04h."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"
