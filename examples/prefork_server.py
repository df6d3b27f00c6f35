"""One listening socket and a process per core: an echo server that counts who is woken for what.

    python examples/prefork_server.py --port 7009
    python examples/prefork_server.py --processes 8 --compare 300

What to notice:

- The socket is opened first and shared by fork. The poller is made afterwards, by each process for itself: an epoll
  set that two processes share would report to one what the other has registered.
- All processes wait for the same socket. A connection wakes all of them, and one accepts it. The others do not even
  notice: the kernel wakes them, sees that nothing is left, and puts them to sleep again. Only its own count tells.
- EXCLUSIVE has one of them woken: --compare counts without and with it. It is the same one for as long as it is back
  in time, so work that takes no time is not spread.
- accept() must not block: another process may have been faster.
- SIGTERM is graceful: listening ends at once, those who are connected are served until they leave or --grace is over.
- Parent and child hold a pair of sockets between them. An end of file there means that the other is gone, or wants an
  end, whatever has become of it: nobody is left behind.
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
from serving import Listener, Stop, listen, parse, positive, run, say, seconds, server_command_line


class Child:
    """A process, as its parent sees it."""

    def __init__(self, poller: fastmux.Poller, pid: int, pair: socket.socket) -> None:
        self.poller = poller
        self.pid = pid
        self.pair = pair
        self.told = b""  # a "+" for each connection, and at the end how often it was woken
        poller.register(pair, READ, self)

    @property
    def running(self) -> bool:
        return self.pair.fileno() >= 0

    @property
    def accepted(self) -> int:
        return self.told.count(b"+")

    @property
    def woken(self) -> int:
        return int(self.told.strip(b"+") or 0)

    def on_ready(self, events: int) -> None:
        """Take what it tells. After an end of file, it has ended."""
        with contextlib.suppress(ConnectionResetError):
            if data := self.pair.recv(4096):
                self.told += data
                return
        self.poller.unregister(self.pair)
        self.pair.close()
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            say(f"process {self.pid} was ended by {signal.Signals(os.WTERMSIG(status)).name}")

    def hear_out(self) -> None:
        while self.running:
            self.on_ready(READ)


def work(sock: socket.socket, parent: socket.socket, args: argparse.Namespace, exclusive: int) -> None:
    """What each process does."""
    with fastmux.Poller(args.mechanism) as poller, Stop(poller) as stop:
        listener = Listener(poller, sock, READ | args.edge | exclusive)
        poller.register(parent, READ, parent)
        deadline: float | None = None
        sleeps = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        while deadline is None or (len(poller) > 1 and time.monotonic() < deadline):  # the one is stop's
            pause = listener.patience() if deadline is None else max(deadline - time.monotonic(), 0)
            for key, events in poller.select(pause):
                if key.data is parent:
                    stop.signal = signal.SIGTERM
                elif key.data is not listener:
                    key.data.on_ready(events)
                elif deadline is None:
                    for client, _ in listener.accept():
                        if listener.admit(client, Client(listener, client)):
                            parent.send(b"+")
            if stop and deadline is None:
                deadline = time.monotonic() + args.grace
                listener.close()
                poller.unregister(parent)
        parent.send(b"%d" % (resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - sleeps))


def start(poller: fastmux.Poller, sock: socket.socket, args: argparse.Namespace, exclusive: int) -> list[Child]:
    """Start the processes, and watch them with the parent's poller."""
    children: list[Child] = []
    for _ in range(args.processes):
        ours, theirs = socket.socketpair()
        if pid := os.fork():
            theirs.close()
            children.append(Child(poller, pid, ours))
            continue
        try:
            poller.close()  # it is the parent's, as are these
            for pair in (ours, *(child.pair for child in children)):
                pair.close()
            work(sock, theirs, args, exclusive)
        except BrokenPipeError:  # the parent is gone
            pass
        except Exception as error:
            print(f"process {os.getpid()}: {error!r}", file=sys.stderr, flush=True)
        finally:
            os._exit(0)  # what the parent has begun is not the child's to end
    return children


def finish(children: list[Child]) -> None:
    for child in children:
        if child.running:
            child.pair.shutdown(socket.SHUT_WR)
    for child in children:
        child.hear_out()


def serve(poller: fastmux.Poller, stop: Stop, sock: socket.socket, args: argparse.Namespace) -> int:
    exclusive = EXCLUSIVE if args.mechanism == "epoll" else 0
    children = start(poller, sock, args, exclusive)
    say(f"{len(children)} processes, {'with' if exclusive else 'without'} EXCLUSIVE")
    while not stop and any(child.running for child in children):
        for key, events in poller.select():
            key.data.on_ready(events)
    sock.close()
    finish(children)
    for child in children:
        say(f"process {child.pid}: {child.accepted} connections, woken {child.woken} times")
    say(f"served {sum(child.accepted for child in children)} clients")
    return 0 if stop else 1


def compare(poller: fastmux.Poller, stop: Stop, sock: socket.socket, args: argparse.Namespace) -> int:
    """Connect again and again, each time when the connection before has been accepted."""
    say(f"{args.compare} connections, one after another, to {args.processes} processes")
    for exclusive, name in ((0, "without"), (EXCLUSIVE, "with")):
        if exclusive and args.mechanism != "epoll":
            say(f"with EXCLUSIVE: not possible with {args.mechanism}, which keeps no state between calls")
            continue
        children = start(poller, sock, args, exclusive)
        with contextlib.ExitStack() as visitors:
            for _ in range(args.compare):
                visitors.enter_context(socket.create_connection(sock.getsockname()[:2]))
                for key, events in poller.select():
                    key.data.on_ready(events)
                if stop or not all(child.running for child in children):
                    break
        finish(children)
        if (accepted := sum(child.accepted for child in children)) < args.compare:
            sys.exit(f"ended after {accepted} connections")
        say(f"{name} EXCLUSIVE: {sum(child.woken for child in children)} wake-ups")
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
