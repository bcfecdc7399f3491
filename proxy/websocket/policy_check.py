# Compiled by mypyc: see setup.py.
"""Checks of the policies that a tunnel carries out, once when a route is compiled: a guard without sense must not be left out."""

from proxy.model.policy import Keepalive, MessageLimits, Policy


def policy_problem(policy: Policy) -> str:
    """Return what is wrong with a policy that tunnels carry out; empty: nothing."""
    if isinstance(policy, Keepalive) and not (policy.interval > 0 and policy.misses > 0):
        return f"keepalive {policy.interval:g} s, {policy.misses} misses: both must be above zero"
    if isinstance(policy, MessageLimits) and not (policy.size >= 0 and policy.rate >= 0 and policy.burst > 0):
        return f"limits of messages {policy.size} bytes, {policy.rate:g} per second, burst {policy.burst}: none may be below zero"
    return ""
