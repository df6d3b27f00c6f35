"""Wait for browsers: report where each connection comes from, and answer it with a page.

    python examples/watch_browser.py --port 8000     then visit http://127.0.0.1:8000

What to notice:

- The listening socket is one descriptor among others. It is readable when somebody wants to connect.
- A browser may open more connections than it uses, and leave them silent. With one blocking socket, the first
  silent one would keep all others out; here it costs a descriptor.
- A request may come in any number of pieces, and an answer may go out in several. So each connection has a state,
  which is the data of its registration.
- What strangers send is bounded, and is printed with its control characters escaped.
- Closing a socket with unread input sends a reset, which can destroy the answer on its way. So this side only says
  that it has finished, and closes when the browser has, too.
"""

from __future__ import annotations

import socket
from typing import Any

import fastmux
from fastmux import EDGE, READ, WRITE
from serving import Listener, Stop, listen, parse, receive, run, say, send, server_command_line, spell

REQUEST_LIMIT = 16 * 1024
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>fastmux</title><link rel="icon" href="data:,"></head>
<body><h1>Hello, {visitor}</h1><p>You are connection number {number} on {door}.</p></body></html>
"""


class Visitor:
    """One connection: its request as far as it has come, then the answer as far as it has not gone out."""

    def __init__(self, listener: Listener, sock: socket.socket, address: Any, number: int) -> None:
        self.listener = listener
        self.sock = sock
        self.name = spell(address)
        self.number = number
        self.request = b""
        self.answer: bytes | None = None
        self.edge = listener.events & EDGE

    def on_ready(self, events: int) -> None:
        try:
            if self.answer:
                self.reply(self.answer)
                return
            for data in receive(self.listener.poller, self.sock, self.edge):
                if not data:
                    self.listener.dismiss(self.sock)
                elif self.answer is None:
                    self.hear(data)
                    if self.answer:
                        break  # reply() has asked to be told when it can be sent
        except OSError:  # reset: the end of this visit and of no other
            self.listener.dismiss(self.sock)

    def hear(self, data: bytes) -> None:
        self.request += data
        complete = b"\r\n\r\n" in self.request or b"\n\n" in self.request
        if complete or len(self.request) > REQUEST_LIMIT:
            first, _, _ = self.request.partition(b"\n")
            say(f"{self.name} asks for {first[:200].decode('latin-1').strip()!r}")
            door = spell(self.sock.getsockname())
            page = PAGE.format(visitor=self.name, number=self.number, door=door).encode()
            status = "200 OK" if complete else "431 Request Header Fields Too Large"
            header = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\n"
            self.reply(f"{header}Connection: close\r\n\r\n".encode() + page)

    def reply(self, answer: bytes) -> None:
        self.answer = send(self.sock, answer)
        if not self.answer:
            self.sock.shutdown(socket.SHUT_WR)
        self.listener.poller.modify(self.sock, (WRITE if self.answer else READ) | self.edge)


def serve(poller: fastmux.Poller, listeners: list[Listener], stop: Stop) -> int:
    """Serve until a signal comes; return how many visitors there were."""
    visitors = 0
    while not stop:
        pauses = [pause for listener in listeners if (pause := listener.patience()) is not None]
        for key, events in poller.select(min(pauses, default=None)):
            if not isinstance(key.data, Listener):
                key.data.on_ready(events)
                continue
            for sock, address in key.data.accept():
                visitor = Visitor(key.data, sock, address, visitors + 1)
                if key.data.admit(sock, visitor):
                    visitors += 1
                    say(f"connection {visitors} from {visitor.name} on {spell(sock.getsockname())}")
    return visitors


def main() -> int:
    args = parse(server_command_line(__doc__, port=8000))
    with fastmux.Poller(args.mechanism) as poller, Stop(poller) as stop, listen(args.host, args.port) as sock:
        visitors = serve(poller, [Listener(poller, sock, READ | args.edge)], stop)
    say(f"{visitors} connections")
    return 0


if __name__ == "__main__":
    run(main)
