"""gather_writes: what a turn writes leaves at its end."""

from __future__ import annotations

import array
import asyncio
import socket

import pytest

import fastmux

from .connections import close, connect

pytestmark = pytest.mark.skipif(fastmux.implementation != "c", reason="only the extension gathers writes")
TIMEOUT = 20


@pytest.fixture
def loop():
    with_gathering = fastmux.new_event_loop(gather_writes=True)
    yield with_gathering
    with_gathering.close()


def connected(loop, protocol):
    """A transport, and the non-blocking socket of its peer."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=ours))
    return transport, theirs


def turn(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


def received(sock):
    try:
        return sock.recv(1 << 20)
    except BlockingIOError:
        return None


class Recorder(asyncio.Protocol):
    def __init__(self):
        self.calls = []

    def pause_writing(self):
        self.calls.append("pause")

    def resume_writing(self):
        self.calls.append("resume")

    def connection_lost(self, exc):
        self.calls.append(exc)


def test_all_writes_of_a_turn_leave_after_its_callbacks(loop):
    transport, theirs = connected(loop, Recorder())
    seen = []

    def write():
        transport.write(b"one ")
        transport.write(bytearray(b"two "))
        transport.writelines([b"three ", array.array("B", b"four "), memoryview(b"five")])
        seen.append((received(theirs), transport.get_write_buffer_size()))

    with theirs:
        loop.call_soon(write)
        turn(loop)

        assert seen == [(None, 23)]
        assert received(theirs) == b"one two three four five"
        assert transport.get_write_buffer_size() == 0
        transport.abort()
        turn(loop)


def test_the_caller_may_change_its_buffer_after_a_write(loop):
    transport, theirs = connected(loop, Recorder())
    data = bytearray(b"before")

    def write():
        transport.write(data)
        data[:] = b"after!"

    with theirs:
        loop.call_soon(write)
        turn(loop)

        assert received(theirs) == b"before"
        transport.abort()
        turn(loop)


def test_a_callback_that_writes_without_end_does_not_fill_the_memory(loop):
    transport, theirs = connected(loop, Recorder())
    sizes = []

    def write():
        for _ in range(10):
            for _ in range(100):
                transport.write(b"x" * 1000)
            sizes.append(transport.get_write_buffer_size())
            received(theirs)

    with theirs:
        loop.call_soon(write)
        turn(loop)
        transport.abort()
        turn(loop)

    assert min(sizes) < 100_000


@pytest.mark.parametrize("end", ["close", "write_eof"])
def test_the_end_comes_after_what_was_written(loop, end):
    protocol = Recorder()
    transport, theirs = connected(loop, protocol)

    def write():
        transport.write(b"last")
        getattr(transport, end)()

    with theirs:
        loop.call_soon(write)
        turn(loop)
        turn(loop)

        assert (received(theirs), received(theirs)) == (b"last", b"")
        if end == "write_eof":
            transport.close()
            turn(loop)

    assert protocol.calls == [None]


def test_abort_sends_nothing(loop):
    transport, theirs = connected(loop, Recorder())

    def write():
        transport.write(b"never")
        transport.abort()

    with theirs:
        loop.call_soon(write)
        turn(loop)
        turn(loop)

        assert received(theirs) == b""


def test_a_peer_that_is_gone_is_an_error_of_the_connection(loop):
    protocol = Recorder()
    transport, theirs = connected(loop, protocol)

    def write():
        theirs.close()
        transport.write(b"nobody reads this")

    loop.call_soon(write)
    turn(loop)
    turn(loop)

    assert [type(call) for call in protocol.calls] == [BrokenPipeError]


def test_what_the_socket_does_not_take_pauses_the_writer_and_arrives_later(loop):
    protocol = Recorder()
    transport, theirs = connected(loop, protocol)
    sent = b"".join(b"%08d" % number for number in range(200_000))
    pieces = []

    def write():
        for start in range(0, len(sent), 50_000):
            transport.write(sent[start : start + 50_000])

    async def read():
        while sum(map(len, pieces)) < len(sent):
            pieces.append(await loop.sock_recv(theirs, 1 << 16))

    with theirs:
        loop.call_soon(write)
        loop.run_until_complete(asyncio.wait_for(read(), TIMEOUT))
        turn(loop)

        assert b"".join(pieces) == sent
        assert protocol.calls == ["pause", "resume"]
        transport.abort()
        turn(loop)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exit_that_ends_the_turn_sends_what_was_written(loop, error):
    transport, theirs = connected(loop, Recorder())

    def write():
        transport.write(b"written")
        raise error

    with theirs:
        loop.call_soon(write)
        with pytest.raises(error):
            loop.run_forever()

        assert received(theirs) == b"written"
        transport.abort()
        turn(loop)


@pytest.mark.parametrize(("value", "gathers"), [("1", True), ("0", False), ("", False)])
def test_an_environment_variable_turns_it_on_for_servers(monkeypatch, value, gathers):
    monkeypatch.setenv("FASTMUX_GATHER_WRITES", value)
    loop = fastmux.new_event_loop()
    transport, theirs = connected(loop, Recorder())
    seen = []

    def write():
        transport.write(b"data")
        seen.append(received(theirs))

    with theirs:
        loop.call_soon(write)
        turn(loop)
        transport.abort()
        turn(loop)
    loop.close()

    assert seen == [None if gathers else b"data"]


def test_lines_with_a_wrong_one_are_not_sent():
    async def main():
        protocol, theirs = await connect()
        with pytest.raises(TypeError):
            protocol.transport.writelines([b"x", b"y", 1])
        protocol.transport.write(b"more")
        received = await asyncio.get_running_loop().sock_recv(theirs, 100)
        await close([protocol], [theirs])
        return received

    loop = fastmux.new_event_loop(gather_writes=True)
    assert loop.run_until_complete(main()) == b"more"
    loop.close()
