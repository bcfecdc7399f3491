"""Values of the chart that change what a running installation does, on a real node."""

import http.client
import json
import secrets
import ssl
from collections.abc import Iterator

import pytest
from cluster.nodes import BUSYBOX, CONFINED
from cluster.serving import Release
from cluster_node import Node

pytestmark = pytest.mark.timeout(300)
HOST = "chat.example.com"
FILE = "from a ConfigMap"


@pytest.fixture(scope="module")
def release(images: Node) -> Iterator[Release]:
    """TLS ends before the proxy, at a load balancer for which this machine stands. A second Service has TLS of its own."""
    one = Release(images, f"sluice-{secrets.token_hex(3)}")
    one.kubectl("create", "namespace", one.name)
    one.kubectl("create", "configmap", "extra", f"--from-literal=file={FILE}")
    mount = {"name": "extra", "mountPath": "/extra", "readOnly": True}
    security = {**CONFINED, "runAsUser": 10003}
    agent = {
        "name": "agent",
        "image": BUSYBOX,
        "command": ["sleep", "infinity"],
        "volumeMounts": [mount],
        "securityContext": security,
    }
    one.helm(
        "install",
        replicaCount=1,
        minReadySeconds=2,
        service={
            "type": "NodePort",
            "targetPorts": {"https": "http"},
            "internal": {"enabled": True, "type": "NodePort", "targetPorts": {"https": "https"}},
        },
        # The node's addresses, as which kube-proxy sends.
        proxy={"workers": 1, "trustedProxies": ["0.0.0.0/0", "::/0"], "extraVolumeMounts": [mount]},
        extraVolumes=[{"name": "extra", "configMap": {"name": "extra"}}],
        extraContainers=[agent],
    )
    rule = {
        "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}
    }
    one.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}},
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "web"},
            "spec": {"ingressClassName": one.name, "tls": [{"hosts": [HOST]}], "rules": [{"host": HOST, **rule}]},
        },
    )
    one.wait("jsonpath={.status.loadBalancer.ingress[0].ip}", "ingress/web")
    yield one
    one.kubectl("delete", "namespace", one.name, "--wait=false")


def ports(release: Release, suffix: str = "") -> dict[str, int]:
    (name,) = [one for one in release.names("service") if one.endswith(f"{release.name}{suffix}")]
    return {one["name"]: one["nodePort"] for one in json.loads(release.kubectl("get", name, "-o=json"))["spec"]["ports"]}


def ask(release: Release, port: int, *, tls: bool = False, **fields: str) -> int:
    """Return the status of a GET of the route's host."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    address = release.node.address
    connection = (
        http.client.HTTPSConnection(address, port, timeout=10, context=unchecked)
        if tls
        else http.client.HTTPConnection(address, port, timeout=10)
    )
    try:
        connection.request("GET", "/", headers={"Host": HOST, **fields})
        return connection.getresponse().status
    finally:
        connection.close()


def test_port_of_https_that_leads_to_http_is_plain_and_redirects_what_came_by_http_alone(release: Release) -> None:
    public = ports(release)
    by_https = {"X-Forwarded-Proto": "https"}

    # 503: the route's Service has no endpoint.
    assert [ask(release, public["https"], **by_https), ask(release, public["https"])] == [503, 308]
    assert [ask(release, public["http"], **by_https), ask(release, public["http"])] == [503, 308]


def test_internal_service_leads_to_the_same_pods_by_ports_of_its_own(release: Release) -> None:
    internal = ports(release, "-internal")

    assert [ask(release, internal["http"]), ask(release, internal["https"], tls=True)] == [308, 503]
    assert ask(release, internal["https"]) == 400, "plain HTTP to the port of TLS"


def test_extra_container_runs_beside_the_proxy_and_both_see_the_extra_volume(release: Release) -> None:
    (pod,) = release.pods()
    read = "print(open('/extra/file').read())"

    assert release.kubectl("exec", pod, "--container=agent", "--", "cat", "/extra/file") == FILE
    assert release.kubectl("exec", pod, "--container=proxy", "--", "python", "-c", read).strip() == FILE
    assert release.kubectl(
        "exec", pod, "--container=controller", "--", "python", "-c", "import os; print(os.path.exists('/extra'))"
    ) == ("False\n")


def test_rollout_counts_a_pod_as_available_only_after_it_was_ready_for_long_enough(release: Release) -> None:
    deployment = json.loads(release.kubectl("get", release.deployment, "-o=json"))
    (pod,) = release.pods().values()
    since = {one["type"]: one["lastTransitionTime"] for one in pod["status"]["conditions"]}
    available = {one["type"]: one["lastTransitionTime"] for one in deployment["status"]["conditions"]}

    assert deployment["spec"]["minReadySeconds"] == 2
    assert available["Available"] > since["Ready"]
