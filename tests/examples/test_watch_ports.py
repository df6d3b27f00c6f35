"""examples/watch_ports.py: several ports, one process."""

from __future__ import annotations

import os
import re
import socket

from .conftest import receive

NAME = "watch_ports"


def test_clients_at_all_ports_at_once_are_shown_their_port(start, way, connect):
    server = start(NAME, *way, ports=3)
    doors = server.addresses * 5
    visitors = [connect(address) for address in doors]
    for visitor in visitors:
        visitor.sendall(b"GET / HTTP/1.1\r\n\r\n")

    for visitor, (host, port) in zip(visitors, doors):
        assert f" on {host}:{port}.</p>".encode() in receive(visitor, 10_000)
    ours = {f"{host}:{port}" for host, port in (visitor.getsockname() for visitor in visitors)}
    assert len(os.listdir(f"/proc/{server.pid}/task")) == 1

    out = server.end()[1]
    found = re.findall(r"^connection \d+ from (\S+) on (\S+)$", out, re.MULTILINE)
    assert {visitor for visitor, _ in found} == ours
    for host, port in server.addresses:
        assert [door for _, door in found].count(f"{host}:{port}") == 5
    assert out.endswith("15 connections\n")


def test_a_port_that_is_taken_is_named(run_example):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        finished = run_example(NAME, "--port", "0", str(taken), "0")

    assert finished.returncode == 1
    assert finished.stderr == f"cannot listen on 127.0.0.1:{taken}: Address already in use\n"
    assert finished.stdout == ""  # it listens on none of them
