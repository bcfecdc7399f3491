"""One control plane for the tests that change nothing for others: each test has a namespace and an installation of its own."""

import os
from collections.abc import Iterator

import pytest
from cluster.control_plane import ControlPlane, control_plane, missing
from cluster.installation import define
from cluster.nodes import archive, installed, namespace, node  # noqa: F401 - fixtures: one node for all modules


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """A control plane with the WsRoute definition."""
    lacks = missing()
    if lacks:
        message = f"there is no control plane on this machine: {lacks}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with control_plane() as found:
        define(found)
        yield found
