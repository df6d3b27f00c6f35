"""Fixtures that run the example programs: servers, commands and terminals."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import random
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastmux

from .crowd import TIMEOUT, Crowd, open_connection

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MECHANISMS = fastmux.Poller.mechanisms
#: The options for each way to wait.
WAYS = [*(["--mechanism", name] for name in MECHANISMS), *([["--edge"]] if "epoll" in MECHANISMS else [])]


def command(program: str, *options: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / f"{program}.py"), *options]


#: Runs a program with reads of 16 bytes, so that one turn of an edge-triggered loop leaves data in the socket.
TINY_READS = """
import importlib, sys
sys.path.insert(0, sys.argv.pop(1))
import serving
serving.READ_SIZE = 16
program = importlib.import_module(sys.argv.pop(1))
serving.run(program.main)
"""


class Server:
    """A running server that has printed its addresses."""

    def __init__(self, program: str, *options: str, ports: int = 1, tiny_reads: bool = False) -> None:
        arguments = command(program, *options)
        if tiny_reads:
            arguments = [sys.executable, "-c", TINY_READS, str(EXAMPLES), program, *options]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.addresses = []
        for _ in range(ports):
            line = self.line()
            assert line.startswith("listening on "), line + self.end(signal.SIGKILL)[2]
            host, _, port = line.removeprefix("listening on ").rpartition(":")
            self.addresses.append((host.strip("[]"), int(port)))
        self.address = self.addresses[0]

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        """Return the next line of its output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def descriptors(self) -> int:
        """Return the number of its open descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def peak_memory(self) -> int:
        """Return its peak resident memory in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def cpu_seconds(self, pid: int | None = None) -> float:
        """Return the CPU time of the server, or of one of its children."""
        fields = Path(f"/proc/{pid or self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; return the exit status and the rest of stdout and stderr."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, out, err


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Start servers on a free port. After the test, those still running must exit with status 0 on SIGTERM."""
    servers: list[Server] = []

    def start_one(program: str, *options: str, ports: int = 1, tiny_reads: bool = False) -> Server:
        free = [] if "--port" in options else ["--port", *["0"] * ports]
        servers.append(Server(program, *free, *options, ports=ports, tiny_reads=tiny_reads))
        return servers[-1]

    yield start_one
    try:
        for server in servers:
            if server.process.returncode is None:
                status, _, err = server.end()
                assert (status, err) == (0, "")
    finally:
        for server in servers:
            server.process.kill()
            server.process.communicate()


@pytest.fixture(params=WAYS, ids=" ".join)
def way(request: pytest.FixtureRequest) -> list[str]:
    """The options for one way to wait."""
    return list(request.param)


@pytest.fixture
def connect() -> Iterator[Callable[..., socket.socket]]:
    """Connect to a server, or to an address."""
    with contextlib.ExitStack() as stack:

        def connect_one(to: Any, receive_buffer: int | None = None) -> socket.socket:
            return stack.enter_context(open_connection(to.address if isinstance(to, Server) else to, receive_buffer))

        yield connect_one


@pytest.fixture
def run_example() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program until it exits."""

    def run(program: str, *options: str, **how: Any) -> subprocess.CompletedProcess[str]:
        how = {"stdin": subprocess.DEVNULL} | how if "input" not in how else how
        return subprocess.run(
            command(program, *options), capture_output=True, text=True, timeout=TIMEOUT, check=False, **how
        )

    return run


class Terminal:
    """A program in a pseudo-terminal of its own."""

    def __init__(self, program: str, *options: str) -> None:
        self.master, slave = pty.openpty()
        self.shown = ""
        try:
            self.process = subprocess.Popen(
                command(program, *options),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
            )
        finally:
            os.close(slave)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str) -> None:
        """Read the output up to and including this text."""
        deadline = time.monotonic() + TIMEOUT
        while text not in self.shown:
            ready = select.select([self.master], [], [], max(deadline - time.monotonic(), 0))[0]
            assert ready, f"no {text!r} after {TIMEOUT} s, only {self.shown!r}"
            try:
                self.shown += os.read(self.master, 65536).decode()
            except OSError:  # the terminal is closed
                pytest.fail(f"no {text!r} before the end, only {self.shown!r}")
        self.shown = self.shown.partition(text)[2]

    def status(self) -> int:
        return self.process.wait(TIMEOUT)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def open_terminal() -> Iterator[Callable[..., Terminal]]:
    """Run programs in pseudo-terminals."""
    terminals: list[Terminal] = []

    def open_one(program: str, *options: str) -> Terminal:
        terminals.append(Terminal(program, *options))
        return terminals[-1]

    yield open_one
    for terminal in terminals:
        terminal.close()


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def receive(sock: socket.socket, size: int) -> bytes:
    """Receive so many bytes, or fewer if the connection ends."""
    found = bytearray()
    while len(found) < size and (data := sock.recv(min(size - len(found), 1 << 16))):
        found += data
    return bytes(found)


@pytest.fixture
def crowd(descriptors_limit: Callable[[int], None]) -> Iterator[Crowd]:
    """A crowd with up to 4,000 descriptors."""
    descriptors_limit(4096)
    clients = Crowd()
    yield clients
    clients.leave()
