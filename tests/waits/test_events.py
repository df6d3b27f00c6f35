"""Every kind of event, with the standard library as the oracle."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys

import pytest

from fastmux import ERROR, HANGUP, PEER_CLOSED, PRIORITY, READ, WRITE

TIMEOUT = 20.0

needs_pipes = pytest.mark.skipif(sys.platform == "win32", reason="select() takes sockets only")


@pytest.fixture
def report(poller, oracle):
    """Register a file for events, wait, and compare the report with that of the standard library."""

    def report(fileobj, events, timeout=TIMEOUT):
        key = poller.register(fileobj, events)
        actual = poller.poll(timeout)
        expected = oracle(poller.mechanism, {key.fd: events})
        assert expected == actual
        return actual[0][1] if actual else None

    return report


def test_data_is_reported_as_read(report, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")

    assert report(ours, READ) == READ


def test_an_idle_socket_is_not_readable(report, socketpair):
    assert report(socketpair[0], READ, timeout=0) is None


def test_room_to_send_is_reported_as_write(report, socketpair):
    assert report(socketpair[0], READ | WRITE) == WRITE


def test_a_full_socket_is_not_writable(report, socketpair):
    ours, _ = socketpair
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(bytes(65536))

    assert report(ours, WRITE, timeout=0) is None


def test_data_and_room_are_one_report(report, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")

    assert report(ours, READ | WRITE) == READ | WRITE


def test_only_what_was_asked_for_is_reported(report, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")

    assert report(ours, WRITE) == WRITE


def test_an_incoming_connection_is_reported_as_read(report):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        assert report(server, READ) == READ


def test_a_connecting_socket_becomes_writable(report):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setblocking(False)
        client.connect_ex(server.getsockname())
        assert report(client, WRITE) == WRITE


def test_out_of_band_data_is_reported_as_priority(report, tcp_pair):
    ours, theirs = tcp_pair
    theirs.send(b"!", socket.MSG_OOB)

    assert report(ours, PRIORITY) == PRIORITY


def test_out_of_band_data_and_other_data_are_one_report(poller, oracle, tcp_pair):
    ours, theirs = tcp_pair
    theirs.send(b"!", socket.MSG_OOB)
    theirs.send(b"data")
    with select.epoll() as both_are_there:  # wait for both: they arrive one after the other
        both_are_there.register(ours, READ | PRIORITY | 1 << 31)
        seen = 0
        while seen != READ | PRIORITY:
            seen |= both_are_there.poll(TIMEOUT)[0][1]

    poller.register(ours, READ | PRIORITY)

    assert oracle(poller.mechanism, {ours.fileno(): READ | PRIORITY}) == poller.poll(0)
    assert poller.poll(0) == [(ours.fileno(), READ | PRIORITY)]


def test_a_closed_peer_is_readable(report, poller, socketpair):
    ours, theirs = socketpair
    theirs.close()

    assert report(ours, READ) == (READ if poller.mechanism == "select" else READ | HANGUP)


def test_a_hangup_is_reported_without_being_asked_for(report, poller, socketpair):
    """Except on select, which knows no other events than the requested ones."""
    ours, theirs = socketpair
    theirs.close()

    assert report(ours, 0, timeout=0) == (None if poller.mechanism == "select" else HANGUP)


@needs_pipes
def test_the_read_end_of_a_pipe_without_writers_hangs_up(report, poller):
    read_end, write_end = os.pipe()
    os.close(write_end)

    assert report(read_end, READ) == (READ if poller.mechanism == "select" else HANGUP)
    os.close(read_end)


@needs_pipes
def test_the_write_end_of_a_pipe_without_readers_has_an_error(report, poller):
    read_end, write_end = os.pipe()
    os.close(read_end)

    assert report(write_end, WRITE) == (WRITE if poller.mechanism == "select" else WRITE | ERROR)
    os.close(write_end)


@needs_pipes
def test_an_error_is_reported_without_being_asked_for(report, poller):
    read_end, write_end = os.pipe()
    os.close(read_end)

    assert report(write_end, 0, timeout=0) == (None if poller.mechanism == "select" else ERROR)
    os.close(write_end)


def test_asking_for_error_and_hangup_changes_nothing(report, poller, socketpair):
    ours, theirs = socketpair
    theirs.close()

    assert report(ours, ERROR | HANGUP, timeout=0) == (None if poller.mechanism == "select" else HANGUP)


def reset(connection):
    """Close a TCP connection with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_reset_connection_has_an_error_and_hangs_up(report, poller, tcp_pair):
    ours, theirs = tcp_pair
    reset(theirs)

    assert report(ours, READ) == (READ if poller.mechanism == "select" else READ | ERROR | HANGUP)


