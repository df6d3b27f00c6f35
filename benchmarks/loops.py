"""The chapter asyncio: asyncio on fastmux, against asyncio as it is, uvloop and rloop. What does a request cost the
server's whole process?

Every measurement has a fresh server. What the standard loop's reads cost depends on what has happened to the heap
before: each allocates 256 KiB, which malloc() may or may not have to fetch from the kernel. So there is a row for a
server that has had visitors before, too.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from . import machine, process
from .results import Progress, Results, Row, timed
from .servers import HERE, Load, check_limit

CHAPTER = "asyncio"
OURS = "fastmux"
OTHERS = ("asyncio", "uvloop", "rloop")


class Workload(NamedTuple):
    """The connections, the bytes per message, and how often the server was under load before."""

    title: str
    server: str
    connections: int
    size: int
    before: int = 0


WORKLOADS = [
    Workload("Protocol, 64 B, 100", "protocol", 100, 64),
    Workload("the same, second load", "protocol", 100, 64, before=1),
    Workload("Protocol, 64 B, 1", "protocol", 1, 64),
    Workload("Protocol, 64 B, 2000", "protocol", 2000, 64),
    Workload("streams, 64 B, 100", "streams", 100, 64),
    Workload("buffered, 1 KiB, 100", "buffered", 100, 1024),
    Workload("Protocol, 1 MiB, 10", "protocol", 10, 1 << 20),
    Workload("sock_recv, 64 B, 100", "sockets", 100, 64),
]
#: Title -> call of asyncio_calls.py, and how many of them.
CALLS = {
    "10,000 sleep(0.001)": ("sleepers", 10_000),
    "call_soon, a chain": ("chain", 30_000),
    "queues, there and back": ("ping-pong", 10_000),
}


@dataclass
class Settings:
    rounds: int
    seconds: float  # per server and round
    workloads: tuple[int, ...]  # of WORKLOADS, by number
    calls: bool


QUICK = Settings(rounds=2, seconds=0.1, workloads=(0, 1, 4, 7), calls=False)
FULL = Settings(rounds=9, seconds=0.25, workloads=tuple(range(len(WORKLOADS))), calls=True)


def steps(settings: Settings) -> int:
    return settings.rounds * (len(settings.workloads) + (len(CALLS) if settings.calls else 0))


def run(settings: Settings, workspace: Path, results: Results, progress: Progress) -> None:
    load = Load.build(workspace)
    if load.reason:
        results.note(f"The chapter asyncio is left out: its load generator is a program in C ({load.reason}).")
        for _ in range(steps(settings)):
            progress("left out")
        return
    workloads = [WORKLOADS[number] for number in settings.workloads]
    check_limit(max(workload.connections for workload in workloads))
    calls = CALLS if settings.calls else {}
    loops = [OURS, *(name for name in OTHERS if machine.installed(name))]
    times: dict[str, dict[str, list[float]]] = {
        title: {name: [] for name in loops} for title in [*(workload.title for workload in workloads), *calls]
    }

    def load_once(workload: Workload) -> None:
        with contextlib.ExitStack() as stack:
            program = [sys.executable, str(HERE / "asyncio_server.py")]
            servers = [
                stack.enter_context(load.serving(name, [*program, name, workload.server]))
                for name in loops
            ]  # fmt: skip
            for server in servers:
                for _ in range(workload.before):
                    load.drive(server, workload.connections, workload.size, 0.05)
                cost = load.drive(server, workload.connections, workload.size, settings.seconds)["CPU"]
                times[workload.title][server.name].append(cost)

    for _ in range(settings.rounds):
        for workload in workloads:
            progress(workload.title)
            load_once(workload)
        for title, (call, count) in calls.items():
            progress(title)
            for name in loops:
                command = [sys.executable, "-m", f"{__package__}.asyncio_calls", name, call, str(count)]
                times[title][name].append(float(process.run(command, load.server_cpu)) / 1e9)
        loops.append(loops.pop(0))

    kept = {
        (title, name): timed(f"{name}: {title}", seconds)
        for title, by_loop in times.items()
        for name, seconds in by_loop.items()
    }
    for other in OTHERS:
        if other in loops:
            section = f"asyncio on fastmux against {machine.titled(other)}"
            for title in times:
                both = kept[title, OURS], kept[title, other]
                results.rows.append(Row(CHAPTER, section, OURS, other, title, *both))
    results.note(
        "asyncio: CPU time of the server's whole process, per request. The rows name what serves (buffered: a "
        "BufferedProtocol), the size of the messages, and how many connections there are."
    )
    if not settings.calls:
        results.note(
            "asyncio: a quick run leaves out large messages, one and 2,000 connections, and what has no socket."
        )
