"""fastmux.select.select(): no limit of 1024, and no leaks after errors."""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time

import pytest

import fastmux

pytestmark = pytest.mark.skipif(
    fastmux.implementation != "c", reason="without the extension it is the standard function"
)

COUNT = 2500


@pytest.fixture
def many(descriptors_limit):
    """Duplicates of the readable end of a pipe, some of them above 1024; and the write end."""
    descriptors_limit(max(4096, os.sysconf("SC_OPEN_MAX")))
    r, w = os.pipe()
    os.write(w, b"x")
    copies = [os.dup(r) for _ in range(COUNT)]
    yield copies, w
    for fd in (r, w, *copies):
        os.close(fd)


def test_the_standard_one_has_a_limit(many):
    """The limit that the other tests exceed."""
    copies, _ = many
    with pytest.raises(ValueError, match="out of range"):
        select.select(copies[-1:], [], [], 0)


@pytest.mark.parametrize("timeout", [0, None, 5, 0.5])
def test_any_descriptor_is_accepted(many, timeout):
    copies, _ = many
    assert max(copies) > 1024
    for fds in (copies[-3:], [copies[-1], copies[0], copies[-1]], copies[:1000]):
        assert fastmux.select.select(fds, [], [], timeout) == (fds, [], [])


def test_any_number_is_accepted_in_every_list(many):
    copies, w = many
    twice = copies + copies[::-1]

    assert fastmux.select.select(twice, [w], twice, 0) == (twice, [w], [])
    assert fastmux.select.select([], copies, copies, 0) == ([], [], [])


def test_the_objects_themselves_come_back_with_one_count_more(socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    before = sys.getrefcount(ours)
    found = fastmux.select.select([ours, theirs, ours], [theirs], [ours], 0)

    assert [list(map(id, each)) for each in found] == [[id(ours)] * 2, [id(theirs)], []]
    assert sys.getrefcount(ours) == before + 2
    del found
    assert sys.getrefcount(ours) == before


class Counted:
    """Counts its live instances, and runs an action in fileno()."""

    alive = 0

    def __init__(self, fd, action=None):
        Counted.alive += 1
        self.fd, self.action = fd, action

    def __del__(self):
        Counted.alive -= 1

    def fileno(self):
        if self.action:
            self.action()
        return self.fd


def raises():
    raise RuntimeError("in fileno()")


BAD = {
    "negative": lambda fd: Counted(-1),
    "no number": lambda fd: Counted("text"),
    "raises": lambda fd: Counted(fd, raises),
    "no file": lambda fd: None,
    "too large": lambda fd: 2**40,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("size", [1, 63, 64, 65, 200])
def test_an_error_in_any_place_leaves_nothing_behind(socketpair, bad, size):
    fd = socketpair[0].fileno()
    for place in {0, size // 2, size - 1}:
        files = [Counted(fd) for _ in range(size)]
        files[place] = bad(fd)
        with pytest.raises((ValueError, TypeError, RuntimeError, OverflowError)):
            fastmux.select.select(files, files, [], 0)
        del files
        gc.collect()
        assert Counted.alive == 0


def test_a_list_may_change_while_it_is_read(socketpair):
    """fileno() is code of the program, and may change the list."""
    ours, theirs = socketpair
    theirs.send(b"x")
    files = [Counted(ours.fileno(), lambda: files.clear()) for _ in range(100)]
    found = fastmux.select.select(files, [], [], 0)
    assert len(found[0]) == 1

    files = [Counted(ours.fileno(), lambda: len(files) < 300 and files.append(files[0])) for _ in range(100)]
    assert len(fastmux.select.select(files, [], [], 0)[0]) == 300
    del found
    files.clear()
    gc.collect()
    assert Counted.alive == 0


def test_calls_leave_no_memory_behind(many, tracemalloc):
    copies, w = many

    def calls():
        for size in (1, 64, 65, 1000):
            fastmux.select.select(copies[:size], [w], [], 0)
            fastmux.select.select(tuple(copies[:size]), iter([w]), {}, 0.001)

    calls()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(50):
            calls()
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()


def test_only_a_handler_that_raises_ends_a_select(on_alarm, socketpair):
    ticks = []
    on_alarm(lambda: ticks.append(1), 0.01, 0.01)
    begin = time.monotonic()
    assert fastmux.select.select([socketpair[0]], [], [], 0.2) == ([], [], [])
    assert time.monotonic() - begin >= 0.2
    assert len(ticks) > 2

    raised = []

    def select_interrupted():
        on_alarm(lambda: raised or raised.append(None) or raises(), 0.01, 0.01)
        fastmux.select.select([socketpair[0]], [], [])

    with pytest.raises(RuntimeError, match="in fileno"):
        select_interrupted()
    signal.setitimer(signal.ITIMER_REAL, 0)


#: The kernel ignores numbers beyond the end of its table of descriptors, and leaves their bits as they are.
BEYOND_THE_TABLE = """
import select, sys
import fastmux

for number in (1, 0):
    print(*(module.select([1000] * number, [1], [1000], 0) for module in (select, fastmux.select)), sep="\\n")
    print(*(module.select([1000] * number, [], [1000], 0) for module in (select, fastmux.select)), sep="\\n")
"""


def test_a_closed_descriptor_below_1024_is_reported_as_by_the_standard_function(run_python):
    lines = run_python(BEYOND_THE_TABLE).splitlines()

    assert lines[::2] == lines[1::2]
