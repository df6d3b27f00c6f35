"""Pre-fork echo server: one listening socket, a process per core, and a count of the wake-ups.

    python examples/prefork_server.py --port 7009
    python examples/prefork_server.py --processes 8 --compare 300

What to notice:

- The socket is opened first and shared by fork. Each process then creates its own poller: an epoll set shared by two
  processes would report the registrations of one to the other.
- All processes wait for the same socket. A connection wakes all of them, and one accepts it. The others do not notice:
  the kernel wakes them, finds nothing ready, and puts them to sleep again. Only the kernel's count shows it.
- With EXCLUSIVE the kernel wakes one: --compare counts without and with it. It wakes the same process as long as that
  is waiting again in time, so short tasks are not distributed.
- accept() must not block: another process may have been faster.
- SIGTERM is graceful: listening ends at once, and connected clients are served until they leave or --grace expires.
- Parent and child share a socket pair. An end of file on it means that the other has exited, for any reason, or
  requests the shutdown: no orphan remains.
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

import fastmux
from echo_server import Client
from fastmux import EXCLUSIVE, READ
from serving import Listener, Stop, count, listen, log, parse, positive, run, seconds, server_command_line


class Child:
    """A child process, in the parent."""

    def __init__(self, poller: fastmux.Poller, pid: int, pair: socket.socket) -> None:
        self.poller = poller
        self.pid = pid
        self.pair = pair
        self.output = b""  # a "+" per connection, and at the end the number of wake-ups
        poller.register(pair, READ, self)

    @property
    def running(self) -> bool:
        return self.pair.fileno() >= 0

    @property
    def accepted(self) -> int:
        return self.output.count(b"+")

    @property
    def woken(self) -> int:
        return int(self.output.strip(b"+") or 0)

    def on_ready(self, events: int) -> None:
        """Read its output; after an end of file, reap it."""
        with contextlib.suppress(ConnectionResetError):
            if data := self.pair.recv(4096):
                self.output += data
                return
        self.poller.unregister(self.pair)
        self.pair.close()
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            log(f"process {self.pid} was ended by {signal.Signals(os.WTERMSIG(status)).name}")

    def read_to_end(self) -> None:
        while self.running:
            self.on_ready(READ)


def serve_clients(sock: socket.socket, parent: socket.socket, args: argparse.Namespace, exclusive: int) -> None:
    """Serve clients in a child process."""
    with fastmux.Poller(args.mechanism) as poller, Stop(poller) as stop:
        listener = Listener(poller, sock, READ | args.edge | exclusive)
        poller.register(parent, READ, parent)
        deadline: float | None = None
        initial_switches = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        while deadline is None or (len(poller) > 1 and time.monotonic() < deadline):  # 1: the registration of stop
            timeout = listener.timeout() if deadline is None else max(deadline - time.monotonic(), 0)
            for key, events in poller.select(timeout):
                if key.data is parent:
                    stop.signal = signal.SIGTERM
                elif key.data is not listener:
                    key.data.on_ready(events)
                elif deadline is None:
                    for client, _ in listener.accept():
                        if listener.add(client, Client(listener, client)):
                            parent.send(b"+")
            if stop and deadline is None:
                deadline = time.monotonic() + args.grace
                listener.close()
                poller.unregister(parent)
        parent.send(b"%d" % (resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - initial_switches))


def start(poller: fastmux.Poller, sock: socket.socket, args: argparse.Namespace, exclusive: int) -> list[Child]:
    """Start the child processes and register them with the parent's poller."""
    children: list[Child] = []
    for _ in range(args.processes):
        ours, theirs = socket.socketpair()
        if pid := os.fork():
            theirs.close()
            children.append(Child(poller, pid, ours))
            continue
        try:
            poller.close()  # belongs to the parent, as do the pairs
            for pair in (ours, *(child.pair for child in children)):
                pair.close()
            serve_clients(sock, theirs, args, exclusive)
        except BrokenPipeError:  # the parent has exited
            pass
        except Exception as error:
            print(f"process {os.getpid()}: {error!r}", file=sys.stderr, flush=True)
        finally:
            os._exit(0)  # skip the cleanup handlers of the parent
    return children


def finish(children: list[Child]) -> None:
    for child in children:
        if child.running:
            child.pair.shutdown(socket.SHUT_WR)
    for child in children:
        child.read_to_end()


def serve(poller: fastmux.Poller, stop: Stop, sock: socket.socket, args: argparse.Namespace) -> int:
    exclusive = EXCLUSIVE if args.mechanism == "epoll" else 0
    children = start(poller, sock, args, exclusive)
    log(f"{count(len(children), 'process')}, {'with' if exclusive else 'without'} EXCLUSIVE")
    while not stop and any(child.running for child in children):
        for key, events in poller.select():
            key.data.on_ready(events)
    sock.close()
    finish(children)
    for child in children:
        log(f"process {child.pid}: {count(child.accepted, 'connection')}, woken {count(child.woken, 'time')}")
    log(f"served {count(sum(child.accepted for child in children), 'client')}")
    return 0 if stop else 1


def compare(poller: fastmux.Poller, stop: Stop, sock: socket.socket, args: argparse.Namespace) -> int:
    """Open connections one by one, each after the previous one has been accepted."""
    log(f"{count(args.compare, 'connection')}, one after another, to {count(args.processes, 'process')}")
    for exclusive, name in ((0, "without"), (EXCLUSIVE, "with")):
        if exclusive and args.mechanism != "epoll":
            log(f"with EXCLUSIVE: not possible with {args.mechanism}, which keeps no state between calls")
            continue
        children = start(poller, sock, args, exclusive)
        with contextlib.ExitStack() as connections:
            for _ in range(args.compare):
                connections.enter_context(socket.create_connection(sock.getsockname()[:2]))
                for key, events in poller.select():
                    key.data.on_ready(events)
                if stop or not all(child.running for child in children):
                    break
        finish(children)
        if (accepted := sum(child.accepted for child in children)) < args.compare:
            sys.exit(f"ended after {count(accepted, 'connection')}")
        log(f"{name} EXCLUSIVE: {count(sum(child.woken for child in children), 'wake-up')}")
    return 0


def main() -> int:
    parser = server_command_line(__doc__, port=7009)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--processes", type=positive, default=cores, metavar="N", help="default: one per core")
    parser.add_argument("--grace", type=seconds, default=5, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--compare", type=positive, metavar="N", help="make N connections without EXCLUSIVE, N with it")
    args = parse(parser)
    with fastmux.Poller(args.mechanism) as poller, Stop(poller) as stop, listen(args.host, args.port) as sock:
        return (compare if args.compare else serve)(poller, stop, sock, args)


if __name__ == "__main__":
    run(main)
