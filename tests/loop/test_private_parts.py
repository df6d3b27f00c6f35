"""Programs that replace or look at private parts of asyncio: monitoring, fake clocks, mocked sockets, nested loops.

By hand, and with tools from the package index. Without a tool, its tests are skipped; FASTMUX_REQUIRE_TOOLS=1 makes
that a failure.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import datetime
import heapq
import importlib
import importlib.util
import os
import socket
import threading
import time
import warnings
from asyncio import selector_events
from unittest import mock

import pytest

from .connections import BufferedRecorder, Recorder, close, connect, settle, until

TIMEOUT = 20
HOUR = 3600


@pytest.fixture
def tool():
    """Import a module of the package index, or skip."""

    def find(name):
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            missing = f"no {name} here (pip install {name})"
            if os.environ.get("FASTMUX_REQUIRE_TOOLS"):
                pytest.fail(missing)
            pytest.skip(missing)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tool itself
            return importlib.import_module(name)

    return find


@pytest.fixture
def watch():
    """Stop a loop after some seconds of real time, if its own clock does not end the test."""
    threads = []

    def start(loop):
        threads.append(threading.Timer(TIMEOUT / 4, loop.call_soon_threadsafe, [loop.stop]))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.cancel()
        thread.join()


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def exchange(protocol, theirs):
    """Receive and send one message."""
    before = len(protocol.data)
    theirs.send(b"ping")
    await until(lambda: len(protocol.data) == before + 4)
    protocol.transport.write(b"pong")
    await until(lambda: received_by(theirs) == b"pong")


def received_by(sock):
    try:
        return sock.recv(100)
    except BlockingIOError:
        return b""


# Handle._run


def callback():
    """A callback with a name."""


@pytest.fixture
def wrap(monkeypatch):
    """Wrap Handle._run, as monitoring tools do. Returns the list of callbacks that it sees."""
    run_handle = asyncio.Handle._run

    def do():
        seen = []

        def wrapped(self):
            seen.append(getattr(self._callback, "__name__", None))
            return run_handle(self)

        monkeypatch.setattr(asyncio.Handle, "_run", wrapped)
        return seen

    yield do
    monkeypatch.undo()


async def use_every_kind_of_handle(loop, socketpair):
    """Run callbacks that are called soon, soon threadsafe, later, and when a file is ready."""
    ours, theirs = socketpair
    called = []

    def soon():
        called.append("soon")

    def threadsafe():
        called.append("threadsafe")

    def later():
        called.append("later")

    def reader():
        called.append("reader")
        loop.remove_reader(ours)

    def writer():
        called.append("writer")
        loop.remove_writer(theirs)

    theirs.send(b"x")
    loop.add_reader(ours, reader)
    loop.add_writer(theirs, writer)
    loop.call_soon(soon)
    loop.call_soon_threadsafe(threadsafe)
    loop.call_later(0, later)
    await until(lambda: len(called) == 5)
    ours.recv(100)


KINDS = {"soon", "threadsafe", "later", "reader", "writer"}


def test_handle_run_that_was_wrapped_before_sees_all_callbacks(loop, run, socketpair, wrap):
    seen = wrap()
    run(use_every_kind_of_handle(loop, socketpair))

    assert KINDS & set(seen) == KINDS


def test_handle_run_that_is_wrapped_while_the_loop_runs_sees_all_callbacks(loop, run, socketpair, wrap):
    """Some turns later: the loop does not look at it for each callback."""

    async def main():
        await use_every_kind_of_handle(loop, socketpair)
        seen = wrap()
        await turns(20)
        seen.clear()
        await use_every_kind_of_handle(loop, socketpair)
        return KINDS & set(seen)

    assert run(main()) == KINDS


def test_handle_run_sees_the_callbacks_of_a_connection(loop, run, wrap):
    async def main():
        protocol, theirs = await connect()
        seen = wrap()
        await turns(20)
        seen.clear()
        await exchange(protocol, theirs)
        await close([protocol], [theirs])
        return {"_read_ready", "_call_connection_lost"} & set(seen)

    assert run(main()) == {"_read_ready", "_call_connection_lost"}


def test_handle_run_that_is_restored_sees_no_more(loop, run, wrap, monkeypatch):
    async def main():
        seen = wrap()
        await turns(20)
        monkeypatch.undo()
        await turns(20)
        seen.clear()
        loop.call_soon(callback)
        await turns(20)
        return seen

    assert run(main()) == []


def test_each_callback_runs_once_whatever_happens_to_handle_run(loop, run, wrap, monkeypatch):
    numbers = []

    async def main():
        for number in range(200):
            loop.call_soon(numbers.append, number)
            if number % 40 == 10:
                wrap()
            if number % 40 == 30:
                monkeypatch.undo()
            await asyncio.sleep(0)

    run(main())

    assert numbers == list(range(200))


def test_aiodebug_reports_a_slow_callback(loop, run, tool, wrap):
    log_slow_callbacks = tool("aiodebug.log_slow_callbacks")
    reports = []
    wrap()  # is undone at the end

    def slow():
        time.sleep(0.02)

    async def main():
        loop.call_soon(callback)
        log_slow_callbacks.enable(0.01, lambda name, duration: reports.append((name, duration >= 0.01)))
        await turns(20)
        reports.clear()
        loop.call_soon(slow)
        loop.call_later(0, slow)
        await until(lambda: len(reports) >= 2)

    run(main())

    assert [(("slow" in name), is_slow) for name, is_slow in reports if "slow" in name] == [(True, True)] * 2


# The selector's select()


def test_a_replaced_select_is_called_in_every_turn(loop, run):
    timeouts = []

    async def main():
        select = loop._selector.select
        loop._selector.select = lambda timeout=None: timeouts.append(timeout) or select(timeout)
        await turns(10)
        del loop._selector.select
        await asyncio.sleep(0)
        return len(timeouts)

    assert run(main()) in (9, 10)


def test_what_a_replaced_select_returns_is_processed(loop, run, socketpair):
    """It keeps a ready file back until it is told not to."""
    ours, theirs = socketpair
    order = []
    keeping = True

    async def main():
        nonlocal keeping
        select = loop._selector.select

        def later(timeout=None):
            found = select(0 if keeping else timeout)
            return [] if keeping else found

        loop.add_reader(ours, lambda: (order.append("reader"), loop.remove_reader(ours)))
        loop._selector.select = later
        theirs.send(b"x")
        await turns(5)
        order.append("allowed")
        keeping = False
        await until(lambda: "reader" in order)
        del loop._selector.select

    run(main())

    assert order == ["allowed", "reader"]


def test_a_replaced_select_is_used_by_connections(loop, run):
    async def main():
        protocol, theirs = await connect()
        select, found = loop._selector.select, []

        def recording(timeout=None):
            ready = select(timeout)
            found.extend(key.fd for key, _ in ready)
            return ready

        loop._selector.select = recording
        await exchange(protocol, theirs)
        del loop._selector.select
        number = protocol.transport.get_extra_info("socket").fileno()
        await exchange(protocol, theirs)
        await close([protocol], [theirs])
        return number in found

    assert run(main())


def test_a_selector_of_its_own_class_with_select_works(loop, run, socketpair):
    """loop._selector itself is wrapped."""

    class Wrapper:
        def __init__(self, selector):
            self._selector = selector
            self.calls = 0

        def __getattr__(self, name):
            return getattr(self._selector, name)

        def select(self, timeout=None):
            self.calls += 1
            return self._selector.select(timeout)

    async def main():
        selector = loop._selector
        loop._selector = Wrapper(selector)
        await use_every_kind_of_handle(loop, socketpair)
        calls = loop._selector.calls
        loop._selector = selector
        await use_every_kind_of_handle(loop, socketpair)
        return calls > 0

    assert run(main())


# The clock


class FakeClock:
    """Time that passes only while the loop would sleep."""

    def __init__(self, loop):
        self.now = 1000.0
        self.select = loop._selector.select
        loop._selector.select = self.skip

    def time(self):
        return self.now

    def skip(self, timeout=None):
        ready = self.select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


async def sleep_in_turn(loop):
    """Return what happens in two hours, and how long that was on the loop's clock."""
    order = []
    before = loop.time()
    loop.call_later(2 * HOUR, order.append, "timer")
    sleeping = asyncio.ensure_future(asyncio.sleep(HOUR))
    await sleeping
    order.append("slept")
    await asyncio.sleep(HOUR + 1)
    return order, round(loop.time() - before)


