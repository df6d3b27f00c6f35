"""Registering in one thread while another waits."""

from __future__ import annotations

import os
import socket
import threading

from fastmux.selectors import EVENT_PRIORITY, EVENT_READ, EpollSelector

PATIENCE = 20.0


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
