"""For every CEL rule of the CRD, by its message: values of the place that has the rule which it takes, and values which it refuses.

The first good value also stands for the place wherever an object needs one, so no other rule may refuse it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BACKENDS = {"backends": [{"service": "chat", "port": 80}]}
RULE = {"http": BACKENDS}
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
    "limits is not supported yet": _refused("limits", {}, {"connections": 1}, {"unheardOf": 1}),
    "origins is not supported yet": _refused("origins", [], ["https://app.example.com"]),
    "allowCIDRs is not supported yet": _refused("allowCIDRs", [], ["192.0.2.0/24"]),
    "denyCIDRs is not supported yet": _refused("denyCIDRs", [], ["192.0.2.0/24"]),
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
}
