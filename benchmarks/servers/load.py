"""Start servers, put them under load, and measure the cost per request."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
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

    def arguments(self, server: Server, connections: int, size: int, seconds: float, *options: str) -> list[str]:
        """Return the command line of the load generator; the options are those of loadgen.c."""
        numbers = connections, size, seconds, server.process.pid
        return [*self.command, *server.address, *map(str, numbers), *options]

    def drive(self, server: Server, connections: int, size: int, seconds: float, *options: str) -> dict[str, float]:
        """Return seconds per request: elapsed time, CPU time of the server process, and latencies of the clients."""
        command = self.arguments(server, connections, size, seconds, *options)
        found: dict[str, Any] = json.loads(child_process.run(command, self.generator_cpu, seconds + 30))
        check_alive(server)
        if found["errors"] or found["wrong"]:
            raise BenchmarkError(f"the server on {server.name} returned wrong or incomplete echoes: {found}")
        if not found["requests"]:  # the machine is so busy that the server did not run
            if seconds > TIMEOUT:
                raise BenchmarkError(f"the server on {server.name} sent no reply within {seconds:.0f} s")
            return self.drive(server, connections, size, 2 * seconds, *options)
        return {
            "elapsed": found["seconds"] / found["requests"],
            "CPU": found["server_cpu_ns"] / 1e9 / found["requests"],
            "median": found["median_ns"] / 1e9,
            "p99": found["p99_ns"] / 1e9,
        }

    def drive_tls(self, server: Server, connections: int, size: int, seconds: float, reply: int) -> float:
        """Return the CPU time of the server process per request over TLS; see tls_load.py."""
        numbers = map(str, (connections, size, seconds, server.process.pid, reply))
        command = [sys.executable, "-m", f"{__package__}.tls_load", *server.address, *numbers]
        found: dict[str, Any] = json.loads(child_process.run(command, self.generator_cpu, seconds + 60))
        check_alive(server)
        if found["wrong"]:
            raise BenchmarkError(f"the server on {server.name} returned wrong replies over TLS: {found}")
        return float(found["server_cpu_ns"] / 1e9 / found["requests"])

    def drive_beside_bulk(self, server: Server, seconds: float) -> float:
        """Return the 99th percentile of an echo's latency, beside four connections with messages of 1 MiB."""
        bulk = ["nice", *self.arguments(server, 4, 1 << 20, seconds + 10)]
        with child_process.child(bulk, self.generator_cpu) as process:
            latency = self.drive(server, 1, 64, seconds)["p99"]
            if process.poll() is not None:
                raise BenchmarkError(f"the bulk load on {server.name} ended early: {process.communicate()[1].strip()}")
        return latency

    def drive_http(self, server: Server, connections: int) -> float:
        """Return the CPU time per HTTP request of the server process, under wrk."""
        command = ["wrk", "-t1", f"-c{connections}", "-d1s", "http://{}:{}/".format(*server.address)]
        clock = ~server.process.pid << 3 | 2  # clock_getcpuclockid(3): the CPU time of that process
        before = time.clock_gettime(clock)
        output = child_process.run(command, self.generator_cpu)
        used = time.clock_gettime(clock) - before
        check_alive(server)
        requests = re.search(r"(\d+) requests in", output)
        if requests is None or not int(requests[1]) or re.search("Socket errors|Non-2xx", output):
            raise BenchmarkError(f"the server on {server.name} returned errors: {output}")
        return used / int(requests[1])


def idle_memory(server: Server, connections: int) -> float:
    """Return the resident memory of the server process per idle connection, in bytes."""
    statm = Path(f"/proc/{server.process.pid}/statm")
    resident = []
    with contextlib.ExitStack() as stack:
        for more in (100, connections):  # the first are a warm-up
            for _ in range(more):
                client = stack.enter_context(socket.create_connection((server.address[0], int(server.address[1]))))
                client.sendall(b"x")
                client.recv(1)
            resident.append(int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    return (resident[1] - resident[0]) / connections


def check_alive(server: Server) -> None:
    if server.process.poll() is not None:
        raise BenchmarkError(f"the server on {server.name} died: {server.process.communicate()[1].strip()}")


def check_descriptor_limit(connections: int) -> None:
    if reason := machine.missing_descriptors(connections):
        raise BenchmarkError(reason)
