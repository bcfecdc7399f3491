"""The 25 scenarios of Kubernetes' ingress conformance, through what `helm install` makes, with backends in pods.

Written from the text of the features of kubernetes-sigs/ingress-controller-conformance. Each class is a feature, in a namespace of
its own; each test, or row of its parameters, is a scenario:

- default_backend, 1 scenario of 6 examples: test_ingress_with_no_rules_sends_all_requests_to_its_default_backend
- host_rules, 6 scenarios: "send TLS traffic to the matching backend service" is test_host_rule_sends_tls_traffic_...; "send traffic
  to the matching backend service" of a host and of a wildcard host are the rows of test_host_rule_sends_traffic_...; "not route
  traffic when hostname does not match", "on more than a single dns label" and "no dns label" those of test_host_that_no_rule_...
- ingress_class, 1 scenario: test_ingress_of_an_invalid_class_shows_no_address_and_is_not_served
- load_balancing, 1 scenario: test_hundred_requests_reach_all_of_ten_pods
- path_rules, 16 scenarios: the rows of PATHS, in the order of the feature; one stands there twice, as it does in the feature

In the features nobody redirects: the Ingress of host_rules, which has a certificate, says so by `sluice.dev/ssl-redirect`.
"""

import base64
import contextlib
import http.client
import json
import secrets
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from cluster import echoes
from cluster.nodes import Namespace
from cluster_binaries import build
from cluster_node import Node

pytestmark = pytest.mark.timeout(600)
CHART = Path(__file__).parents[2] / "charts/sluice"
CLASS = "conformance"
AGENT = "sluice-conformance/1.0"
WITHIN = 60.0
"""Seconds until what was applied must be served."""


@dataclass(frozen=True)
class Answer:
    """What a client got; `asked` is what the backend says of the request, empty where none answered."""

    status: int
    version: int
    headers: dict[str, str]
    asked: dict[str, Any]


@dataclass(frozen=True)
class Sluice:
    """A release of the chart on the node."""

    node: Node
    image: str
    http: int
    https: int

    def send(self, method: str, host: str, path: str, *, trusted: ssl.SSLContext | None = None) -> Answer:
        """Send one request on a connection of its own. `trusted`: over TLS, to a server that shows a certificate of the host."""
        port = self.http if trusted is None else self.https
        connection = http.client.HTTPConnection(self.node.address, port, timeout=10)
        if trusted is not None:
            # The address is the node's, the name that is asked for and verified is the host's.
            plain = socket.create_connection((self.node.address, port), timeout=10)
            connection.sock = trusted.wrap_socket(plain, server_hostname=host)
        try:
            connection.request(method, path, headers={"Host": host or self.node.address, "User-Agent": AGENT})
            response = connection.getresponse()
            body = response.read()
            headers = {name.lower(): value for name, value in response.getheaders()}
            told = json.loads(body) if headers.get("content-type") == "application/json" else {}
            return Answer(response.status, response.version, headers, told if "service" in told else {})
        finally:
            connection.close()

    def served_by(self, host: str, path: str) -> str:
        """Return the Service that a request reaches; the status where it reaches none."""
        answer = self.send("GET", host, path)
        return str(answer.asked.get("service", answer.status))

    def until(self, look: Callable[[], object], wanted: object) -> None:
        """Wait until something that is seen through Sluice is what is wanted."""
        deadline = time.monotonic() + WITHIN
        while (seen := _or_none(look)) != wanted:
            assert time.monotonic() < deadline, f"{wanted!r} was not seen within {WITHIN:g} s, but {seen!r}"
            time.sleep(0.05)


def _or_none(look: Callable[[], object]) -> object:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return look()
    return None


