"""stats() counts calls and events; audit() finds differences between the kernel and the registrations."""

from __future__ import annotations

import os

import pytest

from fastmux import EDGE, EXCLUSIVE, ONESHOT, READ, WRITE, Difference


def counted(poller, *names):
    stats = poller.stats()
    return tuple(getattr(stats, name) for name in names)


# stats


def test_waits_and_their_events_are_counted(poller, make_socketpair):
    for _ in range(3):
        ours, _theirs = make_socketpair()
        poller.register(ours, WRITE)

    poller.poll(0)
    poller.select(1)
    poller.wait()
    poller.poll(0, 2)

    assert counted(poller, "waits", "events") == (4, 11)


def test_a_wait_without_events_counts_too(poller):
    poller.poll(0)
    poller.poll(0.001)

    assert counted(poller, "waits", "events") == (2, 0)


def test_control_calls_are_counted_as_made_or_avoided(epoll_poller, socketpair):
    ours, _ = socketpair
    epoll_poller.register(ours, READ)
    epoll_poller.modify(ours, READ)
    epoll_poller.modify(ours, READ, "other data")
    epoll_poller.modify(ours, WRITE)
    epoll_poller.unregister(ours)

    assert counted(epoll_poller, "control_calls", "control_calls_avoided") == (3, 2)


def test_poll_and_select_make_no_control_calls(scanning_poller, socketpair):
    ours, _ = socketpair
    scanning_poller.register(ours, READ)
    scanning_poller.modify(ours, WRITE)
    scanning_poller.unregister(ours)

    assert counted(scanning_poller, "control_calls") == (0,)


def test_wakeups_are_counted_when_they_end_a_wait(poller):
    for _ in range(3):
        poller.wakeup()
    assert counted(poller, "wakeups") == (0,)

    poller.poll(20)

    assert counted(poller, "wakeups", "waits") == (1, 1)


def test_growths_are_counted(make_poller, make_eventfd):
    poller = make_poller(capacity=2)
    for _ in range(9):
        poller.register(make_eventfd(), READ)

    assert counted(poller, "growths") == (3,)
    assert poller.capacity == 16


def test_interruptions_are_counted(poller, on_alarm):
    if type(poller).__name__ == "StdlibPoller":
        pytest.skip("the standard library does not report interruptions")
    on_alarm(lambda: None, 0.01, 0.01)

    poller.poll(0.2)

    assert counted(poller, "interruptions") >= (1,)
    assert counted(poller, "waits") == (1,)


def test_waits_of_all_threads_count_and_go_on_counting_when_arrays_are_gone(poller, start_thread):
    for _ in range(3):
        start_thread(poller.wait, 0).result()

    assert counted(poller, "waits") == (3,)


def test_a_closed_poller_keeps_its_counts(poller):
    poller.poll(0)
    poller.close()

    assert counted(poller, "waits") == (1,)


# audit


def test_audit_finds_nothing_in_a_consistent_set(poller, make_socketpair, make_eventfd):
    pairs = [make_socketpair() for _ in range(3)]
    poller.register(pairs[0][0], READ)
    poller.register(pairs[1][0], READ | WRITE)
    poller.register(pairs[2][0], 0)
    poller.register(make_eventfd(), READ)
    poller.poll(0.001)
    poller.wakeup()

    assert poller.audit() == []


def test_audit_accepts_every_trigger(epoll_poller, make_socketpair):
    for events in (READ | EDGE, WRITE | ONESHOT, READ | EXCLUSIVE, WRITE | ONESHOT | EDGE):
        epoll_poller.register(make_socketpair()[0], events)
    epoll_poller.poll(0)

    assert epoll_poller.audit() == []


def test_a_file_closed_without_being_unregistered_is_found(poller, make_socketpair):
    ours, _ = make_socketpair()
    key = poller.register(ours, READ)
    fd = ours.fileno()
    ours.close()

    assert poller.audit() == [Difference(fd, key, "closed")]

    poller.unregister(ours)
    assert poller.audit() == []


def test_a_file_that_a_duplicate_keeps_in_the_set_is_found(epoll_poller, make_socketpair):
    ours, _ = make_socketpair()
    copy = os.dup(ours.fileno())
    epoll_poller.register(ours, READ)
    fd = ours.fileno()
    ours.close()
    epoll_poller.unregister(ours)

    assert epoll_poller.audit() == [Difference(fd, None, "left over")]
    os.close(copy)


def test_a_change_behind_the_back_of_the_poller_is_found(epoll_poller, make_socketpair):
    import select

    ours, theirs = make_socketpair()
    key = epoll_poller.register(ours, READ)
    other_key = epoll_poller.register(theirs, READ)
    backdoor = select.epoll.fromfd(os.dup(epoll_poller.fileno()))
    try:
        backdoor.modify(ours, WRITE)
        backdoor.unregister(theirs)
    finally:
        backdoor.close()

    assert {(row.fd, row.key, row.problem) for row in epoll_poller.audit()} >= {
        (ours.fileno(), key, "events"),
        (theirs.fileno(), other_key, "missing"),
    }


def test_a_closed_poller_has_nothing_to_compare(poller):
    poller.close()

    with pytest.raises(ValueError, match="closed poller"):
        poller.audit()
