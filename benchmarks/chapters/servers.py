"""Chapter servers: HTTP servers on fastmux, the standard event loop, uvloop and rloop."""

from __future__ import annotations

import sys

from benchmarks import machine, servers
from benchmarks.load.generator import Load, Server, libssl
from benchmarks.results import FRESH, LOADED
from benchmarks.servers.http_server import TEXT

from .server_chapter import Measure, ServerChapter, Settings, Workload

CONNECTIONS = 100
GATHER = "gather_writes"
#: Candidate -> argument of http_server.py
LOOPS = {"fastmux": "fastmux", GATHER: "fastmux gather_writes", "asyncio": "asyncio", "uvloop": "uvloop"}
WITHOUT_TLS = {"rloop": "rloop"}
#: Label -> argument of http_server.py, required modules
SERVERS = {
    "uvicorn": ("uvicorn", ("uvicorn", "httptools")),
    "aiohttp": ("aiohttp", ("aiohttp",)),
    "Protocol": ("protocol", ()),
}


def http(*, tls: bool) -> list[Measure]:
    def fresh(load: Load, server: Server, seconds: float) -> dict[str, float]:
        return {FRESH: load.http(server, CONNECTIONS, seconds, TEXT, tls=tls)["CPU"]}

    def loaded(load: Load, server: Server, seconds: float) -> dict[str, float]:
        found = load.http(server, CONNECTIONS, seconds, TEXT, tls=tls)
        return {LOADED: found["CPU"], ", p99 latency": found["p99"]}

    return [fresh, loaded]


def commands(server: str, *, tls: bool) -> dict[str, list[str]]:
    loops = LOOPS if tls else LOOPS | WITHOUT_TLS
    program = [sys.executable, "-m", f"{servers.__name__}.http_server"]
    return {name: [*program, loop, server, *(["tls"] if tls else [])] for name, loop in loops.items()}


WORKLOADS = [
    Workload(
        f"{label}, TLS" if tls else label,
        commands(server, tls=tls),
        http(tls=tls),
        quick=not tls or label == "uvicorn",
    )
    for tls in ((False, True) if libssl() else (False,))
    for label, (server, modules) in SERVERS.items()
    if all(map(machine.installed, modules))
]

CHAPTER = ServerChapter(
    "servers",
    WORKLOADS,
    {"fastmux": ("asyncio", "uvloop", "rloop"), GATHER: ("fastmux",)},
    "HTTP servers on {} against {}",
    QUICK=Settings(rounds=2, seconds=0.1, quick=True),
    FULL=Settings(rounds=7, seconds=0.3, quick=False),
    connections=CONNECTIONS,
    remarks=(
        "CPU time of the server process per request, with 100 keep-alive connections. uvicorn uses httptools; Protocol "
        "is an asyncio.Protocol of 40 lines. “fresh” servers have just started. “after load” servers have had such "
        "clients before: only now does the standard loop reuse the 256 KiB that it allocates for each read. rloop "
        "has no TLS.",
        *(() if libssl() else ("no TLS, because there is no libssl for the load generator.",)),
        "gather_writes is an option of fastmux: it sends what a turn of the loop has written at its end.",
    ),
)
