"""asyncio echo server on a given event loop, for the chapters asyncio and echo.

    asyncio_server.py LOOP WORKLOAD

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
    set_options(sock)
    print("listening on {}:{}".format(*sock.getsockname()), flush=True)


async def serve(server: asyncio.Server) -> None:
    announce(server.sockets[0])
    await asyncio.get_running_loop().create_future()


async def serve_protocol() -> None:
    await serve(await asyncio.get_running_loop().create_server(Echo, *ADDRESS, backlog=4096))


async def serve_buffered() -> None:
    await serve(await asyncio.get_running_loop().create_server(BufferedEcho, *ADDRESS, backlog=4096))


async def serve_streams() -> None:
    await serve(await asyncio.start_server(echo_stream, *ADDRESS, backlog=4096))


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
    "protocol": serve_protocol,
    "buffered": serve_buffered,
    "streams": serve_streams,
    "sockets": serve_sockets,
}


def main() -> None:
    make_loop(sys.argv[1]).run_until_complete(WORKLOADS[sys.argv[2]]())


if __name__ == "__main__":
    main()
