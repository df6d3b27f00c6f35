"""System calls that fail with ENOMEM, ENFILE, EMFILE or ENOSPC: the same error, an unchanged state, and recovery."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import select
import selectors

import pytest

import fastmux
from fastmux import EXCLUSIVE, READ, WRITE

from .outcomes import kernel_set, made, ready, same

TIMEOUT = 20.0


#: Operations of epoll_ctl: its argument number 1.
ADD, MODIFY = 1, 3


@pytest.mark.parametrize("error", [errno.ENFILE, errno.ENOMEM])
def test_a_mirror_that_the_kernel_refuses_raises_its_error(twins, refused, error, open_descriptors):
    before = open_descriptors()
    outcome = same([refused("epoll_create1", error, make) for make in twins])

    assert outcome in (error, None)
    gc.collect()
    assert open_descriptors() == before


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
@pytest.mark.parametrize("call", ["epoll_create1", "pipe pipe2", "socket"])
def test_a_poller_that_cannot_be_made_leaks_nothing_and_can_be_made_later(
    make_poller, make_eventfd, refused, open_descriptors, call, error
):
    fd = make_eventfd(1)
    before = open_descriptors()

    def use():
        with make_poller() as poller:
            poller.register(fd, READ)
            for timeout in (0, 0.001, 1):
                assert poller.poll(timeout) == [(fd, READ)]
            poller.modify(fd, 0)
            poller.wakeup()
            assert poller.poll(TIMEOUT) == []

    assert refused(call, error, use) in (error, None)
    for poller in make_poller.made:
        poller.close()
    make_poller.forget()
    gc.collect()
    assert open_descriptors() == before
    use()


# Registering


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.ENOMEM])
def test_what_a_poller_is_refused_to_watch_is_not_registered(epoll_poller, socketpair, refused, error):
    ours, _ = socketpair

    assert refused("epoll_ctl", error, epoll_poller.register, ours, WRITE, operation=ADD) == error
    assert (len(epoll_poller), ours in epoll_poller) == (0, False)
    assert ours.fileno() not in kernel_set(epoll_poller)
    assert epoll_poller.poll(0) == []
    with pytest.raises(KeyError):
        epoll_poller.unregister(ours)

    epoll_poller.register(ours, WRITE)
    assert kernel_set(epoll_poller)[ours.fileno()] & WRITE
    assert epoll_poller.poll(TIMEOUT) == [(ours.fileno(), WRITE)]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.ENOMEM])
@pytest.mark.parametrize("twins", ["epoll", "EpollSelector"], indirect=True)
def test_what_a_mirror_is_refused_to_watch_is_not_registered(twins, socketpair, refused, error):
    fd = socketpair[0].fileno()
    with made(*twins) as watchers:
        assert same([refused("epoll_ctl", error, w.register, fd, 1, operation=ADD) for w in watchers]) == error
        for watcher in watchers:
            assert fd not in kernel_set(watcher)
            if hasattr(watcher, "get_map"):
                assert len(watcher.get_map()) == 0
            assert ready(watcher) == set()
            watcher.register(fd, 1 | (select.EPOLLOUT if hasattr(watcher, "poll") else selectors.EVENT_WRITE))
            assert ready(watcher) == {fd}
            watcher.unregister(fd)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.ENOMEM])
@pytest.mark.parametrize("twins", ["EpollSelector"], indirect=True)
def test_a_selector_waits_with_no_watch_left(twins, refused, error):
    """The selector does without a watch for its wake-up."""
    with made(*twins) as watchers:
        for watcher in watchers:
            assert refused("epoll_ctl", error, watcher.select, 0.05, operation=ADD) is None


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.ENOMEM])
def test_a_change_that_is_refused_leaves_a_poller_as_it_was(epoll_poller, socketpair, refused, error):
    ours, theirs = socketpair
    theirs.send(b"x")
    key = epoll_poller.register(ours, READ)

    assert refused("epoll_ctl", error, epoll_poller.modify, ours, WRITE, operation=MODIFY) == error
    assert epoll_poller.get_key(ours) is key
    assert epoll_poller.select(0) == [(key, READ)]

    key = epoll_poller.modify(ours, WRITE)
    assert epoll_poller.select(0) == [(key, WRITE)]


def test_an_exclusive_registration_is_gone_if_its_change_is_refused(epoll_poller, socketpair, refused):
    """The kernel cannot change it, so modify() removes and adds it."""
    ours, _ = socketpair
    epoll_poller.register(ours, READ | EXCLUSIVE)

    error = refused("epoll_ctl", errno.ENOSPC, epoll_poller.modify, ours, WRITE | EXCLUSIVE, operation=ADD)
    assert error in (errno.ENOENT, errno.ENOSPC)
    assert ours not in epoll_poller
    assert ours.fileno() not in kernel_set(epoll_poller)

    epoll_poller.register(ours, WRITE)
    assert epoll_poller.poll(TIMEOUT) == [(ours.fileno(), WRITE)]


@pytest.mark.skipif(
    fastmux.implementation != "c" or "epoll" not in fastmux.Poller.mechanisms,
    reason="the standard selector leaves the file in its epoll set",
)
def test_a_change_that_a_selector_is_refused_ends_the_registration(socketpair, refused):
    """As in the standard selector, which leaves the file in its epoll set; fastmux removes it there, too."""
    ours, _ = socketpair
    with made(selectors.EpollSelector, fastmux.selectors.EpollSelector) as watchers:
        for watcher in watchers:
            watcher.register(ours, selectors.EVENT_WRITE)
        outcomes = [
            refused("epoll_ctl", errno.ENOMEM, w.modify, ours, selectors.EVENT_READ, operation=MODIFY) for w in watchers
        ]
        assert same(outcomes) == errno.ENOMEM
        for watcher in watchers:
            assert len(watcher.get_map()) == 0
            assert ready(watcher) == set()
        assert ours.fileno() not in kernel_set(watchers[1])
        watchers[1].register(ours, selectors.EVENT_WRITE)
        assert ready(watchers[1]) == {ours.fileno()}


@pytest.mark.parametrize("make_loop", [fastmux.EventLoop, asyncio.SelectorEventLoop], ids=["fastmux", "standard"])
def test_a_reader_that_an_event_loop_is_refused_can_be_added_later(make_loop, socketpair, refused):
    ours, theirs = socketpair
    theirs.send(b"x")

    async def main():
        loop = asyncio.get_running_loop()
        called = asyncio.Event()
        assert refused("epoll_ctl", errno.ENOSPC, loop.add_reader, ours, called.set, operation=ADD) == errno.ENOSPC
        assert not loop.remove_reader(ours)
        loop.add_reader(ours, called.set)
        await called.wait()
        assert loop.remove_reader(ours)

    with contextlib.closing(make_loop()) as loop:
        loop.run_until_complete(asyncio.wait_for(main(), TIMEOUT))


# Waiting


@pytest.mark.parametrize("timeout", [0, 0.001, None])
def test_a_wait_that_is_refused_for_want_of_memory_can_be_repeated(scanning_poller, make_eventfd, refused, timeout):
    fd = make_eventfd(1)
    scanning_poller.register(fd, READ)
    for wait in (scanning_poller.poll, scanning_poller.select, scanning_poller.wait):
        for _ in range(3):
            assert refused("poll ppoll select pselect6", errno.ENOMEM, wait, timeout) == errno.ENOMEM
        assert wait(timeout)
    scanning_poller.unregister(fd)
    assert scanning_poller.poll(0.001) == []


@pytest.mark.parametrize("twins", ["poll", "PollSelector", "SelectSelector"], indirect=True)
def test_a_failed_wait_of_a_mirror_can_be_repeated(twins, make_eventfd, refused):
    fds = [make_eventfd(1) for _ in range(3)]
    with made(*twins) as watchers:
        for watcher in watchers:
            for fd in fds:
                watcher.register(fd, 1)
        for seconds in (0, 1):
            for _ in range(3):  # the first call may take another code path than the later ones
                calls = "poll ppoll select pselect6"
                assert same([refused(calls, errno.ENOMEM, ready, w, seconds) for w in watchers]) == errno.ENOMEM
                assert same([ready(w, seconds) for w in watchers]) == set(fds)


@pytest.mark.parametrize("module", [select, fastmux.select], ids=lambda module: module.__name__)
def test_a_failed_select_can_be_repeated(module, make_eventfd, refused):
    fd = make_eventfd(1)
    for timeout in (0, 0.001, 1):
        args = ([fd], [], [], timeout)
        assert refused("poll ppoll select pselect6", errno.ENOMEM, module.select, *args) == errno.ENOMEM
        assert module.select(*args) == ([fd], [], [])
