"""A control plane of Kubernetes on loopback: etcd, kube-apiserver with RBAC, tokens and an audit log; no root needed."""

import asyncio
import base64
import contextlib
import datetime as dt
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
import yaml
from cluster_binaries import CONTROL_PLANE, BuildError, build
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ADMIN = "admin-token"
START_SECONDS = 60.0
NAMESPACE = "sluice-system"
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


def missing() -> str:
    """Say what this machine lacks for a control plane; empty: nothing."""
    try:
        for name in CONTROL_PLANE:
            build(name)
    except BuildError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def held_port(port: int = 0) -> Iterator[int]:
    """Keep a port of loopback, or find a free one, for whoever listens there with SO_REUSEADDR, as Go's programs do.

    The kernel gives it to nobody else meanwhile, also while nobody listens: whoever connects then is refused.
    """
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", port))
        yield int(one.getsockname()[1])


@dataclass
class ControlPlane:
    """The programs that run, and how they are reached."""

    folder: Path
    url: str
    ca: bytes
    admin: str = ADMIN
    """Of an account that may do everything."""
    store: str = ""
    """URL of etcd; empty: the cluster is somebody else's."""
    programs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the API server."""
        parts = urllib.parse.urlsplit(self.url)
        return str(parts.hostname), parts.port or 443

    def kubeconfig(self, token: str = "", *, server: str = "", ca: bytes = b"", name: str = "admin") -> Path:
        """Write a kubeconfig for a token; `server` and its `ca`: reach the API server through something else."""
        path = self.folder / f"{name}.kubeconfig"
        cluster = {
            "server": server or self.url,
            "certificate-authority-data": base64.b64encode(ca or self.ca).decode(),
        }
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": name, "user": {"token": token or self.admin}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
                    "current-context": "test",
                }
            )
        )
        return path

    def kubectl(self, *args: str, text: str = "", check: bool = True, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run kubectl as admin."""
        done = subprocess.run(
            [str(build("kubectl")), "--kubeconfig", str(self.kubeconfig()), *args],
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(args)}: {done.stderr}{done.stdout}")
        return done

    def apply(self, *objects: Mapping[str, Any] | str) -> None:
        """Apply objects on the server's side."""
        text = "---\n".join(one if isinstance(one, str) else json.dumps(one) + "\n" for one in objects)
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=text)

    def get(self, *args: str) -> Any:
        return json.loads(self.kubectl("get", *args, "-o", "json").stdout)

    def token(self, account: str, namespace: str = NAMESPACE) -> str:
        """Make a token of a service account, as a pod gets it."""
        return self.kubectl("create", "token", account, "-n", namespace, "--duration", "1h").stdout.strip()

    def audit(self, user: str) -> list[dict[str, Any]]:
        """Return every request of a user so far; a cluster of somebody else's does not show them."""
        if not self.store:
            pytest.skip("the audit log of a cluster that is not ours cannot be read")
        lines = (self.folder / "audit.log").read_text().splitlines()
        events = (json.loads(line) for line in lines if line.endswith("}"))
        # Who was refused at the door has no name.
        return [event for event in events if event["user"].get("username") == user]

    def stop(self) -> None:
        """End every program; what is stored stays in the folder."""
        _stop(self)

    def compact(self) -> None:
        """Let the store forget every version but the newest: whoever watches from an older one is told that it is gone."""
        revision = self._ask_store("/v3/kv/range", {"key": "Lw=="})["header"]["revision"]
        self._ask_store("/v3/kv/compaction", {"revision": revision, "physical": True})

    def _ask_store(self, path: str, body: Mapping[str, Any]) -> Any:
        request = urllib.request.Request(f"{self.store}{path}", data=json.dumps(body).encode())  # noqa: S310  loopback
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)

    @contextlib.asynccontextmanager
    async def client(self, token: str = "") -> AsyncIterator["Client"]:
        """Talk to the API server without kubectl: thousands of objects in seconds."""
        import ssl

        context = ssl.create_default_context(cadata=self.ca.decode())
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=16),
            headers={"Authorization": f"Bearer {token or self.admin}"},
            timeout=aiohttp.ClientTimeout(total=30),
        ) as session:
            yield Client(session, self.url)


_PLURALS = {
    "Namespace": ("api/v1", "namespaces", False),
    "Service": ("api/v1", "services", True),
    "Secret": ("api/v1", "secrets", True),
    "ConfigMap": ("api/v1", "configmaps", True),
    "Pod": ("api/v1", "pods", True),
    "Event": ("api/v1", "events", True),
    "EndpointSlice": ("apis/discovery.k8s.io/v1", "endpointslices", True),
    "Ingress": ("apis/networking.k8s.io/v1", "ingresses", True),
    "IngressClass": ("apis/networking.k8s.io/v1", "ingressclasses", False),
    "Lease": ("apis/coordination.k8s.io/v1", "leases", True),
    "WsRoute": ("apis/sluice.dev/v1alpha1", "wsroutes", True),
}


@dataclass
class Client:
    """A few verbs of the API."""

    session: aiohttp.ClientSession
    url: str

    def path(self, kind: str, namespace: str = "", name: str = "") -> str:
        group, plural, namespaced = _PLURALS[kind]
        place = f"/namespaces/{namespace}" if namespaced and namespace else ""
        return f"{self.url}/{group}{place}/{plural}{f'/{name}' if name else ''}"

    async def create(self, *objects: Mapping[str, Any]) -> None:
        async def one(raw: Mapping[str, Any]) -> None:
            metadata = raw["metadata"]
            async with self.session.post(self.path(raw["kind"], metadata.get("namespace", "")), json=raw) as response:
                assert response.status in (201, 409), await response.text()

        for start in range(0, len(objects), 256):
            await asyncio.gather(*(one(raw) for raw in objects[start : start + 256]))

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        async with self.session.delete(self.path(kind, namespace, name)) as response:
            assert response.status in (200, 202, 404), await response.text()

    async def get(self, kind: str, namespace: str = "", name: str = "") -> Any:
        async with self.session.get(self.path(kind, namespace, name)) as response:
            return await response.json()

    async def patch(self, kind: str, namespace: str, name: str, change: Mapping[str, Any], *, status: bool = False) -> Any:
        async with self.session.patch(
            self.path(kind, namespace, name) + ("/status" if status else ""),
            data=json.dumps(change),
            headers={"Content-Type": "application/merge-patch+json"},
        ) as response:
            assert response.status == 200, await response.text()
            return await response.json()


