"""Golden pairs: objects in; configuration and verdicts out. Write them anew with SLUICE_GOLDEN=write, and read the difference."""

import ast
import datetime as dt
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from controller.cli import show
from controller.resources import parse_object
from controller.resources.reading.problems import Reason
from controller.sources.certificate_dates import CertificateDates
from controller.sources.snapshot import Store
from controller.translate import IncrementalState, TranslateSettings, translate

CASES = sorted(Path(__file__).parent.joinpath("cases").glob("*.in.yaml"))


def flags_of(text: str) -> dict[str, str]:
    """The first line may name flags: `# flags: host-ownership default-certificate=shop/good`; `ordered`: order is the point."""
    line = text.split("\n", 1)[0]
    found = line.removeprefix("# flags:").split() if line.startswith("# flags:") else []
    return {name: value for name, _, value in (flag.partition("=") for flag in found)}


def settings_of(text: str) -> TranslateSettings:
    flags = flags_of(text)
    return TranslateSettings(
        default_certificate=flags.get("default-certificate", ""),
        host_ownership="host-ownership" in flags,
        allow_external_name="external-name" in flags,
        allow_loopback="no-loopback" not in flags,
        note_endpoints="note-endpoints" in flags,
        implicit_class=True,
    )


def objects_of(text: str) -> list[dict[str, object]]:
    return [document for document in yaml.safe_load_all(text) if document]


def now_of(text: str) -> float | None:
    """The time at which the dates of certificates are looked at: `# flags: now=2026-11-30`; None: nobody looks."""
    date = flags_of(text).get("now")
    return None if date is None else dt.datetime.fromisoformat(date).replace(tzinfo=dt.UTC).timestamp()


def run(
    objects: list[dict[str, object]], settings: TranslateSettings, state: IncrementalState | None = None, now: float | None = None
) -> str:
    store = Store()
    for raw in objects:
        record = parse_object(raw)
        if record is not None:
            store.apply(record)
    snapshot = store.snapshot() if now is None else CertificateDates().check(store.snapshot(), now)
    result = translate(snapshot, settings, state or IncrementalState())
    verdicts = {
        str(ref): [f"{c.type}={c.status} {c.reason}: {c.message}" for c in (verdict.accepted, verdict.resolved_refs)]
        for ref, verdict in sorted(result.verdicts.items())
    }
    problems = [f"{problem.ref}: {problem.reason}: {problem.message}" for problem in result.problems]
    notes = [f"{problem.ref}: {problem.reason}: {problem.message}" for problem in result.notes]
    told: dict[str, object] = {"verdicts": verdicts, "problems": problems, **({"notes": notes} if notes else {})}
    return "# configuration\n" + show(result.config) + "---\n" + yaml.safe_dump(told, width=10_000)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name.removesuffix(".in.yaml"))
def test_objects_give_the_configuration_and_verdicts_of_the_pair(case: Path) -> None:
    text = case.read_text()
    found = run(objects_of(text), settings_of(text), now=now_of(text))
    expected = case.with_name(case.name.replace(".in.", ".out."))
    if os.environ.get("SLUICE_GOLDEN") == "write":
        expected.write_text(found)

    assert found == expected.read_text()


UNORDERED = [path for path in CASES if "ordered" not in flags_of(path.read_text())]


@pytest.mark.parametrize("case", UNORDERED, ids=lambda path: path.name.removesuffix(".in.yaml"))
def test_any_order_of_events_gives_the_same(case: Path) -> None:
    text = case.read_text()
    objects, settings, now = objects_of(text), settings_of(text), now_of(text)
    expected = run(objects, settings, now=now)
    shuffle = random.Random(7)  # noqa: S311  not for secrets
    for _ in range(10):
        shuffle.shuffle(objects)
        assert run(objects, settings, IncrementalState(), now) == expected


# Of texts that are too long for a page: tests/wire/test_certificate_forms.py, tests/unit/controller/test_secret.py.
UNREACHABLE = {
    r".*\ certificates\ of\ .*\ bytes\ were\ found,\ the\ leaf\ and\ its\ issuers\ in\ at\ most\ 100\ KiB\ would\ be\ accepted\.",
    r"a\ private\ key\ of\ .*\ bytes\ was\ found,\ one\ of\ at\ most\ 16\ KiB\ would\ be\ accepted\.",
}


def sentences(folder: Path) -> Iterator[tuple[str, str]]:
    """Find every sentence in the code that is no docstring: where it stands, and a pattern that its text matches."""
    for path in sorted(folder.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        skipped = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        skipped |= {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in nodes:
            if id(node) in skipped or not isinstance(node, ast.JoinedStr | ast.Constant):
                continue
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
            if texts and isinstance(texts[-1], str) and texts[-1].endswith(".") and any(" " in text for text in texts if text):
                pattern = "".join(".*" if text is None else re.escape(text).replace(r"\{name\}", ".*") for text in texts)
                yield f"{path.name}:{node.lineno}", pattern


def all_that_is_said() -> str:
    texts = []
    for path in CASES:
        _, verdicts = yaml.safe_load_all(path.with_name(path.name.replace(".in.", ".out.")).read_text())
        texts += (*verdicts["problems"], *verdicts.get("notes", ()))
        texts += [condition for conditions in verdicts["verdicts"].values() for condition in conditions]
    return "\n".join(texts)


def test_every_reason_has_a_case() -> None:
    said = all_that_is_said()

    # What keeps a kind from being watched is said by the source (tests/cluster/test_faults.py), not by a translation.
    assert [reason for reason in Reason if not reason.startswith("Kind") and f": {reason}: " not in said] == []


@pytest.mark.slow
def test_every_message_of_the_code_has_a_case() -> None:
    said = all_that_is_said()
    controller = Path(__file__).parents[2] / "controller"
    known = [found for name in ("resources", "translate") for found in sentences(controller / name)]
    # No field names a Secret or ConfigMap yet: tests/unit/controller/test_named_objects.py has these.
    known = [(place, pattern) for place, pattern in known if not place.startswith("named_objects.py")]

    assert len(known) > 40
    unsaid = {pattern: place for place, pattern in known if not re.search(pattern, said)}
    assert [place for pattern, place in unsaid.items() if pattern not in UNREACHABLE] == []
    assert UNREACHABLE - unsaid.keys() == set(), "take out of UNREACHABLE"
