"""Many TLS connections that pause, reset, half-close, close, abort and fail at random, without a lost byte or a leak.

The peers are those of test_stress.py. FASTMUX_TLS_CONNECTIONS sets how many there are at the same time.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

import pytest

import fastmux

from .test_stress import BufferedEcho, Client, Echo, check_random_peers
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


@pytest.mark.skipif(sys.version_info < (3, 11), reason="half-closed ones do not end, on the standard loop either")
def test_random_peers_over_tls_lose_and_mix_up_nothing(loop, descriptors_limit, open_descriptors):
    descriptors_limit(2 * CONNECTIONS + 200)
    timeouts = {"ssl_handshake_timeout": TIMEOUT, "ssl_shutdown_timeout": TIMEOUT}
    peers = TLSEcho, TLSBufferedEcho, TLSClient
    of_server = {"ssl": server_context(), **timeouts}
    of_client = {"ssl": client_context(), "server_hostname": "localhost", **timeouts}

    check_random_peers(loop, open_descriptors, CONNECTIONS, peers, of_server, of_client, TIMEOUT)
