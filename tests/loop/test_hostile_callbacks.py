"""Programs that change private attributes, cancel or collect at the worst moment: the event loop must not crash or lose
anything."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref

import pytest

import fastmux

pytestmark = pytest.mark.skipif(fastmux.implementation == "python", reason="the standard library's own objects")
TIMEOUT = 20


@pytest.fixture
def loop():
    loop = fastmux.EventLoop()
    loop.set_exception_handler(lambda loop, context: None)
    yield loop
    loop.close()


@pytest.fixture
def peer():
    """The other end of the connection of a transport."""
    return []


@pytest.fixture
def connect(loop, peer):
    """Make a transport with a protocol."""

    def connect(protocol=asyncio.Protocol):
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        peer.append(theirs)
        return loop.run_until_complete(loop.create_connection(protocol, sock=ours))[0]

    yield connect
    for sock in peer:
        sock.close()
    turns(loop, 3)


def turns(loop, count=1):
    for _ in range(count):
        loop.call_soon(loop.stop)
        loop.run_forever()


def nothing(*args):
    pass


class Callback:
    """A callable that is freed with its last reference, unlike a function of this module."""

    def __call__(self, *args):
        pass


# Handles


@pytest.mark.parametrize("chained", [lambda handle: (handle,), lambda handle: (1, 2, 3, handle)], ids=["few", "many"])
def test_long_chains_of_handles_are_freed_without_recursion(loop, chained):
    handle = None
    for _ in range(200_000):
        handle = loop.call_soon(nothing, *chained(handle))
    del handle
    turns(loop)

    assert not loop._ready


def test_context_of_another_class_may_cancel_the_handle_that_runs_in_it(loop):
    called = []

    class Context:
        def __getattribute__(self, name):
            handle.cancel()
            return lambda callback, *args: called.append((type(callback), len(args)))

    handle = loop.call_soon(Callback(), Callback(), Callback(), context=Context())
    turns(loop)

    assert called == [(Callback, 2)]


def test_context_of_another_class_takes_any_number_of_arguments(loop):
    class Context:
        def run(self, callback, *args):
            callback(*args)

    called = []
    loop.call_soon(lambda *args: called.append(args), 1, 2, 3, 4, 5, context=Context())
    turns(loop)

    assert called == [(1, 2, 3, 4, 5)]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the collector runs between bytecodes")
def test_collector_may_cancel_a_handle_while_its_arguments_are_read(loop):
    cancelled = []

    def cancel(phase, info):
        if phase == "start" and handle is not None:
            handle.cancel()
            cancelled.append(1)

    pairs = [tuple(iter((n, n))) for n in range(5000)]  # so that the interpreter has none in reserve
    handle = None
    threshold = gc.get_threshold()
    gc.callbacks.append(cancel)
    try:
        for _ in range(20):
            handle = loop.call_soon(Callback(), Callback(), Callback())
            gc.set_threshold(1)
            args = handle._args
            gc.set_threshold(*threshold)
            assert args is None or [type(arg) for arg in args] == [Callback, Callback]
            handle = None
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(cancel)
    assert pairs
    assert cancelled


def test_destructor_of_an_old_repr_reads_the_new_one(loop):
    class Text:
        def __del__(self):
            read.append(handle._repr)

    class Named(Callback):
        def __repr__(self):
            handle._repr = Text()
            return "named"

    read: list[object] = []
    handle = loop.call_soon(Named())
    loop.set_debug(True)
    handle.cancel()

    assert [type(text) for text in read] == [str]


def test_destructor_of_an_old_argument_may_set_the_arguments(loop):
    class Argument:
        def __del__(self):
            handle._args = (first,)

    first = Callback()
    handle = loop.call_soon(nothing, Argument())
    before = sys.getrefcount(first)
    handle._args = (1, 2)

    assert handle._args == (1, 2)
    assert before == sys.getrefcount(first)


# Timers


class Replacing(asyncio.TimerHandle):
    """A timer whose comparison replaces the heap."""

    heap: object = None

    def __lt__(self, other):
        if self.heap is not None:
            self._loop._scheduled = self.heap
        return False

    __gt__ = __lt__


@pytest.mark.parametrize("heap", [[], (), None], ids=repr)
@pytest.mark.parametrize("act", ["pop", "cancel", "push"])
def test_comparison_of_timers_may_replace_the_heap(loop, heap, act):
    first = loop.call_later(0, nothing)
    for later in range(6):
        timer = Replacing(loop.time() + 100 + later, nothing, (), loop)
        timer.heap = [] if heap is None else heap
        loop._scheduled.append(timer)
    if act == "cancel":
        first.cancel()
    if act == "push":
        loop.call_at(1, nothing)
    turns(loop, 2)
    loop._scheduled = []


def test_timer_at_nan_behind_a_cancelled_one_does_not_sleep_for_ever(loop):
    if not loop._uses_core:
        pytest.skip("the standard turn raises ValueError")
    loop.call_later(0.001, nothing).cancel()
    loop.call_later(0.5, loop.stop)._when = float("nan")
    thread = threading.Timer(TIMEOUT, lambda: loop.call_soon_threadsafe(failed.append, 1))
    failed = []
    thread.start()
    loop.run_forever()
    thread.cancel()

    assert not failed


# The queue


def test_methods_of_the_queue_lose_no_callback_of_another_thread(loop):
    count, called = 20_000, []
    handle = loop.call_soon(nothing)

    def send():
        for _ in range(count):
            loop.call_soon_threadsafe(called.append, 1)

    def look():
        assert handle not in loop._ready
        loop._ready.rotate(0)
        loop.call_soon(look if thread.is_alive() else loop.stop)

    thread = threading.Thread(target=send)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        turns(loop)
        thread.start()
        look()
        loop.run_forever()
        thread.join()
    finally:
        sys.setswitchinterval(interval)

    turns(loop)
    assert len(called) == count


# Transports


def test_negative_max_size_is_an_error_not_an_overflow(loop, connect, peer):
    class Protocol(asyncio.Protocol):
        def connection_lost(self, exc):
            lost.append(type(exc))

    lost: list[type] = []
    transport = connect(Protocol)
    transport.max_size = -1
    peer[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    peer[0].send(bytes(1 << 20))
    turns(loop, 4)

    assert lost == [ValueError]


@pytest.mark.parametrize("buffer", [None, 5, Callback()], ids=["None", "int", "object"])
def test_writes_with_another_object_as_buffer(connect, buffer):
    transport = connect()
    transport._buffer = buffer
    for write in lambda: transport.write(b"x"), lambda: transport.writelines([b"x"]):
        try:
            write()
        except (AttributeError, TypeError):
            assert buffer
    transport._buffer = []
    transport.abort()


def test_write_on_a_transport_without_loop(connect):
    transport = connect()
    loop = transport._loop
    del transport._loop
    transport.write(b"x")
    transport._loop = loop
    transport.abort()

    with pytest.raises(AttributeError):
        type(transport).__new__(type(transport)).write(b"x")


def test_pause_writing_may_abort_amid_writelines(loop, connect):
    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def pause_writing(self):
            self.transport.abort()

    transport = connect(Protocol)
    fd = transport.get_extra_info("socket").fileno()
    transport.writelines([bytes(4_000_000)] * 3)
    turns(loop, 3)

    assert transport.get_write_buffer_size() == 0
    assert fd not in loop._selector.get_map()


def test_writelines_with_a_wrong_line_keeps_none(loop, connect):
    transport = connect()
    transport.write(bytes(4_000_000))
    before = transport.get_write_buffer_size()
    with pytest.raises(TypeError):
        transport.writelines([b"line", "text"])

    assert before == transport.get_write_buffer_size()
    transport.abort()


def test_sendfile_after_gathered_writes(tmp_path):
    async def main():
        received = loop.create_future()

        async def serve(reader, writer):
            received.set_result(await reader.read())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        with tempfile.TemporaryFile() as file:
            file.write(b"file")
            file.seek(0)
            writer.write(b"head ")
            await loop.sendfile(writer.transport, file)
        writer.close()
        server.close()
        return await received

    loop = fastmux.new_event_loop(gather_writes=True)
    assert loop.run_until_complete(asyncio.wait_for(main(), TIMEOUT)) == b"head file"
    loop.close()


# The selector


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the collector runs between bytecodes")
def test_collector_may_drop_the_selector_amid_add_reader(loop, connect, peer):
    connect().abort()
    turns(loop, 2)
    selector, dropped = loop._selector, []

    def drop(phase, info):
        if phase == "start" and armed:
            del loop._selector
            dropped.append(1)
            armed.clear()

    tuples = [tuple([n] * size) for n in range(5000) for size in (1, 2, 4)]  # so that the interpreter has no reserve
    armed: list[int] = []
    threshold = gc.get_threshold()
    gc.callbacks.append(drop)
    try:
        for wait in range(1, 30):
            armed.append(1)
            gc.set_threshold(wait)
            with contextlib.suppress(AttributeError, KeyError, SystemError):
                loop._add_reader(peer[0].fileno(), nothing)
            gc.set_threshold(*threshold)
            armed.clear()
            loop._selector = selector
            loop._remove_reader(peer[0].fileno())
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(drop)
    assert tuples
    assert dropped


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the collector runs between bytecodes")
def test_collector_may_replace_the_extra_information_at_the_end_of_a_connection(loop):
    """The end stores the name of the socket in it."""
    protocols = []

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            protocols.append(self)

    def replace(phase, info):
        if armed and phase == "start":
            armed.pop()._extra = {}

    armed: list[asyncio.Transport] = []
    replaced = 0
    server = loop.run_until_complete(loop.create_server(Accepted, "127.0.0.1", 0))
    threshold = gc.get_threshold()
    gc.callbacks.append(replace)
    try:
        for wait in range(1, 30):
            with socket.create_connection(server.sockets[0].getsockname()):
                turns(loop, 5)
                transport = protocols.pop().transport
                tuples = [(n, n) for n in range(5000)]  # so that the interpreter has no reserve
                armed.append(transport)
                gc.set_threshold(wait)
                transport._call_connection_lost(None)
                gc.set_threshold(*threshold)
                replaced += not armed
                armed.clear()
                assert tuples
                turns(loop, 5)
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(replace)
    server.close()
    assert replaced


# Interpreters


@pytest.mark.parametrize("first", ["sub", "main"])
def test_subinterpreter_takes_no_objects_of_the_main_one(first):
    """An interpreter with the same lock. The second one that imports the loop has the standard objects."""
    script = """if True:
        import sys, fastmux
        code = "import fastmux; loop = fastmux.EventLoop(); loop.call_soon(loop.stop); loop.run_forever(); loop.close()"
        if sys.argv[1] == "main":
            exec(code)
        if sys.version_info >= (3, 13):
            import _interpreters
            other = _interpreters.create("legacy")
            failure = _interpreters.exec(other, code)
            assert failure is None, failure
            _interpreters.destroy(other)
        else:
            import _xxsubinterpreters
            other = _xxsubinterpreters.create(isolated=False)
            _xxsubinterpreters.run_string(other, code)
            _xxsubinterpreters.destroy(other)
        loop = fastmux.EventLoop()
        reported = []
        loop.set_exception_handler(lambda loop, context: reported.append(context["exception"]))
        loop.call_soon(lambda: 1 / 0)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        assert len(reported) == 1
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, first], check=True, timeout=TIMEOUT)


