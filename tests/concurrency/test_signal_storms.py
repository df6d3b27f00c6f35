"""A thousand signals a second during each kind of wait."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import operator
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import fastmux

TIMEOUT = 20.0
STORM = 0.001  # seconds between two signals
CPYTHON = sys.implementation.name == "cpython"
CLASSES = dict.fromkeys([fastmux.Poller, fastmux.StdlibPoller])


class Way(NamedTuple):
    """A kind of wait until a file is readable."""

    close: Callable[[], Any]
    watch: Callable[[int], Any]
    wait: Callable[[float | None], Any]  # true if a file is readable


def by_poller(cls, mechanism, name):
    poller = cls(mechanism)
    return Way(poller.close, poller.register, getattr(poller, name))


def never_without_timeout(wait):
    """PyPy's epoll objects take no None, and a signal ends a wait of its poll objects that has no timeout."""
    if CPYTHON:
        return wait
    return lambda timeout: wait(100_000 if timeout is None else timeout)


def by_selector(name):
    selector = getattr(fastmux.selectors, name)()
    wait = never_without_timeout(selector.select)
    return Way(selector.close, lambda fd: selector.register(fd, fastmux.selectors.EVENT_READ), wait)


def by_epoll():
    epoll = fastmux.select.epoll()
    return Way(epoll.close, lambda fd: epoll.register(fd, fastmux.READ), never_without_timeout(epoll.poll))


def by_poll():
    poll = fastmux.select.poll()
    rounded = operator.pos if CPYTHON else math.ceil  # PyPy rounds down
    wait = lambda timeout: poll.poll(None if timeout is None else rounded(1000 * timeout))  # noqa: E731
    return Way(lambda: None, lambda fd: poll.register(fd, fastmux.READ), never_without_timeout(wait))


def by_select():
    fds: list[int] = []
    return Way(fds.clear, fds.append, lambda timeout: fastmux.select.select(fds, [], [], timeout)[0])


def by_loop():
    loop = fastmux.new_event_loop()
    found = []

    def notice(fd):
        found.append(fd)
        loop.stop()

    def set_stopped():
        """Finish run_forever(), whose clean-up a second exception can interrupt, on the standard loop as well."""
        loop._thread_id = None
        asyncio._set_running_loop(None)

    def close():
        set_stopped()
        loop.close()

    def wait(timeout):
        set_stopped()
        found.clear()
        timer = None if timeout is None else loop.call_later(timeout, loop.stop)
        try:
            loop.run_forever()
        finally:
            if timer is not None:
                timer.cancel()
        return found

    return Way(close, lambda fd: loop.add_reader(fd, notice, fd), wait)


WAYS: dict[str, Callable[[], Way]] = {
    f"{cls.__name__}({mechanism}).{name}": functools.partial(by_poller, cls, mechanism, name)
    for cls in CLASSES
    for mechanism in cls.mechanisms
    for name in ("poll", "select", "wait")
}
WAYS |= {name: functools.partial(by_selector, name) for name in ("EpollSelector", "PollSelector", "SelectSelector")}
WAYS |= {"epoll": by_epoll, "poll": by_poll, "select": by_select, "EventLoop": by_loop}


@pytest.fixture(params=WAYS)
def way(request):
    made = WAYS[request.param]()
    yield made
    made.close()


@pytest.fixture
def storm(on_alarm):
    """Signals whose handler counts them."""
    calls = []
    on_alarm(lambda: calls.append(None), STORM, STORM)
    return calls


def test_a_storm_neither_shortens_nor_prolongs_a_wait_for_ever(way, socketpair, storm):
    ours, _ = socketpair
    way.watch(ours.fileno())
    for timeout in (0.0005, 0.0105, 0.1):
        begin = time.monotonic()
        assert not way.wait(timeout)
        assert timeout <= time.monotonic() - begin < TIMEOUT
    assert len(storm) > 10


def test_a_storm_does_not_disturb_a_non_blocking_wait(way, socketpair, storm):
    """A signal may also arrive during a system call that does not block."""
    ours, _ = socketpair
    way.watch(ours.fileno())
    deadline = time.monotonic() + 0.05
    while time.monotonic() < deadline or len(storm) < 10:
        assert not way.wait(0)


