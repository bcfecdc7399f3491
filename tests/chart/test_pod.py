"""What runs in the pod: who has the token, what each container may do, flags that the programs know, the test that helm runs."""

import contextlib
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.rendering import BUILD_SECONDS, CHART, containers, helm, objects, one
from demo import sluice
from e2e.standalone import FREE

from controller.cli import controller_command, sockets_command
from proxy.__main__ import main as proxy_command
from proxy.http.local_replies import NOT_FOUND
from proxy.settings import settings_from

pytestmark = pytest.mark.timeout(BUILD_SECONDS)
NODES = "app.kubernetes.io/name=sluice,app.kubernetes.io/instance=sluice"
SETS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(Path(__file__).parent.joinpath("values").glob("*.yaml"))}
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture(params=sorted(SETS))
def rendered(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return objects(SETS[request.param])


def workload(found: list[dict[str, Any]]) -> dict[str, Any]:
    (only,) = [raw for raw in found if raw["kind"] in ("Deployment", "DaemonSet")]
    return only


def pod_of(found: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = workload(found)["spec"]["template"]["spec"]
    return spec


def by_name(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return the containers of the chart by name, without those of `extraContainers`."""
    return {container["name"]: container for container in pod["containers"] if container["name"] in ("proxy", "controller")}


def test_token_is_mounted_in_the_controller_only(rendered: list[dict[str, Any]]) -> None:
    pod = pod_of(rendered)
    tokens = {volume["name"] for volume in pod["volumes"] if "serviceAccountToken" in str(volume)}
    mounts = {name: [m["mountPath"] for m in one["volumeMounts"] if m["name"] in tokens] for name, one in by_name(pod).items()}

    assert mounts == {"proxy": [], "controller": [TOKEN]}
    assert pod["automountServiceAccountToken"] is False
    assert all(raw["automountServiceAccountToken"] is False for raw in rendered if raw["kind"] == "ServiceAccount")


def test_containers_have_users_of_their_own_and_may_do_nothing_else(rendered: list[dict[str, Any]]) -> None:
    pod = pod_of(rendered)
    users = {name: container["securityContext"].pop("runAsUser") for name, container in by_name(pod).items()}
    groups = {name: container["securityContext"].pop("runAsGroup") for name, container in by_name(pod).items()}
    nothing = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }

    assert {name: container["securityContext"] for name, container in by_name(pod).items()} == dict.fromkeys(users, nothing)
    assert users == groups
    assert users["proxy"] != users["controller"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(pod)


def test_socket_is_shared_in_memory_and_the_proxy_cannot_replace_it(rendered: list[dict[str, Any]]) -> None:
    pod = pod_of(rendered)
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "control"]
    mounts = {
        name: next(mount for mount in container["volumeMounts"] if mount["name"] == volume["name"])
        for name, container in by_name(pod).items()
    }
    flags = {name: dict(arguments(container)) for name, container in by_name(pod).items()}
    users = {name: str(container["securityContext"]["runAsUser"]) for name, container in by_name(pod).items()}

    assert volume["emptyDir"]["medium"] == "Memory"
    assert (mounts["controller"].get("readOnly"), mounts["proxy"].get("readOnly")) == (None, True)
    assert flags["controller"]["--control-socket"] == flags["proxy"]["--control-socket"]
    assert Path(flags["proxy"]["--control-socket"]).parent == Path(mounts["proxy"]["mountPath"])
    assert flags["controller"]["--proxy-uid"] == users["proxy"]
    assert flags["proxy"]["--controller-uid"] == users["controller"]
    assert pod["securityContext"]["fsGroup"] > 0


def test_commands_have_a_socket_that_only_the_proxy_has_and_find_it(rendered: list[dict[str, Any]]) -> None:
    pod = pod_of(rendered)
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "admin"]
    mounts = {
        name: mount["mountPath"]
        for name, container in by_name(pod).items()
        for mount in container["volumeMounts"]
        if mount["name"] == "admin"
    }
    path = dict(arguments(by_name(pod)["proxy"]))["--admin-socket"]

    assert volume["emptyDir"]["medium"] == "Memory"
    assert mounts == {"proxy": str(Path(path).parent)}
    assert [parameter.default for parameter in sockets_command.params if parameter.name == "admin_socket"] == [path]


def arguments(container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for argument in container["args"]:
        flag, _, value = argument.partition("=")
        yield flag, value


def parsed(pod: Mapping[str, Any], container: str) -> dict[str, Any]:
    """Return what the program makes of the container's arguments; it refuses flags and values that it does not know."""
    command = proxy_command if container == "proxy" else controller_command
    return command.make_context("", list(by_name(pod)[container]["args"])).params


def test_proxy_takes_its_flags_and_their_values(rendered: list[dict[str, Any]]) -> None:
    pod = pod_of(rendered)
    settings = settings_from(parsed(pod, "proxy"))

    assert (settings.http.port, settings.https.port, settings.admin.port) == (8080, 8443, 9090)
    assert settings.controller_uid == by_name(pod)["controller"]["securityContext"]["runAsUser"]
    assert settings.grace == pod["terminationGracePeriodSeconds"] - 5


def test_controller_takes_its_flags_and_their_values(rendered: list[dict[str, Any]]) -> None:
    pod = pod_of(rendered)
    found = parsed(pod, "controller")

    assert found["proxy_uid"] == by_name(pod)["proxy"]["securityContext"]["runAsUser"]
    assert found["grace"] == pod["terminationGracePeriodSeconds"] - 2


def test_controller_takes_what_the_values_say_of_the_cluster() -> None:
    names = ("watch_namespaces", "publish_service", "publish_address", "controller_name", "lease", "update_status")
    found = {name: {key: parsed(pod_of(objects(values)), "controller")[key] for key in names} for name, values in SETS.items()}
    usual = {
        "watch_namespaces": (),
        "publish_service": "sluice-system/sluice",
        "publish_address": (),
        "controller_name": "sluice.dev/ingress-controller",
        "lease": "sluice-leader",
        "update_status": True,
    }

    assert found == {
        "default": usual,
        "all-options": {**usual, "publish_service": "edge/balancer", "controller_name": "example.com/edge", "lease": "edge-leader"},
        "daemonset": {**usual, "publish_service": "", "publish_address": ("192.0.2.10", "edge.example.com")},
        "balancer": usual,
        "minimal": {**usual, "publish_service": "", "update_status": False},
        "namespaced": {**usual, "watch_namespaces": ("shop", "sluice-system")},
    }


def test_controller_takes_the_labels_of_namespaces() -> None:
    found = parsed(pod_of(objects({"watchNamespaceSelector": "env in (test, prod),!legacy"})), "controller")

    assert (found["watch_namespace_selector"], found["watch_namespaces"]) == ("env in (test, prod),!legacy", ())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"hostPorts": {"enabled": True}}, ("", (), NODES)),
        ({"kind": "DaemonSet", "hostPorts": {"enabled": True}, "service": {"type": "ClusterIP"}}, ("", (), NODES)),
        ({"hostPorts": {"enabled": True}, "status": {"publishService": "edge/lb"}}, ("edge/lb", (), "")),
        ({"hostPorts": {"enabled": True}, "status": {"publishAddresses": ["192.0.2.1"]}}, ("", ("192.0.2.1",), "")),
        ({}, ("sluice-system/sluice", (), "")),
    ],
)
def test_ingresses_show_the_nodes_where_their_ports_are_bound(values: dict[str, Any], expected: tuple[object, ...]) -> None:
    rendered = objects(values)
    found = parsed(pod_of(rendered), "controller")

    assert tuple(found[name] for name in ("publish_service", "publish_address", "publish_nodes")) == expected
    if found["publish_nodes"]:
        labels = dict(part.split("=") for part in found["publish_nodes"].split(","))
        (workload,) = [raw for raw in rendered if raw["kind"] in ("Deployment", "DaemonSet")]
        assert labels.items() <= workload["spec"]["template"]["metadata"]["labels"].items()


