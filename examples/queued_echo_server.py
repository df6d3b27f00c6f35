"""The echo server done properly: reads and writes at the same time, with a bounded queue for each client.

    python examples/queued_echo_server.py --port 7007
    python examples/queued_echo_server.py --queue-limit 65536 --idle-timeout 60

What to notice:

- Each client is the data of its registration, and knows what to do; the main loop only waits and passes on.
- Write interest exists only while something waits to be sent: a socket is almost always writable, and a poller that
  watches for that would never sleep.
- A client that does not read what it gets is not read from either: its queue stays near the limit. TCP passes the
  pressure on, and in the end the client's own send() blocks.
- Edge-triggered, a handler goes on until the kernel says "would block". If it stops before (to be fair to the others,
  or at the limit), it must ask to be told again, or the client would hang: modify() asks, even with equal events.
- An end of input is not the end: what is queued is still sent, and the connection is closed after that.
- Time-outs need no timer each. The clients stand in the order in which they last moved a byte, so the first in line is
  the next to go, and tells how long the wait may take.
- Without a free descriptor it stops listening until a client leaves: see Listener in serving.py.
"""

from __future__ import annotations

import socket
import time
from collections import OrderedDict
from typing import Any

import fastmux
from fastmux import READ, WRITE
from serving import (
    FAIR_SHARE,
    READ_SIZE,
    Listener,
    Stop,
    listen,
    parse,
    positive,
    run,
    say,
    seconds,
    server_command_line,
)


class Client:
    """One connection, and what has come in from it but not gone out yet."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.queue = bytearray()
        self.ended = False  # the client sends no more
        self.events = READ

    def on_ready(self, events: int) -> None:
        try:
            self.flush()
            drained = events == WRITE or not self.events & READ
            for _ in range(self.server.reads_per_event):
                if drained or len(self.queue) > self.server.queue_limit:
                    break
                drained = self.read()
            self.watch(drained)
        except OSError:  # reset, broken pipe, timed out: the end of this client and of nobody else
            self.server.broken += 1
            self.server.close(self)

    def read(self) -> bool:
        """Read once and pass it on; return True if there is no more for now."""
        try:
            data = self.sock.recv(READ_SIZE)
        except BlockingIOError:
            return True
        if not data:
            self.ended = True
            return True
        self.queue += data
        self.server.touch(self)
        self.flush()
        return False

    def flush(self) -> None:
        while self.queue:
            try:
                sent = self.sock.send(self.queue)
            except BlockingIOError:
                return
            del self.queue[:sent]
            self.server.bytes_echoed += sent
            self.server.touch(self)

    def watch(self, drained: bool) -> None:
        # Pause at the limit, go on at half of it: not one system call per packet around the limit.
        limit = self.server.queue_limit // (1 if self.events & READ else 2)
        reading = READ if not self.ended and len(self.queue) <= limit else 0
        events = reading | (WRITE if self.queue else 0)
        if not events:
            self.server.close(self)
        elif events != self.events or (self.server.edge and not drained):
            self.events = events
            self.server.poller.modify(self.sock, events | self.server.edge)


class Server:
    def __init__(self, poller: fastmux.Poller, sock: socket.socket, args: Any) -> None:
        self.poller = poller
        self.edge = args.edge
        self.reads_per_event = FAIR_SHARE if args.edge else 1
        self.queue_limit = args.queue_limit
        self.idle_timeout = args.idle_timeout
        self.last_moved: OrderedDict[Client, float] = OrderedDict()  # who has been idle longest comes first
        self.now = time.monotonic()
        self.served = self.broken = self.idle = self.bytes_echoed = 0
        self.listener = Listener(poller, sock, READ | args.edge)

    def run(self, stop: Stop) -> None:
        while not stop:
            ready = self.poller.select(self.patience())
            self.now = time.monotonic()
            for key, events in ready:
                if key.data is self.listener:
                    self.let_in()
                else:
                    key.data.on_ready(events)
            self.drop_idle()

    def patience(self) -> float | None:
        """How long the next wait may take; None for ever."""
        pauses = [self.listener.patience()]
        if self.idle_timeout and self.last_moved:
            pauses.append(max(next(iter(self.last_moved.values())) + self.idle_timeout - time.monotonic(), 0))
        return min((pause for pause in pauses if pause is not None), default=None)

    def let_in(self) -> None:
        for sock, _ in self.listener.accept():
            client = Client(self, sock)
            if self.listener.admit(sock, client):
                self.served += 1
                self.last_moved[client] = self.now

    def touch(self, client: Client) -> None:
        """A byte has moved: to the end of the line."""
        self.last_moved[client] = self.now
        self.last_moved.move_to_end(client)

    def drop_idle(self) -> None:
        while self.idle_timeout and self.last_moved:
            client, moved = next(iter(self.last_moved.items()))
            if moved + self.idle_timeout > self.now:
                break
            self.idle += 1
            self.close(client)

    def close(self, client: Client) -> None:
        del self.last_moved[client]
        self.listener.dismiss(client.sock)


def main() -> int:
    parser = server_command_line(__doc__, port=7007)
    parser.add_argument(
        "--queue-limit", type=positive, default=1024 * 1024, metavar="BYTES", help="per client (default: %(default)s)"
    )
    parser.add_argument(
        "--idle-timeout", type=seconds, default=300, metavar="SECONDS", help="0: never (default: %(default)s)"
    )
    args = parse(parser)
    with fastmux.Poller(args.mechanism) as poller, Stop(poller) as stop, listen(args.host, args.port) as sock:
        server = Server(poller, sock, args)
        server.run(stop)
    say(f"served {server.served} clients ({len(server.last_moved)} still connected, {server.broken} broken off, "
        f"{server.idle} idle for too long), echoed {server.bytes_echoed} bytes")  # fmt: skip
    return 0


if __name__ == "__main__":
    run(main)
