"""Socket transports: writes, write buffers, sendfile and streams, on both loops."""

from __future__ import annotations

import asyncio
import os
import selectors
import tempfile

import pytest

from .connections import close, connect, until


def has_own_transport(loop):
    """Whether the loop is fastmux's, with the extension."""
    return getattr(loop, "_uses_core", False)


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, memoryview, lambda data: memoryview(data).cast("I")], ids=lambda kind: kind.__name__
)
@pytest.mark.parametrize("size", [4, 4_000_000])
def test_what_is_written_arrives(loop, run, kind, size):
    if kind.__name__ == "<lambda>" and not has_own_transport(loop):
        pytest.skip("the standard transport counts items of a memoryview, not bytes")
    sent = os.urandom(size)

    async def main():
        protocol, theirs = await connect()
        protocol.transport.write(kind(sent))
        received = bytearray()
        while len(received) < size:
            received += await asyncio.get_running_loop().sock_recv(theirs, 1 << 20)
        await close([protocol], [theirs])
        return bytes(received)

    assert run(main()) == sent


def test_what_is_written_may_be_changed_afterwards(loop, run):
    """On the standard loop until Python 3.11 only."""
    if not has_own_transport(loop):
        pytest.skip("the standard transport keeps a view of the caller's memory in some versions")

    async def main():
        protocol, theirs = await connect()
        data = bytearray(b"x" * 3_000_000)
        protocol.transport.write(data)
        protocol.transport.writelines([data, memoryview(data)])
        data[:] = b"y" * len(data)
        received = bytearray()
        while len(received) < 9_000_000:
            received += await loop.sock_recv(theirs, 1 << 20)
        await close([protocol], [theirs])
        return set(received)

    assert run(main()) == {ord("x")}


def test_lines_are_written_in_order_however_many_they_are(run):
    lines = [b"%d\n" % number for number in range(5000)]

    async def main():
        protocol, theirs = await connect()
        protocol.transport.writelines(lines)
        protocol.transport.writelines([bytes(3_000_000)])
        protocol.transport.writelines(lines)
        protocol.transport.write(b"end")
        protocol.transport.close()
        received = bytearray()
        while data := await asyncio.get_running_loop().sock_recv(theirs, 1 << 20):
            received += data
        await protocol.lost
        theirs.close()
        return bytes(received)

    assert run(main()) == b"".join(lines) + bytes(3_000_000) + b"".join(lines) + b"end"


def test_a_slow_reader_pauses_the_writer(run):
    async def main():
        protocol, theirs = await connect()
        while "pause" not in protocol.events:
            protocol.transport.write(bytes(65536))
        waiting = protocol.transport.get_write_buffer_size()
        high = protocol.transport.get_write_buffer_limits()[1]
        while "resume" not in protocol.events:
            try:
                theirs.recv(1 << 20)
            except BlockingIOError:
                await asyncio.sleep(0)
        await close([protocol], [theirs])
        return waiting > high, protocol.events

    assert run(main()) == (True, ["made", "pause", "resume", "lost"])


def test_close_sends_what_is_waiting_and_abort_does_not(run, loop):
    async def main(end):
        protocol, theirs = await connect()
        protocol.transport.write(bytes(5_000_000))
        getattr(protocol.transport, end)()
        received = 0
        while data := await loop.sock_recv(theirs, 1 << 20):
            received += len(data)
        await protocol.lost
        theirs.close()
        return received

    assert run(main("close")) == 5_000_000
    assert run(main("abort")) < 5_000_000


def test_half_close_comes_after_what_is_waiting(run, loop):
    async def main():
        protocol, theirs = await connect()
        protocol.transport.write(bytes(5_000_000))
        protocol.transport.write_eof()
        with pytest.raises(RuntimeError):
            protocol.transport.write(b"more")
        received = 0
        while data := await loop.sock_recv(theirs, 1 << 20):
            received += len(data)
        theirs.send(b"answer")
        await until(lambda: protocol.data)
        await close([protocol], [theirs])
        return received, protocol.data

    assert run(main()) == (5_000_000, b"answer")


def test_writing_to_a_lost_connection_warns_after_a_while(run, caplog):
    async def main():
        protocol, theirs = await connect()
        theirs.close()
        protocol.transport.abort()
        for _ in range(7):
            protocol.transport.write(b"x")
        await protocol.lost

    run(main())

    assert "socket.send() raised exception." in caplog.text


