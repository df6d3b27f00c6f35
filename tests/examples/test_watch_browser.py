"""examples/watch_browser.py with a real browser and with raw connections."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess

import pytest

from .conftest import receive
from .crowd import TIMEOUT, reset

NAME = "watch_browser"


@pytest.fixture
def browse(chromium):
    """Visit an address with Chromium; return the document that it shows."""

    def visit(address: tuple[str, int]) -> str:
        command = [*chromium, "--dump-dom", f"http://{address[0]}:{address[1]}/"]
        return subprocess.run(command, capture_output=True, text=True, timeout=2 * TIMEOUT, check=True).stdout

    return visit


def visit(address: tuple[str, int], path: str = "/") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT)
    connection.request("GET", path)
    return connection.getresponse()


def test_a_browser_shows_the_page_and_its_connection_is_reported(start, way, browse):
    server = start(NAME, *way)

    document = browse(server.address)

    port = server.address[1]
    found = re.search(
        r"Hello, (127\.0\.0\.1:\d+)</h1><p>You are connection number (\d+) on 127\.0\.0\.1:(\d+)", document
    )
    assert found is not None, document
    visitor, number, door = found.groups()
    assert int(door) == port
    out = server.end()[1]
    assert f"connection {number} from {visitor} on 127.0.0.1:{port}\n" in out
    assert f"{visitor} asks for 'GET / HTTP/1.1'\n" in out


def test_a_browser_is_served_among_silent_and_slow_visitors(start, browse, connect):
    server = start(NAME)
    silent = [connect(server) for _ in range(20)]
    slow = connect(server)
    slow.sendall(b"GET /slow HTTP/1.1\r\nHost: ")

    assert "Hello, 127.0.0.1:" in browse(server.address)

    slow.sendall(b"here\r\n\r\n")
    assert b"You are connection number 21 on" in receive(slow, 10_000)
    for visitor in silent:
        visitor.shutdown(socket.SHUT_WR)
        assert receive(visitor, 1) == b""


def test_several_connections_at_once_each_get_their_own_page(start, way):
    server = start(NAME, *way)
    answers = [visit(server.address, f"/{number}") for number in range(10)]

    for number, answer in enumerate(answers, 1):
        page = answer.read().decode()
        assert answer.status == 200
        assert answer.getheader("Content-Type") == "text/html"
        assert f"connection number {number} on" in page
        answer.close()
    lines = server.end()[1].splitlines()
    assert len([line for line in lines if line.startswith("connection ")]) == 10
    assert lines[-1] == "10 connections"


def test_a_request_in_pieces_is_answered_once_when_it_is_complete(start, way, connect):
    server = start(NAME, *way)
    visitor = connect(server)
    request = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"

    for place in range(len(request)):
        visitor.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        visitor.sendall(request[place : place + 1])

    answer = receive(visitor, 10_000)
    assert answer.count(b"HTTP/1.1 200 OK") == 1


def test_a_request_without_an_end_is_refused(start, way, connect):
    server = start(NAME, *way)
    visitor = connect(server)
    visitor.sendall(b"GET /" + b"x" * 1_000_000)

    assert receive(visitor, 10_000).startswith(b"HTTP/1.1 431 ")


def test_control_characters_of_strangers_do_not_reach_the_terminal(start, connect):
    server = start(NAME)
    visitor = connect(server)
    visitor.sendall(b"\x1b[2J\x07\xff HTTP/1.1\r\n\r\n")
    assert receive(visitor, 10_000)

    out = server.end()[1]
    assert r"asks for '\x1b[2J\x07ÿ HTTP/1.1'" in out
    assert "\x1b" not in out


def test_resets_at_any_stage_leave_it_serving(start, way, connect):
    server = start(NAME, *way)
    for stage in (b"", b"GET / HT", b"GET / HTTP/1.1\r\n\r\n"):
        visitor = connect(server)
        visitor.sendall(stage)
        reset(visitor)

    assert visit(server.address).status == 200
