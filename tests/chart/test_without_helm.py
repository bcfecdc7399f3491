"""What docs/operations.md says of install.yaml without Helm, done as it stands there."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.rendering import BUILD_SECONDS, ROOT, one, program
from cluster.control_plane import ControlPlane, control_plane, missing
from render_manifests import INSTALL

from proxy.__main__ import main as proxy_command
from proxy.settings import settings_from

pytestmark = pytest.mark.timeout(BUILD_SECONDS)
SECTION = (ROOT / "docs" / "operations.md").read_text().partition("\n## install.yaml without Helm\n")[2].partition("\n## ")[0]
ROUTE = {
    "apiVersion": "sluice.dev/v1alpha1",
    "kind": "WsRoute",
    "metadata": {"name": "kept", "namespace": "default"},
    "spec": {
        "ingressClassName": "sluice",
        "hosts": ["chat.example.com"],
        "rules": [{"websocket": {"backends": [{"service": "chat", "port": 80}]}}],
    },
}


def block(language: str) -> str:
    """Return the one block of the section in a language."""
    (text,) = [part.partition("```")[0] for part in SECTION.split(f"```{language}\n")[1:]]
    return text


def customized(folder: Path) -> list[dict[str, Any]]:
    shutil.copy(INSTALL, folder)
    folder.joinpath("kustomization.yaml").write_text(block("yaml"))
    done = subprocess.run([program("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_kustomization_of_the_page_gives_node_ports_and_redirects_that_name_them(tmp_path: Path) -> None:
    found = customized(tmp_path)
    spec = one(found, "Service")["spec"]
    container = one(found, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    settings = settings_from(proxy_command.make_context("", list(container["args"])).params)

    assert (spec["type"], {port["name"]: port["nodePort"] for port in spec["ports"]}) == (
        "NodePort",
        {"http": 30080, "https": 30443},
    )
    assert (container["name"], settings.public_https_port) == ("proxy", 30443)
    assert len(found) == len(list(yaml.safe_load_all(INSTALL.read_text())))


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    """An API server of its own: what is removed is what the whole cluster has."""
    lacking = missing()
    if lacking and os.environ.get("CI"):
        pytest.fail(lacking)
    if lacking:
        pytest.skip(lacking)
    with control_plane() as running:
        yield running


def test_removal_of_the_page_leaves_the_crd_and_every_wsroute_and_nothing_else(plane: ControlPlane) -> None:
    plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(INSTALL))
    plane.kubectl("wait", "--for=condition=Established", "crd/wsroutes.sluice.dev", "--timeout=30s")
    plane.apply(ROUTE)
    whole_cluster = [raw for raw in yaml.safe_load_all(INSTALL.read_text()) if "namespace" not in raw["metadata"]]
    for line in block("sh").splitlines():
        command, *arguments = line.split()
        assert command == "kubectl"
        # Nobody empties the namespace, as no controller of Kubernetes runs here.
        plane.kubectl(*arguments, "--wait=false")
    left = {
        (raw["kind"], raw["metadata"]["name"])
        for raw in whole_cluster
        if plane.kubectl("get", raw["kind"], raw["metadata"]["name"], check=False).returncode == 0
    }

    assert left == {("Namespace", "sluice-system"), ("CustomResourceDefinition", "wsroutes.sluice.dev")}
    assert "deletionTimestamp" in plane.get("namespace", "sluice-system")["metadata"]
    assert "deletionTimestamp" not in plane.get("crd", "wsroutes.sluice.dev")["metadata"]
    assert plane.get("wsroute", "kept", "-n", "default")["spec"]["hosts"] == ["chat.example.com"]


def test_all_but_the_crd_and_the_namespace_has_the_labels_that_the_page_removes_by() -> None:
    labels = {"app.kubernetes.io/part-of": "sluice", "app.kubernetes.io/instance": "sluice"}.items()
    documents = yaml.safe_load_all(INSTALL.read_text())
    others = [raw["kind"] for raw in documents if not labels <= raw["metadata"].get("labels", {}).items()]

    assert others == ["Namespace", "CustomResourceDefinition"]
