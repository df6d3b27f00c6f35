"""Up to Python 3.11 any allocation may run the garbage collector, and so any Python code, in the middle of a call."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import weakref

import pytest

import fastmux
from fastmux import READ
from fastmux.selectors import EVENT_READ, EVENT_WRITE

pytestmark = pytest.mark.skipif(
    fastmux.implementation != "c" or "epoll" not in fastmux.Poller.mechanisms,
    reason="the standard selectors do not promise it",
)

#: Allocations before the collector runs.
moments = pytest.mark.parametrize("moment", range(1, 16))


class Trap:
    """Garbage in a cycle, whose destructor runs a function."""

    def __init__(self, function):
        self.function = function
        self.cycle = self

    def __del__(self):
        self.function()


class Data:
    """Data that a weak reference can point to."""


@pytest.fixture(params=["EpollSelector", "PollSelector"])
def selector(request):
    with getattr(fastmux.selectors, request.param)() as made:
        yield made


@pytest.fixture
def collect_during():
    """Call a function so that the collector runs a trap after some allocations; return the result."""
    thresholds = gc.get_threshold()

    def collect_during(moment, function, trap):
        # These exhaust the interpreter's reserve of pairs, which needs no allocation.
        hoard = [(number, number) for number in range(2500)]
        gc.collect()
        Trap(trap)
        gc.set_threshold(gc.get_count()[0] + moment, 1000, 1000)
        try:
            return function()
        finally:
            gc.set_threshold(*thresholds)
            gc.collect()
            hoard.clear()

    gc.collect()
    gc.freeze()  # makes collections fast
    yield collect_during
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.fixture
def pairs():
    made = [socket.socketpair() for _ in range(3)]
    for _, theirs in made:
        theirs.send(b"x")
    yield made
    for pair in made:
        for end in pair:
            end.close()


@moments
def test_a_key_that_changes_during_a_wait_is_not_reported_again(selector, pairs, collect_during, moment):
    def trap():
        for ours, _ in pairs:
            selector.modify(ours, EVENT_READ, "new")

    for ours, _ in pairs:
        selector.register(ours, EVENT_READ, "old")
    collect_during(moment, lambda: selector.select(0), trap)

    assert [key.data for key, _ in selector.select(0)] == ["new"] * 3


@moments
def test_a_poller_does_not_report_a_key_again_that_changes_during_a_wait(poller, pairs, collect_during, moment):
    def trap():
        for ours, _ in pairs:
            poller.modify(ours, READ, "new")

    for ours, _ in pairs:
        poller.register(ours, READ, "old")
    collect_during(moment, lambda: poller.select(0), trap)

    assert [key.data for key, _ in poller.select(0)] == ["new"] * 3


@moments
def test_data_that_is_unregistered_during_a_wait_is_not_kept(selector, pairs, collect_during, moment):
    def trap():
        for ours, _ in pairs:
            selector.unregister(ours)

    references = []
    for ours, _ in pairs:
        key = selector.register(ours, EVENT_READ, Data())
        references.append(weakref.ref(key.data))
    del key
    collect_during(moment, lambda: selector.select(0) and None, trap)

    assert [reference() for reference in references] == [None] * 3


@moments
def test_a_file_may_be_unregistered_while_it_is_modified(selector, pairs, collect_during, moment):
    ours = pairs[0][0]
    selector.register(ours, EVENT_READ, "old")

    def modify():
        with contextlib.suppress(KeyError):
            selector.modify(ours, EVENT_READ, "new")

    collect_during(moment, modify, lambda: selector.unregister(ours))

    assert len(selector.get_map()) == 0
    assert selector.select(0) == []


@moments
def test_a_file_may_be_registered_while_it_is_registered(selector, pairs, collect_during, moment):
    ours = pairs[0][0]

    def register():
        with contextlib.suppress(KeyError):
            selector.register(ours, EVENT_READ)

    collect_during(moment, register, register)

    assert selector.select(0) == [(selector.get_key(ours), EVENT_READ)]


@moments
def test_a_destructor_may_wait_during_a_wait(selector, collect_during, moment):
    r, w = os.pipe()
    copies = [os.dup(w) for _ in range(100)]
    for fd in copies:
        selector.register(fd, EVENT_WRITE)
    found = []
    try:
        result = collect_during(moment, lambda: selector.select(0), lambda: found.append(selector.select(0)))
        assert sorted(key.fd for key, _ in result) == copies
        assert found[0] == result
    finally:
        for fd in (r, w, *copies):
            os.close(fd)


@moments
def test_the_collector_sees_no_object_with_empty_places(selector, pairs, collect_during, moment):
    files = [ours for ours, _ in pairs]

    def trap():
        for each in gc.get_objects():
            if type(each) in (tuple, list):
                assert "<NULL>" not in repr(each)

    for ours in files:
        selector.register(ours, EVENT_READ)
    assert len(collect_during(moment, lambda: selector.select(0), trap)) == 3
    assert len(collect_during(moment, lambda: fastmux.select.select(files, files, [], 0), trap)) == 3
