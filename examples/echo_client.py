"""Echo client: send lines from the terminal and print the replies, with one wait for both.

    python examples/echo_client.py --port 7007
    python examples/echo_client.py --port 7007 < README.md

What to notice:

- A blocking read of the keyboard would delay replies until the next line; a blocking read of the socket would block
  typing. The poller waits for both.
- While input is unsent, no more is read. It is unregistered, because a pipe without a writer reports HANGUP with any
  interest, and the loop would spin.
- The end of input (Ctrl-D) is passed on with shutdown(): the server may still send.
- Only data from the server goes to standard output, so `echo_client.py < file > copy` makes a copy.
"""

from __future__ import annotations

import os
import socket
import sys

import fastmux
from fastmux import READ, WRITE
from serving import READ_SIZE, Stop, command_line, format_address, parse, run, send, watch_input


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def connect(host: str, port: int) -> socket.socket:
    try:
        sock = socket.create_connection((host, port), timeout=10)
    except (OSError, UnicodeError) as error:
        sys.exit(f"cannot connect to {format_address((host, port))}: {getattr(error, 'strerror', None) or error}")
    sock.setblocking(False)
    return sock


class Session:
    def __init__(self, poller: fastmux.Poller, sock: socket.socket) -> None:
        self.poller = poller
        self.sock = sock
        self.unsent = b""
        self.input_open = True
        self.server_open = True
        poller.register(sock, READ, sock)
        self.watched = watch_input(poller)

    def step(self) -> bytes:
        """Wait once, handle the events, and return the data from the server."""
        received = b""
        always_ready = self.input_open and not self.watched and not self.unsent
        for key, events in self.poller.select(0 if always_ready else None):
            if key.data is sys.stdin:
                self.read_input()
            elif key.data is self.sock:
                if events & WRITE:
                    self.send_input()
                if events & ~WRITE:
                    received = self.sock.recv(READ_SIZE)
                    self.server_open = bool(received)
        if always_ready and self.server_open:
            self.read_input()
        return received

    def read_input(self) -> None:
        self.unsent = os.read(sys.stdin.fileno(), READ_SIZE)
        self.input_open = bool(self.unsent)
        if self.watched:
            self.poller.unregister(sys.stdin.fileno())
        self.send_input()

    def send_input(self) -> None:
        """Send the input. When all is sent, resume reading, or shut down at the end of input."""
        self.unsent = send(self.sock, self.unsent)
        self.poller.modify(self.sock, READ | WRITE if self.unsent else READ)
        if self.unsent:
            return
        if not self.input_open:
            self.sock.shutdown(socket.SHUT_WR)
        elif self.watched:
            watch_input(self.poller)


def main() -> int:
    args = parse(command_line(__doc__, port=7007))
    with connect(args.host, args.port) as sock, fastmux.Poller(args.mechanism) as poller, Stop(poller) as stop:
        note(f"connected to {format_address(sock.getpeername())}; Ctrl-D ends")
        session = Session(poller, sock)
        while session.server_open and not stop:
            try:
                received = session.step()
            except ConnectionError as error:
                sys.exit(f"the connection is lost: {error.strerror}")
            sys.stdout.buffer.write(received)
            sys.stdout.flush()
    if stop:
        note("interrupted")
        return 128 + stop.signal
    if session.input_open:
        sys.exit("the server has closed the connection")
    return 0


if __name__ == "__main__":
    run(main)
