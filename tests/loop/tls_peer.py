"""TLS contexts, and a peer that controls how its records are sent."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

from .connections import Recorder

#: A key, and a certificate of localhost that it has signed itself.
CERTIFICATE = str(Path(__file__).parent / "localhost.pem")
RECORD = 16 * 1024


def server_context(**attributes):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


def client_context(**attributes):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(CERTIFICATE)
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


class Peer:
    """The other end of a connection, on a socket: it encrypts and sends in two steps."""

    def __init__(self, sock, context, server_side=False):
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hostname = None if server_side else "localhost"
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side, hostname)
        self.received = b""
        self.closed = False  # by the other end

    async def call(self, function, *args):
        """Call a method of the SSL object until it needs no more data."""
        while True:
            try:
                return function(*args)
            except ssl.SSLWantReadError:
                await self.flush()
                if not await self.fill():
                    raise EOFError from None
            finally:
                await self.flush()

    async def flush(self):
        if data := self.outgoing.read():
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def fill(self):
        data = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
        self.incoming.write(data)
        return bool(data)

    def records(self, *pieces):
        """Return the records of these pieces of data."""
        for piece in pieces:
            while piece:
                piece = piece[self.tls.write(piece) :]
        return self.outgoing.read()

    async def send(self, data):
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive(self, count):
        """Receive so many bytes in all, or all up to the end."""
        while len(self.received) < count and not self.closed:
            try:
                data = await self.call(self.tls.read, 65536)
            except (EOFError, ssl.SSLError, ConnectionError) as exc:
                self.closed = type(exc).__name__
                break
            self.received += data
            self.closed = self.closed or ("close_notify" if not data else False)
        return self.received


async def tls_pair(factory=Recorder, *, server_side=False, ours=None, theirs=None, sock_class=None, **options):
    """Return our protocol on a new TLS connection, and its peer; server_side is ours, and so is sock_class."""
    loop = asyncio.get_running_loop()
    socks = list(socket.socketpair())
    if sock_class is not None:
        socks[0] = sock_class(fileno=socks[0].detach())
    for sock in socks:
        sock.setblocking(False)
    ours = ours or (server_context() if server_side else client_context())
    theirs = theirs or (client_context() if server_side else server_context())
    peer = Peer(socks[1], theirs, not server_side)
    shaking = asyncio.ensure_future(peer.call(peer.tls.do_handshake))
    if server_side:
        made = loop.connect_accepted_socket(factory, socks[0], ssl=ours, **options)
    else:
        made = loop.create_connection(factory, sock=socks[0], ssl=ours, server_hostname="localhost", **options)
    try:
        _, protocol = await made
        await shaking
    except BaseException:
        await asyncio.gather(shaking, return_exceptions=True)
        socks[1].close()
        raise
    return protocol, peer


async def close_pair(protocol, peer):
    """Close both ends; return the exception of connection_lost()."""
    protocol.transport.abort()
    peer.sock.close()
    return await protocol.lost
