"""The repeated operations. Each case creates a function that makes one round and restores the state."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import select as standard_select
import selectors as standard_selectors
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import fastmux
from fastmux import READ, WRITE, select, selectors
from fastmux.selectors import EVENT_READ, EVENT_WRITE

Step = Callable[[], Any]

#: A descriptor that is not open. (select(2) ignores numbers from 64 on in a process with few descriptors.)
UNUSED = 63


class Case(NamedTuple):
    make: Callable[[ExitStack], Step]
    rounds: int  # in a long run


def readable(stack: ExitStack) -> socket.socket:
    """Return a readable and writable socket."""
    ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
    theirs.send(b"x")
    return ours


def expect(expected: Any, found: Any) -> None:
    if found != expected:
        raise AssertionError(f"{found!r} instead of {expected!r}")


# Registrations


def use_poller(make: Callable[[], Any], stack: ExitStack) -> Step:
    sock, poller = readable(stack), stack.enter_context(make())

    def step() -> None:
        poller.register(sock, READ, step)
        expect([(sock.fileno(), READ)], poller.poll(0))
        poller.modify(sock, READ | WRITE)
        expect(1, len(poller.select(0)))
        expect(1, poller.wait(0))
        poller.unregister(sock)

    return step


def use_selector(make: Callable[[], Any], stack: ExitStack) -> Step:
    sock, selector = readable(stack), stack.enter_context(make())

    def step() -> None:
        key = selector.register(sock, EVENT_READ, step)
        expect([(key, EVENT_READ)], selector.select(0))
        key = selector.modify(sock, EVENT_READ | EVENT_WRITE)
        expect([(key, EVENT_READ | EVENT_WRITE)], selector.select(0))
        selector.unregister(sock)

    return step


def use_epoll(stack: ExitStack) -> Step:
    fd, epoll = readable(stack).fileno(), stack.enter_context(select.epoll())

    def step() -> None:
        epoll.register(fd, select.EPOLLIN)
        expect([(fd, select.EPOLLIN)], epoll.poll(0))
        epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT)
        expect([(fd, select.EPOLLIN | select.EPOLLOUT)], epoll.poll(0, 5))
        epoll.unregister(fd)

    return step


def use_poll(stack: ExitStack) -> Step:
    fd, poll = readable(stack).fileno(), select.poll()

    def step() -> None:
        poll.register(fd, select.POLLIN)
        expect([(fd, select.POLLIN)], poll.poll(0))
        poll.modify(fd, select.POLLIN | select.POLLOUT)
        expect([(fd, select.POLLIN | select.POLLOUT)], poll.poll(1))
        poll.unregister(fd)

    return step


def use_select(stack: ExitStack) -> Step:
    sock = readable(stack)

    def step() -> None:
        expect(([sock], [sock], []), select.select([sock], [sock], [sock], 0))

    return step


def report_errors(make: Callable[[], Any], stack: ExitStack) -> Step:
    """Report a hang-up."""
    ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
    theirs.close()
    poller = stack.enter_context(make())

    def step() -> None:
        poller.register(ours, READ)
        expect(1, len(poller.poll(0)))
        expect(1, len(poller.select(0)))
        poller.unregister(ours)

    return step


def inspect(make: Callable[[], Any], stack: ExitStack) -> Step:
    sock, poller = readable(stack), stack.enter_context(make())
    poller.register(sock, READ)

    def step() -> None:
        poller.stats()
        expect([], poller.audit())

    return step


def fork(make: Callable[[], Any], stack: ExitStack) -> Step:
    """Fork a child that uses the poller."""
    sock, poller = readable(stack), stack.enter_context(make())
    poller.register(sock, READ)

    def step() -> None:
        if (child := os.fork()) == 0:
            status = 1
            try:
                status = int(poller.poll(0) != [(sock.fileno(), READ)])
            finally:
                os._exit(status)
        expect((child, 0), os.waitpid(child, 0))

    return step


# Creation and close


def close_it(made: Any) -> None:
    made.close()


def drop_it(made: Any) -> None:
    """Leave it to the garbage collector."""


def live(make: Callable[[], Any], end: Callable[[Any], None], stack: ExitStack) -> Step:
    sock = readable(stack)

    def step() -> None:
        poller = make()
        poller.register(sock, READ)
        expect(1, len(poller.select(0)))
        end(poller)

    return step


def live_select(make: Callable[[], Any], stack: ExitStack) -> Step:
    fd = readable(stack).fileno()

    def step() -> None:
        made = make()
        made.register(fd, READ)
        expect([(fd, READ)], made.poll(0))

    return step


# Waits


def wake(make: Callable[[], Any], stack: ExitStack) -> Step:
    poller = stack.enter_context(make())

    def step() -> None:
        poller.wakeup()
        expect([], poller.select())

    return step


def wait_in_thread(make: Callable[[], Any], stack: ExitStack) -> Step:
    """Wait in new threads, each with ready arrays of its own."""
    sock, poller = readable(stack), stack.enter_context(make())
    poller.register(sock, READ)
    poller.wait(0)  # creates the array of this thread

    def step() -> None:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.extend((poller.wait(0), poller.fds[0], poller.poll(0))))
        thread.start()
        thread.join()
        expect([1, sock.fileno(), [(sock.fileno(), READ)]], found)

    return step


# Failures


def fail(calls: list[tuple[type[BaseException], Callable[[], Any]]]) -> Step:
    def step() -> None:
        for expected, call in calls:
            try:
                call()
            except expected:
                continue
            raise AssertionError(f"{call} does not raise {expected.__name__}")

    return step


def invalid_files(stack: ExitStack) -> tuple[socket.socket, int]:
    """Return a socket and the descriptor of a regular file."""
    sock = readable(stack)
    regular = os.open(__file__, os.O_RDONLY)
    stack.callback(os.close, regular)
    return sock, regular


def fail_poller(make: Callable[[], Any], stack: ExitStack) -> Step:
    sock, regular = invalid_files(stack)
    poller = stack.enter_context(make())
    closed = make()
    closed.close()
    poller.register(sock, READ)
    calls: list[tuple[type[BaseException], Callable[[], Any]]] = [
        (OSError, partial(poller.register, UNUSED)),
        (KeyError, partial(poller.register, sock)),
        (KeyError, partial(poller.unregister, UNUSED)),
        (KeyError, partial(poller.modify, UNUSED, WRITE)),
        (ValueError, partial(poller.register, -1)),
        (ValueError, partial(poller.register, object())),
        (ValueError, partial(poller.register, regular, 1 << 20)),
        (ValueError, partial(poller.poll, math.nan)),
        (ValueError, partial(poller.poll, 0, 0)),
        (OverflowError, partial(poller.select, math.inf)),
        (TypeError, partial(poller.wait, "soon")),
        (ValueError, partial(closed.register, sock)),
        (ValueError, partial(closed.poll, 0)),
        (ValueError, partial(make, capacity=0)),
    ]
    if poller.mechanism == "epoll":
        calls.append((PermissionError, partial(poller.register, regular)))
    else:
        calls.append((ValueError, partial(poller.register, regular, fastmux.EDGE)))
    return fail(calls)


def fail_selector(make: Callable[[], Any], stack: ExitStack) -> Step:
    sock, regular = invalid_files(stack)
    selector = stack.enter_context(make())
    selector.register(sock, EVENT_READ)
    calls: list[tuple[type[BaseException], Callable[[], Any]]] = [
        (KeyError, partial(selector.register, sock, EVENT_READ)),
        (KeyError, partial(selector.unregister, UNUSED)),
        (KeyError, partial(selector.modify, UNUSED, EVENT_WRITE)),
        (ValueError, partial(selector.register, -1, EVENT_READ)),
        (ValueError, partial(selector.register, UNUSED, 0)),
        (ValueError, partial(selector.register, UNUSED, 1 << 20)),
        (TypeError, partial(selector.select, "soon")),
    ]
    if isinstance(selector, standard_selectors.EpollSelector):
        calls.append((OSError, partial(selector.register, UNUSED, EVENT_READ)))
        calls.append((PermissionError, partial(selector.register, regular, EVENT_READ)))
    return fail(calls)


def fail_select(stack: ExitStack) -> Step:
    sock, regular = invalid_files(stack)
    epoll, poll, closed = stack.enter_context(select.epoll()), select.poll(), select.epoll()
    closed.close()
    epoll.register(sock)
    return fail(
        [
            (FileExistsError, partial(epoll.register, sock)),
            (PermissionError, partial(epoll.register, regular)),
            (OSError, partial(epoll.register, UNUSED)),
            (OSError, partial(epoll.modify, UNUSED, READ)),
            (ValueError, partial(epoll.poll, 0, 0)),
            (ValueError, partial(closed.poll, 0)),
            (OSError, partial(poll.modify, UNUSED, READ)),
            (KeyError, partial(poll.unregister, UNUSED)),
            (TypeError, partial(poll.poll, "soon")),
            (OSError, partial(select.select, [UNUSED], [], [], 0)),
            (ValueError, partial(select.select, [], [-1], [], 0)),
            (TypeError, partial(select.select, [], [], [object()], 0)),
        ]
    )


# Event loops and patch()


async def talk() -> None:
    """Send a line between two streams, and sleep."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    _, other = await asyncio.open_connection(sock=theirs)
    other.write(b"word\n")
    expect(b"word\n", await reader.readline())
    await asyncio.sleep(0.0001)
    for end in (writer, other):
        end.close()
        await end.wait_closed()


