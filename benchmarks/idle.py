"""What idle connections cost: one wait with a few active ones among 10 to as many as there can be, by select, poll and
epoll; and how flat that is with epoll."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pyperf

from . import machine, process
from .results import BenchmarkError, Progress, Results, Row, middle

CHAPTER = "idle"
SIZES = (10, 30, 100, 300, 1000, 3000, 10_000, 30_000)
MOST = 100_000
ACTIVE = 10
#: Where "flat" begins.
FIRST = 100
#: Descriptors of a measurement that are not connections, with room to spare.
OTHERS = 64
#: How idle_calls.py begins a line that says what it measures next.
NEXT = "next: "
#: What is compared with Poller(mechanism).poll(0).
STANDARD = {"select": "select.select", "poll": "select.poll", "epoll": "select.epoll"}


@dataclass
class Settings:
    rounds: int
    batch: float  # seconds per candidate and round


QUICK = Settings(rounds=10, batch=0.001)
FULL = Settings(rounds=60, batch=0.005)


def sizes() -> list[int]:
    """10 to the limit of open files, or to MOST."""
    most = min(machine.descriptor_limit() - OTHERS, MOST)
    return [*(size for size in SIZES if size < most), most]


def steps(settings: Settings) -> int:
    return len(sizes()) + 2


def run(settings: Settings, workspace: Path, results: Results, progress: Progress) -> None:
    found = sizes()
    if found[-1] < SIZES[0]:
        raise BenchmarkError(f"more open files are needed than the hard limit, {machine.descriptor_limit()}")
    task = {"sizes": found, "active": ACTIVE, "first": FIRST, "rounds": settings.rounds, "batch": settings.batch}
    progress(f"{found[-1]:,} connections")
    command = [sys.executable, "-m", f"{__package__}.idle_calls", json.dumps(task)]
    answer = ""
    for line in process.lines(command):
        if line.startswith(NEXT):
            progress(line.removeprefix(NEXT).strip())
        else:
            answer += line
    times = {benchmark.get_name(): benchmark for benchmark in pyperf.BenchmarkSuite.loads(answer)}
    limit = f"what the limit of open files, {machine.descriptor_limit():,}, allows"
    results.note(f"idle: {found[-1]:,} connections are {limit if found[-1] < MOST else 'the most that is measured'}.")
    results.note("idle: the standard select.select takes no descriptor above 1023; Poller('select') does.")
    for mechanism, counterpart in STANDARD.items():
        for size in found:
            ours, theirs = (times.get(f"{size} {library} {mechanism}") for library in ("fastmux", "standard"))
            for library, benchmark in (("fastmux", ours), ("standard", theirs)):
                if benchmark:
                    _keep(results, "idle", f"{library} {mechanism}", size, benchmark)
            if ours and theirs:
                section = f"Poller({mechanism!r}) against {counterpart}"
                results.rows.append(Row(CHAPTER, section, "Poller", counterpart, f"of {size:,}", ours, theirs))
    for library, name in (("fastmux", "Poller"), ("standard", "select.epoll")):
        for size in found:
            if size >= FIRST:
                both = times[f"flat {library} {size}"], times[f"flat {library} {FIRST}"]
                _keep(results, "scale", library, size, both[0])
                if size > FIRST:
                    section = f"{name}: {ACTIVE} of many against {ACTIVE} of {FIRST}"
                    results.rows.append(Row(CHAPTER, section, "many", f"{FIRST}", f"of {size:,}", *both, "scale"))


def _keep(results: Results, chart: str, line: str, size: int, benchmark: pyperf.Benchmark) -> None:
    """Keep a point of a curve."""
    results.curves.setdefault(chart, {}).setdefault(line, {})[size] = middle(benchmark.get_values())
