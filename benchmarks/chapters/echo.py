"""Chapter echo: echo servers under load, on Poller, on the standard library and on other libraries."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine, servers
from benchmarks.results import Progress, Results, Row, as_benchmark
from benchmarks.servers.load import Load, check_descriptor_limit

OURS = "Poller"


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"{servers.__name__}.{module}", *arguments]


#: name -> command; the first three servers run the same handlers.
SERVERS = {
    OURS: command("queued_server", "fastmux"),
    "selectors": command("queued_server", "selectors"),
    "StdlibPoller": ["env", "FASTMUX_PURE=1", *command("queued_server", "fastmux")],
    "asyncio": command("asyncio_server", "asyncio", "protocol"),
    "uvloop": command("asyncio_server", "uvloop", "protocol"),
    "gevent": command("peer_server", "gevent"),
    "trio": command("peer_server", "trio"),
}
SIZE = 64  # bytes per message
#: row name -> key in the result of Load.drive()
FIGURES = {
    "CPU time per request": "CPU",
    "time per request": "elapsed",
    "latency, median": "median",
    "latency, 99th percentile": "p99",
}


@dataclass
class Settings:
    connections: int
    rounds: int
    seconds: float  # per server and round


QUICK = Settings(connections=200, rounds=5, seconds=0.15)
FULL = Settings(connections=200, rounds=12, seconds=1)


def available_servers() -> list[str]:
    return [name for name in SERVERS if name not in machine.PEERS or machine.installed(name)]


def steps(settings: Settings) -> int:
    return len(available_servers()) * (settings.rounds + 1)


def run(settings: Settings, workspace: Path, results: Results, progress: Progress) -> None:
    check_descriptor_limit(settings.connections)
    load = Load.build(workspace)
    if load.fallback_reason:
        results.note(
            f"echo: the load generator is the fallback in Python ({load.fallback_reason}). It costs as much as the "
            "servers, so only the CPU time per request is meaningful."
        )
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in available_servers()}
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(load.serving(name, SERVERS[name])) for name in measured]
        for server in running:
            progress(f"{server.name}, warm-up")
            load.drive(server, settings.connections, SIZE, settings.seconds)
        for _ in range(settings.rounds):
            for server in running:
                progress(server.name)
                measured[server.name].append(load.drive(server, settings.connections, SIZE, settings.seconds))
            running.append(running.pop(0))

    benchmarks = {
        (name, key): as_benchmark(f"{name}: {title}", [figures[key] for figures in rounds])
        for name, rounds in measured.items()
        for title, key in FIGURES.items()
    }
    for other in measured:
        section = f"Echo server: {OURS} against {machine.with_version(other)}"
        for title, key in FIGURES.items():
            if other != OURS:
                sides = benchmarks[OURS, key], benchmarks[other, key]
                results.rows.append(Row("echo", section, OURS, other, title, *sides))
    results.note(
        f"echo: {settings.connections} connections, each with one message of {SIZE} bytes in flight. The servers on "
        "Poller, selectors and StdlibPoller run the same handlers; those on asyncio, uvloop, gevent and trio are "
        "idiomatic for their library, and include its overhead."
    )
