"""The load: many clients in one loop. Each client follows a script (see scripts.py) and checks every byte.

The loop waits with the standard library's epoll, so that a bug in fastmux cannot hide itself.

A client sends pieces of one large random block, from a start of its own. So the check finds every byte that is missing,
duplicated, in the wrong place or of another client, without a copy. A longer stream wraps around the block; the check
of its length finds a missing block.
"""

from __future__ import annotations

import collections
import errno
import heapq
import itertools
import os
import random
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

BLOCK = 4_194_301  # a prime
PIECE = 256 * 1024
#: The most pending connections, and the most sends per event.
CONNECTING, SENDS = 256, 16
#: Choose a free port at connect(), for each pair of addresses. (In the socket module since Python 3.12.)
IP_BIND_ADDRESS_NO_PORT = 24
CONGESTED = (errno.EINPROGRESS, errno.EAGAIN)

#: The condition that a script yields: seconds, or a function that returns true.
Wait = float | Callable[[], bool]


class EchoError(Exception):
    """A wrong answer of the server."""


class Client:
    """One connection: its script, queued messages, counts of bytes, and the condition that the script waits for."""

    def __init__(self, load: Load, kind: str, receive_buffer: int | None) -> None:
        self.load = load
        self.kind = kind
        self.start = load.rng.randrange(BLOCK)
        self.messages: collections.deque[int] = collections.deque()  # sizes; of the first, the unsent rest
        self.queued = self.sent = self.received = 0  # bytes
        self.connected = self.over = False  # over: end of stream received
        self.reads = self.ends = True  # ends: an end of stream is an error
        self.script: Iterator[Wait] = iter(())
        self.condition: Callable[[], bool] | None = lambda: self.connected
        self.sock = socket.socket()
        try:
            self.sock.setblocking(False)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive_buffer is not None:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            # One address has 28,000 ports, and closed connections keep theirs for a while.
            self.sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            self.sock.bind((f"127.0.0.{load.rng.randrange(2, 200)}", 0))
            if (result := self.sock.connect_ex(load.address)) not in CONGESTED:
                raise OSError(result, os.strerror(result))
            self.fd = self.sock.fileno()
            self.interest = select.EPOLLOUT
            load.poller.register(self.fd, self.interest)
        except BaseException:
            self.sock.close()
            raise

    # For scripts

    def queue_message(self, size: int) -> None:
        """Queue a message of this size."""
        self.messages.append(size)
        self.queued += size

    def all_sent(self) -> bool:
        return not self.messages

    def echoed(self) -> bool:
        return self.received == self.queued

    def ended(self) -> bool:
        return self.over

    def leave(self) -> Iterator[Wait]:
        """Close orderly: shut down sending, and expect the rest of the echo before the end of the stream."""
        yield self.all_sent
        self.ends = False
        self.sock.shutdown(socket.SHUT_WR)
        yield self.ended

    def hang_up(self) -> None:
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.load.resets += 1
        self.load.lost += self.sent - self.received

    # Events

    def on_ready(self, events: int) -> None:
        if not self.connected:
            if result := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(result, os.strerror(result))
            self.connected = True
            self.load.connecting -= 1
            self.load.connected += 1
        elif events & ~select.EPOLLOUT:
            if not self.reads:
                raise EchoError("the server has hung up on a client that does not read")
            self.receive()
        if events & select.EPOLLOUT:
            self.transmit()
        if self.condition is not None and self.condition():
            self.advance()

    def receive(self) -> None:
        data = self.sock.recv(PIECE)
        if not data:
            if self.ends or self.received != self.queued:
                raise EchoError(f"the end came after {self.received} of {self.queued} bytes")
            self.over = True
            return
        if self.received + len(data) > self.sent:
            raise EchoError(f"{self.received + len(data)} bytes have come back of {self.sent}")
        if not self.load.block.startswith(data, (self.start + self.received) % BLOCK):
            raise EchoError(f"wrong bytes somewhere in {len(data)} after {self.received}")
        self.received += len(data)
        self.load.received += len(data)

    def transmit(self) -> None:
        for _ in range(SENDS):
            if not self.messages:
                return
            first = (self.start + self.sent) % BLOCK
            size = min(self.messages[0], PIECE)
            try:
                sent = self.sock.send(self.load.view[first : first + size])
            except BlockingIOError:
                return
            self.sent += sent
            self.load.sent += sent
            self.messages[0] -= sent
            if not self.messages[0]:
                self.messages.popleft()
                self.load.messages += 1

    def advance(self) -> None:
        """Run the script to its next unmet condition, or to its end."""
        while True:
            wait = next(self.script, None)
            if wait is None:
                self.load.close(self)
                return
            if not callable(wait):
                self.condition = None
                self.load.call_later(wait, self)
                return
            self.condition = wait
            if not wait():
                return

    def watch(self) -> None:
        """Update the events in the poller."""
        if not self.connected:
            return
        reading = select.EPOLLIN if self.reads and not self.over else 0
        interest = reading | (select.EPOLLOUT if self.messages else 0)
        if interest != self.interest:
            self.interest = interest
            self.load.poller.modify(self.fd, interest)


