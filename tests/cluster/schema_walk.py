"""One bad object for every rule of the CRD's schema, found by walking it.

A field that is added to the schema is covered as it comes. A keyword that is not known here raises, so that no rule goes untested;
CEL rules have their bad objects in `cel_cases.py`, by hand.
"""

import copy
import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import re2
import yaml
from cluster.cel_cases import CEL_CASES, CelCase
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
Schema = Mapping[str, Any]
Place = tuple[str | int, ...]
NAMESPACE = "crd"
NO_RULES = {
    "description",
    "default",
    "nullable",  # allows more
    "format",  # of date-time it is a rule, see below; int64 is what an integer is
    "properties",
    "items",
    "anyOf",  # goes with int-or-string only
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}
WRONG_TYPES: Mapping[str, Sequence[Any]] = {
    "object": ("text", [], 1),
    "array": ("text", {}, 1),
    "string": (1, True, {}, []),
    "integer": ("text", 1.5, True, []),
    "boolean": ("true", 1, {}),
    "int-or-string": (1.5, True, {}, []),
}
# Short texts of which each pattern takes one and refuses another; a pattern that they do not serve is asked for one by hypothesis.
TEXTS = ("a", "/", "1s", "1Ki", "192.0.2.0/24", "https://a.example.com", "2020-01-01T00:00:00Z")
ODD_TEXTS = ("", " ", "a b", "a\nb", "-", "Ä", "a/", "*", "_", "1", "a?b", "..", "\u2028", "A", "0x1")


@functools.cache
def crd_schema() -> Schema:
    """Return the schema of the version that is served."""
    text = (ROOT / "manifests/crds/sluice.dev_wsroutes.yaml").read_text()
    found: Schema = yaml.safe_load(text)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


@dataclass(frozen=True)
class Site:
    """A place in the schema; 0 stands for the items of an array."""

    place: Place
    schema: Schema

    @property
    def field(self) -> str:
        """The place as a message names it."""
        return field_of(self.place)


@dataclass(frozen=True)
class Case:
    """An object that breaks one rule."""

    name: str
    rule: str
    field: str
    """What a refusal must name."""
    says: str
    """What the API server's refusal must say, as a sentence that fits the rule."""
    content: Mapping[str, Any]
    """Spec and status."""

    @property
    def of_status(self) -> bool:
        return "status" in self.content

    def __str__(self) -> str:
        return self.name