def test_loop_without_memory_is_dropped_silently():
    testcapi = pytest.importorskip("_testcapi")
    errors: list[object] = []
    hook, sys.unraisablehook = sys.unraisablehook, errors.append
    try:
        for count in range(1, 40):
            testcapi.set_nomemory(count, count + 1)
            try:
                fastmux.EventLoop.__new__(fastmux.EventLoop)._closed = True
            except MemoryError:
                pass
            finally:
                testcapi.remove_mem_hooks()
    finally:
        sys.unraisablehook = hook
    assert not errors


def test_get_buffer_may_set_another_protocol_which_gets_the_update(loop):
    ours, theirs = socket.socketpair()
    updates = []

    class Buffered(asyncio.BufferedProtocol):
        def get_buffer(self, sizehint):
            transport.set_protocol(other)
            return bytearray(8)

        def buffer_updated(self, nbytes):
            updates.append((self, nbytes))

    first, other = Buffered(), Buffered()

    async def main():
        nonlocal transport
        transport, _ = await loop.create_connection(lambda: first, sock=ours)
        theirs.send(b"data")
        while not updates:
            await asyncio.sleep(0)
        transport.abort()
        await asyncio.sleep(0)

    transport = None
    loop.run_until_complete(main())
    theirs.close()

    assert updates == [(other, 4)]


