"""Many threads on one poller or selector, with a thread switch every microsecond."""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import random
import select
import sys
import threading
import time

import pytest

import fastmux
from fastmux.selectors import EVENT_READ, EVENT_WRITE, EpollSelector, PollSelector

TIMEOUT = 20.0
BOTH = EVENT_READ | EVENT_WRITE
CLASSES = dict.fromkeys([fastmux.Poller, fastmux.StdlibPoller])
POLLERS = {f"{cls.__name__}-{name}": functools.partial(cls, name) for cls in CLASSES for name in cls.mechanisms}
#: Several threads may wait on a poller or EpollSelector, one on a PollSelector, while others change registrations.
WATCHERS = POLLERS | {"EpollSelector": EpollSelector, "PollSelector": PollSelector}
#: Watchers with a wakeup(), whose waits see registrations of other threads.
WAKEABLE = [*POLLERS, *(["EpollSelector"] if hasattr(EpollSelector, "wakeup") else [])]


@pytest.fixture(autouse=True)
def many_switches():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(params=WATCHERS)
def watcher(request):
    made = WATCHERS[request.param]()
    yield made
    made.close()


def masks(watcher):
    """Return the masks of this watcher for reading, writing and both."""
    if isinstance(watcher, EpollSelector | PollSelector):
        return EVENT_READ, EVENT_WRITE, BOTH
    return fastmux.READ, fastmux.WRITE, fastmux.READ | fastmux.WRITE


def waits(watcher):
    """Return a function for each waiting thread. Its result: ready descriptor -> data (None: unknown)."""

    def select(timeout):
        return {key.fd: key.data for key, _ in watcher.select(timeout)}

    def poll(timeout):
        return dict.fromkeys((fd for fd, _ in watcher.poll(timeout)), None)

    def wait(timeout):
        return dict.fromkeys(watcher.fds[: watcher.wait(timeout)], None)

    if isinstance(watcher, PollSelector):
        return [select]
    if isinstance(watcher, EpollSelector):
        return [select, select]
    return [select, poll, wait]


def is_cut_short(watcher):
    """Whether it waits with the standard epoll object, which limits a result to the number of keys at its start."""
    return isinstance(getattr(watcher, "_selector", None), getattr(select, "epoll", ()))


def test_every_report_was_registered_during_the_wait(watcher, make_eventfd, start_thread):
    """Each descriptor has a count of changes: odd is registered. No wait reports one that stayed unregistered."""
    read, write, both = masks(watcher)
    steady = {make_eventfd(1): "steady" for _ in range(3)}
    for fd, data in steady.items():
        watcher.register(fd, read, data)
    changes = {make_eventfd(1): 0 for _ in range(12)}
    stop = threading.Event()

    def change(fds):
        while not stop.is_set():
            for fd in fds:
                changes[fd] += 1  # reports are valid from here on
                watcher.register(fd, random.choice([read, write, both]), changes[fd])
                for events in random.choices([read, write, both], k=2):
                    watcher.modify(fd, events, changes[fd])
            for fd in fds:
                watcher.unregister(fd)
                changes[fd] += 1  # reports are invalid from here on

    def check_reports(wait):
        while not stop.is_set():
            before = changes.copy()
            found = wait(random.choice([0, 0.001, None]))
            after = changes.copy()
            assert found.keys() <= steady.keys() | changes.keys()
            assert is_cut_short(watcher) or steady.keys() <= found.keys()
            for fd, data in found.items():
                if fd in changes:
                    assert before[fd] != after[fd] or before[fd] % 2, "not registered"
                    assert data is None or before[fd] <= data <= after[fd], "a stale key"
                else:
                    assert data in (None, "steady")

    def wake():
        while not stop.is_set() and hasattr(watcher, "wakeup"):
            watcher.wakeup()
            time.sleep(0.0005)

    fds = list(changes)
    tasks = [start_thread(change, fds[i::3]) for i in range(3)]
    tasks += [start_thread(check_reports, wait) for wait in waits(watcher)]
    tasks += [start_thread(wake)]
    time.sleep(0.3)
    stop.set()
    for task in tasks:
        task.result()

    assert {key.fd for key, _ in watcher.select(0)} == steady.keys()
    assert sum(changes.values()) > 100


