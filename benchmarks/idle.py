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
    suite = pyperf.BenchmarkSuite.loads(answer)
    times = {benchmark.get_name(): benchmark for benchmark in suite}
    limit = machine.descriptor_limit()
    results.note(
        f"idle: {found[-1]:,} connections are "
        + (f"what the limit of open files, {limit:,}, allows." if found[-1] < MOST else "the most that is measured.")
    )
    for mechanism, counterpart in STANDARD.items():
        for size in found:
            ours, theirs = times[f"{size} fastmux {mechanism}"], times.get(f"{size} standard {mechanism}")
            for library, benchmark in (("fastmux", ours), ("standard", theirs)):
                if benchmark:
                    points = results.curves.setdefault("idle", {}).setdefault(f"{library} {mechanism}", {})
                    points[size] = middle(benchmark.get_values())
            section = f"Poller({mechanism!r}) against {counterpart}"
            if theirs:
                results.rows.append(Row(CHAPTER, section, "Poller", counterpart, f"of {size:,}", ours, theirs))
            else:
                results.note("idle: select.select takes no descriptor above 1023; Poller('select') does.")
    for library, name in (("fastmux", "Poller"), ("standard", "select.epoll")):
        for size in found:
            if size >= FIRST:
                both = times[f"flat {library} {size}"], times[f"flat {library} {FIRST}"]
                points = results.curves.setdefault("scale", {}).setdefault(library, {})
                points[size] = middle(both[0].get_values())
                if size > FIRST:
                    section = f"{name}: {ACTIVE} of many against {ACTIVE} of {FIRST}"
                    results.rows.append(Row(CHAPTER, section, "many", f"{FIRST}", f"of {size:,}", *both, "scale"))
