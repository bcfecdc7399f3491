"""Golden pairs: objects in; configuration and verdicts out. Write them anew with SLUICE_GOLDEN=write, and read the difference."""

import os
import random
from pathlib import Path

import pytest
import yaml

from controller.cli import show
from controller.resources import Malformed, parse_object
from controller.resources.problems import Reason
from controller.sources.snapshot import Store
from controller.translate import Memo, TranslateSettings, translate

CASES = sorted(Path(__file__).parent.joinpath("cases").glob("*.in.yaml"))
FLAGS = {"host-ownership": "host_ownership", "external-name": "allow_external_name", "no-loopback": "allow_loopback"}


def settings_of(text: str) -> TranslateSettings:
    """The first line may name flags: `# flags: host-ownership`."""
    line = text.split("\n", 1)[0]
    flags = line.removeprefix("# flags:").split() if line.startswith("# flags:") else []
    return TranslateSettings(
        host_ownership="host-ownership" in flags,
        allow_external_name="external-name" in flags,
        allow_loopback="no-loopback" not in flags,
        implicit_class=True,
    )


def objects_of(text: str) -> list[dict[str, object]]:
    return [document for document in yaml.safe_load_all(text) if document]


def run(objects: list[dict[str, object]], settings: TranslateSettings, memo: Memo | None = None) -> str:
    store = Store()
    for raw in objects:
        record = parse_object(raw)
        if record is not None:
            store.apply(record)
    result = translate(store.snapshot(), settings, memo or Memo())
    verdicts = {
        str(ref): [f"{c.type}={c.status} {c.reason}: {c.message}" for c in (verdict.accepted, verdict.resolved_refs)]
        for ref, verdict in sorted(result.verdicts.items())
    }
    problems = [f"{problem.ref}: {problem.reason}: {problem.message}" for problem in result.problems]
    return (
        "# configuration\n"
        + show(result.config)
        + "---\n"
        + yaml.safe_dump({"verdicts": verdicts, "problems": problems}, width=10_000)
    )


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name.removesuffix(".in.yaml"))
def test_objects_give_the_configuration_and_verdicts_of_the_pair(case: Path) -> None:
    text = case.read_text()
    found = run(objects_of(text), settings_of(text))
    expected = case.with_name(case.name.replace(".in.", ".out."))
    if os.environ.get("SLUICE_GOLDEN") == "write":
        expected.write_text(found)

    assert found == expected.read_text()


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name.removesuffix(".in.yaml"))
def test_any_order_of_events_gives_the_same(case: Path) -> None:
    text = case.read_text()
    objects, settings = objects_of(text), settings_of(text)
    expected = run(objects, settings)
    shuffle = random.Random(7)  # noqa: S311  not for secrets
    for _ in range(10):
        shuffle.shuffle(objects)
        assert run(objects, settings, Memo()) == expected


def test_every_reason_has_a_case() -> None:
    said = "".join(path.with_name(path.name.replace(".in.", ".out.")).read_text() for path in CASES)

    assert [reason for reason in Reason if f": {reason}: " not in said] == []


def test_unchanged_objects_keep_the_identity_of_their_routes() -> None:
    text = Path(__file__).parent.joinpath("cases", "wsroute-basic.in.yaml").read_text()
    store = Store()
    for raw in objects_of(text):
        record = parse_object(raw)
        assert record is not None
        assert not isinstance(record, Malformed)
        store.apply(record)
    memo = Memo()
    first = translate(store.snapshot(), settings_of(text), memo).config
    service = parse_object({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other"}, "spec": {"ports": [{"port": 1}]}})
    assert service is not None
    store.apply(service)

    second = translate(store.snapshot(), settings_of(text), memo).config

    assert second == first
    assert all(second.routes[key] is first.routes[key] for key in first.routes)
    assert all(second.upstreams[key] is first.upstreams[key] for key in first.upstreams)
