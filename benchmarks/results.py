"""What a measurement yields: rows for the table and the chart."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Progress = Callable[[str], None]  # called with what comes next, once per step


class BenchmarkError(Exception):
    """Something went wrong that makes the results worthless."""


@dataclass
class Row:
    """fastmux and its counterpart, measured in the same rounds."""

    chapter: str
    section: str
    #: What is compared with what.
    counterpart: str
    subject: str
    name: str
    unit: str
    standard: float
    fastmux: float
    #: Times as fast as the counterpart: the median over the rounds, and the quartiles beside it.
    ratio: float
    low: float
    high: float
    #: The time of fastmux divided by that of the same loop in C.
    of_c: float | None = None

    @classmethod
    def of_calls(
        cls,
        chapter: str,
        section: str,
        counterpart: str,
        subject: str,
        name: str,
        standard: Sequence[float],
        fastmux: Sequence[float],
    ) -> Row:
        """Make it from the nanoseconds per call of both, round by round. The least time is the one to show: nothing
        makes a call faster than it is."""
        least = min(standard), min(fastmux)
        return cls(chapter, section, counterpart, subject, name, "ns", *least, *ratios(standard, fastmux))

    @property
    def verdict(self) -> str:
        """In words. Where the middle half of the rounds lies on both sides of 1.00, nothing can be said."""
        if round(self.low, 2) > 1:
            return "faster"
        return "slower" if round(self.high, 2) < 1 else "unclear"


@dataclass
class Results:
    rows: list[Row] = field(default_factory=list)
    #: What was left out, and why; what else a reader must know.
    notes: list[str] = field(default_factory=list)
    #: Every single measurement, for the JSON file.
    raw: dict[str, Any] = field(default_factory=dict)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, float, float]:
    """Return the median and the quartiles of the ratios, round by round."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(numerators, denominators)], method="inclusive")
    return middle, low, high
