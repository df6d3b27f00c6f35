"""sock_recv(), sock_recv_into() and related calls, on both loops."""

from __future__ import annotations

import array
import asyncio
import contextlib
import gc
import inspect
import os
import socket
import ssl

import pytest

import fastmux

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


def udp_pair():
    pair = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in pair:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
    return pair


in_new_versions = pytest.mark.skipif(not hasattr(asyncio.SelectorEventLoop, "sock_sendto"), reason="new in Python 3.11")


@in_new_versions
def test_datagrams_are_received_with_their_sender(loop, run):
    async def main():
        first, second = udp_pair()
        with first, second:
            receiving = loop.create_task(loop.sock_recvfrom(first, 3))
            await asyncio.sleep(0)
            sent = second.sendto(b"abcdef", first.getsockname())
            received = [await receiving]
            second.sendto(b"", first.getsockname())
            received.append(await loop.sock_recvfrom(first, 100))
            return sent, received, second.getsockname()

    sent, received, sender = run(main())
    assert sent == 6
    assert received == [(b"abc", sender), (b"", sender)]


@in_new_versions
def test_datagrams_are_sent_when_the_socket_takes_them(loop, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the kernel takes at most 107 bytes

    async def main():
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with receiver, sender:
            receiver.bind("receiver")
            receiver.setblocking(False)
            sender.setblocking(False)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

            async def send():
                return [await loop.sock_sendto(sender, b"%3d" % number * 300, "receiver") for number in range(50)]

            sending = loop.create_task(send())
            received = [await loop.sock_recv(receiver, 2000) for _ in range(50)]
            return await sending, received

    sent, received = run(main())
    assert sent == [900] * 50
    assert received == [b"%3d" % number * 300 for number in range(50)]


@ways
@pytest.mark.parametrize("queued", [False, True])
def test_data_that_comes_before_a_cancellation_is_for_the_next_call(loop, run, pair, way, queued):
    """Either the call returns it in spite of the cancellation, or it stays in the kernel."""

    async def main():
        ours, theirs = pair
        if queued:
            theirs.send(b"x")
        reading = loop.create_task(receive(loop, ours, 100, way))
        await asyncio.sleep(0)
        if not queued:
            theirs.send(b"x")
            loop.call_soon(reading.cancel)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            return await reading
        return await receive(loop, ours, 100, way)

    assert run(main()) == b"x"


@pytest.mark.skipif(fastmux.implementation != "c", reason="the standard loop loses it")
@ways
def test_a_cancellation_that_comes_with_the_data_does_not_lose_it(way):
    """The task is cancelled in the turn in which its socket becomes readable."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair()
        other, signal = socket_pair()
        with ours, theirs, other, signal:
            reading = loop.create_task(receive(loop, ours, 100, way))
            await asyncio.sleep(0)
            loop.add_reader(other, reading.cancel)
            theirs.send(b"x")
            signal.send(b"x")
            with contextlib.suppress(asyncio.CancelledError):
                return await reading
            loop.remove_reader(other)
            return await receive(loop, ours, 100, way)

    assert fastmux.run(asyncio.wait_for(main(), TIMEOUT)) == b"x"


@ways
def test_no_descriptor_is_watched_after_the_call(loop, run, pair, way):
    async def main():
        ours, theirs = pair
        watched = [list(loop._selector.get_map())]
        for cancelled in (False, True):
            reading = loop.create_task(receive(loop, ours, 100, way))
            await asyncio.sleep(0)
            if cancelled:
                reading.cancel()
            else:
                theirs.send(b"x")
            await asyncio.wait([reading])
            await asyncio.sleep(0)
            watched.append(list(loop._selector.get_map()))
        return watched

    before, received, cancelled = run(main())
    assert received == before
    assert cancelled == before


def test_a_dropped_call_leaves_no_descriptor_watched(loop, pair):
    if not getattr(loop, "_uses_core", False):
        pytest.skip("the standard loop keeps it")
    ours, _ = pair
    before = list(loop._selector.get_map())
    reading = loop.sock_recv(ours, 100)
    reading.send(None)
    assert len(loop._selector.get_map()) == len(before) + 1
    reading.close()
    assert list(loop._selector.get_map()) == before
    reading = loop.sock_recv(ours, 100)
    reading.send(None)
    del reading
    gc.collect()
    assert list(loop._selector.get_map()) == before


def test_the_last_of_two_receivers_gets_the_data(loop, run, pair):
    async def main():
        ours, theirs = pair
        first = loop.create_task(loop.sock_recv(ours, 100))
        second = loop.create_task(loop.sock_recv(ours, 100))
        await asyncio.sleep(0)
        theirs.send(b"x")
        received = await second
        assert not first.done()
        first.cancel()
        await asyncio.wait([first])
        return received

    assert run(main()) == b"x"


@pytest.mark.parametrize(
    "data",
    [
        b"abcdefgh",
        bytearray(b"abcdefgh"),
        memoryview(b"abcdefgh"),
        memoryview(array.array("i", range(2))),
        b"",
    ],
    ids=lambda data: f"{type(data).__name__} {bytes(data)!r}",
)
def test_all_buffers_are_sent(loop, run, pair, data):
    if isinstance(data, memoryview) and data.itemsize > 1 and not getattr(loop, "_uses_core", False):
        pytest.skip("the standard loop compares bytes with items")

    async def main():
        ours, theirs = pair
        result = await loop.sock_sendall(ours, data)
        ours.shutdown(socket.SHUT_WR)
        return result, await loop.sock_recv(theirs, 100)

    assert run(main()) == (None, bytes(data))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_all_of_a_large_buffer_is_sent(loop, run, pair, kind):
    data = os.urandom(1_000_000)

    async def main():
        ours, theirs = pair
        sending = loop.create_task(loop.sock_sendall(ours, kind(data)))
        received = bytearray()
        while len(received) < len(data):
            received += await loop.sock_recv(theirs, 300_000)
        await sending
        return received

    assert run(main()) == data


CALLS = {
    "sock_recv": (10,),
    "sock_recv_into": (bytearray(10),),
    "sock_recvfrom": (10,),
    "sock_sendall": (b"x",),
    "sock_sendto": (b"x", ("127.0.0.1", 9)),
    "sock_accept": (),
    "sock_connect": (("127.0.0.1", 9),),
}
calls = pytest.mark.parametrize("name", [name for name in CALLS if hasattr(asyncio.SelectorEventLoop, name)])


@calls
def test_a_socket_of_tls_is_refused(loop, run, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with (
        context.wrap_socket(socket.socket(), server_hostname="localhost") as sock,
        pytest.raises(TypeError, match="SSLSocket"),
    ):
        run(getattr(loop, name)(sock, *CALLS[name]))


@calls
def test_a_blocking_socket_is_refused_in_debug_mode(loop, run, name):
    loop.set_debug(True)
    with socket.socket() as sock, pytest.raises(ValueError, match="the socket must be non-blocking"):
        run(getattr(loop, name)(sock, *CALLS[name]))


@calls
def test_errors_are_those_of_the_standard_loop(name):
    def outcome(make):
        loop = make()
        with socket.socket() as sock:
            sock.setblocking(False)
        try:
            loop.run_until_complete(getattr(loop, name)(sock, *CALLS[name]))
        except Exception as exc:
            return type(exc), exc.args
        finally:
            loop.close()

    assert outcome(asyncio.SelectorEventLoop) == outcome(fastmux.EventLoop)


@pytest.mark.parametrize("argument", [-1, 0, 1.5, "1", None, 1 << 70])
def test_wrong_sizes_have_the_effect_of_the_standard_loop(argument):
    def outcome(make):
        loop = make()
        ours, theirs = socket_pair()
        theirs.send(b"x")
        try:
            with ours, theirs:
                return loop.run_until_complete(loop.sock_recv(ours, argument))
        except Exception as exc:
            return type(exc), exc.args
        finally:
            loop.close()

    assert outcome(asyncio.SelectorEventLoop) == outcome(fastmux.EventLoop)


@ways
def test_a_socket_of_a_transport_is_refused(loop, run, pair, way):
    async def main():
        ours, _ = pair
        _, writer = await asyncio.open_connection(sock=ours)
        try:
            with pytest.raises(RuntimeError, match="is used by transport"):
                await receive(loop, ours, 10, way)
        finally:
            writer.close()
            await writer.wait_closed()

    run(main())


@ways
def test_a_socket_with_a_timeout_waits_by_itself(loop, run, pair, way):
    async def main():
        ours, _ = pair
        ours.settimeout(0.001)
        await receive(loop, ours, 10, way)

    with pytest.raises(TimeoutError if socket.timeout is TimeoutError else socket.timeout):
        loop.run_until_complete(main())


@pytest.mark.parametrize("way", ["recv", "send"])
def test_patched_methods_are_called(loop, run, pair, monkeypatch, way):
    called = []
    original = getattr(socket.socket, way)

    def method(self, *args):
        called.append(way)
        return original(self, *args)

    monkeypatch.setattr(socket.socket, way, method)

    async def main():
        ours, theirs = pair
        reading = loop.create_task(loop.sock_recv(ours, 10))
        await asyncio.sleep(0)
        await loop.sock_sendall(theirs, b"x")
        return await reading

    assert run(main()) == b"x"
    assert called[-1] == way


def test_the_methods_of_a_subclass_of_socket_are_called(loop, run):
    class Socket(socket.socket):
        def recv(self, *args):
            return super().recv(*args) + b" by recv"

    async def main():
        ours, theirs = socket_pair()
        with theirs, Socket(fileno=ours.detach()) as ours:
            ours.setblocking(False)
            reading = loop.create_task(loop.sock_recv(ours, 10))
            await asyncio.sleep(0)
            await loop.sock_sendall(theirs, b"x")
            return await reading

    assert run(main()) == b"x by recv"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=lambda family: family.name)
def test_an_accepted_socket_is_not_blocking(loop, run, tmp_path, monkeypatch, family):
    monkeypatch.chdir(tmp_path)

    async def main():
        with socket.socket(family) as listening, socket.socket(family) as client:
            listening.bind(("127.0.0.1", 0) if family == socket.AF_INET else "listening")
            listening.listen()
            listening.setblocking(False)
            client.setblocking(False)
            accepting = loop.create_task(loop.sock_accept(listening))
            await asyncio.sleep(0)
            await loop.sock_connect(client, listening.getsockname())
            conn, address = await accepting
            with conn:
                return type(conn), conn.gettimeout(), conn.family, address == client.getsockname()

    assert run(main()) == (socket.socket, 0, family, True)


def test_calls_are_coroutines(loop, pair):
    ours, _ = pair
    reading = loop.sock_recv(ours, 10)
    assert inspect.iscoroutine(reading)
    reading.close()