@pytest.mark.parametrize("wrong", ["text", 1, None, [1]])
def test_only_bytes_can_be_written(run, wrong):
    async def main():
        protocol, theirs = await connect()
        with pytest.raises(TypeError):
            protocol.transport.write(wrong)
        await close([protocol], [theirs])

    run(main())


@pytest.mark.parametrize("lines", [[b""], [b"line", b""], [b"", b"line"]], ids=["empty", "last", "first"])
def test_empty_lines_leave_nothing_to_send(run, loop, lines):
    if not has_own_transport(loop):
        pytest.skip("the standard transport keeps an empty last line since Python 3.12, and its loop stays busy")

    async def main():
        protocol, theirs = await connect()
        transport = protocol.transport
        transport.writelines(lines)
        left = list(transport._buffer), loop._selector.get_key(transport._sock_fd).events
        transport.close()
        await protocol.lost
        theirs.close()
        return left

    assert run(main()) == ([], selectors.EVENT_READ)


@pytest.mark.parametrize("state", ["open", "full"])
def test_writelines_refuses_what_the_standard_transport_refuses(run, state):
    """Since Python 3.12 it takes None and 0."""
    cases = [None, 0, 1, [], (), "", b"", "text", b"bytes", [1], [None], [b"line", "text"]]

    async def outcome(lines):
        protocol, theirs = await connect()
        transport = protocol.transport
        if state == "full":
            transport.write(bytes(4_000_000))
        before = transport.get_write_buffer_size()
        try:
            result = transport.writelines(lines)
        except Exception as error:
            result = type(error)
        written = transport.get_write_buffer_size() - before
        transport.abort()
        await protocol.lost
        theirs.close()
        return result, written

    async def main():
        return [await outcome(lines) for lines in cases]

    standard = asyncio.SelectorEventLoop()
    expected = standard.run_until_complete(main())
    standard.close()
    assert run(main()) == expected


def test_sendfile_sends_a_file_between_two_writes(run, loop):
    async def main():
        protocol, theirs = await connect()
        with tempfile.TemporaryFile() as file:
            file.write(bytes(range(256)) * 10000)
            file.flush()
            protocol.transport.write(b"before")
            sending = loop.create_task(loop.sendfile(protocol.transport, file))
            theirs.send(b"meanwhile")
            received = bytearray()
            while len(received) < 6 + 2_560_000:
                received += await loop.sock_recv(theirs, 1 << 20)
            await sending
        protocol.transport.write(b"after")
        received += await loop.sock_recv(theirs, 100)
        await until(lambda: protocol.data)
        await close([protocol], [theirs])
        return bytes(received), protocol.data

    received, data = run(main())

    assert received == b"before" + bytes(range(256)) * 10000 + b"after"
    assert data == b"meanwhile"


# Streams


def test_streams_carry_everything(run):
    lines = [os.urandom(size).hex().encode() + b"\n" for size in range(0, 2000, 7)]

    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.writelines(lines)
        writer.write_eof()
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return received

    assert run(main()) == b"".join(lines)


def test_a_released_view_is_refused_and_the_connection_lives(run):
    async def main():
        protocol, theirs = await connect()
        view = memoryview(b"data")
        view.release()
        with pytest.raises(ValueError, match="released"):
            protocol.transport.write(view)
        protocol.transport.write(b"more")
        received = await asyncio.get_running_loop().sock_recv(theirs, 100)
        await close([protocol], [theirs])
        return received

    assert run(main()) == b"more"


def test_a_view_with_gaps_is_dropped_like_all_data_after_the_end(loop, run):
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))

    async def main():
        protocol, theirs = await connect()
        protocol.transport.abort()
        protocol.transport.write(memoryview(b"abcdef")[::2])
        await protocol.lost
        theirs.close()

    run(main())

    assert reports == []


def test_many_lines_with_a_wrong_one_are_not_sent(run):
    async def main():
        protocol, theirs = await connect()
        with pytest.raises(TypeError):
            protocol.transport.writelines([b"x"] * 1000 + [1] + [b"x"] * 1000)
        protocol.transport.write(b"more")
        received = await asyncio.get_running_loop().sock_recv(theirs, 10_000)
        await close([protocol], [theirs])
        return received

    assert run(main()) == b"more"
