"""Full-duplex echo server: reads and writes at the same time, with a bounded queue per client.

    python examples/queued_echo_server.py --port 7007
    python examples/queued_echo_server.py --queue-limit 65536 --idle-timeout 60

What to notice:

- Each client is the data of its registration and handles its own events; the main loop only waits and dispatches.
- Write interest exists only while data is queued: a socket is almost always writable, so constant write interest would
  spin.
- Back-pressure: a client that does not read is not read from, so its queue stays near the limit. TCP propagates this,
  until the client's own send() blocks.
- Edge-triggered, a handler reads until recv() would block. If it stops earlier (for fairness, or at the limit), it must
  re-arm the registration, or the client would hang: modify() does that, even with unchanged events.
- After the end of input, queued data is still sent; then the connection is closed.
- Time-outs need no timer per client. The clients are ordered by their last transfer, so the first one expires next and
  determines the timeout of the wait.
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
    MAX_READS,
    READ_SIZE,
    Listener,
    Stop,
    count,
    listen,
    log,
    parse,
    positive,
    run,
    seconds,
    server_command_line,
)


class Client:
    """One connection, and its received data that is not sent yet."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.queue = bytearray()
        self.ended = False  # end of input
        self.events = READ

    def on_ready(self, events: int) -> None:
        try:
            self.flush()
            drained = events == WRITE or not self.events & READ
            for _ in range(self.server.reads_per_event):
                if drained or len(self.queue) > self.server.queue_limit:
                    break
                drained = self.read()
            self.update_interest(drained)
        except OSError:  # reset, broken pipe or timeout: ends this client only
            self.server.broken += 1
            self.server.close(self)

    def read(self) -> bool:
        """Read once and echo; return True if the socket is drained."""
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

    def update_interest(self, drained: bool) -> None:
        # Hysteresis: pause at the limit, resume at half of it, to avoid a system call per packet around the limit.
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
        self.reads_per_event = MAX_READS if args.edge else 1
        self.queue_limit = args.queue_limit
        self.idle_timeout = args.idle_timeout
        self.last_active: OrderedDict[Client, float] = OrderedDict()  # longest idle first
        self.now = time.monotonic()
        self.served = self.broken = self.idle = self.bytes_echoed = 0
        self.listener = Listener(poller, sock, READ | args.edge)

    def run(self, stop: Stop) -> None:
        while not stop:
            ready = self.poller.select(self.timeout())
            self.now = time.monotonic()
            for key, events in ready:
                if key.data is self.listener:
                    self.accept()
                else:
                    key.data.on_ready(events)
            self.drop_idle()

    def timeout(self) -> float | None:
        """Return the timeout for the next wait; None means no limit."""
        timeouts = [self.listener.timeout()]
        if self.idle_timeout and self.last_active:
            timeouts.append(max(next(iter(self.last_active.values())) + self.idle_timeout - time.monotonic(), 0))
        return min((timeout for timeout in timeouts if timeout is not None), default=None)

    def accept(self) -> None:
        for sock, _ in self.listener.accept():
            client = Client(self, sock)
            if self.listener.add(sock, client):
                self.served += 1
                self.last_active[client] = self.now

    def touch(self, client: Client) -> None:
        """Record a transfer: move the client to the end."""
        self.last_active[client] = self.now
        self.last_active.move_to_end(client)

    def drop_idle(self) -> None:
        while self.idle_timeout and self.last_active:
            client, active_at = next(iter(self.last_active.items()))
            if active_at + self.idle_timeout > self.now:
                break
            self.idle += 1
            self.close(client)

    def close(self, client: Client) -> None:
        del self.last_active[client]
        self.listener.remove(client.sock)


def main() -> int:
    parser = server_command_line(__doc__, port=7007)
    parser.add_argument(
        "--queue-limit",
        type=positive,
        default=1024 * 1024,
        metavar="BYTES",
        help="limit per client (default: %(default)s)",
    )
    parser.add_argument(
        "--idle-timeout", type=seconds, default=300, metavar="SECONDS", help="0: no limit (default: %(default)s)"
    )
    args = parse(parser)
    with fastmux.Poller(args.mechanism) as poller, Stop(poller) as stop, listen(args.host, args.port) as sock:
        server = Server(poller, sock, args)
        server.run(stop)
    rest = f"{len(server.last_active)} still connected, {server.broken} broken off, {server.idle} idle for too long"
    log(f"served {count(server.served, 'client')} ({rest}), echoed {count(server.bytes_echoed, 'byte')}")
    return 0


if __name__ == "__main__":
    run(main)
