"""Descriptors above 1024, and thousands at once."""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import sys
import weakref

import pytest

import fastmux
from fastmux import READ
from fastmux.selectors import EVENT_READ, EVENT_WRITE

TIMEOUT = 20.0

#: Not on Windows.
PollSelector = getattr(fastmux.selectors, "PollSelector", fastmux.selectors.SelectSelector)


def uses_standard_select(poller):
    return isinstance(poller, fastmux.StdlibPoller) and poller.mechanism == "select"


def is_limited(poller):
    """Whether this poller accepts descriptors below 1024 only."""
    return uses_standard_select(poller) and sys.platform != "win32"


@pytest.fixture
def high_descriptor(descriptors_limit, make_eventfd):
    """An eventfd with a number above 1024."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors_limit(max(soft, 4096))
    fd = fcntl.fcntl(make_eventfd(1), fcntl.F_DUPFD_CLOEXEC, 3000)
    yield fd
    os.close(fd)


def test_a_descriptor_above_1024_is_watched_like_any_other(poller, high_descriptor):
    if is_limited(poller):
        with pytest.raises(ValueError, match=f"descriptor {high_descriptor} is too high.*1024"):
            poller.register(high_descriptor)
        assert len(poller) == 0
        assert poller.poll(0) == []
        return

    key = poller.register(high_descriptor, READ)

    assert high_descriptor > 1024
    assert poller.poll(TIMEOUT) == [(high_descriptor, READ)]
    assert poller.select(0) == [(key, READ)]
    os.eventfd_read(high_descriptor)
    assert poller.poll(0) == []


def register_and_wait_once(fd):
    with (
        fastmux.selectors.DefaultSelector() as epoll,
        PollSelector() as poll,
        fastmux.Poller() as own,
    ):
        for watcher, read in ((epoll, EVENT_READ), (poll, EVENT_READ), (own, READ)):
            watcher.register(fd, read, "it")
            assert [(key.data, events) for key, events in watcher.select(0)] == [("it", read)]


def test_one_wait_takes_as_much_memory_for_any_number(high_descriptor, make_eventfd, tracemalloc):
    for fd in (make_eventfd(1), high_descriptor):
        register_and_wait_once(fd)
        tracemalloc.start()
        register_and_wait_once(fd)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 50_000  # a list with one item for each lower number takes 96,000


def test_a_closed_poller_or_selector_keeps_no_data_alive(poller, high_descriptor):
    class Data:
        pass

    with fastmux.selectors.DefaultSelector() as selector, PollSelector() as other:
        watchers = [selector, other] + ([] if is_limited(poller) else [poller])
        data = Data()
        for watcher in watchers:
            watcher.register(high_descriptor, EVENT_READ, data)
            watcher.select(0)
            watcher.modify(high_descriptor, EVENT_READ | EVENT_WRITE, data)
            watcher.select(0)
            watcher.close()
        gone = weakref.ref(data)
        del data
        gc.collect()
        assert gone() is None


@pytest.mark.skipif(sys.platform == "win32", reason="SelectSelector refuses no number")
def test_refused_numbers_leave_nothing_behind(poller, tracemalloc):
    with fastmux.selectors.DefaultSelector() as selector:

        def register_all(numbers):
            for fd in numbers:
                for watcher in (poller, selector):
                    with pytest.raises((OSError, ValueError)):
                        watcher.register(fd, EVENT_READ)

        register_all(range(10**6, 10**6 + 100))
        tracemalloc.start()
        register_all(range(2 * 10**6, 2 * 10**6 + 1000))
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert left < 30_000


@pytest.mark.parametrize("number", [1023, 1024, 1025])
def test_descriptors_around_the_limit_of_select(poller, make_eventfd, descriptors_limit, number):
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors_limit(max(soft, 4096))
    fd = fcntl.fcntl(make_eventfd(1), fcntl.F_DUPFD_CLOEXEC, number)
    assert fd == number

    if is_limited(poller) and number >= 1024:
        with pytest.raises(ValueError, match="below 1024"):
            poller.register(fd)
    else:
        poller.register(fd, READ)
        assert poller.poll(0) == [(fd, READ)]
    os.close(fd)


def test_five_thousand_descriptors_at_once(poller, descriptors_limit):
    count = 5000
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors_limit(max(soft, count + 1000))
    fds = [os.eventfd(1, os.EFD_NONBLOCK) for _ in range(count)]
    try:
        if uses_standard_select(poller):
            with pytest.raises(ValueError, match=r"too (high|many)"):
                list(map(poller.register, fds))
            return
        keys = {fd: poller.register(fd, READ) for fd in fds}
        expected = sorted((fd, READ) for fd in fds)

        assert sorted(poller.poll(TIMEOUT)) == expected
        assert all(key is keys[key.fd] for key, _ in poller.select(TIMEOUT))
        assert poller.wait(TIMEOUT) == count

        for fd in fds[::2]:
            os.eventfd_read(fd)
        for fd in fds[1::4]:
            poller.unregister(fd)
        assert sorted(poller.poll(TIMEOUT)) == [(fd, READ) for fd in sorted(fds[3::4])]
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.skipif(sys.platform != "win32", reason="a limit of Windows")
def test_select_on_windows_takes_511_sockets(poller, make_eventfd):
    """And the one of its wake-up."""
    fds = [make_eventfd(1) for _ in range(512)]
    for fd in fds[:511]:
        poller.register(fd)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"too many descriptors: select\.select takes 512"):
            poller.register(fds[511])

    assert sorted(poller.poll(TIMEOUT)) == [(fd, READ) for fd in sorted(fds[:511])]
    poller.unregister(fds[0])
    poller.register(fds[511])
    assert sorted(poller.poll(TIMEOUT)) == [(fd, READ) for fd in sorted(fds[1:])]
