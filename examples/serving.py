"""Shared parts of the examples: options, signals, listening sockets, and the loops around recv and send.

Each program contains its own wait.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import fastmux
from fastmux import EDGE, READ

READ_SIZE = 64 * 1024
MAX_READS = 16  # per event, edge-triggered: a limit for fairness
ACCEPT_PAUSE = 1.0  # seconds between attempts to accept while no descriptor is free

# Command line


def command_line(doc: str | None, port: int | list[int] | None = None) -> argparse.ArgumentParser:
    """Create a parser whose --help prints the docstring.

    port is the default of --port, which comes with --host; a list allows several ports.
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
    parser.add_argument("--edge", action="store_const", const=EDGE, help="edge-triggered (epoll only)")
    parser.epilog = "Port 0 selects a free port and prints it. Ctrl-C or SIGTERM stops the server."
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
        raise argparse.ArgumentTypeError(f"{text} is not a positive integer")
    return int(text)


def seconds(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to a million")
    return value


# Startup, output and shutdown


def log(text: str) -> None:
    print(text, flush=True)


def count(number: int, noun: str) -> str:
    """Return "1 client" or "2 clients"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


def run(main: Callable[[], int]) -> NoReturn:
    """Run a program and exit with its status; report a failed write without a traceback."""
    if sys.stdout is None:  # the next file to be opened would get its descriptor
        sys.exit("there is no standard output")
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:  # before Stop installed its handlers
        status = 128 + signal.SIGINT
    except OSError as error:
        status = 1
        if isinstance(error, BrokenPipeError):  # the reader of the output has exited, as head does
            status = 128 + signal.SIGPIPE
        else:
            print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes stdout once more
    sys.exit(status)


class Stop:
    """Flag that is true after Ctrl-C or SIGTERM; the signal also ends the current wait.

    Python runs signal handlers between bytecodes. A signal that arrives after the last bytecode but before the system
    call would be handled at the end of the wait, which may be never. So set_wakeup_fd() makes the C-level handler write
    a byte to a socket pair at once, and the poller watches the other end.
    """

    def __init__(self, poller: fastmux.Poller) -> None:
        self.signal = 0
        self._poller = poller

    def __enter__(self) -> Stop:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._poller.register(self._reader, READ, self)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        self._reader.close()
        self._writer.close()

    def __bool__(self) -> bool:
        return self.signal != 0

    def on_ready(self, events: int) -> None:
        """Drain the socket; the handler has stored the signal."""
        self._reader.recv(READ_SIZE)

    def _on_signal(self, number: int, frame: object) -> None:
        self.signal = number


def watch_input(poller: fastmux.Poller) -> bool:
    """Register standard input; return False and print the reason if epoll refuses it."""
    if sys.stdin is None:
        sys.exit("there is no standard input")
    try:
        poller.register(sys.stdin.fileno(), READ, sys.stdin)
    except PermissionError:
        regular = stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode)
        what = "a regular file" if regular else "this device"
        text = f"epoll refuses standard input: {what} is always ready. Reading it without waiting."
        print(text, file=sys.stderr, flush=True)
        return False
    return True


# Sockets


def format_address(address: Any) -> str:
    """Format a socket address as host:port."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket and print its address; on failure, print the reason and exit."""
    sock = open_listener(host, port)
    log_address(sock)
    return sock


def log_address(sock: socket.socket) -> None:
    log(f"listening on {format_address(sock.getsockname())}")


def open_listener(host: str, port: int) -> socket.socket:
    """Open a listening socket; on failure, print the reason and exit."""
    with contextlib.suppress(OSError, ValueError):  # each client needs a descriptor: raise the limit
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family, backlog=4096)
    except (OSError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        sys.exit(f"cannot listen on {format_address((host, port))}: {reason}")
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by accepted sockets
    return sock


class Listener:
    """A registered listening socket that accepts, registers and closes clients.

    Without a free descriptor accept() fails and the socket stays ready, so a plain loop would spin. The listener pauses
    until a client leaves or a second has passed.
    """

    def __init__(self, poller: fastmux.Poller, sock: socket.socket, events: int = READ) -> None:
        self.poller = poller
        self.sock = sock
        self.events = events
        self.resume_at: float | None = None  # end of the pause
        poller.register(sock, events, self)

    def accept(self) -> Iterator[tuple[socket.socket, Any]]:
        """Accept all pending connections: saves waits if level-triggered, required if edge-triggered."""
        while True:
            try:
                sock, address = self.sock.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue  # this client has left; others may be pending
            except OSError:  # no free descriptor or no memory
                self.poller.modify(self.sock, 0)
                self.resume_at = time.monotonic() + ACCEPT_PAUSE
                return
            sock.setblocking(False)
            yield sock, address

    def add(self, sock: socket.socket, data: Any) -> bool:
        """Register a client with the trigger mode of the listener; if that fails, print why and close it."""
        try:
            self.poller.register(sock, READ | self.events & EDGE, data)
        except (OSError, ValueError) as error:  # the kernel's limit of watches, or select's limit of descriptors
            print(f"refused a client: {error}", file=sys.stderr, flush=True)
            sock.close()
            return False
        return True

    def remove(self, sock: socket.socket) -> None:
        self.poller.unregister(sock)
        sock.close()
        self.resume()  # a descriptor is free now

    def resume(self) -> None:
        if self.resume_at is not None:
            self.resume_at = None
            self.poller.modify(self.sock, self.events)

    def close(self) -> None:
        """Stop accepting."""
        self.poller.unregister(self.sock)
        self.sock.close()
        self.resume_at = None

    def timeout(self) -> float | None:
        """Return the timeout for the next wait: None, or the rest of a pause. An expired pause ends here."""
        if self.resume_at is not None and self.resume_at <= time.monotonic():
            self.resume()
        return None if self.resume_at is None else max(self.resume_at - time.monotonic(), 0)


def receive(poller: fastmux.Poller, sock: socket.socket, edge: int) -> Iterator[bytes]:
    """Receive pending data in pieces; b"" is the end of the stream.

    Level-triggered, one piece is enough: the next wait reports the rest. Edge-triggered, there is only one report, so
    read until recv() would block. For fairness, stop after MAX_READS and re-arm with modify(), which works even with
    unchanged events.
    """
    for _ in range(MAX_READS if edge else 1):
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
    """Send as much as the kernel accepts; return the rest."""
    while data:
        try:
            data = data[sock.send(data) :]
        except BlockingIOError:
            break
    return data
