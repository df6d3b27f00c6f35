"""A chat: each line that a client sends goes to all others. What a queue per client is for.

    python examples/chat_server.py --port 7008
    python examples/echo_client.py --port 7008

(the second in as many other terminals as you like)

What to notice:

- A message is one object in many queues; nothing is copied for each recipient. Lines that come together go out
  together: a flood of short ones must not become a flood of calls.
- Most messages go out at once. Only what the kernel does not take waits in the queue, and only while something waits
  is there write interest.
- A client that stalls loses nothing and delays nobody: its queue grows. But not for ever. The sender cannot be slowed
  down, as an echo's can, because all others would be slowed down with it. So at the limit a client is dropped.
- A client may be dropped because of what another one has sent, while its own event lies further back in the same
  batch. So a handler first looks whether its client is still there.
- News is delivered after each event, not from within: to leave is news as well, which may find the next one gone.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Any

import fastmux
from fastmux import EDGE, READ, WRITE
from serving import Listener, Stop, listen, parse, positive, receive, run, say, send, server_command_line, spell

LINE_LIMIT = 16 * 1024  # a longer line is passed on in pieces
CONTROL = bytes(range(32)) + b"\x7f"  # what would do things to the terminals of others


class Client:
    """One connection: the line that it is in the middle of, and the messages that wait for it."""

    def __init__(self, room: Room, sock: socket.socket, address: Any) -> None:
        self.room = room
        self.sock = sock
        self.name = spell(address)
        self.line = b""
        self.queue: deque[bytes] = deque()
        self.queued = 0  # bytes
        self.waiting = False  # to send

    def on_ready(self, events: int) -> None:
        if self not in self.room.clients:
            return
        try:
            if events & WRITE:
                self.flush()
            if events & ~WRITE:
                self.hear()
        except OSError:
            self.room.leave(self, "is gone")

    def hear(self) -> None:
        for data in receive(self.room.poller, self.sock, self.room.edge):
            if not data:
                self.room.leave(self, "leaves")
                return
            *lines, self.line = (self.line + data).split(b"\n")
            if len(self.line) > LINE_LIMIT:
                lines.append(self.line)
                self.line = b""
            said = [f"{self.name}: ".encode() + line.translate(None, CONTROL) + b"\n" for line in lines]
            if said:
                self.room.news.append((self, b"".join(said)))

    def tell(self, message: bytes) -> None:
        self.queue.append(message)
        self.queued += len(message)
        try:
            if not self.waiting:
                self.flush()
        except OSError:
            self.room.leave(self, "is gone")
        else:
            if self.queued > self.room.queue_limit:
                self.room.leave(self, "does not keep up")

    def flush(self) -> None:
        """Send what the kernel takes, and wait for more room as long as there is something left."""
        while self.queue:
            rest = send(self.sock, self.queue[0])
            self.queued -= len(self.queue[0]) - len(rest)
            if rest:
                self.queue[0] = rest
                break
            self.queue.popleft()
        if self.waiting != bool(self.queue):
            self.waiting = bool(self.queue)
            self.room.poller.modify(self.sock, (READ | WRITE if self.waiting else READ) | self.room.edge)


class Room:
    def __init__(self, poller: fastmux.Poller, sock: socket.socket, edge: int, queue_limit: int) -> None:
        self.poller = poller
        self.listener = Listener(poller, sock, READ | edge)
        self.edge = edge & EDGE
        self.queue_limit = queue_limit
        self.clients: set[Client] = set()
        self.news: deque[tuple[Client, bytes]] = deque()  # from whom, and what
        self.messages = 0

    def run(self, stop: Stop) -> None:
        while not stop:
            for key, events in self.poller.select(self.listener.patience()):
                if key.data is self.listener:
                    self.let_in()
                else:
                    key.data.on_ready(events)
                self.deliver()

    def let_in(self) -> None:
        for sock, address in self.listener.accept():
            client = Client(self, sock, address)
            if self.listener.admit(sock, client):
                self.announce(client, "joins")
                self.deliver()  # the next one to join need not hear of it
                self.clients.add(client)

    def leave(self, client: Client, how: str) -> None:
        self.clients.remove(client)
        self.listener.dismiss(client.sock)
        self.announce(client, how)

    def announce(self, client: Client, what: str) -> None:
        say(f"{client.name} {what}")
        self.news.append((client, f"* {client.name} {what}\n".encode()))

    def deliver(self) -> None:
        while self.news:
            sender, message = self.news.popleft()
            self.messages += message.count(b"\n")
            for client in list(self.clients):
                if client is not sender:
                    client.tell(message)


def main() -> int:
    parser = server_command_line(__doc__, port=7008)
    limit = 8 * 1024 * 1024
    parser.add_argument("--queue-limit", type=positive, default=limit, metavar="BYTES", help="default: %(default)s")
    args = parse(parser)
    with fastmux.Poller(args.mechanism) as poller, Stop(poller) as stop, listen(args.host, args.port) as sock:
        room = Room(poller, sock, args.edge, args.queue_limit)
        room.run(stop)
    say(f"{room.messages} messages")
    return 0


if __name__ == "__main__":
    run(main)
