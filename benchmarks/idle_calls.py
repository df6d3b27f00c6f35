"""The calls that idle.py compares, in a process of their own: see measure.py, whose protocol this follows.

The connections are TCP over the loopback interface. A child process holds their other ends, so that each connection
takes one descriptor here: the standard select.select takes none above 1023.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
from typing import Any

import pyperf

import fastmux

from .idle import NEXT
from .measure import Candidate, check, rounds, statement

#: So many connections have the same address on the other side; the ports of one address are limited.
PER_ADDRESS = 20_000


def hold_other_ends(address: tuple[str, int], count: int, commands: int) -> None:
    """Connect so many times, one after another; then send a byte through each connection that is asked for."""
    sources = ((f"127.0.0.{2 + number // PER_ADDRESS}", 0) for number in range(count))
    ends = [socket.create_connection(address, source_address=source) for source in sources]
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
            made[f"{name} {mechanism}"] = polling(poller, fds, ready)
    return made


def polling(poller: Any, fds: list[int], ready: list[int]) -> Candidate:
    for fd in fds:
        poller.register(fd, fastmux.READ)
    check([fd for fd, _ in poller.poll(0)], ready)
    return statement("poller.poll(0)", poller=poller)


@contextlib.contextmanager
def active(sockets: list[socket.socket], numbers: list[int], command: int) -> Any:
    """Have these connections send a byte; yield the descriptors, which are ready then."""
    os.write(command, json.dumps(numbers).encode() + b"\n")
    chosen = [sockets[number] for number in numbers]
    for sock in chosen:
        sock.recv(1, socket.MSG_PEEK)  # waits for it
    yield [sock.fileno() for sock in chosen]
    for sock in chosen:
        sock.recv(1)


def say_next(text: str) -> None:
    print(NEXT + text, flush=True)


def main() -> None:
    task = json.loads(sys.argv[1])
    sizes, count, first = task["sizes"], task["active"], task["first"]
    timing = task["rounds"], task["batch"]
    sockets, command = connections(max(sizes))
    found = []
    for size in sizes:
        say_next(f"{count} active of {size:,}")
        with active(sockets, [size * number // count for number in range(count)], command) as ready:
            found += rounds(candidates(sockets[:size], ready), *timing, f"{size} ")
    say_next(f"{count} active of {first:,} to {max(sizes):,}")
    fds = [sock.fileno() for sock in sockets]
    # The same ones for all sizes, so that nothing but the size differs.
    with active(sockets, [first * number // count for number in range(count)], command) as ready:
        pollers = {
            f"{name} {size}": polling(new(), fds[:size], ready)
            for size in sizes
            if size >= first
            for name, new in (("fastmux", fastmux.Poller), ("standard", select.epoll))
        }
        found += rounds(pollers, *timing, "flat ")
    os.close(command)
    os.wait()
    pyperf.BenchmarkSuite(found).dump(sys.stdout)


if __name__ == "__main__":
    main()