def test_a_clock_that_is_assigned_rules_the_timers(loop, watch):
    clock = FakeClock(loop)
    loop.time = clock.time
    watch(loop)

    assert loop.run_until_complete(sleep_in_turn(loop)) == (["slept", "timer"], 2 * HOUR + 1)


def test_a_clock_that_is_assigned_while_the_loop_runs_rules_the_timers(loop, watch):
    async def main():
        await asyncio.sleep(0.001)
        clock = FakeClock(loop)
        loop.time = clock.time
        result = await sleep_in_turn(loop)
        del loop._selector.select
        return result

    watch(loop)

    assert loop.run_until_complete(main()) == (["slept", "timer"], 2 * HOUR + 1)


def test_a_clock_of_a_subclass_rules_the_timers(loop, watch):
    class Loop(type(loop)):
        clock = None

        def time(self):
            return super().time() if self.clock is None else self.clock.time()

    own = Loop()
    own.clock = FakeClock(own)
    watch(own)
    try:
        assert own.run_until_complete(sleep_in_turn(own)) == (["slept", "timer"], 2 * HOUR + 1)
    finally:
        own.close()


def test_a_clock_of_a_class_that_the_loop_is_given_later_rules_the_timers(loop, watch):
    """As looptime does with loops that exist."""
    base = type(loop)
    clock = FakeClock(loop)
    loop.__class__ = type("Loop", (base,), {"time": lambda self: clock.time()})
    watch(loop)
    try:
        assert loop.run_until_complete(sleep_in_turn(loop)) == (["slept", "timer"], 2 * HOUR + 1)
    finally:
        loop.__class__ = base


