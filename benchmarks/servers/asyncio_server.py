"""asyncio echo server on a given event loop, for the chapters asyncio and echo.

    asyncio_server.py LOOP WORKLOAD [PATH]

Prints its address and serves until it is stopped. It imports little: earlier allocations influence where malloc() finds
the memory for reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

ADDRESS = ("127.0.0.1", 0)


def make_loop(name: str) -> asyncio.AbstractEventLoop:
    if name == "asyncio":
        return asyncio.SelectorEventLoop()
    module: Any = __import__(name)
    loop: asyncio.AbstractEventLoop = module.new_event_loop()
    return loop


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class PiecewiseEcho(Echo):
    """Write 20 bytes at a time."""

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), 20):
            self.transport.write(data[start : start + 20])


class ClosingEcho(Echo):
    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.close()


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.buffer = bytearray(64 * 1024)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(self.buffer[:nbytes])


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def reply_megabyte(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reply to 10,000 bytes with 100 copies of them, in one write."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            writer.write(await reader.readexactly(10_000) * 100)
            await writer.drain()
    writer.close()


async def echo_socket(client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with client:
        while data := await loop.sock_recv(client, 65536):
            await loop.sock_sendall(client, data)


def set_options(sock: Any) -> None:
    """Set the options that accepted sockets inherit from the listening one."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError):
        # Other algorithms, such as BBR, send from a timer, whose CPU time goes to the interrupted process.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")


def announce(sock: Any) -> None:
    """Print the address of a listening socket, which may be a loop's own wrapper of a socket."""
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        address = "unix", address.decode().lstrip("\0") if isinstance(address, bytes) else address
    else:
        set_options(sock)
    print("listening on {}:{}".format(*address), flush=True)


async def serve(server: asyncio.Server) -> None:
    announce(server.sockets[0])
    await asyncio.get_running_loop().create_future()


def make_tls() -> Any:
    """Return the TLS context of a server with a new certificate."""
    ssl, trustme = (__import__(name) for name in ("ssl", "trustme"))
    # The standard loop and uvloop read into blocks of 256 KiB. malloc() maps each anew until a larger one was freed,
    # which costs them 20 us per read: the state of a server that has worked for a while is the fair one.
    bytearray(4 << 20)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    return context


async def serve_protocol(protocol: type[asyncio.BaseProtocol], tls: Any = None) -> None:
    await serve(await asyncio.get_running_loop().create_server(protocol, *ADDRESS, backlog=4096, ssl=tls))


async def serve_streams(handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any], tls: Any = None) -> None:
    await serve(await asyncio.start_server(handler, *ADDRESS, backlog=4096, ssl=tls))


async def serve_unix() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        # Without a path the kernel chooses an abstract name, which leaves no file.
        sock.bind(sys.argv[3] if len(sys.argv) > 3 else "")
        await asyncio.get_running_loop().create_unix_server(Echo, sock=sock, backlog=4096)
        announce(sock)
        await asyncio.get_running_loop().create_future()


async def serve_sockets() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(ADDRESS, backlog=4096) as sock:
        sock.setblocking(False)
        announce(sock)
        tasks = set()
        while True:
            client, _ = await loop.sock_accept(sock)
            tasks.add(task := loop.create_task(echo_socket(client)))
            task.add_done_callback(tasks.discard)


WORKLOADS: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    "protocol": lambda: serve_protocol(Echo),
    "pieces": lambda: serve_protocol(PiecewiseEcho),
    "closing": lambda: serve_protocol(ClosingEcho),
    "buffered": lambda: serve_protocol(BufferedEcho),
    "streams": lambda: serve_streams(echo_stream),
    "megabyte": lambda: serve_streams(reply_megabyte),
    "unix": serve_unix,
    "sockets": serve_sockets,
    "tls": lambda: serve_protocol(Echo, make_tls()),
    "tls-streams": lambda: serve_streams(echo_stream, make_tls()),
    "tls-megabyte": lambda: serve_streams(reply_megabyte, make_tls()),
}


def main() -> None:
    make_loop(sys.argv[1]).run_until_complete(WORKLOADS[sys.argv[2]]())


if __name__ == "__main__":
    main()