def field_of(place: Place) -> str:
    """Write a place as in `spec.rules[0].path`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def sites(schema: Schema | None = None, place: Place = ()) -> Iterator[Site]:
    """Walk the schema. What Kubernetes itself checks of every object is left out."""
    schema = crd_schema() if schema is None else schema
    yield Site(place, schema)
    for name, part in schema.get("properties", {}).items():
        if place or name in ("spec", "status"):
            yield from sites(part, (*place, name))
    if "items" in schema:
        yield from sites(schema["items"], (*place, 0))


def kind_of(schema: Schema) -> str:
    return "int-or-string" if schema.get("x-kubernetes-int-or-string") else str(schema["type"])


@functools.cache
def _text(pattern: str) -> str:
    for text in TEXTS:
        if re2.search(pattern, text):
            return text
    strategy = st.from_regex(_whole(pattern))
    return hypothesis.find(strategy, lambda text: bool(re2.search(pattern, text)), settings=hypothesis.settings(database=None))


def _whole(pattern: str) -> str:
    """Write a pattern for Python, where `$` also matches before a newline at the end."""
    return re.sub(r"\$$", r"\\Z", pattern)


def cel_cases_of(schema: Schema) -> list[CelCase]:
    """Return the values for the CEL rules of a place; a rule without any is told of by a test."""
    return [CEL_CASES[rule["message"]] for rule in schema.get("x-kubernetes-validations", ()) if rule["message"] in CEL_CASES]


def minimal(schema: Schema) -> Any:
    """Return a small value that the schema takes, and its CEL rules too."""
    cases = cel_cases_of(schema)
    if cases:
        return copy.deepcopy(cases[0].good[0])
    if "enum" in schema:
        return schema["enum"][0]
    match kind_of(schema):
        case "object":
            return {name: minimal(schema["properties"][name]) for name in schema.get("required", ())}
        case "array":
            return [minimal(schema["items"]) for _ in range(schema.get("minItems", 0))]
        case "integer":
            return max(1, schema.get("minimum", 1))
        case "boolean":
            return True
        case "int-or-string":
            return 80
        case _ if schema.get("format") == "date-time":
            return "2020-01-01T00:00:00Z"
        case _:
            text = _text(schema.get("pattern", "."))
            return text * max(1, schema.get("minLength", 1))


def placed(place: Place, value: object, schema: Schema | None = None) -> Any:
    """Build the smallest object that has a value at a place."""
    schema = crd_schema() if schema is None else schema
    if not place:
        return value
    head, *rest = place
    if isinstance(head, int):
        return [placed(tuple(rest), value, schema["items"])]
    found = minimal(schema)
    found[head] = placed(tuple(rest), value, schema["properties"][head])
    return found


def object_of(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "WsRoute",
        "metadata": {"name": name, "namespace": NAMESPACE},
        **content,
    }


def bad_values(site: Site) -> Iterator[tuple[str, str, Place, Any]]:
    """Yield for each rule of a place: the rule, what its refusal says, the place below it that is wrong, and a bad value."""
    schema = site.schema
    kind = kind_of(schema)
    good = minimal(schema)
    for rule, limit in schema.items():
        match rule:
            case "type" | "x-kubernetes-int-or-string":
                for wrong in WRONG_TYPES[kind]:
                    if wrong != [] or "format" not in schema:  # the API server takes an empty list for a date-time
                        yield "type", "must be of type", (), wrong
            case "enum":
                for wrong in ("NoSuch", limit[0].swapcase(), ""):
                    yield rule, "Unsupported value", (), wrong
            case "pattern":
                least, most = schema.get("minLength", 0), schema["maxLength"]
                texts = [text for text in (*ODD_TEXTS, *TEXTS, f"{good}\n", f"\n{good}") if not re2.search(limit, text)]
                texts = [text for text in texts if least <= len(text) <= most]  # what is too short is only told that
                if not texts:
                    raise AssertionError(f"no text is known that {limit} at {site.field} refuses")
                for wrong in texts:
                    yield rule, "should match", (), wrong
            case "minimum":
                yield rule, "greater than or equal to", (), limit - 1
            case "maximum":
                yield rule, "less than or equal to", (), limit + 1
            case "minLength":
                yield rule, "should be at least", (), (good if isinstance(good, str) else "a" * limit)[: limit - 1]
            case "maxLength":
                yield rule, "Too long", (), "a" * (limit + 1)
                yield rule, "Too long", (), "ä" * (limit + 1)
            case "minItems":
                yield rule, "should have at least", (), [minimal(schema["items"])] * (limit - 1)
            case "maxItems":
                yield rule, "Too many", (), [minimal(schema["items"])] * (limit + 1)
            case "required":
                for name in limit:
                    yield f"{rule} {name}", "Required value", (name,), {key: value for key, value in good.items() if key != name}
            case "x-kubernetes-list-type" if limit == "map":
                yield rule, "Duplicate value", (1,), [minimal(schema["items"])] * 2
            case "maxProperties" if limit == 0 and not schema.get("properties"):
                pass  # a field that is not known breaks it, as below
            case _ if rule not in NO_RULES:
                raise AssertionError(f"no bad object is known for the rule {rule}: {json.dumps(limit)} at {site.field}")
    if schema.get("format") == "date-time":
        yield "format", "must be of type date-time", (), "yesterday"


def schema_cases() -> Iterator[Case]:
    """Yield a bad object for each rule of the schema."""
    for site in sites():
        for number, (rule, says, below, wrong) in enumerate(bad_values(site)):
            place = (*site.place, *below)
            if not site.place and rule == "type":
                continue  # what is no object at all is none of a kind
            content = placed(site.place, wrong)
            yield Case(f"{site.field or 'object'}: {rule} {number}", rule, field_of(place), says, content)


def unknown_cases() -> Iterator[Case]:
    """Yield an object with a field that is not known for each place that may have fields."""
    for site in sites():
        if kind_of(site.schema) == "object" and site.place:
            content = placed(site.place, {**minimal(site.schema), "unheardOf": 1})
            field = f"{site.field}.unheardOf"
            if not site.schema.get("x-kubernetes-preserve-unknown-fields"):
                yield Case(f"{site.field}: unknown field", "unknown", field, f'unknown field "{field}"', content)


def free_cases() -> Iterator[Case]:
    """Yield an object with a field that is not known for each place that keeps such fields, so that they are not pruned."""
    for site in sites():
        if site.schema.get("x-kubernetes-preserve-unknown-fields"):
            content = placed(site.place, {**minimal(site.schema), "unheardOf": 1})
            yield Case(f"{site.field}: unheard-of field", "unknown", site.field, "unheardOf", content)


def null_cases() -> Iterator[Case]:
    """Yield an object in which a field is null, for each field of a spec."""
    for site in sites():
        if site.place[1:] and site.place[0] == "spec":
            yield Case(f"{site.field}: null", "null", site.field, "", placed(site.place, None))


def cel_sites() -> Iterator[tuple[Site, str, str]]:
    """Yield each CEL rule: its place, itself, and its message."""
    for site in sites():
        for rule in site.schema.get("x-kubernetes-validations", ()):
            yield site, rule["rule"], rule["message"]


def cel_cases() -> Iterator[Case]:
    """Yield the bad objects of each CEL rule, for each place that has it."""
    for site, _, message in cel_sites():
        for number, wrong in enumerate(CEL_CASES[message].bad if message in CEL_CASES else ()):
            yield Case(f"{site.field}: {message} {number}", "CEL", site.field, message, placed(site.place, wrong))


def good_contents() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield an object for each good value of the CEL rules."""
    for site, _, message in cel_sites():
        for number, good in enumerate(CEL_CASES[message].good if message in CEL_CASES else ()):
            yield f"{site.field}: {message} {number}", placed(site.place, good)