def test_a_clock_that_is_set_on_the_class_rules_the_timers(loop, watch, monkeypatch):
    """As freezegun does with real_asyncio=True."""
    clock = FakeClock(loop)
    monkeypatch.setattr(type(loop), "time", lambda self: clock.time())
    watch(loop)

    assert loop.run_until_complete(sleep_in_turn(loop)) == (["slept", "timer"], 2 * HOUR + 1)


def test_a_clock_that_replaces_time_monotonic_rules_the_timers(loop, watch, monkeypatch):
    clock = FakeClock(loop)
    monkeypatch.setattr(time, "monotonic", clock.time)
    watch(loop)

    assert loop.run_until_complete(sleep_in_turn(loop)) == (["slept", "timer"], 2 * HOUR + 1)


def test_a_clock_that_jumps_makes_timers_due(loop, watch):
    async def main():
        offset = 0.0
        own = loop.time
        loop.time = lambda: own() + offset
        sleeping = asyncio.ensure_future(asyncio.sleep(HOUR, "slept"))
        await asyncio.sleep(0)
        offset = HOUR
        return await sleeping

    watch(loop)

    assert loop.run_until_complete(main()) == "slept"


@pytest.mark.parametrize("way", ["existing", "class"])
def test_looptime_skips_the_time_that_the_loop_would_sleep(loop, tool, watch, way):
    looptime = tool("looptime")
    base = type(loop)
    own = (
        looptime.patch_event_loop(loop, start=0) if way == "existing" else looptime.make_event_loop_class(base)(start=0)
    )
    watch(own)
    try:
        assert own.run_until_complete(sleep_in_turn(own)) == (["slept", "timer"], 2 * HOUR + 1)
    finally:
        own.close()


def test_freezegun_freezes_the_loop_until_it_ticks(loop, tool, watch):
    freezegun = tool("freezegun")

    async def main(frozen):
        sleeping = asyncio.ensure_future(asyncio.sleep(HOUR))
        await turns(50)
        before = sleeping.done()
        frozen.tick(HOUR + 1)
        await turns(3)
        await sleeping
        return before, datetime.datetime.now().isoformat()

    watch(loop)
    with freezegun.freeze_time("2030-01-01") as frozen:
        assert loop.run_until_complete(main(frozen)) == (False, "2030-01-01T01:00:01")


