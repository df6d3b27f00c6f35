"""What the programs here share: options, the signals that end them, a listening socket, and the loops around recv and
send. The wait itself stands in each program.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import fastmux
from fastmux import EDGE, READ

READ_SIZE = 64 * 1024
FAIR_SHARE = 16  # reads per event, edge-triggered
PAUSE = 1.0  # seconds between attempts to accept when no descriptor is left

# The command line


def command_line(doc: str | None, port: int | list[int] | None = None) -> argparse.ArgumentParser:
    """Make a parser whose --help prints the docstring.

    With a default for it, there are --host and --port as well; a list means that there may be several ports.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    mechanisms = fastmux.Poller.mechanisms
    parser.add_argument("--mechanism", choices=mechanisms, default=mechanisms[0], help="default: %(default)s")
    if port is not None:
        parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
        nargs = "+" if isinstance(port, list) else None
        parser.add_argument("--port", type=port_number, nargs=nargs, default=port, help="default: %(default)s")
    return parser


def server_command_line(doc: str | None, port: int | list[int]) -> argparse.ArgumentParser:
    parser = command_line(doc, port)
    parser.set_defaults(edge=0)
    parser.add_argument("--edge", action="store_const", const=EDGE, help="edge-triggered, which only epoll can be")
    parser.epilog = "Port 0 picks a free one and prints it. Ctrl-C or SIGTERM ends the server."
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    args = parser.parse_args()
    if getattr(args, "edge", 0) and args.mechanism != "epoll":
        parser.error(f"--edge needs epoll: {args.mechanism} keeps no state between calls, so nothing is new to it")
    return args


def port_number(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 65535")
    return int(text)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return int(text)


def seconds(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to a million")
    return value


# From the beginning to the end


def say(text: str) -> None:
    print(text, flush=True)


def run(main: Callable[[], int]) -> NoReturn:
    """Run a program and exit with its status. Output that cannot be written is no reason for a traceback."""
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:  # before Stop was there
        status = 128 + signal.SIGINT
    except OSError as error:
        status = 1
        if isinstance(error, BrokenPipeError):  # who reads the output has left, as head does
            status = 128 + signal.SIGPIPE
        else:
            print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for the interpreter, which will try once more
    sys.exit(status)


class Stop:
    """Ctrl-C and SIGTERM: true once one of them has come, which also ends the wait that is in progress.

    Python runs a signal handler between two of its own steps. A signal that comes after the last of them, when the
    kernel has not yet begun to wait, would be noticed at the end of the wait, which may be never. So the interpreter
    is told to write a byte as well, at the very moment of the signal, and the poller watches the other end.
    """

    def __init__(self, poller: fastmux.Poller) -> None:
        self.signal = 0
        self._poller = poller

    def __enter__(self) -> Stop:
        self._told, self._teller = socket.socketpair()
        self._told.setblocking(False)
        self._teller.setblocking(False)
        signal.set_wakeup_fd(self._teller.fileno(), warn_on_full_buffer=False)
        self._poller.register(self._told, READ, self)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        self._told.close()
        self._teller.close()

    def __bool__(self) -> bool:
        return self.signal != 0

    def on_ready(self, events: int) -> None:
        """Take the byte; what it means has been noted by the handler."""
        self._told.recv(READ_SIZE)

    def _on_signal(self, number: int, frame: object) -> None:
        self.signal = number


def watch_input(poller: fastmux.Poller) -> bool:
    """Register standard input, or say why there is nothing to wait for, and return False."""
    if sys.stdin is None:
        sys.exit("there is no standard input")
    try:
        poller.register(sys.stdin.fileno(), READ, sys.stdin)
    except PermissionError:
        text = "epoll refuses standard input: a regular file is always ready. Reading it without waiting."
        print(text, file=sys.stderr, flush=True)
        return False
    return True


# Sockets


def spell(address: Any) -> str:
    """A socket's address as host:port."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket and say so; or say what is in the way, and exit."""
    with contextlib.suppress(OSError, ValueError):  # a descriptor for each client, as far as the system allows it
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family, backlog=4096)
    except (OSError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        sys.exit(f"cannot listen on {spell((host, port))}: {reason}")
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the accepted sockets inherit it
    say(f"listening on {spell(sock.getsockname())}")
    return sock


class Listener:
    """A listening socket in a poller, and the coming and going of its clients.

    Without a free descriptor accept() fails, and the socket stays ready: watching on would burn a whole core. So it
    pauses, until a client leaves or a second has passed.
    """

    def __init__(self, poller: fastmux.Poller, sock: socket.socket, events: int = READ) -> None:
        self.poller = poller
        self.sock = sock
        self.events = events
        self.resume_at: float | None = None  # paused until then
        poller.register(sock, events, self)

    def accept(self) -> Iterator[tuple[socket.socket, Any]]:
        """Accept everybody who waits: level-triggered it saves waits, edge-triggered nobody may be left behind."""
        while True:
            try:
                sock, address = self.sock.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue  # that client has left already; the next one may be fine
            except OSError:  # no descriptor or no memory left
                self.poller.modify(self.sock, 0)
                self.resume_at = time.monotonic() + PAUSE
                return
            sock.setblocking(False)
            yield sock, address

    def admit(self, sock: socket.socket, data: Any) -> bool:
        """Register a client, triggered as the listener is. If the poller cannot take it, say so and hang up."""
        try:
            self.poller.register(sock, READ | self.events & EDGE, data)
        except (OSError, ValueError) as error:  # the kernel's limit of watches, or select's of descriptors
            print(f"refused a client: {error}", file=sys.stderr, flush=True)
            sock.close()
            return False
        return True

    def dismiss(self, sock: socket.socket) -> None:
        self.poller.unregister(sock)
        sock.close()
        self.resume()  # now there is a free descriptor

    def resume(self) -> None:
        if self.resume_at is not None:
            self.resume_at = None
            self.poller.modify(self.sock, self.events)

    def close(self) -> None:
        """Let nobody in any more."""
        self.poller.unregister(self.sock)
        self.sock.close()
        self.resume_at = None

    def patience(self) -> float | None:
        """How long a wait may take: for ever, or until the end of a pause. When that is over, this ends it."""
        if self.resume_at is not None and self.resume_at <= time.monotonic():
            self.resume()
        return None if self.resume_at is None else max(self.resume_at - time.monotonic(), 0)


def receive(poller: fastmux.Poller, sock: socket.socket, edge: int) -> Iterator[bytes]:
    """What has come in; b"" is the end of it.

    Level-triggered, one piece is enough: the poller tells of the rest. Edge-triggered, it is told only once, so this
    goes on until the kernel says "would block"; or, to be fair to the others, stops after a while and asks to be
    told again, which modify() does even with equal events.
    """
    for _ in range(FAIR_SHARE if edge else 1):
        try:
            data = sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        yield data
        if not data:
            return
    if edge and sock in poller:
        poller.modify(sock, poller.get_key(sock).events)


def send(sock: socket.socket, data: bytes) -> bytes:
    """Send what the kernel takes now, and return the rest."""
    while data:
        try:
            data = data[sock.send(data) :]
        except BlockingIOError:
            break
    return data
