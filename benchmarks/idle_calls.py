"""The calls that idle.py compares, in a process of their own: see measure.py, whose protocol this follows.

The connections are TCP over the loopback interface. A child process holds their other ends, so that each connection
takes one descriptor here: the standard select.select takes none above 1023.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from typing import Any

import fastmux

from .measure import Candidate, check, rounds, statement


def hold_other_ends(address: tuple[str, int], count: int, commands: int) -> None:
    """Connect so many times, one after another; then send a byte through each connection that is asked for."""
    ends = [socket.create_connection(address) for _ in range(count)]
    with open(commands) as lines:
        for line in lines:
            for number in json.loads(line):
                ends[number].send(b"x")


def connections(count: int) -> tuple[list[socket.socket], int]:
    """Return the accepted sockets, in the order of the child's, and where its commands go."""
    commands, command = os.pipe()
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        if os.fork() == 0:
            status = 1
            try:
                os.close(command)
                hold_other_ends(listener.getsockname(), count, commands)
                status = 0
            finally:
                os._exit(status)
        os.close(commands)
        return [listener.accept()[0] for _ in range(count)], command


def candidates(sockets: list[socket.socket], ready: list[int]) -> dict[str, Candidate]:
    fds = [sock.fileno() for sock in sockets]
    made = {}
    if max(fds) < 1024:
        check(select.select(fds, [], [], 0)[0], ready)
        made["standard select"] = statement("select(fds, [], [], 0)", select=select.select, fds=fds)
    standard = {"poll": select.poll(), "epoll": select.epoll()}
    for mechanism in ("select", "poll", "epoll"):
        both: dict[str, Any] = {"fastmux": fastmux.Poller(mechanism)}
        if mechanism in standard:
            both["standard"] = standard[mechanism]
        for name, poller in both.items():
            for fd in fds:
                poller.register(fd, fastmux.READ)
            check([fd for fd, _ in poller.poll(0)], ready)
            made[f"{name} {mechanism}"] = statement("poller.poll(0)", poller=poller)
    return made


def main() -> None:
    task = json.loads(sys.argv[1])
    sockets, command = connections(max(task["sizes"]))
    found = {}
    for size in task["sizes"]:
        active = [size * number // task["active"] for number in range(task["active"])]
        os.write(command, json.dumps(active).encode() + b"\n")
        for number in active:
            sockets[number].recv(1, socket.MSG_PEEK)  # waits for it
        compared = candidates(sockets[:size], [sockets[number].fileno() for number in active])
        found[size] = rounds(compared, task["rounds"], task["batch"])
        for number in active:
            sockets[number].recv(1)
    os.close(command)
    os.wait()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
