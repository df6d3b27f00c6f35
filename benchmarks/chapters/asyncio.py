"""Chapter asyncio: parts of event loops, on fastmux, the standard loop, uvloop and rloop: echo servers, calls without
sockets, latency and memory."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path

from benchmarks import calls, servers
from benchmarks.load.generator import Load, Server, idle_memory
from benchmarks.results import FRESH, LOADED

from .server_chapter import Measure, ServerChapter, Settings, Workload, echo
from .servers import GATHER, LOOPS

ECHO = [sys.executable, str(Path(servers.__path__[0]) / "asyncio_server.py")]
CALL = [sys.executable, "-m", f"{calls.__name__}.asyncio"]
MOST = 2000  # connections
STANDARD = ("fastmux", "asyncio", "uvloop")
ALL = (*STANDARD, "rloop")


def on(loops: tuple[str, ...], server: str) -> dict[str, list[str]]:
    """Return the commands of a server on some loops."""
    return {name: [*ECHO, LOOPS.get(name, name), server] for name in loops}


def p99_beside_bulk(load: Load, server: Server, seconds: float) -> dict[str, float]:
    return {"": load.beside_bulk(server, 2 * seconds)}


def tls(connections: int, size: int, reply: int) -> list[Measure]:
    """Measure echoes over TLS; the numbers are those of tls_echo.py."""

    def measure(state: str, load: Load, server: Server, seconds: float) -> dict[str, float]:
        return {state: load.tls_echo(server, connections, size, seconds, reply)}

    return [partial(measure, FRESH), partial(measure, LOADED)]


def memory(load: Load, server: Server, seconds: float) -> dict[str, float]:
    return {"": idle_memory(server, MOST)}


def call(title: str, name: str, count: int) -> Workload:
    """Return a workload of calls/asyncio.py."""
    loops = STANDARD if name == "connect-unix" else ALL  # rloop has no Unix sockets
    return Workload(title, {loop: [*CALL, loop, name, str(count)] for loop in loops}, None)


def workload(
    title: str, loops: tuple[str, ...], server: str, measures: list[Measure], *, quick: bool = False
) -> Workload:
    return Workload(title, on(loops, server), measures, quick)


WORKLOADS = [
    workload("Protocol, 64 B, 100", (*ALL, GATHER), "protocol", echo(100, 64), quick=True),
    workload("Protocol, 64 B, 1", ALL, "protocol", echo(1, 64)),
    workload("Protocol, 64 B, 2000", ALL, "protocol", echo(MOST, 64)),
    workload("Unix sockets, 64 B, 100", STANDARD, "unix", echo(100, 64)),
    workload("streams, 64 B, 100", ALL, "streams", echo(100, 64), quick=True),
    workload("buffered, 1 KiB, 100", ALL, "buffered", echo(100, 1024)),
    workload("Protocol, 1 MiB, 10", ALL, "protocol", echo(10, 1 << 20)),
    workload("streams, 1 MB writes, 10", ALL, "megabyte", echo(10, 10_000, "100")),
    workload("10 writes of 20 B, 100", (*ALL, GATHER), "pieces", echo(100, 200)),
    workload("connect to close, 10", STANDARD, "closing", echo(10, 64, "1", "close")),
    workload("sock_recv, 64 B, 100", ALL, "sockets", echo(100, 64)),
    workload("datagrams, 64 B, 20", ALL, "datagrams", echo(20, 64, "1", "datagrams"), quick=True),
    workload("TLS, Protocol, 64 B, 100", STANDARD, "tls", tls(100, 64, 64)),
    workload("TLS, streams, 64 B, 100", STANDARD, "tls-streams", tls(100, 64, 64)),
    workload("TLS, streams, 1 MB writes, 10", STANDARD, "tls-megabyte", tls(10, 10_000, 1_000_000)),
    workload("TLS, handshakes", STANDARD, "tls", tls(0, 0, 1)),
    workload("p99 beside bulk", ALL, "protocol", [p99_beside_bulk]),
    Workload("memory per connection", on(ALL, "protocol"), [memory], unit="byte"),
    call("call_soon, 1,000 per turn", "call_soon-batches", 100_000),
    call("call_soon, chained", "call_soon-chain", 30_000),
    call("call_later, cancel", "call_later-cancel", 50_000),
    call("20,000 sleep(0.001)", "sleep", 20_000),
    call("call_soon_threadsafe", "call_soon_threadsafe", 30_000),
    call("create_task, await", "task", 20_000),
    call("future, await", "future", 20_000),
    call("queues, ping-pong", "queue-ping-pong", 10_000),
    call("datagrams, bursts of 100", "datagrams", 10_000),
    call("pipe to a subprocess and back, 1 KiB", "pipe", 4_000),
    call("create_subprocess_exec, communicate", "communicate", 150),
    call("connect, request, close", "connect", 1000),
    call("the same, Unix sockets", "connect-unix", 1000),
]
if hasattr(asyncio, "timeout"):  # Python 3.11
    WORKLOADS.append(call("asyncio.timeout", "timeout", 20_000))

CHAPTER = ServerChapter(
    "asyncio",
    WORKLOADS,
    {"fastmux": ("asyncio", "uvloop", "rloop"), GATHER: ("fastmux",)},
    "asyncio on {} against {}",
    QUICK=Settings(rounds=2, seconds=0.1, quick=True),
    FULL=Settings(rounds=6, seconds=0.2, quick=False),
    connections=MOST,
    remarks=(
        "CPU time of the server process per echo: the name of a row gives the API of the server (buffered: "
        "BufferedProtocol), the message size and the number of connections. connect to close: one echo per "
        "connection. datagrams: UDP, one in flight per client. The calls: CPU time of the calling process per call; of "
        "the bursts, per datagram with sending it. p99 beside bulk: not CPU time, but "
        "the latency of one echo while four connections exchange messages of 1 MiB. memory per connection: growth of "
        "the resident memory of the server by an idle connection; “faster” means less memory.",
        "a quick run skips most rows. rloop fails on Unix sockets and on connections that are closed at once.",
    ),
)