@pytest.fixture(scope="module")
def sluice(node: Node, installed: str) -> Iterator[Sluice]:
    """`helm install` of the image that was built of this tree, with a class of its own."""
    repository, _, tag = installed.rpartition(":")
    sets = {
        "image.repository": repository,
        "image.tag": tag,
        "image.pullPolicy": "Never",
        "service.type": "NodePort",
        "replicaCount": "1",
        "ingressClass.name": CLASS,
        "ingressClass.controllerName": f"sluice.dev/{CLASS}",
        "status.publishAddresses": f"{{{node.address}}}",
    }
    options = [part for name, value in sets.items() for part in ("--set", f"{name}={value}")]
    system = Namespace(node, CLASS)
    command = [str(build("helm")), f"--kubeconfig={node.kubeconfig}", f"--namespace={CLASS}"]
    install = [*command, "install", CLASS, str(CHART), "--create-namespace", "--wait", "--timeout=150s", *options]
    done = subprocess.run(install, capture_output=True, text=True, timeout=200, check=False)
    if done.returncode:
        pytest.fail(f"helm install: {done.stderr}\n{system.kubectl('get', 'pods,events')}")
    service = json.loads(system.kubectl("get", "service", f"{CLASS}-sluice", "-o=json"))
    ports = {one["name"]: one["nodePort"] for one in service["spec"]["ports"]}
    found = Sluice(node, installed, ports["http"], ports["https"])
    found.until(lambda: found.send("GET", "nobody.example.com", "/").status, 404)
    yield found
    subprocess.run([*command, "uninstall", CLASS], capture_output=True, timeout=120, check=True)
    system.kubectl("delete", "namespace", CLASS, "--wait=false")


@contextlib.contextmanager
def feature(sluice: Sluice, name: str, spec: dict[str, Any], *, cls: str = CLASS) -> Iterator[Namespace]:
    """A new random namespace with an Ingress; its status shows where it is exposed. Nothing of it is served afterwards."""
    namespace = Namespace(sluice.node, f"conformance-{secrets.token_hex(4)}")
    namespace.kubectl("create", "namespace", namespace.name)
    namespace.wait("create", "serviceaccount/default")
    metadata = {"name": name, "annotations": {"sluice.dev/ssl-redirect": "false"} if "tls" in spec else {}}
    namespace.apply(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": metadata,
            "spec": {"ingressClassName": cls, **spec},
        }
    )
    if cls == CLASS:
        namespace.wait(f"jsonpath={{.status.loadBalancer.ingress[0].ip}}={sluice.node.address}", f"ingress/{name}")
    yield namespace
    namespace.kubectl("delete", "ingress", name)
    namespace.kubectl("delete", "namespace", namespace.name, "--wait=false")
    # A default backend that is still there would answer what the next feature wants refused.
    sluice.until(lambda: sluice.send("GET", "nobody.example.com", "/").status, 404)


def backend(service: str, port: int | str = 8080) -> dict[str, Any]:
    return {"service": {"name": service, "port": {"name" if isinstance(port, str) else "number": port}}}


