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
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pyperf

import fastmux

from .idle import NEXT
from .measure import Candidate, check, rounds, statement

#: So many connections at most are made at a time, to one address: the ports on the other side are limited.
TOGETHER = 500
#: Closed sockets leave nothing behind that would keep a port for a minute.
AT_ONCE = struct.pack("ii", 1, 0)
Command = Callable[[Any], None]


def hold_other_ends(commands: int) -> None:
    """Obey: [host, port, count] means so many more connections; another list is of those to send a byte through."""
    ends: list[socket.socket] = []
    with open(commands) as lines:
        for line in lines:
            match json.loads(line):
                case str(host), int(port), int(count):
                    ends += [socket.create_connection((host, port)) for _ in range(count)]
                case numbers:
                    for number in numbers:
                        ends[number].send(b"x")


def connections(count: int) -> tuple[list[socket.socket], Command]:
    """Return the accepted sockets, in the order of the child's, and what sends commands to it."""
    commands, command = os.pipe()
    if os.fork() == 0:
        status = 1
        try:
            os.close(command)
            hold_other_ends(commands)
            status = 0
        finally:
            os._exit(status)
    os.close(commands)

    def send(what: Any) -> None:
        os.write(command, json.dumps(what).encode() + b"\n")

    sockets: list[socket.socket] = []
    while missing := min(count - len(sockets), TOGETHER):
        with socket.create_server(("127.0.0.1", 0), backlog=TOGETHER) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)  # accepted sockets inherit it
            send([*listener.getsockname(), missing])
            sockets += [listener.accept()[0] for _ in range(missing)]
    return sockets, send


def candidates(sockets: list[socket.socket], ready: list[int]) -> dict[str, Candidate]:
    fds = [sock.fileno() for sock in sockets]
    made = {}
    if max(fds) < 1024:
        check(select.select(fds, [], [], 0)[0], ready)
        made["standard select"] = statement("select(fds, [], [], 0)", select=select.select, fds=fds)
    standard = {"poll": select.poll(), "epoll": select.epoll()}
    for mechanism in ("select", "poll", "epoll"):
        if mechanism in standard:
            made[f"standard {mechanism}"] = polling(standard[mechanism], fds, ready)
        with contextlib.suppress(ValueError):  # without the extension, it has the same limit as select.select
            made[f"fastmux {mechanism}"] = polling(fastmux.Poller(mechanism), fds, ready)
    return made


def polling(poller: Any, fds: list[int], ready: list[int]) -> Candidate:
    for fd in fds:
        poller.register(fd, fastmux.READ)
    check([fd for fd, _ in poller.poll(0)], ready)
    return statement("poller.poll(0)", poller=poller)


@contextlib.contextmanager
def active(sockets: list[socket.socket], numbers: list[int], command: Command) -> Iterator[list[int]]:
    """Have these connections send a byte; yield the descriptors, which are ready then."""
    command(numbers)
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
    pyperf.BenchmarkSuite(found).dump(sys.stdout)


if __name__ == "__main__":
    main()
