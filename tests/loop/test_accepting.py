"""Accepted connections: their sockets, which are made when a program asks for them, and their ends."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import resource
import socket
import sys

import pytest

import fastmux

from .connections import Recorder, connect, settle, until

HOST = "127.0.0.1"


def is_open(number):
    """Return whether a descriptor is open."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def drop(protocol):
    protocol.transport = None
    gc.collect()


class Family:
    """A server's address, and a client of it."""

    def __init__(self, family, address):
        self.family = family
        self.address = address

    async def serve(self, factory):
        listener = socket.socket(self.family)
        listener.bind(self.address)
        loop = asyncio.get_running_loop()
        create = loop.create_unix_server if self.family == socket.AF_UNIX else loop.create_server
        return await create(factory, sock=listener), listener.getsockname()


FAMILIES = pytest.mark.parametrize(
    "family",
    [Family(socket.AF_INET, (HOST, 0)), Family(socket.AF_UNIX, "")],
    ids=["TCP", "Unix"],
)


@contextlib.asynccontextmanager
async def accepted(family, factory=Recorder):
    """Yield the protocol of an accepted connection, its client and its server."""
    protocols = []

    def make():
        protocols.append(factory())
        return protocols[-1]

    server, address = await family.serve(make)
    with socket.socket(family.family) as client:
        client.connect(address)
        client.setblocking(False)
        while not (protocols and "made" in protocols[0].events):
            await asyncio.sleep(0)
        await settle()
        try:
            yield protocols[0], client, server
        finally:
            server.close()
            if protocols[0].transport is not None:
                protocols[0].transport.abort()
                await protocols[0].lost


@FAMILIES
def test_the_socket_is_that_of_the_connection(run, family):
    async def main():
        async with accepted(family) as (protocol, client, server):
            info = protocol.transport.get_extra_info
            sock, listener = info("socket"), server.sockets[0]
            assert type(sock) is asyncio.trsock.TransportSocket
            assert sock is info("socket")
            assert (sock.family, sock.type, sock.proto) == (listener.family, listener.type, listener.proto)
            assert sock.gettimeout() == 0
            assert not os.get_inheritable(sock.fileno())
            assert info("sockname") == listener.getsockname() == sock.getsockname()
            assert info("peername") == client.getsockname() == sock.getpeername()
            client.send(b"in")
            protocol.transport.write(b"out")
            while not protocol.data:
                await asyncio.sleep(0)
            assert (protocol.data, client.recv(10)) == (b"in", b"out")

    run(main())


@FAMILIES
@pytest.mark.parametrize("asks", [False, True], ids=["unasked", "asked"])
def test_the_socket_is_closed_after_connection_lost(run, family, asks):
    class Closing(Recorder):
        def connection_lost(self, exc):
            assert is_open(self.transport._sock_fd)
            super().connection_lost(exc)

    async def main():
        async with accepted(family, Closing) as (protocol, client, _):
            transport = protocol.transport
            if asks:
                transport.get_extra_info("socket")
            transport.close()
            await protocol.lost
            await asyncio.sleep(0)
            assert not is_open(transport._sock_fd)
            assert client.recv(1) == b""

    run(main())


@FAMILIES
def test_connections_of_a_server_share_context_variables_as_on_the_standard_loop(run, family):
    """Since Python 3.15 each has one copy of the server's context; before, each callback has a copy of its own."""
    steps = contextvars.ContextVar("steps")

    def step(name):
        steps.set((*steps.get(), name))
        return steps.get()

    class Stepping(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.seen.append(step("made"))

        def data_received(self, data):
            super().data_received(data)
            self.seen.append(step("data"))

        def connection_lost(self, exc):
            self.seen.append(step("lost"))
            super().connection_lost(exc)

    async def main():
        protocols = []

        def make():
            protocols.append(Stepping())
            protocols[-1].seen = [step(f"factory {len(protocols)}")]
            return protocols[-1]

        steps.set(("before",))
        server, address = await family.serve(make)
        steps.set(("after",))
        with contextlib.ExitStack() as stack:
            for number in range(1, 3):
                client = stack.enter_context(socket.socket(family.family))
                client.connect(address)
                client.send(b"data")
                await until(lambda number=number: len(protocols) == number and protocols[-1].data)
            server.close()
            for protocol in protocols:
                protocol.transport.abort()
                await protocol.lost
        return [protocol.seen for protocol in protocols], steps.get()

    standard = asyncio.SelectorEventLoop()
    expected = standard.run_until_complete(main())
    standard.close()
    assert run(main()) == expected


@FAMILIES
def test_a_number_that_was_closed_behind_the_transport_is_reported(loop, run, family):
    if not isinstance(loop, fastmux.EventLoop) or fastmux.implementation != "c":
        pytest.skip("the standard transport keeps the socket, with a warning of its destructor")

    async def main():
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, report: reports.append(report["exception"]))
        async with accepted(family) as (protocol, _, _):
            transport = protocol.transport
            transport.close()
            os.close(transport._sock_fd)
            await protocol.lost
            await asyncio.sleep(0)
        assert [type(report) for report in reports] == [OSError]

    run(main())


