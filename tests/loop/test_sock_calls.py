"""sock_recv(), sock_recv_into() and related calls, on both loops. fastmux keeps a socket registered between calls."""

from __future__ import annotations

import asyncio
import gc
import os
import socket

import pytest

TIMEOUT = 20


def socket_pair():
    pair = socket.socketpair()
    for sock in pair:
        sock.setblocking(False)
    return pair


@pytest.fixture
def pair():
    ours, theirs = socket_pair()
    with ours, theirs:
        yield ours, theirs


async def receive(loop, sock, size, way):
    if way == "recv":
        return await loop.sock_recv(sock, size)
    buffer = bytearray(size)
    return bytes(buffer[: await loop.sock_recv_into(sock, buffer)])


ways = pytest.mark.parametrize("way", ["recv", "recv_into"])


@ways
def test_messages_arrive_one_by_one(loop, run, pair, way):
    async def main():
        ours, theirs = pair
        received = []
        for number in range(50):
            reading = loop.create_task(receive(loop, ours, 100, way))
            await asyncio.sleep(0)
            await loop.sock_sendall(theirs, b"%d" % number)
            received.append(await reading)
        return received

    assert run(main()) == [b"%d" % number for number in range(50)]


@ways
def test_no_more_is_read_than_was_asked_for(loop, run, pair, way):
    async def main():
        ours, theirs = pair
        reading = loop.create_task(receive(loop, ours, 3, way))
        await asyncio.sleep(0)
        theirs.send(b"abcdef")
        return await reading, ours.recv(100)

    assert run(main()) == (b"abc", b"def")


@ways
def test_data_that_arrives_between_calls_is_read_by_the_next_call(loop, run, pair, way):
    async def main():
        ours, theirs = pair
        received = []
        for _ in range(3):
            reading = loop.create_task(receive(loop, ours, 100, way))
            await asyncio.sleep(0)
            theirs.send(b"1")
            received.append(await reading)
            theirs.send(b"2")
            await asyncio.sleep(0.001)  # no call is pending
            theirs.send(b"3")
            received.append(await receive(loop, ours, 100, way))
        return received

    assert run(main()) == [b"1", b"23"] * 3


@ways
def test_the_end_of_a_stream_is_an_empty_result_every_time(loop, run, pair, way):
    async def main():
        ours, theirs = pair
        reading = loop.create_task(receive(loop, ours, 100, way))
        await asyncio.sleep(0)
        theirs.send(b"last")
        theirs.shutdown(socket.SHUT_WR)
        return [await reading] + [await receive(loop, ours, 100, way) for _ in range(3)]

    assert run(main()) == [b"last", b"", b"", b""]


@ways
def test_a_call_that_is_cancelled_takes_nothing(loop, run, pair, way):
    async def main():
        ours, theirs = pair
        for _ in range(3):
            reading = loop.create_task(receive(loop, ours, 100, way))
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        theirs.send(b"data")
        await asyncio.sleep(0.001)
        return await receive(loop, ours, 100, way)

    assert run(main()) == b"data"


def test_a_closed_socket_is_an_error(loop, run):
    async def main():
        ours, theirs = socket_pair()
        theirs.send(b"x")
        await loop.sock_recv(ours, 100)
        ours.close()
        theirs.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            await loop.sock_recv(ours, 100)

    run(main())


@ways
def test_a_reused_descriptor_is_watched_anew(loop, run, way):
    async def main():
        numbers = []
        for _ in range(3):
            ours, theirs = socket_pair()
            numbers.append(ours.fileno())
            reading = loop.create_task(receive(loop, ours, 100, way))
            await asyncio.sleep(0)
            theirs.send(b"data")
            assert await reading == b"data"
            ours.close()  # without remove_reader()
            theirs.close()
        return set(numbers)

    assert len(run(main())) == 1


def test_a_reused_descriptor_can_be_written_to(loop, run):
    async def main():
        ours, theirs = socket_pair()
        number = ours.fileno()
        reading = loop.create_task(loop.sock_recv(ours, 100))
        await asyncio.sleep(0)
        theirs.send(b"x")
        await reading
        ours.close()
        theirs.close()
        ours, theirs = socket_pair()
        assert ours.fileno() == number
        sending = loop.create_task(loop.sock_sendall(ours, bytes(3_000_000)))
        received = 0
        while received < 3_000_000:
            received += len(await loop.sock_recv(theirs, 1 << 20))
        await sending
        ours.close()
        theirs.close()

    run(main())


def test_a_socket_that_was_received_from_can_become_a_transport(loop, run):
    async def main():
        ours, theirs = socket_pair()
        reading = loop.create_task(loop.sock_recv(ours, 100))
        await asyncio.sleep(0)
        theirs.send(b"head")
        head = await reading
        reader, writer = await asyncio.open_connection(sock=ours)
        theirs.send(b"body")
        theirs.close()
        body = await reader.read()
        writer.close()
        await writer.wait_closed()
        return head, body

    assert run(main()) == (b"head", b"body")


def test_a_reader_can_be_added_to_a_socket_that_was_received_from(loop, run, pair):
    async def main():
        ours, theirs = pair
        reading = loop.create_task(loop.sock_recv(ours, 100))
        await asyncio.sleep(0)
        theirs.send(b"one")
        await reading
        assert not loop.remove_reader(ours)
        readable = asyncio.Event()
        loop.add_reader(ours, readable.set)
        theirs.send(b"two")
        await readable.wait()
        assert loop.remove_reader(ours)
        return ours.recv(100)

    assert run(main()) == b"two"


def test_receiving_and_sending_at_once_do_not_disturb_each_other(loop, run, pair):
    sent = os.urandom(2_000_000)

    async def echo(sock):
        while data := await loop.sock_recv(sock, 65536):
            await loop.sock_sendall(sock, data)

    async def main():
        ours, theirs = pair
        echoing = loop.create_task(echo(theirs))
        sending = loop.create_task(loop.sock_sendall(ours, sent))
        received = bytearray()
        while len(received) < len(sent):
            received += await loop.sock_recv(ours, 65536)
        await sending
        ours.shutdown(socket.SHUT_WR)
        await echoing
        return bytes(received)

    assert run(main()) == sent


def test_the_loop_keeps_no_socket_alive(loop, run):
    import weakref

    async def main():
        ours, theirs = socket_pair()
        reading = loop.create_task(loop.sock_recv(ours, 100))
        await asyncio.sleep(0)
        theirs.send(b"x")
        await reading
        alive = weakref.ref(ours)
        ours.close()
        theirs.close()
        del ours, reading
        gc.collect()
        return alive()

    assert run(main()) is None


def test_connections_are_accepted_and_made(loop, run):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            accepting = loop.create_task(loop.sock_accept(listening))
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, listening.getsockname())
                server, _ = await accepting
                with server:
                    await loop.sock_sendall(client, b"hello")
                    return await loop.sock_recv(server, 100)

    assert run(main()) == b"hello"
