"""An asyncio server on the loop that is asked for: the program under load of the chapter asyncio.

    python -m benchmarks.asyncio_server LOOP WORKLOAD

It prints the address that it listens on, and serves until it is stopped. It imports little: what a program has
allocated and freed before it serves may change how the memory for reads is found later.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any


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


async def serve_protocol(sock: socket.socket, factory: Callable[[], asyncio.BaseProtocol] = Echo) -> None:
    server = await asyncio.get_running_loop().create_server(factory, sock=sock)
    await server.serve_forever()


async def serve_buffered(sock: socket.socket) -> None:
    await serve_protocol(sock, BufferedEcho)


async def serve_streams(sock: socket.socket) -> None:
    server = await asyncio.start_server(echo_stream, sock=sock)
    await server.serve_forever()


async def serve_sockets(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    tasks = set()
    while True:
        client, _ = await loop.sock_accept(sock)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tasks.add(task := loop.create_task(echo_socket(client)))
        task.add_done_callback(tasks.discard)


WORKLOADS: dict[str, Callable[[socket.socket], Coroutine[Any, Any, None]]] = {
    "protocol": serve_protocol,
    "buffered": serve_buffered,
    "streams": serve_streams,
    "sockets": serve_sockets,
}


def main() -> None:
    loop = make_loop(sys.argv[1])
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as sock:
        with contextlib.suppress(OSError):
            # Accepted sockets inherit it. Some others (BBR) send by a timer, which costs CPU time of whichever process
            # it happens to interrupt.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        print("listening on {}:{}".format(*sock.getsockname()), flush=True)
        loop.run_until_complete(WORKLOADS[sys.argv[2]](sock))


if __name__ == "__main__":
    main()
