"""Compiles the modules of the hot path with mypyc where SLUICE_NATIVE=1 asks for it; else the package is plain Python.

The Python modules are the reference: the same tests run over both, and an install without a compiler lacks nothing but speed.
"""

import os
from pathlib import Path

from setuptools import setup

NATIVE = (
    "proxy/shared_memory/counters.py",
    "proxy/transport/timer_wheel.py",
    "proxy/http/message.py",
    "proxy/exchange/accounting.py",
    "proxy/http1/render.py",
    "proxy/http1/chunked.py",
    "proxy/upstream/http1_connection.py",
    "proxy/exchange/http1_response.py",
    "proxy/http1/fields.py",
    "proxy/http1/head_scanner.py",
    "proxy/http1/partial_head.py",
    "proxy/http1/request_line.py",
    "proxy/exchange/http1_request.py",
    "proxy/exchange/http1_downstream.py",
    "proxy/platform/socket_queues.py",
    "proxy/listeners/accept.py",
    "proxy/observability/worker_stats.py",
    "proxy/routing/hosts.py",
    "proxy/routing/paths.py",
    "proxy/routing/table.py",
    "proxy/transport/run_queue.py",
    "proxy/runtime/state.py",
    "proxy/tls/client_hello.py",
    "proxy/tls/stream.py",
    "proxy/tls/certificates.py",
    "proxy/upstream/balance.py",
    "proxy/upstream/cookies.py",
    "proxy/upstream/rendezvous.py",
    "proxy/upstream/outlier_detection.py",
    "proxy/upstream/ewma.py",
    "proxy/upstream/affinity.py",
    "proxy/upstream/pool.py",
    "proxy/upstream/engine_io.py",
    "proxy/websocket/socket_stats.py",
    "proxy/websocket/policy_check.py",
    "proxy/websocket/control_frames.py",
    "proxy/websocket/frames.py",
    "proxy/websocket/handshake.py",
    "proxy/websocket/pings.py",
    "proxy/websocket/message_rate.py",
    "proxy/websocket/tunnel.py",
)
"""What a byte of traffic passes through. No subclass of asyncio's or msgspec's classes can be compiled."""

if os.environ.get("SLUICE_NATIVE") == "1":
    from mypyc.build import mypycify

    os.chdir(Path(__file__).parent)
    setup(ext_modules=mypycify(list(NATIVE), group_name="sluice", opt_level="3", debug_level="0"))
else:
    setup()
