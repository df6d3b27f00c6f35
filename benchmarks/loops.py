"""asyncio on fastmux, against asyncio as it is, uvloop and rloop: what a request costs the server's whole process.

Every measurement has a fresh server. What the standard loop's reads cost depends on what has happened to the heap
before: each allocates 256 KiB, which malloc() may or may not have to fetch from the kernel. So there is a row for a
server that has had visitors before, too.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from . import machine, process
from .results import BenchmarkError, Progress, Results, Row, ratios

CHAPTER = "asyncio"
HERE = Path(__file__).parent
OURS = "fastmux"
PEERS = ("asyncio", "uvloop", "rloop")


class Load(NamedTuple):
    """A server under load: the connections, the bytes per message, and how often it was under load before."""

    title: str
    server: str
    connections: int
    size: int
    before: int = 0


LOADS = [
    Load("Protocol, 64 B, 100", "protocol", 100, 64),
    Load("the same, second load", "protocol", 100, 64, before=1),
    Load("Protocol, 64 B, 1", "protocol", 1, 64),
    Load("Protocol, 64 B, 2000", "protocol", 2000, 64),
    Load("streams, 64 B, 100", "streams", 100, 64),
    Load("buffered, 1 KiB, 100", "buffered", 100, 1024),
    Load("Protocol, 1 MiB, 10", "protocol", 10, 1 << 20),
    Load("sock_recv, 64 B, 100", "sockets", 100, 64),
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
    loads: tuple[int, ...]  # of LOADS, by number
    calls: bool


QUICK = Settings(rounds=2, seconds=0.1, loads=(0, 1, 3, 4, 5, 7), calls=False)
FULL = Settings(rounds=9, seconds=0.25, loads=tuple(range(len(LOADS))), calls=True)


def names() -> list[str]:
    """The loops that there are here."""
    return [OURS, *(name for name in PEERS if importlib.util.find_spec(name) is not None)]


def title(name: str) -> str:
    return f"{name} {platform.python_version() if name == 'asyncio' else version(name)}"


def steps(settings: Settings) -> int:
    return settings.rounds * (len(settings.loads) + (len(CALLS) if settings.calls else 0))


@contextlib.contextmanager
def serving(loop: str, server: str, cpu: int | None) -> Iterator[subprocess.Popen[str]]:
    with process.child([sys.executable, str(HERE / "asyncio_server.py"), loop, server], cpu) as running:
        yield running


def address_of(loop: str, running: subprocess.Popen[str]) -> list[str]:
    assert running.stdout is not None
    first = running.stdout.readline()
    if not first.startswith("listening on "):
        raise BenchmarkError(f"the server on {loop} does not start: {running.communicate()[1].strip()}")
    host, _, port = first.removeprefix("listening on ").strip().rpartition(":")
    return [host, port]


def run(settings: Settings, workspace: Path, results: Results, progress: Progress) -> None:
    loops = names()
    for name in PEERS:
        if name not in loops:
            results.note(f"{name} is not installed; the optional dependencies called peers bring it.")
    generator = workspace / "loadgen"
    if reason := process.build(HERE / "loadgen.c", generator):
        results.note(f"The chapter asyncio is left out: its load generator is a program in C ({reason}).")
        for _ in range(steps(settings)):
            progress("left out")
        return
    cpus = sorted(os.sched_getaffinity(0))
    server_cpu, generator_cpu = (cpus[0], cpus[1]) if len(cpus) > 1 else (None, None)
    raw: dict[str, dict[str, list[float]]] = {}

    def load_once(load: Load) -> None:
        with contextlib.ExitStack() as stack:
            servers = {name: stack.enter_context(serving(name, load.server, server_cpu)) for name in loops}
            for name, running in servers.items():
                target = [*address_of(name, running), str(load.connections), str(load.size)]
                for _ in range(load.before):
                    process.run([str(generator), *target, "0.05"], generator_cpu)
                command = [str(generator), *target, str(settings.seconds), str(running.pid)]
                found = json.loads(process.run(command, generator_cpu, settings.seconds + 30))
                if found["errors"] or found["wrong"] or not found["requests"]:
                    raise BenchmarkError(f"the server on {name} has not echoed everything as it came: {found}")
                raw[load.title].setdefault(name, []).append(found["server_cpu_ns"] / found["requests"])

    def call_once(name: str, call: str, count: int) -> float:
        command = [sys.executable, "-m", f"{__package__}.asyncio_calls", name, call, str(count)]
        return float(process.run(command, server_cpu))

    loads = [LOADS[number] for number in settings.loads]
    if (needed := max(load.connections for load in loads) + 64) > machine.descriptor_limit():
        raise BenchmarkError(f"{needed} open files are needed, and the hard limit is {machine.descriptor_limit()}")
    for _ in range(settings.rounds):
        for load in loads:
            progress(load.title)
            raw.setdefault(load.title, {})
            load_once(load)
        for text, (call, count) in CALLS.items() if settings.calls else ():
            progress(text)
            for name in loops:
                raw.setdefault(text, {}).setdefault(name, []).append(call_once(name, call, count))
        loops.append(loops.pop(0))

    results.raw[CHAPTER] = raw
    for peer in PEERS:
        for text, times in raw.items():
            if peer in times:
                ours, theirs = times[OURS], times[peer]
                middle = statistics.median(theirs) / 1e3, statistics.median(ours) / 1e3
                row = Row(CHAPTER, "CPU per request", title(peer), OURS, text, "us", *middle, *ratios(theirs, ours))
                results.rows.append(row)
    results.note(
        "asyncio: the rows name what serves (buffered: a BufferedProtocol), the size of the messages, and how many "
        "connections there are. CPU time is that of the server's whole process."
    )
    if not settings.calls:
        results.note(
            "asyncio: a quick run leaves out the large messages, the single connection, and what has no socket."
        )