@pytest.mark.parametrize("found", ["own", "standard"])
def test_freezegun_can_leave_the_loop_its_clock(loop, tool, watch, found):
    """It replaces time() of the class that asyncio.new_event_loop() returns: this loop's, or the standard loop's."""
    freezegun = tool("freezegun")
    subclass = type("Loop", (type(loop),), {})  # freezegun leaves a time() of its own in the class
    own = subclass()

    async def main():
        await asyncio.sleep(0.001)
        return datetime.datetime.now().isoformat()

    def stop(task):
        own.stop()

    with contextlib.ExitStack() as stack:
        if found == "own":
            stack.enter_context(mock.patch("asyncio.new_event_loop", subclass))
        watch(own)
        stack.enter_context(freezegun.freeze_time("2030-01-01", real_asyncio=True))
        task = own.create_task(main())
        task.add_done_callback(stop)
        own.run_forever()
    task.remove_done_callback(stop)
    task.cancel()
    own.run_until_complete(asyncio.wait([task]))
    own.close()

    assert not task.cancelled()
    assert task.result() == "2030-01-01T00:00:00"


# The size of a piece


async def sizes_of_pieces(protocol, theirs, count=10_000):
    sizes = []
    protocol.on_data = lambda protocol: sizes.append(len(protocol.data) - sum(sizes))
    protocol.data = b""
    theirs.send(bytes(count))
    await until(lambda: sum(sizes) == count)
    return max(sizes)


@pytest.mark.parametrize("size", [1, 1000, 1_000_000])
def test_max_size_of_a_transport_limits_its_pieces(run, size):
    async def main():
        protocol, theirs = await connect()
        protocol.transport.max_size = size
        largest = await sizes_of_pieces(protocol, theirs)
        await close([protocol], [theirs])
        return largest

    assert run(main()) == min(size, 10_000)


def test_max_size_of_the_standard_class_limits_the_pieces_of_new_transports(run, monkeypatch):
    monkeypatch.setattr(selector_events._SelectorSocketTransport, "max_size", 1000)

    async def main():
        protocol, theirs = await connect()
        largest = await sizes_of_pieces(protocol, theirs)
        await close([protocol], [theirs])
        return largest

    assert run(main()) == 1000


# Sockets with methods of their own


