"""Backends that say who they are and what they were asked: Deployments of one small server, for tests on a node."""

import json
from pathlib import Path

from cluster.nodes import Namespace

PORT = 3000
"""Where the server listens; the Services' port is 8080, named http."""
SERVER = Path(__file__).with_name("echo_server.py")
_CONFIG = "echo-server"


def run(namespace: Namespace, image: str, *names: str, replicas: int = 1) -> None:
    """Make a Deployment and a Service of each name, and wait until their pods are ready. `image`: any with Python in its PATH."""
    files = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": _CONFIG}, "data": {SERVER.name: SERVER.read_text()}}
    namespace.apply(files, *(one for name in names for one in (_deployment(name, image, replicas), _service(name))))
    for name in names:
        wait(namespace, name, replicas)


def wait(namespace: Namespace, name: str, replicas: int) -> None:
    """Wait until a Deployment has that many pods that are ready."""
    namespace.wait(f"jsonpath={{.status.readyReplicas}}={replicas}", f"deployment/{name}", seconds=120)


def pods(namespace: Namespace, name: str) -> set[str]:
    """Return the addresses of the pods of a Deployment."""
    found = json.loads(namespace.kubectl("get", "pods", f"-l=app={name}", "-o=json"))["items"]
    return {one["status"]["podIP"] for one in found}


def _deployment(name: str, image: str, replicas: int) -> dict[str, object]:
    field = {"fieldRef": {"fieldPath": "status.podIP"}}
    container = {
        "name": "echo",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["python", f"/echo/{SERVER.name}", str(PORT)],
        "env": [{"name": "SERVICE", "value": name}, {"name": "POD_IP", "valueFrom": field}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "server", "mountPath": "/echo"}],
    }
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "server", "configMap": {"name": _CONFIG}}],
    }
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def _service(name: str) -> dict[str, object]:
    port = {"name": "http", "port": 8080, "targetPort": PORT}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [port]},
    }
