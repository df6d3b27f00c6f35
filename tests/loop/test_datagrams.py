"""Datagram transports: on both loops, and the standard one is the oracle."""

from __future__ import annotations

import array
import asyncio
import contextlib
import gc
import socket
import sys
import threading

import pytest

import fastmux

from .connections import settle, until

TIMEOUT = 20
#: The most datagrams that a loop delivers before others have their turn.
MOST = 64


class Recorder(asyncio.DatagramProtocol):
    """Records its callbacks, and calls on_data for each datagram."""

    def __init__(self, on_data=None):
        self.on_data = on_data
        self.events = []
        self.errors = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        assert type(data) is bytes
        self.events.append((data, addr))
        if self.on_data is not None:
            self.on_data(self)

    def error_received(self, exc):
        self.errors.append(exc)

    def connection_lost(self, exc):
        self.lost.set_result(exc)

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")

    def data(self):
        return [event[0] for event in self.events]


@contextlib.asynccontextmanager
async def endpoint(on_data=None, **options):
    """A datagram transport; yields its protocol."""
    options = options or {"local_addr": ("127.0.0.1", 0)}
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: Recorder(on_data), **options)
    try:
        yield protocol
    finally:
        if not protocol.lost.done():
            transport.abort()
        await protocol.lost


@contextlib.contextmanager
def udp(family=socket.AF_INET, **options):
    """A plain UDP socket, bound to the loopback address."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        sock.settimeout(TIMEOUT)
        yield sock


@contextlib.asynccontextmanager
async def unix_pair(on_data=None):
    """The protocol of one end of a pair of AF_UNIX datagram sockets, and the other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.setblocking(False)
    if sys.platform == "linux":
        theirs.bind("")  # the kernel chooses an abstract name; without a peer name, a transport sends nothing
    with theirs:
        async with endpoint(on_data, sock=ours) as protocol:
            yield protocol, theirs


def has_ipv6():
    try:
        with udp(socket.AF_INET6):
            return True
    except OSError:
        return False