@contextlib.contextmanager
def existing(kubeconfig: Path) -> Iterator[ControlPlane]:
    """Use the cluster of a kubeconfig, by an account that is made there for the tests and goes with them."""
    kubectl = [str(build("kubectl")), "--kubeconfig", str(kubeconfig)]

    def run(*arguments: str, given: str = "") -> str:
        done = subprocess.run([*kubectl, *arguments], input=given, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    name = "sluice-tests"
    subject = {"kind": "ServiceAccount", "name": name, "namespace": name}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    made = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": name}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": role,
            "subjects": [subject],
        },
    ]
    text = "---\n".join(json.dumps(one) + "\n" for one in made)
    run("apply", "--server-side", "-f", "-", given=text)
    try:
        [cluster] = json.loads(run("config", "view", "--minify", "--raw", "-o", "json"))["clusters"]
        found = cluster["cluster"]
        data = found.get("certificate-authority-data")
        ca = base64.b64decode(data) if data else Path(found["certificate-authority"]).read_bytes()
        with tempfile.TemporaryDirectory(prefix="sluice-cluster-") as folder:
            token = run("create", "token", name, "-n", name, "--duration", "12h").strip()
            yield ControlPlane(Path(folder), found["server"].rstrip("/"), ca, token)
    finally:
        run("delete", "--wait=false", "-f", "-", given=text)


def _keys(folder: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    folder.joinpath("sa.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    folder.joinpath("sa.pub").write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


@contextlib.contextmanager
def control_plane(*, extra: Iterable[str] = (), port: int = 0, folder: Path | None = None) -> Iterator[ControlPlane]:
    """Run etcd and kube-apiserver. `folder`: keep state there, so that a second one goes on with it."""
    with contextlib.ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-cluster-")))
        if not (place / "ca.pem").exists():
            authority = trustme.CA()
            authority.cert_pem.write_to_path(place / "ca.pem")
            leaf = authority.issue_cert("127.0.0.1", "localhost", "kubernetes.default.svc")
            leaf.private_key_pem.write_to_path(place / "server.key")
            leaf.cert_chain_pems[0].write_to_path(place / "server.pem")
            _keys(place)
            (place / "tokens.csv").write_text(f'{ADMIN},admin,admin,"system:masters"\n')
            (place / "audit.yaml").write_text(yaml.safe_dump(AUDIT))
        port, store, peers = (stack.enter_context(held_port(wanted)) for wanted in (port, 0, 0))
        plane = ControlPlane(place, f"https://127.0.0.1:{port}", (place / "ca.pem").read_bytes())
        stack.callback(_stop, plane)
        plane.store = f"http://127.0.0.1:{store}"
        _start(
            plane,
            "etcd",
            f"--data-dir={place}/etcd",
            "--unsafe-no-fsync",
            f"--listen-client-urls=http://127.0.0.1:{store}",
            f"--advertise-client-urls=http://127.0.0.1:{store}",
            f"--listen-peer-urls=http://127.0.0.1:{peers}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peers}",
            f"--initial-cluster=default=http://127.0.0.1:{peers}",
        )
        _start(
            plane,
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{store}",
            "--bind-address=127.0.0.1",
            "--advertise-address=192.0.2.254",  # one that no machine has: it must not be loopback, and nobody uses it
            f"--secure-port={port}",
            f"--tls-cert-file={place}/server.pem",
            f"--tls-private-key-file={place}/server.key",
            f"--token-auth-file={place}/tokens.csv",
            f"--service-account-key-file={place}/sa.pub",
            f"--service-account-signing-key-file={place}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--audit-policy-file={place}/audit.yaml",
            f"--audit-log-path={place}/audit.log",
            "--audit-log-mode=blocking-strict",
            *extra,
        )
        _wait_ready(plane)
        yield plane


def _start(plane: ControlPlane, name: str, *arguments: str) -> None:
    with (plane.folder / f"{name}.log").open("ab") as log:
        plane.programs.append(
            subprocess.Popen([str(build(name)), *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)
        )


def _stop(plane: ControlPlane) -> None:
    for program in reversed(plane.programs):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()


def _wait_ready(plane: ControlPlane) -> None:
    import ssl

    context = ssl.create_default_context(cadata=plane.ca.decode())
    request = urllib.request.Request(f"{plane.url}/readyz", headers={"Authorization": f"Bearer {ADMIN}"})  # noqa: S310  https
    deadline = time.monotonic() + START_SECONDS
    while True:
        for program in plane.programs:
            if program.poll() is not None:
                raise AssertionError(f"{program.args} ended:\n{_tail(plane)}")
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=2, context=context) as answer:  # noqa: S310
            if answer.status == 200:
                return
        if time.monotonic() > deadline:
            raise AssertionError(f"the API server is not ready after {START_SECONDS:.0f} s:\n{_tail(plane)}")
        time.sleep(0.05)


def _tail(plane: ControlPlane) -> str:
    return "\n".join(path.read_text(errors="replace")[-1500:] for path in sorted(plane.folder.glob("*.log")))


def now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
