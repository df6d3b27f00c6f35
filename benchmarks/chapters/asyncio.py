"""Chapter asyncio: asyncio on fastmux against the standard loop, uvloop and rloop, as CPU time per request of the
server process.

Every measurement starts fresh servers. The cost of reads on the standard loop depends on the history of the heap: each
read allocates 256 KiB, which malloc() may have to map anew. So one workload measures a server that has been under load
before.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks import calls, child_process, machine
from benchmarks.results import Progress, Results, Row, as_benchmark
from benchmarks.servers.load import HERE, Load, check_descriptor_limit

OURS = "fastmux"
OTHERS = ("asyncio", "uvloop", "rloop")


class Workload(NamedTuple):
    """Load on a server: connections, bytes per message, and the number of earlier loads."""

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
#: title -> call of calls/asyncio.py, and how often
CALLS = {
    "10,000 sleep(0.001)": ("sleep", 10_000),
    "call_soon, chained": ("call_soon-chain", 30_000),
    "queues, ping-pong": ("queue-ping-pong", 10_000),
}


@dataclass
class Settings:
    rounds: int
    seconds: float  # per server and round
    workloads: tuple[int, ...]  # indices of WORKLOADS
    calls: bool


QUICK = Settings(rounds=2, seconds=0.1, workloads=(0, 1, 4, 7), calls=False)
FULL = Settings(rounds=9, seconds=0.25, workloads=tuple(range(len(WORKLOADS))), calls=True)


def steps(settings: Settings) -> int:
    return settings.rounds * (len(settings.workloads) + (len(CALLS) if settings.calls else 0))


def run(settings: Settings, workspace: Path, results: Results, progress: Progress) -> None:
    load = Load.build(workspace)
    if load.fallback_reason:
        results.note(f"Skipped: chapter asyncio, whose load generator is written in C ({load.fallback_reason}).")
        for _ in range(steps(settings)):
            progress("skipped")
        return
    workloads = [WORKLOADS[number] for number in settings.workloads]
    check_descriptor_limit(max(workload.connections for workload in workloads))
    selected_calls = CALLS if settings.calls else {}
    loops = [OURS, *(name for name in OTHERS if machine.installed(name))]
    times: dict[str, dict[str, list[float]]] = {
        title: {name: [] for name in loops} for title in [*(workload.title for workload in workloads), *selected_calls]
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
        for title, (call, count) in selected_calls.items():
            progress(title)
            for name in loops:
                command = [sys.executable, "-m", f"{calls.__name__}.asyncio", name, call, str(count)]
                times[title][name].append(float(child_process.run(command, load.server_cpu)) / 1e9)
        loops.append(loops.pop(0))

    benchmarks = {
        (title, name): as_benchmark(f"{name}: {title}", seconds)
        for title, by_loop in times.items()
        for name, seconds in by_loop.items()
    }
    for other in OTHERS:
        if other in loops:
            section = f"asyncio on fastmux against {machine.with_version(other)}"
            for title in times:
                sides = benchmarks[title, OURS], benchmarks[title, other]
                results.rows.append(Row("asyncio", section, OURS, other, title, *sides))
    results.note(
        "asyncio: CPU time of the server process per request. A row names the API of the server (buffered: "
        "BufferedProtocol), the message size and the number of connections."
    )
    if not settings.calls:
        results.note(
            "asyncio: a quick run skips large messages, one and 2,000 connections, and the calls without sockets."
        )
