# Compiled by mypyc: see setup.py.
"""Exchanges and the proxy's own answers in the metrics and in the access log, those to what is no request among them."""

from collections.abc import Callable
from typing import Final

from proxy.http.addresses import client_behind
from proxy.http.local_replies import ENDPOINTS_FULL, NO_ENDPOINTS
from proxy.http.message import Answer, Client, Failure, Request
from proxy.http1.render import render
from proxy.http1.request_line import MAX_METHOD, judge_method
from proxy.runtime.routes import ActiveRoute
from proxy.runtime.state import Runtime
from proxy.upstream.pool import LiveUpstream

CLIENT_CLOSED: Final = 499
"""In the access log, where the client left before there was an answer (as nginx has it)."""

SHOWN: Final = 1024
"""Characters of a target that are kept; of fields a quarter."""
_LINES: Final = 130
"""Lines that are looked at."""


def log_abandoned(runtime: Runtime, request: Request, route: ActiveRoute, failure: Failure, answer_bytes: int) -> None:
    """Log a request whose client left: it is no answered one, but the backend may have it, with its id."""
    if runtime.accesslog.enabled:
        runtime.accesslog.request(
            *(request, failure.status, failure.service, answer_bytes, failure.seconds, route.id, failure.endpoint, failure.cause)
        )


def record_upstream_error(runtime: Runtime, upstream: LiveUpstream, failure: Failure, request: Request) -> None:
    """Count and say what a backend did, if it was its doing."""
    runtime.upstream_errors.record(upstream.stats, failure, request.id)


def count_local_reply(runtime: Runtime, request: Request, route: ActiveRoute | None, failure: Failure, size: int) -> None:
    """Take note of an answer of `size` bytes: of a request that failed, or for which it was due."""
    stats = route.stats if route is not None else runtime.stats.unmatched
    status, service, seconds = failure.status, failure.service, failure.seconds
    if request.upgrade:
        stats.ws_handshake(status)
    stats.request_done(service, request.method, status, seconds, 0, size)
    if failure.cause:
        stats.local_reply(failure.cause)
    if runtime.accesslog.enabled:
        runtime.accesslog.request(request, status, service, size, seconds, stats.route_id, failure.endpoint, failure.cause)


def record_no_endpoint(upstream: LiveUpstream, request: Request, runtime: Runtime) -> tuple[Answer, Failure]:
    """Take note that an upstream has no endpoint, or none with room, for a request; return the answer to it."""
    answer = ENDPOINTS_FULL if request.upgrade and upstream.endpoint_count else NO_ENDPOINTS
    failure = Failure(answer.status, answer.cause, upstream.key)
    runtime.upstream_errors.record(upstream.stats, failure, request.id)
    return answer, failure


def record_refusal(answer: Answer, head: bytes, client: Client, runtime: Runtime) -> bytes:
    """Return the bytes of the answer to what begins with `head`; the connection ends with it."""
    request_id = runtime.make_id()
    data, size = render(answer, None, request_id=request_id, close=True)
    stats = runtime.stats.unmatched
    stats.request_done("", "other", answer.status, 0.0, 0, size)
    stats.local_reply(answer.cause)
    if runtime.accesslog.enabled:
        request = outline(head, client, runtime.trusts)
        request.id = request_id
        runtime.accesslog.request(request, answer.status, "", size, 0.0, "-", "", answer.cause)
    return data


def outline(head: bytes, client: Client, trusts: Callable[[bytes], bool]) -> Request:
    """Make a request of how one begins, for the log only: what is not there, or there twice, or no method, stays empty."""
    whole, end, _ = head.lstrip(b"\r\n").partition(b"\r\n\r\n")
    first, *lines = whole.split(b"\r\n", _LINES)
    method, space, rest = first[: MAX_METHOD + 2 + SHOWN].partition(b" ")
    if not space or judge_method(method) is not None:
        method, rest = b"", b""
    target, space, _ = rest.partition(b" ")
    if not space and not lines and not end and len(target) < SHOWN:
        target = b""  # it has no end yet: nobody knows what it was to be
    fields_by_name: dict[bytes, list[bytes]] = {}
    for line in lines if end else lines[:-1]:
        name, colon, value = line.partition(b":")
        if colon:
            fields_by_name.setdefault(name.lower(), []).append(value.strip(b" \t"))
    hosts, agents = fields_by_name.get(b"host", []), fields_by_name.get(b"user-agent", [])
    host = hosts[0][: SHOWN // 4].decode("latin-1") if len(hosts) == 1 else ""
    agent = [b"User-Agent: " + agents[0][: SHOWN // 4]] if agents else []
    request = Request(client, method.decode(), target[:SHOWN].decode("latin-1"), 11, host, host, agent, upgrade=False)
    if client.trusted and b"x-forwarded-for" in fields_by_name:
        request.address = client_behind(b", ".join(fields_by_name[b"x-forwarded-for"]).decode("latin-1"), client.peer, trusts)
    return request