def test_in_a_storm_no_message_is_lost(way, storm):
    """The writer blocks the signal, so that it interrupts this thread only."""
    count = 150
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def write():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        for number in range(count):
            theirs.send(b"%d" % number)
            time.sleep(0.0003)

    with ours, theirs:
        ours.setblocking(False)
        way.watch(ours.fileno())
        writer = threading.Thread(target=write)
        writer.start()
        received = []
        while len(received) < count:
            assert way.wait(TIMEOUT)
            with contextlib.suppress(BlockingIOError):
                while len(received) < count:
                    received.append(int(ours.recv(10)))
        writer.join()
        assert not way.wait(0)

    assert received == list(range(count))
    assert len(storm) > 10


class HandlerError(Exception):
    """Raised by every signal of a storm."""


@pytest.fixture
def in_a_storm(on_alarm, monkeypatch):
    """Make a call in which the handler of each signal raises HandlerError; outside it does nothing."""
    # Python drops an exception inside a destructor; the next signal raises again.
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: None)
    armed = False

    def interrupt():
        if armed:
            raise HandlerError

    def call(function, *args):
        nonlocal armed
        try:
            armed = True
            function(*args)
        finally:
            armed = False

    on_alarm(interrupt, STORM, STORM)
    return call


def test_in_a_storm_of_exceptions_each_wait_ends_with_one_and_nothing_breaks(way, socketpair, in_a_storm):
    ours, theirs = socketpair
    way.watch(ours.fileno())
    for timeout in (None, TIMEOUT) * 15:
        begin = time.monotonic()
        with pytest.raises(HandlerError):
            in_a_storm(way.wait, timeout)
        assert time.monotonic() - begin < TIMEOUT

    assert not way.wait(0.001)
    theirs.send(b"x")
    for timeout in (0, 0.001, TIMEOUT, None):
        assert way.wait(timeout)


def test_in_a_storm_of_exceptions_no_readable_file_is_lost(way, socketpair, in_a_storm):
    ours, theirs = socketpair
    way.watch(ours.fileno())
    interrupted = rounds = 0
    # In code that PyPy has compiled, a handler runs at the end of the loop only.
    while rounds < 200 or (interrupted < 20 and (CPYTHON or rounds < 20_000)):
        theirs.send(b"x")
        try:
            in_a_storm(way.wait, TIMEOUT)
        except HandlerError:
            interrupted += 1
        rounds += 1
        assert way.wait(0)
        ours.recv(1)
        assert not way.wait(0)


def test_after_a_storm_of_exceptions_a_wakeup_ends_the_next_wait(make_poller, in_a_storm):
    """Though the tracebacks of the exceptions keep the waits that they have ended."""
    errors = []

    def wait_again_and_again(poller):
        while True:
            poller.poll(0)

    for _ in range(10):
        with make_poller() as poller:
            for _ in range(20):
                try:
                    in_a_storm(wait_again_and_again, poller)
                except HandlerError as error:
                    errors.append(error)
            for _ in range(2):
                poller.wakeup()
                begin = time.monotonic()
                poller.poll(TIMEOUT)
                assert time.monotonic() - begin < TIMEOUT
    errors.clear()


def test_ctrl_c_ends_every_wait_in_a_storm():
    """In a process of its own, which runs this file as a program."""
    with subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            for number, name in enumerate(WAYS):
                assert child.stdout.readline() == f"{name} begins\n"
                time.sleep(0.002 * (number % 5))  # before the wait, or during it
                child.send_signal(signal.SIGINT)
                assert child.stdout.readline() == f"{name} has ended\n"
            assert child.wait(TIMEOUT) == 0
        finally:
            child.kill()


def wait_in_all_ways_until_ctrl_c():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.setitimer(signal.ITIMER_REAL, STORM, STORM)
    fd, _ = os.pipe()
    for name, make in WAYS.items():
        way = make()
        way.watch(fd)
        try:
            print(name, "begins", flush=True)
            way.wait(None)
        except KeyboardInterrupt:
            way.close()
            print(name, "has ended", flush=True)
    signal.setitimer(signal.ITIMER_REAL, 0)  # the interpreter removes its handlers before it exits


if __name__ == "__main__":
    wait_in_all_ways_until_ctrl_c()
