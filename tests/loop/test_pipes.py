"""Transports of pipes: FIFOs, sockets and terminals. The standard loop is the oracle."""

from __future__ import annotations

import array
import asyncio
import errno
import gc
import itertools
import os
import pty
import select
import signal
import socket
import sys
import threading
import time
import tty
from functools import partial

import pytest

import fastmux

from .connections import Recorder, run_under_interruptions, settle, until

TIMEOUT = 20
ON_CORE = fastmux.implementation == "c" and "epoll" in fastmux.Poller.mechanisms
needs_core = pytest.mark.skipif(not ON_CORE, reason="the standard library's own transports")
#: Before Python 3.11.3 a transport that connection_made() pauses reads nevertheless.
PAUSES_EARLY = "is_reading" in vars(asyncio.unix_events._UnixReadPipeTransport)


@pytest.fixture
def reports(loop):
    """What was reported to the exception handler of the loop."""
    reports = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    return reports


def fifo():
    reading, writing = os.pipe()
    return open(reading, "rb", 0), open(writing, "wb", 0)


def sockets():
    return socket.socketpair()


def terminal():
    """The controlling side of a terminal without line editing, and the terminal itself, to which programs write."""
    controller, program = pty.openpty()
    tty.setraw(program)
    return open(controller, "rb", 0), open(program, "wb", 0)


KINDS = [fifo, sockets, terminal]
every_kind = pytest.mark.parametrize("make", KINDS)


async def connect_reader(pipe, on_data=None):
    """Return a Recorder that reads from the pipe."""
    _, protocol = await asyncio.get_running_loop().connect_read_pipe(lambda: Recorder(on_data), pipe)
    return protocol


async def connect_writer(pipe, factory=Recorder):
    """Return the Recorder of the transport that writes to the pipe."""
    _, protocol = await asyncio.get_running_loop().connect_write_pipe(factory, pipe)
    return protocol


def fill(transport):
    """Write more than the pipe takes. Return the number of bytes."""
    size = 0
    while not transport.get_write_buffer_size():
        transport.write(bytes(100_000))
        size += 100_000
    return size


def drain(file, size):
    """Read that many bytes."""
    received = b""
    while len(received) < size:
        received += os.read(file.fileno(), size - len(received))
    return received


# Reading


@every_kind
def test_data_arrives_and_then_the_end(make, run, reports):
    async def main():
        ours, theirs = make()
        reader = await connect_reader(ours)
        os.write(theirs.fileno(), b"one")
        await until(lambda: reader.data == b"one")
        theirs.close()
        return reader.events, await reader.lost, ours

    events, exc, ours = run(main())

    if make is terminal:  # its end is an error, which is not reported
        assert (events, exc.errno) == (["made", "data", "lost"], errno.EIO)
    else:
        assert (events, exc) == (["made", "data", "eof", "lost"], None)
    assert ours.fileno() == -1 if make is sockets else ours.closed
    assert reports == []


def test_a_read_takes_max_size_at_most(run):
    async def main():
        ours, theirs = fifo()
        pieces = []
        reader = await connect_reader(ours, on_data=lambda reader: pieces.append(len(reader.data)))
        reader.transport.max_size = 3
        theirs.write(b"1234567")
        theirs.close()
        await reader.lost
        return pieces

    assert run(main()) == [3, 6, 7]


@pytest.mark.parametrize("size", [300_000, 10_000_000])
def test_max_size_may_be_large(run, size):
    async def main():
        ours, theirs = socket.socketpair()
        reader = await connect_reader(ours)
        reader.transport.max_size = size
        data = os.urandom(500_000)
        thread = threading.Thread(target=lambda: (theirs.sendall(data), theirs.close()))
        thread.start()
        await reader.lost
        thread.join()
        return reader.data == data

    assert run(main())


def test_a_negative_max_size_is_a_read_error(run, reports):
    async def main():
        ours, theirs = fifo()
        reader = await connect_reader(ours)
        reader.transport.max_size = -1
        theirs.write(b"x")
        exc = await reader.lost
        theirs.close()
        return exc

    assert run(main()).errno == errno.EINVAL
    assert [report["message"] for report in reports] == ["Fatal read error on pipe transport"]


