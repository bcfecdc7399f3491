"""Every annotation that ingress-nginx documents: whether it protects, and what is served without it."""

import pytest

from controller.resources import Ingress, parse_object
from controller.resources.annotations.annotation import NGINX, Guard, protects
from controller.resources.annotations.table import ANNOTATIONS

DOCUMENTED = """
    affinity affinity-canary-behavior affinity-mode allowlist-source-range app-root auth-always-set-cookie
    auth-cache-duration auth-cache-key auth-keepalive auth-keepalive-requests auth-keepalive-share-vars
    auth-keepalive-timeout auth-method auth-proxy-set-headers auth-realm auth-request-redirect auth-response-headers
    auth-secret auth-secret-type auth-signin auth-signin-redirect-param auth-snippet auth-tls-error-page auth-tls-match-cn
    auth-tls-pass-certificate-to-upstream auth-tls-secret auth-tls-verify-client auth-tls-verify-depth auth-type auth-url
    backend-protocol canary canary-by-cookie canary-by-header canary-by-header-pattern canary-by-header-value canary-weight
    canary-weight-total client-body-buffer-size configuration-snippet connection-proxy-header cors-allow-credentials
    cors-allow-headers cors-allow-methods cors-allow-origin cors-expose-headers cors-max-age custom-headers
    custom-http-errors default-backend denylist-source-range disable-proxy-intercept-errors enable-access-log enable-cors
    enable-global-auth enable-modsecurity enable-opentelemetry enable-owasp-core-rules enable-rewrite-log fastcgi-index
    fastcgi-params-configmap force-ssl-redirect from-to-www-redirect http2-push-preload limit-allowlist
    limit-burst-multiplier limit-connections limit-rate limit-rate-after limit-rpm limit-rps limit-whitelist load-balance
    mirror-host mirror-request-body mirror-target modsecurity-snippet modsecurity-transaction-id
    opentelemetry-operation-name opentelemetry-trust-incoming-span permanent-redirect permanent-redirect-code
    preserve-trailing-slash proxy-body-size proxy-buffer-size proxy-buffering proxy-buffers-number proxy-busy-buffers-size
    proxy-connect-timeout proxy-cookie-domain proxy-cookie-path proxy-http-version proxy-max-temp-file-size
    proxy-next-upstream proxy-next-upstream-timeout proxy-next-upstream-tries proxy-read-timeout proxy-redirect-from
    proxy-redirect-to proxy-request-buffering proxy-send-timeout proxy-ssl-ciphers proxy-ssl-name proxy-ssl-protocols
    proxy-ssl-secret proxy-ssl-server-name proxy-ssl-verify proxy-ssl-verify-depth rewrite-target satisfy server-alias
    server-snippet service-upstream session-cookie-change-on-failure session-cookie-conditional-samesite-none
    session-cookie-domain session-cookie-expires session-cookie-max-age session-cookie-name session-cookie-partitioned
    session-cookie-path session-cookie-samesite session-cookie-secure ssl-ciphers ssl-passthrough ssl-prefer-server-ciphers
    ssl-redirect stream-snippet temporal-redirect temporal-redirect-code upstream-hash-by upstream-hash-by-subset
    upstream-hash-by-subset-size upstream-vhost use-port-in-redirects use-regex whitelist-source-range x-forwarded-prefix
"""
"""Of ingress-nginx 1.15.1, docs/user-guide/nginx-configuration/annotations.md and annotations-risk.md, aliases among them."""
KNOWN = {annotation.name: annotation for key, annotation in ANNOTATIONS.items() if key.startswith(NGINX)}
UNREAD = {name: annotation for name, annotation in KNOWN.items() if not annotation.understood}
GUARDS = {name for name, annotation in UNREAD.items() if annotation.guard is not Guard.NONE}
SWITCHES = {
    "enable-global-auth": "true",
    "enable-modsecurity": "true",
    "enable-owasp-core-rules": "true",
    "limit-rate": "100",
    "limit-req": "10",
    "rate-limit": "10",
    "proxy-ssl-verify": "on",
    "ssl-passthrough": "true",
    "auth-tls-verify-client": "optional",
}
"""Guards that can be switched off, each with a value that is on."""


def fault(name: str, value: str) -> str:
    """Return why the routes of an Ingress with this annotation answer 500."""
    annotations = {NGINX + name: value}
    raw = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a", "annotations": annotations}}
    found = parse_object(raw)
    assert isinstance(found, Ingress)
    assert [problem.field for problem in found.problems] == [f"metadata.annotations[{NGINX}{name}]"]
    return found.features.fault


def test_every_annotation_of_ingress_nginx_is_in_the_table() -> None:
    assert set(DOCUMENTED.split()) - KNOWN.keys() == set()
    assert KNOWN.keys() - DOCUMENTED.split() == {name for name, annotation in KNOWN.items() if annotation.status == "never existed"}


def test_what_protects_is_what_the_documentation_says_protects() -> None:
    """All authentication and client certificates, snippets, the firewall, verified and end-to-end TLS, bandwidth."""
    beginnings = ("auth-", "enable-modsecurity", "enable-owasp", "enable-global-auth", "modsecurity-", "limit-rate")
    expected = {name for name in DOCUMENTED.split() if name.startswith(beginnings) or name.endswith("-snippet")}

    wished = {"limit-req", "rate-limit"}  # never there, and written by whoever wants a limit
    assert expected | {"proxy-ssl-verify", "proxy-ssl-secret", "ssl-passthrough"} | wished == GUARDS


@pytest.mark.parametrize("name", sorted(GUARDS - SWITCHES.keys()))
def test_guard_that_is_asked_for_is_not_served_without(name: str) -> None:
    assert fault(name, "something") == f"{NGINX}{name} is not supported"
    assert fault(name, "") == fault(name, " \n") == ""


@pytest.mark.parametrize(("name", "on"), SWITCHES.items())
def test_guard_that_is_switched_off_asks_for_nothing(name: str, on: str) -> None:
    assert [fault(name, off) for off in ("", "false", "False", "0", "off", "Off", "f", "F", "FALSE")] == [""] * 9
    assert [fault(name, value) for value in (on, "true", "1", "yes", "of", "no")] == [f"{NGINX}{name} is not supported"] * 6


@pytest.mark.parametrize("name", ["auth-realm", "auth-secret", "auth-tls-secret", "configuration-snippet", "proxy-ssl-secret"])
def test_text_of_a_guard_is_no_switch(name: str) -> None:
    assert protects(KNOWN[name], "off")
    assert protects(KNOWN[name], "false")


@pytest.mark.parametrize("name", sorted(UNREAD.keys() - GUARDS))
def test_annotation_that_protects_nothing_is_reported_and_served(name: str) -> None:
    assert [fault(name, value) for value in ("true", "x", "")] == [""] * 3