@FAMILIES
def test_an_open_transport_that_is_dropped_closes_its_socket_with_a_warning(run, family):
    async def main():
        transports = asyncio.get_running_loop()._transports
        async with accepted(family) as (protocol, client, server):
            protocol.transport.pause_reading()
            number = protocol.transport._sock_fd
            with pytest.warns(ResourceWarning):  # of the transport or, if the collector takes it first, of the socket
                drop(protocol)
            assert not is_open(number)
            assert transports.get(number) is None
            assert client.recv(1) == b""
            if sys.version_info >= (3, 13):
                server.close()
                await server.wait_closed()

    run(main())


@FAMILIES
def test_the_loop_knows_its_transports_until_they_end(run, family):
    async def main():
        transports = asyncio.get_running_loop()._transports
        async with accepted(family) as (protocol, _, _):
            transport = protocol.transport
            number = transport._sock_fd
            assert transports[number] is transport
            transport.close()
            await protocol.lost
            del transport
            protocol.transport = None
            await settle()
            gc.collect()
            assert number not in transports

    run(main())


@FAMILIES
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the standard loop leaves it to a destructor
def test_a_factory_that_fails_closes_the_connection(run, family, collect_unreferenced):
    def fail():
        raise ZeroDivisionError

    async def main():
        server, address = await family.serve(fail)
        with socket.socket(family.family) as client:
            client.connect(address)
            client.setblocking(False)
            received = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(client, 1))
            while not received.done():
                collect_unreferenced()
                await asyncio.sleep(0.001)
            assert received.result() == b""
        server.close()

    run(main())


def test_a_loop_with_its_own_transports_makes_them_for_accepted_connections(loop, run):
    made = []
    make = loop._make_socket_transport

    def record(*args, **options):
        made.append(args[1])
        return make(*args, **options)

    loop._make_socket_transport = record

    async def main():
        async with accepted(Family(socket.AF_INET, (HOST, 0))) as (protocol, _, _):
            assert made == [protocol]

    run(main())
    del loop._make_socket_transport


@FAMILIES
def test_a_closing_server_waits_for_its_connections(run, family):
    async def main():
        async with accepted(family) as (protocol, _, server):
            server.close()
            waiting = asyncio.ensure_future(server.wait_closed())
            for _ in range(5):
                await asyncio.sleep(0)
            assert waiting.done() == (sys.version_info < (3, 12))
            protocol.transport.close()
            await waiting

    run(main())


@FAMILIES
def test_a_transport_that_has_ended_knows_its_names_and_its_closed_socket(run, family):
    async def main():
        async with accepted(family) as (protocol, _, server):
            listener = server.sockets[0]
            protocol.transport.close()
            await protocol.lost
            await settle()
            info = protocol.transport.get_extra_info
            sock = info("socket")
            assert info("sockname") == listener.getsockname()
            assert (sock.fileno(), sock.family, sock.type) == (-1, listener.family, listener.type)
            assert info("socket") is sock

    run(main())


@FAMILIES
def test_a_transport_that_has_ended_answers_without_a_free_descriptor(run, family, descriptors_limit):
    """fastmux makes the closed socket only now, if it can."""
    before, _ = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main():
        async with accepted(family) as (protocol, _, _):
            protocol.transport.close()
            await protocol.lost
            await settle()
            descriptors_limit(0)
            sock = protocol.transport.get_extra_info("socket")
            descriptors_limit(before)
            return -1 if sock is None else sock.fileno()

    assert run(main()) == -1


def test_a_transport_of_a_given_socket_knows_it_after_its_end(run):
    async def main():
        protocol, theirs = await connect()
        protocol.transport.abort()
        await protocol.lost
        await settle()
        theirs.close()
        info = protocol.transport.get_extra_info
        return info("sockname"), info("peername"), info("socket").fileno(), info("socket").family

    assert run(main()) == ("", "", -1, socket.AF_UNIX)


@FAMILIES
@pytest.mark.parametrize("kind", ["accepted", "given"])
def test_a_transport_knows_its_name_after_the_program_has_detached_its_socket(run, family, kind):
    async def main():
        loop = asyncio.get_running_loop()
        async with accepted(family) as (protocol, client, _):
            if kind == "given":
                sock = client.dup()
                transport, protocol = await loop.create_connection(Recorder, sock=sock)
            else:
                transport = protocol.transport
                sock = transport.get_extra_info("socket")._sock
            name = sock.getsockname()
            transport.pause_reading()
            with socket.socket(fileno=sock.detach()):
                known = transport.get_extra_info("sockname", "default")
                transport.abort()
                await protocol.lost
        return known == name, known == transport.get_extra_info("sockname")

    assert run(main()) == (True, True)


@FAMILIES
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_server_does_not_count_a_connection_whose_protocol_is_none(loop, run, family):
    if not getattr(loop, "_uses_core", False) and sys.version_info[:2] == (3, 12):
        pytest.skip("the standard server waits for ever")

    async def main():
        server, address = await family.serve(lambda: None)
        with socket.socket(family.family) as client:
            client.connect(address)
            client.setblocking(False)
            await settle()
            gc.collect()  # the standard loop leaves it to a destructor
            received = await asyncio.get_running_loop().sock_recv(client, 1)
        server.close()
        await server.wait_closed()
        return received

    assert run(main()) == b""