def is_reading(transport):
    try:
        return transport.is_reading()
    except NotImplementedError:  # the standard transport of Python 3.10
        return None


@every_kind
def test_nothing_arrives_while_paused(make, run):
    async def main():
        ours, theirs = make()
        reader = await connect_reader(ours)
        transport = reader.transport
        transport.pause_reading()
        transport.pause_reading()  # no-op
        os.write(theirs.fileno(), b"one")
        await settle()
        paused, states = reader.data, [is_reading(transport)]
        transport.resume_reading()
        transport.resume_reading()  # no-op
        await until(lambda: reader.data == b"one")
        states.append(is_reading(transport))
        transport.close()
        states.append(is_reading(transport))
        transport.close()  # no-op
        transport.pause_reading()
        transport.resume_reading()
        await reader.lost
        theirs.close()
        return paused, states, transport.is_closing()

    paused, states, closing = run(main())

    assert (paused, closing) == (b"", True)
    assert states in ([False, True, False], [None] * 3)


def test_connection_made_may_pause_or_close(run, loop):
    class Protocol(Recorder):
        def __init__(self, method):
            super().__init__()
            self.method = method

        def connection_made(self, transport):
            super().connection_made(transport)
            getattr(transport, self.method)()

    async def main():
        events = []
        for method in "pause_reading", "close":
            if method == "pause_reading" and not PAUSES_EARLY:
                continue
            ours, theirs = fifo()
            theirs.write(b"x")
            fd = ours.fileno()
            transport, protocol = await loop.connect_read_pipe(lambda method=method: Protocol(method), ours)
            await settle()
            events.append(([*protocol.events], fd in loop._selector.get_map()))
            transport.close()
            await protocol.lost
            theirs.close()
        return events

    if PAUSES_EARLY:
        assert run(main()) == [(["made"], False), (["made", "lost"], False)]
    elif isinstance(loop, fastmux.EventLoop) and ON_CORE:
        assert run(main()) == [(["made", "lost"], False)]


@needs_core
def test_a_writer_that_connection_made_closes_is_not_watched():
    """The standard loop leaves its descriptor in the selector."""

    class Closing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.close()

    async def main():
        theirs, ours = fifo()
        fd = ours.fileno()
        protocol = await connect_writer(ours, Closing)
        await protocol.lost
        theirs.close()
        return fd in asyncio.get_running_loop()._selector.get_map()

    assert not fastmux.run(main())


def test_an_exception_in_data_received_is_reported_and_reading_continues(run, reports):
    def fail(reader):
        if reader.data == b"one":
            raise ZeroDivisionError

    async def main():
        ours, theirs = fifo()
        reader = await connect_reader(ours, on_data=fail)
        theirs.write(b"one")
        await until(lambda: reader.data)
        theirs.write(b"two")
        await until(lambda: reader.data == b"onetwo")
        theirs.close()
        return await reader.lost

    assert run(main()) is None
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]


def test_a_protocol_may_be_replaced_by_its_own_callback(run):
    async def main():
        ours, theirs = fifo()
        second = Recorder()

        def replace(reader):
            reader.transport.set_protocol(second)

        reader = await connect_reader(ours, on_data=replace)
        theirs.write(b"one")
        await until(lambda: reader.data)
        theirs.write(b"two")
        await until(lambda: second.data)
        theirs.close()
        await second.lost
        return reader.data, reader.events, second.data, second.events, reader.transport.get_protocol()

    assert run(main()) == (b"one", ["made", "data"], b"two", ["data", "eof", "lost"], None)


def test_closing_in_data_received_leaves_the_rest_in_the_pipe(run):
    async def main():
        ours, theirs = fifo()
        again = os.dup(ours.fileno())
        reader = await connect_reader(ours, on_data=lambda reader: reader.transport.close())
        reader.transport.max_size = 3
        theirs.write(b"onetwo")
        await reader.lost
        rest = os.read(again, 10)
        os.close(again)
        theirs.close()
        return reader.data, rest, reader.events

    assert run(main()) == (b"one", b"two", ["made", "data", "lost"])


