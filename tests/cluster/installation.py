"""Sluice on a control plane: the chart's RBAC and class, and both processes of a pod on this machine."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from cluster.control_plane import ControlPlane
from cluster.relay import Relay
from cluster_binaries import build

ROOT = Path(__file__).parents[2]
CRD = ROOT / "manifests/crds/sluice.dev_wsroutes.yaml"
WAIT = 40.0
"""Seconds until what was not seen counts as missing."""
GOOD = {"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs", "Programmed": "True Programmed"}
"""Conditions of a WsRoute with which nothing is wrong."""
_INSTALLED = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "IngressClass")


def define(plane: ControlPlane) -> None:
    """Install the WsRoute definition and wait until it is served."""
    plane.apply(CRD.read_text())
    plane.kubectl("wait", "--for=condition=Established", "crd/wsroutes.sluice.dev", "--timeout=30s")
    deadline = time.monotonic() + WAIT
    while plane.kubectl("get", "wsroutes", "-A", check=False).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def rendered(release: str, namespace: str, **values: str) -> list[dict[str, Any]]:
    """Render the chart as `helm install` does."""
    sets = [part for name, value in values.items() for part in ("--set", f"{name.replace('__', '.')}={value}")]
    command = [str(build("helm")), "template", release, str(ROOT / "charts/sluice"), "--namespace", namespace, *sets]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@dataclass
class Installation:
    """A namespace of its own, with the chart's account, roles and class."""

    plane: ControlPlane
    name: str
    folder: Path
    arguments: tuple[str, ...] = ()
    objects: list[dict[str, Any]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    """Variables that controllers are started with, beside those of a pod."""

    @property
    def account(self) -> str:
        return next(one["metadata"]["name"] for one in self.objects if one["kind"] == "ServiceAccount")

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{self.name}:{self.account}"

    def role(self) -> dict[str, Any]:
        """Return the role of the controller for the whole cluster."""
        return next(one for one in self.objects if one["kind"] == "ClusterRole" and "secrets" in str(one["rules"]))

    def kubeconfig(self, relay: Relay | None = None) -> Path:
        """Write a kubeconfig of the chart's account."""
        token = self.plane.token(self.account, self.name)
        if relay is None:
            return self.plane.kubeconfig(token, name=self.name)
        return self.plane.kubeconfig(token, server=relay.url, ca=relay.ca, name=f"{self.name}-relayed")

    @contextlib.asynccontextmanager
    async def pod(self, *arguments: str, relay: Relay | None = None, name: str = "", proxy: bool = True) -> AsyncIterator["Pod"]:
        """Run the pod's processes. `relay`: something between them and the API server."""
        pod = Pod(self, name or f"{self.name}-0", self.folder / f"{name or 'pod'}.sock", relay)
        try:
            await pod.start_controller(*self.arguments, *arguments)
            if proxy:
                await pod.start_proxy()
            yield pod
        finally:
            await pod.end()


@contextlib.contextmanager
def installed(plane: ControlPlane, name: str, folder: Path, **values: str) -> Iterator[Installation]:
    """Install what `helm install` does, but for the pods. Namespace and, unless values say so, class are of that name."""
    values = {"ingressClass__name": name, "ingressClass__controllerName": f"sluice.dev/{name}", **values}
    controller_name = values["ingressClass__controllerName"]
    objects = rendered("sluice", name, **values)
    plane.kubectl("create", "namespace", name, check=False)
    plane.apply(*(json.dumps(one) + "\n" for one in objects if one["kind"] in _INSTALLED))
    yield Installation(plane, name, folder, ("--controller-name", controller_name), objects)
    plane.kubectl("delete", "namespace", name, "--wait=false", check=False)


@dataclass
class Pod:
    """The two processes of a pod."""

    installation: Installation
    name: str
    socket: Path
    relay: Relay | None
    controller: asyncio.subprocess.Process | None = None
    proxy: asyncio.subprocess.Process | None = None
    health: int = 0
    log: list[str] = field(default_factory=list)
    ports: Mapping[str, int] = field(default_factory=dict)
    _reader: asyncio.Task[None] | None = None
    _line: asyncio.Event = field(default_factory=asyncio.Event)

    async def start_controller(self, *arguments: str) -> None:
        self.controller = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controller.cli", "controller", "--control-socket", str(self.socket)),
            *("--health", "127.0.0.1:0", *arguments),
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("KUBE")},
                "KUBECONFIG": str(self.installation.kubeconfig(self.relay)),
                "POD_NAME": self.name,
                "POD_NAMESPACE": self.installation.name,
                **self.installation.environment,
            },
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        self._reader = asyncio.create_task(self._read(self.controller))
        await self.logged("health=")
        line = next(line for line in reversed(self.log) if "health=" in line)
        self.health = int(line.rsplit(":", 1)[1])

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            self.log.append(line.decode().rstrip())
            self._line.set()

    async def logged(self, text: str, *, after: int = 0) -> str:
        """Wait until the controller has said something."""
        try:
            async with asyncio.timeout(WAIT):
                while True:
                    for line in self.log[after:]:
                        if text in line:
                            return line
                    self._line.clear()
                    await self._line.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} was never said:\n" + "\n".join(self.log[-30:])) from None

    @property
    def controller_pid(self) -> int:
        """Process of the controller itself, whose restarter is its parent; 0: it is down."""
        assert self.controller is not None
        pid = self.controller.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else 0

    async def start_proxy(self) -> None:
        self.proxy = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "--control-socket", str(self.socket), "--drain-delay", "0", "--workers", "1"),
            *("--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self.proxy.stdout is not None
        async with asyncio.timeout(WAIT):
            line = (await self.proxy.stdout.readline()).decode()
        where = dict(part.split("=", 1) for part in line.split()[1:])
        self.ports = {name: int(where[name].rsplit(":", 1)[1]) for name in ("http", "https", "admin")}

    async def kill_controller(self, number: int = 9) -> int:
        """End the controller and return its exit code."""
        assert self.controller is not None
        with contextlib.suppress(ProcessLookupError):
            self.controller.send_signal(number)
        async with asyncio.timeout(WAIT):
            code = await self.controller.wait()
        if self._reader is not None:
            await self._reader
        self.controller._transport.close()  # type: ignore[attr-defined]
        self.controller = None
        return code

    async def end(self) -> None:
        for process in (self.proxy, self.controller):
            if process is None:
                continue
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await process.wait()
            process._transport.close()  # type: ignore[attr-defined]
        if self._reader is not None:
            await self._reader

    async def ask(self, path: str, *, port: str = "admin", host: str = "127.0.0.1") -> tuple[int, str]:
        """Ask the proxy; status 0: it does not listen, as before its first configuration."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
                session.get(f"http://127.0.0.1:{self.ports[port]}{path}", headers={"Host": host}, allow_redirects=False) as answer,
            ):
                return answer.status, await answer.text()
        except aiohttp.ClientConnectorError:
            return 0, ""

    async def answers(self, host: str, path: str = "/", status: int = 503, seconds: float = WAIT) -> None:
        """Wait until a request gets a status: 503 is a route whose Service has no endpoints yet, 404 is none."""
        await until(lambda: self.ask(path, port="http", host=host), lambda found: found[0] == status, seconds)

    async def upgrade(self, host: str, path: str = "/", **headers: str) -> int:
        """Ask for a WebSocket; return the status of the answer."""
        url = f"http://127.0.0.1:{self.ports['http']}{path}"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            try:
                async with session.ws_connect(url, headers={"Host": host, **headers}):
                    return 101
            except aiohttp.WSServerHandshakeError as error:
                return error.status

    async def routes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((await self.ask("/routes"))[1])
        return found

    async def problems(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((await self.ask("/problems"))[1])
        return found

    async def healthy(self) -> int:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.health}/healthz") as answer:
            return answer.status


async def until(look: Callable[[], Any], good: Callable[[Any], bool], seconds: float = WAIT) -> Any:
    """Look again and again until what is seen is good; there is nothing to wait on across processes."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if asyncio.iscoroutine(found):
            found = await found
        if good(found):
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s; the last seen is {found!r}")
        await asyncio.sleep(0.02)


def ws_route(namespace: str, name: str, host: str, service: str = "chat", **more: Any) -> dict[str, Any]:
    """A WsRoute of the class that is named as its namespace."""
    rule: dict[str, Any] = {
        "path": {"type": "Prefix", "value": "/"},
        "http": {"backends": [{"service": service, "port": 80}]},
        "websocket": {"backends": [{"service": service, "port": 80}]},
    }
    return {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "WsRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ingressClassName": namespace, "hosts": [host], "rules": [{**rule, **more}]},
    }


def service(namespace: str, name: str = "chat", port: int = 80) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": [{"port": port, "targetPort": 8080}]},
    }


def endpoint_slice(namespace: str, service: str = "chat", *addresses: str, name: str = "", **conditions: bool) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name or f"{service}-1",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True, **conditions}} for address in addresses],
    }


def ingress(namespace: str, name: str, host: str, service: str = "chat", **annotations: str) -> dict[str, Any]:
    backend = {"service": {"name": service, "port": {"number": 80}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": {
            "ingressClassName": namespace,
            "rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
        },
    }


def conditions(raw: Mapping[str, Any]) -> dict[str, str]:
    """Condition type to `status reason`; not that of endpoints, of which Services of tests have none, as it comes by time alone."""
    found = raw.get("status", {}).get("conditions", [])
    return {one["type"]: f"{one['status']} {one['reason']}" for one in found if one["type"] != "NoReadyEndpoints"}
