"""Sluice as users run it: installed by helm on a real node, with real backends in pods, under load while things change."""

import asyncio
import collections
import json
import os
import re
import secrets
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import aiohttp.abc
import pytest
import socketio
import trustme
import yaml
from cluster.load import Seen
from cluster.nodes import Namespace
from cluster.serving import PLAIN, ROOT, SECURE, Release, Shop, deployment, route, source_addresses
from cluster_binaries import build
from cluster_node import Node
from monitoring.scraping import HOST, Traffic, alert_selectors, dashboard_queries, ended, objects, of_a_cluster, prometheus

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def release(images: Node) -> Iterator[Release]:
    """Two replicas of Sluice, for all tests; each leaves two that are ready."""
    one = Release(images, f"sluice-{secrets.token_hex(3)}")
    one.helm("install", "--create-namespace")
    yield one
    one.kubectl("delete", "namespace", one.name, "--wait=false")


@pytest.fixture(scope="module")
def sources() -> Iterator[str]:
    """Where the next load comes from; the shops share the node."""
    return source_addresses()


@pytest.fixture(scope="module")
def shop(release: Release, sources: Iterator[str]) -> Iterator[Shop]:
    """The shop behind it."""
    one = Shop(release, f"shop-{secrets.token_hex(3)}", sources)
    one.open()
    yield one
    one.kubectl("delete", "namespace", one.name, "--wait=false")


class _ToNode(aiohttp.abc.AbstractResolver):
    """Every name is the node."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[aiohttp.abc.ResolveResult]:
        return [{"hostname": host, "host": self._address, "port": port, "family": family or 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


def client(node: Node, trusted: Path) -> aiohttp.ClientSession:
    """A client on this machine that finds every host at the node and trusts an authority."""
    connector = aiohttp.TCPConnector(resolver=_ToNode(node.address), ssl=ssl.create_default_context(cafile=trusted))
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=15))


def conditions(shop: Shop) -> dict[str, str]:
    found = json.loads(shop.kubectl("get", "wsroute", "chat", "-o=json"))["status"]["conditions"]
    return {one["type"]: one["status"] for one in found}


def failures(seen: Seen) -> tuple[list[str], list[str], set[str]]:
    """Return what must be empty whatever happens to Sluice's pods: failed requests, failed upgrades, closes that are not 1001."""
    return seen.failures, seen.upgrades + seen.ends, set(seen.closes) - {"1001"}


async def test_first_requests_are_answered_through_the_node_port_and_the_objects_say_so(shop: Shop) -> None:
    ports = shop.release.ports()
    async with client(shop.node, shop.trusted) as session:
        async with session.get(f"http://{PLAIN}:{ports['http']}/a") as answer:
            plain = answer.status, await answer.json()
        async with session.get(f"http://{SECURE}:{ports['http']}/a", allow_redirects=False) as answer:
            redirect = answer.status, answer.headers["Location"]
        async with session.ws_connect(f"wss://{SECURE}:{ports['https']}/ws") as opened:
            await opened.send_str("who")
            pod = await opened.receive_str()
            await opened.send_str("hello")
            echoed = await opened.receive_str()
        web = socketio.AsyncClient(http_session=session, ssl_verify=True)
        await web.connect(f"https://{SECURE}:{ports['https']}", transports=["websocket"], wait_timeout=10)
        said = await web.call("say", "hello", timeout=10)
        await web.disconnect()

    assert plain[0] == 200
    assert plain[1]["path"] == "/a"
    assert plain[1]["pod"].startswith("echo-")
    assert redirect == (308, f"https://{SECURE}/a")
    assert pod.startswith("echo-")
    assert echoed == "hello"
    assert said.startswith("support-")
    assert said.endswith(": hello")
    assert conditions(shop) == {"Accepted": "True", "ResolvedRefs": "True", "Programmed": "True"}
    shop.wait(f"jsonpath={{.status.loadBalancer.ingress[0].ip}}={shop.node.address}", "ingress/shop")


def metrics_of(release: Release) -> dict[str, object]:
    """The pods as the chart's metrics Service has them: Debian's Prometheus cannot ask Kubernetes itself."""
    (service,) = [name.removeprefix("service/") for name in release.names("service") if name.endswith("-metrics")]
    slices = json.loads(release.kubectl("get", "endpointslice", f"--selector=kubernetes.io/service-name={service}", "-o=json"))
    return {
        "static_configs": [
            {
                "targets": [f"{one['addresses'][0]}:{port['port']}"],
                "labels": {"namespace": release.name, "pod": one["targetRef"]["name"]},
            }
            for found in slices["items"]
            for port in found["ports"]
            for one in found["endpoints"]
        ]
    }


