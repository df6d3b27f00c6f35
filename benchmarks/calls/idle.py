"""Time waits with a few active connections among many idle ones, for the chapter idle.

Input and output follow timing.py, plus lines that begin with PROGRESS.

The connections are TCP over the loopback interface. A child process holds the other ends, so each connection takes one
descriptor here: the standard select.select takes none above 1023.
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

from .timing import PROGRESS, Candidate, check_ready, interleave, register, statement

#: Limit of connections per listening address: client ports are limited.
PER_LISTENER = 500
#: SO_LINGER: close with a reset, which leaves no port in TIME_WAIT.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
SendCommand = Callable[[Any], None]


def hold_other_ends(commands: int) -> None:
    """Execute commands: [host, port, count] opens connections; other lists name connections to send a byte on."""
    ends: list[socket.socket] = []
    with open(commands) as lines:
        for line in lines:
            match json.loads(line):
                case str(host), int(port), int(count):
                    ends += [socket.create_connection((host, port)) for _ in range(count)]
                case numbers:
                    for number in numbers:
                        ends[number].send(b"x")


def connections(count: int) -> tuple[list[socket.socket], SendCommand]:
    """Return the accepted sockets, in the order of the child, and a function that sends commands to the child."""
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        status = 1
        try:
            os.close(write_end)
            hold_other_ends(read_end)
            status = 0
        finally:
            os._exit(status)
    os.close(read_end)

    def send_command(command: Any) -> None:
        os.write(write_end, json.dumps(command).encode() + b"\n")

    sockets: list[socket.socket] = []
    while missing := min(count - len(sockets), PER_LISTENER):
        with socket.create_server(("127.0.0.1", 0), backlog=PER_LISTENER) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)  # inherited by accepted sockets
            send_command([*listener.getsockname(), missing])
            sockets += [listener.accept()[0] for _ in range(missing)]
    return sockets, send_command


def candidates(sockets: list[socket.socket], ready: list[int]) -> dict[str, Candidate]:
    fds = [sock.fileno() for sock in sockets]
    made = {}
    if max(fds) < 1024:
        check_ready(select.select(fds, [], [], 0)[0], ready)
        made["standard select"] = statement("select(fds, [], [], 0)", select=select.select, fds=fds)
    standard = {"poll": select.poll(), "epoll": select.epoll()}
    for mechanism in ("select", "poll", "epoll"):
        if mechanism in standard:
            made[f"standard {mechanism}"] = poll_call(standard[mechanism], fds, ready)
        with contextlib.suppress(ValueError):  # without the extension, it has the limit of select.select
            made[f"fastmux {mechanism}"] = poll_call(fastmux.Poller(mechanism), fds, ready)
    return made


def poll_call(poller: Any, fds: list[int], ready: list[int]) -> Candidate:
    register(poller, fds, fastmux.READ)
    check_ready([fd for fd, _ in poller.poll(0)], ready)
    return statement("poller.poll(0)", poller=poller)


@contextlib.contextmanager
def active(sockets: list[socket.socket], numbers: list[int], send_command: SendCommand) -> Iterator[list[int]]:
    """Make these connections readable; yield their descriptors."""
    send_command(numbers)
    chosen = [sockets[number] for number in numbers]
    for sock in chosen:
        sock.recv(1, socket.MSG_PEEK)  # blocks until the byte is there
    yield [sock.fileno() for sock in chosen]
    for sock in chosen:
        sock.recv(1)


def announce(step: str) -> None:
    print(PROGRESS + step, flush=True)


def main() -> None:
    task = json.loads(sys.argv[1])
    sizes, count, first = task["sizes"], task["active"], task["first"]
    timing = task["rounds"], task["batch"]
    sockets, send_command = connections(max(sizes))
    measured = []
    for size in sizes:
        announce(f"{count} active of {size:,}")
        with active(sockets, [size * number // count for number in range(count)], send_command) as ready:
            measured += interleave(candidates(sockets[:size], ready), *timing, f"{size} ")
    announce(f"{count} active of {first:,} to {max(sizes):,}")
    fds = [sock.fileno() for sock in sockets]
    # The same active connections for all sizes, so that only the size differs.
    with active(sockets, [first * number // count for number in range(count)], send_command) as ready:
        pollers = {
            f"{name} {size}": poll_call(new(), fds[:size], ready)
            for size in sizes
            if size >= first
            for name, new in (("fastmux", fastmux.Poller), ("standard", select.epoll))
        }
        measured += interleave(pollers, *timing, "scale ")
    pyperf.BenchmarkSuite(measured).dump(sys.stdout)


if __name__ == "__main__":
    main()
