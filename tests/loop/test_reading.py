"""Socket transports: reading, ends of streams and buffered protocols, on both loops.

One wait of the loop may read from many sockets. The tests of batches make several sockets ready at once; the first
protocol with data then changes the others. The standard loop never reads ahead, and is the oracle.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import os
import socket
import struct
import sys

import pytest

from .connections import BufferedRecorder, Recorder, batch, close, connect, settle, until

TIMEOUT = 20


# Batches


def test_every_transport_gets_its_own_bytes(run):
    async def main():
        protocols, sockets = await batch(300)
        for number, theirs in enumerate(sockets):
            theirs.send(b"%d " % number * (number + 1))
        await until(lambda: all(protocol.data for protocol in protocols))
        await close(protocols, sockets)
        return [protocol.data for protocol in protocols]

    assert run(main()) == [b"%d " % number * (number + 1) for number in range(300)]


@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
def test_a_transport_that_is_paused_by_another_gets_its_data_when_it_is_resumed(run, factory):
    def pause(protocol, others):
        for other in others:
            other.transport.pause_reading()

    async def main():
        protocols, sockets = await batch(5, pause, factory)
        for theirs in sockets:
            theirs.send(b"one")
        await settle()
        received = [protocol.data for protocol in protocols]
        for theirs in sockets:
            theirs.send(b"two")
        for protocol in protocols:
            protocol.on_data = None
            protocol.transport.resume_reading()
        await until(lambda: all(protocol.data == b"onetwo" for protocol in protocols))
        await close(protocols, sockets)
        return sorted(received)

    assert run(main()) == [b"", b"", b"", b"", b"one"]


def test_pausing_and_resuming_at_once_changes_nothing(run):
    def flip(protocol, others):
        for other in others:
            other.transport.pause_reading()
            other.transport.resume_reading()

    async def main():
        protocols, sockets = await batch(5, flip)
        for text in (b"one", b"two", b"three"):
            for theirs in sockets:
                theirs.send(text)
            await settle()
        await until(lambda: all(protocol.data == b"onetwothree" for protocol in protocols))
        await close(protocols, sockets)

    run(main())


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_transport_that_is_closed_by_another_gets_no_more_data(run, end):
    def close_others(protocol, others):
        for other in others:
            getattr(other.transport, end)()

    async def main():
        protocols, sockets = await batch(5, close_others)
        for theirs in sockets:
            theirs.send(b"data")
        await settle()
        received = [protocol.data for protocol in protocols]
        await close(protocols, sockets)
        return sorted(received), {event for protocol in protocols for event in protocol.events}

    assert run(main()) == ([b"", b"", b"", b"", b"data"], {"made", "data", "lost"})


def test_data_goes_to_the_protocol_set_last(run):
    def replace(protocol, others):
        for other in others:
            other.transport.set_protocol(new[other])

    new = {}

    async def main():
        protocols, sockets = await batch(3, replace)
        new.update((protocol, BufferedRecorder()) for protocol in protocols)
        for protocol in protocols:
            new[protocol].transport = protocol.transport
        for theirs in sockets:
            theirs.send(b"data")
        await settle()
        old_data = sorted(protocol.data for protocol in protocols)
        new_data = sorted(protocol.data for protocol in new.values())
        for protocol in protocols:
            protocol.transport.abort()
        await settle()
        for theirs in sockets:
            theirs.close()
        return old_data, new_data

    assert run(main()) == ([b"", b"", b"data"], [b"", b"data", b"data"])


def test_a_descriptor_reused_within_a_batch_gets_no_old_data(run, loop):
    """The other connections are closed, and their numbers reused, before their data is delivered."""
    fresh = []

    def replace(protocol, others):
        for other in others:
            other.on_data = None
            number = other.transport.get_extra_info("socket").fileno()
            other.transport.abort()
            loop.call_soon(reopen, number)

    def reopen(number):
        ours, theirs = socket.socketpair()
        numbers.add(number)
        fresh.append((loop.create_task(loop.create_connection(Recorder, sock=ours)), ours.fileno(), theirs))

    numbers = set()

    async def main():
        protocols, sockets = await batch(5, replace)
        for theirs in sockets:
            theirs.send(b"old")
        await settle()
        found = []
        for task, number, theirs in fresh:
            _, protocol = await task
            theirs.send(b"new")
            await until(lambda protocol=protocol: protocol.data)
            found.append((number in numbers, protocol.data))
            theirs.close()
            protocol.transport.abort()
            await protocol.lost
        await close(protocols, sockets)
        return found

    found = run(main())

    assert [data for _, data in found] == [b"new"] * 4
    assert any(reused for reused, _ in found)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_exit_loses_no_data_of_the_others(loop, run, error):
    def leave(protocol, others):
        for other in (protocol, *others):
            other.on_data = None
        raise error

    protocols, sockets = run(batch(5, leave))
    for theirs in sockets:
        theirs.send(b"data")
    with pytest.raises(error):
        loop.run_forever()
    run(until(lambda: all(protocol.data == b"data" for protocol in protocols)))
    run(close(protocols, sockets))


def test_an_exception_closes_one_connection_and_no_other(loop, run):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    def fail(protocol, others):
        if not contexts:
            raise ValueError("wrong")

    async def main():
        protocols, sockets = await batch(5, fail)
        for theirs in sockets:
            theirs.send(b"data")
        await settle()
        events = [protocol.events[1:] for protocol in protocols]
        await close(protocols, sockets)
        return sorted(events)

    assert run(main()) == [["data"]] * 4 + [["data", "lost"]]
    assert [context["message"] for context in contexts] == ["Fatal error: protocol.data_received() call failed."]


def test_every_transport_reads_in_its_own_context(run):
    variable = contextvars.ContextVar("variable")
    seen = []

    def record(protocol):
        seen.append((variable.get(), protocol.name))
        variable.set(f"{protocol.name} has been read")

    async def main():
        connections = []
        for number in range(3):
            variable.set(f"connection {number}")
            protocol, theirs = await connect(lambda: Recorder(record))
            protocol.name = f"connection {number}"
            connections.append((protocol, theirs))
        for _ in range(2):
            for _, theirs in connections:
                theirs.send(b"x")
            await settle()
        await close(*zip(*connections))

    run(main())

    names = [f"connection {number}" for number in range(3)]
    assert sorted(seen[:3]) == [(name, name) for name in names]
    assert sorted(seen[3:]) == [(f"{name} has been read", name) for name in names]


@pytest.mark.parametrize("end", ["eof", "abort"])
@pytest.mark.parametrize("accepted", [False, True], ids=["connected", "accepted"])
def test_callbacks_share_context_variables_as_on_the_standard_loop(run, accepted, end):
    """Since Python 3.15 all callbacks of a transport run in one context; before, in copies of several."""
    steps = contextvars.ContextVar("steps")

    class Stepping(BufferedRecorder):
        """Pauses after each full buffer, so that data is pending when it resumes."""

        def step(self, name):
            self.steps = (*steps.get(), name)
            steps.set(self.steps)

        def connection_made(self, transport):
            super().connection_made(transport)
            transport.set_write_buffer_limits(0)
            self.step("made")

        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.transport.pause_reading()
            self.step("data")

        def pause_writing(self):
            self.step("pause")

        def resume_writing(self):
            self.step("resume")

        def connection_lost(self, exc):
            self.step("lost")
            super().connection_lost(exc)

    async def main():
        loop = asyncio.get_running_loop()
        steps.set(("main",))
        if accepted:
            made = []
            server = await loop.create_server(lambda: made.append(Stepping(2)) or made[-1], "127.0.0.1", 0)
            theirs = socket.create_connection(server.sockets[0].getsockname())
            theirs.setblocking(False)
            await until(lambda: made and hasattr(made[0], "steps"))
            protocol = made[0]
            server.close()
        else:
            protocol, theirs = await connect(lambda: Stepping(2))
        seen = [steps.get(), protocol.steps]
        theirs.send(b"data")
        for data in (b"da", b"data"):
            await until(lambda data=data: protocol.data == data)
            seen.append(protocol.steps)
            protocol.transport.resume_reading()
        protocol.transport.write(bytes(1 << 24))
        while protocol.steps[-1] != "resume":
            await loop.sock_recv(theirs, 1 << 24)
        seen.append(protocol.steps)
        if end == "eof":
            theirs.shutdown(socket.SHUT_WR)
        else:
            protocol.transport.abort()
        await protocol.lost
        theirs.close()
        return [*seen, protocol.steps, steps.get()]

    standard = asyncio.SelectorEventLoop()
    expected = standard.run_until_complete(main())
    standard.close()
    assert run(main()) == expected
    if sys.version_info >= (3, 15):
        assert expected[-2] == ("main", "made", "data", "data", "resume", "lost")


def test_a_reader_in_the_same_batch_may_close_a_transport(run, loop):
    """The same wait may have read data of that transport."""

    async def main():
        protocol, theirs = await connect()
        one, other = socket.socketpair()
        loop.add_reader(one, lambda: (loop.remove_reader(one), protocol.transport.abort()))
        theirs.send(b"x")
        other.send(b"x")
        await protocol.lost
        events = protocol.events
        for sock in (one, other, theirs):
            sock.close()
        return events

    assert run(main()) in (["made", "lost"], ["made", "data", "lost"])


def test_no_large_stream_keeps_the_others_waiting(run):
    async def main():
        large, large_sockets = await batch(5)
        small, small_sockets = await batch(50)
        stop = False

        async def flood(theirs):
            while not stop:
                try:
                    theirs.send(bytes(1 << 20))
                except BlockingIOError:
                    await asyncio.sleep(0)

        floods = [asyncio.ensure_future(flood(theirs)) for theirs in large_sockets]
        for protocol in large:
            protocol.data_received = lambda data: counts.append(len(data))
        counts = []
        await until(lambda: len(counts) > 10)
        for theirs in small_sockets:
            theirs.send(b"x")
        await until(lambda: all(protocol.data for protocol in small))
        stop = True
        await asyncio.gather(*floods)
        await close(large + small, large_sockets + small_sockets)

    run(main())


# The end of a stream


def test_the_end_of_a_stream_closes_the_transport(run):
    async def main():
        protocol, theirs = await connect()
        theirs.send(b"last")
        theirs.close()
        assert await protocol.lost is None
        return protocol.data, protocol.events

    assert run(main()) == (b"last", ["made", "data", "eof", "lost"])


def test_the_end_of_a_stream_may_leave_the_other_direction_open(run):
    class Open(Recorder):
        def eof_received(self):
            super().eof_received()
            return True

    async def main():
        protocol, theirs = await connect(Open)
        theirs.shutdown(socket.SHUT_WR)
        await until(lambda: "eof" in protocol.events)
        await settle()
        protocol.transport.write(b"still here")
        await settle()
        received = theirs.recv(100)
        protocol.transport.close()
        await protocol.lost
        theirs.close()
        return received, protocol.events

    assert run(main()) == (b"still here", ["made", "eof", "lost"])


def test_the_end_that_comes_while_paused_is_reported_once_after_the_data(run):
    async def main():
        protocol, theirs = await connect()
        protocol.transport.pause_reading()
        theirs.send(b"data")
        theirs.close()
        await settle()
        before = list(protocol.events)
        protocol.transport.resume_reading()
        await protocol.lost
        return before, protocol.events

    assert run(main()) == (["made"], ["made", "data", "eof", "lost"])


def test_all_ends_of_a_batch_are_reported_even_if_the_first_pauses_the_others(run):
    class Pausing(Recorder):
        def eof_received(self):
            super().eof_received()
            for other in protocols:
                if other is not self:
                    other.transport.pause_reading()

    protocols = []

    async def main():
        sockets = []
        for _ in range(3):
            protocol, theirs = await connect(Pausing)
            protocols.append(protocol)
            sockets.append(theirs)
        for theirs in sockets:
            theirs.close()
        await settle()
        for protocol in protocols:
            protocol.transport.resume_reading()
            await protocol.lost
        return [protocol.events for protocol in protocols]

    assert run(main()) == [["made", "eof", "lost"]] * 3


def test_a_reset_is_an_error(run, loop):
    async def main():
        accepted = loop.create_future()

        class Server(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                accepted.set_result(self)

        server = await loop.create_server(Server, "127.0.0.1", 0)
        client = socket.create_connection(server.sockets[0].getsockname())
        protocol = await accepted
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        error = await protocol.lost
        server.close()
        await server.wait_closed()
        return type(error)

    assert run(main()) is ConnectionResetError


# Buffered protocols


@pytest.mark.parametrize(
    "make",
    [bytearray, lambda size: memoryview(bytearray(size)), lambda size: memoryview(bytearray(4 * size)).cast("I")],
    ids=["bytearray", "memoryview", "memoryview of ints"],
)
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_buffered_protocol_gets_all_bytes_in_its_own_buffer(run, make, size):
    sent = os.urandom(5000)

    async def main():
        protocol, theirs = await connect(lambda: BufferedRecorder(size, make))
        theirs.send(sent)
        await until(lambda: len(protocol.data) == len(sent))
        await close([protocol], [theirs])
        return protocol.data

    assert run(main()) == sent


def test_a_buffered_protocol_may_pause_after_every_buffer(run, loop):
    sent = os.urandom(1000)

    def pause(protocol):
        protocol.transport.pause_reading()
        loop.call_soon(protocol.transport.resume_reading)

    async def main():
        protocol, theirs = await connect(lambda: BufferedRecorder(10, on_data=pause))
        theirs.send(sent)
        await until(lambda: len(protocol.data) == len(sent))
        await close([protocol], [theirs])
        return protocol.data

    assert run(main()) == sent


def test_a_buffered_protocol_may_hand_over_in_the_middle(run):
    async def main():
        plain = Recorder()
        protocol, theirs = await connect(lambda: BufferedRecorder(4, on_data=lambda self: hand_over()))

        def hand_over():
            protocol.transport.set_protocol(plain)

        theirs.send(b"headbody")
        await until(lambda: plain.data == b"body")
        protocol.transport.abort()
        await plain.lost
        theirs.close()
        return protocol.data

    assert run(main()) == b"head"


@pytest.mark.parametrize("failure", ["empty", "raises", "updated"])
def test_a_buffered_protocol_that_fails_is_closed(run, loop, failure):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    class Failing(BufferedRecorder):
        def get_buffer(self, sizehint):
            if failure == "raises":
                raise ValueError("wrong")
            return self.buffer

        def buffer_updated(self, nbytes):
            raise ValueError("wrong")

    async def main():
        protocol, theirs = await connect(lambda: Failing(0 if failure == "empty" else 10))
        theirs.send(b"x")
        error = await protocol.lost
        theirs.close()
        return type(error)

    assert run(main()) is (RuntimeError if failure == "empty" else ValueError)
    name = "buffer_updated" if failure == "updated" else "get_buffer"
    assert [context["message"] for context in contexts] == [f"Fatal error: protocol.{name}() call failed."]


@pytest.mark.parametrize(
    "buffer",
    [b"read-only", memoryview(bytearray(8))[::2], collections.deque([1])],
    ids=["read-only", "gaps", "no buffer"],
)
def test_a_buffer_that_cannot_be_filled_is_an_error_of_the_type(run, loop, buffer):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append((context["message"], str(context["exception"]))))

    async def main():
        protocol, theirs = await connect(BufferedRecorder)
        protocol.buffer = buffer
        theirs.send(b"x")
        error = await protocol.lost
        theirs.close()
        return type(error)

    assert run(main()) is TypeError
    with socket.socket() as sock, pytest.raises(TypeError) as expected:
        sock.recv_into(buffer)
    assert contexts == [("Fatal read error on socket transport", str(expected.value))]