async def schedule() -> None:
    """Use callbacks, timers, tasks, calls from another thread, and readers and writers."""
    loop, count = asyncio.get_running_loop(), list[int]()
    for number in range(3):
        loop.call_soon(count.append, number).cancel()
        loop.call_soon(count.append, number)
        loop.call_later(3600, count.append, number).cancel()
        loop.call_later(0, count.append, number)
        loop.call_at(loop.time(), count.append, number)
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(count.append, 3))
    thread.start()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        loop.add_reader(ours, count.append, 4)
        loop.add_writer(ours, count.append, 5)
        while len(set(count)) < 6:
            await asyncio.gather(asyncio.sleep(0), asyncio.wait_for(asyncio.sleep(0), 1))
        expect((True, True), (loop.remove_reader(ours), loop.remove_writer(ours)))
    thread.join()


async def accept() -> None:
    """Connect with the sock_ methods to a server of streams, over TCP and an abstract UNIX address."""
    loop = asyncio.get_running_loop()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(4))
        writer.close()

    for family, address in (socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, b"\0fastmux-%d" % os.getpid()):
        listener = socket.socket(family)
        listener.bind(address)
        start = asyncio.start_server if family == socket.AF_INET else asyncio.start_unix_server
        async with await start(answer, sock=listener):
            with socket.socket(family) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, listener.getsockname())
                await loop.sock_sendall(sock, b"word")
                expect(4, await loop.sock_recv_into(sock, bytearray(4)))
                expect(b"", await loop.sock_recv(sock, 4))


