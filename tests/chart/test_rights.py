"""What the controller may do: exactly what it does, and with watchNamespaces nothing elsewhere."""

from typing import Any

import pytest
from chart.rendering import BUILD_SECONDS, objects, one

pytestmark = pytest.mark.timeout(BUILD_SECONDS)
Rights = set[tuple[str, str, str]]
PODS = {("", "pods", "get")}
READ = {
    (group, resource, verb)
    for group, resource in (
        ("", "services"),
        ("", "secrets"),
        ("discovery.k8s.io", "endpointslices"),
        ("networking.k8s.io", "ingresses"),
        ("sluice.dev", "wsroutes"),
    )
    for verb in ("get", "list", "watch")
}
CLASSES = {("networking.k8s.io", "ingressclasses", verb) for verb in ("get", "list", "watch")}
STATUS = {("networking.k8s.io", "ingresses/status", "patch"), ("sluice.dev", "wsroutes/status", "patch")}
EVENTS = {("", "events", "create"), ("", "events", "patch")}


def rights(role: dict[str, Any]) -> Rights:
    return {
        (group, f"{resource} {' '.join(rule['resourceNames'])}" if "resourceNames" in rule else resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def bound(found: list[dict[str, Any]]) -> dict[tuple[str, str], Rights]:
    """Return what the service account has by (kind, namespace) of the role, through the bindings."""
    result: dict[tuple[str, str], Rights] = {}
    for binding in found:
        if binding["kind"] in ("ClusterRoleBinding", "RoleBinding"):
            namespace = binding["metadata"].get("namespace", "")
            (role,) = [
                raw
                for raw in found
                if raw["kind"] == binding["roleRef"]["kind"]
                and raw["metadata"]["name"] == binding["roleRef"]["name"]
                and raw["metadata"].get("namespace", "") == namespace
            ]
            assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "sluice", "namespace": "sluice-system"}]
            result.setdefault((role["kind"], namespace), set()).update(rights(role))
    return result


LEASE = {
    ("coordination.k8s.io", "leases", "create"),
    ("coordination.k8s.io", "leases sluice-leader", "get"),
    ("coordination.k8s.io", "leases sluice-leader", "update"),
}


def test_rights_for_all_namespaces_are_reading_six_kinds_status_events_and_one_lease() -> None:
    assert bound(objects()) == {
        ("ClusterRole", ""): READ | PODS | CLASSES | STATUS | EVENTS,
        ("Role", "sluice-system"): LEASE,
    }
    assert bound(objects({"controller": {"podGrace": False}}))[("ClusterRole", "")] == READ | CLASSES | STATUS | EVENTS


def test_rights_for_some_namespaces_stay_in_them() -> None:
    assert bound(objects({"watchNamespaces": ["shop", "blog"]})) == {
        ("ClusterRole", ""): CLASSES,
        ("Role", "shop"): READ | PODS | STATUS | EVENTS,
        ("Role", "blog"): READ | PODS | STATUS | EVENTS,
        ("Role", "sluice-system"): LEASE | {("", "services sluice", verb) for verb in ("get", "list", "watch")},
    }


def test_rights_for_namespaces_by_label_are_those_for_all_and_reading_namespaces() -> None:
    namespaces = {("", "namespaces", verb) for verb in ("get", "list", "watch")}

    assert bound(objects({"watchNamespaceSelector": "team=shop"})) == {
        ("ClusterRole", ""): READ | PODS | CLASSES | STATUS | EVENTS | namespaces,
        ("Role", "sluice-system"): LEASE,
    }


def test_service_elsewhere_may_be_read_by_its_name_alone() -> None:
    values = {"watchNamespaces": ["shop"], "status": {"publishService": "edge/balancer"}}

    assert bound(objects(values))[("Role", "edge")] == {("", "services balancer", verb) for verb in ("get", "list", "watch")}
    assert set(bound(objects({**values, "watchNamespaces": ["shop", "edge"]}))) == {
        *(("ClusterRole", ""), ("Role", "shop"), ("Role", "edge"), ("Role", "sluice-system")),
    }
    addresses = {"watchNamespaces": ["shop"], "status": {"publishAddresses": ["192.0.2.1"]}}
    assert bound(objects(addresses))[("Role", "sluice-system")] == LEASE


def test_nodes_are_found_by_listing_the_pods_of_the_own_namespace_where_they_are_shown() -> None:
    nodes: dict[str, Any] = {"hostPorts": {"enabled": True}}

    assert bound(objects(nodes))[("Role", "sluice-system")] == LEASE | {("", "pods", "list")}
    assert bound(objects({**nodes, "watchNamespaces": ["shop"]})) == {
        ("ClusterRole", ""): CLASSES,
        ("Role", "shop"): READ | PODS | STATUS | EVENTS,
        ("Role", "sluice-system"): LEASE | {("", "pods", "list")},
    }
    for status in ({"publishAddresses": ["192.0.2.1"]}, {"publishService": "edge/balancer"}):
        assert bound(objects({**nodes, "status": status}))[("Role", "sluice-system")] == LEASE
    assert ("Role", "sluice-system") not in bound(objects({**nodes, "status": {"update": False}}))


def test_rights_without_status_are_reading_alone() -> None:
    assert bound(objects({"status": {"update": False}})) == {("ClusterRole", ""): READ | PODS | CLASSES}
    assert bound(objects({"status": {"update": False}, "watchNamespaces": ["shop"]})) == {
        ("ClusterRole", ""): CLASSES,
        ("Role", "shop"): READ | PODS,
    }


def test_roles_of_users_reach_wsroutes_but_not_their_status() -> None:
    found = objects()

    assert rights(one(found, "ClusterRole", "sluice-system-sluice-view")) == {
        ("sluice.dev", "wsroutes", verb) for verb in ("get", "list", "watch")
    }
    assert rights(one(found, "ClusterRole", "sluice-system-sluice-edit")) == {
        ("sluice.dev", "wsroutes", verb) for verb in ("create", "delete", "deletecollection", "patch", "update")
    }


def test_two_releases_of_one_name_share_no_object_of_the_whole_cluster_but_the_class() -> None:
    def wide(namespace: str) -> set[tuple[str, str]]:
        return {
            (raw["kind"], raw["metadata"]["name"]) for raw in objects(namespace=namespace) if "namespace" not in raw["metadata"]
        }

    assert wide("one") & wide("two") == {("IngressClass", "sluice")}