def test_variables_of_the_chart_are_ones_that_the_program_reads(rendered: list[dict[str, Any]]) -> None:
    known = {
        "proxy": {f"SLUICE_{option.name}".upper() for option in proxy_command.params},
        "controller": {option.envvar for option in controller_command.params},
    }
    used = {
        name: {variable["name"] for variable in container.get("env", []) if variable["name"] != "TZ"}
        for name, container in by_name(pod_of(rendered)).items()
    }

    assert {name: used[name] - known[name] for name in used} == {"proxy": set(), "controller": set()}
    assert used["controller"] == {"POD_NAME", "POD_NAMESPACE", "POD_IP"}


def test_clients_ports_are_those_of_the_service_or_of_the_node() -> None:
    service = {"service": {"ports": {"http": 8000, "https": 4443}}}
    told = [
        {flag: value for flag, value in arguments(containers(objects(values))["proxy"]) if flag.startswith("--public")}
        for values in (service, {**service, "hostPorts": {"enabled": True}})
    ]

    assert told == [
        {"--public-http-port": "8000", "--public-https-port": "4443"},
        {"--public-http-port": "80", "--public-https-port": "443"},
    ]


def test_probes_ask_ports_that_the_container_names(rendered: list[dict[str, Any]]) -> None:
    asked = {
        (name, probe): (container[probe]["httpGet"]["port"], container[probe]["httpGet"]["path"])
        for name, container in by_name(pod_of(rendered)).items()
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        if probe in container
    }
    ports = {
        name: {port["name"]: port["containerPort"] for port in one["ports"]} for name, one in by_name(pod_of(rendered)).items()
    }

    assert asked == {
        ("controller", "livenessProbe"): ("health", "/healthz"),
        ("proxy", "startupProbe"): ("admin", "/healthz"),
        ("proxy", "readinessProbe"): ("admin", "/readyz"),
        ("proxy", "livenessProbe"): ("admin", "/healthz"),
    }
    assert ports == {"controller": {"health": 9091}, "proxy": {"http": 8080, "https": 8443, "admin": 9090}}


