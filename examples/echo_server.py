"""Echo server: many clients in one thread, as simple as a correct one can be.

    python examples/echo_server.py --port 7007
    python examples/echo_client.py --port 7007

What to notice:

- No client waits for another. recv() and send() never block: the poller has reported the socket as ready, and the
  sockets are non-blocking in case that has changed since.
- send() may accept only a part. A client is watched for one thing at a time: READ, or WRITE while it has unsent data.
  So a client that does not read is not read from, and costs one buffer, not a queue.
- A socket is almost always writable. Watching for WRITE with nothing to send would spin.
- An error ends one client: a reset comes out of recv() or send() as OSError.

queued_echo_server.py reads and writes at the same time, and explains what that takes.
"""

from __future__ import annotations

import socket

import fastmux
from fastmux import EDGE, READ, WRITE
from serving import Listener, Stop, count, listen, log, parse, receive, run, send, server_command_line


class Client:
    def __init__(self, listener: Listener, sock: socket.socket) -> None:
        self.listener = listener
        self.sock = sock
        self.unsent = b""

    def on_ready(self, events: int) -> None:
        try:
            was_unsent = bool(self.unsent)
            if self.echo() and was_unsent != bool(self.unsent):
                edge = self.listener.events & EDGE
                self.listener.poller.modify(self.sock, (WRITE if self.unsent else READ) | edge)
        except OSError:
            self.listener.remove(self.sock)

    def echo(self) -> bool:
        """Send back the received data as far as possible; return False after the end of the connection."""
        if self.unsent:
            self.unsent = send(self.sock, self.unsent)
            return True
        for data in receive(self.listener.poller, self.sock, self.listener.events & EDGE):
            if not data:
                self.listener.remove(self.sock)
                return False
            self.unsent = send(self.sock, data)
            if self.unsent:
                break
        return True


def main() -> int:
    args = parse(server_command_line(__doc__, port=7007))
    clients = 0
    with fastmux.Poller(args.mechanism) as poller, Stop(poller) as stop, listen(args.host, args.port) as sock:
        listener = Listener(poller, sock, READ | args.edge)
        while not stop:
            for key, events in poller.select(listener.timeout()):
                if key.data is not listener:
                    key.data.on_ready(events)
                    continue
                for client, _ in listener.accept():
                    clients += listener.add(client, Client(listener, client))
    log(f"served {count(clients, 'client')}")
    return 0


if __name__ == "__main__":
    run(main)
