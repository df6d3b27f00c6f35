"""Results and timeouts of the selectors, compared with those of the standard classes."""

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

TIMEOUT = 20.0


not_standard = pytest.mark.skipif(
    fastmux.implementation != "c" or "epoll" not in fastmux.Poller.mechanisms,
    reason="EpollSelector is the standard one, which does not promise it",
)


class InterruptionError(Exception):
    """Raised by a signal handler."""


@pytest.fixture
def epoll():
    with EpollSelector() as made:
        yield made


def test_a_selector_is_one_of_the_standard_ones(selector):
    assert isinstance(selector, selectors.BaseSelector)
    assert isinstance(selector, getattr(selectors, type(selector).__name__))


# Events


def fill(sock):
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(1 << 16))


def empty(sock):
    with contextlib.suppress(BlockingIOError):
        while sock.recv(1 << 16):
            pass


@pytest.mark.parametrize("files", [1, 3, 40], ids=["one", "few", "many"])
@pytest.mark.parametrize("changed", [False, True], ids=["registered", "modified"])
@pytest.mark.parametrize("events", [EVENT_READ, EVENT_WRITE, EVENT_READ | EVENT_WRITE])
@pytest.mark.parametrize("state", ["writable", "readable", "both", "hung up"])
def test_what_is_ready_is_what_the_standard_selector_says(selector, state, events, changed, files):
    """For each state of a file and each set of events: alone, and in a result of several rows."""
    pairs = [socket.socketpair() for _ in range(files)]
    with getattr(selectors, type(selector).__name__)() as standard, contextlib.ExitStack() as ends:
        for ours, theirs in pairs:
            ends.enter_context(ours)
            ends.enter_context(theirs)
            ours.setblocking(False)
            if state == "readable":
                fill(ours)
            if state in ("readable", "both"):
                theirs.send(b"x")
            if state == "hung up":
                theirs.close()
            for each in (standard, selector):
                each.register(ours, EVENT_READ | EVENT_WRITE if changed else events, "data")
                if changed:
                    each.modify(ours, EVENT_READ ^ EVENT_WRITE ^ events or EVENT_READ, "data")
                    each.modify(ours, events, "data")
        expected = sorted(standard.select(0), key=lambda pair: pair[0].fd)
        for _ in range(3):  # the first call may take another code path than the later ones
            assert sorted(selector.select(0), key=lambda pair: pair[0].fd) == expected


@pytest.mark.parametrize("files", [1, 3], ids=["one", "few"])
@pytest.mark.parametrize("events", [EVENT_READ, EVENT_WRITE, EVENT_READ | EVENT_WRITE])
def test_a_registration_reports_each_new_state(selector, events, files):
    """Pairs are kept from one result to the next: never those of an old state."""
    pairs = [socket.socketpair() for _ in range(files)]
    with getattr(selectors, type(selector).__name__)() as standard, contextlib.ExitStack() as ends:
        for ours, theirs in pairs:
            for end in (ours, theirs):
                ends.enter_context(end)
                end.setblocking(False)
            for each in (standard, selector):
                each.register(ours, events, "data")
        for change in (
            lambda ours, theirs: None,
            lambda ours, theirs: theirs.send(b"x"),
            lambda ours, theirs: fill(ours),
            lambda ours, theirs: ours.recv(1),
            lambda ours, theirs: empty(theirs),
            lambda ours, theirs: theirs.close(),
        ):
            for ours, theirs in pairs:
                change(ours, theirs)
            expected = sorted(standard.select(0), key=lambda pair: pair[0].fd)
            assert sorted(selector.select(0), key=lambda pair: pair[0].fd) == expected


class BoolFileno:
    """Has a fileno() that returns True, which is the int 1."""

    def fileno(self):
        return True


def test_true_is_accepted_as_a_descriptor():
    with selectors.PollSelector() as standard, PollSelector() as ours:  # epoll refuses 1 if it is a regular file
        for each in (standard, ours):
            each.register(BoolFileno(), EVENT_WRITE)
            assert each.modify(BoolFileno(), EVENT_READ).events == EVENT_READ
            assert each.modify(BoolFileno(), EVENT_WRITE, "data").fd == 1
            assert each.unregister(BoolFileno()).data == "data"