def endpoints(name: str, address: str, port: int) -> dict[str, object]:
    """An EndpointSlice of a Service that selects no pods."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }


async def test_prometheus_finds_the_pods_and_no_query_of_dashboard_or_alerts_is_empty(
    shop: Shop, namespace: Namespace, tmp_path: Path
) -> None:
    release, node = shop.release, shop.node
    backend = json.loads(shop.kubectl("get", "pods", "--selector=app=echo", "-o=json"))["items"][0]["status"]["podIP"]
    issued = shop.authority.issue_cert(HOST)
    data = {"tls.crt": issued.cert_chain_pems[0].bytes().decode(), "tls.key": issued.private_key_pem.bytes().decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "chat-tls"}, "type": "kubernetes.io/tls"}
    # No process listens on port 9 of a backend: it refuses.
    namespace.apply({**secret, "stringData": data}, endpoints("echo", backend, 8080), endpoints("dead", backend, 9))

    def change(version: int) -> None:
        services_and_route = list(yaml.safe_load_all(objects(version)))
        services_and_route[-1]["spec"]["ingressClassName"] = release.name
        namespace.apply(*services_and_route)

    change(0)
    namespace.wait("condition=Programmed", "wsroute/chat")
    ports = release.ports()
    traffic = Traffic(change, ports["http"], ports["https"], ssl.create_default_context(cafile=shop.trusted), node.address)
    selectors = {name: selector for name, selector in alert_selectors().items() if not of_a_cluster(selector)}
    async with prometheus(tmp_path, metrics_of(release), prefix=node.in_network([]), address=node.address) as asked:
        running = asyncio.create_task(traffic.run())
        try:
            empty = await asked.empty({**dashboard_queries(), **selectors}, 90)
            async with asyncio.timeout(30):
                while "unknown" in (health := await asked.rules()).values():
                    await asyncio.sleep(0.5)
            scraped = await asked.values("count by (pod) (sluice_workers)")
        finally:
            await ended(running)

    assert empty == []
    assert scraped == [1, 1]
    assert set(health.values()) == {"ok"}


def test_rolling_update_of_backends_and_scaling_lose_no_request(shop: Shop) -> None:
    with shop.load() as load:
        shop.kubectl("rollout", "restart", "deployment/echo")
        shop.kubectl("rollout", "status", "deployment/echo", "--timeout=60s")
        for replicas in (1, 4, 2):
            shop.kubectl("scale", "deployment/echo", f"--replicas={replicas}")
            shop.kubectl("rollout", "status", "deployment/echo", "--timeout=60s")
            shop.wait(f"jsonpath={{.status.replicas}}={replicas}", "deployment/echo")
        seen = load.end()
    # Until the proxy has heard that a pod ends, sockets of the next load may go there, and are closed with 1012.
    shop.settle("echo", 2)

    # Sockets of pods that end are told so, and are open again elsewhere.
    assert failures(seen) == ([], [], {"1012"})
    assert seen.open == 20
    assert seen.requests > 1000
    assert len(seen.pods) >= 6
    assert seen.closes["1001"] > 0


async def certificate(shop: Shop) -> bytes:
    """Return the certificate that a new connection gets, in DER."""
    trust = ssl.create_default_context(cafile=shop.trusted)
    port = shop.release.ports()["https"]
    _, writer = await asyncio.open_connection(shop.node.address, port, ssl=trust, server_hostname=SECURE)
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return shown


async def test_rotated_secret_is_shown_to_new_connections_and_closes_no_socket(shop: Shop) -> None:
    with shop.load() as load:
        before = await certificate(shop)
        rotated = shop.certify()
        # Both pods: a connection goes to either of them.
        shown: collections.deque[bytes] = collections.deque(maxlen=10)
        async with asyncio.timeout(30):
            while list(shown) != [rotated] * 10:
                shown.append(await certificate(shop))
        seen = load.end()

    assert before != rotated
    assert failures(seen) == ([], [], set())
    assert (seen.closes, seen.open) == ({}, 20)


def test_upgrade_and_restart_of_sluice_lose_no_request_and_close_each_socket_with_a_frame(shop: Shop) -> None:
    release = shop.release
    before = set(release.pods())
    with shop.load() as load:
        release.helm("upgrade", podAnnotations={"example.com/restarted": "by an upgrade"})
        release.settle()
        between = set(release.pods())
        release.kubectl("rollout", "restart", release.deployment)
        release.settle()
        seen = load.end()

    after = set(release.pods())
    assert [len(one) for one in (before, between, after)] == [2, 2, 2]
    assert not before & between
    assert not between & after
    assert failures(seen) == ([], [], set())
    # Each socket was in a pod of the first generation, came back, and was closed again unless it had found the last one at once.
    assert seen.closes["1001"] >= 40
    assert seen.open == 20
    assert seen.requests > 1000


def test_killed_controller_costs_nothing_and_its_successor_feeds_the_proxy(shop: Shop) -> None:
    release = shop.release
    with shop.load() as load:
        pods = list(release.pods())
        # One after the other: Kubernetes sends nothing new to a pod while one of its containers is down.
        for pod in pods:
            release.kill(pod, "controller")
            release.node.until("The controller runs again", lambda one=pod: release.restarts(one, "controller") == 1)
            release.wait("condition=Ready", f"pod/{pod}")
        shop.apply(route("later", "later.example.com", release.name, all={"http": {"backends": [{"service": "echo", "port": 80}]}}))
        shop.wait("condition=Programmed", "wsroute/later")
        seen = load.end()

    shop.kubectl("delete", "wsroute", "later")
    assert failures(seen) == ([], [], set())
    assert (seen.closes, seen.open) == ({}, 20)
    assert [release.restarts(pod, "proxy") for pod in pods] == [0, 0]


def test_killed_proxy_comes_back_and_is_fed_by_a_controller_that_goes_on(shop: Shop) -> None:
    release = shop.release
    first, second = release.pods()
    before = [release.restarts(pod, name) for pod, name in ((first, "controller"), (second, "controller"), (second, "proxy"))]
    with shop.load() as load:
        release.kill(first, "proxy")
        release.node.until("The proxy runs again", lambda: release.restarts(first, "proxy") == 1)
        release.wait("condition=Ready", f"pod/{first}")
        during = load.end()
    with shop.load() as load:
        # Nothing but the controller tells it what to answer.
        release.node.until("The proxy answers again", lambda: answers(release, first) > 100)
        afterwards = load.end()

    after = [release.restarts(pod, name) for pod, name in ((first, "controller"), (second, "controller"), (second, "proxy"))]
    assert after == before
    # Its sockets had nobody left to close them; all others stayed, and all are open again.
    assert set(during.closes) <= {"1006"}
    assert during.closes["1006"] < 20
    assert during.open == 20
    assert failures(afterwards) == ([], [], set())


def answers(release: Release, pod: str) -> float:
    """Return how many requests the proxy of a pod has answered since it was started."""
    lines = release.metrics(pod).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("sluice_http_requests_total{"))


def test_controller_that_runs_out_of_memory_leaves_the_proxy_serving_and_recovers(images: Node, sources: Iterator[str]) -> None:
    """The load goes to the pod itself: Kubernetes takes a pod out of its Services while one of its containers is down."""
    small = Release(images, f"small-{secrets.token_hex(3)}")
    memory = {"requests": {"memory": "64Mi"}, "limits": {"memory": "96Mi"}}
    small.helm("install", "--create-namespace", replicaCount=1, controller={"resources": memory})
    shop = Shop(small, f"shop-{secrets.token_hex(3)}", sources)
    shop.open()
    ((pod, described),) = small.pods().items()
    certificate = shop.authority.issue_cert("large.example.com")
    chain, key = certificate.cert_chain_pems[0].bytes().decode(), certificate.private_key_pem.bytes().decode()
    data = {"tls.crt": chain * (900_000 // len(chain)), "tls.key": key}
    with shop.load(address=described["status"]["podIP"], http=8080, https=8443) as load:
        for start in range(0, 100, 4):
            metadata = [{"name": f"large-{number}", "labels": {"large": "yes"}} for number in range(start, start + 4)]
            secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "stringData": data}
            items = [{**secret, "metadata": one} for one in metadata]
            shop.kubectl("create", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": items})
            if killed_for_memory(small, pod):
                break
        killed = killed_for_memory(small, pod)
        shop.kubectl("delete", "secret", "--selector=large=yes")
        shop.apply(route("later", "later.example.com", small.name, all={"http": {"backends": [{"service": "echo", "port": 80}]}}))
        shop.wait("condition=Programmed", "wsroute/later")
        seen = load.end()

    restarts = small.restarts(pod, "proxy")
    for namespace in (shop, small):
        namespace.kubectl("delete", "namespace", namespace.name, "--wait=false")
    assert killed
    assert failures(seen) == ([], [], set())
    assert (seen.closes, seen.open) == ({}, 20)
    assert seen.requests > 100  # how many there are depends on how soon the memory is used up
    assert restarts == 0


def killed_for_memory(release: Release, pod: str) -> bool:
    """Tell whether a controller ended for lack of memory: the kernel took it, or its container where it takes whole ones."""
    status = next(one for one in release.statuses(pod) if one["name"] == "controller")
    if any(one.get("terminated", {}).get("reason") == "OOMKilled" for one in (status["state"], status["lastState"])):
        return True
    return "the controller ended by signal 9" in release.kubectl("logs", pod, "--container=controller")


def test_drained_node_loses_one_pod_at_a_time_and_no_request(shop: Shop) -> None:
    """The node is the only one: the second pod waits for the first one's successor, which waits for the node to take pods again."""
    release = shop.release
    before = set(release.pods())
    drain = ["drain", "node", f"--pod-selector=app.kubernetes.io/instance={release.name}", "--delete-emptydir-data"]
    command = [str(build("kubectl")), f"--kubeconfig={release.node.kubeconfig}", *drain, "--timeout=120s"]
    with shop.load() as load:
        try:
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as draining:
                assert draining.stderr is not None
                said = []
                for line in draining.stderr:
                    said.append(line)
                    if "disruption budget" in line:
                        break
                left = before & set(release.pods())
                release.kubectl("uncordon", "node")
                said += draining.stderr
        finally:
            release.kubectl("uncordon", "node")
        release.settle()
        seen = load.end()

    assert draining.returncode == 0, "".join(said)
    assert len(left) == 1
    assert not before & set(release.pods())
    assert failures(seen) == ([], [], set())
    assert seen.closes["1001"] >= 20
    assert seen.open == 20