class Load:
    """Keeps the wanted number of clients connected."""

    def __init__(
        self, address: tuple[str, int], seed: int, pause: float, make_client: Callable[[Load], Client]
    ) -> None:
        self.address = address
        self.pause = pause  # seconds between the messages of a client, on average
        self.make_client = make_client
        self.rng = random.Random(seed)
        block = self.rng.randbytes(BLOCK)
        self.block = block + block[:PIECE]  # so that every piece is contiguous
        self.view = memoryview(self.block)
        self.poller = select.epoll()
        self.clients: dict[int, Client] = {}
        self.wanted = 0
        self.connecting = 0
        self.connected = self.closed = self.resets = self.messages = self.sent = self.received = self.lost = 0
        self.wrong: list[str] = []
        self._timers: list[tuple[float, int, Client]] = []
        self._count = itertools.count()

    @property
    def closing(self) -> bool:
        """Whether all clients should finish."""
        return self.wanted == 0

    def call_later(self, seconds: float, client: Client) -> None:
        due = time.monotonic() + (0 if self.closing else seconds)
        heapq.heappush(self._timers, (due, next(self._count), client))

    def turn(self, timeout: float) -> None:
        """Add missing clients, wait for at most so many seconds, and handle events and timers."""
        while len(self.clients) < self.wanted and self.connecting < CONNECTING:
            try:
                client = self.make_client(self)
            except OSError as error:
                self.wrong.append(f"cannot connect: {error}")
                break
            self.connecting += 1
            self.clients[client.fd] = client
        now = time.monotonic()
        if self._timers:
            timeout = min(timeout, max(self._timers[0][0] - now, 0))
        for fd, events in self.poller.poll(timeout, 1024):
            if client := self.clients.get(fd):
                self._attend(client, client.on_ready, events)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, client = heapq.heappop(self._timers)
            if self.clients.get(client.fd) is client:
                self._attend(client, client.advance)

    def _attend(self, client: Client, function: Callable[..., None], *args: Any) -> None:
        try:
            function(*args)
            if client.sock.fileno() >= 0:
                client.watch()
        except (OSError, EchoError) as error:
            self.wrong.append(f"{client.kind}, {client.sent} sent, {client.received} received: {error}")
            self.close(client)

    def close(self, client: Client) -> None:
        del self.clients[client.fd]
        if not client.connected:
            self.connecting -= 1
        client.sock.close()  # removes it from the poller, too
        self.closed += 1

    def drain(self, timeout: float) -> None:
        """Let all clients finish; a client that has not after so many seconds is a failure."""
        self.wanted = 0
        self._timers = [(0, count, client) for _, count, client in self._timers]
        heapq.heapify(self._timers)
        deadline = time.monotonic() + timeout
        while self.clients and time.monotonic() < deadline:
            self.turn(0.1)
        for client in list(self.clients.values()):
            rest = f"{client.sent} sent of {client.queued}, {client.received} received"
            self.wrong.append(f"{client.kind}, {rest}: not finished after {timeout:g} s")
            self.close(client)
