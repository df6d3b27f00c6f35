"""EpollSelector beyond the standard class: more events, wake-ups from other threads, waits below a millisecond."""

from __future__ import annotations

import os
import socket
import time

import pytest

import fastmux
from fastmux import selectors
from fastmux.selectors import EVENT_READ, EVENT_WRITE

pytestmark = pytest.mark.skipif(
    fastmux.implementation != "c" or "epoll" not in fastmux.Poller.mechanisms,
    reason="the standard EpollSelector has no extras",
)

TIMEOUT = 20.0


@pytest.fixture
def epoll():
    with selectors.EpollSelector() as made:
        yield made


# Events


def test_urgent_data_is_reported_apart_from_reading_and_writing(epoll, tcp_pair):
    ours, theirs = tcp_pair
    key = epoll.register(ours, EVENT_READ | selectors.EVENT_PRIORITY)
    theirs.send(b"!", socket.MSG_OOB)

    assert epoll.select(TIMEOUT) == [(key, selectors.EVENT_PRIORITY)]


def test_urgent_data_alone_can_be_waited_for(epoll, tcp_pair):
    ours, theirs = tcp_pair
    key = epoll.register(ours, selectors.EVENT_PRIORITY)
    theirs.send(b"ordinary")
    assert epoll.select(0.05) == []
    theirs.send(b"!", socket.MSG_OOB)

    assert epoll.select(TIMEOUT) == [(key, selectors.EVENT_PRIORITY)]


def test_half_close_is_reported_without_reading(epoll, tcp_pair):
    ours, theirs = tcp_pair
    key = epoll.register(ours, fastmux.PEER_CLOSED)
    theirs.send(b"last words")
    theirs.shutdown(socket.SHUT_WR)

    assert epoll.select(TIMEOUT) == [(key, fastmux.PEER_CLOSED)]


def test_modify_adds_and_removes_more_events(epoll, tcp_pair):
    ours, theirs = tcp_pair
    epoll.register(ours, EVENT_READ)
    key = epoll.modify(ours, selectors.EVENT_PRIORITY, "urgent")
    theirs.send(b"!", socket.MSG_OOB)
    assert epoll.select(TIMEOUT) == [(key, selectors.EVENT_PRIORITY)]

    key = epoll.modify(ours, EVENT_WRITE)
    assert epoll.select(TIMEOUT) == [(key, EVENT_WRITE)]


def test_an_edge_is_reported_once_and_again_after_modify(epoll, socketpair):
    ours, theirs = socketpair
    key = epoll.register(ours, EVENT_READ | fastmux.EDGE)
    theirs.send(b"x")
    assert epoll.select(TIMEOUT) == [(key, EVENT_READ)]
    assert epoll.select(0) == []

    epoll.modify(ours, EVENT_READ | fastmux.EDGE)
    assert epoll.select(TIMEOUT) == [(key, EVENT_READ)]


def test_the_same_modify_rearms_a_one_shot_registration(epoll, socketpair):
    ours, theirs = socketpair
    key = epoll.register(ours, EVENT_READ | fastmux.ONESHOT)
    theirs.send(b"x")
    assert epoll.select(TIMEOUT) == [(key, EVENT_READ)]
    assert epoll.select(0) == []

    assert epoll.modify(ours, EVENT_READ | fastmux.ONESHOT) == key
    assert epoll.select(TIMEOUT) == [(key, EVENT_READ)]


def test_an_exclusive_registration_can_be_changed(epoll, socketpair):
    ours, theirs = socketpair
    epoll.register(ours, EVENT_READ | fastmux.EXCLUSIVE)
    key = epoll.modify(ours, EVENT_WRITE | fastmux.EXCLUSIVE)
    assert epoll.select(TIMEOUT) == [(key, EVENT_WRITE)]

    key = epoll.modify(ours, EVENT_READ)
    theirs.send(b"x")
    assert epoll.select(TIMEOUT) == [(key, EVENT_READ)]


def test_a_trigger_without_an_event_is_refused(epoll, socketpair):
    with pytest.raises(ValueError, match="Invalid events"):
        epoll.register(socketpair[0], fastmux.EDGE)


def test_a_hang_up_ends_a_wait_for_urgent_data_only(epoll, socketpair):
    ours, theirs = socketpair
    key = epoll.register(ours, selectors.EVENT_PRIORITY)
    theirs.close()

    assert epoll.select(TIMEOUT) == [(key, selectors.EVENT_PRIORITY)]


