"""HTTP server on a given event loop, for the chapter servers: each request gets a short text.

    python -m benchmarks.servers.http_server LOOP SERVER [tls]

Prints its address and serves until it is stopped.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

from .asyncio_server import ADDRESS, CERTIFICATE, announce, make_loop, make_tls

TEXT = b"Hello, world!\n"


class HttpProtocol(asyncio.Protocol):
    """HTTP/1.1 in few lines: GET without a body, keep-alive, pipelining."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        *requests, self.received = (self.received + data).split(b"\r\n\r\n")
        for request in requests:
            self.respond(request)

    def respond(self, request: bytes) -> None:
        first, *lines = request.split(b"\r\n")
        method, path, version = first.split(b" ")
        headers = {}
        for line in lines:
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        status = b"200 OK" if (method, path) == (b"GET", b"/") else b"404 Not Found"
        close = headers.get(b"connection", b"").lower() == b"close" or version != b"HTTP/1.1"
        self.transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: %b\r\n\r\n%b"
            % (status, len(TEXT), b"close" if close else b"keep-alive", TEXT)
        )
        if close:
            self.transport.close()


async def serve_protocol(sock: socket.socket, tls: bool) -> None:
    context = make_tls() if tls else None
    await asyncio.get_running_loop().create_server(HttpProtocol, sock=sock, backlog=4096, ssl=context)
    await asyncio.get_running_loop().create_future()


async def serve_uvicorn(sock: socket.socket, tls: bool) -> None:
    uvicorn: Any = __import__("uvicorn")
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(TEXT))]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": TEXT})

    certificate = {"ssl_certfile": CERTIFICATE, "ssl_keyfile": CERTIFICATE} if tls else {}
    config = uvicorn.Config(
        application, http="httptools", ws="none", lifespan="off", access_log=False, log_level="error", **certificate
    )
    await uvicorn.Server(config).serve([sock])


async def serve_aiohttp(sock: socket.socket, tls: bool) -> None:
    web: Any = __import__("aiohttp.web").web

    async def handle(request: Any) -> Any:
        return web.Response(body=TEXT, content_type="text/plain")

    application = web.Application()
    application.router.add_get("/", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, sock, backlog=4096, ssl_context=make_tls() if tls else None).start()
    await asyncio.get_running_loop().create_future()


SERVERS = {"protocol": serve_protocol, "uvicorn": serve_uvicorn, "aiohttp": serve_aiohttp}


def main() -> None:
    loop = make_loop(sys.argv[1])
    with socket.create_server(ADDRESS, backlog=4096) as sock:
        announce(sock)
        loop.run_until_complete(SERVERS[sys.argv[2]](sock, "tls" in sys.argv[3:]))


if __name__ == "__main__":
    main()
