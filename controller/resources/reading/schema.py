"""The CRD's schema, applied without an API server: validation with sentences, unknown fields refused, defaults filled in.

The CRD itself is wsroute-crd.yaml beside this file, the same as in manifests/crds (a test holds them equal).
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml

from controller.resources.reading.fields import Reader, shown

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError


@cache
def wsroute_schema() -> Mapping[str, Any]:
    """Return the OpenAPI schema of a WsRoute's spec, with unknown fields forbidden."""
    text = resources.files("controller.resources.reading").joinpath("wsroute-crd.yaml").read_text()
    crd = yaml.load(text, Loader=yaml.CSafeLoader)
    spec: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return _closed(spec)


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(schema)
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("anyOf", None)
        result["type"] = ["integer", "string"]
    if "pattern" in schema:
        # In Python `$` also matches before a newline at the end; in the API server's engine it does not.
        result["pattern"] = re.sub(r"\$$", r"\\Z", schema["pattern"])
    if "properties" in schema:
        result["properties"] = {name: _closed(part) for name, part in schema["properties"].items()}
        result["additionalProperties"] = False
    if "items" in schema:
        result["items"] = _closed(schema["items"])
    return result


@cache
def _validator() -> "Draft202012Validator":
    # Imported here: it takes 2 MB, and where no WsRoute is none of it is needed.
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    return Draft202012Validator(wsroute_schema())


def validate(reader: Reader, spec: Mapping[str, Any]) -> None:
    """Collect everything in which a WsRoute's spec departs from the schema."""
    for error in sorted(_validator().iter_errors(spec), key=lambda error: [str(part) for part in error.absolute_path]):
        for field, sentence in _sentences(error):
            reader.report(field, sentence)


def rule_part_takes(path: Iterable[str], text: str) -> bool:
    """Tell whether the schema takes a text in the field at `path` in a rule."""
    schema: Mapping[str, Any] = wsroute_schema()["properties"]["rules"]["items"]
    for name in path:
        schema = schema["properties"][name]
    longest = schema.get("maxLength", len(text))
    return schema.get("minLength", 0) <= len(text) <= longest and re.search(schema.get("pattern", ""), text) is not None


def field_path(parts: Iterable[str | int]) -> str:
    """Write a path as in `spec.rules[0].path`."""
    return "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _sentences(error: "ValidationError") -> Iterable[tuple[str, str]]:
    value: Any = error.instance
    wanted: Any = error.validator_value
    field = field_path(error.absolute_path)
    match error.validator:
        case "additionalProperties":
            known = error.schema.get("properties", {}) if isinstance(error.schema, Mapping) else {}
            for name in sorted(set(value) - set(known), key=str):
                yield f"{field}.{name}", f"there is no such field in this version; known here are {', '.join(known)}."
        case "required":
            for name in wanted:
                if name not in value:
                    yield f"{field}.{name}", "nothing was found, a value is required."
        case "type":
            kinds = wanted if isinstance(wanted, list) else [wanted]
            yield field, f"{shown(value)} was found, {' or '.join(map(str, kinds))} would be accepted."
        case "enum":
            yield field, f"{shown(value)} was found, {', '.join(map(str, wanted))} would be accepted."
        case "pattern":
            yield field, f"{shown(value)} was found, text that matches {wanted.replace(chr(92) + 'Z', '$')} would be accepted."
        case "minimum" | "maximum":
            word = "least" if error.validator == "minimum" else "most"
            yield field, f"{shown(value)} was found, at {word} {wanted} would be accepted."
        case "minItems" | "minLength":
            yield field, f"{len(value)} were found, at least {wanted} would be accepted."
        case "maxItems" | "maxLength":
            yield field, f"{len(value)} were found, at most {wanted} would be accepted."
        case "maxProperties":
            yield field, f"{shown(value)} was found, an object without fields would be accepted."
        case _:
            yield field, f"{shown(value)} was found; {error.message}."


def with_defaults(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a valid spec with the schema's defaults filled in, as the API server stores it."""
    filled: dict[str, Any] = _unshared(spec)
    _fill(wsroute_schema(), filled)
    return filled


def _unshared(value: Any) -> Any:
    """Copy a value so that nothing stands in two places, as a YAML alias does: a default is for one of them."""
    if isinstance(value, Mapping):
        return {name: _unshared(part) for name, part in value.items()}
    return [_unshared(part) for part in value] if isinstance(value, list) else value


def _fill(schema: Mapping[str, Any], value: object) -> None:
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            if name not in value and "default" in part:
                value[name] = _unshared(part["default"])
            if name in value:
                _fill(part, value[name])
    elif isinstance(value, list) and "items" in schema:
        for item in value:
            _fill(schema["items"], item)