@pytest.mark.parametrize("make", WATCHERS.values(), ids=WATCHERS)
def test_a_descriptor_far_above_the_others_is_reported_with_its_key(make, make_eventfd, start_thread):
    """Whatever is sized by the highest number grows while other threads change registrations."""
    fd = make_eventfd(1)
    for far in range(256, 1024, 64):
        fds = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, far) for _ in range(7)]
        steady, *changing = fds
        with make() as watcher:
            read, _, both = masks(watcher)
            watcher.register(steady, both, steady)
            stop = threading.Event()

            def change(fds, watcher=watcher, stop=stop, read=read, both=both):
                while not stop.is_set():
                    for fd in fds:
                        watcher.register(fd, read, fd)
                        watcher.modify(fd, both, fd)
                        watcher.modify(fd, read, fd)
                    for fd in fds:
                        watcher.unregister(fd)

            tasks = [start_thread(change, changing[i::2]) for i in range(2)]
            try:
                for _ in range(30):
                    reported = dict(watcher.select(0))
                    expected = {key.fd: key.fd for key in reported} | (
                        {} if is_cut_short(watcher) else {steady: steady}
                    )
                    assert {key.fd: key.data for key in reported} == expected
                    assert all(events and not events & ~both for events in reported.values())
            finally:
                stop.set()
            for task in tasks:
                task.result()
            assert [(key.fd, key.data, events) for key, events in watcher.select(0)] == [(steady, steady, both)]
        for number in fds:
            os.close(number)


@pytest.mark.parametrize("watcher", WAKEABLE, indirect=True)
def test_everything_ready_is_reported_eventually(watcher, make_eventfd, start_thread):
    """Nothing else is ready, so a wait must report what other threads register or modify during it."""
    read, _, _ = masks(watcher)
    rounds = 40
    reported = {make_eventfd(1): threading.Event() for _ in range(6)}
    stop = threading.Event()

    def own(fds):
        for number, fd in itertools.product(range(rounds), fds):
            reported[fd].clear()
            watcher.register(fd, read, number)
            assert reported[fd].wait(TIMEOUT), "never reported"
            watcher.unregister(fd)

    def check_reports(wait):
        while not stop.is_set():
            for fd in wait(TIMEOUT):
                reported[fd].set()

    fds = list(reported)
    owners = [start_thread(own, fds[i::3]) for i in range(3)]
    waiters = [start_thread(check_reports, wait) for wait in waits(watcher)]
    try:
        for owner in owners:
            owner.result()
    finally:
        stop.set()
        while any(waiter.is_alive() for waiter in waiters):
            watcher.wakeup()
            time.sleep(0.001)


@pytest.mark.parametrize("make", POLLERS.values(), ids=POLLERS)
def test_a_close_at_any_moment_ends_whatever_is_going_on(make, make_eventfd, start_thread, open_descriptors):
    fds = [make_eventfd(1) for _ in range(6)]
    before = open_descriptors()

    def change(poller, fd):
        while True:
            poller.register(fd, fastmux.READ)
            poller.modify(fd, 0)
            poller.modify(fd, fastmux.READ)
            poller.unregister(fd)

    def again_and_again(function, *args):
        while True:
            function(*args)

    for number in range(8):
        poller = make()
        tasks = [start_thread(change, poller, fd) for fd in fds[:3]]
        tasks += [start_thread(again_and_again, wait, None) for wait in (poller.poll, poller.select, poller.wait)]
        tasks += [start_thread(again_and_again, poller.wakeup)]
        time.sleep(0.0005 * number)
        closers = [start_thread(poller.close) for _ in range(2)]
        for closer in closers:
            closer.result()
        for task in tasks:
            with pytest.raises(ValueError, match="closed poller"):
                task.result()
        assert open_descriptors() == before
