"""What fastmux.selectors can do beyond the standard module."""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import signal
import socket
import threading
import time

import pytest

import fastmux
from fastmux.selectors import EVENT_PRIORITY, EVENT_READ, EVENT_WRITE, EpollSelector, PollSelector, SelectSelector

ALL = [EpollSelector, PollSelector, SelectSelector]
PATIENCE = 20.0


@pytest.fixture(params=ALL, ids=lambda cls: cls.__name__)
def selector(request):
    with request.param() as made:
        yield made


@pytest.fixture(params=ALL, ids=lambda cls: cls.__name__)
def healing(request):
    with request.param(heal=True) as made:
        yield made


@pytest.fixture
def epoll():
    with EpollSelector() as made:
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


def test_urgent_data_is_reported_apart_from_reading_and_writing(selector, tcp_pair):
    ours, theirs = tcp_pair
    key = selector.register(ours, EVENT_READ | EVENT_PRIORITY)
    theirs.send(b"!", socket.MSG_OOB)

    assert selector.select(PATIENCE) == [(key, EVENT_PRIORITY)]


def test_urgent_data_alone_can_be_waited_for(selector, tcp_pair):
    ours, theirs = tcp_pair
    key = selector.register(ours, EVENT_PRIORITY)
    theirs.send(b"ordinary")
    assert selector.select(0.05) == []
    theirs.send(b"!", socket.MSG_OOB)

    assert selector.select(PATIENCE) == [(key, EVENT_PRIORITY)]


@pytest.mark.parametrize("selector", [EpollSelector, PollSelector], indirect=True)
def test_half_close_is_reported_without_reading(selector, tcp_pair):
    ours, theirs = tcp_pair
    key = selector.register(ours, fastmux.PEER_CLOSED)
    theirs.send(b"last words")
    theirs.shutdown(socket.SHUT_WR)

    assert selector.select(PATIENCE) == [(key, fastmux.PEER_CLOSED)]


def test_more_events_can_be_asked_for_and_given_up_by_modify(selector, tcp_pair):
    ours, theirs = tcp_pair
    selector.register(ours, EVENT_READ)
    key = selector.modify(ours, EVENT_PRIORITY, "urgent")
    theirs.send(b"!", socket.MSG_OOB)
    assert selector.select(PATIENCE) == [(key, EVENT_PRIORITY)]

    key = selector.modify(ours, EVENT_WRITE)
    assert selector.select(PATIENCE) == [(key, EVENT_WRITE)]


def test_an_edge_is_reported_once_and_again_after_modify(epoll, socketpair):
    ours, theirs = socketpair
    key = epoll.register(ours, EVENT_READ | fastmux.EDGE)
    theirs.send(b"x")
    assert epoll.select(PATIENCE) == [(key, EVENT_READ)]
    assert epoll.select(0) == []

    epoll.modify(ours, EVENT_READ | fastmux.EDGE)
    assert epoll.select(PATIENCE) == [(key, EVENT_READ)]


def test_a_one_shot_registration_is_armed_again_by_the_same_modify(epoll, socketpair):
    ours, theirs = socketpair
    key = epoll.register(ours, EVENT_READ | fastmux.ONESHOT)
    theirs.send(b"x")
    assert epoll.select(PATIENCE) == [(key, EVENT_READ)]
    assert epoll.select(0) == []

    assert epoll.modify(ours, EVENT_READ | fastmux.ONESHOT) == key
    assert epoll.select(PATIENCE) == [(key, EVENT_READ)]


def test_an_exclusive_registration_can_be_changed(epoll, socketpair):
    ours, theirs = socketpair
    epoll.register(ours, EVENT_READ | fastmux.EXCLUSIVE)
    key = epoll.modify(ours, EVENT_WRITE | fastmux.EXCLUSIVE)
    assert epoll.select(PATIENCE) == [(key, EVENT_WRITE)]

    key = epoll.modify(ours, EVENT_READ)
    theirs.send(b"x")
    assert epoll.select(PATIENCE) == [(key, EVENT_READ)]


@pytest.mark.parametrize("cls", [PollSelector, SelectSelector])
@pytest.mark.parametrize("event", [fastmux.EDGE, fastmux.ONESHOT, fastmux.EXCLUSIVE], ids=["EDGE", "ONESHOT", "EXCL"])
def test_what_only_epoll_can_do_is_refused_elsewhere(cls, event, socketpair):
    with cls() as selector, pytest.raises(ValueError, match="Invalid events"):
        selector.register(socketpair[0], EVENT_READ | event)


