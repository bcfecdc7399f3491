"""The node that the tests run on is a real one, and leaves nothing behind."""

import concurrent.futures
import contextlib
import json
import os
import select
import signal
import ssl
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cluster_node
import pytest
from cluster.nodes import BUSYBOX, CONFINED, Namespace, refuse
from cluster_binaries import MissingError
from cluster_node import NodeError, require, start

TOOLS = Path(__file__).parents[2] / "tools"

pytestmark = pytest.mark.timeout(300)

SERVED = "served by a pod"
EVERY_MODULE = """
import importlib, pkgutil, controller, proxy, proxy.runtime.state
for package in (controller, proxy):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print(proxy.runtime.state.__file__.rsplit(".", 1)[1])
"""


def web(namespace: Namespace, **spec: object) -> None:
    """Make a pod `web` that serves a page, and a Service in front of it with a NodePort."""
    namespace.run_pod(
        "web",
        {
            "name": "web",
            "image": BUSYBOX,
            "command": ["sh", "-c", f"mkdir /www && printf '{SERVED}' >/www/index.html && exec httpd -f -p 8080 -h /www"],
            "readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1},
        },
        **spec,
    )
    port = {"port": 80, "targetPort": 8080}
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [port]},
        }
    )
    namespace.wait("condition=Ready", "pod/web")
    namespace.wait("jsonpath={.endpoints[0].conditions.ready}=true", "endpointslice", "-l=kubernetes.io/service-name=web")


def service(namespace: Namespace) -> tuple[str, int]:
    """Return the address and the NodePort of `web`."""
    spec = json.loads(namespace.kubectl("get", "service", "web", "-o=json"))["spec"]
    return spec["clusterIP"], spec["ports"][0]["nodePort"]


def fetch(url: str) -> str:
    """Return what an address says as soon as it answers: kube-proxy writes its rules a moment after the endpoint is ready."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise


def test_pod_resolves_a_service_and_reaches_it_by_name(namespace: Namespace) -> None:
    web(namespace)
    address, port = service(namespace)
    # From the machine, so that the rules are there when the pod asks.
    through_node_port = fetch(f"http://{namespace.node.address}:{port}/")
    namespace.run_pod("client", {"name": "client", "image": BUSYBOX, "command": ["sleep", "infinity"]})
    namespace.wait("condition=Ready", "pod/client")

    name = f"web.{namespace.name}.svc.cluster.local"
    looked_up = namespace.kubectl("exec", "client", "--", "nslookup", name)
    fetched = namespace.kubectl("exec", "client", "--", "wget", "-q", "-O-", "http://web/")
    from_node = namespace.node.run(["busybox", "wget", "-q", "-O-", f"http://{address}/"]).stdout.decode()

    assert address in looked_up
    assert (through_node_port, fetched, from_node) == (SERVED, SERVED, SERVED)


def test_pod_that_ends_is_terminating_and_still_answers(namespace: Namespace) -> None:
    # httpd has no handler for SIGTERM and is the first process: it stays until the grace period is over.
    web(namespace, terminationGracePeriodSeconds=60)
    slices = ("endpointslice", "-l=kubernetes.io/service-name=web")

    namespace.kubectl("delete", "pod", "web", "--wait=false")
    namespace.wait("jsonpath={.endpoints[0].conditions.terminating}=true", *slices)

    endpoint = json.loads(namespace.kubectl("get", *slices, "-o=json"))["items"][0]["endpoints"][0]
    said = namespace.node.run(["busybox", "wget", "-q", "-O-", f"http://{endpoint['addresses'][0]}:8080/"]).stdout.decode()
    assert endpoint["conditions"] == {"ready": False, "serving": True, "terminating": True}
    assert said == SERVED
    namespace.kubectl("delete", "pod", "web", "--grace-period=0", "--force")


def test_token_of_a_pod_may_do_nothing_and_what_it_asks_is_audited(namespace: Namespace) -> None:
    token = namespace.kubectl("create", "token", "default").strip()
    url = f"https://{namespace.node.address}:6443/api/v1/namespaces/{namespace.name}/secrets"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    trusted = ssl.create_default_context(cafile=str(namespace.node.state / "ca.crt"))

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30, context=trusted)  # noqa: S310 - https
    refused.value.close()

    user = f"system:serviceaccount:{namespace.name}:default"
    log = (namespace.node.state / "audit.log").read_text()
    entries = [json.loads(line) for line in log.splitlines() if user in line]
    assert refused.value.code == 403
    assert [(one["verb"], one["objectRef"]["resource"], one["responseStatus"]["code"]) for one in entries] == [
        ("list", "secrets", 403)
    ]


def test_image_runs_confined_with_every_module_there_and_the_hot_ones_compiled(namespace: Namespace, installed: str) -> None:
    commands = {
        "proxy": (10002, ["sluice-proxy", "--version"]),
        "controller": (10001, ["sluice", "--version"]),
        "modules": (10002, ["python", "-c", EVERY_MODULE]),
        "shell": (10001, ["sh"]),
    }
    namespace.run_pod(
        "sluice",
        *(
            {"name": name, "image": installed, "command": command, "securityContext": {**CONFINED, "runAsUser": user}}
            for name, (user, command) in commands.items()
        ),
        restartPolicy="Never",
    )
    # The pod has failed when all have ended, for there is no shell.
    namespace.wait("jsonpath={.status.phase}=Failed", "pod/sluice")

    told = json.loads(namespace.kubectl("get", "pod", "sluice", "-o=json"))["status"]["containerStatuses"]
    ended = {one["name"]: one["state"]["terminated"]["exitCode"] for one in told}
    said = [namespace.kubectl("logs", "sluice", f"--container={name}").strip() for name in ("proxy", "controller", "modules")]
    assert ended == {"proxy": 0, "controller": 0, "modules": 0, "shell": 128}
    assert said == ["sluice-proxy, version 0.1.0", "sluice, version 0.1.0", "so"]


def test_image_is_not_for_root_and_has_no_tools(archive: Path) -> None:
    with tarfile.open(archive) as whole:
        described = json.loads(whole.extractfile("manifest.json").read())[0]
        config = json.loads(whole.extractfile(described["Config"]).read())["config"]
        names = set()
        for layer in described["Layers"]:
            with tarfile.open(fileobj=whole.extractfile(layer)) as files:
                names |= {Path(one.name).name for one in files}

    assert (config["User"], config["Cmd"]) == ("10001:10001", ["sluice", "--help"])
    assert names >= {"sluice", "sluice-proxy", "python3.11", "ca-certificates.crt"}
    assert not names & {"sh", "bash", "dash", "busybox", "pip", "pip3", "apt-get", "dpkg", "gcc", "cc", "ensurepip", "mypyc"}


def test_image_has_at_most_150_mb(archive: Path) -> None:
    """Unpacked, which is what a node keeps of it."""
    with tarfile.open(archive) as whole:
        layers = json.loads(whole.extractfile("manifest.json").read())[0]["Layers"]
        sizes = [whole.getmember(layer).size for layer in layers]

    assert 50e6 < sum(sizes) < 150e6, sizes


def left(name: str, link: str) -> list[str]:
    """Return what there is of a node: its folder, its cgroups, its link."""
    places = [Path(tempfile.gettempdir(), name), *([Path("/sys/class/net", link)] if link else [])]
    return [str(path) for path in places if path.exists()] + [str(path) for path in Path("/sys/fs/cgroup").rglob(name)]


def wait_for_end(process: int, within: float) -> bool:
    """Return whether a process that is not our child ends in time."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within)[0])
    finally:
        os.close(descriptor)