@needs_core
def test_a_signal_handler_that_raises_loses_nothing(start_thread):
    """It runs before the read, or after the delivery."""
    sent = b"".join(b"%d " % number for number in range(60_000))
    received = []
    ours, theirs = fifo()

    class Protocol(asyncio.Protocol):
        data_received = received.append

    def write():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        for start in range(0, len(sent), 1000):
            if start > len(sent) // 2:
                often.wait(TIMEOUT)
            theirs.write(sent[start : start + 1000])

    loop = fastmux.new_event_loop()
    transport, _ = loop.run_until_complete(loop.connect_read_pipe(Protocol, ours))
    often = threading.Event()
    writer = start_thread(write)
    run_under_interruptions(loop, lambda: writer.is_alive() or sum(map(len, received)) < len(sent), often)
    transport.close()
    loop.run_until_complete(settle())
    loop.close()
    theirs.close()

    assert b"".join(received) == sent
    assert often.is_set()


# Writing


@needs_core
def test_an_exception_at_any_line_writes_nothing_twice():
    """As from a signal handler. The standard transport shortens its buffer in a line after that of the system call."""
    module = sys.modules["fastmux.loop.transports.pipe"]
    sent = b"".join(b"%d " % number for number in range(30_000))
    for number in itertools.count():
        interrupted, received = write_and_interrupt(module.__file__, number, sent)
        assert received == sent
        if not interrupted:
            break
    assert number > 5


def write_and_interrupt(path, number, data):
    """Write data, with KeyboardInterrupt before a line of a file; return whether it came, and what was received."""
    theirs, ours = fifo()
    loop = fastmux.new_event_loop()
    transport, _ = loop.run_until_complete(loop.connect_write_pipe(asyncio.Protocol, ours))
    os.set_blocking(theirs.fileno(), False)
    transport.write(data)
    left, interrupted, received = number, False, b""

    def trace(frame, event, arg):
        nonlocal left
        if event == "line":
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        return trace if frame.f_code.co_filename == path else None

    deadline, before = time.monotonic() + TIMEOUT, sys.gettrace()
    while len(received) < len(data) and time.monotonic() < deadline:
        received += theirs.read(65536) or b""
        loop.call_soon(loop.stop)
        if not interrupted:
            sys.settrace(trace)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            sys.settrace(before)
    received += theirs.read(65536) or b""
    transport.close()
    loop.run_until_complete(settle())
    loop.close()
    theirs.close()
    return interrupted, received


@every_kind
def test_write_sends_before_it_returns(make, run):
    async def main():
        theirs, ours = make()
        writer = await connect_writer(ours)
        transport = writer.transport
        for data in (
            b"bytes ",
            bytearray(b"bytearray "),
            memoryview(b"view "),
            memoryview(array.array("H", [8257, 8258])),
        ):
            transport.write(data)
        for data in (b"", bytearray(), memoryview(b"")):
            transport.write(data)
        transport.writelines([b"two ", bytearray(b"lines")])
        received = drain(theirs, len(expected))
        transport.close()
        exc = await writer.lost
        theirs.close()
        return received, exc, writer.events

    expected = b"bytes bytearray view A B two lines"
    assert run(main()) == (expected, None, ["made", "lost"])


@pytest.mark.parametrize("data", ["text", None, 5, array.array("B", [1]), [b"x"]], ids=lambda data: type(data).__name__)
@pytest.mark.skipif(sys.flags.optimize > 0, reason="an assertion")
def test_write_refuses_other_types(data, run):
    async def main():
        theirs, ours = fifo()
        writer = await connect_writer(ours)
        with pytest.raises(AssertionError) as raised:
            writer.transport.write(data)
        writer.transport.write(b"x")
        received = theirs.read(10)
        writer.transport.close()
        await writer.lost
        theirs.close()
        return str(raised.value), received

    assert run(main()) == (repr(data), b"x")


