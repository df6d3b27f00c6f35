"""Servers under load: one loop on fastmux.Poller, against the same loop on the standard library, and other ways."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path

from . import machine
from .results import Progress, Results, Row, timed
from .servers import Load, check_limit

OURS = "Poller"


def program(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"{__package__}.{module}", *arguments]


#: name -> command line; the first three run the same handlers.
SERVERS = {
    OURS: program("queued_server", "fastmux"),
    "selectors": program("queued_server", "selectors"),
    "StdlibPoller": ["env", "FASTMUX_PURE=1", *program("queued_server", "fastmux")],
    "asyncio": program("asyncio_server", "asyncio", "protocol"),
    "uvloop": program("asyncio_server", "uvloop", "protocol"),
    "gevent": program("peer_server", "gevent"),
    "trio": program("peer_server", "trio"),
}
SIZE = 64
#: name of the row -> what Load.drive() calls it
FIGURES = {
    "CPU time of a request": "CPU",
    "time of a request": "clock",
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


def names() -> list[str]:
    return [name for name in SERVERS if name not in machine.PEERS or machine.installed(name)]


def steps(settings: Settings) -> int:
    return len(names()) * (settings.rounds + 1)


def run(settings: Settings, workspace: Path, results: Results, progress: Progress) -> None:
    check_limit(settings.connections)
    load = Load.build(workspace)
    if load.reason:
        results.note(
            f"The load comes from a generator in Python ({load.reason}). It costs as much as the servers, so look at "
            "the CPU time of a request; the other figures are mostly its own."
        )
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in names()}
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(load.serving(name, SERVERS[name])) for name in measured]
        for server in servers:
            progress(f"{server.name}, warming up")
            load.drive(server, settings.connections, SIZE, settings.seconds)
        for _ in range(settings.rounds):
            for server in servers:
                progress(server.name)
                measured[server.name].append(load.drive(server, settings.connections, SIZE, settings.seconds))
            servers.append(servers.pop(0))

    times = {
        (name, figure): timed(f"{name}: {title}", [found[figure] for found in rounds])
        for name, rounds in measured.items()
        for title, figure in FIGURES.items()
    }
    for other in measured:
        section = f"Echo server: {OURS} against {machine.titled(other)}"
        for title, figure in FIGURES.items():
            if other != OURS:
                both = times[OURS, figure], times[other, figure]
                results.rows.append(Row("echo", section, OURS, other, title, *both))
    results.note(
        f"echo: {settings.connections} connections, each with one message of {SIZE} bytes under way. The servers on "
        "Poller, selectors and StdlibPoller run the same handlers; those on asyncio, uvloop, gevent and trio are "
        "written as usual there, and what these bring along is part of the cost."
    )
