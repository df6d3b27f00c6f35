"""Servers: out of descriptors, and several processes or loops on one listening socket."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import select
import selectors
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import fastmux

TIMEOUT = 20.0
#: The kernel's EPOLLEXCLUSIVE.
EXCLUSIVE = 1 << 28

needs_core_epoll = pytest.mark.skipif(
    fastmux.implementation != "c" or "epoll" not in fastmux.Poller.mechanisms,
    reason="the standard EpollSelector cannot watch exclusively",
)

#: An echo server. It prints its port, and discards the errors that the loop logs.
ECHO = """
import asyncio, sys
import fastmux

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

async def main(options):
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    server = await loop.create_server(Echo, "127.0.0.1", 0, **options)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

fastmux.run(main({"exclusive": True} if sys.argv[1:] else {}))
"""


@pytest.fixture(params=[[], pytest.param(["exclusive"], marks=needs_core_epoll)], ids=["", "exclusive"])
def echo_server(request):
    """The process of a server, and its address."""
    process = subprocess.Popen([sys.executable, "-c", ECHO, *request.param], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield process, ("127.0.0.1", int(process.stdout.readline()))
        finally:
            process.kill()


def exchange(sock, data):
    sock.sendall(data)
    assert sock.recv(len(data)) == data


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_server_without_descriptors_serves_its_clients_and_does_not_spin(echo_server):
    """Once a descriptor is free, it accepts the pending connection: asyncio retries every second."""
    process, address = echo_server
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (
        socket.create_connection(address, timeout=TIMEOUT) as staying,
        socket.create_connection(address, timeout=TIMEOUT) as leaving,
    ):
        exchange(staying, b"1")
        exchange(leaving, b"1")
        used = len(os.listdir(f"/proc/{process.pid}/fd"))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used, hard))
        with socket.create_connection(address, timeout=TIMEOUT) as waiting:  # pending in the kernel
            waiting.sendall(b"2")
            before, deadline = cpu_seconds(process.pid), time.monotonic() + 1
            while time.monotonic() < deadline:
                exchange(staying, b"3")
                assert not select.select([waiting], [], [], 0.1)[0]
            assert cpu_seconds(process.pid) - before < 0.5

            leaving.close()
            assert waiting.recv(1) == b"2"
            exchange(staying, b"4")


#: Several processes serve one listening socket. Prints the number of serving processes, and the wake-ups of all.
PREFORK = """
import asyncio, collections, json, multiprocessing, os, resource, socket, sys, time
import fastmux

def serve(listening, pair, exclusive, pause):
    class Server(asyncio.Protocol):
        def connection_made(self, transport):
            if pause:
                time.sleep(pause)  # blocks the loop, so that the other process serves, too
            transport.write(b"%d" % os.getpid())
            transport.close()

    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Server, sock=listening, exclusive=exclusive)
        ended = asyncio.Event()
        loop.add_reader(pair, ended.set)
        pair.send(b"ready")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        await ended.wait()
        loop.remove_reader(pair)
        pair.send(b"%d" % (resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before))
        server.close()

    fastmux.run(main())

def visit(address):
    with socket.create_connection(address, timeout=20) as visitor:
        return visitor.makefile("rb").read()

def measure(context, exclusive, processes, pause, visits):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        pairs = [socket.socketpair() for _ in range(processes)]
        children = [context.Process(target=serve, args=(listening, theirs, exclusive, pause)) for _, theirs in pairs]
        for child in children:
            child.start()
        for ours, _ in pairs:
            assert ours.recv(5) == b"ready"
        served = visits(listening.getsockname())
        for ours, _ in pairs:
            ours.send(b"end")
        woken = sum(int(ours.recv(20)) for ours, _ in pairs)
        for child in children:
            child.join()
            assert child.exitcode == 0
    assert set(served) <= {b"%d" % child.pid for child in children}
    for pair in pairs:
        for end in pair:
            end.close()
    return served, woken

def one_by_one(address):
    return [visit(address) for _ in range(100)]

