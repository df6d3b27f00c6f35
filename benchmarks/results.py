"""Results of measurements: rows for the tables and the charts.

Times are stored as pyperf benchmarks, which carry the machine, the interpreter and the date.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyperf

UNITS = {"s": 1, "ms": 1e-3, "us": 1e-6}
#: Ends of the names of two rows: a server just started, and one that had clients before.
FRESH, LOADED = ", fresh", ", after load"
Progress = Callable[[str], None]  # called at the start of each step, with its description


class BenchmarkError(Exception):
    """An error that invalidates the results."""


class Quartiles(NamedTuple):
    """The median with the first and the third quartile."""

    median: float
    low: float
    high: float


def quartiles(values: Sequence[float]) -> Quartiles:
    if len(values) == 1:
        return Quartiles(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, method="inclusive")
    return Quartiles(median, low, high)


@dataclass
class Row:
    """fastmux and its counterpart, measured in the same rounds."""

    chapter: str
    #: The heading above the row: names the two sides.
    section: str
    subject: str
    counterpart: str
    name: str
    #: Seconds per round; bytes, if this is the unit of the benchmark.
    ours: pyperf.Benchmark
    theirs: pyperf.Benchmark
    #: Set if the counterpart is a reference, not a competitor: replaces the verdict.
    reference: str = ""
    #: Speed relative to the counterpart, per round; above 1: fastmux is faster.
    ratio: Quartiles = field(init=False)

    def __post_init__(self) -> None:
        pairs = zip(self.theirs.get_values(), self.ours.get_values())
        self.ratio = quartiles([theirs / ours for theirs, ours in pairs])

    @property
    def title(self) -> str:
        return f"{self.section}: {self.name}"

    @property
    def verdict(self) -> str:
        """Classify the ratio. It is unclear if the interquartile range contains 1.00."""
        if self.reference:
            return self.reference
        if round(self.ratio.low, 2) > 1:
            return "faster"
        return "slower" if round(self.ratio.high, 2) < 1 else "unclear"


@dataclass
class Results:
    rows: list[Row] = field(default_factory=list)
    #: Data of the line charts: chart -> line -> {number of connections: seconds}
    curves: dict[str, dict[str, dict[int, Quartiles]]] = field(default_factory=dict)
    #: Skipped measurements with the reason, and other remarks for the reader.
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def by_name(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Return name -> counterpart -> row."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row.name, {})[row.counterpart] = row
    return found


def as_benchmark(name: str, values: Sequence[float], unit: str = "second") -> pyperf.Benchmark:
    """Wrap values that calls/timing.py did not measure; unit is one of pyperf's."""
    return pyperf.Benchmark([pyperf.Run(values, metadata={"name": name, "unit": unit})])


def format_ratio(ratio: float) -> str:
    return f"{ratio:.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}"


def format_median(benchmark: pyperf.Benchmark) -> str:
    """Format a time with three digits, or a size."""
    seconds = benchmark.median()
    if benchmark.get_unit() == "byte":
        return f"{seconds:,.0f} B"
    unit, size = next(((unit, size) for unit, size in UNITS.items() if seconds >= size), ("ns", 1e-9))
    value = seconds / size
    return f"{value:.{0 if value >= 100 or unit == 'ns' else 1 if value >= 10 else 2}f} {unit}"