def test_services_select_the_pods_and_name_their_ports(rendered: list[dict[str, Any]]) -> None:
    labels = workload(rendered)["spec"]["template"]["metadata"]["labels"]
    services = {raw["metadata"]["name"]: raw["spec"] for raw in rendered if raw["kind"] == "Service"}
    targets = {port["targetPort"] for spec in services.values() for port in spec["ports"]}
    containers = pod_of(rendered)["containers"]
    name = workload(rendered)["metadata"]["name"]

    assert targets <= {port["name"] for container in containers for port in container.get("ports", [])}
    assert name in services
    assert all(set(spec["selector"].items()) <= set(labels.items()) for spec in services.values())


def test_pod_that_helm_tests_with_is_selected_by_no_service_and_has_no_token() -> None:
    found = list(yaml.safe_load_all(helm("template", "sluice", str(CHART)).stdout))
    tester = one(found, "Pod", "sluice-test")
    selectors = [set(raw["spec"]["selector"].items()) for raw in found if raw["kind"] == "Service"]

    assert len(selectors) == 2
    assert not any(selector <= set(tester["metadata"]["labels"].items()) for selector in selectors)
    assert tester["spec"]["automountServiceAccountToken"] is False


def helm_test(port: int, patience: float = 30) -> list[str]:
    """Return the command line of what the pod of `helm test` runs, against a port of loopback."""
    (tester,) = [
        raw for raw in yaml.safe_load_all(helm("template", "sluice", str(CHART)).stdout) if raw["metadata"]["name"] == "sluice-test"
    ]
    container = tester["spec"]["containers"][0]
    script, host, service_port, patient = container["args"]
    assert (container["command"], host, service_port) == (["python3", "-c"], "sluice.default.svc", "80")
    # What it has to say must be said before the pod is killed, and helm waits for five minutes.
    assert 2 * float(patient) < tester["spec"]["activeDeadlineSeconds"] < 300
    return [sys.executable, "-c", script, "127.0.0.1", str(port), str(patience)]


