"""Chapter idle: the cost of idle connections, as one wait with 10 active ones among 10 to as many as possible, by
select, poll and epoll; and how epoll scales."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pyperf

from benchmarks import calls, child_process, machine
from benchmarks.calls.timing import PROGRESS
from benchmarks.results import BenchmarkError, Progress, Results, Row, quartiles

SIZES = (10, 30, 100, 300, 1000, 3000, 10_000, 30_000)
MAX_SIZE = 100_000
ACTIVE = 10
#: The reference size for the scaling of epoll.
FIRST = 100
#: Counterparts of Poller(mechanism).poll(0).
STANDARD = {"select": "select.select", "poll": "select.poll", "epoll": "select.epoll"}


@dataclass
class Settings:
    rounds: int
    batch: float  # seconds per candidate and round


QUICK = Settings(rounds=6, batch=0.001)
FULL = Settings(rounds=60, batch=0.005)


def available_sizes() -> list[int]:
    """Return the sizes up to the limit of open files, or to MAX_SIZE."""
    largest = min(machine.descriptor_limit() - machine.OTHER_DESCRIPTORS, MAX_SIZE)
    return [*(size for size in SIZES if size < largest), largest]


def steps(settings: Settings) -> int:
    return len(available_sizes()) + 2


def run(settings: Settings, workspace: Path, results: Results, progress: Progress) -> None:
    sizes = available_sizes()
    if sizes[-1] < SIZES[0]:
        raise BenchmarkError(machine.missing_descriptors(SIZES[0]))
    task = {"sizes": sizes, "active": ACTIVE, "first": FIRST, "rounds": settings.rounds, "batch": settings.batch}
    progress(f"{sizes[-1]:,} connections")
    command = [sys.executable, "-m", f"{calls.__name__}.idle", json.dumps(task)]
    output = ""
    for line in child_process.stream_lines(command):
        if line.startswith(PROGRESS):
            progress(line.removeprefix(PROGRESS).strip())
        else:
            output += line
    times = {benchmark.get_name(): benchmark for benchmark in pyperf.BenchmarkSuite.loads(output)}
    limit = f"the maximum with a limit of {machine.descriptor_limit():,} open files"
    results.note(f"idle: {sizes[-1]:,} connections are {limit if sizes[-1] < MAX_SIZE else 'the largest size'}.")
    results.note("idle: the standard select.select takes no descriptor above 1023; Poller('select') does.")
    for mechanism, counterpart in STANDARD.items():
        for size in sizes:
            ours, theirs = (times.get(f"{size} {library} {mechanism}") for library in ("fastmux", "standard"))
            for library, benchmark in (("fastmux", ours), ("standard", theirs)):
                if benchmark:
                    curve = results.curves.setdefault("idle", {}).setdefault(f"{library} {mechanism}", {})
                    curve[size] = quartiles(benchmark.get_values())
            if ours and theirs:
                section = f"Poller({mechanism!r}) against {counterpart}"
                results.rows.append(Row("idle", section, "Poller", counterpart, _label(size), ours, theirs))
    for library, name in (("fastmux", "Poller"), ("standard", "select.epoll")):
        for size in sizes:
            if size > FIRST:
                sides = times[f"scale {library} {size}"], times[f"scale {library} {FIRST}"]
                section = f"{name}, relative to {FIRST} connections"
                results.rows.append(Row("idle", section, "more", str(FIRST), _label(size), *sides, "scale"))


def _label(size: int) -> str:
    return f"{size:,} connections"
