"""Timeouts: a wait is never shorter, and does not hang. How much longer it takes is not tested."""

from __future__ import annotations

import time

import pytest

from fastmux import EDGE, READ, WRITE

TIMEOUT = 20.0
#: Seconds that count as a hang.
HANG = 10.0


def elapsed(function, *args):
    """Call a function; return its result and its duration in seconds."""
    start = time.monotonic()
    result = function(*args)
    return result, time.monotonic() - start


@pytest.mark.parametrize("timeout", [1e-9, 0.0004, 0.001, 0.0011, 0.05], ids=repr)
def test_a_wait_is_never_shorter_than_its_timeout(wait, timeout):
    result, seconds = elapsed(wait, timeout)

    assert not result
    assert timeout <= seconds < HANG


def test_a_wait_on_idle_descriptors_is_never_shorter_than_its_timeout(wait, poller, socketpair):
    poller.register(socketpair[0], READ)

    result, seconds = elapsed(wait, 0.01)

    assert not result
    assert 0.01 <= seconds < HANG


@pytest.mark.parametrize("timeout", [0, 0.0, False, -1, -1e-9, float("-inf")], ids=repr)
def test_zero_and_negative_timeouts_do_not_wait(wait, timeout):
    result, seconds = elapsed(wait, timeout)

    assert not result
    assert seconds < HANG


@pytest.mark.parametrize("timeout", [0, -1, None, 0.5, 1e6], ids=repr)
def test_what_is_ready_ends_any_wait(wait, poller, socketpair, timeout):
    poller.register(socketpair[0], WRITE)

    result, seconds = elapsed(wait, timeout)

    assert result
    assert seconds < HANG


@pytest.mark.parametrize("timeout", [None, 1e6, 4e6, 9e9, 10**9], ids=repr)
def test_a_wait_for_ever_and_a_very_long_one_end_by_a_wakeup(wait, poller, start_thread, timeout):
    """4e6 seconds are more milliseconds than fit in an int."""
    waiter = start_thread(wait, timeout).until_blocked()

    poller.wakeup()

    assert not waiter.result()


def test_a_whole_number_is_seconds(epoll_poller):
    result, seconds = elapsed(epoll_poller.poll, 1)

    assert result == []
    assert 1 <= seconds < HANG


def test_a_timeout_can_be_given_by_name(poller):
    assert poller.poll(timeout=0) == []
    assert poller.poll(timeout=0, maxevents=1) == []
    assert poller.select(timeout=0) == []
    assert poller.wait(timeout=0) == 0


def test_an_event_during_a_wait_ends_it(wait, poller, socketpair, start_thread):
    ours, theirs = socketpair
    poller.register(ours, READ)
    waiter = start_thread(elapsed, wait, 3 * TIMEOUT).until_blocked()

    theirs.send(b"x")

    result, seconds = waiter.result()
    assert result
    assert seconds < 3 * TIMEOUT


def test_a_wait_with_maxevents_is_never_shorter_than_its_timeout(poller):
    result, seconds = elapsed(poller.poll, 0.01, 1)

    assert result == []
    assert 0.01 <= seconds < HANG


def test_changes_of_the_set_do_not_end_a_wait(poller, make_socketpair, start_thread):
    """Changes of idle descriptors are no events."""
    pairs = [make_socketpair() for _ in range(3)]
    waiter = start_thread(elapsed, poller.poll, 0.15)

    while waiter.is_alive():
        for ours, _ in pairs:
            poller.register(ours, READ)
        poller.modify(pairs[0][0], 0)
        for ours, _ in pairs:
            poller.unregister(ours)
        waiter.join(0.001)

    result, seconds = waiter.result()
    assert result == []
    assert 0.15 <= seconds < HANG


def test_reported_edges_do_not_end_the_next_wait(epoll_poller, socketpair):
    ours, theirs = socketpair
    epoll_poller.register(ours, READ | EDGE)
    theirs.send(b"x")
    assert epoll_poller.poll(TIMEOUT)

    result, seconds = elapsed(epoll_poller.poll, 0.02)

    assert result == []
    assert 0.02 <= seconds < HANG
