"""Requests that announce a larger body than their route takes are refused before a backend is asked.

What a chunked body comes to is counted by its exchange (proxy/exchange/forwarder.py).
"""

from proxy.filters.contract import Filter
from proxy.http.local_replies import BODY_TOO_LARGE
from proxy.http.message import Answer, Request
from proxy.model.policy import BodySize


def compile_body_size(policy: BodySize) -> Filter:
    """Make the filter."""
    most = policy.most

    def judge(request: Request) -> Answer | None:
        return BODY_TOO_LARGE if request.length > most else None

    return judge
