"""create_connection() and create_unix_connection(), on both loops; the standard one is the oracle."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
from pathlib import Path

import pytest

import fastmux

from .connections import Recorder, settle, until

try:
    socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    HOSTS = ["127.0.0.1", "::1"]
except OSError:
    HOSTS = ["127.0.0.1"]


def listen(host="127.0.0.1", backlog=10):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, 0), family=family, backlog=backlog)


@pytest.mark.parametrize("host", HOSTS)
def test_a_literal_address_is_connected_without_a_look_up(run, loop, monkeypatch, host):
    async def main():
        tasks = len(asyncio.all_tasks())
        with listen(host) as listener:
            transport, protocol = await loop.create_connection(Recorder, host, listener.getsockname()[1])
            names = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
            with listener.accept()[0] as theirs:
                theirs.sendall(b"hello")
                await until(lambda: protocol.data)
                expected = theirs.getsockname(), theirs.getpeername()
            await protocol.lost
        return names == expected, protocol.events, len(asyncio.all_tasks()) - tasks

    monkeypatch.setattr(socket, "getaddrinfo", None)
    assert run(main()) == (True, ["made", "data", "eof", "lost"], 0)


def test_a_name_is_looked_up(run, loop):
    async def main():
        with listen() as listener:
            transport, protocol = await loop.create_connection(
                Recorder, "localhost", listener.getsockname()[1], family=socket.AF_INET
            )
            transport.abort()
            await protocol.lost
        return transport.get_extra_info("peername")[0]

    assert run(main()) == "127.0.0.1"


def test_connection_made_is_called_before_create_connection_returns(run, loop):
    class Order(asyncio.Protocol):
        def connection_made(self, transport):
            events.append("made")
            loop.call_soon(events.append, "after made")

    async def main():
        with listen() as listener:
            transport, _ = await loop.create_connection(Order, *listener.getsockname())
            events.append("returned")
            transport.abort()
            await settle()
        return events

    events = []
    assert run(main()) == ["made", "after made", "returned"]


@pytest.mark.parametrize("host", HOSTS)
def test_a_refused_connection_raises(run, loop, host):
    with listen(host) as listener:
        port = listener.getsockname()[1]

    async def main():
        with pytest.raises(ConnectionRefusedError) as caught:
            await loop.create_connection(Recorder, host, port)
        return str(caught.value)

    address = (host, port) if host == "127.0.0.1" else (host, port, 0, 0)
    assert run(main()) == f"[Errno 111] Connect call failed {address}"


@pytest.mark.parametrize("port", [-1, 65536, 1 << 70])
def test_ports_are_checked(run, loop, port):
    async def main():
        with pytest.raises(OverflowError) as caught:
            await loop.create_connection(Recorder, "127.0.0.1", port)
        return str(caught.value)

    expected = []
    with socket.socket() as sock:
        for refuse in (sock.connect, lambda address: socket.getaddrinfo(*address)):
            try:
                refuse(("127.0.0.1", port))
            except OverflowError as error:
                expected.append(str(error))
            except OSError:
                pass  # not on all versions
    assert run(main()) in expected


@pytest.mark.parametrize("host", [None, "", 5, b"127.0.0.1", "1.2.3.4.5", "127.0.0.1\0", "::1%nothing"])
def test_unusual_hosts_have_the_standard_result(loop, host):
    async def attempt(each):
        with listen() as listener:
            port = listener.getsockname()[1]
            try:
                transport, _ = await asyncio.wait_for(each.create_connection(asyncio.Protocol, host, port), 10)
            except (OSError, ValueError, TypeError, AttributeError, UnicodeError) as exc:
                return type(exc)
            peer = transport.get_extra_info("peername")[0]
            transport.abort()
            await settle()
            return peer

    standard = asyncio.SelectorEventLoop()
    expected = standard.run_until_complete(attempt(standard))
    standard.close()
    assert expected == loop.run_until_complete(attempt(loop))


@pytest.fixture
def empty_working_directory(monkeypatch, tmp_path):
    """For relative paths: the kernel takes at most 107 bytes."""
    monkeypatch.chdir(tmp_path)


def fill(listener):
    """Fill the queue of a listening socket: the kernel then ignores further connections. Return those in it."""
    clients = []
    while True:
        client = socket.socket()
        client.settimeout(0.2)
        clients.append(client)
        try:
            client.connect(listener.getsockname())
        except OSError:
            return clients


def test_a_pending_connection_is_made_when_the_listener_accepts(run, loop):
    async def main():
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(listen(backlog=0))
            waiting = [stack.enter_context(client) for client in fill(listener)]
            connecting = asyncio.ensure_future(loop.create_connection(Recorder, *listener.getsockname()))
            await settle()
            pending = not connecting.done()
            for client in waiting:
                client.close()
            loop.add_reader(listener, lambda: stack.enter_context(listener.accept()[0]))
            transport, protocol = await connecting  # the kernel tries again after a second
            loop.remove_reader(listener)
            transport.abort()
            await protocol.lost
            return pending, protocol.events

    assert run(main()) == (True, ["made", "lost"])


def test_a_cancelled_connection_leaves_nothing(run, loop):
    async def main():
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(listen(backlog=0))
            for client in fill(listener):
                stack.enter_context(client)
            watched = len(loop._selector.get_map())
            connecting = asyncio.ensure_future(loop.create_connection(Recorder, *listener.getsockname()))
            await settle()
            during = len(loop._selector.get_map()) - watched
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await connecting
            await settle()
            return during, len(loop._selector.get_map()) - watched

    assert run(main()) == (1, 0)


def test_steps_that_a_program_replaces_are_called(run, loop):
    class Counting(type(loop)):
        async def sock_connect(self, sock, address):
            calls.append(address)
            await super().sock_connect(sock, address)

    async def main(each):
        with listen() as listener:
            for _ in range(2):
                transport, protocol = await each.create_connection(Recorder, *listener.getsockname())
                transport.abort()
                await protocol.lost
            return listener.getsockname()

    calls = []
    each = Counting()
    try:
        address = each.run_until_complete(main(each))
    finally:
        each.close()
    assert calls == [address, address]

    calls.clear()
    connect = loop.sock_connect

    async def replaced(sock, address):
        calls.append(address)
        await connect(sock, address)

    loop.sock_connect = replaced
    address = run(main(loop))
    assert calls == [address, address]


# Unix sockets


@pytest.mark.usefixtures("empty_working_directory")
@pytest.mark.parametrize("path", ["socket", b"socket", Path("socket")], ids=["str", "bytes", "path"])
def test_a_path_is_connected(run, loop, path):
    async def main():
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
            listener.listen()
            transport, protocol = await loop.create_unix_connection(Recorder, path)
            with listener.accept()[0] as theirs:
                theirs.sendall(b"hello")
                await until(lambda: protocol.data)
            await protocol.lost
        return transport.get_extra_info("peername"), protocol.events

    assert run(main()) == ("socket", ["made", "data", "eof", "lost"])


@pytest.mark.usefixtures("empty_working_directory")
def test_a_missing_path_raises(run, loop):
    async def main():
        with pytest.raises(FileNotFoundError) as caught:
            await loop.create_unix_connection(Recorder, "missing")
        return str(caught.value)

    assert run(main()) == "[Errno 2] No such file or directory"


@pytest.mark.parametrize("path", [5, "x" * 200, "a\0b"])
def test_bad_paths_have_the_standard_result(loop, path):
    async def attempt(each):
        try:
            await each.create_unix_connection(asyncio.Protocol, path)
        except (OSError, TypeError, ValueError) as exc:
            return type(exc), str(exc)

    standard = asyncio.SelectorEventLoop()
    expected = standard.run_until_complete(attempt(standard))
    standard.close()
    assert expected == loop.run_until_complete(attempt(loop))


def test_the_loop_has_its_own_way_to_connect():
    """The tests above compare it with the standard one."""
    if fastmux.implementation == "c":
        assert fastmux.EventLoop.create_connection is not asyncio.SelectorEventLoop.create_connection


def test_a_socket_whose_number_is_in_use_stays_open(loop, run):
    if not getattr(loop, "_uses_core", False) and sys.version_info < (3, 12):
        pytest.skip("the standard loop does not check the number")

    async def main():
        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        number = ours.detach()
        os.close(number)
        pair = socket.socketpair()
        other = next(sock for sock in pair if sock.fileno() == number)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.create_connection(asyncio.Protocol, sock=other)
        gc.collect()
        found = other.fileno() == number
        transport.abort()
        await asyncio.sleep(0)
        for sock in (theirs, *pair):
            sock.close()
        return found

    assert run(main())
