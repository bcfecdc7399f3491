"""`sluice controller`: the cluster as the source, the proxy of the same pod as the receiver, owners of objects as the audience."""

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from controller.process.malloc import return_freed_memory
from controller.publish.hub import Hub
from controller.publish.server import Peers, serve
from controller.reconciler import Reconciler
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.stored_status import Addresses
from controller.settings import ClusterSettings, Settings, service_ref, translate_settings
from controller.sources.api_session import ApiSessionError
from controller.sources.cluster import ClusterSource
from controller.status.tracker import Tracker
from controller.translate.certificates import secret_ref

_log = logging.getLogger("sluice.controller")
PROXY_GONE_SECONDS = 1.5
"""Without a connection of the proxy for so long, at the end, it is gone."""
RESTART = 5.0
"""Seconds until a part that failed is started again."""
TIME_SECONDS = 0.5
"""How often it is looked whether a backend has had no ready endpoint for long enough to say so, while one has none."""


async def run_controller(settings: Settings, cluster: ClusterSettings) -> int:
    """Run until SIGTERM or SIGINT and the proxy's end; return the exit code."""
    return_freed_memory()
    controller = Controller(settings, cluster)
    try:
        return await controller.run()
    except ApiSessionError as error:
        _log.error("%s", error)
        return 2


