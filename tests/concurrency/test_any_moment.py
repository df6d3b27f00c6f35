"""Each method of a poller, called from a signal handler and from another thread at any moment.

Each caller has a descriptor of its own, so its results must not change. docs/promises.md has the table.
"""

from __future__ import annotations

import contextlib
import time

import pytest

from fastmux import READ, WRITE

TIMEOUT = 20.0
CALLS = 30


def register_and_unregister(poller, fd):
    poller.register(fd, READ, fd)
    poller.unregister(fd)


def use_map(poller, fd):
    registered = poller.get_map()
    return list(registered.items()), len(registered), fd in registered


def get_key(poller, fd):
    with contextlib.suppress(KeyError):
        poller.get_key(fd)


#: A call of each public name, with the poller and a descriptor of this caller only.
METHODS = {
    "register": register_and_unregister,
    "unregister": register_and_unregister,
    "modify": lambda poller, fd: (poller.register(fd), poller.modify(fd, READ | WRITE), poller.unregister(fd)),
    "get_key": get_key,
    "get_map": use_map,
    "poll": lambda poller, fd: (poller.poll(0), poller.poll(0.0001), poller.poll(0, 1)),
    "select": lambda poller, fd: (poller.select(0), poller.select(0.0001)),
    "wait": lambda poller, fd: (poller.wait(0), poller.wait(0.0001)),
    "fds": lambda poller, fd: poller.fds[0],
    "events": lambda poller, fd: poller.events[0],
    "wakeup": lambda poller, fd: poller.wakeup(),
    "stats": lambda poller, fd: poller.stats(),
    "audit": lambda poller, fd: poller.audit(),
    "fileno": lambda poller, fd: poller.mechanism == "epoll" and poller.fileno(),
}
#: Tested below, or no methods.
OTHERS = {"close", "capacity", "closed", "mechanism", "mechanisms"}


def test_every_public_method_is_in_the_list(poller):
    assert {name for name in dir(poller) if not name.startswith("_")} == METHODS.keys() | OTHERS


def use(poller, fds):
    """Register, wait in each way, modify and unregister; check the reports of these descriptors."""
    keys = [poller.register(fd, READ, fd) for fd in fds]
    mine = {(fd, READ) for fd in fds}
    assert mine <= set(poller.poll(0))
    assert mine <= set(poller.poll(TIMEOUT))
    assert {(key, READ) for key in keys} <= set(poller.select(TIMEOUT))
    assert poller.wait(0) >= len(fds)
    for fd in fds:
        poller.modify(fd, 0)
    assert not mine & set(poller.poll(0))
    for fd in fds:
        assert poller.get_key(fd).data == fd
        poller.unregister(fd)


@pytest.mark.parametrize("method", METHODS)
def test_a_signal_handler_may_call_it_at_any_moment(poller, make_eventfd, on_alarm, method):
    fds, other = [make_eventfd(1) for _ in range(3)], make_eventfd(1)
    calls = []
    busy = []  # drop a signal that arrives while the handler runs

    def handler():
        if not busy:
            busy.append(None)
            METHODS[method](poller, other)
            calls.append(method)
            busy.clear()

    on_alarm(handler, 0.0002, 0.0003)
    deadline = time.monotonic() + TIMEOUT
    while len(calls) < CALLS:
        assert time.monotonic() < deadline
        use(poller, fds)
    on_alarm(lambda: None, 0)

    assert len(poller) == 0
    use(poller, fds)


@pytest.mark.parametrize("method", METHODS)
def test_another_thread_may_call_it_at_any_moment(poller, make_eventfd, start_thread, method):
    fds, other = [make_eventfd(1) for _ in range(3)], make_eventfd(1)

    def call():
        for _ in range(CALLS):
            METHODS[method](poller, other)
            time.sleep(0)

    task = start_thread(call)
    while task.is_alive():
        use(poller, fds)
    task.result()

    assert len(poller) == 0
    use(poller, fds)


def use_for_ever(poller, fds):
    while True:
        use(poller, fds)


def test_another_thread_may_close_it_at_any_moment(make_poller, make_eventfd, start_thread, open_descriptors):
    fds = [make_eventfd(1) for _ in range(3)]
    before = open_descriptors()
    for step in range(CALLS):
        poller = make_poller()
        use(poller, fds)

        def close(poller=poller, delay=step * 1e-5):
            time.sleep(delay)
            poller.close()

        task = start_thread(close)
        with pytest.raises(ValueError, match="closed poller"):
            use_for_ever(poller, fds)
        task.result()
        assert open_descriptors() == before


def test_a_signal_handler_may_close_it_at_any_moment(make_poller, make_eventfd, on_alarm, open_descriptors):
    """An interrupted call other than a wait may raise another exception than ValueError. All descriptors are closed."""
    fds = [make_eventfd(1) for _ in range(3)]
    before = open_descriptors()
    for step in range(CALLS):
        poller = make_poller()
        on_alarm(poller.close, 0.0001 + step * 1e-5)
        deadline = time.monotonic() + TIMEOUT
        while not poller.closed:
            assert time.monotonic() < deadline
            time.sleep(0)  # CPython 3.11 may miss a signal until it next reacquires its lock
            with contextlib.suppress(ValueError, KeyError, RuntimeError, AssertionError):
                use(poller, fds)
        assert open_descriptors() == before
        with pytest.raises(ValueError, match="closed poller"):
            poller.poll()
