# Compiled by mypyc: see setup.py.
"""Which codec speaks over a connection to a backend. Here a further version of HTTP is added, and nowhere else."""

from proxy.exchange.contract import UpstreamCodec, UpstreamEvents
from proxy.exchange.http1_response import Http1Upstream
from proxy.runtime.state import Runtime
from proxy.upstream.http1_connection import UpstreamConnection


def open_upstream(connection: UpstreamConnection, exchange: UpstreamEvents, runtime: Runtime) -> UpstreamCodec:
    """Let an exchange have a connection."""
    return Http1Upstream(connection, exchange, runtime)
