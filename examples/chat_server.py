"""Chat server: each line of a client goes to all others, through a queue per client.

    python examples/chat_server.py --port 7008
    python examples/echo_client.py --port 7008

(the second in several terminals)

What to notice:

- A message is one object in many queues, without a copy per recipient. Lines received together are sent together: many
  short lines must not cause many system calls.
- Most messages are sent at once. Only unsent data stays in the queue, and only then is there write interest.
- A stalled client loses nothing and delays nobody: its queue grows, up to a limit. Back-pressure, as in an echo server,
  would slow down all clients with the sender. So a client over the limit is dropped.
- A message of one client may drop another whose event is later in the same batch. So a handler first checks that its
  client still exists.
- Messages are delivered after each event, not inside the handler: leaving is a message, too, whose delivery may drop
  further clients.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Any

import fastmux
from fastmux import EDGE, READ, WRITE
from serving import (
    Listener,
    Stop,
    count,
    format_address,
    listen,
    log,
    parse,
    positive,
    receive,
    run,
    send,
    server_command_line,
)

LINE_LIMIT = 16 * 1024  # longer lines are split
CONTROL = bytes(range(32)) + b"\x7f"  # control characters, which act on terminals


class Client:
    """One connection: its incomplete input line, and the queue of its unsent messages."""

    def __init__(self, room: Room, sock: socket.socket, address: Any) -> None:
        self.room = room
        self.sock = sock
        self.name = format_address(address)
        self.line = b""
        self.queue: deque[bytes] = deque()
        self.queued = 0  # bytes
        self.watching_write = False

    def on_ready(self, events: int) -> None:
        if self not in self.room.clients:
            return
        try:
            if events & WRITE:
                self.flush()
            if events & ~WRITE:
                self.read()
        except OSError:
            self.room.leave(self, "is gone")

    def read(self) -> None:
        for data in receive(self.room.poller, self.sock, self.room.edge):
            if not data:
                self.room.leave(self, "leaves")
                return
            *lines, self.line = (self.line + data).split(b"\n")
            if len(self.line) > LINE_LIMIT:
                lines.append(self.line)
                self.line = b""
            messages = [f"{self.name}: ".encode() + line.translate(None, CONTROL) + b"\n" for line in lines]
            if messages:
                self.room.pending.append((self, b"".join(messages)))

    def enqueue(self, message: bytes) -> None:
        self.queue.append(message)
        self.queued += len(message)
        try:
            if not self.watching_write:
                self.flush()
        except OSError:
            self.room.leave(self, "is gone")
        else:
            if self.queued > self.room.queue_limit:
                self.room.leave(self, "does not keep up")

    def flush(self) -> None:
        """Send as much as the kernel accepts; keep write interest while data is left."""
        while self.queue:
            rest = send(self.sock, self.queue[0])
            self.queued -= len(self.queue[0]) - len(rest)
            if rest:
                self.queue[0] = rest
                break
            self.queue.popleft()
        if self.watching_write != bool(self.queue):
            self.watching_write = bool(self.queue)
            self.room.poller.modify(self.sock, (READ | WRITE if self.watching_write else READ) | self.room.edge)


class Room:
    def __init__(self, poller: fastmux.Poller, sock: socket.socket, edge: int, queue_limit: int) -> None:
        self.poller = poller
        self.listener = Listener(poller, sock, READ | edge)
        self.edge = edge & EDGE
        self.queue_limit = queue_limit
        self.clients: set[Client] = set()
        self.pending: deque[tuple[Client, bytes]] = deque()  # (sender, message)
        self.messages = 0

    def run(self, stop: Stop) -> None:
        while not stop:
            for key, events in self.poller.select(self.listener.timeout()):
                if key.data is self.listener:
                    self.accept()
                else:
                    key.data.on_ready(events)
                self.deliver()

    def accept(self) -> None:
        for sock, address in self.listener.accept():
            client = Client(self, sock, address)
            if self.listener.add(sock, client):
                self.announce(client, "joins")
                self.deliver()  # now: a client accepted next must not get it
                self.clients.add(client)

    def leave(self, client: Client, reason: str) -> None:
        self.clients.remove(client)
        self.listener.remove(client.sock)
        self.announce(client, reason)

    def announce(self, client: Client, action: str) -> None:
        log(f"{client.name} {action}")
        self.pending.append((client, f"* {client.name} {action}\n".encode()))

    def deliver(self) -> None:
        while self.pending:
            sender, message = self.pending.popleft()
            self.messages += message.count(b"\n")
            for client in list(self.clients):
                if client is not sender:
                    client.enqueue(message)


def main() -> int:
    parser = server_command_line(__doc__, port=7008)
    limit = 8 * 1024 * 1024
    parser.add_argument("--queue-limit", type=positive, default=limit, metavar="BYTES", help="default: %(default)s")
    args = parse(parser)
    with fastmux.Poller(args.mechanism) as poller, Stop(poller) as stop, listen(args.host, args.port) as sock:
        room = Room(poller, sock, args.edge, args.queue_limit)
        room.run(stop)
    log(count(room.messages, "message"))
    return 0


if __name__ == "__main__":
    run(main)