@pytest.mark.parametrize("module", [selectors, fastmux.selectors], ids=lambda module: module.__name__)
@pytest.mark.parametrize("name", ["PollSelector", "SelectSelector"])
@pytest.mark.parametrize("event", [fastmux.EDGE, fastmux.ONESHOT, fastmux.EXCLUSIVE], ids=["EDGE", "ONESHOT", "EXCL"])
def test_the_triggers_of_epoll_are_refused_by_poll_and_select(module, name, event, socketpair):
    with getattr(module, name)() as selector, pytest.raises(ValueError, match="Invalid events"):
        selector.register(socketpair[0], EVENT_READ | event)


# Timeouts


@pytest.mark.parametrize("timeout", [1e-9, 0.0002, 0.0005])
def test_a_wait_is_never_cut_short(selector, timeout):
    for _ in range(50):
        begin = time.perf_counter()
        assert selector.select(timeout) == []
        assert time.perf_counter() - begin >= timeout


# Keys


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
        assert selector.select(TIMEOUT) == [(key, EVENT_READ)]
        key = selector.modify(ours, EVENT_READ | EVENT_WRITE, -data)
        assert selector.select(TIMEOUT) == [(key, EVENT_READ | EVENT_WRITE)]
        assert selector.select(TIMEOUT)[0][0] is key
        selector.unregister(ours)
        assert selector.select(0) == []


@pytest.mark.parametrize("module", [selectors, fastmux.selectors], ids=lambda module: module.__name__)
@pytest.mark.parametrize("name", ["EpollSelector", "PollSelector", "SelectSelector"])
def test_the_number_of_a_closed_file_stays_registered(module, name):
    first, peer = socket.socketpair()
    with getattr(module, name)() as selector, peer:
        fd = first.fileno()
        key = selector.register(first, EVENT_READ, "old")
        first.close()
        ours, theirs = socket.socketpair()
        if ours.fileno() != fd:
            os.dup2(ours.fileno(), fd)
            ours.close()
            ours = socket.socket(fileno=fd)
        with ours, theirs:
            with pytest.raises(KeyError, match="already registered"):
                selector.register(ours, EVENT_READ)
            assert selector.unregister(ours) is key


def test_a_closed_epoll_selector_raises_value_error(epoll):
    epoll.close()
    with pytest.raises(ValueError, match=r"closed epoll (object|fd)"):
        epoll.select(0)


def test_the_last_of_several_changes_is_reported(epoll, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    epoll.register(ours, EVENT_READ)
    epoll.modify(ours, EVENT_READ | EVENT_WRITE)
    key = epoll.modify(ours, EVENT_WRITE)
    assert epoll.select(0) == [(key, EVENT_WRITE)]
    assert epoll.modify(ours, EVENT_READ).events == EVENT_READ
    assert epoll.select(0) == [(epoll.get_key(ours), EVENT_READ)]


@pytest.mark.parametrize("cls", [pytest.param(EpollSelector, marks=not_standard), PollSelector])
def test_an_interrupted_change_leaves_no_ghost(cls, socketpair, on_alarm):
    """Whatever line an exception interrupts, every report has a key, and it is the key in the map."""
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
                pass  # an earlier interruption left the registration half done, as in the standard selectors
            signal.setitimer(signal.ITIMER_REAL, 0)
            for key, _ in selector.select(0):
                assert dict(selector.get_map()).get(ours.fileno()) is key
            with contextlib.suppress(KeyError):
                selector.unregister(ours)
            assert selector.select(0) == []
    assert interrupted > 20


class Event(int):
    """Events that the standard selector handles."""


@pytest.mark.parametrize("module", [selectors, fastmux.selectors], ids=lambda module: module.__name__)
@pytest.mark.parametrize("name", ["EpollSelector", "PollSelector"])
def test_a_report_without_a_key_ends_a_wait(module, name, socketpair):
    """A signal handler that interrupts unregister() may wait between its two steps: in the map, and in the kernel."""
    ours, theirs = socketpair
    theirs.send(b"x")
    with getattr(module, name)() as selector:
        selector.register(ours, Event(EVENT_READ))
        selector._fd_to_key.clear()

        assert selector.select() == []


@pytest.mark.parametrize("module", [selectors, fastmux.selectors], ids=lambda module: module.__name__)
def test_half_a_registration_on_poll_is_unregistered_with_a_key_error(module, socketpair):
    """Another thread may see only the first step of a register() with unusual arguments."""
    ours, _ = socketpair
    with module.PollSelector() as selector:
        selector.register(ours, EVENT_READ)
        selector._selector.unregister(ours)

        with pytest.raises(KeyError):
            selector.unregister(ours)
        assert len(selector.get_map()) == 0
