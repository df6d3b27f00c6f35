"""examples/chat_server.py: what one says goes to all others."""

from __future__ import annotations

import select
import socket
import time

import pytest

from .conftest import receive
from .crowd import PATIENCE, reset

NAME = "chat_server"


def name_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()
    return f"{host}:{port}"


class Member:
    """One who chats: what has been heard is kept, without the coming and going of others."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.name = name_of(sock)
        self._rest = b""
        self.heard: list[str] = []
        self.news: list[str] = []

    def listen(self) -> bool:
        """Take what has come; return False at the end."""
        data = self.sock.recv(1 << 20)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            (self.news if line.startswith(b"* ") else self.heard).append(line.decode())
        return bool(data)

    def say(self, text: str) -> None:
        self.sock.sendall(text.encode() + b"\n")


@pytest.fixture
def join(connect):
    """Join a chat; return when the server has noticed."""

    def join_one(server, **how) -> Member:
        member = Member(connect(server, **how))
        while server.line() != f"{member.name} joins":
            pass
        return member

    return join_one


def listen_until(members: list[Member], count: int) -> None:
    """Have all members listen until each has heard so many messages."""
    missing = {member.sock: member for member in members if len(member.heard) < count}
    while missing:
        ready = select.select(list(missing), [], [], PATIENCE)[0]
        assert ready, f"{len(missing)} members still miss something"
        for sock in ready:
            assert missing[sock].listen()
            if len(missing[sock].heard) >= count:
                del missing[sock]


def test_100_clients_hear_everything_that_others_say_in_order(start, way, join):
    server = start(NAME, *way)
    members = [join(server) for _ in range(100)]
    rounds = 5

    for number in range(rounds):
        for member in members:
            member.say(f"remark {number}")
        listen_until(members, (number + 1) * 99)

    for member in members:
        expected = {other.name: [f"remark {number}" for number in range(rounds)] for other in members}
        del expected[member.name]
        heard: dict[str, list[str]] = {}
        for message in member.heard:
            sender, _, text = message.partition(": ")
            heard.setdefault(sender, []).append(text)
        assert heard == expected


def test_one_that_stalls_loses_nothing_and_delays_nobody(start, way, join):
    server = start(NAME, *way)
    stalled = join(server, receive_buffer=16 * 1024)
    members = [join(server) for _ in range(99)]
    count = 600
    long = "x" * 8000  # 4.8 MB in all: more than the kernel keeps for one that does not read

    for number in range(count):
        members[0].say(f"{number} {long}")
        if number % 100 == 99:
            listen_until(members[1:], number + 1)

    listen_until([stalled], count)
    assert stalled.heard == members[1].heard
    assert [message.split()[1] for message in stalled.heard] == [str(number) for number in range(count)]


def test_one_that_never_reads_again_is_dropped_at_the_limit(start, way, join):
    server = start(NAME, *way, "--queue-limit", "100000")
    before = server.peak_memory()
    silent = join(server, receive_buffer=4096)
    speaker, listener = join(server), join(server)
    count = 0

    while not any(silent.name in line for line in listener.news):
        assert count < 100_000_000, "its queue has no limit"
        speaker.say("x" * 10_000)
        count += 1
        listen_until([listener], count)

    assert [line for line in listener.news if silent.name in line] == [f"* {silent.name} does not keep up"]
    assert server.peak_memory() - before < 16 << 20


def test_joining_and_leaving_is_told_to_the_others(start, way, join):
    server = start(NAME, *way)
    first, second, third = join(server), join(server), join(server)
    second.sock.shutdown(socket.SHUT_WR)
    assert receive(second.sock, 1000).endswith(f"* {third.name} joins\n".encode())
    third.say("gone?")
    listen_until([first], 1)
    reset(third.sock)
    while len(first.news) < 4:
        assert first.listen()

    assert first.news == [
        f"* {second.name} joins",
        f"* {third.name} joins",
        f"* {second.name} leaves",
        f"* {third.name} is gone",
    ]


def test_many_who_break_off_together_take_nobody_with_them(start, way, join):
    server = start(NAME, *way)
    staying, speaking = join(server), join(server)
    leaving = [join(server) for _ in range(400)]
    for member in leaving:
        reset(member.sock)
    speaking.say("hello?")

    listen_until([staying], 1)
    deadline = time.monotonic() + PATIENCE
    while len(staying.news) < 1 + 2 * 400:
        assert time.monotonic() < deadline
        assert staying.listen()


def test_what_one_turn_leaves_in_the_socket_is_read_in_the_next(start, way, join):
    server = start(NAME, *way, tiny_reads=True)
    speaker, listener = join(server), join(server)
    speaker.say("\n".join(str(number) for number in range(1000)))

    listen_until([listener], 1000)
    assert listener.heard == [f"{speaker.name}: {number}" for number in range(1000)]


def test_lines_are_whole_and_control_characters_stay_out(start, way, join):
    server = start(NAME, *way)
    first, second = join(server), join(server)
    second.sock.sendall(b"hal")
    second.sock.sendall("f a line\x1b[31m\r\nü\t!\n".encode())

    listen_until([first], 2)
    assert first.heard == [f"{second.name}: half a line[31m", f"{second.name}: ü!"]
