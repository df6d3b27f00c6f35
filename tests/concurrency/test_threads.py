"""One poller, several threads."""

from __future__ import annotations

import os
import queue
import threading
import time

from fastmux import ONESHOT, READ, WRITE

TIMEOUT = 20.0


def test_a_waiter_sees_what_another_thread_registers(wait, poller, socketpair, start_thread):
    """The descriptor is idle when it is registered, and becomes ready later."""
    ours, theirs = socketpair
    waiter = start_thread(wait, 3 * TIMEOUT).until_blocked()

    poller.register(ours, READ)
    theirs.send(b"x")

    assert waiter.result()


def test_a_waiter_sees_what_is_ready_when_another_thread_registers_it(poller, socketpair, start_thread):
    ours, _ = socketpair
    waiter = start_thread(poller.poll, 3 * TIMEOUT).until_blocked()

    poller.register(ours, WRITE)

    assert waiter.result() == [(ours.fileno(), WRITE)]


def test_two_waiters_see_what_another_thread_registers(poller, make_socketpair, start_thread):
    waiters = [start_thread(poller.poll, 3 * TIMEOUT).until_blocked() for _ in range(2)]
    pairs = [make_socketpair() for _ in range(2)]
    expected = {(ours.fileno(), WRITE) for ours, _ in pairs}

    for ours, _ in pairs:
        poller.register(ours, WRITE)

    for waiter in waiters:
        found = waiter.result()
        assert found
        assert set(found) <= expected


def test_a_waiter_sees_what_another_thread_modifies(poller, socketpair, start_thread):
    ours, _ = socketpair
    poller.register(ours, READ)
    waiter = start_thread(poller.poll, 3 * TIMEOUT).until_blocked()

    poller.modify(ours, READ | WRITE)

    assert waiter.result() == [(ours.fileno(), WRITE)]


def test_a_waiter_does_not_see_what_another_thread_has_unregistered(poller, make_socketpair, start_thread):
    (ours, theirs), (last, peer) = make_socketpair(), make_socketpair()
    poller.register(ours, READ)
    poller.register(last, READ)
    waiter = start_thread(poller.poll, 3 * TIMEOUT).until_blocked()

    poller.unregister(ours)
    theirs.send(b"x")
    waiter.until_blocked()
    peer.send(b"x")

    assert waiter.result() == [(last.fileno(), READ)]


def test_a_waiter_still_sees_the_rest_after_another_thread_has_unregistered_something(
    poller, make_socketpair, start_thread
):
    (one, _), (two, peer_of_two) = make_socketpair(), make_socketpair()
    poller.register(one, READ)
    poller.register(two, READ)
    waiter = start_thread(poller.poll, 3 * TIMEOUT).until_blocked()

    poller.unregister(one)
    one.close()
    peer_of_two.send(b"x")

    assert waiter.result() == [(two.fileno(), READ)]


def test_a_report_of_a_removed_registration_does_not_end_a_wait(wait, poller, make_eventfd, start_thread):
    """A result is empty after a timeout or a wake-up only, not because a registration is gone."""
    gone, there = make_eventfd(1), make_eventfd(1)
    for _ in range(20):
        waiter = start_thread(wait, 3 * TIMEOUT).until_blocked()

        poller.register(gone, READ)
        poller.unregister(gone)
        poller.register(there, READ)

        assert waiter.result()
        poller.unregister(there)


def test_a_key_of_another_thread_is_the_one_that_is_reported(poller, socketpair, start_thread):
    ours, theirs = socketpair
    key = start_thread(poller.register, ours, READ, "data").result()
    theirs.send(b"x")

    assert poller.select(TIMEOUT) == [(key, READ)]


def test_results_of_two_waiters_never_mix(poller, make_eventfd, start_thread):
    """All threads wait on the same ready descriptors, so each result must be complete."""
    fds = [make_eventfd(1) for _ in range(30)]
    keys = {fd: poller.register(fd, READ, fd) for fd in fds}
    expected = sorted((fd, READ) for fd in fds)

    def by_poll():
        for _ in range(300):
            assert sorted(poller.poll(0)) == expected

    def by_select():
        for _ in range(300):
            found = poller.select(0.5)
            assert all(key is keys[key.fd] for key, _ in found)
            assert sorted((key.fd, events) for key, events in found) == expected

    def by_wait():
        for _ in range(300):
            n = poller.wait(0)
            assert sorted(zip(poller.fds[:n], poller.events[:n])) == expected

    tasks = [start_thread(function) for function in (by_poll, by_poll, by_select, by_select, by_wait, by_wait)]
    for task in tasks:
        task.result()