def test_a_reset_connection_ends_a_wait_to_write(report, poller, tcp_pair):
    ours, theirs = tcp_pair
    reset(theirs)
    with select.epoll() as arrival:
        arrival.register(ours, 0)
        assert arrival.poll(TIMEOUT)

    assert report(ours, WRITE) == (WRITE if poller.mechanism == "select" else WRITE | ERROR | HANGUP)


def test_a_refused_connection_ends_a_wait_to_write(report, poller):
    with socket.socket() as listener:  # reserves the port, but does not listen
        listener.bind(("127.0.0.1", 0))
        with socket.socket() as client:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())

            events = report(client, WRITE)

            assert events == (WRITE if poller.mechanism == "select" else WRITE | ERROR | HANGUP)
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


@pytest.mark.parametrize("pair", ["socketpair", "tcp_pair"])
def test_a_half_closed_peer_is_reported_if_asked_for(poller, oracle, pair, request):
    ours, theirs = request.getfixturevalue(pair)
    refusals = {"select": "PEER_CLOSED is not possible with select: select knows readable"}
    if sys.platform != "linux":
        refusals["poll"] = "PEER_CLOSED is not possible with poll: .* PEER_CLOSED needs Linux"
    if refusal := refusals.get(poller.mechanism):
        with pytest.raises(ValueError, match=refusal):
            poller.register(ours, READ | PEER_CLOSED)
        poller.register(ours, READ)
        with pytest.raises(ValueError, match=refusal):
            poller.modify(ours, READ | PEER_CLOSED)
        return
    poller.register(ours, READ | PEER_CLOSED)
    assert poller.poll(0) == []

    theirs.shutdown(socket.SHUT_WR)

    assert poller.poll(TIMEOUT) == [(ours.fileno(), READ | PEER_CLOSED)]
    assert oracle(poller.mechanism, {ours.fileno(): READ | PEER_CLOSED}) == poller.poll(0)


def test_a_half_closed_peer_is_just_readable_if_not_asked_for(report, socketpair):
    ours, theirs = socketpair
    theirs.shutdown(socket.SHUT_WR)

    assert report(ours, READ) == READ


def test_a_half_closed_peer_still_takes_data(report, socketpair):
    ours, theirs = socketpair
    theirs.shutdown(socket.SHUT_WR)

    assert report(ours, WRITE) == WRITE
    ours.send(b"x")
    assert theirs.recv(1) == b"x"


def test_both_directions_shut_down_hang_up(report, poller, socketpair):
    ours, theirs = socketpair
    theirs.shutdown(socket.SHUT_RDWR)

    assert report(ours, READ | WRITE) == READ | WRITE | (0 if poller.mechanism == "select" else HANGUP)


def test_a_datagram_is_reported_as_read(report):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", receiver.getsockname())

        assert report(receiver, READ) == READ


def test_one_report_per_descriptor_however_much_has_happened(poller, socketpair):
    ours, theirs = socketpair
    poller.register(ours, READ)
    for _ in range(5):
        theirs.send(b"x")

    assert poller.poll(TIMEOUT) == [(ours.fileno(), READ)]


def test_events_of_several_descriptors_come_together(poller, oracle, make_socketpair):
    pairs = [make_socketpair() for _ in range(4)]
    pairs[0][1].send(b"x")
    pairs[1][1].close()
    interest = {ours.fileno(): READ | WRITE * (i == 2) for i, (ours, _) in enumerate(pairs)}
    for fd, events in interest.items():
        poller.register(fd, events)

    expected = oracle(poller.mechanism, interest)

    assert len(expected) == 3
    assert expected == sorted(poller.poll(0))
