"""Keys that do not exist: each is reported with what may be meant, and what may be a misspelt guard closes the routes."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.resources import Ingress, parse_object
from controller.resources.annotations.annotation import NGINX, OURS
from controller.resources.annotations.read import sentence_about
from controller.resources.annotations.table import ANNOTATIONS, KNOWN
from controller.resources.annotations.unknown_keys import (
    GUARD_WORDS,
    MOST_MISSPELT,
    SHORT_GUARD_WORDS,
    misspelt_letters,
)

GUARDS = [key for key, guard in KNOWN._keys.items() if guard and key in KNOWN._read]
HARMLESS = [key for key, guard in KNOWN._keys.items() if not guard and key.startswith(OURS)]
ANSWER_500 = "the routes of this Ingress answer 500: "
OURS_ABSENT, THEIRS_ABSENT = "there is no such annotation", "ingress-nginx has no such annotation"
PROTECT = "and it may be meant to protect them."
REMOVE = "Remove it to have them served without that protection."


def read(annotations: dict[str, str]) -> Ingress:
    raw = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a", "annotations": annotations}}
    found = parse_object(raw)
    assert isinstance(found, Ingress)
    return found


def told(key: str, value: str = "10.0.0.0/8") -> tuple[bool, str]:
    """Return whether the routes answer 500, and what the object is told of the one annotation that it has."""
    found = read({key: value})
    assert len(found.problems) == 1
    return bool(found.features.fault), found.problems[0].message.removeprefix(f"metadata.annotations[{key}]: ")


MISSPELT = {
    "Allow-CIDRs": "allow-cidrs",
    "ALLOW-CIDRS": "allow-cidrs",
    "allow_cidrs": "allow-cidrs",
    "allowCIDRs": "allow-cidrs",
    "allow-cidr": "allow-cidrs",
    "denycidrs": "deny-cidrs",
    "deny-list": "deny-cidrs",
    "ip-allow": "allow-cidrs",
    "origin": "origins",
    "orgins": "origins",
    "origins-allowed": "origins",
    "Limits-connections": "limits-connections",
    "limts-conections": "limits-connections",
    "limits.connectionsPerClient": "limits-connections-per-client",
}


@pytest.mark.parametrize(("written", "meant"), MISSPELT.items())
def test_misspelt_guard_of_ours_is_not_served_without_and_told_by_name(written: str, meant: str) -> None:
    assert told(OURS + written) == (True, f"{ANSWER_500}{OURS_ABSENT}, {PROTECT} {OURS}{meant} may be meant.")


def test_key_that_is_near_to_several_guards_is_told_of_them() -> None:
    either = f"{OURS}limits-connections or {NGINX}limit-connections may be meant."
    assert told(OURS + "limit-connections") == (True, f"{ANSWER_500}{OURS_ABSENT}, {PROTECT} {either}")
    either = f"{OURS}allow-cidrs or {OURS}deny-cidrs may be meant."
    assert told(OURS + "cidrs") == (True, f"{ANSWER_500}{OURS_ABSENT}, {PROTECT} {either}")


@pytest.mark.parametrize("name", ["Auth-url", "basic-auth", "require-auth", "jwt", "waf", "enable-modsecurity", "server-snippet"])
def test_guard_that_is_not_there_yet_is_told_so(name: str) -> None:
    assert told(OURS + name) == (True, f"{ANSWER_500}{OURS_ABSENT}, {PROTECT} {REMOVE}")


@pytest.mark.parametrize(
    ("written", "meant"),
    {
        "timeout-idle": f"{OURS}timeouts-idle may be meant",
        "timeouts.maxAge": f"{OURS}timeouts-max-age may be meant",
        "hash-on-client-ip": f"{OURS}load-balancing-hash-on-client-ip may be meant",
        "rebalance-rates": f"{OURS}rebalance-rate may be meant",
        "force-ssl-redirect": f"{NGINX}force-ssl-redirect may be meant",
        "cors-allow-origin": "docs/ingress.md lists those that there are",
        "description": "docs/ingress.md lists those that there are",
    }.items(),
)
def test_other_unknown_key_of_ours_is_told_of_and_served(written: str, meant: str) -> None:
    assert told(OURS + written) == (False, f"there is no such annotation; {meant}.")


@pytest.mark.parametrize(
    ("written", "meant"),
    {
        "whitelist-sourcerange": "whitelist-source-range",
        "denylist-source-ranges": "denylist-source-range",
        "limit-rsp": "limit-rps",
        "Limit-RPM": "limit-rpm",
        "allow-cidrs": f"{OURS}allow-cidrs",
    }.items(),
)
def test_misspelt_guard_of_ingress_nginx_is_not_served_without(written: str, meant: str) -> None:
    assert told(NGINX + written) == (True, f"{ANSWER_500}{THEIRS_ABSENT}, {PROTECT} {meant} may be meant.")
    assert [told(NGINX + written, value)[0] for value in ("", "0", "false", "off")] == [False] * 4


def test_misspelt_guard_of_ingress_nginx_that_is_not_read_is_told_what_that_one_is_told() -> None:
    assert told(NGINX + "auth-ulr", "http://auth") == (
        True,
        f"{THEIRS_ABSENT}; auth-url may be meant. T{sentence_about(ANNOTATIONS[NGINX + 'auth-url'], 'http://auth')[1:]}",
    )
    assert told(NGINX + "auth-ulr", "") == (
        False,
        f"{THEIRS_ABSENT}; auth-url may be meant. auth-url is not supported yet, and its value asks for nothing. Remove it.",
    )


@pytest.mark.parametrize("name", ["basic-auth", "lua-resty-waf", "global-rate-limit"])
def test_key_under_the_prefix_of_ingress_nginx_that_reads_like_a_guard_is_one(name: str) -> None:
    assert told(NGINX + name) == (True, f"{ANSWER_500}{THEIRS_ABSENT}, {PROTECT} {REMOVE}")


@pytest.mark.parametrize(
    ("written", "meant"),
    {
        "proxy-read-timeuot": "; proxy-read-timeout may be meant.",
        "cors-allow-orign": f"; cors-allow-origin may be meant. {sentence_about(ANNOTATIONS[NGINX + 'cors-allow-origin'], '')}",
        "ssl-redirct": "; ssl-redirect may be meant.",
        "canry": "; canary may be meant.",
        "secure-backends": ", and it has no effect. Remove it.",
    }.items(),
)
def test_other_unknown_key_of_ingress_nginx_is_told_of_and_served(written: str, meant: str) -> None:
    assert told(NGINX + written, "true") == (False, THEIRS_ABSENT + meant)


@pytest.mark.parametrize("key", GUARDS)
@settings(max_examples=20)
@given(data=st.data())
def test_guard_with_a_slip_of_the_pen_is_never_served_without(key: str, data: st.DataObject) -> None:
    prefix, _, name = key.partition("/")
    place = data.draw(st.integers(0, len(name) - 2))
    slip = data.draw(
        st.sampled_from(
            (
                name[:place] + name[place + 1 :],
                name[:place] + name[place + 1] + name[place] + name[place + 2 :],
                name[:place] + "x" + name[place:],
                name[:place] + name[place].upper() + name[place + 1 :],
                name.replace("-", "_"),
                name.replace("-", ""),
            )
        )
    )

    # Two of the same letters may change places, and a key may become another one that is read.
    assert f"{prefix}/{slip}" in KNOWN._read or told(f"{prefix}/{slip}")[0]


@pytest.mark.parametrize("key", HARMLESS)
def test_key_that_guards_nothing_with_a_slip_of_the_pen_is_served(key: str) -> None:
    assert told(key + "x", "1")[0] is False
    assert f"{key} " in told(key + "x", "1")[1]


def in_full(one: str, other: str) -> int:
    rows = [[*range(len(other) + 1)], *([number] + [0] * len(other) for number in range(1, len(one) + 1))]
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


@given(st.text("abc", max_size=8), st.text("abc", max_size=8), st.integers(0, MOST_MISSPELT))
def test_letters_are_counted_as_without_the_shortcut(one: str, other: str, most: int) -> None:
    apart = in_full(one, other)

    assert misspelt_letters(one, other, most) == (apart if apart <= most else None)


def test_keys_of_other_controllers_are_told_once() -> None:
    annotations = {
        "haproxy.org/allow-list": "10.0.0.0/8",
        "nginx.org/websocket-services": "chat",
        "traefik.ingress.kubernetes.io/router.tls": "true",
        "haproxy-ingress.github.io/allowlist-source-range": "10.0.0.0/8",
        "alb.ingress.kubernetes.io/scheme": "internal",
        "kubernetes.io/ingress.allow-http": "false",
    }
    found = read(annotations)

    assert [problem.message for problem in found.problems] == [
        f"metadata.annotations: {', '.join(sorted(annotations))}: not read, as only keys under {OURS} and {NGINX} are."
    ]
    assert found.features.fault == ""


def test_of_many_keys_of_other_controllers_ten_are_named() -> None:
    (problem,) = read({f"haproxy.org/{letter}": "x" for letter in "abcdefghijklm"}).problems

    assert "haproxy.org/j and 3 more: not read" in problem.message


@pytest.mark.parametrize(
    ("key", "meant"),
    {
        "nginx.ingress.kubernets.io/limit-rps": NGINX + "limit-rps",
        "nginx.ingress.kubernetes.oi/limit-rps": NGINX + "limit-rps",
        "sluice.io/allow-cidrs": OURS + "allow-cidrs",
        "Sluice.dev/allow-cidrs": OURS + "allow-cidrs",
        "slice.dev/allowCIDRs": OURS + "allow-cidrs",
        "allow-cidrs": OURS + "allow-cidrs",
    }.items(),
)
def test_key_without_the_right_prefix_is_told_of_with_the_key_that_may_be_meant(key: str, meant: str) -> None:
    (problem,) = read({key: "10.0.0.0/8"}).problems

    assert (
        problem.message
        == f"metadata.annotations: {key}: not read, as only keys under {OURS} and {NGINX} are; {meant} may be meant."
    )


def test_annotations_of_tools_are_none_of_our_business() -> None:
    keys = """
        cert-manager.io/cluster-issuer acme.cert-manager.io/http01-edit-in-place kubectl.kubernetes.io/last-applied-configuration
        meta.helm.sh/release-name argocd.argoproj.io/sync-wave external-dns.alpha.kubernetes.io/hostname kubernetes.io/tls-acme
        field.cattle.io/publicEndpoints kubernetes.io/ingress.class gethomepage.dev/enabled linkerd.io/inject team example.com/owner
    """
    assert read(dict.fromkeys(keys.split(), "x")).problems == ()


def test_page_names_every_word_by_which_a_key_reads_like_a_guard() -> None:
    text = (Path(__file__).parents[3] / "docs" / "ingress.md").read_text()
    rule = text.split("reads like a guard:", 1)[1].split("\n\n", 1)[0]

    assert set(re.findall(r"`([a-z]+)`", rule)) == {*GUARD_WORDS, *SHORT_GUARD_WORDS}