def test_a_released_view_is_refused(run):
    async def main():
        theirs, ours = fifo()
        writer = await connect_writer(ours)
        view = memoryview(b"x")
        view.release()
        with pytest.raises(ValueError, match="released"):
            writer.transport.write(view)
        writer.transport.close()
        exc = await writer.lost
        theirs.close()
        return exc

    assert run(main()) is None


def test_a_view_with_gaps_is_a_write_error(run, reports):
    async def main():
        theirs, ours = fifo()
        writer = await connect_writer(ours)
        writer.transport.write(memoryview(b"1234")[::2])
        exc = await writer.lost
        theirs.close()
        return type(exc)

    assert run(main()) is BufferError
    assert [report["message"] for report in reports] == ["Fatal write error on pipe transport"]


def test_a_view_with_gaps_behind_other_data_is_refused(run, reports):
    async def main():
        theirs, ours = fifo()
        writer = await connect_writer(ours)
        data = bytes(300_000)
        writer.transport.write(data)
        with pytest.raises(TypeError) as raised:
            writer.transport.write(memoryview(b"1234")[::2])
        with pytest.raises(TypeError) as expected:
            bytearray().__iadd__(memoryview(b"1234")[::2])
        reader = await connect_reader(theirs)
        writer.transport.close()
        exc = await writer.lost
        await reader.lost
        return exc, reader.data == data, str(raised.value) == str(expected.value)

    assert run(main()) == (None, True, True)
    assert reports == []


@pytest.mark.parametrize("make", [fifo, sockets])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_the_pipe_does_not_take_is_sent_later(make, kind, run):
    async def main():
        theirs, ours = make()
        writer = await connect_writer(ours)
        data = os.urandom(3_000_000)
        given = bytearray(data) if kind is bytearray else kind(data)
        writer.transport.write(given)
        if kind is bytearray:
            given[:] = bytes(len(data))  # the transport has a copy
        buffered = writer.transport.get_write_buffer_size()
        writer.transport.write(b"end")
        reader = await connect_reader(theirs)
        writer.transport.close()
        exc = await writer.lost
        await reader.lost
        return reader.data == data + b"end", 0 < buffered < len(data), exc, writer.events

    assert run(main()) == (True, True, None, ["made", "pause", "resume", "lost"])


def test_write_limits_pause_and_resume_the_protocol(run):
    async def main():
        theirs, ours = fifo()
        writer = await connect_writer(ours)
        transport = writer.transport
        transport.set_write_buffer_limits(high=100, low=10)
        size = fill(transport)
        paused = list(writer.events)
        drain(theirs, size - transport.get_write_buffer_size())
        thread = threading.Thread(target=drain, args=(theirs, transport.get_write_buffer_size()))
        thread.start()
        await until(lambda: "resume" in writer.events)
        thread.join()
        left = transport.get_write_buffer_size()
        transport.close()
        await writer.lost
        theirs.close()
        return paused, writer.events, left

    assert run(main()) == (["made", "pause"], ["made", "pause", "resume", "lost"], 0)


@pytest.mark.parametrize("method", ["close", "write_eof"])
def test_close_and_write_eof_send_the_buffer_first(method, run):
    async def main():
        theirs, ours = fifo()
        writer = await connect_writer(ours)
        size = fill(writer.transport)
        getattr(writer.transport, method)()
        getattr(writer.transport, method)()  # no-op
        writer.transport.write(b"ignored")
        before = list(writer.events)
        reader = await connect_reader(theirs)
        exc = await writer.lost
        await reader.lost
        return before, len(reader.data) == size, exc, writer.transport.can_write_eof()

    assert run(main()) == (["made"], True, None, True)


def test_abort_discards_the_buffer(run):
    async def main():
        theirs, ours = fifo()
        writer = await connect_writer(ours)
        size = fill(writer.transport)
        writer.transport.abort()
        exc = await writer.lost
        reader = await connect_reader(theirs)
        await reader.lost
        return len(reader.data) < size, exc

    assert run(main()) == (True, None)


@pytest.mark.parametrize("make", [fifo, sockets])
def test_the_other_end_is_closed(make, run, reports):
    async def main():
        theirs, ours = make()
        writer = await connect_writer(ours)
        theirs.close()
        exc = await writer.lost
        return exc, writer.events, writer.transport.is_closing()

    assert run(main()) == (None, ["made", "lost"], True)
    assert reports == []


