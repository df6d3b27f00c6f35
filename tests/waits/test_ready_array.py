"""The ready array: wait(), fds and events, maxevents, fairness and growth."""

from __future__ import annotations

import math

import pytest

from fastmux import READ, WRITE

TIMEOUT = 20.0


def rows(poller, n):
    return sorted(zip(poller.fds[:n], poller.events[:n]))


@pytest.fixture
def register_ready(poller, make_eventfd):
    """Register so many readable descriptors; return their reports."""

    def register(count):
        return sorted((poller.register(make_eventfd(1), READ).fd, READ) for _ in range(count))

    return register


def test_wait_returns_the_number_of_rows(poller, register_ready):
    counts = [poller.wait(0)]
    for more in (1, 1, 30):
        register_ready(more)
        counts.append(poller.wait(0))

    assert counts == [0, 1, 2, 32]


@pytest.mark.parametrize("count", [1, 2, 16, 17, 18, 100])
def test_the_rows_hold_what_poll_reports(poller, register_ready, count):
    expected = register_ready(count)

    for _ in range(2):
        n = poller.wait(0)
        assert rows(poller, n) == expected == sorted(poller.poll(0))


def test_rows_hold_all_kinds_of_events(poller, oracle, make_socketpair):
    interest = {}
    for i, events in enumerate([READ, WRITE, READ | WRITE, READ, 0]):
        ours, theirs = make_socketpair()
        theirs.send(b"x")
        if i >= 3:
            theirs.close()
        poller.register(ours, events)
        interest[ours.fileno()] = events

    n = poller.wait(0)

    assert oracle(poller.mechanism, interest) == rows(poller, n)


def test_the_views_are_read_only_columns_of_32_bit_numbers(poller, register_ready):
    register_ready(1)
    poller.wait(0)

    for view, code in ((poller.fds, "i"), (poller.events, "I")):
        assert type(view) is memoryview
        assert (view.format, view.itemsize, view.ndim, view.contiguous) == (code, 4, 1, True)
        assert len(view) >= poller.capacity
        assert view.readonly
        with pytest.raises(TypeError):
            view[0] = 0


def test_the_views_exist_before_the_first_wait(poller):
    assert poller.fds.format == "i"
    assert poller.events.format == "I"


def test_the_next_wait_replaces_the_rows(poller, make_eventfd):
    one, two = make_eventfd(1), make_eventfd(1)
    poller.register(one, READ)
    first = rows(poller, poller.wait(0))
    poller.unregister(one)
    poller.register(two, READ)

    assert (first, rows(poller, poller.wait(0))) == ([(one, READ)], [(two, READ)])


def test_poll_and_select_leave_the_rows_alone(poller, make_eventfd):
    one, two = make_eventfd(1), make_eventfd(1)
    poller.register(one, READ)
    n = poller.wait(0)
    poller.unregister(one)
    poller.register(two, READ)

    assert poller.poll(0) == [(two, READ)]
    assert len(poller.select(0)) == 1
    assert rows(poller, n) == [(one, READ)]


def test_each_thread_has_its_own_rows(poller, make_eventfd, start_thread):
    one, two = make_eventfd(1), make_eventfd(1)
    poller.register(one, READ)
    n = poller.wait(0)
    poller.unregister(one)
    poller.register(two, READ)

    def in_another_thread():
        return rows(poller, poller.wait(0))

    assert start_thread(in_another_thread).result() == [(two, READ)]
    assert rows(poller, n) == [(one, READ)]


def test_rows_can_be_read_after_close_through_a_view_that_was_kept(poller, make_eventfd):
    fd = make_eventfd(1)
    poller.register(fd, READ)
    n = poller.wait(0)
    fds, events = poller.fds, poller.events

    poller.close()

    assert (n, fds[0], events[0]) == (1, fd, READ)


# Capacity


def test_capacity_is_1024_by_default(make_poller):
    assert make_poller().capacity == 1024
    assert make_poller(capacity=7).capacity == 7


def test_capacity_doubles_when_more_than_that_are_registered(make_poller, make_eventfd):
    poller = make_poller(capacity=2)

    capacities = [poller.capacity]
    for _ in range(9):
        poller.register(make_eventfd())
        capacities.append(poller.capacity)

    assert capacities == [2, 2, 2, 4, 4, 8, 8, 8, 8, 16]


