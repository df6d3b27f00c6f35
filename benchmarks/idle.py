"""What idle connections cost: one wait with a few active ones among 10 to 10,000, by select, poll and epoll."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from . import machine, process
from .results import BenchmarkError, Progress, Results, Row

SIZES = (10, 30, 100, 300, 1000, 3000, 10_000)
ACTIVE = 5
#: Descriptors of a measurement that are not connections, with room to spare.
OTHERS = 64
#: What is compared with Poller(mechanism).poll(0).
STANDARD = {"select": "select.select", "poll": "poll.poll(0)", "epoll": "epoll.poll(0)"}


@dataclass
class Settings:
    rounds: int
    batch: float  # seconds per candidate and round


QUICK = Settings(rounds=15, batch=0.002)
FULL = Settings(rounds=60, batch=0.005)


def steps(settings: Settings) -> int:
    return 1


def run(settings: Settings, workspace: Path, results: Results, progress: Progress) -> None:
    progress("idle connections")
    sizes = [size for size in SIZES if size + OTHERS <= machine.descriptor_limit()]
    if not sizes:
        raise BenchmarkError(f"more open files are needed than the hard limit, {machine.descriptor_limit()}")
    if sizes != list(SIZES):
        limit = machine.descriptor_limit()
        results.note(f"More than {sizes[-1]} idle connections are left out: the hard limit of open files is {limit}.")
    task = {"sizes": sizes, "active": ACTIVE, "rounds": settings.rounds, "batch": settings.batch}
    found = json.loads(process.run([sys.executable, "-m", f"{__package__}.idle_calls", json.dumps(task)]))
    results.raw["idle"] = found
    for mechanism, counterpart in STANDARD.items():
        for size in sizes:
            times = found[str(size)]
            if f"standard {mechanism}" not in times:
                results.note("select.select takes no descriptor above 1023; Poller('select') does.")
                continue
            both = times[f"standard {mechanism}"], times[f"fastmux {mechanism}"]
            section = f"{ACTIVE} active among idle, {mechanism}"
            results.rows.append(Row.of_calls("idle", section, counterpart, "Poller.poll(0)", f"{size:,} idle", *both))
