"""Echo server on an object with the interface of selectors, for the chapter echo: as in the documentation of selectors.

    python -m benchmarks.servers.selectors_server selectors | fastmux.selectors | Poller

Prints its address and serves until it is stopped.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from .asyncio_server import ADDRESS, announce


def serve(selector: Any, read: int, write: int) -> None:
    def accept(sock: socket.socket, events: int) -> None:
        client, _ = sock.accept()
        client.setblocking(False)
        selector.register(client, read, echo)

    def echo(client: socket.socket, events: int) -> None:
        try:
            data = client.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            close(client)
        elif (sent := send(client, data)) < len(data):
            selector.modify(client, write, lambda client, events: drain(client, data[sent:]))

    def drain(client: socket.socket, data: bytes) -> None:
        """Continue with data that the socket did not accept, before the next message is read."""
        sent = send(client, data)
        handler = echo if sent == len(data) else lambda client, events: drain(client, data[sent:])
        selector.modify(client, read if handler is echo else write, handler)

    def send(client: socket.socket, data: bytes) -> int:
        try:
            return client.send(data)
        except BlockingIOError:
            return 0
        except ConnectionError:
            return len(data)  # the next recv() reports it

    def close(client: socket.socket) -> None:
        selector.unregister(client)
        client.close()

    with socket.create_server(ADDRESS, backlog=4096) as listening:
        listening.setblocking(False)
        announce(listening)
        selector.register(listening, read, accept)
        while True:
            for key, events in selector.select():
                key.data(key.fileobj, events)


def main() -> None:
    name = sys.argv[1]
    if name == "Poller":
        import fastmux

        serve(fastmux.Poller(), fastmux.READ, fastmux.WRITE)
    elif name == "fastmux.selectors":
        from fastmux import selectors

        serve(selectors.DefaultSelector(), selectors.EVENT_READ, selectors.EVENT_WRITE)
    else:
        import selectors as standard

        serve(standard.DefaultSelector(), standard.EVENT_READ, standard.EVENT_WRITE)


if __name__ == "__main__":
    main()
