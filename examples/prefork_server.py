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
from dataclasses import dataclass

import fastmux
from echo_server import Client
from fastmux import EXCLUSIVE, READ
from serving import Listener, Stop, listen, parse, run, say, server_command_line


@dataclass
class Child:
    pid: int
    pair: socket.socket
    #: A "+" for each connection, and at the end how often it was woken.
    told: bytes = b""

    @property
    def accepted(self) -> int:
        return self.told.count(b"+")

    @property
    def woken(self) -> int:
        return int(self.told.strip(b"+") or 0)


def work(sock: socket.socket, parent: socket.socket, args: argparse.Namespace, exclusive: int) -> None:
    """What each process does."""
    with fastmux.Poller(args.mechanism) as poller, Stop(poller) as stop:
        listener = Listener(poller, sock, READ | args.edge | exclusive)
        poller.register(parent, READ, parent)
        deadline: float | None = None
        sleeps = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        while deadline is None or (len(poller) and time.monotonic() < deadline):
            pause = listener.patience() if deadline is None else max(deadline - time.monotonic(), 0)
            for key, _ in poller.select(pause):
                if key.data is parent:
                    stop.signal = signal.SIGTERM
                elif key.data is not listener:
                    key.data.on_ready()
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
            children.append(Child(pid, ours))
            poller.register(ours, READ, children[-1])
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


def listen_to(poller: fastmux.Poller, child: Child) -> bool:
    """Take what a child tells; False when it has told everything, and has ended."""
    with contextlib.suppress(ConnectionResetError):
        if data := child.pair.recv(4096):
            child.told += data
            return True
    poller.unregister(child.pair)
    child.pair.close()
    _, status = os.waitpid(child.pid, 0)
    if os.WIFSIGNALED(status):
        say(f"process {child.pid} was ended by {signal.Signals(os.WTERMSIG(status)).name}")
    return False


def finish(poller: fastmux.Poller, children: list[Child]) -> None:
    """Have all children come to an end, and hear them out."""
    for child in children:
        with contextlib.suppress(OSError):  # it has ended by itself
            child.pair.shutdown(socket.SHUT_WR)
    for child in children:
        while child.pair in poller:
            listen_to(poller, child)


def serve(poller: fastmux.Poller, stop: Stop, sock: socket.socket, args: argparse.Namespace) -> int:
    exclusive = EXCLUSIVE if args.mechanism == "epoll" else 0
    children = start(poller, sock, args, exclusive)
    say(f"{len(children)} processes, {'with' if exclusive else 'without'} EXCLUSIVE")
    while len(poller) and not stop:
        for key, _ in poller.select():
            listen_to(poller, key.data)
    sock.close()
    finish(poller, children)
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
                if not all(listen_to(poller, key.data) for key, _ in poller.select()):
                    sys.exit("a process has ended too early")
                if stop:
                    break
        finish(poller, children)
        if stop:
            return 128 + stop.signal
        say(f"{name} EXCLUSIVE: {sum(child.woken for child in children)} wake-ups")
    return 0


def main() -> int:
    parser = server_command_line(__doc__, port=7009)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--processes", type=int, default=cores, metavar="N", help="default: one per core")
    parser.add_argument("--grace", type=float, default=5, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--compare", type=int, metavar="N", help="make N connections without EXCLUSIVE, and N with it")
    args = parse(parser)
    with fastmux.Poller(args.mechanism) as poller, Stop(poller) as stop, listen(args.host, args.port) as sock:
        return (compare if args.compare else serve)(poller, stop, sock, args)


if __name__ == "__main__":
    run(main)
