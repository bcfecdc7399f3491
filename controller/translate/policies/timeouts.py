"""Time limits."""

from dataclasses import fields

from controller.resources.features import Features
from controller.resources.features.proxy_timeouts import ProxyTimeouts
from controller.resources.features.timeouts import TimeoutsSpec
from controller.translate.route_context import RouteContext
from proxy.model.policy import Timeouts

TRIES = 3
"""Attempts that ingress-nginx makes to connect (proxy-next-upstream-tries)."""


def translate_timeouts(features: Features, _context: RouteContext) -> tuple[Timeouts, ...]:
    """Make the policy of the timeouts that were written, unless all are the defaults. Ours win over ingress-nginx's."""
    written: dict[str, float] = {}
    if features.proxy_timeouts is not None:
        written.update(_as_ours(features.proxy_timeouts))
    if features.timeouts is not None:
        ours = ((field.name, getattr(features.timeouts, field.name)) for field in fields(TimeoutsSpec))
        written.update((name, seconds) for name, seconds in ours if seconds is not None)
    policy = Timeouts(**written)
    return () if policy == Timeouts() else (policy,)


def translate_proxy_timeouts(features: Features, context: RouteContext) -> tuple[Timeouts, ...]:
    """Make the policy where nothing but ingress-nginx's annotations speaks of time."""
    return translate_timeouts(features, context) if features.timeouts is None else ()


def _as_ours(timeouts: ProxyTimeouts) -> dict[str, float]:
    """Say the same in ours, so that nothing is cut earlier than there."""
    seconds: dict[str, float] = {}
    if timeouts.connect is not None:
        # There it is for one attempt. Here one takes a third of it while there are others, and ours is enough for short ones.
        seconds["connect"] = float(min(TRIES * timeouts.connect, max(Timeouts().connect, timeouts.connect)))
    if timeouts.read is not None:
        seconds["response"] = seconds["handshake"] = float(timeouts.read)
        # There a ping counts as well, here only bytes of the application: what is shorter than ours would cut who pings.
        seconds["idle"] = float(max(Timeouts().idle, timeouts.read))
    if timeouts.send is not None:
        seconds["send"] = float(timeouts.send)
    return seconds