def test_a_way_of_reporting_without_anything_to_report_is_refused(epoll, socketpair):
    with pytest.raises(ValueError, match="Invalid events"):
        epoll.register(socketpair[0], fastmux.EDGE)


def test_a_hang_up_wakes_whoever_waits_for_urgent_data_only(selector, socketpair):
    ours, theirs = socketpair
    if isinstance(selector, SelectSelector):
        pytest.skip("select(2) has no word for it")
    key = selector.register(ours, EVENT_PRIORITY)
    theirs.close()

    assert selector.select(PATIENCE) == [(key, EVENT_PRIORITY)]


def test_a_file_refused_with_more_events_leaves_no_trace(epoll, tmp_path):
    with open(tmp_path / "file", "w") as file:
        with pytest.raises(PermissionError):
            epoll.register(file, EVENT_READ | fastmux.EDGE)
        assert len(epoll.get_map()) == 0
    assert epoll.select(0) == []


# Waking up


def test_a_wakeup_ends_a_wait_of_another_thread(selector, start_thread):
    thread = start_thread(selector.select, None).until_blocked()
    selector.wakeup()

    assert thread.result() == []


def test_a_wakeup_before_a_wait_ends_the_next_one_only(selector):
    selector.wakeup()
    selector.wakeup()
    begin = time.monotonic()
    assert selector.select(PATIENCE) == []
    assert time.monotonic() - begin < PATIENCE
    begin = time.monotonic()
    assert selector.select(0.05) == []
    assert time.monotonic() - begin >= 0.05


def test_a_wakeup_hides_nothing_that_is_ready(selector, socketpair):
    ours, theirs = socketpair
    key = selector.register(ours, EVENT_READ)
    theirs.send(b"x")
    selector.wakeup()
    found = selector.select(PATIENCE)

    assert (found or selector.select(0)) == [(key, EVENT_READ)]


def test_closing_ends_a_wait_of_another_thread(selector, start_thread):
    def wait():
        with contextlib.suppress(ValueError):  # what epoll says
            assert selector.select(None) == []

    thread = start_thread(wait).until_blocked()
    selector.close()
    thread.result()


# Time


@pytest.mark.parametrize("timeout", [1e-9, 0.0002, 0.0005])
def test_a_wait_is_never_cut_short(selector, timeout):
    for _ in range(50):
        begin = time.perf_counter()
        assert selector.select(timeout) == []
        assert time.perf_counter() - begin >= timeout


@pytest.mark.skipif(fastmux.implementation != "c", reason="the standard selectors count milliseconds")
def test_waits_are_shorter_than_a_millisecond_if_asked_to_be(selector):
    if isinstance(selector, EpollSelector) and "epoll" not in fastmux.Poller.mechanisms:
        pytest.skip("the extension was built without epoll, and the standard one counts milliseconds")
    shortest = 1.0
    for _ in range(50):
        begin = time.perf_counter()
        selector.select(0.0001)
        shortest = min(shortest, time.perf_counter() - begin)

    assert shortest < 0.001


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


def test_registering_in_one_thread_and_waiting_in_another_loses_nothing(start_thread):
    """A key that is changed while the other thread reads results is never reported with old data for good."""
    with EpollSelector() as selector:
        pairs = [socket.socketpair() for _ in range(8)]
        try:
            for ours, theirs in pairs:
                theirs.send(b"x")
                selector.register(ours, EVENT_READ, 0)
            stop = threading.Event()

            def wait():
                while not stop.is_set():
                    for key, _ in selector.select(0.01):
                        assert key.fileobj in by_socket

            by_socket = {ours for ours, _ in pairs}
            thread = start_thread(wait)
            for data in range(2000):
                for ours, _ in pairs:
                    selector.modify(ours, EVENT_READ, data)
            stop.set()
            thread.result()
            assert {key.data for key, _ in selector.select(PATIENCE)} == {1999}
        finally:
            for pair in pairs:
                for end in pair:
                    end.close()


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


# What programs do with selectors


@pytest.mark.parametrize("heal", [False, True])
@pytest.mark.parametrize("name", ["SelectSelector", "PollSelector", "EpollSelector"])
@pytest.mark.parametrize("own", [False, True], ids=["", "own"])
def test_methods_that_a_subclass_overrides_are_called(name, heal, own, socketpair):
    ours, theirs = socketpair
    calls = []

    class Mine(getattr(fastmux.selectors, name)):
        def register(self, *args):
            calls.append("register")
            return super().register(*args)

        def select(self, timeout=None):
            calls.append("select")
            return [key.data for key, _ in super().select(timeout)]

    if own and name != "SelectSelector":
        Mine._selector_cls = getattr(selectors, name)._selector_cls
    with Mine(heal=heal) as selector:
        selector.register(ours, EVENT_READ, "data")
        assert selector.select(0) == []
        theirs.send(b"x")
        assert selector.select(PATIENCE) == selector.select(0) == ["data"]
        assert selector.modify(ours, EVENT_WRITE, 1).data == 1
        assert selector.select(0) == [1]
        selector.unregister(ours)
        selector.wakeup()
        assert selector.select(PATIENCE) == []
    assert calls[:2] == ["register", "select"]  # the standard SelectSelector.modify() registers anew
    assert calls.count("select") == 5