@pytest.mark.parametrize("make", [fifo, sockets])
def test_the_other_end_is_closed_before_all_is_sent(make, run, reports):
    async def main():
        theirs, ours = make()
        writer = await connect_writer(ours)
        fill(writer.transport)
        theirs.close()
        return await writer.lost, writer.transport.get_write_buffer_size()

    exc, left = run(main())

    assert isinstance(exc, (BrokenPipeError, ConnectionResetError))
    assert left == 0
    assert reports == []


def test_a_write_to_a_closed_pipe_is_an_error_of_the_connection(run, reports):
    async def main():
        theirs, ours = fifo()
        writer = await connect_writer(ours)
        theirs.close()
        writer.transport.write(b"x")
        return type(await writer.lost), writer.events

    assert run(main()) == (BrokenPipeError, ["made", "lost"])
    assert reports == []


def test_writes_after_the_end_are_logged(run, caplog):
    async def main():
        theirs, ours = fifo()
        writer = await connect_writer(ours)
        writer.transport.close()
        for _ in range(10):
            writer.transport.write(b"x")
        await writer.lost
        writer.transport.write(b"x")
        theirs.close()

    run(main())

    assert {record.getMessage() for record in caplog.records} == {
        "pipe closed by peer or os.write(pipe, data) raised exception."
    }
    assert len(caplog.records) == 6


# File objects


def test_the_pipe_is_extra_information_and_no_longer_blocks(run):
    async def main():
        theirs, ours = fifo()
        before = [os.get_blocking(end.fileno()) for end in (theirs, ours)]
        writer, reader = await connect_writer(ours), await connect_reader(theirs)
        pipes = [end.transport.get_extra_info("pipe") for end in (reader, writer)]
        after = [os.get_blocking(end.fileno()) for end in (theirs, ours)]
        missing = writer.transport.get_extra_info("peername", "none")
        kinds = [
            [isinstance(end.transport, kind) for kind in (asyncio.ReadTransport, asyncio.WriteTransport)]
            for end in (reader, writer)
        ]
        texts = [
            repr(end.transport).split("Transport ")[1].replace(str(end.transport._fileno), "N")
            for end in (reader, writer)
        ]
        writer.transport.close()
        texts.append(repr(writer.transport).split("Transport ")[1].split(" fd")[0])
        await reader.lost
        texts.append(repr(reader.transport).split("Transport ")[1].split(" fd")[0])
        return before, pipes == [theirs, ours], after, missing, kinds, texts

    assert run(main()) == (
        [True, True],
        True,
        [False, False],
        "none",
        [[True, False], [True, True]],
        ["fd=N polling>", "fd=N idle bufsize=0>", "closing", "closed"],
    )


def test_a_regular_file_is_refused_and_stays_open(run, tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        with open(tmp_path / "file", "w+b", 0) as file:
            for connect in loop.connect_read_pipe, loop.connect_write_pipe:
                with pytest.raises(ValueError, match="Pipe transport is"):
                    await connect(Recorder, file)
            file.write(b"x")

    run(main())


class Wrapper:
    """A file object of another class."""

    def __init__(self, pipe, fileno=None):
        self.pipe = pipe
        self.fileno = fileno or pipe.fileno
        self.closed = 0

    def close(self):
        self.closed += 1
        self.pipe.close()


class Number(int):
    pass


def test_any_object_with_a_number_is_a_pipe(run):
    async def main():
        theirs, ours = fifo()
        ends = [Wrapper(end, partial(Number, end.fileno())) for end in (theirs, ours)]
        reader, writer = await connect_reader(ends[0]), await connect_writer(ends[1])
        writer.transport.write(b"x")
        await until(lambda: reader.data)
        writer.transport.close()
        await reader.lost
        await writer.lost
        return [end.closed for end in ends], reader.data

    assert run(main()) == ([1, 1], b"x")


#: The standard transport warns when it is freed half made.
half_made = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed transport:ResourceWarning"
)


