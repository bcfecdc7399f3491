"""One real node for all tests that need pods: its fixtures, and kubectl by hand."""

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import image as sluice_image
import pytest
from cluster.backend_image import write_backends
from cluster_binaries import MissingError, build
from cluster_images import write_busybox
from cluster_node import Node, start

BUSYBOX = "localhost/busybox:1"
"""Image of busybox that every node has: a shell, `httpd`, `wget`, `nslookup`."""
CONFINED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""The security context of the chart's containers."""


def refuse(reason: MissingError) -> NoReturn:
    """Skip for what this machine lacks; where CI is set, fail."""
    if os.environ.get("CI"):
        pytest.fail(str(reason))
    pytest.skip(str(reason))


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of Kubernetes with the busybox image, for the whole session."""
    try:
        with start() as one:
            one.import_image(write_busybox(tmp_path_factory.mktemp("images") / "busybox.tar", BUSYBOX, ["sleep", "infinity"]))
            yield one
    except MissingError as missing:
        refuse(missing)


@pytest.fixture(scope="session")
def archive() -> Path:
    """The docker archive of Sluice's image, made of this tree."""
    try:
        return sluice_image.image()
    except MissingError as missing:
        refuse(missing)


@pytest.fixture(scope="session")
def installed(node: Node, archive: Path) -> str:
    """The name of Sluice's image, which the node has."""
    node.import_image(archive)
    return sluice_image.IMAGE


class Namespace:
    """A namespace of the node, and kubectl in it."""

    def __init__(self, node: Node, name: str) -> None:
        self.node, self.name = node, name

    def kubectl(self, *arguments: str, given: object = None, timeout: float = 120) -> str:
        """Run kubectl as the administrator; `given` goes to standard input as JSON. Fails the test if kubectl fails."""
        command = [str(build("kubectl")), f"--kubeconfig={self.node.kubeconfig}", f"--namespace={self.name}", *arguments]
        told = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=timeout, check=False)
        if told.returncode:
            pytest.fail(f"kubectl {' '.join(arguments)}: {told.stderr}")
        return told.stdout

    def apply(self, *objects: dict[str, object]) -> None:
        self.kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": objects})

    def wait(self, condition: str, *what: str, seconds: int = 60) -> None:
        self.kubectl("wait", f"--for={condition}", f"--timeout={seconds}s", *what)

    def run_pod(self, name: str, *containers: dict[str, object], **spec: object) -> None:
        """Make a pod of containers that need no more than a name, an image and a command."""
        complete = [{"imagePullPolicy": "Never", **one} for one in containers]
        body = {"containers": complete, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, **spec}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": body})


@pytest.fixture
def namespace(node: Node) -> Iterator[Namespace]:
    """A namespace for one test; it goes with all that is in it."""
    one = Namespace(node, f"test-{secrets.token_hex(4)}")
    one.kubectl("create", "namespace", one.name)
    # A pod needs the account, and its controller makes it a moment later.
    one.wait("create", "serviceaccount/default")
    yield one
    one.kubectl("delete", "namespace", one.name, "--wait=false")


@pytest.fixture(scope="module")
def images(node: Node, installed: str, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Node:
    """The node with Sluice's image and that of the backends."""
    del installed
    node.import_image(write_backends(archive, tmp_path_factory.mktemp("images") / "backends.tar"))
    return node
