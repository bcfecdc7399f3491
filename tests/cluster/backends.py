"""Backends on this machine that EndpointSlices of a control plane can name: the API server takes no loopback addresses."""

import asyncio
import base64
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import trustme
from aiohttp import web
from cluster.installation import endpoint_slice, service


@dataclass(frozen=True)
class Answer:
    """What a client got."""

    status: int
    body: str
    headers: Mapping[str, str]
    certificate: bytes = b""
    """What the server showed, as DER."""


def own_address() -> str:
    """Return an address of this machine that is not loopback; skips where there is none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent: this asks for the address that would be used
        address = str(probe.getsockname()[0])
        if not address.startswith("127."):
            return address
    message = "backends need an address of this machine that is not loopback, and there is none"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@contextlib.asynccontextmanager
async def backends(namespace: str, *names: str) -> AsyncIterator[list[dict[str, Any]]]:
    """Run a server for each name, which answers with `namespace/name path`; yields the Services and EndpointSlices to create."""
    address, objects = own_address(), []
    async with contextlib.AsyncExitStack() as stack:
        for name in names:

            async def answer(request: web.Request, name: str = name) -> web.Response:
                return web.Response(text=f"{namespace}/{name} {request.path_qs}")

            app = web.Application()
            app.router.add_route("*", "/{path:.*}", answer)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, address, 0).start()
            port = {"name": "", "port": runner.addresses[0][1], "protocol": "TCP"}
            objects += [service(namespace, name), {**endpoint_slice(namespace, name, address), "ports": [port]}]
        yield objects


async def ask(port: int, host: str, path: str = "/", *, method: str = "GET", tls: bool = False) -> Answer:
    """Send one request. `tls`: with the host as the server name; whatever certificate is shown is taken, and given back."""
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=host if tls else None)
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True) if tls else b""
        finally:
            writer.transport.abort()
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split()[1]), body.decode(), headers, shown)


def tls_secret(namespace: str, name: str, host: str) -> tuple[dict[str, Any], bytes]:
    """Make a Secret with a certificate of a host; return it and the certificate as DER."""
    leaf = trustme.CA().issue_cert(host)
    pair = {"tls.crt": leaf.cert_chain_pems[0].bytes(), "tls.key": leaf.private_key_pem.bytes()}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(content).decode() for key, content in pair.items()},
    }
    return secret, ssl.PEM_cert_to_DER_cert(pair["tls.crt"].decode())


def rule(host: str, *paths: tuple[str, str, str]) -> dict[str, Any]:
    """A rule of an Ingress: kind, path and Service of each of its paths. Without a host: for all of them."""
    found = [
        {"pathType": kind, "path": path, "backend": {"service": {"name": name, "port": {"number": 80}}}}
        for kind, path, name in paths
    ]
    return {**({"host": host} if host else {}), "http": {"paths": found}}


def make_ingress(cls: str, name: str, *rules: dict[str, Any], namespace: str = "", **spec: Any) -> dict[str, Any]:
    """An Ingress in the namespace that is named as its class, or in another. `annotations` stand beside what is of the spec."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": namespace or cls, "annotations": spec.pop("annotations", {})},
        "spec": {"ingressClassName": cls, **({"rules": list(rules)} if rules else {}), **spec},
    }


def default_backend(name: str) -> dict[str, Any]:
    return {"service": {"name": name, "port": {"number": 80}}}
