"""Start servers, put them under load, and measure the cost per request."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import child_process, machine
from benchmarks.results import BenchmarkError

HERE = Path(__file__).parent
#: Generator -> its sources.
SOURCES = {"echo": ("echo.c", "load.c"), "http": ("http.c", "tls.c", "load.c")}
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
    """The load generators, and the CPUs for the server and the generator: two, if available."""

    commands: dict[str, list[str]]
    #: Why the generator in Python is used, which has echo only; None with those in C.
    fallback_reason: str | None
    server_cpu: int | None
    generator_cpu: int | None

    @classmethod
    def build(cls, workspace: Path) -> Load:
        """Compile the generators, unless the workspace has them."""
        cpus = sorted(os.sched_getaffinity(0))
        pinning = (cpus[0], cpus[1]) if len(cpus) > 1 else (None, None)
        for name, files in SOURCES.items():
            program = workspace / f"{name}-load"
            sources = [HERE / file for file in files]
            if not program.exists() and (reason := child_process.build(sources, program, "-D_GNU_SOURCE", "-ldl")):
                return cls({"echo": [sys.executable, str(HERE / "echo_fallback.py")]}, reason, *pinning)
        return cls({name: [str(workspace / f"{name}-load")] for name in SOURCES}, None, *pinning)

    @contextlib.contextmanager
    def serving(self, commands: Mapping[str, Sequence[str]]) -> Iterator[list[Server]]:
        """Run servers that print their addresses, on any CPU until all have started; stop them at the end."""
        with contextlib.ExitStack() as stack:
            started = {name: stack.enter_context(child_process.child(command)) for name, command in commands.items()}
            servers = [Server(name, process, _read_address(name, process)) for name, process in started.items()]
            for server in servers:
                child_process.pin(server.process, self.server_cpu)
            yield servers

    def echo(self, server: Server, connections: int, size: int, seconds: float, *options: str) -> dict[str, float]:
        """Return seconds per echo: elapsed time, CPU time of the server process, and latencies of the clients.

        The options are those of echo.c.
        """
        return self._drive("echo", server, [connections, size], seconds, *options)

    def http(self, server: Server, connections: int, seconds: float, body: bytes, *, tls: bool) -> dict[str, float]:
        """Return the same per HTTP request; each reply must have this body. tls needs libssl()."""
        options = [body.decode(), *filter(None, [libssl() if tls else None])]
        return self._drive("http", server, [connections], seconds, *options)

    def tls_echo(self, server: Server, connections: int, size: int, seconds: float, reply: int) -> float:
        """Return the CPU time of the server process per echo over TLS; see tls_echo.py."""
        numbers = map(str, (connections, size, seconds, server.process.pid, reply))
        command = [sys.executable, "-m", f"{__package__}.tls_echo", *server.address, *numbers]
        found: dict[str, Any] = json.loads(child_process.run(command, self.generator_cpu, seconds + 60))
        check_alive(server)
        if found["wrong"]:
            raise BenchmarkError(f"the server on {server.name} returned wrong replies over TLS: {found}")
        return float(found["server_cpu_ns"] / 1e9 / found["requests"])

    def beside_bulk(self, server: Server, seconds: float) -> float:
        """Return the 99th percentile of an echo's latency, beside four connections with messages of 1 MiB."""
        bulk = ["nice", *self._command("echo", server, [4, 1 << 20], seconds + 10)]
        with child_process.child(bulk, self.generator_cpu) as process:
            latency = self.echo(server, 1, 64, seconds)["p99"]
            if process.poll() is not None:
                raise BenchmarkError(f"the bulk load on {server.name} ended early: {process.communicate()[1].strip()}")
        return latency

    def _command(self, kind: str, server: Server, numbers: list[int], seconds: float, *options: str) -> list[str]:
        arguments = [*numbers, seconds, server.process.pid]
        return [*self.commands[kind], *server.address, *map(str, arguments), *options]

    def _drive(self, kind: str, server: Server, numbers: list[int], seconds: float, *options: str) -> dict[str, float]:
        command = self._command(kind, server, numbers, seconds, *options)
        found: dict[str, Any] = json.loads(child_process.run(command, self.generator_cpu, seconds + 30))
        check_alive(server)
        if found["errors"] or found["wrong"]:
            raise BenchmarkError(f"the server on {server.name} returned wrong or incomplete replies: {found}")
        if not found["requests"]:  # the machine is so busy that the server did not run
            if seconds > TIMEOUT:
                raise BenchmarkError(f"the server on {server.name} sent no reply within {seconds:.0f} s")
            return self._drive(kind, server, numbers, 2 * seconds, *options)
        return {
            "elapsed": found["seconds"] / found["requests"],
            "CPU": found["server_cpu_ns"] / 1e9 / found["requests"],
            "median": found["median_ns"] / 1e9,
            "p99": found["p99_ns"] / 1e9,
        }


def _read_address(name: str, process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    first = process.stdout.readline()
    if not first.startswith(LISTENING):
        raise BenchmarkError(f"the server on {name} does not start: {process.communicate()[1].strip()}")
    host, _, port = first.removeprefix(LISTENING).strip().rpartition(":")
    return [host, port]


@functools.cache
def libssl() -> str | None:
    """Return the file of the library that Python's ssl module has loaded, or a usual name if it is linked statically.

    Return None if there is none.
    """
    version = ssl.OPENSSL_VERSION_INFO
    name = f"libssl.so.{3 if version[0] >= 3 else '.'.join(map(str, version[:2]))}"
    for line in Path("/proc/self/maps").read_text().splitlines():
        _, slash, path = line.partition("/")
        if path.endswith(name):
            return slash + path
    try:
        ctypes.CDLL(name)
    except OSError:
        return None
    return name


def check_alive(server: Server) -> None:
    if server.process.poll() is not None:
        raise BenchmarkError(f"the server on {server.name} died: {server.process.communicate()[1].strip()}")


def check_descriptor_limit(connections: int) -> None:
    if reason := machine.missing_descriptors(connections):
        raise BenchmarkError(reason)


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
