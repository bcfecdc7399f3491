"""One control plane for the tests that change nothing for others: each test has a namespace and an installation of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.control_plane import ControlPlane, control_plane, existing, missing
from cluster.installation import define
from cluster.nodes import archive, images, installed, namespace, node  # noqa: F401 - fixtures: one node for all modules


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """A control plane with the WsRoute definition: one of our own, or the cluster that SLUICE_TEST_KUBECONFIG names."""
    given = os.environ.get("SLUICE_TEST_KUBECONFIG")
    if given:
        with existing(Path(given)) as found:
            define(found)
            yield found
        return
    lacks = missing()
    if lacks:
        message = f"there is no control plane on this machine: {lacks}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with control_plane() as found:
        define(found)
        yield found