def two_at_a_time(address):
    served, deadline = set(), time.monotonic() + 20
    while len(served) < 2 and time.monotonic() < deadline:
        visitors = [socket.create_connection(address, timeout=20) for _ in range(2)]
        for visitor in visitors:
            with visitor:
                served.add(visitor.makefile("rb").read())
    return served

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    served, _ = measure(context, True, 2, 0.02, two_at_a_time)
    counts = {}
    for exclusive in (False, True):
        answers, counts[exclusive] = measure(context, exclusive, 4, 0, one_by_one)
        assert len(answers) == 100
    print(json.dumps([len(served), counts[False], counts[True]]))
"""


@needs_core_epoll
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_share_an_exclusive_server_and_a_connection_wakes_one(tmp_path, method):
    program = tmp_path / "prefork.py"
    program.write_text(PREFORK)
    finished = subprocess.run(
        [sys.executable, str(program), method], capture_output=True, text=True, timeout=3 * TIMEOUT, check=False
    )
    assert finished.returncode == 0, finished.stderr

    served, without, exclusive = json.loads(finished.stdout)
    assert served == 2
    # On an idle machine 400 without and 100 with. On a busy one, a process that is still awake is not woken.
    assert exclusive < without


# Exclusive servers in this process


@pytest.fixture
def loop():
    loop = fastmux.new_event_loop()
    yield loop
    loop.close()


def watched(loop, sock):
    """Return the events of a socket in the epoll set of the loop."""
    for line in Path(f"/proc/self/fdinfo/{loop._selector.fileno()}").read_text().splitlines():
        fields = line.split()
        if fields[:1] == ["tfd:"] and int(fields[1]) == sock.fileno():
            return int(fields[3], 16)
    return 0


@needs_core_epoll
@pytest.mark.parametrize("start", [True, False])
def test_an_exclusive_server_watches_its_sockets_exclusively(loop, run, start):
    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, exclusive=True, start_serving=start)
        if not start:
            assert watched(loop, server.sockets[0]) == 0
            await server.start_serving()
        (sock,) = server.sockets
        events = watched(loop, sock)
        with socket.create_connection(sock.getsockname()):
            await asyncio.sleep(0.01)
        server.close()
        await server.wait_closed()
        return events

    assert run(main()) & EXCLUSIVE


def test_other_servers_do_not_watch_exclusively(loop, run):
    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        events = watched(loop, server.sockets[0])
        server.close()
        await server.wait_closed()
        return events

    assert 0 < run(main()) < EXCLUSIVE


@pytest.mark.parametrize("selector", [selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector])
def test_exclusive_is_refused_on_selectors_that_cannot_watch_exclusively(selector):
    loop = fastmux.EventLoop(selector())
    try:
        with pytest.raises(ValueError, match="exclusively"):
            loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0, exclusive=True))
    finally:
        loop.close()


@needs_core_epoll
def test_several_exclusive_loops_share_the_connections(start_thread):
    """One of two loops on the same listening socket accepts and answers each connection."""
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    accepted, ready, loops = [], threading.Barrier(3), []

    class Server(asyncio.Protocol):
        def connection_made(self, transport):
            accepted.append(threading.get_ident())
            transport.write(b"hello")
            transport.close()

    def serve(sock):
        async def main():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Server, sock=sock, exclusive=True)
            stop = loop.create_future()
            loops.append((loop, stop))
            ready.wait(TIMEOUT)
            await stop
            server.close()
            await asyncio.sleep(0)

        fastmux.run(main())

    threads = [start_thread(serve, sock) for sock in (listening, listening.dup())]
    ready.wait(TIMEOUT)
    for _ in range(50):
        with socket.create_connection(address, timeout=TIMEOUT) as client:
            assert client.recv(100) == b"hello"
    for loop, stop in loops:
        loop.call_soon_threadsafe(stop.set_result, None)
    for thread in threads:
        thread.result()

    assert len(accepted) == 50
