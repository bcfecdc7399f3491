"""JSON schemas for kubeconform, made from what a real API server says of itself: its default source is a web site."""

import json
import ssl
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.control_plane import ControlPlane

LOCATION = "{{.Group}}/{{.ResourceAPIVersion}}/{{.ResourceKind}}.json"
"""Where kubeconform finds a kind below the folder that `write_schemas` fills; the group of the core is called v1."""
SECONDS = 30.0


def _get(plane: ControlPlane, path: str) -> Any:
    context = ssl.create_default_context(cadata=plane.ca.decode())
    request = urllib.request.Request(plane.url + path, headers={"Authorization": f"Bearer {plane.admin}"})  # noqa: S310  https
    with urllib.request.urlopen(request, timeout=SECONDS, context=context) as answer:  # noqa: S310
        return json.load(answer)


def strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of an OpenAPI schema; an object has the fields that it names and no others."""
    result: dict[str, Any] = {}
    for word, part in schema.items():
        match word:
            case "description" | "default" | "example":
                continue
            case "$ref":
                result[word] = part.replace("#/components/schemas/", "#/definitions/")
            case "properties":
                result[word] = {name: strict(field) for name, field in part.items()}
            case "items" | "additionalProperties" | "not" if isinstance(part, Mapping):
                result[word] = strict(part)
            case "allOf" | "anyOf" | "oneOf":
                result[word] = [strict(one) for one in part]
            case _:
                if not word.startswith("x-kubernetes-"):
                    result[word] = part
    open_ended = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields") is True
    if "properties" in schema and not open_ended:
        result["additionalProperties"] = False
    return result


def write_schemas(plane: ControlPlane, folder: Path, *, wait_for: str) -> None:
    """Write a schema for each kind; `wait_for`: a path such as `apis/sluice.dev/v1alpha1` that a new CRD brings in a moment."""
    deadline = time.monotonic() + SECONDS
    while wait_for not in (paths := _get(plane, "/openapi/v3")["paths"]):
        assert time.monotonic() < deadline, f"the API server does not speak of {wait_for}"
        time.sleep(0.05)
    for path in paths:
        schemas = _get(plane, f"/openapi/v3/{path}").get("components", {}).get("schemas", {})
        definitions = {name: strict(schema) for name, schema in schemas.items()}
        for name, schema in schemas.items():
            for kind in schema.get("x-kubernetes-group-version-kind", []):
                group, version = kind["group"] or kind["version"], kind["version"]
                if path not in (f"apis/{group}/{version}", f"api/{version}"):
                    continue
                place = folder / group / version / f"{kind['kind'].lower()}.json"
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(json.dumps({"$ref": f"#/definitions/{name}", "definitions": definitions}))
