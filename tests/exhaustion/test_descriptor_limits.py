"""No descriptor left, or a limit of open files below the number that is open."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import select
import time

import pytest

import fastmux
from fastmux import READ

from .outcomes import error_of, made, ready, same

# Making


def test_without_descriptors_a_mirror_is_made_or_refused_like_its_standard(twins, leave_descriptors, open_descriptors):
    before = open_descriptors()
    leave_descriptors(0)
    outcome = same([error_of(make) for make in twins])
    leave_descriptors(None)

    assert outcome == (errno.EMFILE if twins[0].__name__ in ("epoll", "EpollSelector") else None)
    gc.collect()
    assert open_descriptors() == before


def test_an_event_loop_is_made_or_refused_and_leaves_nothing(leave_descriptors, open_descriptors):
    """However many descriptors there are left."""
    before = open_descriptors()
    outcomes = []
    for count in range(8):
        leave_descriptors(count)
        try:
            with contextlib.closing(fastmux.new_event_loop()) as loop:
                loop.run_until_complete(asyncio.sleep(0.001))
            outcomes.append(None)
        except OSError as error:
            outcomes.append(error.errno)
        leave_descriptors(None)
        assert open_descriptors() == before, count

    assert outcomes[0] == errno.EMFILE
    assert outcomes[-1] is None
    assert set(outcomes) == {errno.EMFILE, None}


def test_a_wait_that_sleeps_without_a_descriptor_to_wake_it_is_woken_nevertheless(
    epoll_poller, leave_descriptors, start_thread
):
    """Only the reference has one from the beginning; the other looks up now and then."""
    leave_descriptors(0)
    for wait in (epoll_poller.poll, epoll_poller.select, epoll_poller.wait):
        begin = time.monotonic()
        assert not wait(0.05)
        assert time.monotonic() - begin >= 0.05
        waiter = start_thread(wait, 3 * PATIENCE)
        epoll_poller.wakeup()
        assert not waiter.result()
        epoll_poller.wakeup()
        assert not wait(PATIENCE)
    leave_descriptors(None)


# A lower limit than what is open


PATIENCE = 20.0


@pytest.mark.parametrize("twins", ["poll", "PollSelector", "SelectSelector"], indirect=True)
def test_a_wait_on_poll_and_select_needs_no_descriptor(twins, make_eventfd, leave_descriptors):
    fd = make_eventfd()
    with made(*twins) as watchers:
        for watcher in watchers:
            watcher.register(fd, 1)
        leave_descriptors(0)
        try:
            assert same([ready(watcher, 0.05) for watcher in watchers]) == set()
            os.eventfd_write(fd, 1)
            assert same([ready(watcher, PATIENCE) for watcher in watchers]) == {fd}
        finally:
            leave_descriptors(None)


@pytest.fixture
def many(make_eventfd):
    """More descriptors than the limit that is about to be set, one of them ready."""
    return [make_eventfd(1), *(make_eventfd() for _ in range(40))]


#: poll(2) takes no more descriptors than may be open.
TOO_FEW = 20


def test_a_limit_below_what_is_open_concerns_poll_only_while_it_lasts(poller, many, descriptors_limit):
    for fd in many:
        poller.register(fd, READ)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for wait in (poller.poll, poller.select, poller.wait):
        assert wait(0.001)
        descriptors_limit(TOO_FEW)
        outcomes = [error_of(wait, timeout) for timeout in (0, 0.001, None)]
        descriptors_limit(before)

        assert outcomes == [errno.EINVAL if poller.mechanism == "poll" else None] * 3
        assert wait(0.001)
    assert poller.poll(0) == [(many[0], READ)]


def test_a_limit_below_what_is_open_is_to_a_mirror_what_it_is_to_its_standard(twins, many, descriptors_limit):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with made(*twins) as watchers:
        for watcher in watchers:
            for fd in many:
                watcher.register(fd, 1)
        for seconds in (0, 1):
            for _ in range(3):
                assert same([ready(w, seconds) for w in watchers]) == {many[0]}
                descriptors_limit(TOO_FEW)
                outcome = same([error_of(ready, w, seconds) for w in watchers])
                descriptors_limit(before)
                assert outcome in (None, errno.EINVAL)


def test_select_goes_on_below_the_limit(many, descriptors_limit):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    descriptors_limit(TOO_FEW)
    outcome = same([module.select(many, [], [], 0.001) for module in (select, fastmux.select)])
    descriptors_limit(before)

    assert outcome == ([many[0]], [], [])


def use(make_poller, fd):
    """All that takes descriptors of its own."""
    poller = make_poller()
    poller.register(fd, READ)
    poller.wakeup()
    for wait in (poller.poll, poller.select, poller.wait):
        assert wait(0)
    poller.close()


def test_running_out_of_descriptors_is_an_os_error_and_leaks_nothing(
    make_poller, make_eventfd, leave_descriptors, open_descriptors
):
    """However many are left, it works or it says EMFILE; what could be made before is released by close()."""
    fd = make_eventfd(1)
    before = open_descriptors()
    outcomes = []
    for count in range(8):
        leave_descriptors(count)
        try:
            use(make_poller, fd)
            outcomes.append("works")
        except OSError as error:
            outcomes.append(errno.errorcode[error.errno])
        leave_descriptors(None)
        for poller in make_poller.made:
            poller.close()
        make_poller.forget()
        assert open_descriptors() == before, count

    assert outcomes[0] == "EMFILE"
    assert outcomes[-1] == "works"
    assert sorted(outcomes) == outcomes, "more descriptors must not be worse"


def test_a_registration_that_fails_for_want_of_descriptors_can_be_repeated(
    make_poller, make_eventfd, leave_descriptors
):
    fd = make_eventfd(1)
    for count in range(3):
        leave_descriptors(count)
        try:
            poller = make_poller()
        except OSError:
            continue
        finally:
            leave_descriptors(None)
        leave_descriptors(0)
        error = error_of(poller.register, fd, READ)
        leave_descriptors(None)
        if error is not None:
            assert error == errno.EMFILE
            assert len(poller) == 0
            poller.register(fd, READ)

        assert poller.poll(0) == [(fd, READ)]


def test_a_wait_that_fails_for_want_of_descriptors_can_be_repeated(poller, make_eventfd, leave_descriptors):
    fd = make_eventfd(1)
    poller.register(fd, READ)
    leave_descriptors(0)
    errors = [error_of(wait, 0) for wait in (poller.poll, poller.select, poller.wait)]
    leave_descriptors(None)

    assert set(errors) <= {None, errno.EMFILE}
    assert poller.poll(0) == [(fd, READ)]
    assert len(poller.select(0)) == poller.wait(0) == 1
