"""One run of the benchmarks: what was asked for, and what was found so far."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from certificates import Certificate
from report import Row, header, line


@dataclass(slots=True)
class Run:
    """The inputs of each measurement, and where its results go."""

    folder: Path
    """Its own, gone at the end."""
    certificate: Certificate
    port: int
    """The backend's."""
    rounds: int
    seconds: float
    peers: Sequence[str]
    floor: bool = True
    """Whether the relay that only copies is measured too."""
    further: Sequence[str] = ()
    """NAME=DIR of further checkouts of ours."""
    lines: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    columns: Sequence[str] = ()

    def say(self, text: str) -> None:
        """Print, and keep for RESULTS.md."""
        self.lines.append(text)
        print(text, flush=True)

    def table(self, first: str, columns: Sequence[str]) -> None:
        """Begin a table."""
        self.columns = columns
        if self.lines:
            self.say("")
        self.say(header(first, columns))

    def tell(self, row: Row) -> None:
        """Take a row of the table."""
        self.rows.append(row)
        self.say(line(row, self.columns))
