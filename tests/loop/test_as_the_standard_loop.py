"""Where a loop that reads ahead, or runs its callbacks in an order of its own, differs from the standard loop.

Each test is a program that such a loop breaks. They run on both loops, and the standard one is the oracle.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import ctypes
import errno
import fcntl
import functools
import math
import mmap
import os
import selectors
import signal
import socket
import termios
import threading
import time

import pytest

import fastmux

from .connections import BufferedRecorder, Recorder, batch, close, connect, run_under_interruptions, settle, until

TIMEOUT = 50

needs_core = pytest.mark.skipif(
    fastmux.implementation != "c" or "epoll" not in fastmux.Poller.mechanisms, reason="the standard loop may lose data"
)


def duplicate(transport):
    """Return a non-blocking socket on the file of a transport."""
    sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    sock.setblocking(False)
    return sock


def pending(sock):
    """Return the number of bytes that the kernel holds for a socket."""
    return int.from_bytes(fcntl.ioctl(sock, termios.FIONREAD, bytes(4)), "little")


# A signal handler that raises, anywhere

CONNECTIONS = 32
BYTES = 200_000
PIECE = 1000


def pattern(number):
    """Return the data for a connection: words that occur once, without a zero byte."""
    data = b"".join(b"%d:%d " % (number, word) for word in range(BYTES // 7))
    assert len(data) >= BYTES
    return data[:BYTES]


class Lists:
    """A protocol whose input is stored by C functions, so that no signal handler can run inside of it."""

    class Protocol(asyncio.Protocol):
        def __init__(self):
            self.pieces = []
            self.data_received = self.pieces.append

    def __init__(self):
        self.protocol = self.Protocol()

    def data(self):
        return b"".join(self.protocol.pieces)


class Slices:
    """The same, buffered: each call gets another slice of one buffer. What stays unused is zero."""

    class Protocol(asyncio.BufferedProtocol):
        def __init__(self):
            self.memory = bytearray(10 * BYTES)
            view = memoryview(self.memory)
            slices = [view[start : start + PIECE] for start in range(0, len(view), PIECE)]
            self.get_buffer = functools.partial(next, iter(slices))
            self.updates = []
            self.buffer_updated = self.updates.append

    def __init__(self):
        self.protocol = self.Protocol()

    def data(self):
        data = bytes(self.protocol.memory).replace(b"\0", b"")
        assert len(data) == sum(self.protocol.updates)
        return data


def send_in_pieces(sockets, often):
    """Send all patterns; the second half when the loop has been interrupted often."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    patterns = [pattern(number) for number in range(len(sockets))]
    for start in range(0, BYTES, PIECE):
        if start > BYTES // 2:
            often.wait(TIMEOUT)
        for sock, data in zip(sockets, patterns):
            sock.sendall(data[start : start + PIECE])


