"""What the values say of images and of the Services that clients reach."""

from typing import Any

import pytest
import yaml
from chart.rendering import BUILD_SECONDS, CHART, containers, helm, objects, one

pytestmark = pytest.mark.timeout(BUILD_SECONDS)
DIGEST = f"sha256:{'0123456789abcdef' * 4}"
MIRROR = "mirror.example.com:5000"
SELECTOR = {"app.kubernetes.io/name": "sluice", "app.kubernetes.io/instance": "sluice"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "localhost/sluice:dev"),
        ({"image": {"repository": "images.example.com/team/sluice", "tag": "1"}}, "images.example.com/team/sluice:1"),
        ({"image": {"digest": DIGEST}}, f"localhost/sluice:dev@{DIGEST}"),
        ({"image": {"registry": MIRROR}}, f"{MIRROR}/sluice:dev"),
        ({"image": {"registry": MIRROR, "repository": "images.example.com/team/sluice"}}, f"{MIRROR}/team/sluice:dev"),
        ({"image": {"registry": MIRROR, "repository": "team/sluice"}}, f"{MIRROR}/team/sluice:dev"),
        ({"image": {"registry": f"{MIRROR}/proxied/"}}, f"{MIRROR}/proxied/sluice:dev"),
        ({"global": {"image": {"registry": MIRROR}}}, f"{MIRROR}/sluice:dev"),
        ({"global": {"image": {"registry": "other.example.com"}}, "image": {"registry": MIRROR}}, f"{MIRROR}/sluice:dev"),
        ({"global": {"image": {"pullPolicy": "Never"}, "team": "platform"}}, "localhost/sluice:dev"),
    ],
)
def test_registry_takes_the_place_of_that_of_the_repository_and_a_digest_follows_the_tag(
    values: dict[str, Any], expected: str
) -> None:
    found = list(yaml.safe_load_all(helm("template", "sluice", str(CHART), values=values).stdout))
    tester = one(found, "Pod", "sluice-test")["spec"]["containers"][0]

    assert {container["image"] for container in (*containers(found).values(), tester)} == {expected}


def service(values: dict[str, Any], name: str = "sluice") -> dict[str, Any]:
    return one(objects({"service": values}), "Service", name)


def ports(values: dict[str, Any], name: str = "sluice") -> dict[str, tuple[int, object]]:
    return {port["name"]: (port["port"], port["targetPort"]) for port in service(values, name)["spec"]["ports"]}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"http": (80, "http"), "https": (443, "https")}),
        ({"targetPorts": {"https": "http"}}, {"http": (80, "http"), "https": (443, "http")}),
        ({"targetPorts": {"http": "to-https", "https": 8080}}, {"http": (80, "to-https"), "https": (443, 8080)}),
        ({"enableHttp": False}, {"https": (443, "https")}),
        ({"enableHttps": False, "ports": {"http": 8000}}, {"http": (8000, "http")}),
    ],
)
def test_ports_of_the_service_are_those_enabled_and_lead_where_the_values_say(
    values: dict[str, Any], expected: dict[str, tuple[int, object]]
) -> None:
    assert ports(values) == expected
    assert ports({**values, "internal": {"enabled": True}}, "sluice-internal") == expected


def test_internal_service_selects_the_same_pods_with_settings_of_its_own() -> None:
    values = {
        "type": "NodePort",
        "annotations": {"example.com/public": "yes"},
        "labels": {"tier": "edge", "team": "platform"},
        "ports": {"http": 8000},
        "targetPorts": {"https": "http"},
        "internal": {
            "enabled": True,
            "annotations": {"example.com/internal": "yes"},
            "labels": {"tier": "inner"},
            "targetPorts": {"https": "https"},
            "nodePorts": {"https": 30443},
            "externalIPs": ["192.0.2.1"],
            "externalTrafficPolicy": "Local",
            "loadBalancerClass": "example.com/internal",
            "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "ipFamilyPolicy": "RequireDualStack",
            "ipFamilies": ["IPv6", "IPv4"],
            "sessionAffinity": "ClientIP",
        },
    }
    found = service(values, "sluice-internal")
    labels = found["metadata"].pop("labels")

    assert found == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "sluice-internal",
            "namespace": "sluice-system",
            "annotations": {"example.com/internal": "yes"},
        },
        "spec": {
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "loadBalancerClass": "example.com/internal",
            "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "externalIPs": ["192.0.2.1"],
            "ipFamilyPolicy": "RequireDualStack",
            "ipFamilies": ["IPv6", "IPv4"],
            "sessionAffinity": "ClientIP",
            "selector": SELECTOR,
            "ports": [
                {"name": "http", "port": 8000, "targetPort": "http", "protocol": "TCP"},
                {"name": "https", "port": 443, "targetPort": "https", "protocol": "TCP", "nodePort": 30443},
            ],
        },
    }
    assert (labels["tier"], labels["team"], labels["app.kubernetes.io/name"]) == ("inner", "platform", "sluice")
    assert service(values)["metadata"]["labels"]["tier"] == "edge"
    assert service(values)["metadata"]["annotations"] == {"example.com/public": "yes"}


