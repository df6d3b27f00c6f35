"""What the event loop can do beyond the standard one: urgent data, half-close without reading, exclusive servers."""

from __future__ import annotations

import asyncio
import selectors
import socket
from pathlib import Path

import pytest

import fastmux

PATIENCE = 20
EXCLUSIVE = 1 << 28


@pytest.fixture
def loop():
    loop = fastmux.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def tcp():
    """A TCP connection: a pair of sockets with urgent data."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_urgent_data_calls_each_time(loop, run, tcp):
    ours, theirs = tcp
    received = []

    async def main():
        loop.add_urgent(ours, lambda: received.append(ours.recv(1, socket.MSG_OOB)))
        for text in (b"1", b"2"):
            theirs.send(text, socket.MSG_OOB)
            await until(lambda text=text: received[-1:] == [text])
        assert loop.remove_urgent(ours)
        assert not loop.remove_urgent(ours)
        theirs.send(b"3", socket.MSG_OOB)
        await asyncio.sleep(0.01)

    run(main())

    assert received == [b"1", b"2"]


def test_ordinary_data_is_not_urgent(loop, run, tcp):
    ours, theirs = tcp
    called = []

    async def main():
        loop.add_urgent(ours, called.append, "urgent")
        theirs.send(b"data")
        readable = asyncio.Event()
        loop.add_reader(ours, readable.set)
        await readable.wait()
        await asyncio.sleep(0.01)
        loop.remove_reader(ours)
        loop.remove_urgent(ours)

    run(main())

    assert called == []


@pytest.mark.parametrize("end", [lambda sock: sock.shutdown(socket.SHUT_WR), socket.socket.close])
def test_the_peers_close_is_reported_once_and_without_reading(loop, run, tcp, end):
    ours, theirs = tcp
    called = []

    async def main():
        theirs.send(b"unread")
        loop.on_peer_close(ours, called.append, "closed")
        await asyncio.sleep(0.01)
        assert called == []
        end(theirs)
        await until(lambda: called)
        await asyncio.sleep(0.01)

    run(main())

    assert called == ["closed"]
    assert ours.recv(100) == b"unread"


def test_the_peers_close_is_seen_by_a_transport_that_does_not_read(loop, run, tcp):
    ours, theirs = tcp

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport.pause_reading()
        closed = asyncio.Event()
        loop.on_peer_close(transport.get_extra_info("socket"), closed.set)
        theirs.close()
        await closed.wait()
        assert not transport.is_closing()
        transport.close()
        await asyncio.sleep(0)

    run(main())


def test_a_cancelled_handle_is_not_called(loop, run, tcp):
    ours, theirs = tcp
    called = []

    async def main():
        loop.on_peer_close(ours, called.append, "closed").cancel()
        theirs.close()
        await asyncio.sleep(0.01)

    run(main())

    assert called == []


def test_both_conditions_of_one_socket_are_independent(loop, run, tcp):
    ours, theirs = tcp
    called = []

    async def main():
        loop.on_peer_close(ours, called.append, "closed")
        loop.add_urgent(ours, lambda: called.append(ours.recv(1, socket.MSG_OOB)))
        theirs.send(b"!", socket.MSG_OOB)
        await until(lambda: called)
        theirs.close()
        await until(lambda: len(called) == 2)
        loop.remove_urgent(ours)

    run(main())

    assert called == [b"!", "closed"]


def test_a_number_that_is_another_sockets_by_now_is_watched_anew(loop, run):
    async def main():
        called = []
        for number in range(3):
            ours, theirs = socket.socketpair()
            loop.on_peer_close(ours, called.append, number)
            if number == 2:
                theirs.close()
                await until(lambda: called)
            ours.close()
            theirs.close()
        return called

    assert run(main()) == [2]


def test_conditions_end_with_the_loop(open_descriptors, tcp):
    ours, _ = tcp
    before = open_descriptors()
    loop = fastmux.new_event_loop()
    loop.add_urgent(ours, print)
    loop.close()

    assert open_descriptors() == before
    with pytest.raises(RuntimeError):
        loop.on_peer_close(ours, print)


@pytest.mark.parametrize("wrong", [-1, "text", None])
def test_what_is_no_descriptor_is_refused(loop, wrong):
    with pytest.raises(ValueError, match="invalid file"):
        loop.add_urgent(wrong, print)


# Exclusive servers


def watched(loop, sock):
    """The events that the kernel watches a socket for, on behalf of the loop."""
    for line in Path(f"/proc/self/fdinfo/{loop._selector.fileno()}").read_text().splitlines():
        fields = line.split()
        if fields[:1] == ["tfd:"] and int(fields[1]) == sock.fileno():
            return int(fields[3], 16)
    return 0


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


def test_other_servers_do_not(loop, run):
    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        events = watched(loop, server.sockets[0])
        server.close()
        await server.wait_closed()
        return events

    assert 0 < run(main()) < EXCLUSIVE


@pytest.mark.parametrize("selector", [selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector])
def test_exclusive_is_refused_where_it_would_mean_nothing(selector):
    loop = fastmux.EventLoop(selector())
    try:
        with pytest.raises(ValueError, match="exclusively"):
            loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0, exclusive=True))
    finally:
        loop.close()


def test_several_exclusive_loops_share_the_connections(start_thread):
    """Each connection is accepted by one of two loops on the same listening socket, and answered."""
    import threading

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
            ready.wait(PATIENCE)
            await stop
            server.close()
            await asyncio.sleep(0)

        fastmux.run(main())

    threads = [start_thread(serve, sock) for sock in (listening, listening.dup())]
    ready.wait(PATIENCE)
    for _ in range(50):
        with socket.create_connection(address, timeout=PATIENCE) as client:
            assert client.recv(100) == b"hello"
    for loop, stop in loops:
        loop.call_soon_threadsafe(stop.set_result, None)
    for thread in threads:
        thread.result()

    assert len(accepted) == 50