def receive_all(sockets, often):
    """Return what each socket receives up to its end; the second half when the loop has been interrupted often."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    received = dict.fromkeys(sockets, b"")
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                data = key.fileobj.recv(10 * PIECE)
                received[key.fileobj] += data
                if len(received[key.fileobj]) > BYTES // 2:
                    often.wait(TIMEOUT)
                if not data:
                    selector.unregister(key.fileobj)
    return list(received.values())


def finish(loop):
    """Abort all connections of a loop and close it."""
    for transport in list(loop._transports.values()):
        transport.abort()
    loop.run_until_complete(settle())
    loop.close()


def open_connections(loop, protocols):
    """Connect protocols; return their sockets, and those of their peers."""
    ours, theirs = zip(*[socket.socketpair() for _ in protocols])

    async def open_all():
        for protocol, sock in zip(protocols, ours):
            await loop.create_connection(lambda protocol=protocol: protocol, sock=sock)

    loop.run_until_complete(open_all())
    return ours, theirs


@needs_core
@pytest.mark.parametrize("kind", [Lists, Slices], ids=["Protocol", "BufferedProtocol"])
def test_a_signal_handler_that_raises_out_of_the_loop_loses_no_data(start_thread, kind):
    """The standard loop receives in one bytecode instruction and delivers in a later one."""
    loop = fastmux.EventLoop()
    stored = [kind() for _ in range(CONNECTIONS)]
    ours, theirs = open_connections(loop, [store.protocol for store in stored])
    often = threading.Event()
    sender = start_thread(send_in_pieces, theirs, often)

    run_under_interruptions(loop, lambda: sender.is_alive() or any(map(pending, ours)), often)

    loop.run_until_complete(settle())
    received = [store.data() for store in stored]
    finish(loop)
    for sock in theirs:
        sock.close()
    assert [number for number, data in enumerate(received) if data != pattern(number)] == []
    assert often.is_set()


@needs_core
def test_a_signal_handler_that_raises_out_of_the_loop_sends_nothing_twice(start_thread):
    """The standard loop sends in one bytecode instruction and shortens its buffer in a later one."""
    loop = fastmux.EventLoop()
    protocols = [asyncio.Protocol() for _ in range(CONNECTIONS)]
    _, theirs = open_connections(loop, protocols)
    for number, transport in enumerate(list(loop._transports.values())):
        data = pattern(number)
        transport.writelines([data[start : start + PIECE] for start in range(0, BYTES, PIECE)])
        transport.write_eof()
    received, often = [], threading.Event()
    receiver = start_thread(lambda: received.extend(receive_all(theirs, often)))

    run_under_interruptions(loop, receiver.is_alive, often)

    finish(loop)
    for sock in theirs:
        sock.close()
    assert [number for number, data in enumerate(received) if data != pattern(number)] == []
    assert len(received) == CONNECTIONS
    assert often.is_set()


# Another owner reads on


@pytest.mark.parametrize("end", ["kept", "closed", "aborted"])
def test_what_a_buffered_protocol_did_not_take_is_for_the_next_owner_of_the_socket(loop, run, end):
    def pass_on(protocol):
        protocol.transport.pause_reading()
        protocol.dup = duplicate(protocol.transport)
        if end == "closed":
            protocol.transport.close()
        elif end == "aborted":
            protocol.transport.abort()

    async def main():
        protocol, theirs = await connect(lambda: BufferedRecorder(4, on_data=pass_on))
        theirs.send(b"HEADthe rest")
        await until(lambda: protocol.data)
        with protocol.dup:
            rest = await loop.sock_recv(protocol.dup, 100)
        await close([protocol], [theirs])
        return protocol.data, rest

    assert run(main()) == (b"HEAD", b"the rest")


@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
def test_a_connection_that_another_one_pauses_keeps_everything_for_its_next_owner(loop, run, factory):
    """Both are ready in the same wait."""

    def pass_on(protocol, others):
        (other,) = others
        other.transport.pause_reading()
        other.dup = duplicate(other.transport)

    async def main():
        protocols, sockets = await batch(2, pass_on, factory)
        for theirs in sockets:
            theirs.send(b"everything")
        await until(lambda: any(protocol.data for protocol in protocols))
        await settle()
        (paused,) = [protocol for protocol in protocols if not protocol.data]
        with paused.dup:
            received = await loop.sock_recv(paused.dup, 100)
        await close(protocols, sockets)
        return received

    assert run(main()) == b"everything"


@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
def test_a_reader_that_is_added_for_a_paused_connection_s_dup_reads_everything(loop, run, factory):
    """Passes the second of two ready connections on to add_reader()."""
    received = []

    def pass_on(protocol, others):
        (other,) = others
        other.transport.pause_reading()
        dup = duplicate(other.transport)
        loop.add_reader(dup, read, dup)

    def read(dup):
        received.append(dup.recv(100))
        loop.remove_reader(dup)
        dup.close()

    async def main():
        protocols, sockets = await batch(2, pass_on, factory)
        for theirs in sockets:
            theirs.send(b"everything")
        await until(lambda: received)
        await close(protocols, sockets)

    run(main())

    assert received == [b"everything"]


# Data that is there before the connection is


async def over_a_pair(loop, factory, connect_by):
    """Connect by a socket on which data is already there."""
    ours, theirs = socket.socketpair()
    theirs.send(b"data")
    transport, protocol = await getattr(loop, connect_by)(factory, sock=ours)
    return transport, protocol, [theirs]


async def by_address(loop, factory, listening, connect):
    """Connect by an address. The loop is busy while the peer accepts and sends."""
    accepted = []

    def accept_and_send():
        accepted.append(listening.accept()[0])
        accepted[0].send(b"data")

    with listening:
        loop.call_soon(accept_and_send)
        transport, protocol = await connect(factory)
    return transport, protocol, accepted


async def by_internet_address(loop, factory):
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    return await by_address(loop, factory, listening, lambda factory: loop.create_connection(factory, *address))


async def by_path(loop, factory):
    path = "listening"  # in an empty working directory: the kernel takes at most 107 bytes
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    return await by_address(loop, factory, listening, lambda factory: loop.create_unix_connection(factory, path))


def by_socket(connect_by):
    return lambda loop, factory: over_a_pair(loop, factory, connect_by)


@pytest.fixture
def empty_working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


ways_to_connect = pytest.mark.parametrize(
    "open_connection",
    [
        by_socket("create_connection"),
        by_socket("create_unix_connection"),
        by_socket("connect_accepted_socket"),
        by_internet_address,
        by_path,
    ],
    ids=["create_connection", "create_unix_connection", "connect_accepted_socket", "address", "path"],
)


@ways_to_connect
@pytest.mark.usefixtures("empty_working_directory")
@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
def test_the_await_returns_before_the_first_data_is_delivered(loop, run, open_connection, factory):
    order = []

    class Ordered(factory):
        def connection_made(self, transport):
            super().connection_made(transport)
            order.append("connection_made")

    async def main():
        _, protocol, sockets = await open_connection(
            loop, lambda: Ordered(on_data=lambda _: order.append("data_received"))
        )
        order.append("await returns")
        await until(lambda: protocol.data)
        await close([protocol], sockets)

    run(main())

    assert order == ["connection_made", "await returns", "data_received"]


@ways_to_connect
@pytest.mark.usefixtures("empty_working_directory")
@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
def test_a_protocol_that_is_set_after_the_await_gets_the_first_data(loop, run, open_connection, factory):
    async def main():
        transport, first, sockets = await open_connection(loop, Recorder)
        second = factory()
        transport.set_protocol(second)
        second.connection_made(transport)
        await until(lambda: first.data or second.data)
        await close([second], sockets)
        return first.data, second.data

    assert run(main()) == (b"", b"data")


@ways_to_connect
@pytest.mark.usefixtures("empty_working_directory")
def test_a_transport_that_is_paused_after_the_await_has_read_nothing(loop, run, open_connection):
    async def main():
        transport, protocol, sockets = await open_connection(loop, Recorder)
        transport.pause_reading()
        await settle()
        with duplicate(transport) as dup:
            received = await loop.sock_recv(dup, 100)
        await close([protocol], sockets)
        return protocol.data, received

    assert run(main()) == (b"", b"data")


def test_a_forwarder_whose_peer_is_set_after_the_await_forwards_the_first_data(loop, run):
    """As the tunnels of asyncssh."""

    class Forwarder(Recorder):
        peer = None

        def data_received(self, data):
            super().data_received(data)
            if self.peer is not None:
                self.peer.transport.write(data)

    async def main():
        inner, inner_peer = await connect(Forwarder)
        ours, theirs = socket.socketpair()
        theirs.send(b"greeting")
        _, outer = await loop.create_connection(Forwarder, sock=ours)
        outer.peer, inner.peer = inner, outer
        forwarded = await loop.sock_recv(inner_peer, 100)
        await close([inner, outer], [theirs, inner_peer])
        return forwarded

    assert run(main()) == b"greeting"


# Order


@pytest.mark.parametrize("reader_first", [True, False], ids=["reader first", "callback first"])
def test_a_callback_comes_before_a_reader_that_is_added_together_with_it(loop, run, socketpair, reader_first):
    ours, theirs = socketpair
    order = []

    def add():
        steps = [
            lambda: loop.add_reader(ours, order.append, "reader"),
            lambda: loop.call_soon(order.append, "callback"),
        ]
        for step in steps if reader_first else reversed(steps):
            step()

    async def main():
        theirs.send(b"x")
        loop.call_soon(add)
        await until(lambda: "reader" in order)
        loop.remove_reader(ours)

    run(main())

    assert order[:2] == ["callback", "reader"]


def test_a_callback_comes_before_a_writer_that_is_added_together_with_it(loop, run, socketpair):
    ours, _ = socketpair
    order = []

    def add():
        loop.add_writer(ours, order.append, "writer")
        loop.call_soon(order.append, "callback")

    async def main():
        loop.call_soon(add)
        await until(lambda: "writer" in order)
        loop.remove_writer(ours)

    run(main())

    assert order[:2] == ["callback", "writer"]


def test_the_data_that_comes_with_a_callback_is_delivered_after_it(loop, run):
    order = []

    async def main():
        protocol, theirs = await connect(lambda: Recorder(lambda _: order.append("data")))
        await settle()

        def send():
            theirs.send(b"x")
            loop.call_soon(order.append, "callback")

        loop.call_soon(send)
        await until(lambda: "data" in order)
        await close([protocol], [theirs])

    run(main())

    assert order == ["callback", "data"]


def test_an_accept_that_is_cancelled_while_a_connection_arrives_leaves_it_to_the_next(loop, run):
    """A task that waits for it ends first, then the reader would run."""

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            accepting = loop.create_task(loop.sock_accept(listening))
            await asyncio.sleep(0)
            with socket.create_connection(listening.getsockname()) as client:
                accepting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await accepting
                accepted, address = await loop.sock_accept(listening)
                accepted.close()
                return client.getsockname() == address

    assert run(main())


# Sizes


@pytest.mark.parametrize("paused", [False, True], ids=["at once", "when resumed"])
def test_pieces_of_a_large_message_have_at_most_256_kib(loop, run, paused):
    """Both ends hold as much as the kernel allows."""
    message = os.urandom(1 << 20)

    async def main():
        sizes = []
        protocol, theirs = await connect(lambda: Recorder())
        protocol.data_received = lambda data: (sizes.append(len(data)), Recorder.data_received(protocol, data))
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(message))
        sent = 0
        if paused:
            protocol.transport.pause_reading()
            with contextlib.suppress(BlockingIOError):
                while sent < len(message):
                    sent += theirs.send(message[sent : sent + 8192])
            protocol.transport.resume_reading()
        await loop.sock_sendall(theirs, message[sent:])
        await until(lambda: len(protocol.data) == len(message))
        await close([protocol], [theirs])
        assert protocol.data == message
        return max(sizes)

    assert run(main()) <= 256 * 1024


# Timers


@pytest.mark.parametrize("at_once", [20_000, 100, 1])
def test_few_cancelled_timers_are_kept_while_the_loop_never_sleeps(loop, run, at_once):
    """The standard loop removes them once there are more than 100."""

    async def spin():
        while True:
            await asyncio.sleep(0)

    async def main():
        spinning = loop.create_task(spin())
        kept = 0
        for _ in range(20_000 // at_once):
            for _ in range(at_once):
                loop.call_later(3600, print).cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            kept = max(kept, len(loop._scheduled))
        spinning.cancel()
        return kept

    assert run(main()) <= 102  # with the timer of run()


class Callback:
    """A callback that the tests count."""

    alive = 0

    def __init__(self):
        Callback.alive += 1

    def __del__(self):
        Callback.alive -= 1

    def __call__(self):
        pass


def test_the_callbacks_of_cancelled_timers_are_released_at_once(loop, run, collect_unreferenced):
    async def main():
        timers = [loop.call_later(3600, Callback()) for _ in range(1000)]
        before = Callback.alive
        for timer in timers:
            timer.cancel()
        collect_unreferenced()
        return before, Callback.alive

    assert run(main()) == (1000, 0)


async def call_later_nan(loop):
    done = loop.create_future()
    loop.call_later(math.nan, done.set_result, "called")
    return await done


async def call_at_nan(loop):
    done = loop.create_future()
    loop.call_at(math.nan, done.set_result, "called")
    return await done


async def call_later_nan_while_busy(loop):
    ran = []
    loop.call_later(math.nan, ran.append, "called")
    await settle()
    return ran


async def call_later_nan_among_others(loop):
    ran = []
    for delay in (0, math.nan, -1, math.nan, -2):
        loop.call_later(delay, ran.append, str(delay))
    await settle()
    return ran


async def call_later_nan_and_cancel(loop):
    ran = []
    loop.call_later(math.nan, ran.append, "called").cancel()
    await asyncio.sleep(0.001)
    return ran


async def sleep_nan(loop):
    return await asyncio.sleep(math.nan, "slept")


async def timeout_nan(loop):
    async with asyncio.timeout(math.nan):
        return await asyncio.sleep(0.001, "slept")


async def wait_for_nan(loop):
    return await asyncio.wait_for(asyncio.sleep(0.001, "slept"), math.nan)


def outcome(make_loop, use):
    """Return the result or the exception of use(loop) on a new loop."""
    loop = make_loop()
    try:
        return loop.run_until_complete(use(loop))
    except Exception as error:
        return type(error), str(error)
    finally:
        left = asyncio.all_tasks(loop)  # NaN has ended the loop, not the task
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True) if left else asyncio.sleep(0))
        loop.close()


async def call_at_equal_times(loop):
    ran = []
    now = loop.time()
    for number in range(50):
        loop.call_at(now - number % 3, ran.append, number)
    await settle()
    return ran


async def call_at_equal_times_and_cancel(loop):
    ran = []
    now = loop.time()
    timers = [loop.call_at(now + 3600 - number % 3, ran.append, number) for number in range(300)]
    timers += [loop.call_at(now - number % 3, ran.append, number) for number in range(300)]
    for timer in timers[::3] + timers[1::3]:
        timer.cancel()
    await settle()
    return ran


@pytest.mark.parametrize("use", [call_at_equal_times, call_at_equal_times_and_cancel])
def test_timers_of_one_time_run_in_the_order_of_the_standard_loop(use):
    assert outcome(asyncio.SelectorEventLoop, use) == outcome(fastmux.EventLoop, use)


@pytest.mark.parametrize(
    "use",
    [
        call_later_nan,
        call_at_nan,
        call_later_nan_while_busy,
        call_later_nan_among_others,
        call_later_nan_and_cancel,
        sleep_nan,
        pytest.param(timeout_nan, marks=pytest.mark.skipif(not hasattr(asyncio, "timeout"), reason="Python 3.11")),
        wait_for_nan,
    ],
)
def test_nan_as_a_time_is_what_it_is_on_the_standard_loop(use):
    assert outcome(asyncio.SelectorEventLoop, use) == outcome(fastmux.EventLoop, use)


# Descriptors that outlive their socket


@pytest.mark.parametrize("cancelled", [False, True], ids=["received", "cancelled"])
def test_a_socket_that_was_received_from_and_closed_costs_no_cpu_time(loop, run, cancelled):
    """A dup keeps the file open, so the kernel keeps reporting it unless the loop has removed it."""

    async def main():
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        receiving = loop.create_task(loop.sock_recv(ours, 100))
        await asyncio.sleep(0)
        if cancelled:
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
        else:
            theirs.send(b"x")
            assert await receiving == b"x"
        with duplicate_of(ours), theirs:
            ours.close()
            theirs.send(b"more")
            before = time.process_time()
            await asyncio.sleep(0.5)
            return time.process_time() - before

    assert run(main()) < 0.2


def duplicate_of(sock):
    return socket.socket(fileno=os.dup(sock.fileno()))


#: A server that starts a process while a connection is open; the child inherits it. Prints its CPU seconds per second.
EXECUTOR = """
import asyncio, multiprocessing, socket, sys, time
from concurrent.futures import ProcessPoolExecutor
import fastmux

