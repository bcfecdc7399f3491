"""Strict-Transport-Security (RFC 6797): never over plain HTTP, where it would say nothing (7.2)."""

from proxy.filters.contract import AnswerFilter
from proxy.http.answer_head import AnswerHead
from proxy.http.message import Request
from proxy.model.policy import Hsts

NAME = b"Strict-Transport-Security"


def hsts_value(policy: Hsts) -> str:
    """Write the field's value (RFC 6797, 6.1); `preload` is what the lists of browsers ask for."""
    value = f"max-age={policy.max_age}"
    if policy.include_subdomains:
        value += "; includeSubDomains"
    if policy.preload:
        value += "; preload"
    return value


def compile_hsts(policy: Hsts) -> AnswerFilter:
    """Make the filter of one route. A field of the backend stays unless the policy overrides it."""
    value, lowered = hsts_value(policy).encode(), NAME.lower()

    def secure(request: Request, head: AnswerHead) -> None:
        if request.secure and (policy.override or not head.values(lowered)):
            head.set(NAME, value)

    return secure
