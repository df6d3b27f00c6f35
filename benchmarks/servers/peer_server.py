"""Echo server on gevent or trio, as in their tutorials, for the chapter echo.

python -m benchmarks.servers.peer_server gevent | trio
"""

from __future__ import annotations

import sys
from typing import Any

from .asyncio_server import ADDRESS, announce


def serve_gevent() -> None:
    gevent: Any = __import__("gevent.server")

    def echo(sock: Any, address: object) -> None:
        while data := sock.recv(65536):
            sock.sendall(data)

    server = gevent.server.StreamServer(ADDRESS, echo, backlog=4096)
    server.start()
    announce(server.socket)
    server.serve_forever()


def serve_trio() -> None:
    trio: Any = __import__("trio")

    async def echo(stream: Any) -> None:
        while data := await stream.receive_some(65536):
            await stream.send_all(data)

    async def serve() -> None:
        host, port = ADDRESS
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=4096)
        announce(listeners[0].socket)
        await trio.serve_listeners(echo, listeners)

    trio.run(serve)


if __name__ == "__main__":
    {"gevent": serve_gevent, "trio": serve_trio}[sys.argv[1]]()