@pytest.mark.parametrize("end", ["close", "abort"])
def test_get_buffer_may_end_the_connection_after_these_bytes(loop, end):
    ours, theirs = socket.socketpair()
    calls = []

    class Buffered(asyncio.BufferedProtocol):
        def get_buffer(self, sizehint):
            getattr(transport, end)()
            return bytearray(3)

        def buffer_updated(self, nbytes):
            calls.append(nbytes)

        def connection_lost(self, exc):
            calls.append(exc)
            lost.set_result(None)

    async def main():
        nonlocal transport, lost
        lost = loop.create_future()
        transport, _ = await loop.create_connection(Buffered, sock=ours)
        theirs.send(b"data")
        await lost

    transport = lost = None
    loop.run_until_complete(main())
    theirs.close()

    assert calls == [3, None]


def test_a_subclass_counts_its_cancelled_timers(loop):
    counted = []

    class Counting(type(loop)):
        def _timer_handle_cancelled(self, handle):
            counted.append(handle)
            super()._timer_handle_cancelled(handle)

    own = Counting()
    timer = own.call_later(1, counted.clear)
    timer.cancel()
    own.close()

    assert counted == [timer]


# Pipes


@pytest.fixture
def pipe_ends(loop):
    """The transports of both ends of a pipe."""
    theirs, ours = (os.fdopen(fd, mode, 0) for fd, mode in zip(os.pipe(), ("rb", "wb")))
    reader, _ = loop.run_until_complete(loop.connect_read_pipe(asyncio.Protocol, theirs))
    writer, _ = loop.run_until_complete(loop.connect_write_pipe(asyncio.Protocol, ours))
    yield reader, writer
    for transport, pipe in (reader, theirs), (writer, ours):
        with contextlib.suppress(Exception):
            transport.close()
        turns(loop, 2)
        pipe.close()
        transport._pipe = None