def test_two_waiters_receive_every_message_once(poller, make_eventfd, start_thread):
    """Eventfds as semaphores count the reads: none is missing, none is extra."""
    fds = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_SEMAPHORE) for _ in range(8)]
    done = make_eventfd()
    rounds = 200
    received: queue.Queue[int] = queue.Queue()
    for fd in [*fds, done]:
        poller.register(fd, READ)

    def consume():
        while True:
            found = poller.poll(TIMEOUT)
            assert found, "no message has arrived"
            for fd, events in found:
                assert events == READ
                if fd == done:
                    return
                try:
                    os.eventfd_read(fd)
                except BlockingIOError:  # the other thread was faster
                    continue
                received.put(fd)

    consumers = [start_thread(consume) for _ in range(2)]
    for _ in range(rounds):
        for fd in fds:
            os.eventfd_write(fd, 1)
    counts = dict.fromkeys(fds, 0)
    for _ in range(rounds * len(fds)):
        counts[received.get(timeout=TIMEOUT)] += 1
    os.eventfd_write(done, 1)
    for consumer in consumers:
        consumer.result()
    for fd in fds:
        os.close(fd)

    assert counts == dict.fromkeys(fds, rounds)
    assert received.empty()


def test_a_oneshot_event_goes_to_one_of_two_waiters(epoll_poller, make_eventfd, start_thread):
    fd = make_eventfd()
    epoll_poller.register(fd, READ | ONESHOT)
    results: queue.Queue[list] = queue.Queue()
    waiters = [start_thread(lambda: results.put(epoll_poller.poll())) for _ in range(2)]
    for waiter in waiters:
        waiter.until_blocked()

    os.eventfd_write(fd, 1)
    first = results.get(timeout=TIMEOUT)
    epoll_poller.wakeup()
    second = results.get(timeout=TIMEOUT)

    assert (first, second) == ([(fd, READ)], [])


def test_registrations_change_in_one_thread_while_another_polls(poller, make_eventfd, start_thread):
    """Each report has the events and the key of a registration."""
    steady = make_eventfd(1)
    changing = [make_eventfd(1) for _ in range(10)]
    steady_key = poller.register(steady, READ, "steady")
    stop = threading.Event()

    def change():
        for _ in range(60):
            for fd in changing:
                poller.register(fd, READ, fd)
            for fd in changing:
                poller.modify(fd, 0)
            for fd in changing:
                poller.unregister(fd)
        stop.set()

    task = start_thread(change)
    deadline = time.monotonic() + TIMEOUT
    while not stop.is_set() and time.monotonic() < deadline:
        found = poller.select(0)
        assert (steady_key, READ) in found
        assert all(key.data == ("steady" if key.fd == steady else key.fd) for key, _ in found)
        assert {events for _, events in poller.poll(0)} == {READ}
    task.result()

    assert poller.select(0) == [(steady_key, READ)]


def test_two_threads_can_register_at_once(poller, make_eventfd, start_thread):
    halves = [[make_eventfd(1) for _ in range(100)] for _ in range(2)]

    def register_all(fds):
        for fd in fds:
            poller.register(fd, READ)

    for task in [start_thread(register_all, half) for half in halves]:
        task.result()

    assert sorted(poller.poll(0)) == sorted((fd, READ) for half in halves for fd in half)


def test_a_poller_used_by_many_threads_in_turn_keeps_working(poller, make_eventfd, start_thread):
    fd = make_eventfd(1)
    key = poller.register(fd, READ)

    def use():
        n = poller.wait(0)
        return poller.poll(0), poller.select(0), list(zip(poller.fds[:n], poller.events[:n]))

    for _ in range(20):
        assert start_thread(use).result() == ([(fd, READ)], [(key, READ)], [(fd, READ)])


def test_a_poller_made_in_one_thread_can_be_used_and_closed_in_another(make_poller, make_eventfd, start_thread):
    fd = make_eventfd(1)
    poller = start_thread(make_poller).result()
    poller.register(fd, READ)
    assert poller.poll(0) == [(fd, READ)]

    start_thread(poller.close).result()

    assert poller.closed


def test_descriptors_of_waits_do_not_pile_up(poller, start_thread, open_descriptors):
    """Descriptors of the waits of ended threads are reused or closed."""

    def wait_everywhere():
        return poller.poll(0), poller.select(0), poller.wait(0)

    counts = []
    for _ in range(30):
        start_thread(wait_everywhere).result()
        counts.append(len(open_descriptors()))

    assert max(counts[10:]) <= max(counts[:10])
