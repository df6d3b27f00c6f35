"""Servers under load: examples/queued_echo_server.py on fastmux, and the same server on the standard library."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import machine, process
from .results import BenchmarkError, Progress, Results, Row, ratios

HERE = Path(__file__).parent
PROGRAM = HERE.parent / "examples" / "queued_echo_server.py"
#: name -> command line; all three run the same handlers.
SERVERS = {
    "fastmux": [sys.executable, str(PROGRAM)],
    "selectors": [sys.executable, str(HERE / "server_on_selectors.py")],
    "StdlibPoller": ["env", "FASTMUX_PURE=1", sys.executable, str(PROGRAM)],
}
SIZE = 64


@dataclass
class Settings:
    connections: int
    rounds: int
    seconds: float  # per server and round


QUICK = Settings(connections=200, rounds=8, seconds=0.5)
FULL = Settings(connections=200, rounds=15, seconds=2)


@dataclass
class Server:
    process: subprocess.Popen[str]
    host: str
    port: str

    def cpu_seconds(self) -> float:
        """The CPU time that it has used: exact where the kernel tells, else in ticks."""
        files = Path(f"/proc/{self.process.pid}")
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int((files / "schedstat").read_text().split()[0]) / 1e9
        fields = (files / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def steps(settings: Settings) -> int:
    return len(SERVERS) * (settings.rounds + 1)


@contextlib.contextmanager
def serving(name: str, cpu: int | None) -> Iterator[Server]:
    with process.child([*SERVERS[name], "--port", "0"], cpu) as running:
        assert running.stdout is not None
        first = running.stdout.readline()
        if not first.startswith("listening on "):
            raise BenchmarkError(f"the server on {name} does not start: {running.communicate()[1].strip()}")
        host, _, port = first.removeprefix("listening on ").strip().rpartition(":")
        yield Server(running, host, port)


def run(settings: Settings, workspace: Path, results: Results, progress: Progress) -> None:
    if (needed := settings.connections + 64) > machine.descriptor_limit():
        raise BenchmarkError(f"{needed} open files are needed, and the hard limit is {machine.descriptor_limit()}")
    generator = [str(workspace / "loadgen")]
    if reason := process.build(HERE / "loadgen.c", workspace / "loadgen"):
        generator = [sys.executable, str(HERE / "loadgen.py")]
        results.note(
            f"The load comes from a generator in Python ({reason}). It costs as much as the servers, so look at "
            "the CPU time per request; the other figures are mostly its own."
        )
    cpus = sorted(os.sched_getaffinity(0))
    server_cpu, generator_cpu = (cpus[0], cpus[1]) if len(cpus) > 1 else (None, None)
    measured: dict[str, dict[str, list[float]]] = {name: {} for name in SERVERS}

    def drive(name: str, server: Server, seconds: float) -> dict[str, float]:
        command = [*generator, server.host, server.port, str(settings.connections), str(SIZE), str(seconds)]
        before = server.cpu_seconds()
        found = json.loads(process.run(command, generator_cpu, seconds + 30))
        if server.process.poll() is not None:
            raise BenchmarkError(f"the server on {name} has died: {server.process.communicate()[1].strip()}")
        if found["errors"] or found["wrong"] or not found["requests"]:
            raise BenchmarkError(f"the server on {name} has not echoed everything as it came: {found}")
        return {
            "requests/s": found["requests"] / found["seconds"],
            "CPU us": (server.cpu_seconds() - before) * 1e6 / found["requests"],
            "median us": found["median_ns"] / 1e3,
            "p99 us": found["p99_ns"] / 1e3,
        }

    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(serving(name, server_cpu)) for name in SERVERS}
        for name, server in servers.items():
            progress(f"echo server on {name}, warming up")
            drive(name, server, 0.2)
        names = list(servers)
        for _ in range(settings.rounds):
            for name in names:
                progress(f"echo server on {name}")
                for key, value in drive(name, servers[name], settings.seconds).items():
                    measured[name].setdefault(key, []).append(value)
            names.append(names.pop(0))

    results.raw["echo"] = measured
    for other in ("selectors", "StdlibPoller"):
        counterpart = {"selectors": "EpollSelector"}.get(other, other)
        section = f"Echo server, {settings.connections} clients"
        ours, theirs = measured["fastmux"], measured[other]
        for title, key, unit in (
            ("requests per second", "requests/s", "/s"),
            ("CPU time per request", "CPU us", "us"),
            ("latency, median", "median us", "us"),
            ("latency, 99th percentile", "p99 us", "us"),
        ):
            more_is_better = key == "requests/s"
            ratio = ratios(ours[key], theirs[key]) if more_is_better else ratios(theirs[key], ours[key])
            middle = statistics.median(theirs[key]), statistics.median(ours[key])
            results.rows.append(Row("echo", section, counterpart, "Poller", title, unit, *middle, *ratio))