class RecordingSocket(socket.socket):
    """Records which of its methods move data."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.calls = []

    def recv(self, *args):
        self.calls.append("recv")
        return super().recv(*args).upper()

    def recv_into(self, buffer, *args):
        self.calls.append("recv_into")
        count = super().recv_into(buffer, *args)
        buffer[:count] = bytes(buffer[:count]).upper()
        return count

    def send(self, data, *args):
        self.calls.append("send")
        return super().send(bytes(data).upper(), *args)

    def sendmsg(self, buffers, *args):
        self.calls.append("sendmsg")
        return super().sendmsg([bytes(data).upper() for data in buffers], *args)


@pytest.mark.parametrize(("factory", "method"), [(Recorder, "recv"), (BufferedRecorder, "recv_into")])
def test_a_transport_receives_by_the_method_of_a_subclass_of_socket(loop, run, factory, method):
    async def main():
        ours, theirs = socket.socketpair()
        sock = RecordingSocket(fileno=ours.detach())
        _, protocol = await loop.create_connection(factory, sock=sock)
        theirs.send(b"data")
        await until(lambda: protocol.data)
        await close([protocol], [theirs])
        return protocol.data, set(sock.calls)

    assert run(main()) == (b"DATA", {method})


@pytest.mark.parametrize("way", ["write", "writelines", "write what does not fit"])
def test_a_transport_sends_by_the_methods_of_a_subclass_of_socket(loop, run, way):
    data = b"data" * (500_000 if way == "write what does not fit" else 1)

    async def main():
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        sock = RecordingSocket(fileno=ours.detach())
        _, protocol = await loop.create_connection(Recorder, sock=sock)
        if way == "writelines":
            protocol.transport.writelines([data[:2], data[2:]])
        else:
            protocol.transport.write(data)
        received = b""
        while len(received) < len(data):
            received += await loop.sock_recv(theirs, 1 << 20)
        await close([protocol], [theirs])
        return received, bool(sock.calls)

    assert run(main()) == (data.upper(), True)


def test_the_sock_calls_use_the_methods_of_a_subclass_of_socket(loop, run):
    async def main():
        ours, theirs = socket.socketpair()
        with RecordingSocket(fileno=ours.detach()) as sock, theirs:
            sock.setblocking(False)
            theirs.send(b"data")
            received = await loop.sock_recv(sock, 100)
            buffer = bytearray(4)
            receiving = loop.create_task(loop.sock_recv_into(sock, memoryview(buffer)))
            await asyncio.sleep(0)
            theirs.send(b"more")
            await receiving
            await loop.sock_sendall(sock, b"sent")
            return received, bytes(buffer), theirs.recv(100)

    assert run(main()) == (b"DATA", b"MORE", b"SENT")


def test_a_server_accepts_by_the_method_of_a_subclass_of_socket(loop, run):
    class Listening(socket.socket):
        def accept(self):
            conn, address = super().accept()
            return RecordingSocket(fileno=conn.detach()), address

    async def main():
        made = []
        listening = Listening()
        listening.bind(("127.0.0.1", 0))
        server = await loop.create_server(lambda: made.append(Recorder()) or made[-1], sock=listening)
        client = socket.create_connection(listening.getsockname())
        client.send(b"data")
        await until(lambda: made and made[0].data)
        server.close()
        await close(made, [client])
        return made[0].data

    assert run(main()) == b"DATA"


PATCHES = {
    "recv": (Recorder, lambda: mock.patch.object(socket.socket, "recv", RecordingSocket_recv)),
    "recv_into": (BufferedRecorder, lambda: mock.patch.object(socket.socket, "recv_into", RecordingSocket_recv_into)),
}


def RecordingSocket_recv(self, *args):  # noqa: N802
    return super(socket.socket, self).recv(*args).upper()


def RecordingSocket_recv_into(self, buffer, *args):  # noqa: N802
    count = super(socket.socket, self).recv_into(buffer, *args)
    buffer[:count] = bytes(buffer[:count]).upper()
    return count


@pytest.mark.parametrize("name", PATCHES)
def test_a_new_transport_receives_by_a_patched_method_of_socket(run, name):
    factory, patch = PATCHES[name]

    async def main():
        protocol, theirs = await connect(factory)
        theirs.send(b"data")
        await until(lambda: protocol.data)
        await close([protocol], [theirs])
        return protocol.data

    with patch():
        assert run(main()) == b"DATA"
    assert run(main()) == b"data"


@pytest.mark.parametrize("name", PATCHES)
def test_a_transport_receives_by_a_method_of_socket_that_is_patched_later(run, name):
    factory, patch = PATCHES[name]

    async def main():
        protocol, theirs = await connect(factory)
        theirs.send(b"one")
        await until(lambda: protocol.data == b"one")
        with patch():
            theirs.send(b"two")
            await until(lambda: len(protocol.data) == 6)
        theirs.send(b"three")
        await until(lambda: len(protocol.data) == 11)
        await close([protocol], [theirs])
        return protocol.data

    assert run(main()) == b"oneTWOthree"


def test_a_new_transport_sends_by_a_patched_method_of_socket(run):
    def send(self, data, *args):
        return super(socket.socket, self).send(bytes(data).upper(), *args)

    async def main():
        protocol, theirs = await connect()
        protocol.transport.write(b"data")
        received = theirs.recv(100)
        await close([protocol], [theirs])
        return received

    with mock.patch.object(socket.socket, "send", send):
        assert run(main()) == b"DATA"


def test_errors_of_a_mocked_recv_reach_the_protocol(run):
    async def main():
        protocol, theirs = await connect()
        theirs.send(b"data")
        error = await protocol.lost
        theirs.close()
        return type(error), str(error)

    with mock.patch.object(socket.socket, "recv", side_effect=ConnectionResetError("mocked")):
        assert run(main()) == (ConnectionResetError, "mocked")


@pytest.mark.parametrize("direct", [True, False], ids=["own method", "inherited method"])
def test_a_class_that_replaces_socket_is_used_with_its_methods(loop, run, monkeypatch, direct):
    """socket.socket is the replacement while the transport is made."""

    class Inheriting(RecordingSocket):
        pass

    async def main():
        ours, theirs = socket.socketpair()
        replacement = RecordingSocket if direct else Inheriting
        sock = replacement(fileno=ours.detach())
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", replacement)
            _, protocol = await loop.create_connection(Recorder, sock=sock)
            theirs.send(b"data")
            await until(lambda: protocol.data)
        await close([protocol], [theirs])
        return protocol.data

    assert run(main()) == b"DATA"


MOCKET = """
import asyncio, sys, warnings
import fastmux

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mocket import Mocket, MocketEntry, Mocketizer

