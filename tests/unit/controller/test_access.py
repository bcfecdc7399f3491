"""Networks and origins as they are written: what is taken, and what it becomes."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.resources import Ingress, parse_object
from controller.resources.features.access import parse_origin
from controller.resources.features.request_limits import RequestLimits
from controller.resources.reading.networks import parse_network
from controller.translate.policies import policies_of
from controller.translate.route_context import RouteContext
from proxy.filters.order import FilterSettings, compile_filters
from proxy.model.config import Path
from proxy.model.policy import AllowedOrigins, ClientAddresses, Connections, Rate
from proxy.shared_memory.counters import Counters

TEXT = st.text(alphabet="0123456789abcf.:/%x ", max_size=24)
ORIGINS = st.text(alphabet="htpsw:/*.a-b0[]1", max_size=24).map(lambda text: f"https://{text}")


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(TEXT | st.tuples(st.ip_addresses(), st.integers(0, 130)).map(lambda pair: f"{pair[0]}/{pair[1]}"), st.booleans())
def test_network_that_is_taken_is_one_and_the_proxy_takes_it(text: str, bare: bool) -> None:
    found = parse_network(text, bare=bare)
    if found is not None:
        assert ipaddress.ip_network(found) == ipaddress.ip_network(text, strict=False)
        compile_filters([ClientAddresses(allow=(found,))], FilterSettings(443, Counters(1)))


@pytest.mark.parametrize("version", [4, 6])
def test_every_prefix_of_an_address_is_a_network(version: int) -> None:
    address, most = {4: ("192.0.2.255", 32), 6: ("2001:db8:ffff::1", 128)}[version]
    expected = [str(ipaddress.ip_network(f"{address}/{length}", strict=False)) for length in range(most + 1)]

    assert [parse_network(f"{address}/{length}") for length in range(most + 1)] == expected


@settings(max_examples=500, deadline=None)
@given(ORIGINS)
def test_origin_that_is_taken_is_taken_by_the_proxy(text: str) -> None:
    found = parse_origin(text)
    if found is not None:
        compile_filters([AllowedOrigins((found,))], FilterSettings(443, Counters(1)))


@pytest.mark.parametrize(
    "text",
    [
        "https://a.test",
        "http://localhost:3000",
        "https://*.a.test",
        "http://[::1]:8080",
        "chrome-extension://abcdef",
        "https://1.2.3.4",
    ],
)
def test_usual_origin_is_taken(text: str) -> None:
    assert parse_origin(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "*",
            "null",
            "https://",
            "https://*",
            "https://*.",
            "https://a.*.test",
            "https://**.test",
            "https://a..test",
            "a.test",
        ),
        *("https://a.test/", "https://a.test:", "https://a.test:65536", "https://a.test:0", "https://u@a.test", "HTTPS://a.test"),
        *("https://[::1", "https://[::g]", "https://[1.2.3.4]", "https://a.test\n", "https://-a.test"),
    ],
)
def test_what_is_no_origin_is_not_taken(text: str) -> None:
    assert parse_origin(text) is None


def test_annotations_of_ingress_nginx_mean_what_they_meant() -> None:
    """limit_conn and limit_req of nginx: by client and Ingress, 503, and `burst` beside the request that is due."""
    prefix = "nginx.ingress.kubernetes.io"
    annotations = {f"{prefix}/limit-connections": "3", f"{prefix}/limit-rps": "2", f"{prefix}/limit-rpm": "30"}
    found = parse_object(
        {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a", "annotations": annotations}}
    )
    assert isinstance(found, Ingress)

    assert found.features.request_limits == RequestLimits(3, 2, 30, 5)
    assert policies_of(found.features, RouteContext(found.ref, "", Path("prefix", "/"))) == (
        Connections(per_client=3, requests=True, status=503, scope="ingress/default/a"),
        Rate("rpm", 0.5, 151, upgrades_only=False, status=503, scope="ingress/default/a"),
        Rate("rps", 2.0, 11, upgrades_only=False, status=503, scope="ingress/default/a"),
    )
