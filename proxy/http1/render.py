# Compiled by mypyc: see setup.py.
"""The proxy's own answers on the wire: small, one sentence, no address and no version (docs/wire.md, answers of ours)."""

import http
import json

from proxy.http.message import Answer, Request


def render(answer: Answer, request: Request | None, *, request_id: str, close: bool) -> tuple[bytes, int]:
    """Write an answer out: its bytes and the size of its body. JSON where the client prefers it; no body for HEAD."""
    as_json = request is not None and any("json" in value and "html" not in value for value in request.values("accept"))
    if as_json:
        body = json.dumps({"status": answer.status, "message": answer.message, "request_id": request_id}).encode() + b"\n"
    else:
        body = answer.message.encode() + b"\n" if answer.message else b""
    reason = http.HTTPStatus(answer.status).phrase
    lines = [f"HTTP/1.1 {answer.status} {reason}"]
    if answer.status != 204:
        lines += [f"Content-Type: {'application/json' if as_json else 'text/plain; charset=utf-8'}", f"Content-Length: {len(body)}"]
    lines.append(f"X-Request-ID: {request_id}")
    options = [value for name, value in answer.headers if name == "Connection"]
    lines += [f"{name}: {value}" for name, value in answer.headers if name != "Connection"]
    if close:
        options.append("close")
    if options:
        lines.append(f"Connection: {', '.join(options)}")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    if request is not None and request.method == "HEAD":
        body = b""
    return head + body, len(body)
