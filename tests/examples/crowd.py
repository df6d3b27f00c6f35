"""Many clients at once: well-behaved ones, ones that do not read, and ones that reset.

They wait with the standard library's epoll, so that a bug in fastmux cannot hide itself.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import Any

#: Seconds after which a test gives up.
TIMEOUT = 30.0


def open_connection(address: tuple[str, int], receive_buffer: int | None = None) -> socket.socket:
    """Connect. A small receive_buffer limits the unread data that the kernel stores."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    try:
        sock.settimeout(TIMEOUT)
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


class EchoClient:
    """A client that sends its message, and compares the echo with it."""

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
        """Send or receive one piece; return False when the client has finished."""
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
        self.clients: list[EchoClient] = []
        #: The clients in the order in which they finished.
        self.finished: list[EchoClient] = []

    def add(self, *args: Any, **how: Any) -> EchoClient:
        self.clients.append(EchoClient(*args, **how))
        return self.clients[-1]

    def run(self) -> None:
        """Send and receive until every reading client has its whole echo, and every resetting one has reset."""
        by_fd = {client.sock.fileno(): client for client in self.clients}
        waiting = {fd for fd, client in by_fd.items() if client.reads or client.reset_after is not None}
        deadline = time.monotonic() + TIMEOUT
        with select.epoll() as poller:
            for fd, client in by_fd.items():
                poller.register(fd, client.interest())
            while waiting:
                assert time.monotonic() < deadline, f"{len(waiting)} clients are not served"
                for fd, events in poller.poll(1):
                    client = by_fd[fd]
                    before = client.interest()
                    if not client.on_ready(events) and fd in waiting:
                        waiting.discard(fd)
                        self.finished.append(client)
                    if client.sock.fileno() >= 0 and client.interest() != before:
                        poller.modify(fd, client.interest())

    def leave(self) -> None:
        for client in self.clients:
            client.sock.close()
        self.clients.clear()
        self.finished.clear()
