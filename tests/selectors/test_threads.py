"""One thread changes registrations or closes the selector while another waits."""

from __future__ import annotations

import os
import selectors
import socket
import threading

import pytest

import fastmux
from fastmux.selectors import EVENT_READ, EpollSelector

TIMEOUT = 20.0


def test_registering_in_one_thread_and_waiting_in_another_loses_nothing(start_thread):
    """A key that changes while another thread reads results is not reported with its old data afterwards."""
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
            assert {key.data for key, _ in selector.select(TIMEOUT)} == {1999}
        finally:
            for pair in pairs:
                for end in pair:
                    end.close()


def test_registering_while_another_thread_waits_never_shows_half_a_registration(start_thread):
    """Also with EVENT_PRIORITY, where EpollSelector has it: those registrations take another code path."""
    for more in [0, fastmux.selectors.EVENT_PRIORITY] if hasattr(EpollSelector, "wakeup") else [0]:
        with EpollSelector() as selector:
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


@pytest.mark.parametrize("module", [selectors, fastmux.selectors], ids=lambda module: module.__name__)
@pytest.mark.parametrize("name", ["PollSelector", "SelectSelector"])
def test_a_wait_reports_no_key_after_another_thread_has_closed_the_selector(module, name, socketpair, start_thread):
    ours, theirs = socketpair
    selector = getattr(module, name)()
    selector.register(ours, EVENT_READ)
    thread = start_thread(selector.select, None).until_blocked()

    selector.close()
    theirs.send(b"x")

    assert thread.result() == []
