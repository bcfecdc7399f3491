"""Ports of the node instead of a Service, on a real node: what Ingresses show, and what an uninstallation leaves of it all."""

import http.client
import json
import secrets
import subprocess
from typing import Any

import pytest
from cluster.nodes import Namespace
from cluster.serving import Release
from cluster_binaries import build
from cluster_node import Node

pytestmark = pytest.mark.timeout(600)


def address_of(namespace: Namespace, name: str) -> list[dict[str, Any]]:
    status = json.loads(namespace.kubectl("get", "ingress", name, "-o=json"))["status"]
    found: list[dict[str, Any]] = status["loadBalancer"].get("ingress", [])
    return found


def test_ingress_shows_the_node_and_uninstalling_leaves_what_the_docs_say(node: Node, installed: str) -> None:
    repository, _, tag = installed.rpartition(":")
    release = Release(node, f"ports-{secrets.token_hex(3)}")
    release.helm(
        "install",
        "--create-namespace",
        kind="DaemonSet",
        image={"repository": repository, "tag": tag, "pullPolicy": "Never"},
        service={"type": "ClusterIP"},
        hostPorts={"enabled": True, "http": 18080, "https": 18443},
        status={"publishAddresses": []},
    )
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    release.apply(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "shop"},
            "spec": {"ingressClassName": release.name, "defaultBackend": backend},
        },
        {
            "apiVersion": "sluice.dev/v1alpha1",
            "kind": "WsRoute",
            "metadata": {"name": "chat"},
            "spec": {
                "ingressClassName": release.name,
                "hosts": ["chat.example.com"],
                "rules": [{"websocket": {"backends": [{"service": "web", "port": 80}]}}],
            },
        },
    )
    node.until("The Ingress shows the node", lambda: bool(address_of(release, "shop")), within=60)
    (pod,) = release.pods().values()
    shown = address_of(release, "shop")
    asked = http.client.HTTPConnection(node.address, 18080, timeout=10)
    asked.request("GET", "/", headers={"Host": "shop.example.com"})
    status = asked.getresponse().status
    asked.close()
    lease = f"lease/{release.name}-sluice-leader"
    before = release.kubectl("get", lease, "-o=name")

    command = [str(build("helm")), f"--kubeconfig={node.kubeconfig}", f"--namespace={release.name}"]
    subprocess.run([*command, "uninstall", release.name, "--wait"], capture_output=True, timeout=150, check=True)
    stays = release.kubectl("get", "ingress/shop", "wsroute/chat", lease, "-o=name").split()
    crd = release.kubectl("get", "crd/wsroutes.sluice.dev", "-o=name")
    kinds = "all,serviceaccounts,roles,rolebindings,pdb"
    chosen = f"--selector=app.kubernetes.io/instance={release.name}"
    node.until("Everything that the chart made is gone", lambda: not release.kubectl("get", kinds, chosen, "-o=name"), within=90)
    release.kubectl("delete", "namespace", release.name, "--wait=false")

    assert shown == [{"ip": pod["status"]["hostIP"]}]
    assert pod["status"]["hostIP"] not in ("", pod["status"]["podIP"])
    assert status == 500  # there is no such Service
    assert before
    assert len(stays) == 3
    assert crd
