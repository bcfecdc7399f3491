"""What the chart takes and refuses: wrong values are refused by name, every value has a comment and an effect."""

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import pytest
import yaml
from chart.rendering import BUILD_SECONDS, CHART, containers, helm, objects, render

from proxy.__main__ import main as proxy_command
from proxy.processes.supervisor import GRACE_MARGIN
from proxy.settings import settings_from

pytestmark = pytest.mark.timeout(BUILD_SECONDS)
DEFAULTS: Mapping[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
ANYTHING = {
    *("commonLabels", "podAnnotations", "podLabels", "nodeSelector", "affinity", "updateStrategy", "autoscaling.behavior"),
    *("controller.resources", "proxy.resources", "service.annotations", "serviceAccount.annotations"),
    *("service.labels", "service.internal.annotations", "service.internal.labels", "autoscaling.annotations"),
    *("metrics.service.annotations", "metrics.serviceMonitor.labels", "metrics.prometheusRule.labels", "metrics.dashboard.labels"),
}
"""Values whose keys are the user's or Kubernetes's."""


def leaves(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for name, value in values.items():
        path = f"{before}{name}"
        if isinstance(value, Mapping) and path not in ANYTHING:
            yield from leaves(value, f"{path}.")
        else:
            yield path


def nested(path: str, value: object) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for name, value in over.items():
        there = result.get(name)
        result[name] = merged(there, value) if isinstance(there, Mapping) and isinstance(value, Mapping) else value
    return result


LEAVES = list(leaves(DEFAULTS))
DIGEST = f"sha256:{'0123456789abcdef' * 4}"
VOLUME = {"name": "certificates", "secret": {"secretName": "internal"}}
MOUNT = {"name": "certificates", "mountPath": "/certificates", "readOnly": True}
OTHER: Mapping[str, object] = {
    "kind": "DaemonSet",
    "replicaCount": 3,
    "fullnameOverride": "edge",
    "commonLabels": {"team": "platform"},
    "global.image.registry": "mirror.example.com",
    "image.registry": "mirror.example.com",
    "image.repository": "localhost/other",
    "image.tag": "other",
    "image.digest": DIGEST,
    "image.pullPolicy": "Never",
    "image.pullSecrets": [{"name": "credentials"}],
    "ingressClass.create": False,
    "ingressClass.name": "edge",
    "ingressClass.default": True,
    "ingressClass.controllerName": "example.com/edge",
    "watchNamespaces": ["shop"],
    "watchNamespaceSelector": "team=shop",
    "status.update": False,
    "status.publishService": "edge/balancer",
    "status.publishAddresses": ["192.0.2.1"],
    "controller.logLevel": "debug",
    "controller.defaultCertificate": "edge/wildcard",
    "controller.hostOwnership": "namespace",
    "controller.allowExternalName": True,
    "controller.podGrace": False,
    "controller.runAsUser": 20001,
    "controller.resources": {"requests": {"cpu": "2"}},
    "controller.extraArgs": ["--log-level=debug"],
    "controller.extraEnv": [{"name": "TZ", "value": "UTC"}],
    "controller.extraVolumeMounts": [MOUNT],
    "proxy.logLevel": "debug",
    "proxy.workers": 3,
    "proxy.accessLog": "json",
    "proxy.trustedProxies": ["10.0.0.0/8"],
    "proxy.strictSNI": True,
    "proxy.maxConnections": 1_000_000,
    "proxy.maxConnectionsPerClient": 20,
    "proxy.drainDelay": "1s",
    "proxy.drainTime": "1s",
    "proxy.runAsUser": 20002,
    "proxy.resources": {"requests": {"cpu": "2"}},
    "proxy.extraArgs": ["--forwarded"],
    "proxy.extraEnv": [{"name": "TZ", "value": "UTC"}],
    "proxy.extraVolumeMounts": [MOUNT],
    "fsGroup": 20000,
    "terminationGracePeriodSeconds": 90,
    "hostPorts.enabled": True,
    "hostPorts.http": 8000,
    "hostPorts.https": 4443,
    "service.type": "NodePort",
    "service.annotations": {"example.com/a": "b"},
    "service.labels": {"tier": "edge"},
    "service.enableHttp": False,
    "service.enableHttps": False,
    "service.ports.http": 8000,
    "service.ports.https": 4443,
    "service.targetPorts.http": "https",
    "service.targetPorts.https": "http",
    "service.nodePorts.http": 30080,
    "service.nodePorts.https": 30443,
    "service.externalIPs": ["192.0.2.1"],
    "service.externalTrafficPolicy": "Local",
    "service.loadBalancerClass": "example.com/internal",
    "service.loadBalancerSourceRanges": ["192.0.2.0/24"],
    "service.ipFamilyPolicy": "PreferDualStack",
    "service.ipFamilies": ["IPv6"],
    "service.sessionAffinity": "ClientIP",
    "service.internal.enabled": True,
    "service.internal.type": "NodePort",
    "service.internal.annotations": {"example.com/a": "b"},
    "service.internal.labels": {"tier": "edge"},
    "service.internal.targetPorts.http": "https",
    "service.internal.targetPorts.https": "http",
    "service.internal.nodePorts.http": 30080,
    "service.internal.nodePorts.https": 30443,
    "service.internal.externalIPs": ["192.0.2.1"],
    "service.internal.externalTrafficPolicy": "Local",
    "service.internal.loadBalancerClass": "example.com/internal",
    "service.internal.loadBalancerSourceRanges": ["192.0.2.0/24"],
    "service.internal.ipFamilyPolicy": "PreferDualStack",
    "service.internal.ipFamilies": ["IPv6"],
    "service.internal.sessionAffinity": "ClientIP",
    "serviceAccount.create": False,
    "serviceAccount.name": "edge",
    "serviceAccount.annotations": {"example.com/a": "b"},
    "rbac.create": False,
    "rbac.aggregateRoles": False,
    "extraVolumes": [VOLUME],
    "extraContainers": [{"name": "agent", "image": "localhost/agent:1"}],
    "podAnnotations": {"example.com/a": "b"},
    "podLabels": {"tier": "edge"},
    "nodeSelector": {"edge": "true"},
    "tolerations": [{"key": "edge", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "topologySpreadConstraints": [],
    "priorityClassName": "system-cluster-critical",
    "updateStrategy": {"type": "Recreate"},
    "minReadySeconds": 10,
    "podDisruptionBudget.enabled": False,
    "podDisruptionBudget.maxUnavailable": "50%",
    "autoscaling.enabled": True,
    "autoscaling.minReplicas": 3,
    "autoscaling.maxReplicas": 20,
    "autoscaling.annotations": {"example.com/a": "b"},
    "autoscaling.targetCPUUtilizationPercentage": 50,
    "autoscaling.targetMemoryUtilizationPercentage": 80,
    "autoscaling.metrics": [{"type": "Pods", "pods": {}}],
    "autoscaling.behavior": {"scaleUp": {"stabilizationWindowSeconds": 60}},
    "metrics.service.enabled": False,
    "metrics.service.annotations": {"example.com/a": "b"},
    "metrics.serviceMonitor.enabled": True,
    "metrics.serviceMonitor.namespace": "monitoring",
    "metrics.serviceMonitor.interval": "15s",
    "metrics.serviceMonitor.scrapeTimeout": "10s",
    "metrics.serviceMonitor.labels": {"prometheus": "main"},
    "metrics.serviceMonitor.relabelings": [{"action": "labeldrop", "regex": "pod"}],
    "metrics.serviceMonitor.metricRelabelings": [{"action": "labeldrop", "regex": "host"}],
    "metrics.prometheusRule.enabled": True,
    "metrics.prometheusRule.labels": {"prometheus": "main"},
    "metrics.dashboard.enabled": True,
    "metrics.dashboard.labels": {"grafana_dashboard": "2"},
    "networkPolicy.enabled": True,
    "networkPolicy.metricsFrom": [{"podSelector": {}}],
}
"""Another value than the default for each."""
SWITCHES = (
    "autoscaling.enabled",
    "hostPorts.enabled",
    "metrics.serviceMonitor.enabled",
    "metrics.prometheusRule.enabled",
    "metrics.dashboard.enabled",
    "networkPolicy.enabled",
    "service.internal.enabled",
)
"""What must be on for the values beside it to have an effect."""
BESIDES: Mapping[str, Mapping[str, Any]] = {
    "serviceAccount.create": {"serviceAccount": {"name": "default"}},
    "controller.extraVolumeMounts": {"extraVolumes": [VOLUME]},
    "proxy.extraVolumeMounts": {"extraVolumes": [VOLUME]},
}
"""What a value needs beside it."""


def test_every_value_stands_in_the_table_of_other_values() -> None:
    assert sorted(OTHER) == sorted(LEAVES)


@pytest.mark.parametrize("path", LEAVES)
def test_value_changes_what_is_rendered(path: str) -> None:
    base = dict(BESIDES.get(path, {}))
    for switch in SWITCHES:
        if path != switch and path.startswith(switch.removesuffix("enabled")):
            base = merged(base, nested(switch, value=True))

    assert render(merged(base, nested(path, OTHER[path]))) != render(base)


def test_values_of_the_chart_keep_its_schema_and_the_schema_is_one() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)

    assert list(jsonschema.Draft202012Validator(schema).iter_errors(DEFAULTS)) == []


def schema_leaves(schema: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for name, part in schema["properties"].items():
        if "properties" in part:
            # A parent's other charts read other values of global.
            assert part.get("additionalProperties", True) is (f"{before}{name}".startswith("global")), name
            yield from schema_leaves(part, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def test_schema_knows_the_values_of_the_chart_and_no_others() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())["$defs"]["values"]
    helms_own = {"enabled"}

    assert schema["additionalProperties"] is False
    assert sorted(set(schema_leaves(schema)) - helms_own) == sorted(LEAVES)


def test_every_value_has_a_comment_above_it() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    depth_of_data = None
    bare = []
    for before, line in zip(["", *lines], lines, strict=False):
        text = line.lstrip()
        depth = len(line) - len(text)
        if depth_of_data is not None and (depth > depth_of_data or text.startswith("- ")):
            continue
        depth_of_data = None
        if not text or text.startswith("#"):
            continue
        name = text.partition(":")[0]
        if not before.lstrip().startswith("#"):
            bare.append(line)
        if name in ("resources", "labels", "behavior", "topologySpreadConstraints"):
            depth_of_data = depth

    assert bare == []


REFUSED = [
    ({"servcie": {"type": "NodePort"}}, ["servcie"]),
    ({"service": {"typ": "NodePort"}}, ["/service", "typ"]),
    ({"service": {"type": "Nodeport"}}, ["/service/type", "LoadBalancer", "NodePort", "ClusterIP"]),
    ({"kind": "StatefulSet"}, ["/kind", "Deployment", "DaemonSet"]),
    ({"replicaCount": "2"}, ["/replicaCount", "integer"]),
    ({"image": {"pullPolicy": "never"}}, ["/image/pullPolicy", "IfNotPresent"]),
    ({"image": {"tag": ""}}, ["/image/tag"]),
    ({"proxy": {"workers": 0}}, ["/proxy/workers", "auto"]),
    ({"proxy": {"accessLog": False}}, ["/proxy/accessLog", "off", "text", "json"]),
    ({"proxy": {"drainTime": "30"}}, ["/proxy/drainTime"]),
    ({"proxy": {"logLevel": "warn"}}, ["/proxy/logLevel", "warning"]),
    ({"proxy": {"maxConnections": -1}}, ["/proxy/maxConnections", "0"]),
    ({"proxy": {"trustedProxies": "10.0.0.0/8"}}, ["/proxy/trustedProxies", "array"]),
    ({"proxy": {"extraArgs": ["forwarded"]}}, ["/proxy/extraArgs/0"]),
    ({"proxy": {"extraEnv": [{"value": "1"}]}}, ["/proxy/extraEnv/0", "name"]),
    ({"controller": {"defaultCertificate": "wildcard"}}, ["/controller/defaultCertificate"]),
    ({"controller": {"hostOwnership": "mine"}}, ["/controller/hostOwnership", "shared", "namespace"]),
    ({"controller": {"resources": {"request": {}}}}, ["/controller/resources", "request"]),
    ({"watchNamespaces": ["Shop"]}, ["/watchNamespaces/0"]),
    ({"watchNamespaces": "shop"}, ["/watchNamespaces", "array"]),
    ({"watchNamespaceSelector": {"team": "shop"}}, ["/watchNamespaceSelector", "string"]),
    (
        {"watchNamespaceSelector": "team=shop", "watchNamespaces": ["shop", "blog"]},
        ['watchNamespaceSelector: "team=shop" was found beside watchNamespaces (shop, blog)', "one of the two"],
    ),
    ({"status": {"publishAddresses": ["192.0.2.1,192.0.2.2"]}}, ["/status/publishAddresses/0"]),
    ({"podDisruptionBudget": {"maxUnavailable": 0}}, ["/podDisruptionBudget/maxUnavailable"]),
    ({"terminationGracePeriodSeconds": 5}, ["/terminationGracePeriodSeconds", "15"]),
    ({"metrics": {"serviceMonitor": {"interval": 30}}}, ["/metrics/serviceMonitor/interval"]),
    ({"kind": "DaemonSet", "autoscaling": {"enabled": True}}, ["autoscaling.enabled", "kind Deployment would be accepted"]),
    (
        {"autoscaling": {"enabled": True}, "proxy": {"resources": {"requests": {"cpu": None}}}},
        ["proxy.resources.requests.cpu: nothing was found"],
    ),
    (
        {
            "autoscaling": {"enabled": True, "targetMemoryUtilizationPercentage": 80},
            "proxy": {"resources": {"requests": {"memory": None}}},
        },
        ["proxy.resources.requests.memory: nothing was found"],
    ),
    (
        {"autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": 0}},
        ["autoscaling.enabled", "no metric", "would be accepted"],
    ),
    ({"autoscaling": {"metrics": [{"type": "Sockets"}]}}, ["/autoscaling/metrics/0/type", "Pods", "External"]),
    ({"image": {"digest": "594c"}}, ["/image/digest", "sha256:"]),
    ({"image": {"registry": "https://mirror"}}, ["/image/registry"]),
    ({"global": {"image": {"registry": 5}}}, ["/global/image/registry", "string"]),
    ({"service": {"targetPorts": {"https": "HTTP"}}}, ["/service/targetPorts/https"]),
    ({"service": {"externalIPs": ["edge.example.com"]}}, ["/service/externalIPs/0"]),
    ({"service": {"ipFamilies": ["IPv5"]}}, ["/service/ipFamilies/0", "IPv4", "IPv6"]),
    ({"service": {"internal": {"ports": {"http": 80}}}}, ["/service/internal", "ports"]),
    ({"service": {"internal": {"type": "Internal"}}}, ["/service/internal/type", "LoadBalancer"]),
    ({"service": {"enableHttp": False, "enableHttps": False}}, ["service.enableHttp: false was found", "one port at least"]),
    ({"minReadySeconds": -1}, ["/minReadySeconds"]),
    ({"extraVolumes": [{"emptyDir": {}}]}, ["/extraVolumes/0", "name"]),
    ({"extraVolumes": [{"name": "token", "emptyDir": {}}]}, ['extraVolumes: "token" was found', "another name"]),
    ({"extraContainers": [{"name": "proxy", "image": "a"}]}, ['extraContainers: "proxy" was found', "another name"]),
    (
        {"proxy": {"extraVolumeMounts": [{"name": "token", "mountPath": "/token"}]}},
        ['proxy.extraVolumeMounts: "token" was found', "a name of extraVolumes would be accepted; there are none"],
    ),
    (
        {"controller": {"extraVolumeMounts": [{"name": "keys", "mountPath": "/keys"}]}, "extraVolumes": [VOLUME]},
        ['controller.extraVolumeMounts: "keys" was found', "there are certificates"],
    ),
    ({"metrics": {"serviceMonitor": {"scrapeTimeout": "10"}}}, ["/metrics/serviceMonitor/scrapeTimeout"]),
    ({"autoscaling": {"minReplicas": 11}}, ["autoscaling.minReplicas: 11 was found, at most", "10"]),
    ({"proxy": {"runAsUser": 10001}}, ["proxy.runAsUser: 10001 was found, which is the controller's"]),
    (
        {"metrics": {"service": {"enabled": False}, "serviceMonitor": {"enabled": True}}},
        ["metrics.serviceMonitor.enabled", "needs the Service"],
    ),
    ({"status": {"publishService": "a/b", "publishAddresses": ["192.0.2.1"]}}, ["status.publishAddresses"]),
    (
        {"controller": {"defaultCertificate": "a/b"}, "watchNamespaces": ["shop"]},
        ['controller.defaultCertificate: "a/b" was found', "(shop)"],
    ),
    ({"serviceAccount": {"create": False}}, ["serviceAccount.name: nothing was found"]),
    (
        {"proxy": {"drainTime": "90s"}},
        ["proxy.drainTime: 90s was found, at most 46s would", "terminationGracePeriodSeconds 60;", "104 of them"],
    ),
    ({"proxy": {"drainTime": "46001ms"}}, ["proxy.drainTime: 46001ms was found, at most 46s would", " 61 of them"]),
    ({"proxy": {"drainTime": "0.8m"}}, ["proxy.drainTime: 0.8m was found, at most 46s would"]),
    ({"proxy": {"drainDelay": "0", "drainTime": "1h"}}, ["proxy.drainTime: 1h was found, at most 51s would", "3609 of them"]),
    ({"terminationGracePeriodSeconds": 30}, ["proxy.drainTime: 30s was found, at most 16s would be accepted", "44 of them"]),
    ({"proxy": {"drainDelay": "1m"}}, ["proxy.drainDelay: 1m was found, at most 51s would be accepted"]),
]


@pytest.mark.parametrize(("values", "words"), REFUSED, ids=lambda part: str(part)[:60])
def test_wrong_value_is_refused_by_its_name(values: Mapping[str, Any], words: list[str]) -> None:
    done = helm("template", "sluice", str(CHART), values=values)

    assert done.returncode != 0
    assert [word for word in words if word not in done.stderr] == [], done.stderr


@pytest.mark.parametrize(
    ("delay", "time", "grace"),
    [("5s", "46s", 60), ("0", "0", 15), ("500ms", "45s500ms", 55), ("1m", "1m30s", 159), ("6s", "0s", 15), ("5s", "0.75h", 2714)],
)
def test_drain_that_ends_within_the_grace_period_is_taken(delay: str, time: str, grace: int) -> None:
    """To the second: the proxy closes sockets over the whole of drainTime, and has a margin for those that come last."""
    values = {"proxy": {"drainDelay": delay, "drainTime": time}, "terminationGracePeriodSeconds": grace}
    arguments = containers(objects(values))["proxy"]["args"]
    settings = settings_from(proxy_command.make_context("", arguments).params)

    within = settings.grace - GRACE_MARGIN - settings.drain_delay
    assert settings.drain_time <= within - settings.close_wait - 1.0


def test_values_of_a_parent_chart_are_taken() -> None:
    assert render({"global": {"team": "platform"}, "enabled": True}) == render()