loop = {"fastmux": fastmux.EventLoop, "standard": asyncio.SelectorEventLoop}[sys.argv[1]]()

async def main():
    reader, writer = await asyncio.open_connection("198.51.100.1", 80)
    writer.write(b"request")
    await writer.drain()
    answer = await reader.readexactly(6)
    writer.close()
    return answer.decode(), [bytes(request).decode() for request in Mocket.request_list()]

with Mocketizer(namespace="test"):
    Mocket.register(MocketEntry(("198.51.100.1", 80), [b"answer"]))
    print(*loop.run_until_complete(asyncio.wait_for(main(), 20)))
loop.close()
"""


@pytest.mark.parametrize("name", ["fastmux", "standard"])
def test_mocket_answers_for_a_host(tool, run_python, name):
    tool("mocket")

    assert run_python(MOCKET, name) == "answer ['request']\n"


# The queue and the timers


def test_the_queue_holds_the_handles_of_callbacks_in_order(loop):
    handles = [loop.call_soon(callback), loop.call_soon(print, 1)]

    assert list(loop._ready) == handles
    assert [handle._callback for handle in loop._ready] == [callback, print]
    assert (len(loop._ready), bool(loop._ready)) == (2, True)
    assert (loop._ready[0], loop._ready[-1]) == (handles[0], handles[1])
    assert handles[1] in loop._ready


def test_an_empty_queue_is_false(loop, run):
    async def main():
        await asyncio.sleep(0)
        return bool(loop._ready), len(loop._ready), list(loop._ready)

    assert run(main()) == (False, 0, [])


CHANGES = {
    "popleft": lambda queue: queue.popleft(),
    "popleft, append": lambda queue: queue.append(queue.popleft()),
    "popleft, appendleft": lambda queue: queue.appendleft(queue.popleft()),
    "pop, appendleft": lambda queue: queue.appendleft(queue.pop()),
    "remove": lambda queue: queue.remove(queue[2]),
    "extend": lambda queue: queue.extend([queue.popleft(), queue.popleft()]),
    "extendleft": lambda queue: queue.extendleft([queue.popleft(), queue.popleft()]),
    "rotate": lambda queue: queue.rotate(1),
    "del": lambda queue: queue.__delitem__(1),
    "assign": lambda queue: queue.__setitem__(1, queue[0]),
    "copy": lambda queue: queue.extend(queue.copy()),
    "reversed": lambda queue: queue.extend(list(reversed(queue))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_program_may_change_the_queue(loop, change):
    ran, expected = [], collections.deque(range(5))
    for number in range(5):
        loop.call_soon(ran.append, number)
    CHANGES[change](loop._ready)
    CHANGES[change](expected)
    loop.call_soon(loop.stop)
    loop.run_forever()

    assert list(expected) == ran


def test_a_program_may_queue_a_handle_that_it_made(loop):
    ran = []
    loop._ready.append(asyncio.Handle(ran.append, ("made by hand",), loop, contextvars.copy_context()))
    loop.call_soon(loop.stop)
    loop.run_forever()

    assert ran == ["made by hand"]


def test_a_program_may_clear_the_queue(loop):
    ran = []
    loop.call_soon(ran.append, 1)
    loop._ready.clear()
    loop.call_soon(loop.stop)
    loop.run_forever()

    assert ran == []


def test_a_program_may_replace_the_queue(loop):
    ran = []
    loop.call_soon(ran.append, 1)
    loop._ready = collections.deque(reversed([*loop._ready, loop.call_soon(ran.append, 2)]))
    loop.call_soon(loop.stop)
    loop.run_forever()

    assert ran == [2, 1]


def test_a_program_may_run_a_turn_by_hand(loop):
    """As debuggers and GUI event loops do."""
    ran = []
    loop.call_soon(ran.append, 1)
    loop.call_soon(lambda: loop.call_soon(ran.append, 2))
    loop._run_once()
    after_one = list(ran)
    loop._run_once()

    assert (after_one, ran) == ([1], [1, 2])


def log_turns(loop, log):
    """Replace _run_once() by a function that logs each call."""
    original = loop._run_once
    loop._run_once = lambda: (log.append("turn"), original())


def queue_chain(loop, log, left):
    """Queue callbacks for so many turns, one each; then stop."""
    log.append("callback")
    if left > 1:
        loop.call_soon(queue_chain, loop, log, left - 1)
    else:
        loop.stop()


def test_a_callback_may_run_a_turn(loop):
    ran = []

    def nested():
        loop.call_soon(lambda: (ran.append(1), loop.call_soon(ran.append, 2)))
        loop._run_once()
        ran.append("nested")
        loop.call_soon(loop.stop)

    loop.call_soon(nested)
    loop.run_forever()

    assert ran == [1, "nested", 2]


def test_a_program_may_replace_run_once(loop):
    log = []
    log_turns(loop, log)
    loop.call_soon(queue_chain, loop, log, 5)
    loop.run_forever()

    assert log == ["turn", "callback"] * 5


def test_a_callback_may_replace_run_once(loop):
    log = []
    loop.call_soon(log_turns, loop, log)
    loop.call_soon(loop.call_soon, queue_chain, loop, log, 5)
    loop.run_forever()

    assert log == ["turn", "callback"] * 5


def test_a_subclass_may_have_its_own_run_once(loop):
    log = []

    class Logging(type(loop)):
        def _run_once(self):
            log.append("turn")
            super()._run_once()

    with contextlib.closing(Logging()) as own:
        own.call_soon(queue_chain, own, log, 5)
        own.run_forever()

    assert log == ["turn", "callback"] * 5


def test_the_timers_are_a_heap_of_handles_by_time(loop):
    now = loop.time()
    timers = [loop.call_at(now + delay, callback) for delay in (3, 1, 2)]

    assert loop._scheduled[0] is timers[1]
    assert sorted(loop._scheduled) == [timers[1], timers[2], timers[0]]
    assert [timer._when for timer in sorted(loop._scheduled)] == [now + 1, now + 2, now + 3]
    assert [timer._scheduled for timer in timers] == [True] * 3
    assert all(type(loop._scheduled) is list and isinstance(timer, asyncio.TimerHandle) for timer in loop._scheduled)
    assert (timers[1] < timers[2], timers[1] >= timers[2], timers[0].when()) == (True, False, now + 3)


def test_a_program_may_take_a_timer_off_the_heap(loop):
    ran = []
    loop.call_later(0, ran.append, "first")
    loop.call_later(0.001, ran.append, "second")
    loop.call_later(0.002, loop.stop)
    heapq.heappop(loop._scheduled)
    loop.run_forever()

    assert ran == ["second"]


def test_a_program_may_push_a_timer_onto_the_heap(loop):
    ran = []
    now = loop.time()
    timer = asyncio.TimerHandle(now - 1, ran.append, ("by hand",), loop, contextvars.copy_context())
    timer._scheduled = True
    heapq.heappush(loop._scheduled, timer)
    loop.call_later(0.001, ran.append, "own")
    loop.call_later(0.002, loop.stop)
    loop.run_forever()

    assert ran == ["by hand", "own"]


def test_a_program_may_clear_the_timers(loop):
    ran = []
    loop.call_later(0, ran.append, 1)
    loop._scheduled.clear()
    loop.call_later(0.001, loop.stop)
    loop.run_forever()

    assert ran == []


def test_a_program_may_replace_the_timers(loop):
    ran = []
    loop.call_later(0, ran.append, 1)
    kept = loop.call_later(0.001, ran.append, 2)
    loop._scheduled = [kept]
    loop.call_later(0.002, loop.stop)
    loop.run_forever()

    assert ran == [2]


def test_the_attributes_of_a_handle_are_those_of_the_standard_one(loop):
    handle = loop.call_soon(print, 1, 2)
    timer = loop.call_later(HOUR, print)

    assert (handle._callback, handle._args, handle._cancelled, handle._loop) == (print, (1, 2), False, loop)
    assert isinstance(handle._context, contextvars.Context)
    assert handle._source_traceback is None
    handle.cancel()
    timer.cancel()
    assert (handle._callback, handle._args, handle._cancelled) == (None, None, True)
    assert (handle.cancelled(), timer.cancelled()) == (True, True)
    assert "cancelled" in repr(handle)


# Debug mode


def test_debug_mode_that_is_turned_on_while_the_loop_runs_records_where_handles_come_from(loop, run):
    async def main():
        before = loop.call_soon(callback)
        loop.set_debug(True)
        during = [loop.call_soon(callback), loop.call_later(0, callback)]
        loop.set_debug(False)
        after = loop.call_soon(callback)
        await asyncio.sleep(0.001)
        return [handle._source_traceback is not None for handle in (before, *during, after)]

    assert run(main()) == [False, True, True, False]


@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
def test_a_connection_works_while_debug_mode_is_turned_on_and_off(loop, run, factory):
    async def main():
        protocol, theirs = await connect(factory)
        for debug in (True, False, True):
            loop.set_debug(debug)
            await exchange(protocol, theirs)
        other, other_peer = await connect(factory)
        for debug in (True, False, True):
            loop.set_debug(debug)
            await exchange(other, other_peer)
        loop.set_debug(False)
        await close([protocol, other], [theirs, other_peer])
        return protocol.data, other.data

    assert run(main()) == (b"ping" * 3, b"ping" * 3)


def test_readers_and_timers_survive_a_change_of_debug_mode(loop, run, socketpair):
    ours, theirs = socketpair
    order = []

    async def main():
        loop.add_reader(ours, lambda: (order.append("reader"), loop.remove_reader(ours)))
        loop.call_later(0.002, order.append, "timer")
        loop.set_debug(True)
        await asyncio.sleep(0)
        theirs.send(b"x")
        await until(lambda: len(order) == 2)
        loop.set_debug(False)

    run(main())

    assert sorted(order) == ["reader", "timer"]


@pytest.mark.parametrize("start", [True, False])
def test_cancelled_timers_are_counted_right_when_debug_mode_changes(loop, run, start):
    """The first removal of many cancelled timers is on the other side of the change."""

    async def main():
        loop.set_debug(start)
        timers = [loop.call_later(HOUR, callback) for _ in range(300)]
        loop.set_debug(not start)
        for timer in timers:
            timer.cancel()
        await settle()
        loop.set_debug(False)
        return len(loop._scheduled) < 5, loop._timer_cancelled_count

    assert run(main()) == (True, 0)


# Nested loops

NESTED = """
import asyncio, socket, sys, warnings
import fastmux

warnings.simplefilter("ignore", DeprecationWarning)
import nest_asyncio

loop = {"fastmux": fastmux.EventLoop, "standard": asyncio.SelectorEventLoop}[sys.argv[1]]()
asyncio.set_event_loop(loop)
nest_asyncio.apply(loop)

async def inner():
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    theirs.send(b"inner")
    data = await reader.readexactly(5)
    writer.close()
    theirs.close()
    await asyncio.sleep(0.001)
    return data.decode()

async def outer():
    concurrent = loop.create_task(asyncio.sleep(0.001, "concurrent"))
    nested = loop.run_until_complete(inner())
    again = asyncio.run(inner())
    return "outer", nested, again, await concurrent

print(*loop.run_until_complete(outer()))
loop.close()
"""


@pytest.mark.parametrize("name", ["fastmux", "standard"])
def test_nest_asyncio_runs_a_loop_inside_of_itself(tool, run_python, name):
    tool("nest_asyncio")

    assert run_python(NESTED, name) == "outer inner inner concurrent\n"
