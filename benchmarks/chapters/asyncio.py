"""Chapter asyncio: asyncio on fastmux against the standard loop, uvloop and rloop, as CPU time per request of the
server process.

Every measurement starts fresh servers. The cost of reads on the standard loop depends on the history of the heap: each
read allocates 256 KiB, which malloc() may have to map anew. So one workload measures a server that has been under load
before.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks import calls, child_process, machine, servers
from benchmarks.results import Progress, Results, Row, as_benchmark
from benchmarks.servers.load import HERE, Load, Server, check_descriptor_limit, idle_memory

OURS = "fastmux"
OTHERS = ("asyncio", "uvloop", "rloop")
ECHO = [str(HERE / "asyncio_server.py")]
HTTP = ["-m", f"{servers.__name__}.http_server"]
MOST = 2000  # connections

Measure = Callable[[Load, Server, float], float]


class Workload(NamedTuple):
    """A server, and the load on it."""

    title: str
    program: list[str]
    server: str  # the last argument of the program
    #: Returns the CPU time per request; the last argument is the number of seconds.
    measure: Measure
    quick: bool = False
    requires: tuple[str, ...] = ()  # modules or programs
    unsupported: tuple[str, ...] = ()  # loops
    unit: str = "second"


def echo(connections: int, size: int, *options: str, before: int = 0) -> Measure:
    """Measure echoes of size bytes, after a number of earlier loads; the options are those of loadgen.c."""

    def measure(load: Load, server: Server, seconds: float) -> float:
        for _ in range(before):
            load.drive(server, connections, size, 0.05, *options)
        return load.drive(server, connections, size, seconds, *options)["CPU"]

    return measure


def tls(connections: int, size: int, reply: int) -> Measure:
    """Measure requests over TLS; the numbers are those of tls_load.py."""

    def measure(load: Load, server: Server, seconds: float) -> float:
        return load.drive_tls(server, connections, size, seconds, reply)

    return measure


def http(load: Load, server: Server, seconds: float) -> float:
    return load.drive_http(server, 100)  # wrk knows only whole seconds


def beside_bulk(load: Load, server: Server, seconds: float) -> float:
    return load.drive_beside_bulk(server, 2 * seconds)


def memory(load: Load, server: Server, seconds: float) -> float:
    return idle_memory(server, MOST)


TLS = ("trustme",)
NO_TLS = ("rloop",)
WORKLOADS = [
    Workload("HTTP: uvicorn, httptools", HTTP, "uvicorn", http, requires=("wrk", "uvicorn", "httptools")),
    Workload("HTTP: aiohttp", HTTP, "aiohttp", http, requires=("wrk", "aiohttp")),
    Workload("HTTP: Protocol", HTTP, "protocol", http, requires=("wrk",), quick=True),
    Workload("Protocol, 64 B, 100", ECHO, "protocol", echo(100, 64), quick=True),
    Workload("the same, second load", ECHO, "protocol", echo(100, 64, before=1), quick=True),
    Workload("Protocol, 64 B, 1", ECHO, "protocol", echo(1, 64)),
    Workload("Protocol, 64 B, 2000", ECHO, "protocol", echo(MOST, 64)),
    Workload("Unix sockets, 64 B, 100", ECHO, "unix", echo(100, 64), unsupported=("rloop",)),
    Workload("streams, 64 B, 100", ECHO, "streams", echo(100, 64), quick=True),
    Workload("buffered, 1 KiB, 100", ECHO, "buffered", echo(100, 1024)),
    Workload("Protocol, 1 MiB, 10", ECHO, "protocol", echo(10, 1 << 20)),
    Workload("streams, 1 MB writes, 10", ECHO, "megabyte", echo(10, 10_000, "100")),
    Workload("10 writes of 20 B, 100", ECHO, "pieces", echo(100, 200)),
    Workload("connect to close, 10", ECHO, "closing", echo(10, 64, "1", "close"), unsupported=("rloop",)),
    Workload("sock_recv, 64 B, 100", ECHO, "sockets", echo(100, 64), quick=True),
    Workload("TLS: Protocol, 64 B, 100", ECHO, "tls", tls(100, 64, 64), quick=True, requires=TLS, unsupported=NO_TLS),
    Workload("TLS: streams, 64 B, 100", ECHO, "tls-streams", tls(100, 64, 64), requires=TLS, unsupported=NO_TLS),
    Workload("TLS: streams, 1 MB writes, 10", ECHO, "tls-megabyte", tls(10, 10_000, 1_000_000), False, TLS, NO_TLS),
    Workload("TLS: aiohttp, 100", HTTP, "aiohttp-tls", tls(100, 64, 0), False, (*TLS, "aiohttp"), NO_TLS),
    Workload("TLS: handshakes", ECHO, "tls", tls(0, 0, 1), requires=TLS, unsupported=NO_TLS),
    Workload("p99 beside bulk", ECHO, "protocol", beside_bulk),
    Workload("memory per connection", ECHO, "protocol", memory, unit="byte"),
]
#: title -> call of calls/asyncio.py, and how often
CALLS = {
    "call_soon, 1,000 per turn": ("call_soon-batches", 100_000),
    "call_soon, chained": ("call_soon-chain", 30_000),
    "call_later, cancel": ("call_later-cancel", 50_000),
    "20,000 sleep(0.001)": ("sleep", 20_000),
    "call_soon_threadsafe": ("call_soon_threadsafe", 30_000),
    "create_task, await": ("task", 20_000),
    "future, await": ("future", 20_000),
    "queues, ping-pong": ("queue-ping-pong", 10_000),
    "asyncio.timeout": ("timeout", 20_000),
    "connect, request, close": ("connect", 1000),
    "the same, Unix sockets": ("connect-unix", 1000),
}
if not hasattr(asyncio, "timeout"):
    del CALLS["asyncio.timeout"]  # Python 3.10


@dataclass
class Settings:
    rounds: int
    seconds: float  # per server and round
    quick: bool


QUICK = Settings(rounds=2, seconds=0.1, quick=True)
FULL = Settings(rounds=9, seconds=0.2, quick=False)


def missing(workload: Workload) -> list[str]:
    return [name for name in workload.requires if not machine.installed(name) and shutil.which(name) is None]


def selected(settings: Settings) -> tuple[list[Workload], dict[str, tuple[str, int]]]:
    """Return the workloads and the calls of a run."""
    workloads = [workload for workload in WORKLOADS if not missing(workload) and workload.quick >= settings.quick]
    return workloads, {} if settings.quick else CALLS


def steps(settings: Settings) -> int:
    return settings.rounds * sum(map(len, selected(settings)))


def run(settings: Settings, workspace: Path, results: Results, progress: Progress) -> None:
    load = Load.build(workspace)
    if load.fallback_reason:
        results.note(f"Skipped: chapter asyncio, whose load generator is written in C ({load.fallback_reason}).")
        for _ in range(steps(settings)):
            progress("skipped")
        return
    check_descriptor_limit(MOST)
    workloads, selected_calls = selected(settings)
    loops = [OURS, *(name for name in OTHERS if machine.installed(name))]
    units = dict.fromkeys(selected_calls, "second") | {workload.title: workload.unit for workload in workloads}
    times: dict[str, dict[str, list[float]]] = {
        title: {} for title in [*(workload.title for workload in workloads), *selected_calls]
    }

    def load_once(workload: Workload) -> None:
        with contextlib.ExitStack() as stack:
            running = [
                stack.enter_context(load.serving(name, [sys.executable, *workload.program, name, workload.server]))
                for name in loops
                if name not in workload.unsupported
            ]
            for server in running:
                value = workload.measure(load, server, settings.seconds)
                times[workload.title].setdefault(server.name, []).append(value)

    for _ in range(settings.rounds):
        for workload in workloads:
            progress(workload.title)
            load_once(workload)
        for title, (call, count) in selected_calls.items():
            progress(title)
            for name in loops:
                command = [sys.executable, "-m", f"{calls.__name__}.asyncio", name, call, str(count)]
                value = float(child_process.run(command, load.server_cpu)) / 1e9
                times[title].setdefault(name, []).append(value)
        loops.append(loops.pop(0))

    for other in OTHERS:
        section = f"asyncio on fastmux against {machine.with_version(other)}"
        for title, by_loop in times.items():
            if other in by_loop:
                sides = [as_benchmark(f"{name}: {title}", by_loop[name], units[title]) for name in (OURS, other)]
                results.rows.append(Row("asyncio", section, OURS, other, title, *sides))
    for workload in WORKLOADS:
        if absent := missing(workload):
            results.note(f"Skipped: “{workload.title}” ({', '.join(absent)} not installed).")
        if names := [name for name in workload.unsupported if name in loops and workload in workloads]:
            results.note(f"Skipped: “{workload.title}” on {', '.join(names)}, which does not support it.")
    results.note(
        "asyncio: CPU time of the server process per request. A row names the API of the server (buffered: "
        "BufferedProtocol), the message size and the number of connections. HTTP: 100 connections of wrk. connect to "
        "close: one request per connection. The calls: CPU time of the calling process per call."
    )
    if settings.quick:
        results.note("asyncio: a quick run skips most workloads, and the calls without sockets.")
    else:
        results.note(
            "asyncio, p99 beside bulk: not CPU time, but the latency of one echo while four connections exchange "
            "messages of 1 MiB. memory per connection: growth of the resident memory of the server by an idle "
            "connection; “faster” means less memory."
        )
