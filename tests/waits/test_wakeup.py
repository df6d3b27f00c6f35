"""wakeup() from the same thread, other threads and signal handlers, before and during waits."""

from __future__ import annotations

import queue

import pytest

from fastmux import READ, WRITE

TIMEOUT = 20.0


def test_a_wakeup_from_another_thread_ends_a_wait(wait, poller, start_thread):
    waiter = start_thread(wait).until_blocked()

    poller.wakeup()

    assert not waiter.result()


def test_a_wakeup_before_a_wait_is_remembered(wait, poller):
    poller.wakeup()

    assert not wait(None)


def test_a_wakeup_from_a_signal_handler_ends_a_wait(wait, poller, on_alarm):
    on_alarm(poller.wakeup, 0.02, 0.02)

    assert not wait(None)


def test_a_wakeup_ends_one_wait_only(poller):
    poller.wakeup()
    assert poller.poll(None) == []

    poller.wakeup()
    assert poller.poll(None) == []


def test_several_wakeups_before_a_wait_count_as_one(poller, start_thread):
    for _ in range(5):
        poller.wakeup()
    assert poller.poll(None) == []

    waiter = start_thread(poller.poll).until_blocked()  # would not block with a pending wake-up
    poller.wakeup()

    assert waiter.result() == []


def test_a_non_blocking_wait_consumes_a_wakeup(poller, start_thread):
    poller.wakeup()
    assert poller.poll(0) == []

    waiter = start_thread(poller.poll).until_blocked()
    poller.wakeup()

    assert waiter.result() == []


def test_a_woken_wait_reports_what_is_ready(poller, socketpair):
    ours, _ = socketpair
    poller.register(ours, WRITE)
    poller.wakeup()

    assert poller.poll(TIMEOUT) == [(ours.fileno(), WRITE)]


def test_a_wakeup_is_never_reported_as_an_event(poller, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    poller.register(ours, READ)
    for _ in range(10):
        poller.wakeup()
        assert poller.poll(0) == [(ours.fileno(), READ)]
        assert poller.wait(0) == 1


def test_a_wakeup_ends_exactly_one_of_two_waits(poller, start_thread):
    ended: queue.Queue[list] = queue.Queue()
    waiters = [start_thread(lambda: ended.put(poller.poll())) for _ in range(2)]
    for waiter in waiters:
        waiter.until_blocked()

    poller.wakeup()
    assert ended.get(timeout=TIMEOUT) == []
    with pytest.raises(queue.Empty):
        ended.get(timeout=0.1)

    poller.wakeup()
    assert ended.get(timeout=TIMEOUT) == []


def test_no_wakeup_is_lost_in_a_long_conversation(poller, start_thread):
    rounds = 200
    turns: queue.Queue[int] = queue.Queue()

    def answer():
        for i in range(rounds):
            assert poller.poll() == []
            turns.put(i)

    waiter = start_thread(answer)
    for i in range(rounds):
        poller.wakeup()
        assert turns.get(timeout=TIMEOUT) == i
    waiter.result()


def test_thousands_of_wakeups_without_a_wait_do_no_harm(poller):
    for _ in range(20_000):
        poller.wakeup()

    assert poller.poll(None) == []


def test_wakeups_do_not_wear_out(poller):
    """More of them than a pipe or a socket holds, without a wait that drains it."""
    for number in range(1, 10_001):
        poller.wakeup()
        poller.poll(TIMEOUT)
        assert poller.stats().wakeups == number
