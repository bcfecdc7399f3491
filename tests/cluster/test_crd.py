"""The CRD on a real API server: what it refuses, what it fills in, what it teaches; and that the parser judges as it does."""

import dataclasses
import http.client
import json
import re
import ssl
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from cluster.cel_cases import CEL_CASES
from cluster.control_plane import ControlPlane
from cluster.schema_walk import (
    NAMESPACE,
    Case,
    Site,
    cel_cases,
    cel_sites,
    free_cases,
    good_contents,
    minimal,
    null_cases,
    object_of,
    placed,
    schema_cases,
    sites,
    specs,
    unknown_cases,
)

from controller.resources import WsRoute, parse_object
from controller.resources.kinds import wsroute
from controller.resources.reading.problems import Malformed, Problem
from controller.resources.reading.schema import with_defaults

pytestmark = pytest.mark.timeout(180)
COLLECTION = f"/apis/sluice.dev/v1alpha1/namespaces/{NAMESPACE}/wsroutes"
STORED = "stored"
BAD = [*schema_cases(), *cel_cases()]
UNKNOWN = list(unknown_cases())
FREE = list(free_cases())
NULL = list(null_cases())
GOOD = list(good_contents())
# What the schema leaves to the parser: whether a regular expression compiles, what an origin and a network are.
ONLY_THE_PARSER = re.compile(r"\.path\.value$|\.(origins|allowCIDRs|denyCIDRs)\[[0-9]+\]$")


@dataclass(frozen=True)
class Answer:
    """What the API server says to an object that it would store."""

    status: int
    body: Mapping[str, Any]

    @property
    def accepted(self) -> bool:
        return self.status in (200, 201)

    @property
    def causes(self) -> list[tuple[str, str]]:
        """Field and sentence of each thing that is wrong; what is not known by strict clients only has no field of its own."""
        details = self.body.get("details") or {}
        causes = [(one.get("field", ""), one["message"]) for one in details.get("causes", ())]
        return causes or [("", str(self.body.get("message")))]


class Judge:
    """The API server, asked on one connection; nothing is stored."""

    def __init__(self, plane: ControlPlane) -> None:
        context = ssl.create_default_context(cadata=plane.ca.decode())
        self._admin = plane.admin
        self._connection = http.client.HTTPSConnection(*plane.address, context=context, timeout=20)

    def ask(self, content: Mapping[str, Any], *, strict: bool = False) -> Answer:
        validation = f"dryRun=All&fieldValidation={'Strict' if strict else 'Ignore'}"
        if "status" in content:
            change = json.dumps({"status": content["status"]})
            return self._send("PATCH", f"{COLLECTION}/{STORED}/status?{validation}", change, "application/merge-patch+json")
        return self._send("POST", f"{COLLECTION}?{validation}", json.dumps(object_of(content, "asked")), "application/json")

    def _send(self, method: str, path: str, text: str, kind: str) -> Answer:
        headers = {"Authorization": f"Bearer {self._admin}", "Content-Type": kind}
        self._connection.request(method, path, text, headers)
        response = self._connection.getresponse()
        return Answer(response.status, json.loads(response.read()))

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def judge(plane: ControlPlane) -> Iterator[Judge]:
    plane.kubectl("create", "namespace", NAMESPACE)
    stored = object_of({"spec": {"rules": CEL_CASES["each rule needs a name of its own"].good[0]}}, STORED)
    plane.apply(stored)
    found = Judge(plane)
    yield found
    found.close()


def parsed(content: Mapping[str, Any]) -> WsRoute | Malformed:
    found = parse_object(object_of(content, "asked"))
    assert isinstance(found, WsRoute | Malformed)
    return found


def problems_of(content: Mapping[str, Any]) -> tuple[Problem, ...]:
    """Return what the parser says against an object; nothing: it takes it."""
    return tuple(parsed(content).problems)


def names(cause: tuple[str, str], field: str) -> bool:
    """Tell whether a cause names a field: itself, or the object around it with a sentence that has the field's name."""
    place, sentence = cause
    if not place:
        return f'"{field}"' in sentence
    if not field.startswith(place):
        return False
    last = re.findall(r"\w+", field.removeprefix(place))
    return not last or re.search(rf"\b{last[-1]}\b", sentence) is not None