def rule(host: str, *paths: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    """A rule of a host: kind, path and backend of each of its paths."""
    return {"host": host, "http": {"paths": [{"pathType": kind, "path": path, "backend": to} for kind, path, to in paths]}}


class TestDefaultBackend:
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _feature(cls, sluice: Sluice) -> Iterator[None]:
        with feature(sluice, "default-backend", {"defaultBackend": backend("echo-service")}) as namespace:
            echoes.run(namespace, sluice.image, "echo-service")
            sluice.until(lambda: sluice.served_by("my-host", "/"), "echo-service")
            yield

    @pytest.mark.parametrize(
        ("method", "host", "path"),
        [
            ("GET", "my-host", "/"),
            ("GET", "my-host", "/sub-path"),
            ("POST", "some-host", "/"),
            ("PUT", "", "/resource"),
            ("DELETE", "some-host", "/resource"),
            ("PATCH", "my-host", "/resource"),
        ],
    )
    def test_ingress_with_no_rules_sends_all_requests_to_its_default_backend(
        self, sluice: Sluice, method: str, host: str, path: str
    ) -> None:
        answer = sluice.send(method, host, path)

        assert (answer.status, answer.version) == (200, 11)
        assert answer.headers.keys() >= {"content-length", "content-type", "date", "server"}
        asked = {name: answer.asked[name] for name in ("service", "method", "path", "proto")}
        assert asked == {"service": "echo-service", "method": method, "path": path, "proto": "HTTP/1.1"}
        assert answer.asked["headers"]["user-agent"] == AGENT


class TestHostRules:
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def trusted(cls, sluice: Sluice) -> Iterator[ssl.SSLContext]:
        authority = trustme.CA()
        leaf = authority.issue_cert("foo.bar.com")
        context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
        spec = {
            "tls": [{"hosts": ["foo.bar.com"], "secretName": "conformance-tls"}],
            "rules": [
                rule("*.foo.com", ("Prefix", "/", backend("wildcard-foo-com"))),
                rule("foo.bar.com", ("Prefix", "/", backend("foo-bar-com", "http"))),
            ],
        }
        with feature(sluice, "host-rules", spec) as namespace:
            pair = {"tls.crt": leaf.cert_chain_pems[0].bytes(), "tls.key": leaf.private_key_pem.bytes()}
            namespace.apply(
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": "conformance-tls"},
                    "type": "kubernetes.io/tls",
                    "data": {name: base64.b64encode(content).decode() for name, content in pair.items()},
                }
            )
            echoes.run(namespace, sluice.image, "wildcard-foo-com", "foo-bar-com")
            for host, service in (("bar.foo.com", "wildcard-foo-com"), ("foo.bar.com", "foo-bar-com")):
                sluice.until(lambda host=host: sluice.served_by(host, "/"), service)
            sluice.until(lambda: sluice.send("GET", "foo.bar.com", "/", trusted=context).status, 200)
            yield context

    def test_host_rule_sends_tls_traffic_to_the_matching_backend(self, sluice: Sluice, trusted: ssl.SSLContext) -> None:
        # The context verifies the name; with a certificate of any other host this raises.
        answer = sluice.send("GET", "foo.bar.com", "/", trusted=trusted)

        assert (answer.status, answer.asked["service"], answer.asked["host"]) == (200, "foo-bar-com", "foo.bar.com")
        assert answer.asked["headers"]["x-forwarded-proto"] == "https"

    @pytest.mark.parametrize(("host", "service"), [("foo.bar.com", "foo-bar-com"), ("bar.foo.com", "wildcard-foo-com")])
    def test_host_rule_sends_traffic_to_the_matching_backend(self, sluice: Sluice, host: str, service: str) -> None:
        answer = sluice.send("GET", host, "/")

        assert (answer.status, answer.asked["service"], answer.asked["host"]) == (200, service, host)

    @pytest.mark.parametrize("host", ["subdomain.bar.com", "baz.bar.foo.com", "foo.com"])
    def test_host_that_no_rule_names_is_not_routed(self, sluice: Sluice, host: str) -> None:
        assert sluice.send("GET", host, "/").status == 404


class TestIngressClass:
    def test_ingress_of_an_invalid_class_shows_no_address_and_is_not_served(self, sluice: Sluice) -> None:
        def spec(host: str) -> dict[str, Any]:
            return {"rules": [rule(host, ("Prefix", "/", backend("ingress-class-prefix")))]}

        # One that comes later and is ours: when it has its address and is served, the other had its time.
        with (
            feature(sluice, "test-ingress-class", spec("ingress-class"), cls="some-invalid-class-name") as namespace,
            feature(sluice, "ours", spec("ours")),
        ):
            sluice.until(lambda: sluice.send("GET", "ours", "/").status, 500)  # there is no such Service
            status = json.loads(namespace.kubectl("get", "ingress", "test-ingress-class", "-o=json"))["status"]
            answer = sluice.send("GET", "ingress-class", "/")

        assert (status, answer.status) == ({"loadBalancer": {}}, 404)