def test_an_overridden_select_is_not_called_by_the_selector_itself():
    """With more ready than there is room for it looks twice."""

    class Mine(EpollSelector):
        def select(self, timeout=None):
            return [key.data for key, _ in super().select(timeout)]

    r, w = os.pipe()
    os.write(w, b"x")
    copies = [os.dup(r) for _ in range(200)]
    with Mine() as selector:
        for fd in copies:
            selector.register(fd, EVENT_READ, fd)
        assert sorted(selector.select(0)) == copies
    for fd in (r, w, *copies):
        os.close(fd)


def test_registering_while_another_thread_waits_never_shows_half_a_registration(start_thread):
    """Also in the ways that are not the usual one: with healing, and with more events."""
    for heal, more in ((False, 0), (True, 0), (False, EVENT_PRIORITY)):
        with EpollSelector(heal=heal) as selector:
            r, w = os.pipe()
            os.write(w, b"x")
            stop = threading.Event()

            def wait(selector=selector, stop=stop):
                while not stop.is_set():
                    assert None not in selector.select(0.01)

            thread = start_thread(wait)
            for _ in range(30):
                copies = [os.dup(r) for _ in range(60)]
                for fd in copies:
                    selector.register(fd, EVENT_READ | more)
                for fd in copies:
                    selector.unregister(fd)
                    os.close(fd)
            stop.set()
            thread.result()
            os.close(r)
            os.close(w)


def test_the_number_of_a_closed_file_may_become_the_wake_up_and_nothing_happens_to_that(epoll, start_thread):
    r, w = os.pipe()
    epoll.register(r, EVENT_READ)
    os.close(r)
    assert epoll.select(0.001) == []  # makes the wake-up, which gets the number
    with pytest.raises(OSError, match="Bad file descriptor"):
        epoll.modify(r, EVENT_WRITE)
    with pytest.raises(KeyError):
        epoll.unregister(r)
    thread = start_thread(epoll.select, None).until_blocked()
    epoll.wakeup()
    assert thread.result() == []
    os.close(w)


def test_a_change_between_report_and_look_up_is_the_newer_one(epoll, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    epoll.register(ours, EVENT_READ)
    epoll.modify(ours, EVENT_READ | EVENT_WRITE)
    key = epoll.modify(ours, EVENT_WRITE)
    assert epoll.select(0) == [(key, EVENT_WRITE)]
    assert epoll.modify(ours, EVENT_READ).events == EVENT_READ
    assert epoll.select(0) == [(epoll.get_key(ours), EVENT_READ)]


@pytest.mark.parametrize("timeout", [0, 0.0, -1])
def test_a_look_without_waiting_answers_a_wakeup(selector, socketpair, timeout):
    for _ in range(2):
        selector.wakeup()
        assert selector.select(timeout) == []
        begin = time.monotonic()
        assert selector.select(0.05) == []
        assert time.monotonic() - begin >= 0.05
        if len(selector.get_map()) == 0:
            selector.register(socketpair[0], EVENT_READ)


class InterruptionError(Exception):
    """Raised by a signal handler."""


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


def test_an_interrupted_poll_loses_no_registration(on_alarm):
    r, w = os.pipe()
    os.write(w, b"x")
    copies = [os.dup(r) for _ in range(40)]

    def interrupt():
        if armed:
            raise InterruptionError

    armed = False
    interrupted = 0
    for step in range(300):
        poll = fastmux.select.poll()
        for fd in copies[:20]:
            poll.register(fd, 1)
        assert len(poll.poll(0)) == len(poll.poll(0)) == 20
        for fd in copies[20:]:
            poll.register(fd, 1)
        try:
            try:
                armed = True
                on_alarm(interrupt, 1e-6 * (1 + step % 30))
                poll.poll(0)
                poll.poll(0)
            finally:
                armed = False
        except InterruptionError:
            interrupted += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert len(poll.poll(0)) == len(poll.poll(0)) == 40
    for fd in (r, w, *copies):
        os.close(fd)
    assert interrupted > 5