def test_a_file_refused_with_more_events_leaves_no_trace(epoll, tmp_path):
    with open(tmp_path / "file", "w") as file:
        with pytest.raises(PermissionError):
            epoll.register(file, EVENT_READ | fastmux.EDGE)
        assert len(epoll.get_map()) == 0
    assert epoll.select(0) == []


# Wake-ups


def test_a_wakeup_ends_a_wait_of_another_thread(epoll, start_thread):
    thread = start_thread(epoll.select, None).until_blocked()
    epoll.wakeup()

    assert thread.result() == []


def test_a_wakeup_before_a_wait_ends_the_next_one_only(epoll):
    epoll.wakeup()
    epoll.wakeup()
    begin = time.monotonic()
    assert epoll.select(TIMEOUT) == []
    assert time.monotonic() - begin < TIMEOUT
    begin = time.monotonic()
    assert epoll.select(0.05) == []
    assert time.monotonic() - begin >= 0.05


def test_a_wakeup_hides_nothing_that_is_ready(epoll, socketpair):
    ours, theirs = socketpair
    key = epoll.register(ours, EVENT_READ)
    theirs.send(b"x")
    epoll.wakeup()
    found = epoll.select(TIMEOUT)

    assert (found or epoll.select(0)) == [(key, EVENT_READ)]


@pytest.mark.parametrize("make", [lambda: selectors.EpollSelector(), fastmux.Poller], ids=["EpollSelector", "Poller"])
def test_a_wakeup_shortens_no_result(make, socketpair):
    """The ready array has one row more than there are descriptors, whenever it grows."""
    ours, theirs = socketpair
    theirs.send(b"x")
    copies = []
    with make() as poller:
        for number in range(1, 200):
            copies.append(os.dup(ours.fileno()))
            poller.register(copies[-1], EVENT_READ)
            poller.wakeup()
            assert [len(poller.select(0)) for _ in range(2)] == [number, number]
    for fd in copies:
        os.close(fd)


@pytest.mark.parametrize("timeout", [0, 0.0, -1])
def test_a_non_blocking_select_consumes_a_wakeup(epoll, socketpair, timeout):
    for _ in range(2):
        epoll.wakeup()
        assert epoll.select(timeout) == []
        begin = time.monotonic()
        assert epoll.select(0.05) == []
        assert time.monotonic() - begin >= 0.05
        if len(epoll.get_map()) == 0:
            epoll.register(socketpair[0], EVENT_READ)


def test_closing_ends_a_wait_of_another_thread(epoll, start_thread):
    thread = start_thread(epoll.select, None).until_blocked()
    epoll.close()

    with pytest.raises(ValueError, match="closed epoll object"):
        thread.result()


def test_a_stale_key_does_not_change_the_wake_up_that_has_its_number(epoll, start_thread):
    r, w = os.pipe()
    epoll.register(r, EVENT_READ)
    os.close(r)
    assert epoll.select(0.001) == []  # creates the wake-up, which gets the number
    with pytest.raises(OSError, match="Bad file descriptor"):
        epoll.modify(r, EVENT_WRITE)
    with pytest.raises(KeyError):
        epoll.unregister(r)
    thread = start_thread(epoll.select, None).until_blocked()
    epoll.wakeup()
    assert thread.result() == []
    os.close(w)


# Timeouts


def test_a_wait_can_be_shorter_than_a_millisecond(epoll):
    shortest = 1.0
    for _ in range(50):
        begin = time.perf_counter()
        epoll.select(0.0001)
        shortest = min(shortest, time.perf_counter() - begin)

    assert shortest < 0.001


def test_a_select_that_begins_during_a_signal_handler_does_not_lengthen_the_interrupted_one(
    epoll, on_alarm, start_thread
):
    epoll.select(0)
    others = []

    def handler():
        if not others:
            others.append(start_thread(epoll.select, None).until_blocked())

    on_alarm(handler, 0.8, 0.01)
    start = time.monotonic()
    assert epoll.select(1) == []
    elapsed = time.monotonic() - start
    on_alarm(list, 0)
    epoll.wakeup()

    assert others[0].result() == []
    assert 1 <= elapsed < 1.7
