"""Servers under load, for the chapters asyncio and echo: started, driven by loadgen, and what a request costs them."""

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

from . import machine, process
from .results import BenchmarkError

HERE = Path(__file__).parent
LOCAL = "listening on "
PATIENCE = 10  # seconds


@dataclass
class Server:
    name: str
    process: subprocess.Popen[str]
    address: list[str]


@dataclass
class Load:
    """The generator, and the CPUs: one for the server, another for the load, where there are two."""

    command: list[str]
    #: Why it is the generator in Python, if it is.
    reason: str | None
    server_cpu: int | None
    generator_cpu: int | None

    @classmethod
    def build(cls, workspace: Path) -> Load:
        cpus = sorted(os.sched_getaffinity(0))
        places = (cpus[0], cpus[1]) if len(cpus) > 1 else (None, None)
        if reason := process.build(HERE / "loadgen.c", workspace / "loadgen"):
            return cls([sys.executable, str(HERE / "loadgen.py")], reason, *places)
        return cls([str(workspace / "loadgen")], None, *places)

    @contextlib.contextmanager
    def serving(self, name: str, program: Sequence[str]) -> Iterator[Server]:
        """A program of this directory that prints where it listens, stopped at the end."""
        with process.child(program, self.server_cpu) as running:
            assert running.stdout is not None
            first = running.stdout.readline()
            if not first.startswith(LOCAL):
                raise BenchmarkError(f"the server on {name} does not start: {running.communicate()[1].strip()}")
            host, _, port = first.removeprefix(LOCAL).strip().rpartition(":")
            yield Server(name, running, [host, port])

    def drive(self, server: Server, connections: int, size: int, seconds: float) -> dict[str, float]:
        """Return the seconds of a request: of the clock, of the server's whole process, and how long clients waited."""
        command = [*self.command, *server.address, str(connections), str(size), str(seconds), str(server.process.pid)]
        found: dict[str, Any] = json.loads(process.run(command, self.generator_cpu, seconds + 30))
        if server.process.poll() is not None:
            raise BenchmarkError(f"the server on {server.name} has died: {server.process.communicate()[1].strip()}")
        if found["errors"] or found["wrong"]:
            raise BenchmarkError(f"the server on {server.name} has not echoed everything as it came: {found}")
        if not found["requests"]:  # on a machine so busy that the server was not given a turn
            if seconds > PATIENCE:
                raise BenchmarkError(f"the server on {server.name} has answered nothing in {seconds:.0f} s")
            return self.drive(server, connections, size, 2 * seconds)
        return {
            "clock": found["seconds"] / found["requests"],
            "CPU": found["server_cpu_ns"] / 1e9 / found["requests"],
            "median": found["median_ns"] / 1e9,
            "p99": found["p99_ns"] / 1e9,
        }


def check_limit(connections: int) -> None:
    if (needed := connections + 64) > machine.descriptor_limit():
        raise BenchmarkError(f"{needed:,} open files are needed, and the hard limit is {machine.descriptor_limit():,}")
