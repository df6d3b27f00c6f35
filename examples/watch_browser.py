"""Web server: print the address of each connection and answer with a page.

    python examples/watch_browser.py --port 8000     then visit http://127.0.0.1:8000

What to notice:

- The listening socket is registered like any other. It is readable when a connection is pending.
- A browser may open connections in advance and leave them idle. With blocking sockets, the first idle one would block
  all others; here it costs a descriptor.
- A request may arrive in any number of pieces, and a response may need several sends. So each connection has a state,
  which is the data of its registration.
- Untrusted input is limited in size, and is printed with its control characters escaped.
- Closing a socket with unread input sends a reset, which can destroy the response in transit. So the server calls
  shutdown() and closes after the browser has closed.
"""

from __future__ import annotations

import socket
from typing import Any

import fastmux
from fastmux import EDGE, READ, WRITE
from serving import Listener, Stop, count, format_address, listen, log, parse, receive, run, send, server_command_line

REQUEST_LIMIT = 16 * 1024
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>fastmux</title><link rel="icon" href="data:,"></head>
<body><h1>Hello, {connection}</h1><p>You are connection number {number} on {address}.</p></body></html>
"""


class Connection:
    """One connection: the request received so far, then the unsent rest of the response."""

    def __init__(self, listener: Listener, sock: socket.socket, address: Any, number: int) -> None:
        self.listener = listener
        self.sock = sock
        self.name = format_address(address)
        self.number = number
        self.request = b""
        self.response: bytes | None = None
        self.edge = listener.events & EDGE

    def on_ready(self, events: int) -> None:
        try:
            if self.response:
                self.reply(self.response)
                return
            for data in receive(self.listener.poller, self.sock, self.edge):
                if not data:
                    self.listener.remove(self.sock)
                elif self.response is None:
                    self.read_request(data)
                    if self.response:
                        break  # reply() has registered write interest
        except OSError:  # reset: ends this connection only
            self.listener.remove(self.sock)

    def read_request(self, data: bytes) -> None:
        self.request += data
        complete = b"\r\n\r\n" in self.request or b"\n\n" in self.request
        if complete or len(self.request) > REQUEST_LIMIT:
            first, _, _ = self.request.partition(b"\n")
            log(f"{self.name} asks for {first[:200].decode('latin-1').strip()!r}")
            address = format_address(self.sock.getsockname())
            page = PAGE.format(connection=self.name, number=self.number, address=address).encode()
            status = "200 OK" if complete else "431 Request Header Fields Too Large"
            header = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\n"
            self.reply(f"{header}Connection: close\r\n\r\n".encode() + page)

    def reply(self, response: bytes) -> None:
        self.response = send(self.sock, response)
        if not self.response:
            self.sock.shutdown(socket.SHUT_WR)
        self.listener.poller.modify(self.sock, (WRITE if self.response else READ) | self.edge)


def serve(poller: fastmux.Poller, listeners: list[Listener], stop: Stop) -> int:
    """Serve until a signal; return the number of connections."""
    connections = 0
    while not stop:
        timeouts = [timeout for listener in listeners if (timeout := listener.timeout()) is not None]
        for key, events in poller.select(min(timeouts, default=None)):
            if not isinstance(key.data, Listener):
                key.data.on_ready(events)
                continue
            for sock, address in key.data.accept():
                connection = Connection(key.data, sock, address, connections + 1)
                if key.data.add(sock, connection):
                    connections += 1
                    log(f"connection {connections} from {connection.name} on {format_address(sock.getsockname())}")
    return connections


def main() -> int:
    args = parse(server_command_line(__doc__, port=8000))
    with fastmux.Poller(args.mechanism) as poller, Stop(poller) as stop, listen(args.host, args.port) as sock:
        connections = serve(poller, [Listener(poller, sock, READ | args.edge)], stop)
    log(count(connections, "connection"))
    return 0


if __name__ == "__main__":
    run(main)
