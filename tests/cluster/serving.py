"""Sluice installed by helm on the node, a shop with real backends behind it, and a load on both."""

import contextlib
import ipaddress
import json
import ssl
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import trustme
from cluster.backend_image import BACKENDS
from cluster.load import Plan, Seen
from cluster.nodes import Namespace
from cluster_binaries import build

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "sluice"
PLAIN, SECURE = "shop.example.com", "chat.example.com"
VALUES: Mapping[str, Any] = {
    "image": {"pullPolicy": "Never"},
    "service": {"type": "NodePort"},
    # One worker each: a pod is what these tests are about. Sockets of an ending pod are closed within three seconds, not thirty.
    "proxy": {"workers": 1, "drainTime": "3s"},
}
_NAME = "app.kubernetes.io/instance"


class Release(Namespace):
    """An installation in a namespace of its own, whose name is the release's and the class's."""

    def helm(self, *arguments: str, **values: object) -> str:
        """Run helm on this release, with these values over `VALUES`; fails the test if helm fails."""
        whole = _merged(
            _merged(VALUES, {"ingressClass": {"name": self.name, "controllerName": f"sluice.dev/{self.name}"}}),
            {"status": {"publishAddresses": [self.node.address]}, **values},
        )
        command = [str(build("helm")), f"--kubeconfig={self.node.kubeconfig}", f"--namespace={self.name}", *arguments]
        done = subprocess.run(
            [*command, self.name, str(CHART), "--values=-", "--wait", "--timeout=90s"],
            input=json.dumps(whole),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def deployment(self) -> str:
        return self.names("deployment")[0]

    def names(self, kind: str) -> list[str]:
        """Return the names of the release's objects of a kind."""
        found = json.loads(self.kubectl("get", kind, f"--selector={_NAME}={self.name}", "-o=json"))["items"]
        return [f"{kind}/{one['metadata']['name']}" for one in found]

    def pods(self) -> dict[str, dict[str, Any]]:
        """Return the pods that are not ending, by name."""
        found = json.loads(self.kubectl("get", "pods", f"--selector={_NAME}={self.name}", "-o=json"))["items"]
        return {one["metadata"]["name"]: one for one in found if "deletionTimestamp" not in one["metadata"]}

    def ports(self) -> dict[str, int]:
        """Return the NodePorts of the public Service by name."""
        found = json.loads(self.kubectl("get", self.names("service")[0], "-o=json"))
        return {one["name"]: one["nodePort"] for one in found["spec"]["ports"]}

    def settle(self) -> None:
        """Wait until the pods are those of the newest template, and no other is left."""
        self.kubectl("rollout", "status", self.deployment, "--timeout=90s")
        selector = f"{_NAME}={self.name}"
        self.node.until(
            "Only the pods of the newest template are left",
            lambda: (
                len(self.node.get(f"/api/v1/namespaces/{self.name}/pods?labelSelector={selector}")["items"]) == len(self.pods())
            ),
            within=90,
        )

    def metrics(self, pod: str) -> str:
        """Return what a pod tells Prometheus."""
        address = self.pods()[pod]["status"]["podIP"]
        return self.node.run(["busybox", "wget", "-q", "-O-", f"http://{address}:9090/metrics"]).stdout.decode()

    def kill(self, pod: str, container: str) -> None:
        """Kill the first process of a container, as SIGKILL does."""
        identity = next(one["containerID"] for one in self.statuses(pod) if one["name"] == container).removeprefix("containerd://")
        self.node.run(["ctr", "-n", "k8s.io", "tasks", "kill", "--signal=SIGKILL", identity])

    def statuses(self, pod: str) -> list[dict[str, Any]]:
        """Return the statuses of a pod's containers."""
        found: list[dict[str, Any]] = self.node.get(f"/api/v1/namespaces/{self.name}/pods/{pod}")["status"]["containerStatuses"]
        return found

    def restarts(self, pod: str, container: str) -> int:
        """Return how often a container of a pod was started again."""
        return int(next(one["restartCount"] for one in self.statuses(pod) if one["name"] == container))


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `over` laid over `under`, mappings within mappings too."""
    both = {
        name: _merged(under[name], value) if isinstance(value, Mapping) and name in under else value for name, value in over.items()
    }
    return {**under, **both}


def source_addresses() -> Iterator[str]:
    """The source address of one load after the other: of no pod, no Service and no other program of the node."""
    return map(str, ipaddress.ip_network("10.98.0.0/24").hosts())


def deployment(name: str, replicas: int) -> list[dict[str, Any]]:
    """A Deployment of backends, and its Service."""
    labels = {"app": name}
    container = {
        "name": "backend",
        "image": BACKENDS,
        "imagePullPolicy": "Never",
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
        "ports": [{"name": "http", "containerPort": 8080}],
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        },
    ]


def route(name: str, host: str, ingress_class: str, **rules: dict[str, Any]) -> dict[str, Any]:
    """A WsRoute with the shop's certificate; each rule has the name of its key."""
    spec = {
        "ingressClassName": ingress_class,
        "hosts": [host],
        "tls": {"secretName": "shop-tls"},
        "rules": [{"name": key, **rule} for key, rule in rules.items()],
    }
    return {"apiVersion": "sluice.dev/v1alpha1", "kind": "WsRoute", "metadata": {"name": name}, "spec": spec}


class Shop(Namespace):
    """A namespace with an HTTP echo of two pods behind an Ingress, and behind a WsRoute the same and a Socket.IO server."""

    def __init__(self, release: Release, name: str, sources: Iterator[str]) -> None:
        super().__init__(release.node, name)
        self.release = release
        self._sources = sources
        self.authority = trustme.CA()
        self.trusted = release.node.state / f"{name}.pem"
        self.authority.cert_pem.write_to_path(self.trusted)

    def open(self) -> None:
        """Make everything, and wait until it is served."""
        self.kubectl("create", "namespace", self.name)
        self.wait("create", "serviceaccount/default")
        self.certify()
        to = {"backends": [{"service": "echo", "port": 80}]}
        support = {"backends": [{"service": "support", "port": "http"}]}
        path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "echo", "port": {"name": "http"}}}}
        self.apply(
            *deployment("echo", 2),
            *deployment("support", 1),
            route(
                "chat",
                SECURE,
                self.release.name,
                support={"path": {"value": "/socket.io"}, "websocket": support},
                all={"websocket": to, "http": to},
            ),
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "Ingress",
                "metadata": {"name": "shop"},
                "spec": {"ingressClassName": self.release.name, "rules": [{"host": PLAIN, "http": {"paths": [path]}}]},
            },
        )
        for name in ("echo", "support"):
            self.kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s")
        self.wait("condition=Programmed", "wsroute/chat")

    def settle(self, name: str, replicas: int) -> None:
        """Wait until a Deployment has so many pods, and none that is ending."""
        path = f"/api/v1/namespaces/{self.name}/pods?labelSelector=app={name}"
        self.node.until("Only pods that stay are left", lambda: len(self.node.get(path)["items"]) == replicas)

    def certify(self) -> bytes:
        """Give the Secret a new certificate; return it in DER."""
        made = self.authority.issue_cert(SECURE)
        data = {"tls.crt": made.cert_chain_pems[0].bytes().decode(), "tls.key": made.private_key_pem.bytes().decode()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop-tls"}, "type": "kubernetes.io/tls"}
        self.apply({**secret, "stringData": data})
        return ssl.PEM_cert_to_DER_cert(data["tls.crt"])

    @contextlib.contextmanager
    def load(self, address: str = "", http: int = 0, https: int = 0) -> Iterator["Load"]:
        """Load the shop, by default through the NodePorts, from a process in the node's network; every client was answered once."""
        ports = self.release.ports()
        where = address or self.node.address, http or ports["http"], https or ports["https"]
        source = next(self._sources)
        self.node.run(["ip", "address", "add", f"{source}/32", "dev", "lo"])
        plan = Plan(*where, source, PLAIN, SECURE, str(self.trusted))
        command = [sys.executable, "-P", str(Path(__file__).with_name("load.py")), json.dumps(asdict(plan))]
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(
                self.node.in_network(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            ) as process,
        ):
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                if line != "answered\n":
                    errors.seek(0)
                    raise AssertionError(f"the load ended by itself: {errors.read()}")
                yield Load(process, errors)
            finally:
                process.kill()


@dataclass(frozen=True, slots=True)
class Load:
    """A load that runs."""

    process: subprocess.Popen[str]
    errors: IO[str]

    def end(self) -> Seen:
        """End it, and return what it saw."""
        said, _ = self.process.communicate(timeout=30)
        if self.process.returncode:
            self.errors.seek(0)
            raise AssertionError(f"the load failed: {self.errors.read()}")
        seen = json.loads(said)
        return Seen(**{**seen, "pods": Counter(seen["pods"]), "closes": Counter(seen["closes"])})
