"""Many TLS connections that pause, reset, half-close, close, abort and fail at random, without a lost byte or a leak.

The peers are those of test_stress.py. FASTMUX_TLS_CONNECTIONS sets how many there are at the same time.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
import sys

import pytest

import fastmux

from .test_stress import BufferedEcho, Client, Echo, PlannedError
from .tls_peer import client_context, server_context

CONNECTIONS = int(os.environ.get("FASTMUX_TLS_CONNECTIONS", "150"))
TIMEOUT = 500


@pytest.fixture
def loop():
    loop = fastmux.new_event_loop()
    yield loop
    loop.close()


class OverTLS:
    """A peer that also resets or half-closes the connection below TLS."""

    def misbehave(self):
        if self.transport.is_closing():
            return
        chance = self.random.random()
        if chance < 0.004:
            self.cut = True
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
        elif chance < 0.008:
            self.cut = True
            self.transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
        else:
            super().misbehave()

    def resume(self):
        if not self.transport.is_closing():
            super().resume()

    def eof_received(self):
        pass


class TLSEcho(OverTLS, Echo):
    pass


class TLSBufferedEcho(OverTLS, BufferedEcho):
    def get_buffer(self, sizehint):
        # The standard protocol reads into slices, which are copies if the buffer is a bytearray.
        self.buffer = memoryview(super().get_buffer(sizehint))
        return self.buffer


class TLSClient(OverTLS, Client):
    def connection_made(self, transport):
        transport.write_eof = lambda: None  # TLS has no half-close
        super().connection_made(transport)

    def data_received(self, data):
        self.received += data
        if len(self.received) == len(self.expected):
            self.transport.close()
        else:
            self.misbehave()


def test_random_peers_over_tls_lose_and_mix_up_nothing(loop, descriptors_limit, open_descriptors):
    descriptors_limit(2 * CONNECTIONS + 200)
    failures, servers, alive = [], [], set()
    loop.set_exception_handler(lambda loop, context: failures.append(context))
    before = open_descriptors()
    timeouts = {"ssl_handshake_timeout": TIMEOUT}
    if sys.version_info >= (3, 11):
        timeouts["ssl_shutdown_timeout"] = TIMEOUT

    def serve():
        number = len(servers)
        servers.append((TLSBufferedEcho if number % 3 == 0 else TLSEcho)(loop, -number - 1, alive))
        return servers[-1]

    async def visit(seed, address, context):
        _, client = await loop.create_connection(
            lambda: TLSClient(loop, seed), *address, ssl=context, server_hostname="localhost", **timeouts
        )
        try:
            await asyncio.wait_for(client.lost, TIMEOUT)
        finally:
            client.transport.abort()
        return client

    async def main():
        server = await loop.create_server(serve, "127.0.0.1", 0, backlog=CONNECTIONS, ssl=server_context(), **timeouts)
        address, context = server.sockets[0].getsockname(), client_context()
        clients = await asyncio.gather(*(visit(seed, address, context) for seed in range(CONNECTIONS)))
        server.close()
        while alive:
            await asyncio.sleep(0.001)
        return clients

    clients = loop.run_until_complete(main())
    cut_by_server = sum(server.cut for server in servers)
    whole = sum(client.received == client.expected for client in clients)

    assert all(client.expected.startswith(client.received) for client in clients)
    assert len(clients) - whole <= cut_by_server + sum(client.cut for client in clients)
    assert whole > CONNECTIONS // 2
    assert {type(context["exception"]) for context in failures} <= {PlannedError}
    assert any(client.cut for client in clients)
    assert cut_by_server

    # No task, descriptor or transport is left.
    assert asyncio.all_tasks(loop) == set()
    failures.clear()
    servers.clear()
    clients.clear()
    loop.run_until_complete(asyncio.sleep(0))
    gc.collect()
    assert [kept for kept in gc.get_objects() if isinstance(kept, (TLSClient, Echo))] == []
    assert [kept for kept in gc.get_objects() if isinstance(kept, asyncio.Transport)] == []
    assert len(loop._transports) == 0
    loop.close()
    assert set(open_descriptors()) < set(before)
