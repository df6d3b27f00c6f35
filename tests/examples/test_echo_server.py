"""examples/echo_server.py under many clients."""

from __future__ import annotations

import socket

from .conftest import content, receive
from .crowd import TIMEOUT, reset

NAME = "echo_server"


def test_1000_clients_at_once_get_their_own_bytes_back(start, way, crowd):
    server = start(NAME, *way)
    for number in range(1000):
        crowd.add(server.address, content(2000 + 10 * number, number))

    crowd.run()

    assert len(crowd.finished) == 1000
    crowd.leave()
    assert server.end() == (0, "served 1000 clients\n", "")


def test_many_mebibytes_come_back_while_others_are_served(start, way, crowd):
    server = start(NAME, *way)
    large = crowd.add(server.address, content(20 << 20), receive_buffer=16 * 1024)
    for number in range(50):
        crowd.add(server.address, content(1000, number))

    crowd.run()

    assert crowd.finished[-1] is large


def test_a_client_that_never_reads_costs_no_memory_and_delays_no_other(start, way, crowd):
    server = start(NAME, *way)
    before = server.peak_memory()
    silent = [crowd.add(server.address, content(4 << 20), reads=False, receive_buffer=4096) for _ in range(20)]
    for number in range(50):
        crowd.add(server.address, content(100_000, number))

    crowd.run()

    assert all(client.sent > 0 for client in silent)
    assert server.peak_memory() - before < 16 << 20  # of the 80 MiB that they have to send


def test_data_received_before_the_end_of_input_is_still_sent(start, way, connect):
    server = start(NAME, *way)
    client, idle = connect(server), connect(server)
    message = content(300_000)
    client.sendall(message)
    client.shutdown(socket.SHUT_WR)
    idle.shutdown(socket.SHUT_WR)

    assert receive(client, len(message) + 1) == message  # and then the end
    assert receive(idle, 1) == b""


def test_data_left_in_the_socket_is_read_in_the_next_turn(start, way, connect):
    client = connect(start(NAME, *way, tiny_reads=True))
    client.sendall(content(5000))
    assert receive(client, 5000) == content(5000)


def test_resets_leave_others_unharmed(start, way, connect):
    server = start(NAME, *way)
    good, bad, unread = connect(server), connect(server), connect(server)
    unread.setblocking(False)
    unread.send(content(1 << 20))
    reset(unread)
    reset(bad)

    good.settimeout(TIMEOUT)
    good.sendall(b"still here")
    assert receive(good, 10) == b"still here"