needs_names = pytest.mark.skipif(sys.platform != "linux", reason="abstract names")
families = pytest.mark.parametrize(
    "family",
    [
        socket.AF_INET,
        pytest.param(socket.AF_INET6, marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6")),
    ],
    ids=lambda family: family.name,
)


def on_both_loops(main):
    """Return the results of main() on the standard loop and on fastmux's; exceptions in callbacks are collected."""
    results = []
    for make in (asyncio.SelectorEventLoop, fastmux.EventLoop):
        loop = make()
        messages = []
        loop.set_exception_handler(lambda loop, context, messages=messages: messages.append(describe(context)))
        try:
            result = loop.run_until_complete(asyncio.wait_for(main(), TIMEOUT))
        finally:
            loop.close()
        results.append((result, messages))
    return results


def describe(context):
    return context["message"].partition(" at ")[0].partition("(")[0], repr(context.get("exception"))


# Addresses


@families
def test_senders_are_what_recvfrom_returns(run, family):
    async def main():
        with udp(family) as plain, udp(family) as other:
            host, port = other.getsockname()[:2]
            async with endpoint(local_addr=(host, 0)) as protocol:
                address = protocol.transport.get_extra_info("sockname")
                for sender in (plain, other, plain, plain):
                    sender.sendto(b"x", address)
                plain.sendto(b"x", (host, port))
                await until(lambda: len(protocol.events) == 4)
                assert other.recvfrom(1)[1] == plain.getsockname()
                return [event[1] for event in protocol.events], [plain.getsockname(), other.getsockname()]

    received, (plain, other) = run(main())
    assert received == [plain, other, plain, plain]
    assert type(received[0]) is tuple


@families
def test_an_answer_goes_to_its_sender(run, family):
    async def main():
        with udp(family) as first, udp(family) as second:
            host = first.getsockname()[0]

            def answer(protocol):
                protocol.transport.sendto(*protocol.events[-1])

            async with endpoint(answer, local_addr=(host, 0)) as protocol:
                address = protocol.transport.get_extra_info("sockname")
                for number in range(50):
                    first.sendto(b"first %d" % number, address)
                    second.sendto(b"second %d" % number, address)
                    await until(lambda number=number: len(protocol.events) == 2 * number + 2)
            return [[sock.recv(100) for _ in range(50)] for sock in (first, second)]

    first, second = run(main())
    assert first == [b"first %d" % number for number in range(50)]
    assert second == [b"second %d" % number for number in range(50)]


def test_the_sender_of_a_socket_pair_is_none(run):
    async def main():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs:
            async with endpoint(sock=ours) as protocol:
                theirs.send(b"x")
                await until(lambda: protocol.events)
                return protocol.events

    assert run(main()) == [(b"x", None)]


@needs_names
@pytest.mark.parametrize("path", ["sender", "\0fastmux %d"])
def test_names_of_unix_sockets_are_what_recvfrom_returns(run, tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)  # the kernel takes at most 107 bytes

    async def main():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.bind(path % id(sender) if "%" in path else path)
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.bind("receiver")
            async with endpoint(
                lambda protocol: protocol.transport.sendto(*protocol.events[-1]), sock=sock
            ) as protocol:
                sender.sendto(b"x", "receiver")
                await until(lambda: protocol.events)
                sender.settimeout(TIMEOUT)
                return protocol.events, sender.getsockname(), sender.recvfrom(10)

    events, name, answer = run(main())
    (tmp_path / "receiver").unlink()
    (tmp_path / "sender").unlink(missing_ok=True)
    assert events == [(b"x", name)]
    assert answer == (b"x", "receiver")


class Port(int):
    pass


ADDRESSES = {
    "numeric": lambda host, port: (host, port),
    "a name": lambda host, port: ("localhost", port),
    "any": lambda host, port: ("", port),
    "a subclass of int": lambda host, port: (host, Port(port)),
    "a float": lambda host, port: (host, float(port)),
    "text as the port": lambda host, port: (host, str(port)),
    "negative": lambda host, port: (host, -1),
    "65536 and more": lambda host, port: (host, 65536 + port),
    "huge": lambda host, port: (host, 1 << 70),
    "three items": lambda host, port: (host, port, 0),
    "one item": lambda host, port: (host,),
    "empty": lambda host, port: (),
    "a list": lambda host, port: [host, port],
    "bytes as the host": lambda host, port: (host.encode(), port),
    "a null byte": lambda host, port: (host + "\0", port),
    "a surrogate": lambda host, port: ("\ud800", port),
    "no host": lambda host, port: (None, port),
    "the other family": lambda host, port: ("::1", port),
    "short": lambda host, port: ("127.1", port),
    "out of range": lambda host, port: ("256.0.0.1", port),
    "only the host": lambda host, port: "127.0.0.1",
    "a number": lambda host, port: 5,
    "None": lambda host, port: None,
}


@pytest.mark.parametrize("kind", ADDRESSES)
def test_all_addresses_have_the_same_effect_as_on_the_standard_loop(kind):
    async def main():
        with udp() as receiver:
            receiver.setblocking(False)
            async with endpoint() as protocol:
                protocol.transport.sendto(b"x", ADDRESSES[kind](*receiver.getsockname()))
                await settle()
                errors = [(type(error), error.args) for error in protocol.errors]
                lost = repr(protocol.lost.result()) if protocol.lost.done() else None
            try:
                return errors, lost, receiver.recv(10)
            except BlockingIOError:
                return errors, lost, None

    expected, actual = on_both_loops(main)
    assert expected == actual


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6")
@pytest.mark.parametrize(
    "rest", [(), (0,), (5, 0), (0, 1), (1 << 20, 0), (0, 1 << 32), (-1, 0), (0, -1), (0.0, 0), (0, 0, 0)]
)
@pytest.mark.parametrize("host", ["::1", "::1%lo", "fe80::1%lo", "::ffff:127.0.0.1", "127.0.0.1"])
def test_all_ipv6_addresses_have_the_same_effect_as_on_the_standard_loop(host, rest):
    async def main():
        with udp(socket.AF_INET6) as receiver:
            receiver.setblocking(False)
            async with endpoint(local_addr=("::1", 0)) as protocol:
                protocol.transport.sendto(b"x", (host, receiver.getsockname()[1], *rest))
                await settle()
                errors = [(type(error), error.args) for error in protocol.errors]
                lost = repr(protocol.lost.result()) if protocol.lost.done() else None
            try:
                return errors, lost, receiver.recv(10)
            except BlockingIOError:
                return errors, lost, None

    expected, actual = on_both_loops(main)
    assert expected == actual


def test_a_connected_transport_sends_to_its_peer_only(run):
    async def main():
        with udp() as peer, udp() as other:
            async with endpoint(remote_addr=peer.getsockname()) as protocol:
                protocol.transport.sendto(b"one")
                protocol.transport.sendto(b"two", None)
                protocol.transport.sendto(b"three", peer.getsockname())
                protocol.transport.sendto(data=b"four", addr=peer.getsockname())
                with pytest.raises(ValueError, match="Invalid address: must be None or"):
                    protocol.transport.sendto(b"five", other.getsockname())
                peer.sendto(b"answer", protocol.transport.get_extra_info("sockname"))
                await until(lambda: protocol.events)
                assert protocol.events == [(b"answer", peer.getsockname())]
            return [peer.recv(10) for _ in range(4)]

    assert run(main()) == [b"one", b"two", b"three", b"four"]


def test_a_connected_socket_ignores_addresses(run):
    async def main():
        with udp() as peer, udp() as other:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.connect(peer.getsockname())
            async with endpoint(sock=sock) as protocol:
                assert protocol.transport.get_extra_info("peername") == peer.getsockname()
                protocol.transport.sendto(b"x", other.getsockname())
            return peer.recv(10)

    assert run(main()) == b"x"


# What is sent


class Bytes(bytes):
    pass


@pytest.mark.parametrize(
    "data",
    [
        b"abcdefgh",
        Bytes(b"abcdefgh"),
        bytearray(b"abcdefgh"),
        memoryview(b"abcdefgh"),
        memoryview(array.array("i", [1, 2])),
        memoryview(b"abcdefgh")[::2],
        b"",
        bytearray(),
        "text",
        [1],
        None,
        array.array("b", b"abc"),
    ],
    ids=lambda data: f"{type(data).__name__} {bytes(data) if isinstance(data, memoryview) else data!r}",
)
@pytest.mark.parametrize("connected", [False, True])
def test_all_data_has_the_same_effect_as_on_the_standard_loop(data, connected):
    async def main():
        with udp() as receiver:
            receiver.setblocking(False)
            address = receiver.getsockname()
            options = {"remote_addr": address} if connected else {}
            async with endpoint(**options) as protocol:
                try:
                    result = protocol.transport.sendto(data, None if connected else address)
                except TypeError as exc:
                    result = exc.args
                await settle()
                lost = repr(protocol.lost.result()) if protocol.lost.done() else None
            received = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    received.append(receiver.recv(100))
            return result, lost, protocol.errors, received

    expected, actual = on_both_loops(main)
    assert expected == actual


@pytest.mark.parametrize("args", [(), (b"x", None, None)])
def test_wrong_numbers_of_arguments_are_refused(run, args):
    async def main():
        async with endpoint() as protocol:
            with pytest.raises(TypeError):
                protocol.transport.sendto(*args)
            with pytest.raises(TypeError):
                protocol.transport.sendto(b"x", wrong=None)

    run(main())


@needs_names
def test_what_a_socket_does_not_take_is_kept_and_sent_in_order():
    async def main():
        async with unix_pair() as (protocol, theirs):
            transport = protocol.transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            transport.set_write_buffer_limits(high=5000, low=1000)
            sizes = []
            data = bytearray(1000)
            for number in range(100):
                data[0] = number
                transport.sendto(data)
                sizes.append(transport.get_write_buffer_size())
            assert transport.get_write_buffer_size() > 5000
            received = []
            while len(received) < 100:
                received.append(await asyncio.get_running_loop().sock_recv(theirs, 2000))
            await until(lambda: not transport.get_write_buffer_size() or protocol.events == ["pause", "resume"])
            transport.sendto(b"end")
            received.append(await asyncio.get_running_loop().sock_recv(theirs, 2000))
            return sizes, protocol.events, [(piece[0], len(piece)) for piece in received]

    (expected, _), (actual, messages) = on_both_loops(main)
    assert expected == actual
    assert actual[1] == ["pause", "resume"]
    assert actual[2] == [(number, 1000) for number in range(100)] + [(ord("e"), 3)]
    assert messages == []


@needs_names
@pytest.mark.parametrize("way", ["close", "abort"])
def test_close_sends_what_was_kept_and_abort_does_not(way):
    async def main():
        async with unix_pair() as (protocol, theirs):
            transport = protocol.transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            for _ in range(100):
                transport.sendto(bytes(1000))
            getattr(transport, way)()
            assert transport.is_closing()
            await settle()
            done = protocol.lost.done()
            received = 0
            while received < 100:
                try:
                    received += len(theirs.recv(2000)) // 1000
                except BlockingIOError:
                    if protocol.lost.done():
                        break
                    await asyncio.sleep(0)
            await protocol.lost
            return done, received

    (expected, _), (actual, messages) = on_both_loops(main)
    assert expected == actual
    assert actual[0] == (way == "abort")
    assert (actual[1] == 100) == (way == "close")
    assert messages == []


# What is received


def test_each_datagram_of_a_burst_is_delivered_in_order(run):
    async def main():
        sent = [b"%d" % number for number in range(3 * MOST)]
        sent[7] = b""
        async with unix_pair() as (protocol, theirs):
            for data in sent:
                while True:
                    try:
                        theirs.send(data)
                        break
                    except BlockingIOError:
                        await asyncio.sleep(0)
            await until(lambda: len(protocol.events) == len(sent))
            return protocol.data() == sent

    assert run(main())


def test_what_a_callback_queues_runs_before_the_next_datagram(loop, run):
    async def main():
        async with endpoint(lambda protocol: loop.call_soon(protocol.events.append, ("queued", None))) as protocol:
            with udp() as sender:
                for number in range(5):
                    sender.sendto(b"%d" % number, protocol.transport.get_extra_info("sockname"))
                await until(lambda: len(protocol.events) == 10)
            return protocol.data()

    assert run(main()) == [b"0", "queued", b"1", "queued", b"2", "queued", b"3", "queued", b"4", "queued"]


def test_a_task_may_close_the_transport_after_the_first_datagram(loop, run):
    async def main():
        first = loop.create_future()

        def on_data(protocol):
            first.set_result(protocol.events[-1])  # fails for a second one

        async with endpoint(on_data) as protocol:
            with udp() as sender:
                sender.sendto(b"one", protocol.transport.get_extra_info("sockname"))
                sender.sendto(b"two", protocol.transport.get_extra_info("sockname"))
            await first
            protocol.transport.close()
            await protocol.lost
            return protocol.data()

    assert run(main()) == [b"one"]


@pytest.mark.parametrize("way", ["close", "abort"])
def test_a_callback_that_closes_the_transport_gets_no_more(run, way):
    async def main():
        async with endpoint(lambda protocol: getattr(protocol.transport, way)()) as protocol:
            with udp() as sender:
                for _ in range(5):
                    sender.sendto(b"x", protocol.transport.get_extra_info("sockname"))
            assert await protocol.lost is None
            return protocol.data()

    assert run(main()) == [b"x"]


@pytest.mark.skipif(
    asyncio.selector_events._SelectorDatagramTransport.pause_reading is asyncio.Transport.pause_reading,
    reason="new in Python 3.11.3",
)
def test_a_callback_that_pauses_gets_the_rest_after_resuming(run):
    async def main():
        async with unix_pair(lambda protocol: protocol.transport.pause_reading()) as (protocol, theirs):
            for number in range(3):
                theirs.send(b"%d" % number)
            counts = []
            for number in range(3):
                await until(lambda number=number: len(protocol.events) > number)
                await settle()
                counts.append(len(protocol.events))
                protocol.transport.resume_reading()
            return counts, protocol.data()

    assert run(main()) == ([1, 2, 3], [b"0", b"1", b"2"])


def test_a_protocol_that_is_set_by_a_callback_gets_the_next_datagram(run):
    async def main():
        second = Recorder()

        async with unix_pair(lambda protocol: protocol.transport.set_protocol(second)) as (protocol, theirs):
            for number in range(3):
                theirs.send(b"%d" % number)
            await until(lambda: len(second.events) == 2)
            protocol.transport.set_protocol(protocol)
            return protocol.data(), second.data()

    assert run(main()) == ([b"0"], [b"1", b"2"])


def test_stop_ends_the_deliveries(loop, run):
    async def prepare():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        _, protocol = await loop.create_datagram_endpoint(lambda: Recorder(lambda protocol: loop.stop()), sock=ours)
        return protocol, theirs

    protocol, theirs = run(prepare())
    for number in range(3):
        theirs.send(b"%d" % number)
    counts = []
    for _ in range(3):
        loop.run_forever()
        counts.append(len(protocol.events))
    protocol.transport.abort()
    theirs.close()
    run(asyncio.wait_for(protocol.lost, TIMEOUT))
    assert counts == [1, 2, 3]


def test_an_exception_of_a_callback_is_reported_and_the_next_datagram_comes():
    async def main():
        def on_data(protocol):
            raise ZeroDivisionError(protocol.data()[-1])

        async with unix_pair(on_data) as (protocol, theirs):
            for number in range(3):
                theirs.send(b"%d" % number)
            await until(lambda: len(protocol.events) == 3)
            await settle()
            return protocol.data(), protocol.lost.done(), protocol.errors

    (expected, reports), (actual, ours) = on_both_loops(main)
    assert expected == actual == ([b"0", b"1", b"2"], False, [])
    assert [exception for _, exception in ours] == [exception for _, exception in reports]
    assert len(ours) == 3


def test_others_have_their_turn_during_a_burst(run):
    async def main():
        order = []
        async with (
            unix_pair(lambda protocol: order.append("busy")) as (_, busy),
            unix_pair(lambda protocol: order.append("other")) as (_, other),
        ):
            with contextlib.suppress(BlockingIOError):
                while True:
                    busy.send(b"x")
            other.send(b"x")
            await until(lambda: "other" in order)
            return order.index("other")

    assert run(main()) <= MOST


@pytest.mark.parametrize(("size", "most"), [(10, 4), (10, 0), (100_000, 1 << 20), (300_000, 256 * 1024)])
def test_a_datagram_is_cut_at_the_maximum_size(run, size, most):
    async def main():
        async with unix_pair() as (protocol, theirs):
            protocol.transport.max_size = most
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            try:
                theirs.send(bytes(size))
            except OSError:
                pytest.skip("larger than a datagram may be")
            theirs.send(b"next"[:most])
            await until(lambda: len(protocol.events) == 2)
            return [len(data) for data in protocol.data()]

    assert run(main()) == [min(size, most), min(4, most)]


def test_a_negative_maximum_size_is_fatal():
    async def main():
        async with unix_pair() as (protocol, theirs):
            protocol.transport.max_size = -1
            theirs.send(b"x")
            return repr(await protocol.lost), protocol.events

    expected, actual = on_both_loops(main)
    assert expected == actual


# Errors


def test_nobody_at_the_other_end_is_an_error_and_not_the_end(run):
    async def main():
        with udp() as closed:
            address = closed.getsockname()
        async with endpoint(remote_addr=address) as protocol:
            protocol.transport.sendto(b"x")
            await until(lambda: protocol.errors)
            protocol.transport.sendto(b"x")
            await until(lambda: len(protocol.errors) > 1)
            return [type(error) for error in protocol.errors[:2]], protocol.lost.done(), protocol.events

    assert run(main()) == ([ConnectionRefusedError] * 2, False, [])


@pytest.mark.parametrize("connected", [False, True])
def test_a_datagram_that_is_too_long_is_an_error(connected):
    async def main():
        with udp() as receiver:
            options = {"remote_addr": receiver.getsockname()} if connected else {}
            async with endpoint(**options) as protocol:
                result = protocol.transport.sendto(bytes(70_000), None if connected else receiver.getsockname())
                await settle()
                return result, [(type(error), error.args) for error in protocol.errors], protocol.lost.done()

    expected, actual = on_both_loops(main)
    assert expected == actual
    assert len(actual[0][1]) == 1


def test_an_exception_of_error_received_goes_to_the_caller(run):
    async def main():
        with udp() as receiver:
            async with endpoint() as protocol:
                protocol.error_received = None
                with pytest.raises(TypeError):
                    protocol.transport.sendto(bytes(70_000), receiver.getsockname())
                return protocol.lost.done()

    assert run(main()) is False


def test_a_socket_that_was_closed_behind_the_transport_is_an_error():
    async def main():
        with udp() as receiver:
            async with endpoint() as protocol:
                protocol.transport._sock.close()
                protocol.transport.sendto(b"x", receiver.getsockname())
                protocol.transport._loop._remove_reader(protocol.transport._sock_fd)
                return [(type(error), error.args) for error in protocol.errors], protocol.lost.done()

    expected, actual = on_both_loops(main)
    assert expected == actual
    assert len(actual[0][0]) == 1


def test_a_closed_transport_refuses_nothing_and_sends_nothing():
    async def main():
        with udp() as receiver:
            async with endpoint(remote_addr=receiver.getsockname()) as protocol:
                transport = protocol.transport
                transport.close()
                for _ in range(10):
                    transport.sendto(b"x")
                await protocol.lost
                transport.sendto(b"x")
                transport.close()
                transport.abort()
            receiver.setblocking(False)
            with pytest.raises(BlockingIOError):
                receiver.recv(10)
            return repr(transport)[-10:].split("fd")[0], transport.get_extra_info("sockname") is not None

    expected, actual = on_both_loops(main)
    assert expected == actual


# What a program may change


def test_the_transport_has_the_attributes_of_the_standard_one():
    async def main():
        async with endpoint() as protocol:
            transport = protocol.transport
            return (
                [name for name in dir(transport) if name not in ("_family", "_paused")],
                type(transport).__mro__[-1],
                isinstance(transport, asyncio.DatagramTransport),
                transport.get_write_buffer_limits(),
                transport.max_size,
                type(transport.get_extra_info("socket")),
                transport.get_extra_info("peername"),
                transport.get_extra_info("nothing", 5),
            )

    expected, actual = on_both_loops(main)
    assert expected == actual


@pytest.mark.parametrize("when", ["before", "after"])
def test_patched_methods_of_sockets_are_called(run, monkeypatch, when):
    calls = []

    def patch(name):
        original = getattr(socket.socket, name)

        def method(self, *args):
            calls.append(name)
            return original(self, *args)

        monkeypatch.setattr(socket.socket, name, method)

    async def main():
        if when == "before":
            for name in ("sendto", "send", "recvfrom"):
                patch(name)
        async with endpoint() as receiver:
            address = receiver.transport.get_extra_info("sockname")
            async with endpoint() as unconnected, endpoint(remote_addr=address) as connected:
                if when == "after":
                    for name in ("sendto", "send", "recvfrom"):
                        patch(name)
                unconnected.transport.sendto(b"x", address)
                connected.transport.sendto(b"x")
                await until(lambda: len(receiver.events) == 2)
                return {name: calls.count(name) for name in ("sendto", "send")}, "recvfrom" in calls

    assert run(main()) == ({"sendto": 1, "send": 1}, True)


def test_the_methods_of_a_subclass_of_socket_are_called(run):
    calls = []

    class Socket(socket.socket):
        def sendto(self, *args):
            calls.append("sendto")
            return super().sendto(*args)

        def recvfrom(self, *args):
            calls.append("recvfrom")
            return super().recvfrom(*args)

    async def main():
        sock = Socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        async with endpoint(sock=sock) as protocol:
            protocol.transport.sendto(b"x", sock.getsockname())
            await until(lambda: protocol.events)

    run(main())
    assert calls[:2] == ["sendto", "recvfrom"]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="refused before Python 3.13")
