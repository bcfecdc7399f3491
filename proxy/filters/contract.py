"""The contract of filters: one sees a request before it goes on, and lets it pass, answers it, or needs time to decide."""

from collections.abc import Awaitable, Callable

from proxy.http.message import Answer, Request

Verdict = Answer | Awaitable[Answer | None] | None
"""None: pass. Only an awaitable leaves the synchronous path."""
Filter = Callable[[Request], Verdict]
