"""Header fields that a route sets, adds and removes, of requests and of answers (Gateway API, HTTPHeaderFilter).

The fields that frame a message, those of one connection and those that the proxy writes itself never come here: the API refuses
them by name.
"""

from collections.abc import Iterable, Sequence

from proxy.filters.contract import AnswerFilter, Filter
from proxy.http.answer_head import AnswerHead
from proxy.http.message import Request
from proxy.model.policy import HeaderField, RequestHeaderModifier, ResponseHeaderModifier


def compile_request_header_modifier(policy: RequestHeaderModifier) -> Filter:
    """Make the filter that changes what goes to the backend."""
    gone = _gone(policy.set, policy.remove)
    written = b"".join(b"%b: %b\r\n" % _encoded(field) for field in (*policy.set, *policy.add))

    def modify(request: Request) -> None:
        # Most requests have none of the names: looking for them in one piece costs less than taking lines apart.
        block = request.fields
        lowered = b"\r\n" + block.lower()
        for name in gone:
            if name in lowered:
                block = _without(block, gone)
                break
        request.fields = block + written

    return modify


def _without(block: bytes, gone: Sequence[bytes]) -> bytes:
    lines = block.split(b"\r\n")[:-1]
    return b"".join([line + b"\r\n" for line in lines if b"\r\n%b:" % line.partition(b":")[0].lower() not in gone])


def _gone(written: Iterable[HeaderField], removed: Iterable[str]) -> tuple[bytes, ...]:
    """Return where the line of a field begins that goes, in lower case."""
    return tuple(f"\r\n{name.lower()}:".encode("latin-1") for name in (*(field.name for field in written), *removed))


def compile_response_header_modifier(policy: ResponseHeaderModifier) -> AnswerFilter:
    """Make the filter that changes what comes from the backend."""
    replaced = tuple(_encoded(field) for field in policy.set)
    added = tuple(_encoded(field) for field in policy.add)
    removed = tuple(name.lower().encode("latin-1") for name in policy.remove)

    def modify(_request: Request, head: AnswerHead) -> None:
        for name in removed:
            head.remove(name)
        for name, value in replaced:
            head.set(name, value)
        for name, value in added:
            head.add(name, value)

    return modify


def _encoded(field: HeaderField) -> tuple[bytes, bytes]:
    return field.name.encode("latin-1"), field.value.encode("latin-1")
