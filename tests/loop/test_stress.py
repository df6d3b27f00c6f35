"""Many connections that pause, close, abort, half-close and fail at random, without a lost byte or a leak.

The server echoes. Each client sends a unique stream and reads the echo. Clients and servers do something unexpected at
random. A connection that neither side cut must carry every byte; one that was cut may lose its end only.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import random
import socket
import sys

import pytest

import fastmux

CONNECTIONS = 2000  # all at the same time
TIMEOUT = 100


@pytest.fixture
def loop():
    loop = fastmux.new_event_loop()
    yield loop
    loop.close()


def stream(seed: int, size: int) -> bytes:
    """Return bytes that are unique to the seed."""
    return hashlib.shake_128(b"%d" % seed).digest(size)


class PlannedError(Exception):
    pass


class Erratic:
    """A peer that pauses, closes, aborts or fails at random, from a seed."""

    transport: asyncio.Transport

    def begin(self, loop, seed):
        self.loop = loop
        self.random = random.Random(seed)
        self.cut = False

    def misbehave(self):
        chance = self.random.random()
        if chance < 0.1 and self.transport.is_reading():
            self.transport.pause_reading()
            self.loop.call_later(self.random.random() / 200, self.resume)
        elif chance < 0.15:
            self.transport.pause_reading()
            self.loop.call_soon(self.resume)
        elif chance < 0.153:
            self.cut = True
            self.transport.close()
        elif chance < 0.156:
            self.cut = True
            self.transport.abort()
        elif chance < 0.159:
            self.cut = True
            raise PlannedError

    def resume(self):
        self.transport.resume_reading()


class Echo(Erratic, asyncio.Protocol):
    def __init__(self, loop, seed, alive):
        self.begin(loop, seed)
        self.alive = alive

    def connection_made(self, transport):
        self.transport = transport
        self.alive.add(self)

    def data_received(self, data):
        self.transport.write(data)
        self.misbehave()

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()

    def eof_received(self):
        if self.random.random() < 0.5:
            return False
        self.loop.call_later(self.random.random() / 200, self.transport.close)
        return True

    def connection_lost(self, exc):
        self.alive.discard(self)


class BufferedEcho(Echo, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        self.buffer = bytearray(self.random.randrange(1, 5000))
        return self.buffer

    def buffer_updated(self, nbytes):
        self.data_received(self.buffer[:nbytes])


class Client(Erratic, asyncio.Protocol):
    def __init__(self, loop, seed):
        self.begin(loop, seed)
        self.received = bytearray()
        self.expected = stream(seed, self.random.choice([1, 64, 1000, 20_000, 200_000, 500_000]))
        self.lost = loop.create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.left = memoryview(self.expected)
        self.writable = True
        self.send()

    def send(self):
        while self.left and self.writable and not self.transport.is_closing():
            size = min(self.random.randrange(1, 30_000), len(self.left))
            if self.random.random() < 0.5:
                self.transport.write(self.left[:size])
            else:
                self.transport.writelines([self.left[: size // 2], self.left[size // 2 : size]])
            self.left = self.left[size:]
            if self.random.random() < 0.3:
                self.loop.call_soon(self.send)
                return
        if not self.left and not self.transport.is_closing():
            with contextlib.suppress(OSError):  # the peer aborted, and this side has not read that yet
                self.transport.write_eof()

    def pause_writing(self):
        self.writable = False

    def resume_writing(self):
        self.writable = True
        self.send()

    def data_received(self, data):
        self.received += data
        self.misbehave()

    def connection_lost(self, exc):
        self.lost.set_result(exc)


def check_random_peers(loop, open_descriptors, count, peers, of_server, of_client, timeout):
    """Let clients visit a server at random; peers are the classes (Echo, BufferedEcho, Client)."""
    echo, buffered_echo, client_class = peers
    failures, servers, alive = [], [], set()
    loop.set_exception_handler(lambda loop, context: failures.append(context))
    before = open_descriptors()

    def serve():
        number = len(servers)
        servers.append((buffered_echo if number % 3 == 0 else echo)(loop, -number - 1, alive))
        return servers[-1]

    async def visit(seed, address):
        _, client = await loop.create_connection(lambda: client_class(loop, seed), *address, **of_client)
        try:
            await asyncio.wait_for(client.lost, timeout)
        finally:
            client.transport.abort()
        return client

    async def main():
        server = await loop.create_server(serve, "127.0.0.1", 0, backlog=count, **of_server)
        address = server.sockets[0].getsockname()
        clients = await asyncio.gather(*(visit(seed, address) for seed in range(count)))
        server.close()
        while alive:
            await asyncio.sleep(0.001)
        return clients

    clients = loop.run_until_complete(main())
    cut_by_server = sum(server.cut for server in servers)
    whole = sum(client.received == client.expected for client in clients)

    assert all(client.expected.startswith(client.received) for client in clients)
    assert len(clients) - whole <= cut_by_server + sum(client.cut for client in clients)
    assert whole > count // 2
    assert {type(context["exception"]) for context in failures} <= {PlannedError}
    assert any(client.cut for client in clients)
    assert cut_by_server

    # No task, descriptor or transport is left.
    assert asyncio.all_tasks(loop) == set()
    failures.clear()
    servers.clear()
    clients.clear()
    loop.run_until_complete(asyncio.sleep(0))
    for _ in range(1 if sys.implementation.name == "cpython" else 6):  # PyPy collects step by step
        gc.collect()
    assert [kept for kept in gc.get_objects() if isinstance(kept, (client_class, Echo))] == []
    assert [kept for kept in gc.get_objects() if isinstance(kept, asyncio.Transport)] == []
    assert len(loop._transports) == 0
    loop.close()
    assert set(open_descriptors()) < set(before)


def test_random_peers_lose_and_mix_up_nothing(loop, descriptors_limit, open_descriptors):
    descriptors_limit(2 * CONNECTIONS + 200)

    check_random_peers(loop, open_descriptors, CONNECTIONS, (Echo, BufferedEcho, Client), {}, {}, TIMEOUT)


def test_memory_does_not_grow_with_the_number_of_connections(loop):
    """The number of objects after 500 connections is that after 10."""

    class Once(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    async def rounds(count):
        for _ in range(count):
            ours, theirs = socket.socketpair()
            with theirs:
                theirs.setblocking(False)
                transport, _ = await loop.create_connection(Once, sock=ours)
                theirs.send(b"x")
                assert await loop.sock_recv(theirs, 10) == b"x"
                transport.close()
                assert await loop.sock_recv(theirs, 10) == b""

    def objects_after(count):
        loop.run_until_complete(rounds(count))
        loop.run_until_complete(asyncio.sleep(0))
        gc.collect()
        return len(gc.get_objects())

    objects_after(10)
    few = objects_after(10)
    many = objects_after(500)

    assert many - few < 50