class TestLoadBalancing:
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def pods(cls, sluice: Sluice) -> Iterator[set[str]]:
        with feature(sluice, "load-balancing", {"defaultBackend": backend("echo-service")}) as namespace:
            echoes.run(namespace, sluice.image, "echo-service")
            namespace.kubectl("scale", "deployment/echo-service", "--replicas=10")
            echoes.wait(namespace, "echo-service", 10)
            found = echoes.pods(namespace, "echo-service")
            seen: set[str] = set()

            def look() -> set[str]:
                seen.add(sluice.send("GET", "load-balancing", "/").asked.get("pod", ""))
                return seen - {""}

            # The last pod's endpoint is on its way to the proxy when the Deployment says that it is ready.
            sluice.until(look, found)
            yield found

    def test_hundred_requests_reach_all_of_ten_pods(self, sluice: Sluice, pods: set[str]) -> None:
        answers = [sluice.send("GET", "load-balancing", "/") for _ in range(100)]

        assert {answer.status for answer in answers} == {200}
        assert len(pods) == 10
        assert {answer.asked["pod"] for answer in answers} == pods


RULES = [
    rule("exact-path-rules", ("Exact", "/foo", backend("foo-exact"))),
    rule(
        "prefix-path-rules",
        ("Prefix", "/foo", backend("foo-prefix")),
        ("Prefix", "/aaa/bbb", backend("aaa-slash-bbb-prefix")),
        ("Prefix", "/aaa", backend("aaa-prefix")),
    ),
    rule("mixed-path-rules", ("Prefix", "/foo", backend("foo-prefix")), ("Exact", "/foo", backend("foo-exact"))),
    rule(
        "trailing-slash-path-rules",
        ("Prefix", "/aaa/bbb/", backend("aaa-slash-bbb-slash-prefix")),
        ("Exact", "/foo/", backend("foo-slash-exact")),
    ),
]
PATHS = [
    ("exact-path-rules", "/foo", "foo-exact"),
    ("exact-path-rules", "/foo/", None),
    ("exact-path-rules", "/FOO", None),
    ("exact-path-rules", "/bar", None),
    ("prefix-path-rules", "/foo", "foo-prefix"),
    ("prefix-path-rules", "/foo/", "foo-prefix"),
    ("prefix-path-rules", "/FOO", None),
    ("prefix-path-rules", "/aaa/bbb", "aaa-slash-bbb-prefix"),
    ("prefix-path-rules", "/aaa/bbb/ccc", "aaa-slash-bbb-prefix"),
    ("prefix-path-rules", "/aaa/ccc", "aaa-prefix"),
    ("prefix-path-rules", "/aaaccc", None),
    ("prefix-path-rules", "/foo/", "foo-prefix"),
    ("mixed-path-rules", "/foo", "foo-exact"),
    ("trailing-slash-path-rules", "/aaa/bbb", "aaa-slash-bbb-slash-prefix"),
    ("trailing-slash-path-rules", "/aaa/bbb/", "aaa-slash-bbb-slash-prefix"),
    ("trailing-slash-path-rules", "/foo", None),
]
"""Host, path, and the Service that serves it; None: nobody does, the status is 404."""


class TestPathRules:
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _feature(cls, sluice: Sluice) -> Iterator[None]:
        with feature(sluice, "path-rules", {"rules": RULES}) as namespace:
            services = sorted({service for _, _, service in PATHS if service} | {"foo-slash-exact"})
            echoes.run(namespace, sluice.image, *services)
            for host, path, service in (*PATHS, ("trailing-slash-path-rules", "/foo/", "foo-slash-exact")):
                if service:
                    sluice.until(lambda host=host, path=path: sluice.served_by(host, path), service)
            yield

    @pytest.mark.parametrize(("host", "path", "service"), PATHS)
    def test_path_is_served_by_the_service_of_its_rule(self, sluice: Sluice, host: str, path: str, service: str | None) -> None:
        answer = sluice.send("GET", host, path)

        served = (answer.status, answer.asked.get("service"), answer.asked.get("path"))
        assert served == ((200, service, path) if service else (404, None, None))
