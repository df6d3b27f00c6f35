"""TLS on both loops; the standard one is the oracle."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from functools import partial

import pytest

import fastmux

from .connections import BufferedRecorder, Recorder, settle, until
from .tls_peer import RECORD, client_context, close_pair, server_context, tls_pair

SIDES = pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
#: Python 3.10 has an older implementation, whose callbacks come in another order.
NEW = pytest.mark.skipif(sys.version_info < (3, 11), reason="another implementation in Python 3.10")
PATTERN = bytes(range(256)) * 8192  # 2 MiB


def big(count):
    return PATTERN[:count]


# Receiving


@SIDES
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [1, 100, RECORD - 1, RECORD, RECORD + 1, 200_000])
def test_data_arrives_as_it_was_sent(run, server_side, version, size):
    async def main():
        limits = {"minimum_version": version, "maximum_version": version}
        ours, theirs = (server_context, client_context) if server_side else (client_context, server_context)
        protocol, peer = await tls_pair(server_side=server_side, ours=ours(**limits), theirs=theirs(**limits))
        await peer.send(peer.records(big(size)))
        await until(lambda: len(protocol.data) >= size)
        protocol.transport.write(protocol.data)
        echoed = await peer.receive(size)
        await close_pair(protocol, peer)
        return protocol.data, echoed

    assert run(main()) == (big(size), big(size))


def test_records_that_arrive_byte_by_byte_are_delivered_when_complete(run):
    async def main():
        protocol, peer = await tls_pair()
        records = peer.records(b"one", b"two")
        for number in range(len(records)):
            await peer.send(records[number : number + 1])
            await settle()
        await until(lambda: protocol.data == b"onetwo")
        await close_pair(protocol, peer)
        return protocol.events

    assert run(main()) == ["made", "data", "data", "lost"]


@NEW
@pytest.mark.parametrize("cut", [1, 4, 5, 6, 20])
def test_records_that_arrive_together_are_delivered_together(run, cut):
    """The beginning of another record waits for its end."""

    async def main():
        protocol, peer = await tls_pair()
        records = peer.records(b"a" * 10, b"b" * RECORD, b"c")
        await peer.send(records + (rest := peer.records(b"d"))[:cut])
        await until(lambda: protocol.data)
        together = len(protocol.data)
        await peer.send(rest[cut:])
        await until(lambda: protocol.data.endswith(b"d"))
        await close_pair(protocol, peer)
        return together, protocol.events

    assert run(main()) == (10 + RECORD + 1, ["made", "data", "data", "lost"])


@pytest.mark.parametrize("size", [1, 100, RECORD, RECORD + 1, 100_000])
def test_a_buffered_protocol_gets_all_data(run, size):
    data = b"x" * 10 + big(min(150_000, 1500 * size))

    async def main():
        # The standard protocol reads into slices of the buffer, which are copies if that is a bytearray.
        protocol, peer = await tls_pair(lambda: BufferedRecorder(size, lambda size: memoryview(bytearray(size))))
        await peer.send(peer.records(data[:10], data[10:]))
        await until(lambda: len(protocol.data) == len(data))
        await close_pair(protocol, peer)
        return protocol.data

    assert run(main()) == data


@NEW
def test_a_bytearray_of_a_buffered_protocol_is_filled(run, loop):
    if type(loop) is asyncio.SelectorEventLoop or fastmux.implementation != "c":
        pytest.skip("the standard protocol reads into a copy of its slice")

    async def main():
        protocol, peer = await tls_pair(lambda: BufferedRecorder(50_000))
        await peer.send(peer.records(*[b"%05d" % number for number in range(100)]))
        await until(lambda: len(protocol.data) == 500)
        protocol.buffer.clear()  # not possible while a view exists
        protocol.buffer.extend(bytes(10))
        await peer.send(peer.records(b"more"))
        await until(lambda: len(protocol.data) == 504)
        await close_pair(protocol, peer)
        return protocol.data

    assert run(main()) == b"".join(b"%05d" % number for number in range(100)) + b"more"


@pytest.mark.parametrize(
    "factory", [Recorder, partial(BufferedRecorder, make=lambda size: memoryview(bytearray(size)))]
)
def test_a_paused_protocol_gets_its_data_when_it_is_resumed(run, factory):
    def pause(protocol):
        protocol.transport.pause_reading()
        protocol.on_data = None

    async def main():
        protocol, peer = await tls_pair(lambda: factory(on_data=pause))
        await peer.send(peer.records(b"one"))
        await until(lambda: protocol.data)
        await peer.send(peer.records(b"two", big(50_000)))
        await settle()
        received, reading = protocol.data, protocol.transport.is_reading()
        protocol.transport.resume_reading()
        await until(lambda: len(protocol.data) == 50_006)
        await close_pair(protocol, peer)
        return received, reading, protocol.data

    assert run(main()) == (b"one", False, b"onetwo" + big(50_000))


def test_a_paused_protocol_stops_the_peer(run):
    async def main():
        protocol, peer = await tls_pair()
        protocol.transport.pause_reading()
        records = peer.records(*[big(RECORD)] * 200)
        sending = asyncio.ensure_future(peer.send(records))
        for _ in range(1000):
            await asyncio.sleep(0)
        blocked = not sending.done()
        protocol.transport.resume_reading()
        await sending
        await until(lambda: len(protocol.data) == 200 * RECORD)
        await close_pair(protocol, peer)
        return blocked, protocol.data == big(RECORD) * 200

    assert run(main()) == (True, True)


def test_another_protocol_gets_the_data_after_set_protocol(run):
    async def main():
        protocol, peer = await tls_pair()
        await peer.send(peer.records(b"one"))
        await until(lambda: protocol.data)
        other = BufferedRecorder()
        protocol.transport.set_protocol(other)
        other.connection_made(protocol.transport)
        await peer.send(peer.records(b"two"))
        await until(lambda: other.data)
        third = Recorder()
        third.transport = other.transport
        other.transport.set_protocol(third)
        await peer.send(peer.records(b"three"))
        await until(lambda: third.data)
        await close_pair(third, peer)
        return protocol.data, other.data, third.data, third.transport.get_protocol()

    assert run(main()) == (b"one", b"two", b"three", None)


# Sending


class Reluctant:
    """An SSL object that has to receive before one of its writes, as during a renegotiation."""

    def __init__(self, sslobj, number):
        self._sslobj = sslobj
        self._left = number

    def __getattr__(self, name):
        return getattr(self._sslobj, name)

    def write(self, data):
        self._left -= 1
        if self._left == 0:
            raise ssl.SSLWantReadError
        return self._sslobj.write(data)


@NEW
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("size", [100, 300_000])
def test_data_that_is_not_encrypted_at_once_is_sent_after_the_next_input(run, number, size):
    async def main():
        protocol, peer = await tls_pair()
        tls = protocol.transport._ssl_protocol
        tls._sslobj = Reluctant(tls._sslobj, number)
        for start in (0, size):
            protocol.transport.write(big(2 * size)[start : start + size])
        await peer.send(peer.records(b"input"))
        received = await peer.receive(2 * size)
        await until(lambda: protocol.data)
        await close_pair(protocol, peer)
        return received, protocol.data

    assert run(main()) == (big(2 * size), b"input")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [1, 100, RECORD, RECORD + 1, 300_000, 1_000_001])
def test_data_is_sent_as_it_was_written(run, kind, size):
    async def main():
        protocol, peer = await tls_pair()
        protocol.transport.write(kind(big(size)))
        protocol.transport.write(kind(b"end"))
        received = await peer.receive(size + 3)
        left = protocol.transport.get_write_buffer_size()
        await close_pair(protocol, peer)
        return received, left

    assert run(main()) == (big(size) + b"end", 0)


def test_lines_are_sent_as_they_were_written(run):
    async def main():
        protocol, peer = await tls_pair()
        lines = [b"one", bytearray(b"two"), memoryview(b"three"), big(100_000), b"", big(20_000)]
        protocol.transport.writelines(lines)
        protocol.transport.writelines([])
        received = await peer.receive(120_011)
        await close_pair(protocol, peer)
        return received

    assert run(main()) == b"onetwothree" + big(100_000) + big(20_000)


def test_data_is_in_the_socket_when_write_returns(run):
    async def main():
        protocol, peer = await tls_pair()
        await asyncio.sleep(0)
        protocol.transport.write(b"at once")
        peer.incoming.write(peer.sock.recv(65536))  # does not wait
        received = peer.tls.read()
        await close_pair(protocol, peer)
        return received

    assert run(main()) == b"at once"


@pytest.mark.parametrize("data", ["text", None, [1], 5])
def test_other_types_cannot_be_written(run, data):
    async def main():
        protocol, peer = await tls_pair()
        try:
            protocol.transport.write(data)
        except TypeError as exc:
            return str(exc)
        finally:
            await close_pair(protocol, peer)

    assert run(main()) == f"data: expecting a bytes-like instance, got {type(data).__name__}"


def test_a_bytearray_may_change_while_its_data_waits(run):
    """Data that the connection does not take is kept; a view of it would lock the bytearray."""

    async def main():
        protocol, peer = await tls_pair()
        data = bytearray(big(1_000_000))
        for _ in range(4):
            protocol.transport.write(data)
        data.clear()
        received = await peer.receive(4_000_000)
        await close_pair(protocol, peer)
        return received == big(1_000_000) * 4

    assert run(main())


def test_writing_pauses_and_resumes(run):
    async def main():
        protocol, peer = await tls_pair()
        written = 0
        while "pause" not in protocol.events:
            protocol.transport.write(big(100_000))
            written += 100_000
        events = list(protocol.events)
        received = await peer.receive(written)
        await until(lambda: "resume" in protocol.events)
        await close_pair(protocol, peer)
        return events, protocol.events, received == big(100_000) * (written // 100_000)

    assert run(main()) == (["made", "pause"], ["made", "pause", "resume", "lost"], True)


@NEW
def test_a_limit_of_0_pauses_at_every_write(run):
    async def main():
        protocol, peer = await tls_pair()
        protocol.transport.set_write_buffer_limits(0)
        protocol.transport.write(b"one")
        protocol.transport.write(b"two")
        await peer.send(peer.records(b"ping"))
        await until(lambda: protocol.data)
        limits = protocol.transport.get_write_buffer_limits()
        received = await peer.receive(6)
        await close_pair(protocol, peer)
        return limits, received, protocol.events

    assert run(main()) == ((0, 0), b"onetwo", ["made", "pause", "resume", "pause", "data", "resume", "lost"])


@NEW
def test_a_limit_of_0_stops_reading(run):
    async def main():
        protocol, peer = await tls_pair()
        protocol.transport.set_read_buffer_limits(0)
        await peer.send(peer.records(b"ping"))
        await settle()
        found = protocol.data, protocol.transport.get_read_buffer_limits(), protocol.transport.get_read_buffer_size()
        await close_pair(protocol, peer)
        return found

    assert run(main()) == (b"", (0, 0), 0)


class OwnSocket(socket.socket):
    """A class of sockets with the standard transport."""


@NEW
def test_long_data_pauses_the_writer_on_any_transport(run):
    async def main():
        protocol, peer = await tls_pair(sock_class=OwnSocket)
        for _ in range(2):
            protocol.transport.write(big(2_000_000))
        events = list(protocol.events)
        received = await peer.receive(4_000_000)
        await until(lambda: protocol.events[-1] != "pause")
        await close_pair(protocol, peer)
        return events, protocol.events, received == big(2_000_000) * 2

    assert run(main()) == (["made", "pause"], ["made", "pause", "resume", "lost"], True)


@NEW
@pytest.mark.parametrize("sock_class", [None, OwnSocket], ids=["own", "standard"])
def test_long_data_after_the_end_of_the_transport_below_is_no_error(loop, run, sock_class):
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))

    async def main():
        protocol, peer = await tls_pair(sock_class=sock_class)
        protocol.transport._ssl_protocol._transport.close()
        protocol.transport.write(big(1_000_000))
        error = await protocol.lost
        peer.sock.close()
        return error

    assert run(main()) is None
    assert reports == []
