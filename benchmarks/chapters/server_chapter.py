"""Chapters that run one program on several libraries; shared by servers, echo and asyncio.

Each round starts every program anew. The cost of reads on the standard loop depends on the history of the heap: each
read allocates 256 KiB, which malloc() may have to map anew. So servers are measured twice: just started, and after the
first clients have left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import child_process, machine
from benchmarks.load.generator import Load, Server, check_descriptor_limit
from benchmarks.results import FRESH, LOADED, Progress, Results, Row, as_benchmark

#: Measures for a number of seconds: returns the end of the row's name -> value.
Measure = Callable[[Load, Server, float], dict[str, float]]


class Workload(NamedTuple):
    """A program, and the load on it if it is a server."""

    title: str
    #: Candidate -> command. Candidates that are not installed are skipped.
    commands: dict[str, list[str]]
    #: One after the other, each on all candidates. None: the program prints the nanoseconds per call.
    measures: Sequence[Measure] | None
    quick: bool = False
    unit: str = "second"


@dataclass
class Settings:
    rounds: int
    seconds: float  # per server, state and round
    quick: bool


def echo(connections: int, size: int, *options: str) -> list[Measure]:
    """Measure the CPU time of echoes on a server that has just started, then with new clients.

    The options are those of echo.c.
    """

    def measure(state: str, load: Load, server: Server, seconds: float) -> dict[str, float]:
        return {state: load.echo(server, connections, size, seconds, *options)["CPU"]}

    return [partial(measure, FRESH), partial(measure, LOADED)]


@dataclass
class ServerChapter:
    name: str
    workloads: Sequence[Workload]
    #: Subject -> its counterparts. A row of the results needs both candidates.
    comparisons: dict[str, Sequence[str]]
    #: The heading of a section.
    heading: str
    QUICK: Settings
    FULL: Settings
    connections: int  # the largest number
    remarks: Sequence[str] = field(default=())

    def selected(self, settings: Settings) -> list[Workload]:
        return [workload for workload in self.workloads if workload.quick >= settings.quick]

    def steps(self, settings: Settings) -> int:
        return settings.rounds * len(self.selected(settings))

    def run(self, settings: Settings, workspace: Path, results: Results, progress: Progress) -> None:
        load = Load.build(workspace)
        if load.fallback_reason:
            results.note(f"Skipped: chapter {self.name}, whose load generator is in C ({load.fallback_reason}).")
            for _ in range(self.steps(settings)):
                progress("skipped")
            return
        check_descriptor_limit(self.connections)
        workloads = self.selected(settings)
        times: dict[tuple[str, str], dict[str, list[float]]] = {}  # (workload, end of the name) -> candidate -> values
        for number in range(settings.rounds):
            for workload in workloads:
                progress(workload.title)
                for name, values in self._measure(workload, load, settings.seconds, number).items():
                    for end, value in values.items():
                        times.setdefault((workload.title, end), {}).setdefault(name, []).append(value)
        units = {workload.title: workload.unit for workload in workloads}
        for subject, counterparts in self.comparisons.items():
            for counterpart in counterparts:
                section = self.heading.format(subject, machine.with_version(counterpart))
                for (title, end), found in times.items():
                    if subject in found and counterpart in found:
                        sides = [
                            as_benchmark(f"{name}: {title}{end}", found[name], units[title])
                            for name in (subject, counterpart)
                        ]
                        results.rows.append(Row(self.name, section, subject, counterpart, title + end, *sides))
        for remark in self.remarks:
            results.note(f"{self.name}: {remark}")

    def _measure(self, workload: Workload, load: Load, seconds: float, number: int) -> dict[str, dict[str, float]]:
        """Return candidate -> end of the row's name -> value. Every round starts with another candidate."""
        commands = {name: command for name, command in workload.commands.items() if machine.available(name)}
        if not commands:
            return {}
        names = list(commands)
        first = number % len(names)
        names = names[first:] + names[:first]
        if workload.measures is None:
            return {name: {"": float(child_process.run(commands[name], load.server_cpu)) / 1e9} for name in names}
        found: dict[str, dict[str, float]] = {name: {} for name in names}
        with load.serving({name: commands[name] for name in names}) as servers:
            for measure in workload.measures:
                for server in servers:
                    found[server.name] |= measure(load, server, seconds)
        return found