def readme(heading: str) -> list[str]:
    """Return the code blocks of a section of the README, of all languages."""
    section = (ROOT / "README.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^```\w*\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def follow(commands: str, node: Node, folder: Path) -> str:
    """Run the commands of a block as a user does, with helm and kubectl in the path; return what they said."""
    path = os.pathsep.join([str(build(name).parent) for name in ("helm", "kubectl")] + [os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "KUBECONFIG": str(node.kubeconfig)}
    command = ["sh", "-ec", commands]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_who_follows_the_readme_gets_a_first_route_over_wss(images: Node, tmp_path: Path) -> None:
    install, (route_of_chat, commands, _) = readme("Install")[0], readme("A first wss route")
    system, shop = Namespace(images, "sluice-system"), Namespace(images, "shop")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    issued = authority.issue_cert(SECURE)
    issued.cert_chain_pems[0].write_to_path(tmp_path / "chat.crt")
    issued.private_key_pem.write_to_path(tmp_path / "chat.key")
    (tmp_path / "route.yaml").write_text(route_of_chat)
    # What the README takes for granted: the image is on the node, and there is an application.
    made, *_, installing = install.splitlines()
    shop.kubectl("create", "namespace", shop.name)
    chat, web = deployment("chat", 1), deployment("web", 1)
    chat[1]["spec"]["ports"][0]["port"] = 8080
    shop.apply(*chat, *web)

    follow(installing, images, ROOT)
    follow(commands, images, tmp_path)
    for name in ("chat", "web"):
        shop.kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s")
    system.kubectl("rollout", "status", "deployment/sluice", "--timeout=60s")
    shop.wait("condition=Programmed", "wsroute/chat")
    listed = follow(commands.splitlines()[-1], images, tmp_path)
    tested = follow("helm test sluice -n sluice-system --logs --timeout=180s", images, ROOT)
    ports = {
        one["name"]: one["nodePort"] for one in json.loads(system.kubectl("get", "service", "sluice", "-o=json"))["spec"]["ports"]
    }
    async with client(images, tmp_path / "ca.crt") as session:
        async with session.ws_connect(f"wss://{SECURE}:{ports['https']}/ws") as opened:
            await opened.send_str("who")
            pod = await opened.receive_str()
        async with session.get(f"https://{SECURE}:{ports['https']}/") as answer:
            page = await answer.json()
        async with session.get(f"http://{SECURE}:{ports['http']}/", allow_redirects=False) as answer:
            redirected = answer.status
    follow("helm uninstall sluice -n sluice-system", images, ROOT)
    for namespace in (system, shop):
        namespace.kubectl("delete", "namespace", namespace.name, "--wait=false")

    assert made.partition("#")[0].strip() == "make image"
    assert pod.startswith("chat-")
    assert page["pod"].startswith("web-")
    assert redirected == 308
    assert re.search(r"^chat +.*True", listed, re.MULTILINE)
    assert "Phase:          Succeeded" in tested