def test_every_cel_rule_has_values_that_it_refuses_and_each_message_is_of_one_rule() -> None:
    rules: dict[str, set[str]] = {}
    for _, rule, message in cel_sites():
        rules.setdefault(message, set()).add(rule)

    assert set(rules) - {message for message, case in CEL_CASES.items() if case.good and case.bad} == set(), "add to cel_cases.py"
    assert set(CEL_CASES) - set(rules) == set(), "take out of cel_cases.py"
    assert {message: found for message, found in rules.items() if len(found) > 1} == {}


def classes(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """Sort bad objects by the class of rule that they break: a test takes a whole class and tells of each that it got wrong."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.rule.split()[0], []).append(case)
    return found


def by_class(cases: Iterable[Case]) -> pytest.MarkDecorator:
    found = classes(cases)
    return pytest.mark.parametrize("cases", list(found.values()), ids=list(found))


class Disagreements:
    """What is wrong with each of many objects; all of it is told at once."""

    def __init__(self) -> None:
        self._asked = 0
        self._told: list[str] = []

    def look(self, name: object, *, right: bool, found: object) -> None:
        self._asked += 1
        if not right:
            self._told.append(f"{name}: {found}")

    def end(self) -> None:
        """Fail with all that was wrong, and if nothing was looked at."""
        assert self._asked
        if self._told:
            raise AssertionError("\n".join([f"{len(self._told)} of {self._asked}:", *self._told]))


def test_disagreements_are_all_told_and_so_is_that_nothing_was_looked_at() -> None:
    wrong = Disagreements()
    for name, right in (("one", False), ("two", True), ("three", False)):
        wrong.look(name, right=right, found="accepted")

    with pytest.raises(AssertionError, match=r"^2 of 3:\none: accepted\nthree: accepted$"):
        wrong.end()
    with pytest.raises(AssertionError):
        Disagreements().end()


@by_class(BAD)
def test_bad_object_is_refused_with_a_sentence_that_names_the_field(judge: Judge, cases: Sequence[Case]) -> None:
    wrong = Disagreements()
    for case in cases:
        for strict in (True, False):
            answer = judge.ask(case.content, strict=strict)
            said = [sentence for field, sentence in answer.causes if field == case.field]
            told = any(re.search(case.says, sentence) or case.says in sentence for sentence in said)
            wrong.look(f"{case}, strict={strict}", right=not answer.accepted and told, found=answer)

    wrong.end()


@by_class(case for case in [*BAD, *UNKNOWN] if not case.of_status)
def test_parser_refuses_the_bad_object_and_names_the_same_field(cases: Sequence[Case]) -> None:
    wrong = Disagreements()
    for case in cases:
        problems = problems_of(case.content)
        named = any(
            names((case.field, case.says), problem.field) or names((problem.field, problem.message), case.field)
            for problem in problems
        )
        whole = all(problem.message.startswith(f"{problem.field}: ") for problem in problems)
        wrong.look(case, right=named and whole, found=problems)

    wrong.end()


def test_unknown_field_is_refused_to_a_strict_client_and_pruned_for_a_plain_one(judge: Judge) -> None:
    wrong = Disagreements()
    for case in UNKNOWN:
        answer = judge.ask(case.content, strict=True)
        wrong.look(case, right=not answer.accepted and case.says in str(answer.body["message"]), found=answer)
        plain = judge.ask(case.content)
        wrong.look(f"{case}, plain", right="unheardOf" not in str(plain.body), found=plain)

    wrong.end()


def test_unheard_of_member_of_a_guard_is_never_pruned(judge: Judge) -> None:
    """It is refused, or stored for the controller to refuse; a guard without it would protect less than what was written."""
    wrong = Disagreements()
    for case in FREE:
        for strict in (True, False):
            answer = judge.ask(case.content, strict=strict)
            kept = not answer.accepted or "unheardOf" in json.dumps(answer.body["spec"])
            wrong.look(f"{case}, strict={strict}", right=kept, found=answer)
        problems = problems_of(case.content)
        wrong.look(case, right=any(names((case.field, case.says), problem.field) for problem in problems), found=problems)

    wrong.end()


def guards() -> list[Case]:
    """Return what a rule asks to be protected by: a field that is not written must be one that nobody wrote."""
    guard = re.compile(r"spec\.rules\[0\]\.(auth|origins|allowCIDRs|denyCIDRs|limits(\.\w+)?)")
    return [case for case in NULL if guard.fullmatch(case.field)]


def test_null_guard_is_kept_and_not_served(judge: Judge) -> None:
    """Its value may be what a template made of nothing; the API server drops a null of other fields."""
    wrong = Disagreements()
    for case in guards():
        for strict in (True, False):
            answer = judge.ask(case.content, strict=strict)
            problems = problems_of(answer.body) if answer.accepted else ()
            fields = [problem.field for problem in problems]
            wrong.look(f"{case}, strict={strict}", right=fields == [case.field], found=problems or answer)

    wrong.end()


def test_null_is_nothing_to_the_api_server_and_refused_in_a_file(judge: Judge) -> None:
    """The API server drops it before anything looks at it; in a file, a value was forgotten."""
    wrong = Disagreements()
    for case in [case for case in NULL if case not in guards()]:
        answer = judge.ask(case.content, strict=True)
        dropped = not answer.accepted or with_defaults(_without_nulls(case.content)["spec"]) == answer.body["spec"]
        wrong.look(case, right=dropped, found=answer)
        problems = problems_of(case.content)
        wrong.look(f"{case}, in a file", right=any(problem.field == case.field for problem in problems), found=problems)

    wrong.end()


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


def test_kubectl_refuses_every_bad_object_and_names_the_field(judge: Judge, plane: ControlPlane, tmp_path: Path) -> None:
    del judge  # it has made the namespace
    cases = {f"c{number:04}": case for number, case in enumerate([*BAD, *UNKNOWN]) if not case.of_status}
    for name, case in cases.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(object_of(case.content, name)))
    command = ("create", "--validate=strict", "--dry-run=server", "-f", str(tmp_path))
    done = plane.kubectl(*command, check=False, timeout=150)

    assert done.stdout == ""
    said: dict[str, str] = {}
    for line in done.stderr.splitlines():
        name = re.search(r'/(c\d{4})\.json"|WsRoute(?:\.sluice\.dev)? "(c\d{4})"', line)
        last = name[1] or name[2] if name else last  # noqa: F821  several things that are wrong take a line each
        said[last] = said.get(last, "") + line
    assert [case for name, case in cases.items() if case.field not in said.get(name, "")] == []


def test_accepted_object_has_the_defaults_of_standalone_and_reads_back_as_it_was_written(judge: Judge) -> None:
    wrong = Disagreements()
    for name, content in GOOD:
        answer = judge.ask(content, strict=True)
        same = (
            answer.accepted
            and with_defaults(content["spec"]) == answer.body["spec"]
            and _timeless(parsed(content)) == _timeless(parsed(answer.body))
        )
        wrong.look(name, right=same, found=answer)

    wrong.end()


def _timeless(found: WsRoute | Malformed) -> WsRoute | Malformed:
    """Return a record without what the API server gives to each object."""
    given = {"created": "", "generation": 0, "uid": ""}
    return dataclasses.replace(found, **{name: value for name, value in given.items() if hasattr(found, name)})  # type: ignore[arg-type]


@pytest.mark.timeout(600)
def test_parser_and_api_server_agree_on_specs_drawn_from_the_schema(judge: Judge) -> None:
    verdicts: Counter[bool] = Counter()

    @hypothesis.settings(max_examples=200, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(specs())
    def agree(spec: dict[str, Any]) -> None:
        answer = judge.ask({"spec": spec}, strict=True)
        found = parsed({"spec": spec})
        verdicts[answer.accepted] += 1
        if not answer.accepted:
            assert found.problems, answer.causes
            fields = [problem.field for problem in found.problems]
            assert any(names(cause, field) for cause in answer.causes for field in fields), (answer.causes, fields)
        elif found.problems:
            assert [problem for problem in found.problems if not ONLY_THE_PARSER.search(problem.field)] == []
        else:
            assert with_defaults(spec) == answer.body["spec"]
            assert _timeless(found) == _timeless(parsed(answer.body))

    agree()

    assert min(verdicts[True], verdicts[False]) >= 20, verdicts


class Watched(dict[str, Any]):
    """A spec that remembers which of its fields were asked for."""

    def __init__(self, value: Mapping[str, Any], place: str, seen: set[str]) -> None:
        super().__init__({name: _watched(part, f"{place}.{name}", seen) for name, part in value.items()})
        self._place, self._seen = place, seen

    def _see(self, name: str) -> None:
        self._seen.add(f"{self._place}.{name}")

    def __getitem__(self, name: str) -> Any:
        self._see(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._see(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self._see(str(name))
        return super().__contains__(name)

    def items(self) -> Any:
        for name in self:
            self._see(name)
        return super().items()


def _watched(value: Any, place: str, seen: set[str]) -> Any:
    if isinstance(value, Mapping):
        return Watched(value, place, seen)
    return [_watched(part, f"{place}[0]", seen) for part in value] if isinstance(value, list) else value


def test_fields_of_the_crd_are_those_that_the_parser_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[str] = set()
    refused = {site.field for site in sites() if str(site.schema.get("description")).startswith("Not supported yet")}
    known = {site.field for site in sites() if site.place[1:] and site.place[0] == "spec" and site.place[-1] != 0}
    monkeypatch.setattr(wsroute, "validate", lambda *_: None)  # it asks for everything
    contents = [placed(site.place, minimal(site.schema)) for site in sites() if site.place[:1] == ("spec",)]
    for content in (*contents, *(good for _, good in GOOD)):
        spec = content["spec"]
        monkeypatch.setattr(wsroute, "with_defaults", lambda _, spec=spec: Watched(with_defaults(spec), "spec", read))
        parsed({"spec": Watched(spec, "spec", read)})

    inside = {field for field in known if any(field.startswith(f"{guard}.") for guard in refused)}

    assert known - inside - read == set()
    assert read - known == set()


def _objects() -> list[Site]:
    """Places with fields of their own."""
    return [site for site in sites() if site.schema.get("properties")]


def test_every_field_has_a_description() -> None:
    described = [(site, name, part) for site in _objects() for name, part in site.schema["properties"].items()]

    assert [f"{site.field}.{name}" for site, name, part in described if site.place and not part.get("description")] == []


def test_kubectl_explain_shows_the_description_of_every_field(plane: ControlPlane) -> None:
    for site in _objects():
        names_only = [str(part) for part in site.place if part != 0]
        said = " ".join(plane.kubectl("explain", ".".join(["wsroute", *names_only])).stdout.split())
        for name, part in site.schema["properties"].items():
            assert f"{name} <" in said
            assert " ".join(str(part.get("description", "")).split()) in said


def test_kubectl_get_by_the_short_name_shows_the_columns(judge: Judge, plane: ControlPlane) -> None:
    conditions = [
        {"type": kind, "status": status, "reason": "Any", "message": "Any.", "lastTransitionTime": "2020-01-01T00:00:00Z"}
        for kind, status in (("Accepted", "True"), ("ResolvedRefs", "Unknown"), ("Programmed", "False"))
    ]
    del judge  # it has stored an object
    change = {"status": {"conditions": conditions}}
    plane.kubectl("patch", "wsr", STORED, "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", json.dumps(change))
    spec = {"spec": {"hosts": ["a.example.com"], "ingressClassName": "another"}}
    plane.kubectl("patch", "wsr", STORED, "-n", NAMESPACE, "--type=merge", "-p", json.dumps(spec))
    head, line = plane.kubectl("get", "wsr", STORED, "-n", NAMESPACE).stdout.splitlines()

    assert head.split() == ["NAME", "HOSTS", "CLASS", "ACCEPTED", "RESOLVED", "PROGRAMMED", "AGE"]
    assert line.split()[:6] == [STORED, '["a.example.com"]', "another", "True", "Unknown", "False"]
    assert f"wsroute.sluice.dev/{STORED}" in plane.kubectl("get", "all", "-n", NAMESPACE, "-o", "name").stdout