async def main():
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
        listening.setblocking(False)
        client.setblocking(False)
        await loop.sock_connect(client, listening.getsockname())
        conn, _ = await loop.sock_accept(listening)
        receiving = loop.create_task(loop.sock_recv(conn, 100))
        await asyncio.sleep(0)
        await loop.sock_sendall(client, b"request")
        assert await receiving == b"request"
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
            assert await loop.run_in_executor(executor, abs, -1) == 1
            conn.close()
            await loop.sock_sendall(client, b"another request")
            before = time.process_time()
            await asyncio.sleep(0.5)
            print((time.process_time() - before) / 0.5)

loop = {"fastmux": fastmux.EventLoop, "standard": asyncio.SelectorEventLoop}[sys.argv[1]]()
loop.run_until_complete(main())
loop.close()
"""


@pytest.mark.parametrize("name", ["fastmux", "standard"])
def test_a_server_that_starts_a_process_pool_costs_no_cpu_time_when_it_is_idle(run_python, name):
    assert float(run_python(EXECUTOR, name)) < 0.4


# Failures in between

#: Fails each allocation of one turn in turn. Prints whether the loop works afterwards.
ALLOCATIONS = """
import asyncio, gc, socket
import _testcapi
import fastmux

class Buffered(asyncio.BufferedProtocol):
    buffer = bytearray(100)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        pass

