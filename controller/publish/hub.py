"""What the proxy may ask for: the current configuration, the last few before it, and what was acknowledged."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping

import msgspec

from proxy.model.config import ProxyConfig
from proxy.model.wire import Encoded, Report, SyncReply, SyncRequest, encode_config, reply_between

KEPT = 4
"""Configurations against which a change can be told; whoever holds an older one gets everything."""


class Hub:
    """The one place from which configurations are given out."""

    def __init__(self) -> None:
        self._current: Encoded | None = None
        self._kept: OrderedDict[str, Encoded] = OrderedDict()
        self._report = Report()
        self._said: Report | None = None
        self._changed = asyncio.Event()
        self._turn = 0
        self.acknowledged = ""
        """Root that the proxy has applied."""
        self.rejected: Mapping[str, str] = {}
        """Routes that the proxy could not compile, and why."""
        self.on_request: Callable[[], None] | None = None
        """Called when the proxy has said what it holds."""

    @property
    def root(self) -> str:
        """Root of the configuration that is offered; empty: none is."""
        return self._current.root if self._current is not None else ""

    def publish(self, config: ProxyConfig, report: Report) -> bool:
        """Offer a configuration and what is said of it; False: both are as they were."""
        encoded = encode_config(config, self._current)
        before = self._report
        same_report = msgspec.structs.replace(before, observed_at=0.0) == msgspec.structs.replace(report, observed_at=0.0)
        if self._current is not None and encoded.root == self._current.root and same_report:
            return False
        self._current, self._report = encoded, report
        self._kept[encoded.root] = encoded
        self._kept.move_to_end(encoded.root)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        self._wake()
        return True

    def say(self, report: Report) -> None:
        """Say something without offering a configuration: the proxy's own stays."""
        if msgspec.structs.replace(self._report, observed_at=0.0) != msgspec.structs.replace(report, observed_at=0.0):
            self._report = report
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def sync(self, request: SyncRequest, wait: float, *, fresh: bool = False) -> SyncReply | None:
        """Answer the proxy: what it lacks as soon as it lacks something; None: nothing within `wait` seconds.

        There is one proxy: a newer request ends the waiting of an older one. `fresh`: it came by a new connection, so what was last
        said may be lost; the report is said again.
        """
        self.acknowledged, self.rejected = request.digest, request.rejected
        if self.on_request is not None:
            self.on_request()
        self._turn += 1
        turn = self._turn
        self._wake()
        if fresh:
            self._said = None
        try:
            async with asyncio.timeout(wait):
                while turn == self._turn:
                    current, changed = self._current, self._changed
                    news = self._report is not self._said
                    if current is not None and (news or current.root != request.digest):
                        self._said = self._report
                        return reply_between(self._kept.get(request.digest), current, self._report)
                    if current is None and news and request.digest and self._report.problems:
                        self._said = self._report
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