def test_service_has_the_addresses_and_families_of_the_values() -> None:
    spec = service({"externalIPs": ["192.0.2.1", "2001:db8::1"], "ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"})["spec"]

    assert (spec["externalIPs"], spec["ipFamilies"], spec["ipFamilyPolicy"]) == (
        ["192.0.2.1", "2001:db8::1"],
        ["IPv6"],
        "SingleStack",
    )


def test_there_is_no_internal_service_unless_it_is_enabled() -> None:
    assert [raw["metadata"]["name"] for raw in objects() if raw["kind"] == "Service"] == ["sluice-metrics", "sluice"]


@pytest.mark.parametrize(
    ("values", "port"),
    [
        ({}, "80"),
        ({"enableHttp": False, "targetPorts": {"https": "http"}}, "443"),
        ({"ports": {"https": 4443}, "targetPorts": {"http": "other", "https": "http"}}, "4443"),
        ({"enableHttp": False}, None),
    ],
)
def test_helm_tests_the_port_that_leads_to_plain_http_where_there_is_one(values: dict[str, Any], port: str | None) -> None:
    found = list(yaml.safe_load_all(helm("template", "sluice", str(CHART), values={"service": values}).stdout))
    testers = [raw for raw in found if raw and raw["kind"] == "Pod"]

    assert [pod["spec"]["containers"][0]["args"][2] for pod in testers] == ([] if port is None else [port])


def test_extra_containers_and_volumes_are_in_the_pod_and_mounted_where_the_values_say() -> None:
    volume = {"name": "certificates", "secret": {"secretName": "internal"}}
    mount = {"name": "certificates", "mountPath": "/certificates", "readOnly": True}
    agent = {"name": "agent", "image": "localhost/agent:1", "volumeMounts": [mount]}
    values = {"extraVolumes": [volume], "extraContainers": [agent], "proxy": {"extraVolumeMounts": [mount]}}
    pod = one(objects(values), "Deployment")["spec"]["template"]["spec"]
    mounts = {container["name"]: [m["name"] for m in container["volumeMounts"]] for container in pod["containers"]}

    assert pod["volumes"][-1] == volume
    assert pod["containers"][-1] == agent
    assert mounts == {"proxy": ["control", "admin", "certificates"], "controller": ["control", "token"], "agent": ["certificates"]}


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_rollout_waits_for_pods_that_were_ready_for_as_long_as_the_values_say(kind: str) -> None:
    assert one(objects({"kind": kind, "minReadySeconds": 10}), kind)["spec"]["minReadySeconds"] == 10
    assert "minReadySeconds" not in one(objects({"kind": kind}), kind)["spec"]


def resource(name: str, percentage: int) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": percentage}
    return {"type": "ContainerResource", "containerResource": {"container": "proxy", "name": name, "target": target}}


SOCKETS = {
    "type": "Pods",
    "pods": {"metric": {"name": "sluice_ws_connections"}, "target": {"type": "AverageValue", "averageValue": "20000"}},
}


@pytest.mark.parametrize(
    ("values", "metrics"),
    [
        ({}, [resource("cpu", 70)]),
        ({"targetMemoryUtilizationPercentage": 80}, [resource("cpu", 70), resource("memory", 80)]),
        ({"targetCPUUtilizationPercentage": 0, "metrics": [SOCKETS]}, [SOCKETS]),
        ({"targetCPUUtilizationPercentage": 50, "metrics": [SOCKETS]}, [resource("cpu", 50), SOCKETS]),
    ],
)
def test_replicas_follow_the_metrics_of_the_values(values: dict[str, Any], metrics: list[dict[str, Any]]) -> None:
    scaler = one(objects({"autoscaling": {"enabled": True, **values}}), "HorizontalPodAutoscaler")

    assert (scaler["apiVersion"], scaler["spec"]["metrics"]) == ("autoscaling/v2", metrics)
    assert scaler["spec"]["behavior"] == {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}
