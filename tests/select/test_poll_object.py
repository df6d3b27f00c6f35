"""select.poll: registrations survive interrupted calls."""

from __future__ import annotations

import os
import signal

import fastmux


class InterruptionError(Exception):
    """Raised by a signal handler."""


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