def test_sockets_of_packets_in_a_stream_are_served(run):
    async def main():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            async with endpoint(sock=ours) as protocol:
                theirs.send(b"one")
                theirs.send(b"two")
                await until(lambda: len(protocol.events) == 2)
                return protocol.data()

    assert run(main()) == [b"one", b"two"]


def test_debug_mode_serves_datagrams(loop, run):
    loop.set_debug(True)

    async def main():
        async with unix_pair() as (protocol, theirs):
            theirs.send(b"x")
            await until(lambda: protocol.events)
            return protocol.data()

    assert run(main()) == [b"x"]


def test_hooks_see_each_address(run_python):
    program = """if True:
        import asyncio, fastmux, socket, sys
        seen = []
        def hook(event, args):
            if event == "socket.sendto":
                seen.append(args[1:])
                if len(seen) % 3 == 0:
                    raise RuntimeError("refused")
        class Protocol(asyncio.DatagramProtocol):
            def connection_lost(self, exc):
                lost.append(repr(exc))
        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: None)
            transport, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
            for port in (1, 2, 3):
                transport.sendto(b"x", ("127.0.0.1", port))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        sys.addaudithook(hook)
        for make in (asyncio.SelectorEventLoop, fastmux.EventLoop):
            lost = []
            seen.clear()
            loop = make()
            loop.run_until_complete(main())
            loop.close()
            print(seen, lost)
    """
    expected, actual = run_python(program).splitlines()
    assert expected == actual
    assert "refused" in actual


