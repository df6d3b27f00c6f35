"""Two calls at once, in every order: before each line that one of them executes, the other one happens.

That is what a signal handler can do, and another thread as well. Here it is done at all places, one after the other.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import linecache
import os
import sys
import time

import pytest

import fastmux

PATIENCE = 20.0
PACKAGE = os.path.dirname(fastmux.__file__)

CLASSES = dict.fromkeys([fastmux.Poller, fastmux.StdlibPoller])
#: What can watch, and what READ and WRITE are to it.
WATCHERS = {
    f"{cls.__name__}-{mechanism}": (functools.partial(cls, mechanism), fastmux.READ, fastmux.WRITE)
    for cls in CLASSES
    for mechanism in cls.mechanisms
} | {
    cls.__name__: (cls, fastmux.selectors.EVENT_READ, fastmux.selectors.EVENT_WRITE)
    for cls in (
        fastmux.selectors.EpollSelector,
        fastmux.selectors.PollSelector,
        fastmux.selectors.SelectSelector,
    )
}
#: What is asked for before a change and after it: 0 stands for READ, 1 for WRITE. Nothing: it is not registered.
CHANGES = [("", "r"), ("", "rw"), ("r", ""), ("rw", ""), ("r", "rw"), ("rw", "r"), ("rw", "w"), ("r", "w"), ("r", "r")]


class InterruptionError(Exception):
    """What an interrupted call ends with."""


def before_line(number, intrusion, call):
    """Make a call, and another before so many of its lines. Return whether it has so many.

    A ``with`` is no such line: where it ends, the interpreter calls no signal handler before the lock is free.
    """
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        file = frame.f_code.co_filename
        if not file.startswith(PACKAGE):
            return None
        if event == "line" and not linecache.getline(file, frame.f_lineno).lstrip().startswith("with "):
            lines += 1
            if lines == number:
                intrusion()
        return trace

    before = sys.gettrace()
    gc.disable()  # the finalizers of what other tests have left are no lines of the call
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
        gc.enable()
    return lines >= number


class Watched:
    """Files that can be read and written, in something that watches; one of them is about to change."""

    def __init__(self, name, pairs, change):
        make, read, write = WATCHERS[name]
        self.watcher = make()
        self.old, self.new = (sum({"r": read, "w": write}[letter] for letter in asked) for asked in change)
        self.files = [ours for ours, _ in pairs]
        self.file = self.files[0]
        self.others = [self.watcher.register(ours, read, "other") for ours in self.files[1:]]
        if self.old:
            self.watcher.register(self.file, self.old, "old")
        self.watcher.select(0)  # twice: a PollSelector has a list of its own from the second time on
        self.watcher.select(0)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.watcher.close()

    def change(self):
        if not self.new:
            self.watcher.unregister(self.file)
        elif not self.old:
            self.watcher.register(self.file, self.new, "new")
        else:
            self.watcher.modify(self.file, self.new, "new")

    def look(self, timeout=0):
        """Look, and check that all is well: the others are reported, and of the one that changes something possible."""
        reported = dict(self.watcher.select(timeout))
        assert None not in reported
        about = {key.fileobj: (key.data, events) for key, events in reported.items()}
        assert set(about) <= set(self.files)
        assert all(key in reported for key in self.others)
        data, events = about.pop(self.file, ("old", 0))
        assert data in ("old", "new")
        assert events & ~(self.old | self.new) == 0
        return reported

    def look_for(self, expected):
        """Look, and find nothing but what is expected."""
        assert set(self.watcher.select(0)) <= expected

    def check_end(self):
        """After the change, all is as if nothing had come in between."""
        expected = {(self.file.fileno(), "new", self.new)} if self.new else set()
        assert {(key.fd, key.data, events) for key, events in self.look().items() if key.data != "other"} == expected


@pytest.fixture(params=WATCHERS)
def make_watched(request, make_socketpair):
    """Make something that watches so many files besides the one that changes, which can all be read and written."""
    pairs = [make_socketpair() for _ in range(4)]
    for _, theirs in pairs:
        theirs.send(b"x")

    def make(change, others):
        return Watched(request.param, pairs[: 1 + others], change)

    return make


every_change = pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change[0] or 0}-{change[1] or 0}")
every_number = pytest.mark.parametrize("others", [0, 3], ids=["alone", "among others"])


@every_number
@every_change
def test_a_look_in_the_midst_of_a_change(make_watched, change, others):
    for number in itertools.count(1):
        with make_watched(change, others) as watched:
            if not before_line(number, watched.look, watched.change):
                break
            watched.check_end()


@every_number
@every_change
def test_a_change_in_the_midst_of_a_look(make_watched, change, others):
    for number in itertools.count(1):
        with make_watched(change, others) as watched:
            if not before_line(number, watched.change, watched.look):
                break
            watched.check_end()


@every_number
@every_change
def test_what_an_exception_interrupts_leaves_no_ghost(make_watched, change, others):
    """KeyboardInterrupt may come at any moment. What is reported has a key then, and the one that is in the map."""

    def interrupt():
        raise InterruptionError

    for number in itertools.count(1):
        with make_watched(change, others) as watched:
            with contextlib.suppress(InterruptionError):
                before_line(number, interrupt, watched.change)
                break
            for key, _ in watched.watcher.select(0):
                assert watched.watcher.get_map()[key.fd] is key
            with contextlib.suppress(KeyError):
                watched.watcher.unregister(watched.file)
            key = watched.watcher.register(watched.file, watched.old or watched.new, "new")
            assert (key, key.events) in watched.watcher.select(0)


@every_number
def test_an_interrupted_look_loses_nothing(make_watched, others):
    def interrupt():
        raise InterruptionError

    for number in itertools.count(1):
        with make_watched(("r", "r"), others) as watched:
            expected = set(watched.watcher.select(0))
            with contextlib.suppress(InterruptionError):
                before_line(number, interrupt, watched.look)
                break
            for _ in range(2):
                assert set(watched.watcher.select(0)) == expected


def test_an_interrupted_wait_is_forgotten(make_watched, open_descriptors):
    """Nothing is ready. It takes no wake-up from those after it, and close() does not wait for it to leave."""

    def interrupt():
        raise InterruptionError

    for number in itertools.count(1):
        before = open_descriptors()
        with make_watched(("", "r"), 0) as watched:
            if not hasattr(watched.watcher, "wakeup"):
                pytest.skip("it cannot be woken")
            watched.watcher.select(0.0001)
            with contextlib.suppress(InterruptionError):
                before_line(number, interrupt, lambda watcher=watched.watcher: watcher.select(0.0001))
                break
            watched.watcher.wakeup()
            begin = time.monotonic()
            watched.watcher.select(PATIENCE)
            assert time.monotonic() - begin < PATIENCE
        assert open_descriptors() == before


@every_number
def test_a_close_in_the_midst_of_a_look(make_watched, others, open_descriptors):
    """It ends as on a closed object, or with some of what it had found before."""
    for number in itertools.count(1):
        before = open_descriptors()
        with make_watched(("r", "r"), others) as watched, contextlib.suppress(ValueError):
            expected = set(watched.watcher.select(0))
            if not before_line(number, watched.watcher.close, lambda w=watched, e=expected: w.look_for(e)):
                break
        assert open_descriptors() == before


#: The tables reach as far as the highest descriptor of the process so far, so this needs higher and higher ones.
GROWING_TABLES = """
import fcntl, os, resource, sys
import fastmux

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
fd = os.eventfd(1)
highest = 200
for number in range(1, 41):
    with fastmux.Poller() as poller:
        first = fcntl.fcntl(fd, fcntl.F_DUPFD, highest)
        second = fcntl.fcntl(fd, fcntl.F_DUPFD, highest + number)
        highest += number + 64
        lines = 0

        def trace(frame, event, argument):
            global lines
            if event == "line":
                lines += 1
                if lines == number:
                    poller.register(second)
            return trace if "fastmux" in frame.f_code.co_filename else None

        sys.settrace(trace)
        poller.register(first)
        sys.settrace(None)
        found = [first, second] if lines >= number else [first]
        assert [fd for fd, events in sorted(poller.poll(0))] == found
        assert sorted(key.fd for key, events in poller.select(0)) == found
print("done")
"""


def test_a_registration_in_the_midst_of_another_where_tables_grow(run_python):
    assert run_python(GROWING_TABLES) == "done\n"
