"""Every manifest of manifests/examples, applied by kubectl: accepted, served, and said to be."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from cluster.control_plane import ControlPlane
from cluster.installation import GOOD, ROOT, Pod, conditions, installed, until

pytestmark = pytest.mark.timeout(120)
EXAMPLES = ROOT / "manifests/examples"
ADDRESS = "192.0.2.1"


def examples() -> dict[str, list[Path]]:
    """Return the files of each example: those of one folder belong together."""
    found: dict[str, list[Path]] = {}
    for path in sorted(EXAMPLES.rglob("*.yaml")):
        place = path.relative_to(EXAMPLES)
        if "generated" not in place.parts:
            found.setdefault(place.parts[0].removesuffix(".yaml"), []).append(path)
    return found


def secrets(objects: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Make the certificates that objects name, as cert-manager would."""
    authority = trustme.CA()
    wanted: dict[str, list[str]] = {}
    for one in objects:
        spec = one.get("spec", {})
        if one["kind"] == "WsRoute" and "tls" in spec:
            wanted.setdefault(spec["tls"]["secretName"], []).extend(spec["hosts"])
        for entry in spec.get("tls", ()) if one["kind"] == "Ingress" else ():
            wanted.setdefault(entry["secretName"], []).extend(entry["hosts"])
    for name, hosts in wanted.items():
        leaf = authority.issue_cert(*hosts)
        data = {"tls.crt": leaf.cert_chain_pems[0].bytes().decode(), "tls.key": leaf.private_key_pem.bytes().decode()}
        yield {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": name}, "stringData": data}


async def test_every_example_is_accepted_and_served(plane: ControlPlane, tmp_path: Path) -> None:
    values = {"ingressClass__name": "sluice", "ingressClass__controllerName": "sluice.dev/ingress-controller"}
    with installed(plane, "examples", tmp_path, **values) as sluice:
        async with sluice.pod("--publish-address", ADDRESS) as pod:
            for name, files in examples().items():
                await _is_served(plane, pod, f"example-{name}", files)
    plane.kubectl("delete", "ingressclass", "sluice")


async def _is_served(plane: ControlPlane, pod: Pod, namespace: str, files: list[Path]) -> None:
    objects = [one for path in files for one in yaml.safe_load_all(path.read_text()) if one]
    plane.kubectl("create", "namespace", namespace)
    for secret in secrets(objects):
        plane.kubectl("create", "-n", namespace, "-f", "-", text=json.dumps(secret))
    plane.kubectl("apply", "-n", namespace, "--validate=strict", *(part for path in files for part in ("-f", str(path))))
    routed = [one for one in objects if one["kind"] in ("WsRoute", "Ingress")]
    assert routed, f"{namespace} routes nothing"
    for one in routed:
        kind, name = one["kind"].lower(), one["metadata"]["name"]
        if kind == "wsroute":
            await until(lambda kind=kind, name=name: plane.get(kind, name, "-n", namespace), lambda raw: conditions(raw) == GOOD)
        else:
            await until(
                lambda kind=kind, name=name: plane.get(kind, name, "-n", namespace),
                lambda raw: raw["status"].get("loadBalancer") == {"ingress": [{"ip": ADDRESS}]},
            )
        await until(pod.routes, lambda routes, start=f"{kind}/{namespace}/{name}/": start in json.dumps(routes))
    assert [one for one in await pod.problems() if one["namespace"] == namespace] == []
