"""Measurements of single calls, for the chapters poll, selectors and select.

Each runs in fresh processes, because what is imported and what lies on the heap changes the figures; in more than one,
because each process has its own luck with the layout of its memory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyperf

from . import machine, process
from .results import Progress, Results, Row

#: candidate -> its times
LIMIT = "C"
Times = dict[str, pyperf.Benchmark]


class Part(NamedTuple):
    """Rows under one heading. Two with the same section are one in the table."""

    section: str
    compared: tuple[str, str]  # subject, counterpart
    #: Of the chapter's *_calls.py.
    group: str
    #: name -> candidates: ours, theirs. {} in a name is the number of registered sockets.
    rows: dict[str, tuple[str, str]]
    registered: tuple[int, ...]
    all_ready: bool = False  # else the one in the middle
    no_rival: str = ""  # see Row

    def ready(self, registered: int) -> int:
        return registered if self.all_ready else 1


@dataclass
class Settings:
    processes: int  # per measurement
    rounds: int  # per process
    batch: float  # seconds per candidate and round
    starts: int  # of an interpreter, for each side


@dataclass
class Chapter:
    name: str
    #: The module of this package that makes the candidates.
    module: str
    parts: Sequence[Part]
    #: What is no call.
    more: Callable[[Settings, Results], None] | None = None
    QUICK = Settings(processes=1, rounds=20, batch=0.003, starts=8)
    FULL = Settings(processes=4, rounds=50, batch=0.004, starts=50)

    def measurements(self) -> list[tuple[str, int, int]]:
        """group, registered, ready: each once."""
        return list(
            dict.fromkeys((part.group, size, part.ready(size)) for part in self.parts for size in part.registered)
        )

    def steps(self, settings: Settings) -> int:
        return settings.processes * len(self.measurements()) + (self.more is not None)

    def run(self, settings: Settings, workspace: Path, results: Results, progress: Progress) -> None:
        floor = workspace / "floor.so"
        reason = process.build(Path(__file__).parent / "floor.c", floor, "-shared", "-fPIC")
        measured: dict[tuple[str, int, int], Times] = {}
        for group, size, ready in self.measurements():
            task = {"group": group, "registered": size, "ready": ready, "floor": None if reason else str(floor)}
            measured[group, size, ready] = self.measure(task, settings, results, progress)
        for part in self.parts:
            for name, (ours, theirs) in part.rows.items():
                for size in part.registered:
                    times = measured[part.group, size, part.ready(size)]
                    if ours in times and theirs in times:
                        label = name.replace("{}", f"{size:,}")
                        row = Row(
                            self.name, part.section, *part.compared, label, times[ours], times[theirs], part.no_rival
                        )
                        results.rows.append(row)
                    elif times:
                        results.note(
                            f"“{part.section}” is left out: {reason if theirs == LIMIT else 'not possible here'}."
                        )
        if self.more:
            progress("starting interpreters")
            self.more(settings, results)

    def measure(self, task: dict[str, object], settings: Settings, results: Results, progress: Progress) -> Times:
        """Run a group of candidates; {} if so many sockets cannot be opened, which is then noted."""
        found: Times = {}
        group, registered, ready = task["group"], int(str(task["registered"])), task["ready"]
        name = f"{group}, {ready} ready" if ready == registered else f"{group}, {ready} of {registered} ready"
        if (needed := 2 * registered + 64) > machine.descriptor_limit():
            results.note(
                f"{registered:,} sockets at a time are left out: that needs {needed:,} open files, and the hard limit "
                f"(ulimit -Hn) is {machine.descriptor_limit():,}."
            )
            for _ in range(settings.processes):
                progress(f"{name}: left out")
            return found
        task = task | {"rounds": settings.rounds, "batch": settings.batch}
        command = [sys.executable, "-m", f"{__package__}.{self.module}", json.dumps(task)]
        for _ in range(settings.processes):
            progress(name)
            for benchmark in pyperf.BenchmarkSuite.loads(process.run(command)):
                if known := found.get(benchmark.get_name()):
                    known.add_runs(benchmark)
                else:
                    found[benchmark.get_name()] = benchmark
        return found
