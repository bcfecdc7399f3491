"""The current configuration, the last few before it, and which of them the proxy acknowledged."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping

import msgspec

from proxy.model.config import ProxyConfig
from proxy.model.wire import Encoded, Report, SyncReply, SyncRequest, encode_config, reply_between

HISTORY = 4
"""Configurations to which a reply can be a difference; a proxy that holds an older one gets everything."""


class Hub:
    """Publishes configurations and reports to the proxy."""

    def __init__(self) -> None:
        self._current: Encoded | None = None
        self._history: OrderedDict[str, Encoded] = OrderedDict()
        self._report = Report()
        self._sent_report: Report | None = None
        self._changed = asyncio.Event()
        self._request = 0
        self.acknowledged = ""
        """Root that the proxy has applied."""
        self.rejected: Mapping[str, str] = {}
        """Routes that the proxy could not compile, and why."""
        self.on_request: Callable[[], None] | None = None
        """Called when the proxy has named the root that it holds."""

    @property
    def root(self) -> str:
        """Root of the configuration that is offered; empty: none is."""
        return self._current.root if self._current is not None else ""

    def publish(self, config: ProxyConfig, report: Report) -> bool:
        """Offer a configuration and its report; False: both are as they were."""
        encoded = encode_config(config, self._current)
        before = self._report
        same_report = msgspec.structs.replace(before, observed_at=0.0) == msgspec.structs.replace(report, observed_at=0.0)
        if self._current is not None and encoded.root == self._current.root and same_report:
            return False
        self._current, self._report = encoded, report
        self._history[encoded.root] = encoded
        self._history.move_to_end(encoded.root)
        while len(self._history) > HISTORY:
            self._history.popitem(last=False)
        self._wake()
        return True

    def publish_report(self, report: Report) -> None:
        """Publish a report without a configuration: the proxy keeps the one that it has."""
        if msgspec.structs.replace(self._report, observed_at=0.0) != msgspec.structs.replace(report, observed_at=0.0):
            self._report = report
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def sync(self, request: SyncRequest, wait: float, *, fresh: bool = False) -> SyncReply | None:
        """Answer the proxy: what it lacks as soon as it lacks something; None: nothing within `wait` seconds.

        There is one proxy: a newer request ends the waiting of an older one. `fresh`: it came by a new connection, so the last
        report may be lost and is sent again.
        """
        self.acknowledged, self.rejected = request.digest, request.rejected
        if self.on_request is not None:
            self.on_request()
        self._request += 1
        request_number = self._request
        self._wake()
        if fresh:
            self._sent_report = None
        try:
            async with asyncio.timeout(wait):
                while request_number == self._request:
                    current, changed = self._current, self._changed
                    report_is_new = self._report is not self._sent_report
                    if current is not None and (report_is_new or current.root != request.digest):
                        self._sent_report = self._report
                        return reply_between(self._history.get(request.digest), current, self._report)
                    if current is None and report_is_new and request.digest and self._report.problems:
                        self._sent_report = self._report
                        return self.idle_reply(request)
                    await changed.wait()
        except TimeoutError:
            pass
        return None

    def idle_reply(self, request: SyncRequest) -> SyncReply:
        """Return the answer that nothing changed."""
        return SyncReply(
            version=request.version, base=request.digest, digest=request.digest, upsert={}, remove=(), report=self._report
        )
