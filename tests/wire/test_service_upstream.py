"""service-upstream of ingress-nginx: the Service's own address serves, not its pods."""

from typing import Any

import pytest
from wire.harness import proxying
from wire.several import backends, get, upgrade

from controller.resources import parse_object
from controller.sources.snapshot import Store
from controller.translate import TranslateSettings, translate


def objects(service_port: int, pod_port: int, annotations: dict[str, str]) -> list[dict[str, Any]]:
    backend = {"service": {"name": "web", "port": {"number": service_port}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"clusterIP": "127.0.0.1", "ports": [{"port": service_port}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "metadata": {"name": "web", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"port": pod_port}],
            "endpoints": [{"addresses": ["127.0.0.1"]}],
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "web", "namespace": "shop", "annotations": annotations},
            "spec": {"rules": [{"host": "a.test", "http": {"paths": paths}}]},
        },
    ]


@pytest.mark.parametrize(("value", "served"), [("true", "0"), ("false", "1"), ("yes", "1")])
async def test_service_upstream_sends_requests_and_upgrades_to_the_cluster_ip(value: str, served: str) -> None:
    annotations = {"nginx.ingress.kubernetes.io/service-upstream": value}
    async with proxying() as proxy, backends(2) as (service, pod):
        store = Store()
        for raw in objects(service.port, pod.port, annotations):
            record = parse_object(raw)
            assert record is not None
            store.apply(record)
        proxy.serves(translate(store.snapshot(), TranslateSettings(implicit_class=True, allow_loopback=True)).config)
        status, _, body = await get(proxy)
        opened, fields = await upgrade(proxy)

    assert (status, body, opened, fields["x-number"]) == (200, served, 101, served)