@half_made
@pytest.mark.parametrize("number", [-1, 10**9, 10**30, "x", None, 1.5], ids=str)
@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_bad_numbers_are_refused(run, number, method):
    async def main():
        theirs, ours = fifo()
        with pytest.raises((OSError, OverflowError, TypeError)):
            await getattr(asyncio.get_running_loop(), method)(Recorder, Wrapper(ours, lambda: number))
        ours.close()
        theirs.close()

    run(main())


@half_made
@pytest.mark.parametrize("pipe", [None, 1, "x", object()], ids=lambda pipe: type(pipe).__name__)
@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_a_number_is_no_pipe(run, pipe, method):
    async def main():
        with pytest.raises(AttributeError):
            await getattr(asyncio.get_running_loop(), method)(Recorder, pipe)

    run(main())


def test_a_pipe_that_was_closed_by_its_owner_is_a_write_error(run, reports):
    async def main():
        theirs, ours = fifo()
        writer = await connect_writer(ours)
        os.close(os.dup(ours.fileno()))
        ours.close()
        writer.transport.write(b"x")
        exc = await writer.lost
        theirs.close()
        return exc.errno

    assert run(main()) == errno.EBADF
    assert reports == []


@needs_core
@pytest.mark.parametrize("buffered", [False, True])
def test_the_number_of_a_closed_pipe_may_belong_to_another_file(buffered):
    async def main():
        theirs, ours = fifo()
        writer = await connect_writer(ours)
        if buffered:
            fill(writer.transport)
        fd = ours.fileno()
        reading, writing = fifo()
        ours.close()
        os.dup2(writing.fileno(), fd)  # another file, with the number of ours
        if buffered:
            writer.transport._write_ready()
        else:
            writer.transport.write(b"x")
        exc = await writer.lost
        os.set_blocking(reading.fileno(), False)
        received = reading.read(10)
        os.close(fd)
        for file in theirs, reading, writing:
            file.close()
        return exc.errno, received

    assert fastmux.run(main()) == (errno.EBADF, None)


@needs_core
def test_a_reader_does_not_read_from_another_file_with_its_number():
    async def main():
        ours, theirs = fifo()
        reader = await connect_reader(ours)
        fd = ours.fileno()
        other, writing = fifo()
        ours.close()
        writing.write(b"other")
        os.dup2(other.fileno(), fd)
        reader.transport._read_ready()
        exc = await reader.lost
        os.close(fd)
        received = other.read(10)
        for file in theirs, other, writing:
            file.close()
        return exc.errno, reader.data, received

    assert silent(main()) == (errno.EBADF, b"", b"other")


def silent(main):
    """Run without reports on standard error."""
    loop = fastmux.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


class Hostile(Wrapper):
    """Calls a function in the next call of fileno()."""

    action = None

    def __init__(self, pipe):
        super().__init__(pipe, self.number)

    def number(self):
        if (action := self.action) is not None:
            self.action = None
            action()
        return self.pipe.fileno()


def fail():
    raise RuntimeError


@needs_core
@pytest.mark.parametrize("action", ["close", "abort", "write", "fail"])
@pytest.mark.parametrize("buffered", [False, True])
def test_fileno_of_a_writer_may_do_anything(action, buffered):
    """It is called before each system call."""

    async def main():
        theirs, ours = fifo()
        pipe = Hostile(ours)
        transport = (writer := await connect_writer(pipe)).transport
        actions = {"write": lambda: transport.write(b"inner"), "fail": fail}
        size = fill(transport) if buffered else 0
        pipe.action = actions.get(action) or getattr(transport, action)
        if buffered:
            transport._write_ready()
        else:
            transport.write(b"outer")
        called = pipe.action is None
        transport.close()
        reader = await connect_reader(theirs)
        exc = await writer.lost
        await reader.lost
        return called, reader.data, size, getattr(exc, "errno", None)

    called, received, size, error = silent(main())

    assert called
    assert error == (errno.EBADF if action == "fail" else None)
    if action in ("abort", "fail"):
        assert len(received) < max(size, 1)
    else:
        assert received.strip(b"\0") == {"close": b"", "write": b"inner" if buffered else b"innerouter"}[action]
        assert received.count(0) == size