def test_capacity_stays_when_registrations_go(make_poller, make_eventfd):
    poller = make_poller(capacity=1)
    fds = [make_eventfd() for _ in range(5)]
    for fd in fds:
        poller.register(fd)
    for fd in fds:
        poller.unregister(fd)

    assert poller.capacity == 8


def test_a_grown_poller_reports_all_at_once(make_poller, make_eventfd):
    poller = make_poller(capacity=1)
    expected = []
    for _ in range(40):
        expected.append((poller.register(make_eventfd(1), READ).fd, READ))
        n = poller.wait(0)
        assert rows(poller, n) == sorted(expected)
        assert sorted(poller.poll(0)) == sorted(expected)
        assert sorted((key.fd, events) for key, events in poller.select(0)) == sorted(expected)


def test_a_view_that_is_kept_stays_readable_when_the_poller_grows(make_poller, make_eventfd):
    poller = make_poller(capacity=1)
    first = make_eventfd(1)
    poller.register(first, READ)
    n = poller.wait(0)
    fds, events = poller.fds, poller.events
    expected = sorted([(first, READ), *((poller.register(make_eventfd(1), READ).fd, READ) for _ in range(20))])

    assert rows(poller, poller.wait(0)) == expected
    assert (n, fds[0], events[0]) == (1, first, READ)
    assert len(poller.fds) >= len(poller.events) >= 21


def test_the_rows_of_the_last_wait_stay_while_the_poller_grows(make_poller, make_eventfd):
    """Growth keeps the unread rows of the last wait()."""
    poller = make_poller(capacity=1)
    first = make_eventfd(1)
    poller.register(first, READ)
    n = poller.wait(0)
    for _ in range(5):
        poller.register(make_eventfd())

    assert rows(poller, n) == [(first, READ)]


def test_all_threads_see_the_growth(make_poller, make_eventfd, start_thread):
    poller = make_poller(capacity=1)
    fds = [make_eventfd(1) for _ in range(10)]
    poller.register(fds[0], READ)
    poller.wait(0)

    def grow():
        before = rows(poller, poller.wait(0))
        for fd in fds[1:]:
            poller.register(fd, READ)
        return before, rows(poller, poller.wait(0))

    expected = sorted((fd, READ) for fd in fds)
    assert start_thread(grow).result() == ([(fds[0], READ)], expected)
    assert rows(poller, poller.wait(0)) == expected


def test_a_waiter_that_began_before_the_growth_still_reports(make_poller, make_eventfd, start_thread):
    poller = make_poller(capacity=1)
    idle = [make_eventfd() for _ in range(9)]
    poller.register(idle[0], READ)
    waiter = start_thread(poller.poll, 3 * TIMEOUT).until_blocked()

    for fd in idle[1:]:
        poller.register(fd, READ)
    ready = make_eventfd(1)
    poller.register(ready, READ)

    assert waiter.result() == [(ready, READ)]


# maxevents


@pytest.mark.parametrize("maxevents", [1, 2, 3, 5])
def test_maxevents_cuts_a_result_and_the_next_call_goes_on(poller, register_ready, maxevents):
    expected = register_ready(5)

    seen = []
    for _ in range(math.ceil(len(expected) / maxevents)):
        found = poller.poll(0, maxevents)
        assert len(found) == len(set(found)) == maxevents
        seen += found

    assert sorted(set(seen)) == expected


def test_no_descriptor_starves_in_the_long_run(poller, register_ready):
    expected = register_ready(7)

    counts = dict.fromkeys(expected, 0)
    for _ in range(70):
        for pair in poller.poll(0, 3):
            counts[pair] += 1

    assert counts == dict.fromkeys(expected, 30)


@pytest.mark.parametrize("maxevents", [-1, 10, 5000, 2**40], ids=repr)
def test_maxevents_beyond_what_is_ready_reports_all(poller, register_ready, maxevents):
    expected = register_ready(10)

    assert sorted(poller.poll(0, maxevents)) == expected
    assert sorted(poller.poll(TIMEOUT, maxevents=maxevents)) == expected


def test_a_poll_after_a_cut_one_reports_all(poller, register_ready):
    expected = register_ready(10)
    poller.poll(0, 3)

    assert sorted(poller.poll(0)) == expected


def test_a_cut_result_goes_on_after_registrations_have_changed(poller, register_ready):
    expected = register_ready(6)
    gone = poller.poll(0, 4)
    for fd, _ in gone:
        poller.unregister(fd)

    assert sorted(poller.poll(0, 4)) == sorted(set(expected) - set(gone))
