"""The chart and the manifests before a real API server, and before kubeconform with that server's own schemas."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.api_schemas import LOCATION, write_schemas
from chart.rendering import BUILD_SECONDS, CHART, ROOT, helm, program, render
from cluster.control_plane import ControlPlane, control_plane, missing
from cluster_binaries import KUBERNETES

pytestmark = pytest.mark.timeout(BUILD_SECONDS)
VALUES = sorted(Path(__file__).parent.joinpath("values").glob("*.yaml"))
EXAMPLES = sorted((ROOT / "manifests" / "examples").glob("*.yaml"))
INSTALL = ROOT / "manifests" / "install.yaml"
SCHEMAS = ROOT / "build" / "schemas" / KUBERNETES
UNKNOWN_THERE = ("ServiceMonitor", "PrometheusRule")
"""Kinds of the Prometheus operator; test_monitoring.py has their documents in full."""
ACCOUNT = "system:serviceaccount:sluice-system:sluice"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """An API server with the namespaces that the values name, the CRD and nothing else of ours."""
    lacking = missing()
    if lacking and os.environ.get("CI"):
        pytest.fail(lacking)
    if lacking:
        pytest.skip(lacking)
    with control_plane() as running:
        for name in ("sluice-system", "shop", "examples"):
            running.kubectl("create", "namespace", name)
        # A controller that does not run here makes it in every namespace; a pod without an account of its own needs it.
        running.kubectl("create", "serviceaccount", "default", "-n", "sluice-system")
        running.kubectl("apply", "--server-side", "-f", str(CHART / "crds"))
        running.kubectl("wait", "--for=condition=Established", "crd/wsroutes.sluice.dev", "--timeout=30s")
        yield running


@pytest.fixture(scope="module")
def schemas(plane: ControlPlane) -> str:
    """Where kubeconform finds the schemas."""
    shutil.rmtree(SCHEMAS, ignore_errors=True)
    write_schemas(plane, SCHEMAS, wait_for="apis/sluice.dev/v1alpha1")
    return f"{SCHEMAS}/{LOCATION}"


def kubeconform(schemas: str, text: str) -> list[tuple[str, str, str]]:
    """Return (kind, status, message) of each document."""
    skipped = ("-skip", ",".join(UNKNOWN_THERE))
    done = subprocess.run(
        [program("kubeconform"), "-strict", "-verbose", "-output", "json", "-schema-location", schemas, *skipped],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout, done.stderr
    return [(one["kind"], one["status"], one["msg"]) for one in json.loads(done.stdout)["resources"]]


def expected(text: str) -> list[tuple[str, str, str]]:
    kinds = [raw["kind"] for raw in yaml.safe_load_all(text) if raw]
    return [(kind, "statusSkipped" if kind in UNKNOWN_THERE else "statusValid", "") for kind in kinds]


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_kubeconform_strict_takes_what_the_chart_renders(schemas: str, values: Path) -> None:
    text = helm("template", "sluice", str(CHART), "--include-crds", values=yaml.safe_load(values.read_text())).stdout

    assert sorted(kubeconform(schemas, text)) == sorted(expected(text))


@pytest.mark.parametrize("path", [INSTALL, *EXAMPLES], ids=lambda path: path.stem)
def test_kubeconform_strict_takes_the_manifests(schemas: str, path: Path) -> None:
    text = path.read_text()

    assert sorted(kubeconform(schemas, text)) == sorted(expected(text))


WRONG = [
    ("kind: Deployment", "replicas: 2", "replica: 2", "replica"),
    ("kind: Deployment", "readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true", "readOnlyRootFileSystem"),
    ("kind: Service\n", "targetPort: https", "targetport: https", "targetport"),
    ("kind: CustomResourceDefinition", "scope: Namespaced", "scopes: Namespaced", "scope"),
]


@pytest.mark.parametrize(("kind", "right", "wrong", "word"), WRONG)
def test_kubeconform_strict_refuses_a_misspelt_field(schemas: str, kind: str, right: str, wrong: str, word: str) -> None:
    (document,) = [part for part in INSTALL.read_text().split("---\n") if kind in part and right in part]
    ((_, status, message),) = kubeconform(schemas, document.replace(right, wrong, 1))

    assert (status, word in message) == ("statusInvalid", True), message


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_api_server_takes_what_the_chart_renders(plane: ControlPlane, values: Path) -> None:
    documents = [raw for raw in yaml.safe_load_all(render(yaml.safe_load(values.read_text()))) if raw]
    known = [raw for raw in documents if raw["kind"] not in UNKNOWN_THERE]
    text = yaml.safe_dump_all(known)
    done = plane.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", text=text, check=False)

    assert (done.returncode, done.stdout.count("serverside-applied")) == (0, len(known)), done.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_api_server_takes_the_example(plane: ControlPlane, path: Path) -> None:
    done = plane.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--validate=strict", "-n", "examples", "-f", str(path)), check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def installed(plane: ControlPlane) -> ControlPlane:
    """The API server after kubectl apply of install.yaml."""
    done = plane.kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", str(INSTALL))
    assert "Warning" not in done.stderr, done.stderr
    return plane


def admitted(plane: ControlPlane, raw: dict[str, Any]) -> None:
    """Let the API server look at a pod, in the namespace that demands Pod Security's profile restricted."""
    plane.kubectl("apply", "--dry-run=server", "--validate=strict", "-n", "sluice-system", "-f", "-", text=json.dumps(raw))


