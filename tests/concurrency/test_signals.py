"""Signals during a wait: handlers run, deadlines stay, exceptions propagate.

To interrupt a wait, a test sends signals repeatedly: a single one may arrive just before the system call, or in another
thread that is starting (such as pytest's faulthandler), and then poll and select continue.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

import fastmux
from fastmux import EDGE, EXCLUSIVE, ONESHOT, READ

TIMEOUT = 20.0


class HandlerError(Exception):
    pass


def interrupt_once():
    """Return a handler that raises on its first call.

    Send the signal repeatedly: one that arrives just before the system call does not interrupt it.
    """
    calls = []

    def handler():
        calls.append(None)
        if len(calls) == 1:
            raise HandlerError

    return handler


def wait_interrupted(on_alarm, wait, timeout):
    on_alarm(interrupt_once(), 0.01, 0.01)
    return wait(timeout)


def test_a_handler_that_returns_does_not_end_a_wait(wait, on_alarm):
    calls = []
    on_alarm(lambda: calls.append(time.monotonic()), 0.01, 0.01)

    start = time.monotonic()
    result = wait(0.1)
    end = time.monotonic()

    assert not result
    assert 0.1 <= end - start < TIMEOUT
    assert start < calls[0] < end


def test_a_handler_runs_during_a_wait_for_ever(wait, poller, on_alarm):
    calls = []

    def handler():
        calls.append(None)
        if len(calls) == 3:
            poller.wakeup()

    on_alarm(handler, 0.01, 0.01)

    assert not wait(None)
    assert len(calls) >= 3


def test_an_exception_of_a_handler_ends_the_wait(wait, on_alarm):
    start = time.monotonic()

    with pytest.raises(HandlerError):
        wait_interrupted(on_alarm, wait, 2 * TIMEOUT)
    assert time.monotonic() - start < 2 * TIMEOUT


def test_an_exception_of_a_handler_ends_a_wait_for_ever(wait, on_alarm):
    with pytest.raises(HandlerError):
        wait_interrupted(on_alarm, wait, None)


def test_a_poller_works_after_an_exception_of_a_handler(wait, poller, socketpair, on_alarm):
    ours, theirs = socketpair
    key = poller.register(ours, READ)
    for _ in range(3):
        with pytest.raises(HandlerError):
            wait_interrupted(on_alarm, wait, TIMEOUT)

    assert not wait(0)
    theirs.send(b"x")
    assert poller.select(0) == [(key, READ)]
    assert poller.poll(0) == [(ours.fileno(), READ)]
    assert poller.wait(0) == 1


def test_a_poller_releases_everything_when_closed_after_an_exception_of_a_handler(
    make_poller, on_alarm, open_descriptors
):
    before = open_descriptors()
    poller = make_poller()
    with pytest.raises(HandlerError):
        wait_interrupted(on_alarm, poller.poll, TIMEOUT)

    poller.close()

    assert open_descriptors() == before


def test_a_handler_can_make_ready_what_the_wait_is_for(wait, poller, socketpair, on_alarm):
    ours, theirs = socketpair
    poller.register(ours, READ)
    on_alarm(lambda: theirs.send(b"x"), 0.01, 0.01)

    assert wait(TIMEOUT)


def test_a_handler_can_register_what_then_ends_the_wait(poller, socketpair, on_alarm):
    ours, theirs = socketpair
    theirs.send(b"x")
    on_alarm(lambda: ours in poller or poller.register(ours, READ), 0.01, 0.01)

    assert poller.poll(TIMEOUT) == [(ours.fileno(), READ)]


def test_a_handler_can_poll_the_poller_that_it_interrupts(poller, make_eventfd, on_alarm):
    fd = make_eventfd()
    poller.register(fd, READ)
    inner = []

    def handler():
        if not inner:
            inner.append(poller.poll(0))
            os.eventfd_write(fd, 1)
            inner.append(poller.poll(0))

    on_alarm(handler, 0.01, 0.01)

    assert poller.poll(TIMEOUT) == [(fd, READ)]
    assert inner == [[], [(fd, READ)]]


def test_a_handler_that_waits_itself_does_not_shorten_the_wait(wait, poller, on_alarm):
    inner = []
    on_alarm(lambda: inner.append(poller.poll(0.01)), 0.01)

    start = time.monotonic()
    assert not wait(0.06)

    assert time.monotonic() - start >= 0.06
    assert inner == [[]]


@pytest.mark.parametrize("is_woken", [False, True], ids=["", "woken itself"])
def test_a_wakeup_ends_the_wait_of_a_handler_before_the_one_that_it_interrupts(
    wait, poller, on_alarm, when_blocked, is_woken
):
    ended = []

    def handler():
        if is_woken:
            poller.wakeup()
        else:
            when_blocked(poller.wakeup)
        wait(TIMEOUT)
        ended.append(time.monotonic())
        when_blocked(poller.wakeup)

    on_alarm(handler, 0.01)
    start = time.monotonic()
    assert not wait(3 * TIMEOUT)
    ended.append(time.monotonic())

    assert len(ended) == 2
    assert ended[-1] - start < TIMEOUT


@pytest.mark.parametrize("mechanism", fastmux.StdlibPoller.mechanisms)
def test_a_wait_that_two_exceptions_interrupt_hands_its_wakeup_to_the_next_one(mechanism, on_alarm, monkeypatch):
    """The second one comes as the wait leaves; the tracebacks of both keep it."""

    def handler():
        poller.wakeup()
        raise HandlerError

    def interrupt(waiter):
        raise HandlerError

    def wait():
        on_alarm(handler, 0.01)
        poller.poll(TIMEOUT)

    with fastmux.StdlibPoller(mechanism) as poller:
        with monkeypatch.context() as patch:
            patch.setattr(poller, "_leave", interrupt)
            with pytest.raises(HandlerError) as kept:
                wait()
        start = time.monotonic()
        assert poller.poll(TIMEOUT) == []
        assert time.monotonic() - start < TIMEOUT
        assert kept.traceback


def test_results_stay_whole_when_a_handler_polls_at_any_moment(poller, make_eventfd, on_alarm):
    """The handler may run between the system call and the reading of its result."""
    expected = sorted((poller.register(make_eventfd(1), READ).fd, READ) for _ in range(20))
    inner = []
    on_alarm(lambda: inner.append(sorted(poller.poll(0))), 0.0005, 0.0005)

    deadline = time.monotonic() + 0.2
    while time.monotonic() < deadline or not inner:
        assert sorted(poller.poll(0)) == expected
        assert sorted((key.fd, events) for key, events in poller.select(0)) == expected
    on_alarm(lambda: None, 0)

    assert all(result == expected for result in inner)


def test_a_handler_can_close_the_poller_that_it_interrupts(poller, wait, on_alarm):
    on_alarm(poller.close, 0.01, 0.01)

    with pytest.raises(ValueError, match="closed poller"):
        wait(TIMEOUT)


def test_a_wait_that_begins_during_a_handler_does_not_lengthen_the_interrupted_one(
    wait, poller, on_alarm, start_thread
):
    """It takes the ready array of the interrupted wait, which goes on with another one."""
    wait(0)
    others = []

    def handler():
        if not others:
            others.append(start_thread(poller.poll, None).until_blocked())

    on_alarm(handler, 0.8, 0.01)
    start = time.monotonic()
    assert not wait(1)
    elapsed = time.monotonic() - start
    on_alarm(list, 0)
    poller.wakeup()

    assert others[0].result() == []
    assert 1 <= elapsed < 1.7


# A handler that raises just when the wait has a result: Python sees the signal after the event.


@pytest.fixture
def raise_with(when_blocked):
    """Once the main thread waits, let a signal arrive whose handler raises, and then call a function."""

    def handler(number, frame):
        raise HandlerError

    def arrange(function):
        def run():
            signal.raise_signal(signal.SIGUSR1)  # does not interrupt the system call of the main thread
            function()

        when_blocked(run)

    previous = signal.signal(signal.SIGUSR1, handler)
    yield arrange
    signal.signal(signal.SIGUSR1, previous)


def check_that_an_event_survives(raise_with, wait, make_ready, use):
    for _ in range(5):
        raise_with(make_ready)
        with pytest.raises(HandlerError):
            wait(TIMEOUT)
        assert wait(0)
        use()
        assert not wait(0)


def test_an_exception_of_a_handler_loses_no_event(wait, poller, socketpair, raise_with):
    ours, theirs = socketpair
    poller.register(ours, READ)

    check_that_an_event_survives(raise_with, wait, lambda: theirs.send(b"x"), lambda: ours.recv(1))


@pytest.mark.skipif(
    fastmux.implementation != "c" or "epoll" not in fastmux.Poller.mechanisms,
    reason="the standard library's epoll loses them",
)
@pytest.mark.parametrize("name", ["poll", "select", "wait", "EpollSelector"])
@pytest.mark.parametrize("trigger", [EDGE, ONESHOT, EDGE | ONESHOT, EDGE | EXCLUSIVE])
def test_an_exception_of_a_handler_loses_no_edge_of_a_wait_that_sleeps(socketpair, raise_with, name, trigger):
    ours, theirs = socketpair
    watcher = fastmux.selectors.EpollSelector() if name == "EpollSelector" else fastmux.Poller("epoll")
    with watcher:
        watcher.register(ours, READ | trigger)

        def use():
            ours.recv(1)
            watcher.modify(ours, READ | trigger)

        wait = watcher.select if name == "EpollSelector" else getattr(watcher, name)
        check_that_an_event_survives(raise_with, wait, lambda: theirs.send(b"x"), use)


def check_that_a_wakeup_survives(raise_with, wait, wakeup):
    for _ in range(5):
        raise_with(wakeup)
        with pytest.raises(HandlerError):
            wait(TIMEOUT)
        begin = time.monotonic()
        assert not wait(TIMEOUT)
        assert time.monotonic() - begin < TIMEOUT


def test_an_exception_of_a_handler_loses_no_wakeup(wait, poller, raise_with):
    check_that_a_wakeup_survives(raise_with, wait, poller.wakeup)


@pytest.mark.skipif(not hasattr(fastmux.selectors.DefaultSelector, "wakeup"), reason="it has no wakeup()")
def test_an_exception_of_a_handler_loses_no_wakeup_of_a_selector(raise_with):
    with fastmux.selectors.DefaultSelector() as selector:
        check_that_a_wakeup_survives(raise_with, selector.select, selector.wakeup)
