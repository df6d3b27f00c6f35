"""EpollSelector beyond the standard class: more events, wake-ups, short waits."""

from __future__ import annotations

import contextlib
import os
import socket
import time

import pytest

import fastmux
from fastmux.selectors import EVENT_PRIORITY, EVENT_READ, EVENT_WRITE, EpollSelector, SelectSelector

PATIENCE = 20.0


@pytest.fixture
def epoll():
    with EpollSelector() as made:
        yield made


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


@pytest.mark.parametrize("selector", ["EpollSelector", "PollSelector"], indirect=True)
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
