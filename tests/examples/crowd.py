"""A crowd of clients, good and bad.

It waits with the standard library's epoll: the servers on fastmux are judged by it.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import Any

#: Seconds after which something that must happen counts as not happening.
PATIENCE = 30.0


def open_connection(address: tuple[str, int], receive_buffer: int | None = None) -> socket.socket:
    """Connect; with a small receive_buffer, the kernel keeps little for one who does not read."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    try:
        sock.settimeout(PATIENCE)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def reset(sock: socket.socket) -> None:
    """Close a connection with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Talker:
    """One of a crowd: sends its message, and compares what comes back with it (or with what is expected)."""

    def __init__(
        self,
        address: tuple[str, int],
        message: bytes,
        *,
        reads: bool = True,
        reset_after: int | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        self.sock = open_connection(address, receive_buffer)
        self.sock.setblocking(False)
        self.message = message
        self.reads = reads
        self.reset_after = reset_after
        self.sent = self.received = 0

    def interest(self) -> int:
        to_send = len(self.message) if self.reset_after is None else self.reset_after
        return (select.EPOLLIN if self.reads else 0) | (select.EPOLLOUT if self.sent < to_send else 0)

    def on_ready(self, events: int) -> bool:
        """Send or receive one piece; return False when nothing more will come of this one."""
        if events & select.EPOLLOUT:
            self.sent += self.sock.send(self.message[self.sent : self.sent + 262144])
            if self.reset_after is not None and self.sent >= self.reset_after:
                reset(self.sock)
                return False
        if self.reads and events & ~select.EPOLLOUT:
            data = self.sock.recv(262144)
            assert data, f"the server has hung up after {self.received} of {len(self.message)} bytes"
            assert data == self.message[self.received : self.received + len(data)], f"wrong after {self.received} bytes"
            self.received += len(data)
        return self.received < len(self.message)


class Crowd:
    """Many clients at once in one loop."""

    def __init__(self) -> None:
        self.talkers: list[Talker] = []
        #: Those whose message has come back, in this order.
        self.finished: list[Talker] = []

    def add(self, *args: Any, **how: Any) -> Talker:
        self.talkers.append(Talker(*args, **how))
        return self.talkers[-1]

    def run(self) -> None:
        """Talk until everybody who reads has got everything, and everybody who resets has done it."""
        by_fd = {talker.sock.fileno(): talker for talker in self.talkers}
        waiting = {fd for fd, talker in by_fd.items() if talker.reads or talker.reset_after is not None}
        deadline = time.monotonic() + PATIENCE
        with select.epoll() as poller:
            for fd, talker in by_fd.items():
                poller.register(fd, talker.interest())
            while waiting:
                assert time.monotonic() < deadline, f"{len(waiting)} clients are not served"
                for fd, events in poller.poll(1):
                    talker = by_fd[fd]
                    before = talker.interest()
                    if not talker.on_ready(events) and fd in waiting:
                        waiting.discard(fd)
                        self.finished.append(talker)
                    if talker.sock.fileno() >= 0 and talker.interest() != before:
                        poller.modify(fd, talker.interest())

    def leave(self) -> None:
        for talker in self.talkers:
            talker.sock.close()
        self.talkers.clear()
        self.finished.clear()