def test_node_that_ends_leaves_nothing() -> None:
    try:
        with start() as node:
            name, link, first = node.state.name, f"sluice{node.address.split('.')[2]}", node.first
            before = left(name, link)
            with pytest.raises(NodeError, match=r"^busybox false ended with 1 in the node: "):
                node.run(["busybox", "false"])
    except MissingError as missing:
        refuse(missing)

    assert len(before) > 2
    assert left(name, link) == []
    assert wait_for_end(first, 0)


def test_node_that_loses_a_program_ends_and_says_which() -> None:
    def lose() -> None:
        with start() as node:
            with contextlib.suppress(NodeError):  # the node may end before the program that kills does
                node.run(["busybox", "killall", "-KILL", "kube-scheduler"])
            wait_for_end(node.first, 20)

    try:
        with pytest.raises(NodeError, match=r"^The node ended: kube-scheduler ended with -9"):
            lose()
    except MissingError as missing:
        refuse(missing)


@contextlib.contextmanager
def owner() -> Iterator[tuple[subprocess.Popen[str], int, str, str]]:
    """Start a node by the command; yields its process, the node's first process, and the names of its folder and its link."""
    try:
        require()
    except MissingError as missing:
        refuse(missing)
    with subprocess.Popen([sys.executable, str(TOOLS / "cluster_node.py")], stdout=subprocess.PIPE, text=True) as process:
        try:
            told = ""
            while "images:" not in told:
                line = process.stdout.readline()
                assert line, told
                told += line
            first = int(told.split("nsenter -t ")[1].split()[0])
            folder = told.split("KUBECONFIG=")[1].split("/admin.kubeconfig")[0]
            yield process, first, Path(folder).name, f"sluice{told.split('NodePorts at ')[1].split('.')[2]}"
        finally:
            process.kill()


def test_owner_that_is_interrupted_ends_the_node_in_order() -> None:
    with owner() as (process, first, name, link):
        before = left(name, link)
        process.send_signal(signal.SIGINT)
        status = process.wait(30)

    assert len(before) > 2
    assert status == 0
    assert left(name, link) == []
    assert wait_for_end(first, 0)


def test_owner_that_is_killed_takes_the_node_with_it_and_the_next_one_tidies_up() -> None:
    with owner() as (process, first, name, link):
        before = left(name, link)
        process.kill()
        ended = wait_for_end(first, 20)
    with start() as node:
        # The link went with the node; the next one may have taken its name.
        after = left(name, "" if node.address.split(".")[2] == link.removeprefix("sluice") else link)

    assert len(before) > 2
    assert ended
    assert after == []


def test_nodes_that_start_while_others_end_take_no_folder_from_under_them() -> None:
    try:
        require()
    except MissingError as missing:
        refuse(missing)

    def begin_and_end(_: int) -> bool:
        with cluster_node._state() as folder:
            return folder.exists()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(begin_and_end, range(200)))

    assert found == [True] * 200


def test_machine_that_cannot_run_a_node_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(MissingError, match=r"^A node of Kubernetes needs root on this machine\.$"):
        require()
