"""Chapters that compare single calls; shared by poll, selectors and select.

Each group of calls runs in fresh processes, because imports and the contents of the heap influence the figures; a full
run uses several, because the memory layout differs between processes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyperf

from benchmarks import calls, child_process, machine
from benchmarks.results import Progress, Results, Row

#: The candidate that is epoll_loop.c.
EPOLL_LOOP = "C"
EPOLL_LOOP_SOURCE = Path(calls.__path__[0]) / "epoll_loop.c"
Times = dict[str, pyperf.Benchmark]  # by candidate

#: Subject and counterpart: fastmux, and the standard module of the same name.
MIRROR = ("fastmux", "standard")
#: Numbers of sockets where all are ready.
SIZES = (0, 1, 10, 100, 1000)
READY = "{} ready"
ONE_OF = "1 ready of {}"
WITH_TIMEOUT = "Timeout of 1 s, descriptors ready"


class Comparison(NamedTuple):
    """Rows under one heading. Comparisons with the same section share a table."""

    section: str
    sides: tuple[str, str]  # subject, counterpart
    #: In the module of calls/ with the chapter's name.
    group: str
    #: name -> candidates: ours, theirs. {} in a name is the number of registered sockets.
    rows: dict[str, tuple[str, str]]
    registered: tuple[int, ...]
    all_ready: bool = False  # else one, in the middle
    reference: str = ""  # see Row

    def ready(self, registered: int) -> int:
        return registered if self.all_ready else 1


def against_standard(ours: str, rows: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Pair a call of ours with the same call of the standard library; rows: name -> call."""
    return {name: (f"{ours} {call}", f"standard {call}") for name, call in rows.items()}


@dataclass
class Settings:
    processes: int  # per measurement
    rounds: int  # per process
    batch: float  # seconds per candidate and round
    starts: int  # of an interpreter, per side


@dataclass
class CallChapter:
    name: str
    comparisons: Sequence[Comparison]
    #: A measurement besides the calls.
    extra: Callable[[Settings, Results], None] | None = None
    QUICK = Settings(processes=1, rounds=12, batch=0.002, starts=4)
    FULL = Settings(processes=4, rounds=50, batch=0.004, starts=50)

    def measurements(self) -> list[tuple[str, int, int]]:
        """Return (group, registered, ready) without duplicates."""
        return list(
            dict.fromkeys((part.group, size, part.ready(size)) for part in self.comparisons for size in part.registered)
        )

    def steps(self, settings: Settings) -> int:
        return settings.processes * len(self.measurements()) + (self.extra is not None)

    def run(self, settings: Settings, workspace: Path, results: Results, progress: Progress) -> None:
        library = workspace / "epoll_loop.so"
        reason = child_process.build([EPOLL_LOOP_SOURCE], library, "-shared", "-fPIC")
        measured: dict[tuple[str, int, int], Times] = {}
        for group, size, ready in self.measurements():
            task = {"group": group, "registered": size, "ready": ready, "epoll_loop": None if reason else str(library)}
            measured[group, size, ready] = self.measure(task, settings, results, progress)
        for part in self.comparisons:
            for name, (ours, theirs) in part.rows.items():
                for size in part.registered:
                    times = measured[part.group, size, part.ready(size)]
                    if ours in times and theirs in times:
                        label = name.replace("{}", f"{size:,}")
                        sides = times[ours], times[theirs]
                        results.rows.append(Row(self.name, part.section, *part.sides, label, *sides, part.reference))
                    elif times:
                        why = reason if theirs == EPOLL_LOOP else "not available"
                        results.note(f"Skipped: “{part.section}” ({why}).")
        if self.extra:
            progress("starting interpreters")
            self.extra(settings, results)

    def measure(self, task: dict[str, object], settings: Settings, results: Results, progress: Progress) -> Times:
        """Run a group of candidates; return {} and add a note if so many sockets cannot be opened."""
        found: Times = {}
        group, registered, ready = task["group"], int(str(task["registered"])), task["ready"]
        name = f"{group}, {ready} ready" if ready == registered else f"{group}, {ready} of {registered} ready"
        if reason := machine.missing_descriptors(2 * registered):
            results.note(f"Skipped: {registered:,} sockets ({reason}).")
            for _ in range(settings.processes):
                progress(f"{name}: skipped")
            return found
        task = task | {"rounds": settings.rounds, "batch": settings.batch}
        command = [sys.executable, "-m", f"{calls.__name__}.{self.name}", json.dumps(task)]
        for _ in range(settings.processes):
            progress(name)
            for benchmark in pyperf.BenchmarkSuite.loads(child_process.run(command)):
                if known := found.get(benchmark.get_name()):
                    known.add_runs(benchmark)
                else:
                    found[benchmark.get_name()] = benchmark
        return found
