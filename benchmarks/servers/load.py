"""Start servers, put them under load, and measure the cost per request."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import child_process, machine
from benchmarks.results import BenchmarkError

HERE = Path(__file__).parent
#: Prefix of the first line that a server prints; the address follows.
LISTENING = "listening on "
TIMEOUT = 10  # seconds


@dataclass
class Server:
    name: str
    process: subprocess.Popen[str]
    address: list[str]


@dataclass
class Load:
    """The load generator, and the CPUs for the server and the generator: two, if available."""

    command: list[str]
    #: Why the generator in Python is used; None with the one in C.
    fallback_reason: str | None
    server_cpu: int | None
    generator_cpu: int | None

    @classmethod
    def build(cls, workspace: Path) -> Load:
        cpus = sorted(os.sched_getaffinity(0))
        pinning = (cpus[0], cpus[1]) if len(cpus) > 1 else (None, None)
        if reason := child_process.build(HERE / "loadgen.c", workspace / "loadgen"):
            return cls([sys.executable, str(HERE / "loadgen.py")], reason, *pinning)
        return cls([str(workspace / "loadgen")], None, *pinning)

    @contextlib.contextmanager
    def serving(self, name: str, command: Sequence[str]) -> Iterator[Server]:
        """Run a server that prints its address; stop it at the end."""
        with child_process.child(command, self.server_cpu) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            if not first.startswith(LISTENING):
                raise BenchmarkError(f"the server on {name} does not start: {process.communicate()[1].strip()}")
            host, _, port = first.removeprefix(LISTENING).strip().rpartition(":")
            yield Server(name, process, [host, port])

    def drive(self, server: Server, connections: int, size: int, seconds: float) -> dict[str, float]:
        """Return seconds per request: elapsed time, CPU time of the server process, and latencies of the clients."""
        command = [*self.command, *server.address, str(connections), str(size), str(seconds), str(server.process.pid)]
        found: dict[str, Any] = json.loads(child_process.run(command, self.generator_cpu, seconds + 30))
        if server.process.poll() is not None:
            raise BenchmarkError(f"the server on {server.name} died: {server.process.communicate()[1].strip()}")
        if found["errors"] or found["wrong"]:
            raise BenchmarkError(f"the server on {server.name} returned wrong or incomplete echoes: {found}")
        if not found["requests"]:  # the machine is so busy that the server did not run
            if seconds > TIMEOUT:
                raise BenchmarkError(f"the server on {server.name} sent no reply within {seconds:.0f} s")
            return self.drive(server, connections, size, 2 * seconds)
        return {
            "elapsed": found["seconds"] / found["requests"],
            "CPU": found["server_cpu_ns"] / 1e9 / found["requests"],
            "median": found["median_ns"] / 1e9,
            "p99": found["p99_ns"] / 1e9,
        }


def check_descriptor_limit(connections: int) -> None:
    if reason := machine.missing_descriptors(connections):
        raise BenchmarkError(reason)
