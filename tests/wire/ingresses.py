"""Ingresses as people have them, translated and served: which backend gets a raw target, and what it and the client see."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from wire.harness import Proxy, proxying
from wire.several import WS_KEY
from wire.verbs import UPGRADE, behaving

from controller.resources import parse_object
from controller.sources.snapshot import Store
from controller.translate import TranslateSettings, Translation, translate
from proxy.websocket.handshake import accept_for

NGINX = "nginx.ingress.kubernetes.io/"
SERVICES = ("A", "B", "C")


def ingress(
    name: str,
    *paths: tuple[str, str, str],
    host: str = "h.test",
    namespace: str = "shop",
    created: str = "",
    default: str = "",
    **annotations: str,
) -> dict[str, Any]:
    """An Ingress: paths as (path, pathType, Service); keywords are ingress-nginx's annotations with `_` for `-`."""
    items = [
        {"path": path, "pathType": kind, "backend": {"service": {"name": service.lower(), "port": {"number": 80}}}}
        for path, kind, service in paths
    ]
    spec: dict[str, Any] = {"rules": [{"host": host, "http": {"paths": items}}]}
    if default:
        spec["defaultBackend"] = {"service": {"name": default.lower(), "port": {"number": 80}}}
    named = {NGINX + key.replace("_", "-"): value for key, value in annotations.items()}
    metadata = {"name": name, "namespace": namespace, "annotations": named, "creationTimestamp": created or None}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}


def ws_route(
    name: str, path: str, service: str, *, kind: str = "Prefix", namespace: str = "shop", host: str = "h.test"
) -> dict[str, Any]:
    """A WsRoute for both kinds of traffic."""
    backends = {"backends": [{"service": service.lower(), "port": 80}]}
    rule = {"path": {"type": kind, "value": path}, "websocket": backends, "http": backends}
    return {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "WsRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hosts": [host], "rules": [rule]},
    }


def translated(*objects: Mapping[str, Any], ports: Mapping[str, int]) -> Translation:
    """Translate objects beside Services of these names, in every namespace that they are of."""
    store = Store()
    for namespace in {raw["metadata"]["namespace"] for raw in objects}:
        for name, port in ports.items():
            for raw in _backend(name.lower(), namespace, port):
                _put(store, raw)
    for raw in objects:
        _put(store, raw)
    return translate(store.snapshot(), TranslateSettings(implicit_class=True, allow_loopback=True))


def _put(store: Store, raw: Mapping[str, Any]) -> None:
    record = parse_object(raw)
    assert record is not None
    store.apply(record)


def _backend(name: str, namespace: str, port: int) -> tuple[dict[str, Any], dict[str, Any]]:
    labels = {"kubernetes.io/service-name": name}
    return (
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"ports": [{"port": 80}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "ports": [{"port": port}],
            "endpoints": [{"addresses": ["127.0.0.1"]}],
        },
    )


class Served:
    """The proxy with backends A, B and C."""

    def __init__(self, proxy: Proxy, ports: Mapping[str, int]) -> None:
        self.proxy = proxy
        self._ports = ports

    def applies(self, *objects: Mapping[str, Any]) -> Translation:
        """Serve these objects."""
        found = translated(*objects, ports=self._ports)
        self.proxy.serves(found.config)
        return found

    async def asks(self, target: str, *fields: str, host: str = "h.test", method: str = "GET") -> str:
        """Send a raw target. Return "A /seen" of the backend that served it and what it saw, or the status and Location."""
        client = await self.proxy.client()
        lines = "".join(f"{field}\r\n" for field in fields)
        await client.sends(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode("latin-1"))
        status, answered, body = await client.answer()
        client.closes()
        if status == 200:
            return body.decode("latin-1")
        return f"{status} {answered['location']}" if "location" in answered else str(status)

    async def upgrades(self, target: str, host: str = "h.test") -> str:
        """Open a WebSocket. Return the backend and what it saw, or the status."""
        client = await self.proxy.client()
        request = UPGRADE.replace(b"Host: a.test", f"Host: {host}".encode()).replace(b" /ws ", f" {target} ".encode())
        await client.sends(request + b"\r\n")
        head = (await client.head()).decode("latin-1")
        seen = next((line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("x-seen")), "")
        client.resets()
        return seen or head.split(" ")[1]


@contextlib.asynccontextmanager
async def serving(*objects: Mapping[str, Any]) -> AsyncIterator[Served]:
    """Serve objects with backends A, B and C, each of which says who it is and which target it saw."""
    names: dict[int, str] = {}

    def reply(port: int, head: bytes) -> bytes:
        target = head.split(b" ", 2)[1]
        seen = names[port].encode() + b" " + target
        if b"\r\nupgrade: websocket\r\n" in head.lower():
            accept = accept_for(WS_KEY).encode()
            return (
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\nX-Seen: " + seen + b"\r\n\r\n"
            )
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(seen), seen)

    async with contextlib.AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxying())
        ports = {}
        for name in SERVICES:
            backend = await stack.enter_async_context(behaving(reply))
            names[backend.port] = name
            ports[name] = backend.port
        served = Served(proxy, ports)
        served.applies(*objects)
        yield served
