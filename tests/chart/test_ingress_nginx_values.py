"""A values file of ingress-nginx's chart is refused, and names what this chart has in place of each of its values."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from chart.rendering import BUILD_SECONDS, CHART, helm

pytestmark = pytest.mark.timeout(BUILD_SECONDS)
TABLE: Mapping[str, str] = yaml.safe_load((CHART / "files" / "ingress-nginx.yaml").read_text())
DEFAULTS: Mapping[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: Mapping[str, Any] = yaml.safe_load((CHART / "values.schema.json").read_text())["$defs"]
SHARED = {"resources", "extraVolumeMounts"}
"""Names below `controller` that both charts have, for other containers."""

USUAL = """
commonLabels: {team: platform}
controller:
  replicaCount: 3
  image: {registry: mirror.example.com, digest: ""}
  ingressClassResource: {name: nginx, default: true}
  config: {use-forwarded-headers: "true", proxy-body-size: 8m, worker-shutdown-timeout: 240s}
  extraArgs: {default-ssl-certificate: edge/wildcard, enable-metrics: "true"}
  resources: {requests: {cpu: 100m}}
  service:
    annotations: {service.beta.kubernetes.io/aws-load-balancer-type: nlb}
    targetPorts: {https: http}
    internal: {enabled: true}
  metrics: {enabled: true, serviceMonitor: {enabled: true, jobLabel: app}}
  admissionWebhooks: {enabled: false}
tcp: {"9000": shop/cart:9000}
"""


def refused(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the rows of the table in the message that helm ends with."""
    done = helm("template", "sluice", str(CHART), values=values)
    assert done.returncode != 0
    assert "values of ingress-nginx's chart" in done.stderr, done.stderr
    return dict(line.strip().split(" -> ", 1) for line in done.stderr.splitlines() if " -> " in line)


def test_usual_values_are_refused_with_ours_in_place_of_each() -> None:
    rows = refused(yaml.safe_load(USUAL))

    assert rows == {
        **{
            name: TABLE[name]
            for name in (
                "controller.replicaCount",
                "controller.image.registry",
                "controller.image.digest",
                "controller.ingressClassResource.name",
                "controller.ingressClassResource.default",
                "controller.config",
                "controller.config.use-forwarded-headers",
                "controller.config.worker-shutdown-timeout",
                "controller.extraArgs.default-ssl-certificate",
                "controller.service.annotations",
                "controller.service.targetPorts.https",
                "controller.service.internal.enabled",
                "controller.metrics.enabled",
                "controller.metrics.serviceMonitor.enabled",
                "controller.admissionWebhooks",
                "tcp",
            )
        },
        "controller.extraArgs.enable-metrics": rows["controller.extraArgs.enable-metrics"],
        "controller.metrics.serviceMonitor.jobLabel": "none: there is nothing of this name",
    }
    assert "this flag is not there" in rows["controller.extraArgs.enable-metrics"]


def nested(path: str) -> dict[str, Any]:
    value: Any = "something"
    for name in reversed(path.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("path", TABLE)
def test_each_value_is_refused_alone(path: str) -> None:
    assert refused(nested(path)) == {path: TABLE[path]}


@pytest.mark.parametrize("values", [{"controller": {"keda": {}}}, {"controller": {"service": {}}}, {"defaultBackend": {}}])
def test_value_that_says_nothing_is_refused_too(values: Mapping[str, Any]) -> None:
    assert len(refused(values)) == 1


@pytest.mark.parametrize("values", [{"controller": {"logLevl": "info"}}, {"controller": {"extraArgs": {}}}, {"backend": {}}])
def test_wrong_value_of_neither_chart_is_refused_by_the_schema(values: Mapping[str, Any]) -> None:
    done = helm("template", "sluice", str(CHART), values=values)

    assert done.returncode != 0
    assert "meet the specifications of the schema" in done.stderr


def paths(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{before}{name}"
        if isinstance(value, Mapping):
            yield from paths(value, f"{before}{name}.")


def test_table_names_values_that_this_chart_has() -> None:
    known = set(paths(DEFAULTS))
    words = {there: re.sub("[,;:] ", " ", here).split() for there, here in TABLE.items() if not here.startswith("none")}
    named = {
        there: [word for word in text if word in known or word.startswith(("sluice.dev/", "spec."))]
        for there, text in words.items()
    }

    assert [there for there, found in named.items() if not found] == []
    assert [there for there in TABLE if there in known] == []


def test_schema_lets_the_names_of_the_table_come_to_the_templates() -> None:
    alternatives = SCHEMA["ingressNginx"]["anyOf"]
    top, controller = (
        one["not"]["propertyNames"]["not"]["enum"] for one in (alternatives[0], alternatives[1]["properties"]["controller"])
    )
    ours = set(SCHEMA["values"]["properties"]["controller"]["properties"])
    helpers = (CHART / "templates" / "_helpers.tpl").read_text()
    listed = helpers.partition("{{- $ours := list ")[2].partition(" -}}")[0].replace('"', "").split()

    assert top == sorted({path for path in TABLE if "." not in path})
    assert controller == sorted({path.split(".")[1] for path in TABLE if path.startswith("controller.")} - ours)
    assert sorted(listed) == sorted(ours)
    assert ours >= SHARED
