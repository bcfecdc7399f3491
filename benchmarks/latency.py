"""Latency at a fixed rate, counted from when a request was due: `open_loop.c` sends, whatever the answers take."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from peers import CORES, LOAD_CORES, Proxy
from programs import program
from report import Row, quantile

CONNECTIONS = 64
TIMES_SECONDS = 3
"""Longer than other measurements by this: a thousandth of a short one is a handful of requests."""
TOO_MUCH = 3
"""The exit code of the load that says so."""
BORNE = 20_000.0
"""Microseconds: where half of the requests take longer, what is due grows faster than what is answered."""
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
GAP = "longest time without an answer"


@dataclass(frozen=True, slots=True)
class Fixed:
    """A load at a fixed rate, which the slowest of the peers takes with about half of its core."""

    name: str
    kind: str
    rate: int
    tls: bool = False

    def row(self, part: str, values: Mapping[str, list[float]]) -> Row:
        """Return the row of one figure."""
        return Row(f"{self.name}, {self.rate:,} a second: {part}", "µs", values)


FIXED = (
    Fixed("HTTP GET", "http", 2500),
    Fixed("HTTPS GET", "http", 2500, tls=True),
    Fixed("WS echo 64 B", "ws", 5000),
)
PARTS = (*SHARES, GAP)


@dataclass(frozen=True, slots=True)
class Found:
    """Figures of one round, in microseconds."""

    parts: Mapping[str, float]
    pause: float
    """The longest of the load itself, where it has a core of its own: as much of the latencies may be its."""
    busy: float
    """The share of a core that the proxy used."""


def at_fixed_rate(fixed: Fixed, proxy: Proxy, seconds: float) -> Found | None:
    """Send for some seconds; None where the proxy could not bear the rate at all."""
    # A load that never sleeps needs a core that neither the proxy nor the backend needs.
    spins = len(CORES) >= 4
    arguments = [fixed.kind, proxy.https if fixed.tls else proxy.http, int(fixed.tls), CONNECTIONS, fixed.rate, seconds, int(spins)]
    command = ["taskset", "-c", str(CORES[-1]) if spins else LOAD_CORES, str(program("open_loop")), *map(str, arguments)]
    start = proxy.cpu()
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds + 60)
    used = proxy.cpu() - start
    if ran.returncode == TOO_MUCH:
        return None
    if ran.returncode:
        raise SystemExit(f"{proxy.name}, {fixed.name}: {ran.stderr}")
    gap, pause, *latencies = (int(text) / 1000 for text in ran.stdout.split())
    latencies.sort()
    parts = {name: quantile(latencies, share) for name, share in SHARES.items()}
    return Found({**parts, GAP: gap}, pause, used / (seconds + 0.5))


def sentences(found: Mapping[Fixed, Mapping[str, Sequence[Found | None]]]) -> list[str]:
    """Return which rates were asked for, which proxies bore them, and what the load itself adds."""
    said, busiest, pause = [], (0.0, ""), 0.0
    for fixed, columns in found.items():
        said.append(f"{fixed.rate:,} a second for {fixed.name}")
        for name, rounds in columns.items():
            for one in rounds:
                if one is not None:
                    busiest = max(busiest, (one.busy, f"{name} at {fixed.name}"))
                    pause = max(pause, one.pause)
    failed = [
        f"{name} at {fixed.name}"
        for fixed, columns in found.items()
        for name, rounds in columns.items()
        if any(one is None or one.parts["p50"] > BORNE for one in rounds)
    ]
    bore = f"Not borne by {', '.join(failed)}, in one round at least." if failed else "All of them bore it."
    lines = [f"Rates: {', '.join(said)}. {bore}", f"The busiest was {busiest[1]}, with {busiest[0] * 100:.0f} % of its core."]
    if pause:
        lines.append(f"The load itself paused for {pause / 1000:.1f} ms at most: of the longest times, as much may be its.")
    return lines
