"""For every CEL rule of the CRD, by its message: values of the place that has the rule which it takes, and values which it refuses.

The first good value also stands for the place wherever an object needs one, so no other rule may refuse it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BACKENDS = {"backends": [{"service": "chat", "port": 80}]}
RULE = {"http": BACKENDS}
POD = {"websocket": {**BACKENDS, "target": "Pod"}}
HASHED = {"policy": "Hash", "hashOn": {"header": "X-User"}}
REBALANCE = {"above": "1.3", "rate": "5/s"}
_ODD_PATHS = (
    *("//", "/a//b", "/.", "/a/./b", "/..", "/a/../b", "/a\\b"),
    *("/a%2fb", "/a%2Fb", "/%00", "/%", "/%4", "/%4x", "/%x4"),
)


@dataclass(frozen=True)
class CelCase:
    """Values of `self`."""

    good: Sequence[Any]
    bad: Sequence[Any]


def _refused(guard: str, *values: object) -> CelCase:
    """A field that does not work yet: nothing that it may hold, and neither an empty value, is let through."""
    return CelCase([RULE], [{**RULE, guard: value} for value in values])


CEL_CASES: Mapping[str, CelCase] = {
    "target Pod needs a path of type Prefix, or only wildcard hosts": CelCase(
        [
            {"rules": [RULE]},
            {"rules": [POD, {**RULE, "name": "a", "path": {"type": "Exact", "value": "/a"}}]},
            {"hosts": ["*.example.com"], "rules": [{**POD, "path": {"type": "Regex", "value": "/.*"}}]},
        ],
        [
            {"rules": [{**POD, "path": {"type": "Exact", "value": "/a"}}]},
            {"hosts": ["*.example.com", "a.example.com"], "rules": [RULE, {**POD, "path": {"type": "Regex", "value": "/.*"}}]},
        ],
    ),
    "each rule needs a name of its own": CelCase(
        [[RULE], [{**RULE, "name": "a"}, {**RULE, "name": "b"}, RULE, RULE]],
        [[{**RULE, "name": "a"}, {**RULE, "name": "b"}, {**RULE, "name": "a"}]],
    ),
    "the name of a rule must not be the index of another that has none": CelCase(
        [[RULE], [{**RULE, "name": "0"}, RULE], [RULE, {**RULE, "name": "2"}], [RULE, {**RULE, "name": "00"}]],
        [[RULE, {**RULE, "name": "0"}], [{**RULE, "name": "2"}, {**RULE, "name": "b"}, RULE]],
    ),
    "at least one of websocket and http is needed": CelCase(
        [RULE, {"websocket": BACKENDS}, {"http": BACKENDS, "websocket": BACKENDS}],
        [{}, {"name": "a", "path": {"type": "Exact", "value": "/a"}}],
    ),
    "auth is not supported yet": _refused("auth", {}, {"jwt": {"issuer": "https://id.example.com"}}, {"unheardOf": 1}),
    "rewrite needs a path of type Prefix or Exact": CelCase(
        [
            RULE,
            {**RULE, "rewrite": {"prefix": "/"}},
            {**RULE, "path": {"type": "Exact", "value": "/a"}, "rewrite": {"prefix": "/b"}},
        ],
        [{**RULE, "path": {"type": "Regex", "value": "/a"}, "rewrite": {"prefix": "/b"}}],
    ),
    "value must begin with /": CelCase(
        [{}, {"type": "Prefix", "value": "/a"}, {"type": "Exact", "value": "/a"}, {"type": "Regex", "value": "[ab]/c"}],
        [{"value": "a"}, {"type": "Prefix", "value": "*"}, {"type": "Exact", "value": "a/"}],
    ),
    "value must have no empty or dot segments, encoded slashes or broken escapes": CelCase(
        [{}, {"value": "/a/"}, {"value": "/a.b/..c/.d"}, {"value": "/%41%2e"}, {"type": "Regex", "value": "//[.]/%2f"}],
        [{"type": kind, "value": value} for kind in ("Prefix", "Exact") for value in _ODD_PATHS],
    ),
    "a duration above zero and of at most 87600h is needed": CelCase(
        ["1s", "0.5ms", "87600h", "1h30m", "87599h59m60s"],
        ["0s", "0h0m", "0.0000001ms", "87601h", "87600h1ms", "9999999999999999h"],
    ),
    "a duration of at most 87600h is needed": CelCase(["0s", "87600h"], ["87601h", "87600h1ms", "9999999999999999h"]),
    "prefix must have no empty or dot segments, encoded slashes or broken escapes": CelCase(["/", "/a/", "/a.b"], _ODD_PATHS),
    "hashOn is needed with policy Hash and with no other": CelCase(
        [HASHED, {}, {"policy": "Random2"}],
        [{"policy": "Hash"}, {"hashOn": {"clientIP": True}}, {**HASHED, "policy": "RoundRobin"}],
    ),
    "exactly one of clientIP, header, cookie and query is needed": CelCase(
        [{"header": "X-User"}, {"clientIP": True}, {"cookie": "user"}, {"query": "user"}],
        [{}, {"header": "X-User", "cookie": "user"}, {"clientIP": True, "query": "user"}],
    ),
    "clientIP can only be true": CelCase([{"clientIP": True}], [{"clientIP": False}]),
    "at least one of cookie and engineIO is needed": CelCase(
        [{"cookie": {}}, {"engineIO": {}}, {"cookie": {"name": "A", "maxAge": "1h"}, "engineIO": {}}], [{}]
    ),
    "a close code from 1000 to 1014 other than 1004, 1005 and 1006, or from 3000 to 4999, is needed": CelCase(
        [1012, 1000, 1003, 1007, 1014, 3000, 4999], [1004, 1005, 1006, 1015, 2999]
    ),
    "at most 123 bytes of UTF-8 are needed": CelCase(["service restart", "", "a" * 123, "ä" * 61], ["ä" * 62, "\u20ac" * 123]),
    "a duration from 1s to 24h is needed": CelCase(["30s", "1s", "24h", "1440m"], ["0s", "999ms", "24h1ms", "9999999999999999h"]),
    "a number above 1 and of at most 100 is needed": CelCase(
        ["1.3", "1.0001", "100", "100.0000"], ["1", "0.9999", "1.0000", "100.0001", "101"]
    ),
    "rebalance moves nothing with policy Hash, affinity.cookie or target Pod": CelCase(
        [RULE, {**RULE, "rebalance": REBALANCE}, {**RULE, "rebalance": REBALANCE, "affinity": {"engineIO": {}}}],
        [
            {**RULE, "rebalance": REBALANCE, "loadBalancing": HASHED},
            {**RULE, "rebalance": REBALANCE, "affinity": {"cookie": {}}},
            {**POD, "rebalance": REBALANCE},
        ],
    ),
    "preload needs includeSubDomains and a maxAge of at least 8760h, or browsers' lists refuse the host": CelCase(
        [
            {"maxAge": "8760h"},
            {"maxAge": "0s", "includeSubDomains": True},
            {"maxAge": "17520h", "includeSubDomains": True, "preload": True},
        ],
        [{"maxAge": "8760h", "preload": True}, {"maxAge": "8759h", "includeSubDomains": True, "preload": True}],
    ),
    "a field may be in one of set, add and remove": CelCase(
        [
            {"set": [{"name": "X-A", "value": "a"}], "add": [{"name": "X-B", "value": "b"}], "remove": ["X-C"]},
            {},
            {"remove": ["X-A"]},
        ],
        [
            {"set": [{"name": "X-A", "value": "a"}], "add": [{"name": "x-a", "value": "b"}]},
            {"set": [{"name": "X-A", "value": "a"}], "remove": ["X-B", "x-A"]},
            {"add": [{"name": "X-A", "value": "a"}], "remove": ["X-A"]},
        ],
    ),
    "a field may be named once": CelCase(
        [[{"name": "X-One", "value": "a"}, {"name": "X-Two", "value": "a"}]],
        [[{"name": "X-One", "value": "a"}, {"name": "x-one", "value": "b"}]],
    ),
    "a field may be removed once": CelCase([["X-Three", "X-Four"]], [["X-Three", "x-three"]]),
    "the proxy writes this field itself, as it frames, addresses or forwards the message": CelCase(
        ["X-Tenant", "Authorization", "X-Forwarded-Prefix", "Hosts"],
        [
            *("Host", "connection", "Content-Length", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Keep-Alive", "Expect"),
            *("Proxy-Connection", "Sec-WebSocket-Key", "sec-websocket-protocol", "Forwarded", "X-Real-IP", "X-Request-ID"),
            *("X-Forwarded-For", "x-forwarded-host", "X-Forwarded-Port", "X-Forwarded-Proto"),
        ],
    ),
    "the proxy writes this field itself, as it frames the message": CelCase(
        ["X-Frame-Options", "Host", "X-Request-ID", "Set-Cookie"],
        [
            *("connection", "Content-Length", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Keep-Alive"),
            *("Proxy-Connection", "Sec-WebSocket-Accept", "sec-websocket-extensions"),
        ],
    ),
}
