"""Results as tables, sentences and JSON. Knows nothing of how they are measured."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OURS = ("sluice", "compiled")
PEERS = ("nginx", "haproxy", "caddy", "envoy")
FLOOR = "relay"
"""The relay that only copies: beside the peers, never one of them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the values of each round by column."""

    name: str
    unit: str
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    goal: float = 0.0
    limit: float = 0.0
    """Of ours over the best peer: what is wanted, and above what the project is not done. Rows without a goal are not judged."""
    higher: bool = False
    """More is better, and the limit is one from below."""
    alone: bool = False
    """Goal and limit are of our own figures, not of a ratio."""

    @property
    def label(self) -> str:
        """Name with unit."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    def medians(self) -> dict[str, float]:
        """Return the median of each column."""
        return {name: statistics.median(values) for name, values in self.values.items()}

    def ratios(self) -> dict[str, float]:
        """Return each of ours over the best peer; empty without peers."""
        medians = self.medians()
        peers = [medians[name] for name in PEERS if name in medians]
        best = (max if self.higher else min)(peers, default=0.0)
        return {name: medians[name] / best for name in OURS if name in medians and best}

    def beyond(self) -> dict[str, float]:
        """Return those of ours, or their ratios, that do not keep the limit."""
        if not self.goal:
            return {}
        medians = self.medians()
        found = {name: medians[name] for name in OURS if name in medians} if self.alone else self.ratios()
        return {name: value for name, value in found.items() if (value < self.limit if self.higher else value > self.limit)}


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the nearest-rank quantile of what is in order: the least value that `share` of all do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def figure(value: float) -> str:
    """Write a value: small ones are ratios or milliseconds and have two digits behind the point."""
    return f"{value:.0f}" if value >= 10_000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def header(first: str, columns: Sequence[str]) -> str:
    """Return the head of a table."""
    cells = [first, *columns, "ours / best peer: plain / compiled", "goal / limit"]
    return f"| {' | '.join(cells)} |\n{'|---' * len(cells)}|"


def line(row: Row, columns: Sequence[str]) -> str:
    """Return one row of a table: medians with their spread, and ours over the best peer."""
    cells = []
    for name, median in row.medians().items():
        low, high = min(row.values[name]), max(row.values[name])
        cells.append(figure(median) if low == high else f"{figure(median)} ({figure(low)}-{figure(high)})")
    found = dict(zip(row.values, cells, strict=True))
    ratios = " / ".join(f"{ratio:.2f}" for ratio in row.ratios().values())
    wanted = f"{row.goal:g} / {row.limit:g}" if row.goal else "-"
    return f"| {row.label} | {' | '.join(found.get(name, '-') for name in columns)} | {ratios or '-'} | {wanted} |"


def beyond_limits(rows: Sequence[Row]) -> str:
    """Return the rows that do not keep their limits."""
    said = []
    for row in rows:
        if found := row.beyond():
            figures = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
            said.append(f"{row.name} ({figures}; limit {row.limit:g})")
    if not said:
        return "Nothing that was measured in this run is above its limit." if rows else ""
    return f"Above the limit in this run (below it, where more is better): {'; '.join(said)}."


def not_measured(wanted: Sequence[str], columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Return which of the rows and columns that there are have no figures."""
    seen = {row.label for row in rows}
    said = [name for name in wanted if name not in seen]
    said += [f"all of {name}" for name in columns if not any(name in row.values for row in rows)]
    return f"Not measured in this run: {'; '.join(said)}." if said else ""


def as_json(about: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Return every value of every round, and what `about` says of the run."""
    listed = [
        {
            "name": row.name,
            "unit": row.unit,
            "values": {name: list(values) for name, values in row.values.items()},
            "medians": row.medians(),
            "ours_over_best_peer": row.ratios(),
            "goal": row.goal or None,
            "limit": row.limit if row.goal else None,
            "higher_is_better": row.higher,
            "judged": None if not row.goal else "ours" if row.alone else "ours over the best peer",
        }
        for row in rows
    ]
    return json.dumps({**about, "rows": listed}, indent=2) + "\n"
