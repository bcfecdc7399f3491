"""Write docs/metrics.md from the table of metrics; `--check` says whether it is up to date."""

import sys
from pathlib import Path

from proxy.observability.metrics import METRICS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
HEAD = """# Metrics

One scrape of the admin port covers all workers of the proxy. Written by `tools/metrics_page.py` from the code.

`route` is `wsroute/NAMESPACE/NAME/RULE` or `ingress/NAMESPACE/NAME/INDEX`, `-` for requests that no route serves and for sockets
whose route is gone; `service` is `NAMESPACE/NAME:PORT`. Series go away with their route or Service. `by` is `client`, `backend` or
`proxy:CAUSE`; [closing.md](closing.md) has the causes of closes. `cause` is one of those in
[troubleshooting.md](troubleshooting.md#why-a-request-failed): in `sluice_upstream_errors_total` of backends, in
`sluice_http_local_replies_total` any but those of sockets. `direction` is `in` from the client, `out` towards it.
INDEX counts the paths of an Ingress in their order, and is `default` for its `defaultBackend`. `method` is one of RFC 9110's
eight or PATCH, else `other`; `code` of an answer is its status, of a close 1000 to 1015 and at most 32 others for each route,
then `other`. So no client makes up a series.

Counters and histograms go on when a worker is replaced; gauges are of the workers that live. *Over workers* says how the pod's
value comes of theirs; what has none is the supervisor's own.

Prometheus gives a scraped pod labels of its own, one of which may be `service`: scrape with `honor_labels: true` (a ServiceMonitor:
`honorLabels`), else ours becomes `exported_service`, and neither the alert rules nor the dashboard find it.

A WebSocket is in no histogram of requests, however long it lives: `sluice_ws_handshakes_total` has the upgrades,
`sluice_ws_connection_duration_seconds` the lifetimes. An upgrade that is refused counts as an answered request too.

| name | type | labels | over workers | meaning |
|---|---|---|---|---|
"""
OVER_WORKERS = {"sum": "sum", "highest": "highest", "last": "the one heard last", "pod": ""}


def page() -> str:
    """Return the whole page."""
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {OVER_WORKERS[metric.adds]} | {metric.help} |\n"
        for metric in METRICS
    ]
    return HEAD + "".join(rows)


def main() -> int:
    """Write or check; return the exit code."""
    if "--check" in sys.argv:
        return 0 if PAGE.read_text() == page() else 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