class Answer(asyncio.DatagramProtocol):
    """Answer each datagram."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.lost = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


async def exchange_datagrams() -> None:
    """Exchange datagrams with a transport, and cancel a wait for one."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Answer, local_addr=("127.0.0.1", 0))
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(transport.get_extra_info("sockname"))
        for _ in range(3):
            await loop.sock_sendall(sock, b"word")
            expect(b"word", await loop.sock_recv(sock, 100))
        receiving = loop.create_task(loop.sock_recv(sock, 100))
        await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.wait([receiving])
    transport.close()
    await protocol.lost


class Ends(asyncio.Protocol):
    """Counts lost connections."""

    def __init__(self, lost: list[Any]) -> None:
        self.lost = lost

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.append(exc)


async def pipe() -> None:
    """Send more than a pipe holds; then lose it by an error."""
    loop, lost = asyncio.get_running_loop(), list[Any]()
    theirs, ours = (os.fdopen(fd, mode, 0) for fd, mode in zip(os.pipe(), ("rb", "wb")))
    writer, _ = await loop.connect_write_pipe(partial(Ends, lost), ours)
    reader, _ = await loop.connect_read_pipe(partial(Ends, lost), theirs)
    writer.write(bytes(100_000))
    while writer.get_write_buffer_size():
        await asyncio.sleep(0)
    reader.pause_reading()
    writer.write(memoryview(bytes(100_000)))
    reader.close()
    while len(lost) < 2:
        await asyncio.sleep(0)


async def communicate() -> None:
    """Pass a word through a process."""
    process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    expect((b"word", None), await process.communicate(b"word"))


def run_loop(main: Callable[[], Coroutine[Any, Any, None]], stack: ExitStack) -> Step:
    def step() -> None:
        loop = fastmux.new_event_loop()
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()

    return step


