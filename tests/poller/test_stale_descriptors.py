"""Descriptors that are closed, reused or duplicated while registered."""

from __future__ import annotations

import errno
import os
import select

import pytest

import fastmux
from fastmux import READ, WRITE

TIMEOUT = 20.0
POLLNVAL = select.POLLNVAL


# Closed


def test_a_closed_descriptor_cannot_be_registered(poller, make_socketpair):
    ours, _ = make_socketpair()
    fd = ours.detach()
    os.close(fd)

    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        poller.register(fd)

    assert len(poller) == 0
    assert fd not in poller


def test_a_descriptor_that_was_refused_can_be_registered_once_it_is_open(poller):
    poller.poll(0)  # opens all descriptors of the poller
    fd = os.eventfd(1)
    os.close(fd)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        poller.register(fd)

    assert os.eventfd(1) == fd
    poller.register(fd)

    assert poller.poll(0) == [(fd, READ)]
    os.close(fd)


def test_a_file_closed_without_being_unregistered_is_silent_on_epoll(epoll_poller, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    epoll_poller.register(ours)
    ours.close()

    assert epoll_poller.poll(0) == []


def test_a_file_closed_without_being_unregistered_is_reported_on_poll_and_select(scanning_poller):
    fd = os.eventfd(1)
    scanning_poller.register(fd, READ)
    assert scanning_poller.poll(0) == [(fd, READ)]
    os.close(fd)

    if scanning_poller.mechanism == "poll":
        assert scanning_poller.poll(TIMEOUT) == [(fd, POLLNVAL)]
    else:
        with pytest.raises(OSError, match=f"{os.strerror(errno.EBADF)}|not a socket"):  # the latter on Windows
            scanning_poller.poll(TIMEOUT)
    scanning_poller.unregister(fd)
    assert scanning_poller.poll(0) == []


# Reused


def test_a_reused_descriptor_is_reported_under_its_new_key_only(poller):
    reports = []
    for i in range(5):
        fd = os.eventfd(1)
        key = poller.register(fd, READ, i)
        reports.append((poller.select(0) == [(key, READ)], poller.poll(0) == [(fd, READ)]))
        os.close(fd)
        poller.unregister(fd)

    assert reports == [(True, True)] * 5
    assert poller.select(0) == []


def test_a_reused_descriptor_is_watched_for_its_new_events(poller, make_eventfd):
    fd = os.eventfd(1)
    poller.register(fd, READ | WRITE, "old")
    assert poller.poll(0) == [(fd, READ | WRITE)]
    os.dup2(make_eventfd(0), fd)
    poller.unregister(fd)

    key = poller.register(fd, READ, "new")

    assert poller.select(0) == []
    os.eventfd_write(fd, 1)
    assert poller.select(0) == [(key, READ)]
    os.close(fd)


# Duplicated


def test_a_duplicate_is_a_descriptor_of_its_own(poller, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    other = os.dup(ours.fileno())
    poller.register(ours, READ)
    poller.register(other, READ | WRITE)

    assert sorted(poller.poll(0)) == sorted([(ours.fileno(), READ), (other, READ | WRITE)])
    poller.unregister(ours)
    assert poller.poll(0) == [(other, READ | WRITE)]
    os.close(other)


def test_a_file_that_a_duplicate_keeps_open_is_not_reported_after_unregister(poller):
    """The kernel keeps reporting it from an epoll set, and nothing can remove it."""
    fd = os.eventfd(1)
    duplicate = os.dup(fd)
    poller.register(fd, READ)
    os.close(fd)

    poller.unregister(fd)

    assert poller.poll(0) == []
    assert poller.select(0.01) == []
    assert poller.wait(0.01) == 0
    os.close(duplicate)


def test_a_stale_report_does_not_hide_other_events(poller, make_eventfd):
    fd = os.eventfd(1)
    duplicate = os.dup(fd)
    poller.register(fd, READ)
    os.close(fd)
    poller.unregister(fd)
    other = make_eventfd(1)
    poller.register(other, READ)

    for _ in range(5):
        assert [events for reported, events in poller.poll(TIMEOUT, maxevents=1) if reported == other] == [READ]
    os.close(duplicate)


def test_a_stale_file_is_not_reported_under_its_reused_number(poller):
    """The old file is ready, the new one is not. An epoll set reports the old file under the number of the new one.

    StdlibPoller cannot tell them apart: select.epoll has no generation in its events.
    """
    fooled = isinstance(poller, fastmux.StdlibPoller) and poller.mechanism == "epoll"
    fd = os.eventfd(1)
    duplicate = os.dup(fd)
    poller.register(fd, READ, "old")
    os.close(fd)
    poller.unregister(fd)
    assert os.eventfd(0) == fd

    poller.register(fd, READ, "new")

    assert poller.poll(0) == ([(fd, READ)] if fooled else [])
    assert poller.select(0.01) == ([(poller.get_key(fd), READ)] if fooled else [])
    assert poller.wait(0) == fooled
    os.close(fd)
    os.close(duplicate)


def test_a_file_that_is_back_under_its_old_number_can_be_registered(poller, socketpair):
    """A duplicate kept it in the epoll set, because unregister() could not remove a closed number."""
    ours, theirs = socketpair
    number = os.dup(ours.fileno())
    poller.register(number, READ)
    os.close(number)
    poller.unregister(number)
    os.dup2(ours.fileno(), number)

    poller.register(number, READ)
    theirs.send(b"x")

    assert poller.poll(TIMEOUT) == [(number, READ)]
    poller.unregister(number)
    os.close(number)