def turn(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()

def main(loop, failing):
    # Not reported: a report needs memory, too.
    loop.set_exception_handler(lambda loop, context: None)
    for factory in (asyncio.Protocol, Buffered):
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            connecting = loop.create_connection(factory, sock=ours)
            transport, _ = loop.run_until_complete(connecting)
            theirs.send(b"data")
            for _ in range(3):
                timer = loop.call_later(0, int)
                loop.call_soon(loop.stop)
                _testcapi.set_nomemory(failing, failing + 1)
                try:
                    loop.call_soon(int, 1)
                    loop.call_later(0, int)
                    transport.write(b"abc")
                    loop._run_once()
                    transport.pause_reading()
                    transport.resume_reading()
                except MemoryError:
                    pass
                finally:
                    _testcapi.remove_mem_hooks()
            transport.abort()
            turn(loop)
            turn(loop)

for failing in range(100):
    loop = fastmux.EventLoop()
    main(loop, failing)
    print(loop.run_until_complete(asyncio.sleep(0, "works")))
    loop.close()
    gc.collect()
"""


@needs_core
def test_the_loop_works_after_a_failed_allocation_anywhere_in_a_turn(run_python):
    pytest.importorskip("_testcapi")

    assert run_python(ALLOCATIONS).split() == ["works"] * 100


# Kinds of buffers


def mapped(data):
    """Return a memory mapping of data."""
    mapping = mmap.mmap(-1, len(data))
    mapping.write(data)
    return mapping


KINDS = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "array": lambda data: array.array("B", data),
    "mmap": mapped,
    "ctypes": lambda data: (ctypes.c_char * len(data)).from_buffer_copy(data),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [4, 1_000_000])
def test_lines_may_be_any_buffer(loop, run, kind, size):
    """The large ones do not fit into the socket at once."""
    data = os.urandom(size)

    async def main():
        protocol, theirs = await connect()
        protocol.transport.writelines([b"<", KINDS[kind](data), b">"])
        received = b""
        while len(received) < size + 2:
            received += await loop.sock_recv(theirs, 1 << 20)
        await close([protocol], [theirs])
        return received

    assert run(main()) == b"<" + data + b">"


def test_lines_of_all_kinds_go_through_a_stream(loop, run, socketpair):
    ours, theirs = socketpair

    async def main():
        _, writer = await asyncio.open_connection(sock=ours)
        writer.writelines([make(b"%d" % number) for number, make in enumerate(KINDS.values())])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        return await loop.sock_recv(theirs, 100)

    assert run(main()) == b"012345"


def test_lines_that_wait_behind_others_may_be_any_buffer(loop, run):
    async def main():
        protocol, theirs = await connect()
        protocol.transport.write(bytes(1_000_000))
        protocol.transport.writelines([make(b"%d" % number) for number, make in enumerate(KINDS.values())])
        received = b""
        while len(received) < 1_000_006:
            received += await loop.sock_recv(theirs, 1 << 20)
        await close([protocol], [theirs])
        return received.lstrip(b"\0")

    assert run(main()) == b"012345"


# Descriptors that are closed behind the loop's back


@pytest.mark.parametrize("end", ["_remove_reader", "_remove_writer"])
def test_the_error_of_a_closed_descriptor_is_that_of_the_kernel(loop, socketpair, end):
    sock, _ = socketpair
    fd = sock.fileno()
    loop.add_reader(fd, print)
    loop.add_writer(fd, print)
    sock.close()

    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        getattr(loop, end)(fd)
    with pytest.raises(KeyError):
        loop._selector.get_key(fd)


@pytest.mark.parametrize("method", ["remove_reader", "remove_writer"])
@pytest.mark.parametrize("fd", [-1, -(2**31) - 1, -(2**64), 2**64], ids=["-1", "< int", "< long", "> long"])
def test_a_number_that_is_no_descriptor_is_refused_as_by_the_selector(loop, method, fd):
    def outcome(call):
        try:
            return call(fd)
        except ValueError as error:
            return str(error)

    with selectors.SelectSelector() as selector:
        expected = outcome(lambda fd: fd in selector.get_map())
    assert outcome(getattr(loop, method)) == expected