def test_a_callback_may_drop_everything(run):
    async def main():
        def on_data(protocol):
            protocol.transport.abort()
            del protocol.transport
            protocol.events.clear()
            gc.collect()

        async with unix_pair(on_data) as (protocol, theirs):
            transport = protocol.transport
            for _ in range(5):
                theirs.send(b"x")
            await protocol.lost
            protocol.transport = transport
            return protocol.events

    assert run(main()) == []


def test_an_unclosed_transport_warns_and_closes_its_socket(loop, run, collect_unreferenced):
    async def main():
        transport, protocol = await loop.create_datagram_endpoint(Recorder, local_addr=("127.0.0.1", 0))
        await settle()
        loop._remove_reader(transport._sock_fd)
        sock = transport._sock
        transports = [transport]
        del protocol.transport, transport

        def release():
            transports.clear()
            collect_unreferenced()

        with pytest.warns(ResourceWarning, match="unclosed transport"):
            release()
        return sock.fileno()

    assert run(main()) == -1


def test_several_loops_receive_at_once():
    counts = {}

    def receive(number):
        async def main():
            async with unix_pair() as (protocol, theirs):
                for index in range(2000):
                    while True:
                        try:
                            theirs.send(b"%d %d" % (number, index))
                            break
                        except BlockingIOError:
                            await asyncio.sleep(0)
                await until(lambda: len(protocol.events) == 2000)
                counts[number] = protocol.data() == [b"%d %d" % (number, index) for index in range(2000)]

        fastmux.run(main())

    threads = [threading.Thread(target=receive, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT * 3)
    assert counts == dict.fromkeys(range(4), True)


def test_a_timer_that_is_due_runs_before_the_rest_of_a_burst(loop, run):
    async def main():
        async with endpoint(lambda protocol: loop.call_later(0, protocol.events.append, ("timer", None))) as protocol:
            with udp() as sender:
                for number in range(4):
                    sender.sendto(b"%d" % number, protocol.transport.get_extra_info("sockname"))
                await until(lambda: len(protocol.events) == 8)
            return protocol.data()

    assert run(main()) == [b"0", b"1", "timer", b"2", "timer", b"3", "timer", "timer"]
