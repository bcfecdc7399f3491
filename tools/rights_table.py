"""Write the table of rights in docs/security.md from manifests/install.yaml; `--check` says whether it is up to date."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pages import between, write_or_check

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "security.md"
MANIFEST = ROOT / "manifests" / "install.yaml"


def table() -> str:
    """Return what the service account may do by the roles that are bound to it, rights of the same verbs together."""
    objects = [one for one in yaml.safe_load_all(MANIFEST.read_text()) if one]
    together: dict[tuple[str, str], list[str]] = {}
    for binding in objects:
        if binding["kind"] in ("ClusterRoleBinding", "RoleBinding"):
            where = binding["metadata"].get("namespace", "")
            for rule in _role(objects, binding)["rules"]:
                key = (f"namespace `{where}`" if where else "everywhere", ", ".join(rule["verbs"]))
                only = f" named {', '.join(rule['resourceNames'])}" if "resourceNames" in rule else ""
                together.setdefault(key, []).extend(f"`{resource}`{only}" for resource in rule["resources"])
    rows = [f"| {where} | {verbs} | {', '.join(resources)} |" for (where, verbs), resources in together.items()]
    return "\n".join(["| where | may | what |", "|---|---|---|", *rows]) + "\n"


def _role(objects: list[dict[str, Any]], binding: Mapping[str, Any]) -> Mapping[str, Any]:
    wanted = (binding["roleRef"]["kind"], binding["roleRef"]["name"], binding["metadata"].get("namespace"))
    (found,) = [one for one in objects if (one["kind"], one["metadata"]["name"], one["metadata"].get("namespace")) == wanted]
    return found


def with_table(text: str) -> str:
    """Return the page's text with the table as it should be."""
    return between(text, "rights", table())


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, with_table))
