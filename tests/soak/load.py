"""The load: many clients in one loop, each of which follows a script (see scripts.py) and checks every byte.

It waits with the standard library's epoll: the server on fastmux is judged by it.

What a client sends is a piece of one large random block, which begins somewhere else for each client. So a byte that is
missing, doubled, at the wrong place or somebody else's is seen at once, and checking costs no copy. A stream that is
longer than the block begins anew; its length, which is no round number, is checked as well.
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
#: Connections that may be on their way at once, and sends per event.
CONNECTING, SENDS = 256, 16
#: A free choice of port is made for each connection, not once for the address. (Named in socket since Python 3.12.)
IP_BIND_ADDRESS_NO_PORT = 24
CONGESTED = (errno.EINPROGRESS, errno.EAGAIN)

#: What a script waits for: so many seconds, or that something is true.
Wait = float | Callable[[], bool]


class EchoError(Exception):
    """The server has not done what it should."""


class Client:
    """One connection: what its script has it say, what came back of that, and what the script is waiting for."""

    def __init__(self, load: Load, kind: str, receive_buffer: int | None) -> None:
        self.load = load
        self.kind = kind
        self.start = load.dice.randrange(BLOCK)
        self.messages: collections.deque[int] = collections.deque()  # the rest of the first, and the sizes of others
        self.said = self.sent = self.received = 0  # bytes
        self.connected = self.over = False  # over: the server sends no more
        self.reads = self.ends = True  # ends: the end of what the server sends is a surprise
        self.script: Iterator[Wait] = iter(())
        self.waits_for: Callable[[], bool] | None = lambda: self.connected
        self.sock = socket.socket()
        try:
            self.sock.setblocking(False)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive_buffer is not None:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            # One address has 28,000 ports, and those of closed connections are not free at once.
            self.sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            self.sock.bind((f"127.0.0.{load.dice.randrange(2, 200)}", 0))
            if (result := self.sock.connect_ex(load.address)) not in CONGESTED:
                raise OSError(result, os.strerror(result))
            self.fd = self.sock.fileno()
            self.interest = select.EPOLLOUT
            load.poller.register(self.fd, self.interest)
        except BaseException:
            self.sock.close()
            raise

    # For scripts

    def say(self, size: int) -> None:
        """Send one message more as soon as those before are sent."""
        self.messages.append(size)
        self.said += size

    def all_sent(self) -> bool:
        return not self.messages

    def echoed(self) -> bool:
        return self.received == self.said

    def ended(self) -> bool:
        return self.over

    def leave(self) -> Iterator[Wait]:
        """Close in order: all that was said must come back, before or after the end is announced."""
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
                raise EchoError("the server has hung up on one who does not read")
            self.receive()
        if events & select.EPOLLOUT:
            self.transmit()
        if self.waits_for is not None and self.waits_for():
            self.go_on()

    def receive(self) -> None:
        data = self.sock.recv(PIECE)
        if not data:
            if self.ends or self.received != self.said:
                raise EchoError(f"the end came after {self.received} of {self.said} bytes")
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

    def go_on(self) -> None:
        """Follow the script to the next thing that it has to wait for, or to its end."""
        while True:
            wait = next(self.script, None)
            if wait is None:
                self.load.close(self)
                return
            if not callable(wait):
                self.waits_for = None
                self.load.call_later(wait, self)
                return
            self.waits_for = wait
            if not wait():
                return

    def watch(self) -> None:
        """Have the poller watch for what there is to do."""
        if not self.connected:
            return
        reading = select.EPOLLIN if self.reads and not self.over else 0
        interest = reading | (select.EPOLLOUT if self.messages else 0)
        if interest != self.interest:
            self.interest = interest
            self.load.poller.modify(self.fd, interest)


class Load:
    """So many clients as are wanted, for as long as they are wanted."""

    def __init__(self, address: tuple[str, int], seed: int, pause: float, invite: Callable[[Load], Client]) -> None:
        self.address = address
        self.pause = pause  # seconds between the messages of a client, on average
        self.invite = invite
        self.dice = random.Random(seed)
        block = self.dice.randbytes(BLOCK)
        self.block = block + block[:PIECE]  # no piece has to be put together of two
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
        """Whether everybody should come to an end."""
        return self.wanted == 0

    def call_later(self, seconds: float, client: Client) -> None:
        due = time.monotonic() + (0 if self.closing else seconds)
        heapq.heappush(self._timers, (due, next(self._count), client))

    def turn(self, timeout: float) -> None:
        """Let clients in, and do what there is to do; wait at most so many seconds for that."""
        while len(self.clients) < self.wanted and self.connecting < CONNECTING:
            try:
                client = self.invite(self)
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
                self._attend(client, client.go_on)

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
        client.sock.close()  # which takes it out of the poller, too
        self.closed += 1

    def drain(self, patience: float) -> None:
        """Have all come to their end; who does not within so many seconds is wrong."""
        self.wanted = 0
        self._timers = [(0, count, client) for _, count, client in self._timers]
        heapq.heapify(self._timers)
        deadline = time.monotonic() + patience
        while self.clients and time.monotonic() < deadline:
            self.turn(0.1)
        for client in list(self.clients.values()):
            rest = f"{client.sent} sent of {client.said}, {client.received} received"
            self.wrong.append(f"{client.kind}, {rest}: not finished after {patience:g} s")
            self.close(client)