async def talk_over_tls(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Send a line between two TLS streams, one of which is upgraded; fail a handshake; abort a connection."""
    loop = asyncio.get_running_loop()
    for end in ("close", "abort", "refuse"):
        server, client = contexts if end != "refuse" else (contexts[0], ssl.create_default_context())
        ours, theirs = socket.socketpair()
        accepted: asyncio.Future[Any] = loop.create_future()

        def made(reader: Any, writer: Any, accepted: asyncio.Future[Any] = accepted) -> None:
            accepted.set_result((reader, writer))

        def factory(made: Any = made) -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(), made)

        serving = asyncio.ensure_future(loop.connect_accepted_socket(factory, theirs, ssl=server))
        try:
            reader, writer = await asyncio.open_connection(sock=ours, ssl=client, server_hostname="localhost")
        except ssl.SSLError:
            expect("refuse", end)
            await asyncio.gather(serving, return_exceptions=True)
            continue
        await serving
        _, other = await accepted
        other.write(b"word\n" * 10_000)
        expect(b"word\n", await reader.readline())
        await reader.readexactly(5 * 9_999)
        for each in (writer, other):
            each.close() if end == "close" else each.transport.abort()
        await asyncio.gather(writer.wait_closed(), other.wait_closed(), return_exceptions=True)


def run_tls(stack: ExitStack) -> Step:
    certificate = Path(__file__).parents[1] / "loop" / "localhost.pem"
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(certificate)
    client.load_verify_locations(certificate)

    def step() -> None:
        loop = fastmux.new_event_loop()
        try:
            loop.run_until_complete(talk_over_tls((server, client)))
        finally:
            loop.close()
        gc.collect()  # the exception of a failed handshake refers to itself

    return step


def connect(stack: ExitStack) -> Step:
    """Connect to a literal address, and to one that refuses."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    refusing = socket.socket()
    refusing.bind(("127.0.0.1", 0))
    stack.enter_context(refusing)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
        listener.accept()[0].close()
        transport.close()
        try:
            await loop.create_connection(asyncio.Protocol, *refusing.getsockname())
        except ConnectionRefusedError:
            await asyncio.sleep(0)
        else:
            raise AssertionError("a connection to a socket that does not listen")

    def step() -> None:
        loop = fastmux.new_event_loop()
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()

    return step


def patch(stack: ExitStack) -> Step:
    sock = readable(stack)

    def step() -> None:
        with fastmux.patch():
            expect(selectors.EpollSelector, standard_selectors.EpollSelector)
            with standard_selectors.DefaultSelector() as selector:
                selector.register(sock, EVENT_READ)
                expect(1, len(selector.select(0)))
            expect([sock], standard_select.select([sock], [], [], 0)[0])
        assert standard_selectors.EpollSelector is not selectors.EpollSelector

    return step


def cases() -> Iterator[tuple[str, Case]]:
    many, some, few = 1_000_000, 100_000, 1_000
    # The same class twice without the extension.
    pollers = dict.fromkeys((cls, name) for cls in (fastmux.Poller, fastmux.StdlibPoller) for name in cls.mechanisms)
    for cls, mechanism in pollers:
        name, make = f"{cls.__name__}({mechanism!r})", partial(cls, mechanism)
        less = 1 if cls is not fastmux.StdlibPoller else 10
        yield f"{name}: register, poll, unregister", Case(partial(use_poller, make), many // less)
        yield f"{name}: hang-ups reported", Case(partial(report_errors, make), some // less)
        yield f"{name}: made and closed", Case(partial(live, make, close_it), some // less)
        yield f"{name}: made and dropped", Case(partial(live, make, drop_it), some // less)
        yield f"{name}: wake-ups", Case(partial(wake, make), some)
        yield f"{name}: waits in new threads", Case(partial(wait_in_thread, make), some // 10)
        yield f"{name}: failing calls", Case(partial(fail_poller, make), some // less)
        yield f"{name}: stats and audits", Case(partial(inspect, make), some // 10)
        yield f"{name}: forks", Case(partial(fork, make), few)
    for selector in (selectors.EpollSelector, selectors.PollSelector, selectors.SelectSelector):
        name = f"selectors.{selector.__name__}"
        yield f"{name}: register, select, unregister", Case(partial(use_selector, selector), many)
        yield f"{name}: made and closed", Case(partial(live, selector, close_it), some)
        yield f"{name}: made and dropped", Case(partial(live, selector, drop_it), some)
        if selector is selectors.EpollSelector and hasattr(selector, "wakeup"):
            yield f"{name}: wake-ups", Case(partial(wake, selector), some)
        yield f"{name}: failing calls", Case(partial(fail_selector, selector), some)
    yield "select.epoll: register, poll, unregister", Case(use_epoll, many)
    yield "select.epoll: made and dropped", Case(partial(live_select, select.epoll), some)
    yield "select.poll: register, poll, unregister", Case(use_poll, many)
    yield "select.poll: made and dropped", Case(partial(live_select, select.poll), some)
    yield "select.select: calls", Case(use_select, many)
    yield "select: failing calls", Case(fail_select, some)
    yield "EventLoop: made, used, closed", Case(partial(run_loop, talk), few)
    yield "EventLoop: callbacks, timers, tasks", Case(partial(run_loop, schedule), few)
    yield "EventLoop: servers and sock_ methods", Case(partial(run_loop, accept), few)
    yield "EventLoop: datagrams", Case(partial(run_loop, exchange_datagrams), few)
    yield "EventLoop: pipes", Case(partial(run_loop, pipe), few)
    yield "EventLoop: subprocesses", Case(partial(run_loop, communicate), few)
    yield "EventLoop: TLS", Case(run_tls, few)
    yield "EventLoop: connections made and refused", Case(connect, few)
    yield "patch() and unpatch()", Case(patch, few)


CASES = dict(cases())