def test_pods_are_admitted_where_the_namespace_demands_the_profile_restricted(installed: ControlPlane) -> None:
    namespace = installed.get("namespace", "sluice-system")
    template = installed.get("-n", "sluice-system", "deployment", "sluice")["spec"]["template"]
    rendered = yaml.safe_load_all(helm("template", "sluice", str(CHART), "-n", "sluice-system").stdout)
    tester = next(raw for raw in rendered if raw["kind"] == "Pod")
    pod = {"apiVersion": "v1", "kind": "Pod"}
    loose = {**pod, "metadata": {"name": "loose"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    admitted(installed, {**pod, **template, "metadata": {"name": "probe", **template["metadata"]}})
    admitted(installed, tester)
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        admitted(installed, loose)


MAY = [
    *(("list", kind) for kind in ("secrets", "services", "ingresses", "ingressclasses", "endpointslices", "wsroutes")),
    *(("watch", kind) for kind in ("secrets", "services", "ingresses", "ingressclasses", "endpointslices", "wsroutes")),
    *(("patch", "ingresses/status"), ("patch", "wsroutes/status"), ("create", "events"), ("patch", "events")),
    *(("create", "leases"), ("get", "leases/sluice-leader"), ("update", "leases/sluice-leader"), ("get", "pods")),
]
MAY_NOT = [
    *((verb, "secrets") for verb in ("create", "update", "patch", "delete")),
    *((verb, kind) for verb in ("update", "patch", "delete") for kind in ("ingresses", "wsroutes", "services")),
    *(("update", "ingresses/status"), ("update", "wsroutes/status"), ("list", "leases"), ("delete", "leases/sluice-leader")),
    *(("update", "leases/other"), ("list", "pods"), ("create", "pods"), ("list", "namespaces"), ("get", "configmaps")),
]


def can(plane: ControlPlane, verb: str, kind: str, namespace: str) -> bool:
    resource, _, rest = kind.partition("/")
    what = [resource, f"--subresource={rest}"] if rest == "status" else [kind]
    done = plane.kubectl("auth", "can-i", verb, *what, "--as", ACCOUNT, "-n", namespace, check=False)
    assert done.stdout.strip() in ("yes", "no"), done.stderr
    return done.stdout.strip() == "yes"


def test_account_may_do_what_the_controller_does_and_nothing_else(installed: ControlPlane) -> None:
    asked = [(verb, kind, "sluice-system" if kind.startswith("leases") else "shop") for verb, kind in (*MAY, *MAY_NOT)]

    assert [what for what in asked if can(installed, *what)] == asked[: len(MAY)]
    assert not can(installed, "create", "leases", "shop")


def release(plane: ControlPlane, *arguments: str, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    done = helm(*arguments, "--kubeconfig", str(plane.kubeconfig()), "--namespace", "edge", values=values)
    assert done.returncode == 0, done.stderr
    return done


def test_helm_installs_upgrades_and_uninstalls(plane: ControlPlane) -> None:
    values: dict[str, Any] = {"watchNamespaces": ["shop"], "ingressClass": {"name": "edge"}, "service": {"type": "ClusterIP"}}
    chart = ("edge", str(CHART))
    release(plane, "install", *chart, "--create-namespace", values=values)
    first = plane.get("-n", "edge", "deployment", "edge-sluice")["spec"]
    told = release(plane, "upgrade", *chart, values={**values, "replicaCount": 3, "proxy": {"workers": 2}}).stdout
    second = plane.get("-n", "edge", "deployment", "edge-sluice")["spec"]
    rival = ("rival", str(CHART), "--create-namespace", "--kubeconfig", str(plane.kubeconfig()), "--namespace", "rival")
    refused = helm("install", *rival, values={"ingressClass": {"name": "rival"}})
    # What a controller makes and writes, as it does not run here.
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "edge-sluice-leader", "namespace": "edge"},
    }
    route = yaml.safe_load((ROOT / "manifests" / "examples" / "canary.yaml").read_text().split("\n---\n")[0])
    route["metadata"]["namespace"] = "edge"
    plane.apply(lease, route)
    release(plane, "uninstall", "edge")
    stays = plane.kubectl("get", "namespace/edge", "lease/edge-sluice-leader", f"wsroute/{route['metadata']['name']}", "-n", "edge")
    left = plane.kubectl(
        *("get", "deployments,services,roles,clusterroles,clusterrolebindings,rolebindings,serviceaccounts,ingressclasses,pdb"),
        *("-A", "-l", "app.kubernetes.io/instance=edge", "-o", "name"),
    ).stdout

    assert refused.returncode != 0
    assert 'the IngressClass "edge" of the release edge/edge has the controller' in refused.stderr
    assert (first["replicas"], second["replicas"]) == (2, 3)
    assert first["selector"] == second["selector"]
    assert "--workers=2" in second["template"]["spec"]["containers"][0]["args"]
    assert "Helm does not upgrade CRDs" in told
    assert left == ""
    assert stays.returncode == 0
    assert plane.get("crd", "wsroutes.sluice.dev")["metadata"]["name"] == "wsroutes.sluice.dev"


def test_chart_upgrade_that_changes_no_pod_restarts_none(tmp_path: Path) -> None:
    newer = tmp_path / "sluice"
    shutil.copytree(CHART, newer)
    chart = newer / "Chart.yaml"
    chart.write_text(chart.read_text().replace("\nversion: 0.1.0", "\nversion: 0.1.1"))
    before, after = (
        yaml.safe_load(helm("template", "sluice", str(path), "--show-only", "templates/workload.yaml").stdout)
        for path in (CHART, newer)
    )

    assert before["metadata"]["labels"]["helm.sh/chart"] != after["metadata"]["labels"]["helm.sh/chart"]
    assert before["spec"]["template"] == after["spec"]["template"]
