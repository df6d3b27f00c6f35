"""Two calls at once, in every order: one call runs before each line that the other executes.

A signal handler or another thread may do the same. Here it happens at every line, one after the other.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import linecache
import os
import select
import sys
import time

import pytest

import fastmux
from fastmux.poller import descriptors

TIMEOUT = 20.0
PACKAGE = os.path.dirname(fastmux.__file__)

CLASSES = dict.fromkeys([fastmux.Poller, fastmux.StdlibPoller])
#: Pollers and selectors, with their masks for reading and writing.
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
#: The events before and after a change: r is READ, w is WRITE; an empty string is an unregistered file.
CHANGES = [("", "r"), ("", "rw"), ("r", ""), ("rw", ""), ("r", "rw"), ("rw", "r"), ("rw", "w"), ("r", "w"), ("r", "r")]


class InterruptionError(Exception):
    """Raised in the interrupted call."""


#: A signal handler may also raise an OSError, which is none of a system call.
every_error = pytest.mark.parametrize("error", [InterruptionError, TimeoutError])


def interrupting(error=InterruptionError):
    """Return a function that raises, as a signal handler may at any line."""

    def interrupt():
        raise error

    return interrupt


def before_line(number, intrusion, call):
    """Make a call, and run intrusion before its line of this number. Return False if the call has fewer lines.

    Lines with ``with`` do not count: at its end, the interpreter runs no signal handler before the lock is released.
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
    gc.disable()  # finalizers of objects of other tests are no lines of this call
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
        gc.enable()
    return lines >= number


class Watched:
    """Readable and writable files in a watcher; the registration of the first one is about to change."""

    def __init__(self, name, pairs, change):
        make, read, write = WATCHERS[name]
        self.watcher = make()
        self.old, self.new = (sum({"r": read, "w": write}[letter] for letter in events) for events in change)
        self.files = [ours for ours, _ in pairs]
        self.file = self.files[0]
        self.others = [self.watcher.register(ours, read, "other") for ours in self.files[1:]]
        if self.old:
            self.watcher.register(self.file, self.old, "old")
        self.watcher.select(0)  # twice: the second wait may take another code path
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

    def wait(self, timeout=0):
        """Wait, and check the reports: all other files, and for the changing one its old or new state."""
        reported = dict(self.watcher.select(timeout))
        assert None not in reported
        about = {key.fileobj: (key.data, events) for key, events in reported.items()}
        assert set(about) <= set(self.files)
        assert all(key in reported for key in self.others)
        data, events = about.pop(self.file, ("old", 0))
        assert data in ("old", "new")
        assert events & ~(self.old | self.new) == 0
        return reported

    def check_wait(self, expected):
        """Wait, and check that every report is expected."""
        assert set(self.watcher.select(0)) <= expected

    def check_end(self):
        """Check that the result of the change does not depend on the intrusion."""
        expected = {(self.file.fileno(), "new", self.new)} if self.new else set()
        assert {(key.fd, key.data, events) for key, events in self.wait().items() if key.data != "other"} == expected


@pytest.fixture(params=WATCHERS)
def make_watched(request, make_socketpair):
    """Create a watcher of the changing file and of so many others, all of them readable and writable."""
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
def test_a_wait_in_the_midst_of_a_change(make_watched, change, others):
    for number in itertools.count(1):
        with make_watched(change, others) as watched:
            if not before_line(number, watched.wait, watched.change):
                break
            watched.check_end()


@every_number
@every_change
def test_a_change_in_the_midst_of_a_wait(make_watched, change, others):
    for number in itertools.count(1):
        with make_watched(change, others) as watched:
            if not before_line(number, watched.change, watched.wait):
                break
            watched.check_end()


@every_number
@every_change
@every_error
def test_an_interrupted_change_leaves_no_ghost_in_any_line(make_watched, change, others, error):
    """KeyboardInterrupt may come at any line. Afterwards, every reported key is the one in the map."""

    for number in itertools.count(1):
        with make_watched(change, others) as watched:
            with contextlib.suppress(error):
                assert not before_line(number, interrupting(error), watched.change)
                break
            for key, _ in watched.watcher.select(0):
                assert watched.watcher.get_map()[key.fd] is key
            if hasattr(watched.watcher, "audit"):
                assert watched.watcher.audit() == []
            with contextlib.suppress(KeyError):
                watched.watcher.unregister(watched.file)
            key = watched.watcher.register(watched.file, watched.old or watched.new, "new")
            assert (key, key.events) in watched.watcher.select(0)


@every_number
@every_error
def test_an_interrupted_wait_loses_no_event(make_watched, others, error):
    for number in itertools.count(1):
        with make_watched(("r", "r"), others) as watched:
            expected = set(watched.watcher.select(0))
            with contextlib.suppress(error):
                assert not before_line(number, interrupting(error), watched.wait)
                break
            for _ in range(2):
                assert set(watched.watcher.select(0)) == expected


@every_number
@every_change
def test_a_change_in_the_midst_of_a_wait_that_is_woken_loses_no_wakeup(make_watched, change, others):
    for number in itertools.count(1):
        with make_watched(change, others) as watched:
            if not hasattr(watched.watcher, "wakeup"):
                pytest.skip("it has no wakeup()")
            watched.watcher.wakeup()
            begin = time.monotonic()
            if not before_line(number, watched.change, lambda w=watched.watcher: w.select(TIMEOUT)):
                break
            assert time.monotonic() - begin < TIMEOUT


