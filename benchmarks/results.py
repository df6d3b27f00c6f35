"""What a measurement yields: rows for the tables and the charts.

The times are kept as pyperf benchmarks, which know the machine and the interpreter that they come from, and the moment.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyperf

UNITS = {"s": 1, "ms": 1e-3, "us": 1e-6}
Progress = Callable[[str], None]  # called with what comes next, once per step


class BenchmarkError(Exception):
    """Something went wrong that makes the results worthless."""


class Middle(NamedTuple):
    """The median and the two quartiles: the middle half lies between those."""

    median: float
    low: float
    high: float


def middle(values: Sequence[float]) -> Middle:
    if len(values) == 1:
        return Middle(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, method="inclusive")
    return Middle(median, low, high)


@dataclass
class Row:
    """fastmux and its counterpart, measured in the same rounds."""

    chapter: str
    #: The heading that it stands under: what is compared with what.
    section: str
    subject: str
    counterpart: str
    name: str
    #: Seconds, round by round.
    ours: pyperf.Benchmark
    theirs: pyperf.Benchmark
    #: Where the counterpart is no rival: what is said in place of a verdict.
    no_rival: str = ""
    #: Times as fast as the counterpart, round by round.
    ratio: Middle = field(init=False)

    def __post_init__(self) -> None:
        pairs = zip(self.theirs.get_values(), self.ours.get_values())
        self.ratio = middle([theirs / ours for theirs, ours in pairs])

    @property
    def title(self) -> str:
        return f"{self.section}: {self.name}"

    @property
    def verdict(self) -> str:
        """In a word. Where the middle half of the rounds lies on both sides of 1.00, nothing can be said."""
        if self.no_rival:
            return self.no_rival
        if round(self.ratio.low, 2) > 1:
            return "faster"
        return "slower" if round(self.ratio.high, 2) < 1 else "unclear"


@dataclass
class Results:
    rows: list[Row] = field(default_factory=list)
    #: Times that are drawn as lines: chart -> line -> {number of connections: seconds}
    curves: dict[str, dict[str, dict[int, Middle]]] = field(default_factory=dict)
    #: What was left out, and why; what else a reader must know.
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def timed(name: str, seconds: Sequence[float], **metadata: Any) -> pyperf.Benchmark:
    """Keep times that were not measured by measure.py."""
    return pyperf.Benchmark([pyperf.Run(seconds, metadata={"name": name, **metadata})])


def times(ratio: float) -> str:
    """Spell a ratio."""
    return f"{ratio:.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}"


def amount(seconds: float) -> str:
    """Spell a time with three digits."""
    unit, size = next(((unit, size) for unit, size in UNITS.items() if seconds >= size), ("ns", 1e-9))
    value = seconds / size
    return f"{value:.{0 if value >= 100 or unit == 'ns' else 1 if value >= 10 else 2}f} {unit}"