@needs_core
@pytest.mark.parametrize("action", ["close", "pause_reading", "fail"])
def test_fileno_of_a_reader_may_do_anything(action):
    async def main():
        ours, theirs = fifo()
        pipe = Hostile(ours)
        again = os.dup(ours.fileno())
        transport = (reader := await connect_reader(pipe)).transport
        pipe.action = {"fail": fail}.get(action) or getattr(transport, action)
        theirs.write(b"data")
        await until(lambda: pipe.action is None)
        transport.close()
        await reader.lost
        rest = os.read(again, 10)
        os.close(again)
        theirs.close()
        return reader.data, rest

    assert silent(main()) == (b"", b"data")


def test_a_transport_without_references_closes_the_pipe(loop):
    async def main():
        theirs, ours = fifo()
        await connect_writer(ours, asyncio.Protocol)
        await asyncio.get_running_loop().connect_read_pipe(asyncio.Protocol, theirs)
        return theirs.fileno(), ours.fileno()

    def drop():
        other = type(loop)()
        numbers.extend(other.run_until_complete(main()))
        other.close()
        del other
        gc.collect()

    numbers = []
    with pytest.warns(ResourceWarning, match="unclosed transport") as warned:
        drop()

    assert len([warning for warning in warned if "unclosed transport" in str(warning.message)]) == 2
    for number in numbers:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(number)


# The class of the transport


@needs_core
@pytest.mark.parametrize("change", ["debug", "os.read", "os.write"])
def test_a_program_that_has_changed_something_gets_the_standard_transports(change, monkeypatch):
    async def main():
        theirs, ours = fifo()
        loop = asyncio.get_running_loop()
        if change == "debug":
            loop.set_debug(True)
        else:
            name = change.split(".")[1]
            call = getattr(os, name)
            monkeypatch.setattr(os, name, lambda *args: call(*args))
        reader, writer = await connect_reader(theirs), await connect_writer(ours)
        writer.transport.write(b"x")
        await until(lambda: reader.data)
        writer.transport.close()
        await reader.lost
        return {type(end.transport).__module__ for end in (reader, writer)}

    assert fastmux.run(main()) == {"asyncio.unix_events"}


@needs_core
def test_the_transports_are_those_of_the_package():
    async def main():
        theirs, ours = fifo()
        reader, writer = await connect_reader(theirs), await connect_writer(ours)
        asyncio.get_running_loop().set_debug(True)  # later, it only logs
        writer.transport.close()
        await reader.lost
        return {type(end.transport).__module__ for end in (reader, writer)}

    assert fastmux.run(main()) == {"fastmux.loop.transports.pipe"}


def test_pipes_of_many_kinds_at_once(run):
    """Each byte arrives in order, whatever the others do."""

    async def main():
        pairs = [make() for make in (fifo, sockets) for _ in range(20)]
        data = [os.urandom(100_000 + number) for number in range(len(pairs))]
        readers, writers = [], []
        for (theirs, ours), bytes_ in zip(pairs, data):
            readers.append(await connect_reader(theirs))
            writers.append(await connect_writer(ours))
            for start in range(0, len(bytes_), 7_000):
                writers[-1].transport.write(bytes_[start : start + 7_000])
            writers[-1].transport.close()
        for reader in readers:
            await reader.lost
        return [reader.data for reader in readers] == data

    assert run(main())


def test_select_is_not_needed_for_a_terminal_that_is_written_to(run):
    """A terminal is not watched for its other end."""

    async def main():
        theirs, ours = terminal()
        writer = await connect_writer(ours)
        await settle()
        watched = ours.fileno() in asyncio.get_running_loop()._selector.get_map()
        writer.transport.write(b"x")
        ready = select.select([theirs], [], [], 5)[0]
        received = os.read(theirs.fileno(), 10)
        writer.transport.close()
        await writer.lost
        theirs.close()
        return watched, ready == [theirs], received

    assert run(main()) == (False, True, b"x")
