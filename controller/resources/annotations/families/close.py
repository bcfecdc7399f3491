"""What becomes of open sockets."""

from controller.resources.annotations.annotation import Annotation, Family, Parse, Refused, ours
from controller.resources.annotations.values import choice, text_of, timeout
from controller.resources.features.close import CODE_HINT, REASON_HINT
from proxy.model.sockets import is_close_code, is_close_reason

_MODES = "`Keep`, `Drain` (default), `Now`"
_DOCS = "[closing.md](closing.md)"


def close_code(text: str) -> int | Refused:
    """Read a close code."""
    is_code = text.isascii() and text.isdigit() and len(text) == 4 and is_close_code(int(text))
    return int(text) if is_code else Refused(CODE_HINT)


def _on(event: str, means: str) -> Annotation:
    modes: Parse = choice("Keep", "Drain", "Now")
    return ours(f"close.on{event}", modes, _MODES, means)


FAMILY = Family(
    "Open sockets",
    (
        _on("RouteRemoved", f"what becomes of sockets whose route goes: {_DOCS}"),
        _on("EndpointTerminating", f"what becomes of sockets whose endpoint ends: {_DOCS}"),
        _on("PolicyChanged", f"what becomes of sockets that a new policy would not have let in: {_DOCS}"),
        ours("close.drain.over", timeout, "duration, `30s` by default", "the time over which closes are spread evenly"),
        ours("close.drain.code", close_code, '`"1012"` by default, in quotes', "the close code of a drained socket"),
        ours(
            "close.drain.reason",
            text_of(lambda text: text if is_close_reason(text) else None, REASON_HINT),
            "text, `service restart` by default",
            "the reason beside the code",
        ),
    ),
    "close",
)
