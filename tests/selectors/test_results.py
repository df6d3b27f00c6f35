"""What fastmux.selectors can do beyond the standard module."""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import signal
import socket
import time

import pytest

import fastmux
from fastmux.selectors import EVENT_READ, EVENT_WRITE, EpollSelector, PollSelector, SelectSelector

PATIENCE = 20.0
ALL = [EpollSelector, PollSelector, SelectSelector]


@pytest.fixture(params=ALL, ids=lambda cls: cls.__name__)
def healing(request):
    with request.param(heal=True) as made:
        yield made


def test_a_selector_is_one_of_the_standard_ones(selector):
    assert isinstance(selector, selectors.BaseSelector)
    assert isinstance(selector, getattr(selectors, type(selector).__name__))


# The usual events


@pytest.mark.parametrize("files", [1, 3, 40], ids=["one", "few", "many"])
@pytest.mark.parametrize("changed", [False, True], ids=["registered", "modified"])
@pytest.mark.parametrize("asked", [EVENT_READ, EVENT_WRITE, EVENT_READ | EVENT_WRITE])
@pytest.mark.parametrize("state", ["writable", "readable", "both", "hung up"])
def test_what_is_ready_is_what_the_standard_selector_says(selector, state, asked, changed, files):
    """In each state of a file, for each question: once alone, and once in a result of several rows."""
    pairs = [socket.socketpair() for _ in range(files)]
    with getattr(selectors, type(selector).__name__)() as standard, contextlib.ExitStack() as ends:
        for ours, theirs in pairs:
            ends.enter_context(ours)
            ends.enter_context(theirs)
            ours.setblocking(False)
            if state == "readable":
                with contextlib.suppress(BlockingIOError):
                    while True:
                        ours.send(bytes(1 << 16))
            if state in ("readable", "both"):
                theirs.send(b"x")
            if state == "hung up":
                theirs.close()
            for each in (standard, selector):
                each.register(ours, EVENT_READ | EVENT_WRITE if changed else asked, "data")
                if changed:
                    each.modify(ours, EVENT_READ ^ EVENT_WRITE ^ asked or EVENT_READ, "data")
                    each.modify(ours, asked, "data")
        expected = sorted(standard.select(0), key=lambda pair: pair[0].fd)
        for _ in range(3):  # the first question may go another way than the later ones
            assert sorted(selector.select(0), key=lambda pair: pair[0].fd) == expected


# More events


class Odd:
    """Its number is 1, if one asks int()."""

    def fileno(self):
        return True


def test_true_is_a_number_too():
    with selectors.PollSelector() as standard, PollSelector() as ours:  # epoll may refuse what 1 is here
        for each in (standard, ours):
            each.register(Odd(), EVENT_WRITE)
            assert each.modify(Odd(), EVENT_READ).events == EVENT_READ
            assert each.modify(Odd(), EVENT_WRITE, "data").fd == 1
            assert each.unregister(Odd()).data == "data"


@pytest.mark.parametrize("cls", [PollSelector, SelectSelector])
@pytest.mark.parametrize("event", [fastmux.EDGE, fastmux.ONESHOT, fastmux.EXCLUSIVE], ids=["EDGE", "ONESHOT", "EXCL"])
def test_what_only_epoll_can_do_is_refused_elsewhere(cls, event, socketpair):
    with cls() as selector, pytest.raises(ValueError, match="Invalid events"):
        selector.register(socketpair[0], EVENT_READ | event)


# Time


@pytest.mark.parametrize("timeout", [1e-9, 0.0002, 0.0005])
def test_a_wait_is_never_cut_short(selector, timeout):
    for _ in range(50):
        begin = time.perf_counter()
        assert selector.select(timeout) == []
        assert time.perf_counter() - begin >= timeout


# Many


