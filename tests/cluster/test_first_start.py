"""What a first start logs: nothing that looks wrong where nothing is."""

import json
import re
import secrets
from collections.abc import Iterator

import pytest
from cluster.nodes import Namespace
from cluster.serving import Release
from cluster_node import Node

pytestmark = pytest.mark.timeout(300)
LOOKS_WRONG = re.compile(r"warning|error|critical|traceback|exception", re.IGNORECASE)


@pytest.fixture
def release(images: Node) -> Iterator[Release]:
    """An installation of its own, as helm makes it: two replicas that start at once."""
    one = Release(images, f"sluice-{secrets.token_hex(3)}")
    one.helm("install", "--create-namespace")
    yield one
    one.kubectl("delete", "namespace", one.name, "--wait=false")


def logs(namespace: Namespace) -> dict[str, list[str]]:
    pods = json.loads(namespace.kubectl("get", "pods", "-o=json"))["items"]
    return {
        f"{pod['metadata']['name']}/{container['name']}": namespace.kubectl(
            "logs", pod["metadata"]["name"], f"--container={container['name']}"
        ).splitlines()
        for pod in pods
        for container in pod["spec"]["containers"]
    }


def test_first_start_of_two_replicas_logs_nothing_that_looks_like_an_error(release: Release) -> None:
    release.settle()
    said = logs(release)

    assert len(said) == 4
    assert all(said.values())
    assert [f"{name}: {line}" for name, lines in said.items() for line in lines if LOOKS_WRONG.search(line)] == []
