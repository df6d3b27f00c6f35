"""examples/queued_echo_server.py under slow, silent and resetting clients."""

from __future__ import annotations

import contextlib
import resource
import select
import signal
import socket
import time

import pytest

from .conftest import content, receive
from .crowd import TIMEOUT, reset

NAME = "queued_echo_server"


@pytest.fixture
def server(start, way):
    return start(NAME, *way)


def assert_echoes(sock: socket.socket, message: bytes) -> None:
    sock.sendall(message)
    assert receive(sock, len(message)) == message


def test_1000_clients_many_of_them_hostile_and_some_of_them_large(start, way, crowd, connect):
    """100 never read, 100 reset in mid-message, 3 echo 50 MiB each (one reads slowly), 797 are well-behaved."""
    limit = 64 * 1024
    server = start(NAME, *way, "--queue-limit", str(limit))
    before = server.peak_memory()
    piece = content(1 << 20)
    for number in range(100):
        crowd.add(server.address, piece, reads=False, receive_buffer=4096)
        crowd.add(server.address, content(20_000, number), reset_after=10_000)
    large = [
        crowd.add(server.address, content(50 << 20, number), receive_buffer=(None, None, 16 * 1024)[number])
        for number in range(3)
    ]
    small = [crowd.add(server.address, content(2000 + 10 * number, number)) for number in range(797)]

    crowd.run()

    # Every reading client has its own bytes back: the crowd compares them.
    assert all(client.received == len(client.message) for client in (*large, *small))
    assert set(crowd.finished[-2:]) < set(large), "a small client had to wait for the large ones"
    # The queues of clients that do not read are bounded.
    assert server.peak_memory() - before < 48 << 20
    assert_echoes(connect(server), b"and is still served")
    crowd.leave()
    status, out, err = server.end()
    assert (status, err) == (0, "")
    assert out.startswith("served 1001 clients (")


def test_the_server_does_not_read_from_a_client_that_does_not_read(server, connect):
    message = content(1 << 20)
    client, other = connect(server), connect(server)
    client.setblocking(False)
    sent = 0

    while select.select([], [client], [], 0.2)[1]:
        with contextlib.suppress(BlockingIOError):
            sent += client.send(message[sent % len(message) :])
        assert sent < 64 << 20, "the server's memory has no bound"
    assert_echoes(other, b"meanwhile")
    before = server.cpu_seconds()
    time.sleep(0.3)
    assert server.cpu_seconds() - before < 0.15, "it spins while it waits for the client"

    client.settimeout(TIMEOUT)
    found = receive(client, sent)
    assert found == (message * (sent // len(message) + 1))[:sent]
    assert_echoes(client, b"awake again")


def test_data_received_before_the_end_of_input_is_still_sent(server, connect):
    message = content(1 << 20)
    client, idle = connect(server), connect(server)

    client.sendall(message)
    client.shutdown(socket.SHUT_WR)
    idle.shutdown(socket.SHUT_WR)

    assert receive(client, len(message) + 1) == message  # and then the end
    assert receive(idle, 1) == b""


def test_data_left_in_the_socket_is_read_in_the_next_turn(start, way, connect):
    server = start(NAME, *way, tiny_reads=True)
    assert_echoes(connect(server), content(5000))


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


def test_only_idle_clients_are_dropped(start, way, connect):
    server = start(NAME, *way, "--idle-timeout", "1", "--queue-limit", "1000")
    busy = connect(server)
    assert_echoes(busy, b"first")
    silent, stalled = connect(server), connect(server, receive_buffer=4096)
    stalled.setblocking(False)
    message = content(1 << 20)
    with contextlib.suppress(BlockingIOError):
        while True:  # until the buffers are full
            stalled.send(message)

    # The server closes their sockets.
    dropped = select.poll()
    dropped.register(silent, select.POLLRDHUP)
    dropped.register(stalled, 0)  # its unread input turns the close into a reset
    deadline = time.monotonic() + TIMEOUT
    while len(dropped.poll(0)) < 2:
        assert time.monotonic() < deadline
        assert_echoes(busy, b"busy")
        time.sleep(0.02)

    assert silent.recv(1) == b""
    assert_echoes(busy, b"still there")
    assert "(1 still connected, 0 broken off, 2 idle for too long)" in server.end()[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_it_with_a_summary(start, connect, number):
    server = start(NAME)
    client, gone = connect(server), connect(server)
    assert_echoes(client, b"twelve bytes")
    gone.shutdown(socket.SHUT_WR)
    assert receive(gone, 1) == b""

    summary = "served 2 clients (1 still connected, 0 broken off, 0 idle for too long), echoed 12 bytes\n"
    assert server.end(number) == (0, summary, "")
    assert receive(client, 1) == b""


def test_without_a_free_descriptor_it_waits_instead_of_spinning(server, connect):
    first = connect(server)
    assert_echoes(first, b"1")
    used = server.descriptors()
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + 1, used + 1))
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


def test_its_descriptor_limit_is_the_hard_one(start, descriptors_limit):
    descriptors_limit(256)
    server = start(NAME)

    soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    assert soft == hard