DELETED = "deleted"


@pytest.mark.parametrize("value", [None, 1, [], DELETED], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", ["_protocol", "_pipe", "_loop", "_buffer", "_extra"])
def test_any_attribute_of_a_pipe_may_be_replaced(pipe_ends, name, value):
    reader, writer = pipe_ends
    writer.write(bytes(100_000))
    kept = [(end, getattr(end, name)) for end in pipe_ends]
    for end in pipe_ends:
        with contextlib.suppress(AttributeError, TypeError):
            if value is DELETED:
                delattr(end, name)
            else:
                setattr(end, name, value)
    for call in (reader._read_ready, writer._write_ready, writer._write_buffer, lambda: writer.write(b"x")):
        with contextlib.suppress(Exception):
            call()
    for end, before in kept:
        if not end._closing:
            setattr(end, name, before)


@pytest.mark.parametrize("name", ["_fileno", "max_size", "_conn_lost", "_high_water"])
@pytest.mark.parametrize("value", [-(2**31), -1, 0, 2**31 - 2])
def test_any_number_of_a_pipe_may_be_replaced(pipe_ends, name, value):
    reader, writer = pipe_ends
    for end in pipe_ends:
        if hasattr(end, name):
            setattr(end, name, value)
    for call in (lambda: writer.write(b"x"), reader._read_ready):
        with contextlib.suppress(Exception):
            call()


def test_a_pipe_that_was_never_opened_refuses_everything(loop):
    from fastmux.loop.transports import pipe

    for cls in pipe._ReadPipeTransport, pipe._WritePipeTransport:
        transport = cls.__new__(cls)
        for name in "_read_ready", "_write_ready", "_write_buffer", "close", "abort", "pause_reading":
            with contextlib.suppress(AttributeError, NotImplementedError, OSError):
                getattr(transport, name)()
        with contextlib.suppress(AttributeError):
            transport.write(b"x")


def test_a_view_is_free_while_the_rest_is_kept(pipe_ends):
    """The transport keeps a copy: the caller may resize its buffer."""
    data = bytearray(100_000)
    pipe_ends[1].write(data)
    data += b"more"
    pipe_ends[1].write(data)
    data.clear()

    assert pipe_ends[1].get_write_buffer_size() > 0


def test_the_buffer_may_be_freed_by_the_garbage_collector_of_a_cycle(loop):
    """A transport, its protocol and its pipe refer to each other."""
    theirs, ours = (os.fdopen(fd, mode, 0) for fd, mode in zip(os.pipe(), ("rb", "wb")))

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

    transport, protocol = loop.run_until_complete(loop.connect_write_pipe(Protocol, ours))
    transport.write(bytes(100_000))
    protocol.self = protocol
    reference = weakref.ref(protocol)
    transport.abort()
    turns(loop, 2)
    transport.cycle = transport
    del transport, protocol
    gc.collect()
    theirs.close()

    assert reference() is None


# Datagrams


@pytest.fixture
def datagrams(loop):
    """A datagram transport, and a socket whose datagrams it gets."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        transport, _ = loop.run_until_complete(
            loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        )
        sock.connect(transport.get_extra_info("sockname"))
        original = transport._sock
        yield transport, sock
        transport._sock = original
        transport._buffer = []
        transport.abort()
        turns(loop, 2)
        original.close()


@pytest.mark.parametrize("name", ["_sock", "_protocol", "_extra", "_loop", "_buffer", "_address"])
@pytest.mark.parametrize("value", [None, 5, {}, Callback()], ids=["None", "int", "dict", "object"])
def test_a_datagram_transport_whose_attributes_are_other_objects(loop, datagrams, name, value):
    transport, sock = datagrams
    original = getattr(transport, name)
    address = transport.get_extra_info("sockname")
    setattr(transport, name, value)
    sock.send(b"x")
    for call in lambda: transport.sendto(b"x", address), lambda: transport.sendto(b"x"), transport._read_ready:
        with contextlib.suppress(AttributeError, TypeError, KeyError, ValueError):
            call()
    setattr(transport, name, original)


@pytest.mark.parametrize("name", ["_sock", "_protocol", "_extra", "_loop", "_buffer", "_address"])
def test_a_datagram_transport_that_was_never_initialized(datagrams, name):
    transport, _ = datagrams
    empty = type(transport).__new__(type(transport))
    setattr(empty, name, getattr(transport, name))
    for call in lambda: empty.sendto(b"x", ("127.0.0.1", 9)), lambda: empty.sendto(b"x"), empty._read_ready:
        with contextlib.suppress(AttributeError, TypeError, KeyError):
            call()
    empty._sock = None  # for __del__


@pytest.mark.parametrize("name", ["_protocol", "_extra", "_loop", "_sock"])
def test_a_datagram_callback_may_replace_everything(loop, datagrams, name):
    transport, sock = datagrams
    original = getattr(transport, name)

    class Protocol(asyncio.DatagramProtocol):
        def datagram_received(self, data, addr):
            received.append(data)
            setattr(transport, name, None)
            gc.collect()

    received: list[bytes] = []
    transport.set_protocol(Protocol())
    for _ in range(3):
        sock.send(b"x")
    with contextlib.suppress(AttributeError):
        transport._read_ready()
    setattr(transport, name, original)

    assert received


# Waits of sock_recv() etc.


def test_a_wait_that_is_driven_by_hand(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wait = loop._readable(ours.fileno())
        assert iter(wait) is wait
        assert asyncio.isfuture(next(wait))
        assert ours.fileno() in loop._selector.get_map()
        assert list(wait) == []
        assert ours.fileno() not in loop._selector.get_map()
        wait.close()
        for args in [(5,), (), (1, 2, 3, 4)]:
            with pytest.raises(TypeError):
                wait.throw(*args)
        for args in [(KeyError("x"),), (KeyError,), (KeyError, None, None), (KeyError, "x", 5)]:
            with pytest.raises(KeyError):
                wait.throw(*args)
        loop._writable(ours.fileno())
        assert ours.fileno() not in loop._selector.get_map()


def test_a_wait_outlives_its_loop(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        waits = [loop._readable(ours.fileno()), loop.sock_recv(ours, 10)]
        ours.setblocking(False)
        waits[1].send(None)
        loop.close()
        del loop
        gc.collect()
        waits[1].close()
        waits.clear()


@pytest.mark.parametrize("fd", [-1, None, "x", 1 << 70, 100_000])
def test_a_wait_for_no_descriptor_is_refused(loop, fd):
    with pytest.raises((ValueError, TypeError, OSError, OverflowError, KeyError)):
        loop._readable(fd)


@pytest.mark.parametrize("function", ["attempt", "receive", "send"])
@pytest.mark.parametrize("args", [(), (1,), (1, 2), (1, 2, 3)])
def test_wrong_arguments_of_the_functions_in_c_are_refused(function, args):
    from fastmux.loop import core

    with pytest.raises((TypeError, AttributeError)):
        getattr(core._native, function)(*args)


# Signal handlers that end a transport whose turn it is


@pytest.mark.parametrize("method", ["_read_ready", "_write_ready"])
def test_a_signal_handler_may_abort_the_transport_that_is_called_next(loop, connect, peer, method):
    events, reports = [], []
    loop.set_exception_handler(lambda loop, context: reports.append(context))

    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            events.append("data")

        def resume_writing(self):
            events.append("resume")

        def connection_lost(self, exc):
            events.append("lost")

    transport = connect(Protocol)
    transport.write(bytes(2_000_000))
    peer[0].send(b"data")
    previous = signal.signal(signal.SIGUSR1, lambda *args: transport.abort())
    try:
        loop.call_soon(_thread.interrupt_main, signal.SIGUSR1)
        loop.call_soon(getattr(transport, method))
        loop._run_once()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    turns(loop, 3)

    assert events == ["lost"]
    assert reports == []
