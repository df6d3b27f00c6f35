"""A TCP echo server on fastmux.Poller: many clients, one thread, every trap handled.

    python examples/echo_server.py --port 7007
    python examples/echo_server.py --help

What to notice:

- The data of each registration is the function to call, so the main loop is two lines.
- Write interest exists only while something waits to be sent: a socket is almost always writable, and a poller that
  watches for that would never sleep.
- A client that does not read what it gets is not read from either: its queue stays near QUEUE_LIMIT.
- Edge-triggered, a handler goes on until the kernel says "would block". If it stops before (to be fair to the others,
  or at QUEUE_LIMIT), it must ask to be told again, or the client would hang: modify() asks, even with equal events.
- An end of input is not the end: what is queued is still sent, and the connection is closed after that.
- Without a free descriptor accept() fails, and the listener stays ready. Watching on would burn a whole core,
  so listening pauses until a client leaves or a second has passed.
- A signal handler may call wakeup(): the loop ends at a point where everything is in order.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import time

import fastmux
from fastmux import EDGE, READ, WRITE

READ_SIZE = 64 * 1024
QUEUE_LIMIT = 1024 * 1024
FAIR_SHARE = 16  # reads per event, edge-triggered


class Client:
    """One connection, and what has come in from it but not gone out yet."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.queue = bytearray()
        self.ended = False  # the client sends no more
        self.events = READ
        server.poller.register(sock, READ | server.edge, self.on_ready)

    def on_ready(self, events: int) -> None:
        try:
            self.flush()
            drained = events == WRITE or not self.events & READ
            for _ in range(self.server.reads_per_event):
                if drained or len(self.queue) > QUEUE_LIMIT:
                    break
                drained = self.read()
            self.watch(drained)
        except OSError:  # reset, broken pipe, timed out: the end of this client and of nobody else
            self.server.broken += 1
            self.close()

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

    def watch(self, drained: bool) -> None:
        # Pause at the limit, go on at half of it: not one system call per packet around the limit.
        limit = QUEUE_LIMIT if self.events & READ else QUEUE_LIMIT // 2
        reading = READ if not self.ended and len(self.queue) <= limit else 0
        events = reading | (WRITE if self.queue else 0)
        if not events:
            self.close()
        elif events != self.events or (self.server.edge and not drained):
            self.events = events
            self.server.poller.modify(self.sock, events | self.server.edge)

    def close(self) -> None:
        self.server.poller.unregister(self.sock)
        self.sock.close()
        self.server.resume()  # now there is a free descriptor


class Server:
    def __init__(self, poller: fastmux.Poller | fastmux.StdlibPoller, listener: socket.socket, edge: bool) -> None:
        self.poller = poller
        self.listener = listener
        self.edge = EDGE if edge else 0
        self.reads_per_event = FAIR_SHARE if edge else 1
        self.running = True
        self.resume_at: float | None = None  # listening is paused until then
        self.served = self.broken = self.bytes_echoed = 0
        listener.setblocking(False)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the accepted sockets inherit it
        poller.register(listener, READ | self.edge, self.on_connection)

    def run(self) -> None:
        while self.running:
            pause = None if self.resume_at is None else self.resume_at - time.monotonic()
            for key, events in self.poller.select(pause):
                key.data(events)
            if pause is not None and pause <= 0:
                self.resume()

    def stop(self, *_: object) -> None:
        self.running = False
        self.poller.wakeup()

    def on_connection(self, events: int) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue  # that client has left already; the next one may be fine
            except OSError:  # no descriptor or no memory left
                self.poller.modify(self.listener, 0)
                self.resume_at = time.monotonic() + 1
                return
            sock.setblocking(False)
            try:
                Client(self, sock)
            except (OSError, ValueError) as error:  # the kernel's limit of watches, or select's of descriptors
                print(f"refused a client: {error}", file=sys.stderr)
                sock.close()
            else:
                self.served += 1

    def resume(self) -> None:
        if self.resume_at is not None:
            self.resume_at = None
            self.poller.modify(self.listener, READ | self.edge)

    def close(self) -> None:
        for key in list(self.poller.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self.poller.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A TCP echo server on fastmux. Ctrl-C or SIGTERM ends it.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7007, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--mechanism", choices=("epoll", "poll", "select"), help="default: the best there is")
    parser.add_argument("--edge", action="store_true", help="edge-triggered instead of level-triggered; epoll only")
    parser.add_argument("--reference", action="store_true", help="run on fastmux.StdlibPoller, for comparison")
    args = parser.parse_args()

    try:
        poller = (fastmux.StdlibPoller if args.reference else fastmux.Poller)(args.mechanism)
        family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
        listener = socket.create_server((args.host, args.port), family=family, backlog=1024)
        server = Server(poller, listener, args.edge)
    except (OSError, ValueError, OverflowError) as error:
        sys.exit(f"cannot serve on {args.host}:{args.port}: {error}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, server.stop)
    host, port = listener.getsockname()[:2]
    print(f"listening on {host}:{port}", flush=True)

    server.run()
    clients = len(poller) - 1
    server.close()
    print(f"served {server.served} clients ({clients} still connected, {server.broken} broken off), "
          f"echoed {server.bytes_echoed} bytes")  # fmt: skip


if __name__ == "__main__":
    main()
