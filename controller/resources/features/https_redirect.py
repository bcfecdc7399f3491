"""Redirects from plain HTTP to https."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpsRedirectSpec:
    """When requests are redirected."""

    always: bool = False
    where_tls: bool = False
    """Where the host has a certificate, which other objects may name too."""