class Controller:
    """The parts, and what connects them."""

    def __init__(self, settings: Settings, cluster: ClusterSettings) -> None:
        self._cluster = cluster
        self._hub = Hub()
        self._peers = Peers()
        self._tracker = Tracker()
        self._source = ClusterSource(
            cluster.watch_namespaces,
            self._changed,
            self._status_changed,
            namespace_selector=cluster.watch_namespace_selector,
            always=[secret_ref(settings.default_certificate)] if settings.default_certificate else [],
            publish_service=service_ref(cluster.publish_service),
            pod_grace=cluster.pod_grace,
        )
        self._reconciler = Reconciler(
            lambda: (self._source.snapshot, self._source.problems),
            translate_settings(
                settings,
                standalone=False,
                controller_name=cluster.controller_name,
                own_addresses=cluster.pod_addresses,
            ),
            self._hub,
            built=self._built,
        )
        self._ending = asyncio.Event()
        self._last_state: object = None
        """Of the last build."""
        self._wake_writer: Callable[[], None] = lambda: None
        """Of statuses, where there is one."""
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> int:
        """Serve; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        self._hub.on_request = self._acknowledged
        runner = await serve(self._hub, Path(self._cluster.control_socket), proxy_uid=self._cluster.proxy_uid, peers=self._peers)
        health = await self._serve_health()
        source = asyncio.create_task(self._source.run(), name="source")
        tasks = [source, asyncio.create_task(self._reconcile(), name="reconciler")]
        status = asyncio.create_task(self._write_status(), name="status")
        try:
            ending = asyncio.create_task(self._ending.wait())
            await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    await task  # neither ends by itself: this raises why it did
            _log.info("ending: the Lease is given up, the proxy is fed until it has gone")
            status.cancel()
            await asyncio.gather(status, return_exceptions=True)
            await self._await_proxy_end()
        finally:
            status.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(status, *tasks, return_exceptions=True)
            await runner.cleanup()
            await health.cleanup()
        return 0

    def _changed(self, kind: str) -> None:
        self._reconciler.poke(urgent=kind == "EndpointSlice")

    def _status_changed(self, ref: ObjectRef) -> None:
        if ref.kind == "Service":
            self._tracker.mark_all_dirty()
        else:
            self._tracker.mark_dirty(ref)
        self._wake_writer()

    def _built(self) -> None:
        translation = self._reconciler.last
        if translation is not None:
            # A new state, as after a fault of ours, knows no differences from the one before it.
            changed = translation.state.changed_verdicts if translation.state is self._last_state else None
            self._last_state = translation.state
            self._tracker.built(
                *(self._source.snapshot, translation.verdicts, self._hub.root, changed),
                changed_readiness=translation.state.changed_readiness,
                now=time.monotonic(),
            )
            self._wake_writer()
            self._watch_time()

    def _watch_time(self) -> None:
        """Let time pass for the tracker while something waits for it."""
        if self._timer is None and self._tracker.waits:
            self._timer = asyncio.get_running_loop().call_later(TIME_SECONDS, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        if self._tracker.advance(time.monotonic()):
            self._wake_writer()
        self._watch_time()

    def _acknowledged(self) -> None:
        self._tracker.acknowledged(self._hub.acknowledged, self._hub.rejected)
        self._wake_writer()

    async def _reconcile(self) -> None:
        """Publish once every kind is known; not while one may not be read and the proxy holds what it was given before us."""
        await self._source.listed.wait()
        while self._source.forbidden and await self._proxy_holds_something():
            _log.warning("a kind may not be read: the proxy keeps what it has until that changes")
            self._reconciler.publish_report()
            await asyncio.sleep(RESTART)
        self._reconciler.poke()
        await self._reconciler.run()

    async def _proxy_holds_something(self) -> bool:
        """Tell whether the proxy has a configuration; it asks within a second where it runs already."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROXY_GONE_SECONDS):
                await self._peers.arrived.wait()
        return bool(self._hub.acknowledged)

    async def _serve_health(self) -> web.AppRunner:
        async def healthz(_: web.Request) -> web.Response:
            if self._source.alive:
                return web.Response(text="ok\n")
            return web.Response(status=503, text="A watch has been silent for too long.\n")

        app = web.Application()
        app.router.add_get("/healthz", healthz)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        host, _, port = self._cluster.health.rpartition(":")
        await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
        for address in runner.addresses:
            _log.info("health=%s:%d", *address[:2])
        return runner

    async def _write_status(self) -> None:
        """Stand for election and write, where that is wanted; a fault in it takes nothing from serving."""
        cluster = self._cluster
        if not cluster.update_status:
            return
        if not cluster.pod_namespace:
            _log.warning("POD_NAMESPACE is not set: no Lease can be held, so nothing is written to any object")
            return
        identity = cluster.pod_name or socket.gethostname()
        while True:
            try:
                await self._lead(identity)
            except Exception:  # noqa: BLE001  whatever it is, the proxy is fed on
                _log.exception("statuses are not written; trying again in %g s", RESTART)
            await asyncio.sleep(RESTART)

    async def _lead(self, identity: str) -> None:
        # Imported here: the client takes a second and 50 MB, and feeding the proxy does not wait for either.
        from controller.status.client import open_client  # noqa: PLC0415
        from controller.status.leader import Leader  # noqa: PLC0415
        from controller.status.nodes import Nodes  # noqa: PLC0415
        from controller.status.writer import View, Writer  # noqa: PLC0415

        cluster = self._cluster

        def write_all() -> None:
            self._tracker.mark_all_dirty()
            writer.wake()

        def changed(leading: bool) -> None:  # noqa: FBT001  a callback
            if leading:
                write_all()
                nodes.wake()

        def addresses() -> Addresses:
            if cluster.publish_address:
                return tuple(_address(text) for text in cluster.publish_address)
            return nodes.addresses if cluster.publish_nodes else self._source.published

        leader = Leader(cluster.lease, cluster.pod_namespace, identity, changed)
        nodes = Nodes(cluster.pod_namespace, cluster.publish_nodes, lambda: leader.leading, write_all)
        writer = Writer(self._tracker, View(self._source.stored_statuses, addresses), lambda: leader.leading)
        self._wake_writer = writer.wake
        async with await open_client() as api, asyncio.TaskGroup() as group:
            group.create_task(writer.run(api))
            group.create_task(leader.run(api))
            if cluster.publish_nodes and not cluster.publish_address:
                group.create_task(nodes.run(api))

    async def _await_proxy_end(self) -> None:
        """Feed the proxy until it has closed its connection, and does not come back."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._cluster.grace):
                absent = 0.0
                while absent < PROXY_GONE_SECONDS:
                    absent = 0.0 if self._peers.count else absent + 0.1
                    await asyncio.sleep(0.1)


def _address(text: str) -> tuple[str, str]:
    """Tell an address from a host name, as the status of a load balancer does."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, text)
            return text, ""
    return "", text