def run_helm_test(port: int, patience: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run(helm_test(port, patience), capture_output=True, text=True, timeout=60, check=False)


CLASS = """apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: sluice}
spec: {controller: sluice.dev/ingress-controller}
"""
CATCH_ALL = """---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: all}
spec: {ingressClassName: sluice, defaultBackend: {service: {name: web, port: {number: 80}}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80}]}
"""


@pytest.mark.parametrize(("objects_text", "said"), [(CLASS, "as it should be"), (CLASS + CATCH_ALL, "a route without a host")])
def test_helm_test_passes_at_a_real_proxy(tmp_path: Path, objects_text: str, said: str) -> None:
    tmp_path.joinpath("objects.yaml").write_text(objects_text)
    with sluice(tmp_path, FREE) as (_, listening):
        done = run_helm_test(int(listening["http"].rpartition(":")[2]))

    assert (done.returncode, said in done.stdout) == (0, True), done


class SomethingElse(http.server.BaseHTTPRequestHandler):
    """Answers everything with 404, OPTIONS with what the class says."""

    options = 404

    def do_GET(self) -> None:
        self.send_error(404)

    def do_OPTIONS(self) -> None:
        self.send_response(self.options)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(server: http.server.HTTPServer) -> Iterator[None]:
    """Let a server that listens serve."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("options", [404, 204])
def test_helm_test_fails_at_something_else(options: int) -> None:
    handler = type("Handler", (SomethingElse,), {"options": options})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, served(server):
        done = run_helm_test(server.server_address[1])

    assert done.returncode == 1
    assert "404" in done.stderr


class Likeness(SomethingElse):
    """Answers as a proxy without routes."""

    options = 204

    def do_GET(self) -> None:
        self.send_response(NOT_FOUND.status)
        self.end_headers()
        self.wfile.write(NOT_FOUND.message.encode())


@pytest.fixture
def silent() -> Iterator[http.server.HTTPServer]:
    """A server that has a port and does not listen yet: whoever connects is refused."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Likeness, bind_and_activate=False) as server:
        server.server_bind()
        yield server


def test_helm_test_waits_for_a_service_that_does_not_answer_yet_and_says_so(silent: http.server.HTTPServer) -> None:
    with subprocess.Popen(helm_test(silent.server_address[1]), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        silent.server_activate()
        with served(silent):
            last, _ = process.communicate(timeout=60)

    assert (process.returncode, "as it should be" in last) == (0, True), last
    assert "ConnectionRefusedError" in first


def test_helm_test_fails_when_its_patience_ends(silent: http.server.HTTPServer) -> None:
    done = run_helm_test(silent.server_address[1], 0)

    assert done.returncode == 1
    assert done.stderr.startswith("OPTIONS * was not answered by 127.0.0.1:")
    assert "ConnectionRefusedError" in done.stderr


def notes(values: Mapping[str, Any], *more: str) -> str:
    done = helm("install", "sluice", str(CHART), "--namespace", "sluice-system", "--dry-run=client", *more, values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("NOTES:")[2]


def test_notes_name_the_release_the_class_and_a_first_route() -> None:
    text = notes({"ingressClass": {"name": "edge", "default": True}})

    assert 'installed as "sluice" in the namespace "sluice-system"' in text
    assert 'whose class is "edge", and those that name none.' in text
    assert "helm test sluice --namespace sluice-system" in text
    assert "ingressClassName: edge" in text
