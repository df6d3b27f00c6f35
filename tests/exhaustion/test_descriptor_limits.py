"""No free descriptor, or a limit of open files below the number of open ones."""

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

# No free descriptor


def test_without_descriptors_a_mirror_is_made_or_refused_like_its_standard(twins, leave_descriptors, open_descriptors):
    before = open_descriptors()
    leave_descriptors(0)
    outcome = same([error_of(make) for make in twins])
    leave_descriptors(None)

    assert outcome == (errno.EMFILE if twins[0].__name__ in ("epoll", "EpollSelector") else None)
    gc.collect()
    assert open_descriptors() == before


def test_an_event_loop_is_made_or_refused_and_leaks_nothing(leave_descriptors, open_descriptors):
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


def test_a_wait_is_woken_without_a_free_descriptor(epoll_poller, leave_descriptors, start_thread):
    leave_descriptors(0)
    for wait in (epoll_poller.poll, epoll_poller.select, epoll_poller.wait):
        begin = time.monotonic()
        assert not wait(0.05)
        assert time.monotonic() - begin >= 0.05
        waiter = start_thread(wait, 3 * TIMEOUT)
        epoll_poller.wakeup()
        assert not waiter.result()
        epoll_poller.wakeup()
        assert not wait(TIMEOUT)
    leave_descriptors(None)


TIMEOUT = 20.0


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
            assert same([ready(watcher, TIMEOUT) for watcher in watchers]) == {fd}
        finally:
            leave_descriptors(None)


@pytest.fixture
def many(make_eventfd):
    """More descriptors than the limit of the test, one of them ready."""
    return [make_eventfd(1), *(make_eventfd() for _ in range(40))]


#: A limit of open files. poll(2) accepts no longer list than this.
TOO_FEW = 20


def test_a_limit_below_the_open_files_fails_poll_only(poller, many, descriptors_limit):
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


def test_a_limit_below_the_open_files_has_the_same_effect_on_a_mirror(twins, many, descriptors_limit):
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
    """Make all calls that open descriptors."""
    poller = make_poller()
    poller.register(fd, READ)
    poller.wakeup()
    for wait in (poller.poll, poller.select, poller.wait):
        assert wait(0)
    poller.close()


def test_running_out_of_descriptors_is_an_os_error_and_leaks_nothing(
    make_poller, make_eventfd, leave_descriptors, open_descriptors
):
    """With any number left, the calls work or raise EMFILE, and close() releases every descriptor."""
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
    assert sorted(outcomes) == outcomes, "it works with fewer descriptors, and not with more"


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
