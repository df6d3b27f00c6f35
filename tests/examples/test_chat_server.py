"""examples/chat_server.py: each message goes to all other clients."""

from __future__ import annotations

import select
import socket
import time

import pytest

from .conftest import receive
from .crowd import TIMEOUT, reset

NAME = "chat_server"


def name_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()
    return f"{host}:{port}"


class Member:
    """A client of the chat, with the messages and notices that it has received."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.name = name_of(sock)
        self._rest = b""
        self.messages: list[str] = []
        self.notices: list[str] = []

    def receive(self) -> bool:
        """Receive one piece; return False at the end of the stream."""
        data = self.sock.recv(1 << 20)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            (self.notices if line.startswith(b"* ") else self.messages).append(line.decode())
        return bool(data)

    def send(self, text: str) -> None:
        self.sock.sendall(text.encode() + b"\n")


@pytest.fixture
def join(connect):
    """Join the chat; return after the server has announced it."""

    def join_one(server, **how) -> Member:
        member = Member(connect(server, **how))
        while server.line() != f"{member.name} joins":
            pass
        return member

    return join_one


def receive_until(members: list[Member], count: int) -> None:
    """Receive until each member has so many messages."""
    missing = {member.sock: member for member in members if len(member.messages) < count}
    while missing:
        ready = select.select(list(missing), [], [], TIMEOUT)[0]
        assert ready, f"{len(missing)} members miss a message"
        for sock in ready:
            assert missing[sock].receive()
            if len(missing[sock].messages) >= count:
                del missing[sock]


def test_100_clients_receive_all_messages_of_the_others_in_order(start, way, join):
    server = start(NAME, *way)
    members = [join(server) for _ in range(100)]
    rounds = 5

    for number in range(rounds):
        for member in members:
            member.send(f"remark {number}")
        receive_until(members, (number + 1) * 99)

    for member in members:
        expected = {other.name: [f"remark {number}" for number in range(rounds)] for other in members}
        del expected[member.name]
        received: dict[str, list[str]] = {}
        for message in member.messages:
            sender, _, text = message.partition(": ")
            received.setdefault(sender, []).append(text)
        assert received == expected


def test_a_stalled_client_loses_nothing_and_delays_no_other(start, way, join):
    server = start(NAME, *way)
    stalled = join(server, receive_buffer=16 * 1024)
    members = [join(server) for _ in range(99)]
    count = 600
    long = "x" * 8000  # 4.8 MB in all: more than the kernel buffers

    for number in range(count):
        members[0].send(f"{number} {long}")
        if number % 100 == 99:
            receive_until(members[1:], number + 1)

    receive_until([stalled], count)
    assert stalled.messages == members[1].messages
    assert [message.split()[1] for message in stalled.messages] == [str(number) for number in range(count)]


def test_a_client_that_stops_reading_is_dropped_at_the_limit(start, way, join):
    server = start(NAME, *way, "--queue-limit", "100000")
    before = server.peak_memory()
    silent = join(server, receive_buffer=4096)
    speaker, listener = join(server), join(server)
    count = 0

    while not any(silent.name in line for line in listener.notices):
        assert count < 100_000_000, "its queue has no limit"
        speaker.send("x" * 10_000)
        count += 1
        receive_until([listener], count)

    assert [line for line in listener.notices if silent.name in line] == [f"* {silent.name} does not keep up"]
    assert server.peak_memory() - before < 16 << 20


def test_joining_and_leaving_is_announced_to_the_others(start, way, join):
    server = start(NAME, *way)
    first, second, third = join(server), join(server), join(server)
    second.sock.shutdown(socket.SHUT_WR)
    assert receive(second.sock, 1000).endswith(f"* {third.name} joins\n".encode())
    third.send("gone?")
    receive_until([first], 1)
    reset(third.sock)
    while len(first.notices) < 4:
        assert first.receive()

    assert first.notices == [
        f"* {second.name} joins",
        f"* {third.name} joins",
        f"* {second.name} leaves",
        f"* {third.name} is gone",
    ]


def test_many_resets_at_once_leave_the_others_connected(start, way, join):
    server = start(NAME, *way)
    staying, speaking = join(server), join(server)
    leaving = [join(server) for _ in range(400)]
    for member in leaving:
        reset(member.sock)
    speaking.send("hello?")

    receive_until([staying], 1)
    deadline = time.monotonic() + TIMEOUT
    while len(staying.notices) < 1 + 2 * 400:
        assert time.monotonic() < deadline
        assert staying.receive()


def test_data_left_in_the_socket_is_read_in_the_next_turn(start, way, join):
    server = start(NAME, *way, tiny_reads=True)
    speaker, listener = join(server), join(server)
    speaker.send("\n".join(str(number) for number in range(1000)))

    receive_until([listener], 1000)
    assert listener.messages == [f"{speaker.name}: {number}" for number in range(1000)]


def test_lines_are_whole_and_control_characters_stay_out(start, way, join):
    server = start(NAME, *way)
    first, second = join(server), join(server)
    second.sock.sendall(b"hal")
    second.sock.sendall("f a line\x1b[31m\r\nü\t!\n".encode())

    receive_until([first], 2)
    assert first.messages == [f"{second.name}: half a line[31m", f"{second.name}: ü!"]