def specs() -> st.SearchStrategy[dict[str, Any]]:
    """Draw specs from the schema, with a value here and there that breaks a rule."""
    return _values(crd_schema()["properties"]["spec"])


@st.composite
def _values(draw: st.DrawFn, schema: Schema) -> Any:
    rules = cel_cases_of(schema)
    if draw(st.integers(0, 60)) == 60:
        wrong = [value for _, _, _, value in bad_values(Site((), schema))] + [value for rule in rules for value in rule.bad]
        return copy.deepcopy(draw(st.sampled_from(wrong)))
    if rules and draw(st.integers(0, 3)) > 0:
        found = copy.deepcopy(draw(st.sampled_from([value for rule in rules for value in rule.good])))
        if not isinstance(found, dict):
            return found
    else:
        found = {}
    match kind_of(schema):
        case "object":
            for name, part in schema.get("properties", {}).items():
                if name not in found and (name in schema.get("required", ()) or draw(st.integers(0, 3)) == 3):
                    found[name] = draw(_values(part))
            return found
        case "array":
            least = schema.get("minItems", 0)
            return draw(st.lists(_values(schema["items"]), min_size=least, max_size=max(least, 3)))
        case "int-or-string":
            return draw(st.integers(0, 70000) | st.text(max_size=5) | st.just(minimal(schema)))
        case "integer":
            return draw(st.integers(schema.get("minimum", 0), schema.get("maximum", 70000)))
        case "boolean":
            return draw(st.booleans())
        case _ if "enum" in schema:
            return draw(st.sampled_from(schema["enum"]))
        case _ if "pattern" in schema:
            return draw(st.from_regex(_whole(schema["pattern"]), alphabet=st.characters(codec="utf-8")))
        case _:
            return draw(st.text(max_size=12))