def test_an_interrupted_wait_leaves_nothing_behind(make_watched, open_descriptors):
    """Nothing is ready. The interrupted wait consumes no later wake-up, and does not block close()."""

    for number in itertools.count(1):
        before = open_descriptors()
        with make_watched(("", "r"), 0) as watched:
            if not hasattr(watched.watcher, "wakeup"):
                pytest.skip("it has no wakeup()")
            watched.watcher.select(0.0001)
            with contextlib.suppress(InterruptionError):
                before_line(number, interrupting(), lambda watcher=watched.watcher: watcher.select(0.0001))
                break
            watched.watcher.wakeup()
            begin = time.monotonic()
            watched.watcher.select(TIMEOUT)
            assert time.monotonic() - begin < TIMEOUT
        assert open_descriptors() == before


def test_a_closed_poller_keeps_no_descriptor_after_its_last_interrupted_wait(make_watched, open_descriptors):
    """The traceback of the exception keeps the wait."""

    for number in itertools.count(1):
        before = open_descriptors()
        kept = None
        with make_watched(("r", "r"), 0) as watched:
            try:
                if not before_line(number, interrupting(), watched.wait):
                    break
            except InterruptionError as error:
                kept = error
            watched.watcher.select(0)
        del kept
        assert open_descriptors() == before


@every_error
def test_close_after_an_interrupted_close_does_the_rest(make_watched, start_thread, open_descriptors, error):
    """The traceback of the exception keeps what the first one had in hand."""

    for number in itertools.count(1):
        before = open_descriptors()
        watched = make_watched(("", "r"), 0)
        waiting = []
        if hasattr(watched.watcher, "wakeup"):
            waiting.append(start_thread(watched.watcher.select, None).until_blocked())
        kept = None
        try:
            is_complete = not before_line(number, interrupting(error), watched.watcher.close)
        except error as raised:
            kept = raised
            is_complete = False
        watched.watcher.close()
        for task in waiting:
            with pytest.raises(ValueError, match="closed"):
                task.result()
        assert open_descriptors() == before
        if is_complete:
            break
        assert kept is not None


@pytest.mark.parametrize("name", [*WATCHERS, "epoll"])
def test_an_interrupted_constructor_leaves_no_descriptor(name, open_descriptors):
    make = WATCHERS[name][0] if name in WATCHERS else fastmux.select.epoll

    for number in itertools.count(1):
        before = open_descriptors()
        made = []
        with contextlib.suppress(InterruptionError):
            is_complete = not before_line(number, interrupting(), lambda made=made: made.append(make()))
            made[0].close()
            if is_complete:
                break
        if open_descriptors() != before:
            gc.collect()  # a selector is in a cycle
        assert open_descriptors() == before


def test_an_interrupted_renewal_of_a_pipe_leaves_no_descriptor(open_descriptors, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: None)  # in the destructor of the other pipe
    for number in itertools.count(1):
        before = open_descriptors()
        pipe = descriptors.WakePipe()
        with contextlib.suppress(InterruptionError):
            if not before_line(number, interrupting(), pipe.renew):
                break
        pipe.close()
        assert open_descriptors() == before


@every_error
@pytest.mark.parametrize("name", ["has_entry", "is_socket", "is_open"])
def test_an_interrupted_check_of_a_descriptor_raises_and_leaves_no_entry(name, make_eventfd, error):
    fd = make_eventfd()
    with select.epoll() as epoll:
        check = functools.partial(getattr(descriptors, name), *[epoll] * (name == "has_entry"), fd)
        for number in itertools.count(1):
            try:
                if not before_line(number, interrupting(error), check):
                    break
            except error:
                interrupted = number
            assert interrupted == number
            with pytest.raises(FileNotFoundError):
                epoll.unregister(fd)


def test_a_wakeup_in_the_midst_of_a_wait(make_watched):
    """It counts for this wait or for the next one."""
    for number in itertools.count(1):
        with make_watched(("r", "r"), 0) as watched:
            if not hasattr(watched.watcher, "stats"):
                pytest.skip("it does not count wake-ups")
            if not before_line(number, watched.watcher.wakeup, watched.wait):
                break
            watched.wait()
            assert watched.watcher.stats().wakeups == 1


@every_number
def test_a_close_in_the_midst_of_a_wait(make_watched, others, open_descriptors):
    """The wait raises the error of a closed object, or reports a part of the ready files."""
    for number in itertools.count(1):
        before = open_descriptors()
        with make_watched(("r", "r"), others) as watched, contextlib.suppress(ValueError):
            expected = set(watched.watcher.select(0))
            if not before_line(number, watched.watcher.close, lambda w=watched, e=expected: w.check_wait(e)):
                break
        assert open_descriptors() == before


#: Each round registers higher descriptors than the last, so that whatever has the highest number as its size grows.
HIGHER_DESCRIPTORS = """
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


def test_a_registration_in_the_midst_of_another_with_higher_descriptors(run_python):
    assert run_python(HIGHER_DESCRIPTORS) == "done\n"
