"""The echo server among the examples: a real process, real sockets, on every poller and mechanism that it offers."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fastmux

PATIENCE = 20.0
PROGRAM = Path(__file__).resolve().parent.parent / "examples" / "echo_server.py"
KINDS = [
    [*reference, *choice]
    for reference, poller in (([], fastmux.Poller), (["--reference"], fastmux.StdlibPoller))
    for choice in [*(["--mechanism", name] for name in poller.mechanisms), ["--edge"]]
]


class Server:
    """A running echo server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        first = process.stdout.readline()
        assert first.startswith("listening on "), first
        host, _, port = first.removeprefix("listening on ").rpartition(":")
        self.address = (host, int(port))

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; return the exit status and what was printed on the two channels after the first line."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


def popen(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Start servers; those that a test does not end must end well afterwards."""
    processes = []

    def start_one(*options: str) -> Server:
        processes.append(popen("--port", "0", *options))
        return Server(processes[-1])

    yield start_one
    try:
        for process in processes:
            if process.returncode is None:
                process.terminate()
                _, err = process.communicate(timeout=PATIENCE)
                assert (process.returncode, err) == (0, "")
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.fixture(params=KINDS, ids=" ".join)
def server(request, start):
    return start(*request.param)


@pytest.fixture
def connect() -> Iterator[Callable[[Server], socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield lambda server: stack.enter_context(socket.create_connection(server.address, timeout=PATIENCE))


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def receive(sock: socket.socket, size: int) -> bytes:
    """Receive so many bytes, or less if the connection ends."""
    found = bytearray()
    while len(found) < size and (data := sock.recv(min(size - len(found), 1 << 16))):
        found += data
    return bytes(found)


def assert_echoes(sock: socket.socket, message: bytes) -> None:
    sock.sendall(message)
    assert receive(sock, len(message)) == message


def reset(sock: socket.socket) -> None:
    """Close a connection with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_200_clients_at_once_get_their_own_bytes_back(server, connect):
    clients = [connect(server) for _ in range(200)]
    messages = [content(100 + 10 * seed, seed) for seed in range(200)]

    for _ in range(3):
        for client, message in zip(clients, messages):
            client.sendall(message)
        for client, message in zip(clients, messages):
            assert receive(client, len(message)) == message


def test_5_mebibytes_through_a_slow_reader_arrive_unharmed(server, connect):
    message = content(5 << 20)
    client = connect(server)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    client.setblocking(False)
    unsent, found = memoryview(message), bytearray()

    while len(found) < len(message):
        with contextlib.suppress(BlockingIOError):
            while unsent:
                unsent = unsent[client.send(unsent) :]
        assert select.select([client], [], [], PATIENCE)[0]
        data = client.recv(50_000)
        assert data
        found += data

    assert found == message


def test_a_client_that_does_not_read_is_not_read_from_either(server, connect):
    message = content(1 << 20)
    client, other = connect(server), connect(server)
    client.setblocking(False)
    sent = 0

    while select.select([], [client], [], 0.2)[1]:
        with contextlib.suppress(BlockingIOError):
            sent += client.send(message[sent % len(message) :])
        assert sent < 64 << 20, "the server's memory has no bound"
    assert_echoes(other, b"meanwhile")

    client.settimeout(PATIENCE)
    found = receive(client, sent)
    assert found == (message * (sent // len(message) + 1))[:sent]
    assert_echoes(client, b"awake again")


def test_what_came_before_the_end_of_input_is_still_sent(server, connect):
    message = content(1 << 20)
    client, idle = connect(server), connect(server)

    client.sendall(message)
    client.shutdown(socket.SHUT_WR)
    idle.shutdown(socket.SHUT_WR)

    assert receive(client, len(message) + 1) == message  # and then the end
    assert receive(idle, 1) == b""


def test_a_reset_leaves_other_clients_unharmed(server, connect):
    before, idle, busy = connect(server), connect(server), connect(server)
    assert_echoes(before, b"one")
    assert_echoes(idle, b"two")
    busy.sendall(content(2 << 20))  # more than the server can send back at once

    reset(idle)
    reset(busy)

    assert_echoes(before, content(100_000))
    assert_echoes(connect(server), b"three")
    assert server.end()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_it_with_a_summary(start, connect, number):
    server = start()
    client, gone = connect(server), connect(server)
    assert_echoes(client, b"twelve bytes")
    gone.shutdown(socket.SHUT_WR)
    assert receive(gone, 1) == b""

    assert server.end(number) == (0, "served 2 clients (1 still connected, 0 broken off), echoed 12 bytes\n", "")
    assert receive(client, 1) == b""


def test_without_a_free_descriptor_it_waits_instead_of_spinning(server, connect):
    first = connect(server)
    assert_echoes(first, b"1")
    used = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (used + 1, used + 1))
    second, third = connect(server), connect(server)  # the kernel accepts both
    assert_echoes(second, b"2")
    third.sendall(b"3")

    before = server.cpu_seconds()
    assert not select.select([third], [], [], 0.3)[0]
    assert server.cpu_seconds() - before < 0.15
    start = time.monotonic()
    first.close()
    assert receive(third, 1) == b"3"
    assert time.monotonic() - start < 0.5, "a descriptor that became free was not used at once"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "{taken}"], "cannot serve on 127.0.0.1:{taken}: [Errno 98] Address already in use"),
        (["--port", "0", "--host", "192.0.2.1"], "cannot serve on 192.0.2.1:0: [Errno 99]"),
        (["--port", "70000"], "cannot serve on 127.0.0.1:70000: bind(): port must be 0-65535"),
        (["--port", "0", "--mechanism", "poll", "--edge"], "EDGE is not possible with poll"),
    ],
    ids=["port taken", "not our address", "no such port", "impossible trigger"],
)
def test_what_cannot_be_done_is_said_in_one_line(options, message):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = str(holder.getsockname()[1])
        with popen(*(option.format(taken=taken) for option in options)) as process:
            out, err = process.communicate(timeout=PATIENCE)

    assert (process.returncode, out, err.count("\n")) == (1, "", 1)
    assert message.format(taken=taken) in err
