"""Send lines from the terminal to a server, and print what comes back: one wait for two very different things.

    python examples/echo_client.py --port 7007
    python examples/echo_client.py --port 7007 < README.md

What to notice:

- With a blocking read of the keyboard, nothing that the server sends would show before the next line is typed; with a
  blocking read of the socket, nothing could be typed. The poller waits for both.
- While the server does not take what was typed, the input is not read either. It is unregistered, because a pipe whose
  writer has left reports HANGUP whatever it is watched for, and the loop would spin.
- The end of input (Ctrl-D) is passed on with shutdown(): the server may still have something to say.
- Only what the server sends goes to standard output; so `echo_client.py < file > copy` makes a copy.
"""

from __future__ import annotations

import os
import socket
import sys

import fastmux
from fastmux import READ, WRITE
from serving import READ_SIZE, Stop, command_line, parse, run, send, spell, watch_input


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def connect(host: str, port: int) -> socket.socket:
    try:
        sock = socket.create_connection((host, port), timeout=10)
    except (OSError, UnicodeError) as error:
        sys.exit(f"cannot connect to {spell((host, port))}: {getattr(error, 'strerror', None) or error}")
    sock.setblocking(False)
    return sock


class Conversation:
    def __init__(self, poller: fastmux.Poller, sock: socket.socket) -> None:
        self.poller = poller
        self.sock = sock
        self.unsent = b""
        self.typing = True  # until the end of input
        self.listening = True  # until the end of what the server sends
        poller.register(sock, READ, sock)
        self.watched = watch_input(poller)

    def step(self) -> bytes:
        """Wait once, do what can be done, and return what the server has sent."""
        received = b""
        always_ready = self.typing and not self.watched and not self.unsent
        for key, events in self.poller.select(0 if always_ready else None):
            if key.data is sys.stdin:
                self.read_input()
            elif key.data is self.sock:
                if events & WRITE:
                    self.pass_on()
                if events & ~WRITE:
                    received = self.sock.recv(READ_SIZE)
                    self.listening = bool(received)
        if always_ready and self.listening:
            self.read_input()
        return received

    def read_input(self) -> None:
        self.unsent = os.read(sys.stdin.fileno(), READ_SIZE)
        self.typing = bool(self.unsent)
        if self.watched:
            self.poller.unregister(sys.stdin.fileno())
        self.pass_on()

    def pass_on(self) -> None:
        """Send what was read. Once it is gone, read on, or tell the server that this was all."""
        self.unsent = send(self.sock, self.unsent)
        self.poller.modify(self.sock, READ | WRITE if self.unsent else READ)
        if self.unsent:
            return
        if not self.typing:
            self.sock.shutdown(socket.SHUT_WR)
        elif self.watched:
            watch_input(self.poller)


def main() -> int:
    args = parse(command_line(__doc__, port=7007))
    with connect(args.host, args.port) as sock, fastmux.Poller(args.mechanism) as poller, Stop(poller) as stop:
        note(f"connected to {spell(sock.getpeername())}; Ctrl-D ends")
        conversation = Conversation(poller, sock)
        while conversation.listening and not stop:
            try:
                received = conversation.step()
            except ConnectionError as error:
                sys.exit(f"the connection is lost: {error.strerror}")
            sys.stdout.buffer.write(received)
            sys.stdout.flush()
    if stop:
        note("interrupted")
        return 128 + stop.signal
    if conversation.typing:
        sys.exit("the server has closed the connection")
    return 0


if __name__ == "__main__":
    run(main)
