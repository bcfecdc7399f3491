"""Write the tables of docs/wsroute.md from the CRD's schema; `--check` says whether they are up to date."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pages import between, write_or_check

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "wsroute.md"
CRD = ROOT / "manifests" / "crds" / "sluice.dev_wsroutes.yaml"

Schema = Mapping[str, Any]


def version() -> Schema:
    """Return the version of the CRD that is served."""
    found: Schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]
    return found


def fields(schema: Schema, place: str) -> Iterator[tuple[str, Schema, bool]]:
    """Yield every field below `place`, outer ones first: its path, its schema, whether it is required."""
    required = schema.get("required", ())
    for name, part in schema.get("properties", {}).items():
        path = f"{place}.{name}"
        yield path, part, name in required
        yield from fields(part, path)
        if "items" in part:
            yield from fields(part["items"], f"{path}[]")


def rules(schema: Schema, place: str) -> Iterator[tuple[str, Schema]]:
    """Yield every CEL rule at and below `place`."""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield place, rule
    for name, part in schema.get("properties", {}).items():
        yield from rules(part, f"{place}.{name}")
    if "items" in schema:
        yield from rules(schema["items"], f"{place}[]")


def type_of(schema: Schema) -> str:
    """Name a field's type."""
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    kind = str(schema.get("type", "any"))
    return f"list of {type_of(schema['items'])}s" if kind == "array" else kind


def code(text: object) -> str:
    """Write a value as it stands in YAML, so that it fits into a cell."""
    shown = text if isinstance(text, str) else yaml.safe_dump(text, default_flow_style=True).removesuffix("...\n").strip()
    quoted = f"`` {shown} ``" if "`" in shown else f"`{shown}`"
    return quoted.replace("|", "\\|")


def accepted(schema: Schema) -> str:
    """Return what a field accepts beyond its type."""
    said = []
    if "enum" in schema:
        said.append(", ".join(str(value) for value in schema["enum"]))
    for low, high, unit in (
        ("minItems", "maxItems", "items"),
        ("minLength", "maxLength", "characters"),
        ("minimum", "maximum", ""),
    ):
        bounds = _bounds(schema.get(low), schema.get(high), unit)
        if bounds:
            said.append(bounds)
    if "pattern" in schema:
        said.append(code(schema["pattern"]))
    items = schema.get("items", {})
    if items.get("type") == "string" and (each := accepted(items)):
        said.append(f"each: {each}")
    return "; ".join(said)


def _bounds(low: int | None, high: int | None, unit: str) -> str:
    words = f"{low} to {high}" if low is not None and high is not None else f"at most {high}" if high is not None else ""
    return f"{words} {unit}".strip() if words else ""


def table_of_fields(schema: Schema, place: str) -> str:
    """Return a row for each field."""
    lines = ["| field | type | default | accepted | meaning |", "|---|---|---|---|---|"]
    for path, part, required in fields(schema, place):
        default = "required" if required else code(part["default"]) if "default" in part else ""
        lines.append(f"| `{path}` | {type_of(part)} | {default} | {accepted(part)} | {part.get('description', '')} |")
    return "\n".join(lines) + "\n"


def table_of_rules(schema: Schema, place: str) -> str:
    """Return a row for each CEL rule, like ones of several fields together."""
    together: dict[tuple[str, str], list[str]] = {}
    for path, rule in rules(schema, place):
        together.setdefault((rule["message"], rule["rule"]), []).append(f"`{path}`")
    lines = ["| field | message | rule |", "|---|---|---|"]
    lines += [f"| {', '.join(paths)} | {message} | {code(rule)} |" for (message, rule), paths in together.items()]
    return "\n".join(lines) + "\n"


def with_tables(text: str) -> str:
    """Return the page's text with its tables as they should be."""
    schema = version()["schema"]["openAPIV3Schema"]["properties"]
    tables = {
        "fields": table_of_fields(schema["spec"], "spec"),
        "rules": table_of_rules(schema["spec"], "spec"),
        "status": table_of_fields(schema["status"], "status"),
        "columns": "\n".join(f"- {column['name']}: `{column['jsonPath']}`" for column in version()["additionalPrinterColumns"])
        + "\n",
    }
    for name, table in tables.items():
        text = between(text, name, table)
    return text


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, with_tables))