def test_everything_that_is_ready_is_reported_at_once(selector, descriptors_limit):
    descriptors_limit(max(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    if isinstance(selector, SelectSelector) and fastmux.implementation != "c":
        pytest.skip("the standard select() has a limit")
    r, w = os.pipe()
    os.write(w, b"x")
    copies = [os.dup(r) for _ in range(2500)]
    try:
        for fd in copies:
            selector.register(fd, EVENT_READ)
        assert sorted(key.fd for key, _ in selector.select(0)) == copies
        assert sorted(key.fd for key, _ in selector.select(0)) == copies
    finally:
        for fd in [r, w, *copies]:
            os.close(fd)


def test_results_never_mix_up_old_and_new_keys(selector, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    for data in range(100):
        key = selector.register(ours, EVENT_READ, data)
        assert selector.select(PATIENCE) == [(key, EVENT_READ)]
        key = selector.modify(ours, EVENT_READ | EVENT_WRITE, -data)
        assert selector.select(PATIENCE) == [(key, EVENT_READ | EVENT_WRITE)]
        assert selector.select(PATIENCE)[0][0] is key
        selector.unregister(ours)
        assert selector.select(0) == []


class InterruptionError(Exception):
    pass


@pytest.fixture
def epoll():
    with EpollSelector() as made:
        yield made


# Healing


def reuse(selector, fileobj):
    """Register a file, close it behind the selector's back, and return another file with its number, and its peer."""
    fd = fileobj.fileno()
    selector.register(fileobj, EVENT_READ, "old")
    fileobj.close()
    ours, theirs = socket.socketpair()
    if ours.fileno() != fd:
        os.dup2(ours.fileno(), fd)
        ours.close()
        ours = socket.socket(fileno=fd)
    return ours, theirs


def test_the_number_of_a_closed_file_can_be_registered_again(healing):
    first, peer = socket.socketpair()
    with peer:
        ours, theirs = reuse(healing, first)
        with ours, theirs:
            key = healing.register(ours, EVENT_READ, "new")
            theirs.send(b"x")

            assert healing.select(PATIENCE) == [(key, EVENT_READ)]
            assert list(healing.get_map().values()) == [key]


def test_a_number_is_healed_by_its_inode_if_registered_as_a_number(healing):
    first, peer = socket.socketpair()
    with peer:
        fd = first.fileno()
        healing.register(fd, EVENT_READ)
        first.close()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            if ours.fileno() != fd:
                os.dup2(ours.fileno(), fd)
            key = healing.register(fd, EVENT_WRITE)

            assert healing.get_key(fd) is key
            healing.unregister(fd)
            if ours.fileno() != fd:
                os.close(fd)


def test_an_open_file_is_still_registered_once_only(healing, socketpair):
    key = healing.register(socketpair[0], EVENT_READ)
    with pytest.raises(KeyError, match="already registered"):
        healing.register(socketpair[0], EVENT_READ)

    assert healing.get_key(socketpair[0]) is key


def test_without_heal_the_old_key_stays_as_in_the_standard_module(selector):
    first, peer = socket.socketpair()
    with peer:
        ours, theirs = reuse(selector, first)
        with ours, theirs:
            with pytest.raises(KeyError, match="already registered"):
                selector.register(ours, EVENT_READ)
            selector.unregister(ours)


# Errors


def test_a_closed_epoll_selector_says_so(epoll):
    epoll.close()
    with pytest.raises(ValueError, match="closed epoll object"):
        epoll.select(0)


@pytest.mark.parametrize("cls", [PollSelector, SelectSelector])
def test_where_no_descriptor_is_left_a_wait_can_still_be_ended(cls, descriptors_limit, start_thread, socketpair):
    """The standard selectors of these kinds need none. This one looks up now and then."""
    ours, theirs = socketpair
    busy = PollSelector()
    occupied = start_thread(busy.select, None).until_blocked()  # with the descriptor that was there already
    with cls() as selector:
        key = selector.register(ours, EVENT_READ)
        spare = [os.dup(0) for _ in range(max(map(int, os.listdir("/proc/self/fd"))))]
        descriptors_limit(len(spare))
        try:
            begin = time.monotonic()
            assert selector.select(0.1) == []
            assert time.monotonic() - begin >= 0.1
            thread = start_thread(selector.select, None)
            selector.wakeup()
            assert thread.result() == []
            theirs.send(b"x")
            assert selector.select(PATIENCE) == [(key, EVENT_READ)]
        finally:
            for fd in spare:
                os.close(fd)
    busy.wakeup()
    assert occupied.result() == []


def test_a_change_between_report_and_look_up_is_the_newer_one(epoll, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    epoll.register(ours, EVENT_READ)
    epoll.modify(ours, EVENT_READ | EVENT_WRITE)
    key = epoll.modify(ours, EVENT_WRITE)
    assert epoll.select(0) == [(key, EVENT_WRITE)]
    assert epoll.modify(ours, EVENT_READ).events == EVENT_READ
    assert epoll.select(0) == [(epoll.get_key(ours), EVENT_READ)]


@pytest.mark.parametrize("cls", [EpollSelector, PollSelector])
def test_an_interrupted_change_leaves_no_ghost(cls, socketpair, on_alarm):
    """Whatever an exception interrupts: what is reported has a key, and the key of the map."""
    ours, theirs = socketpair
    theirs.send(b"x")

    def interrupt():
        if armed:
            raise InterruptionError

    armed = False
    interrupted = 0
    with cls() as selector:
        for step in range(1500):
            try:
                try:
                    armed = True
                    on_alarm(interrupt, 1e-6 * (1 + step % 40))
                    selector.register(ours, EVENT_READ, "data")
                    selector.modify(ours, EVENT_READ | EVENT_WRITE, "data")
                    selector.modify(ours, EVENT_READ, "data")
                    selector.unregister(ours)
                finally:
                    armed = False
            except InterruptionError:
                interrupted += 1
            except (KeyError, OSError):
                pass  # what was interrupted before has left something half done, as in the standard selectors
            signal.setitimer(signal.ITIMER_REAL, 0)
            for key, _ in selector.select(0):
                assert dict(selector.get_map()).get(ours.fileno()) is key
            with contextlib.suppress(KeyError):
                selector.unregister(ours)
            assert selector.select(0) == []
    assert interrupted > 20
