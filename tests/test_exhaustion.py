"""Out of descriptors, of memory, of watches: the right error, nothing half done, and all goes on when there is more.

Refusals of the kernel are real ones: a seccomp filter, in a thread of its own, which ends with the thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import os
import platform
import resource
import select
import selectors
import struct
import time
from pathlib import Path

import pytest

import fastmux
from fastmux import EXCLUSIVE, READ, WRITE

PATIENCE = 20.0

#: The system calls by name, where their numbers are known.
NUMBERS = {
    "x86_64": {
        "epoll_create1": 291,
        "epoll_ctl": 233,
        "eventfd2": 290,
        "poll": 7,
        "ppoll": 271,
        "select": 23,
        "pselect6": 270,
    },
    "aarch64": {"epoll_create1": 20, "epoll_ctl": 21, "eventfd2": 19, "ppoll": 73, "pselect6": 72},
}.get(platform.machine(), {})
#: What epoll_ctl is asked to do: its argument number 1.
ADD, MODIFY = 1, 3


def forbid(calls, error, operation=None):
    """From now on, have the kernel refuse these calls of this thread; operation: only with this argument number 1."""
    libc = ctypes.CDLL(None, use_errno=True)
    set_seccomp, no_new_privileges, filter_mode, zero = 22, 38, 2, ctypes.c_ulong(0)
    load, jump_if_equal, give = 0x20, 0x15, 0x06
    lines = []
    for call in calls:
        if call in NUMBERS:
            ask = [] if operation is None else [(load, 0, 0, 24), (jump_if_equal, 0, 1, operation)]
            lines += [(load, 0, 0, 0), (jump_if_equal, 0, len(ask) + 1, NUMBERS[call]), *ask]
            lines += [(give, 0, 0, 0x50000 | error)]
    lines += [(give, 0, 0, 0x7FFF0000)]
    instructions = b"".join(struct.pack("HBBI", *line) for line in lines)
    memory = ctypes.create_string_buffer(instructions, len(instructions))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]

    program = Program(len(lines), ctypes.addressof(memory))
    if libc.prctl(no_new_privileges, ctypes.c_ulong(1), zero, zero, zero) or libc.prctl(
        set_seccomp, ctypes.c_ulong(filter_mode), ctypes.byref(program), zero, zero
    ):
        pytest.skip(f"no seccomp: {os.strerror(ctypes.get_errno())}")


@pytest.fixture
def refused(start_thread):
    """A function that makes a call while the kernel refuses some system calls; returns the error it ends with, or None.

    operation: epoll_ctl is refused this only.
    """
    if not NUMBERS:
        pytest.skip("the numbers of the system calls are not known here")

    def attempt(calls, error, operation, function, args):
        forbid(calls, error, operation)
        return error_of(function, *args)

    def ask(calls, error, function, *args, operation=None):
        return start_thread(attempt, calls.split(), error, operation, function, args).result()

    return ask


def error_of(function, *args):
    """The number of the OSError that a call ends with, if it does."""
    try:
        function(*args)
    except OSError as error:
        return error.errno
    return None


def kernel_set(epoll):
    """What is in an epoll set: descriptor -> events."""
    lines = Path(f"/proc/self/fdinfo/{epoll.fileno()}").read_text().splitlines()
    return {int(fields[1]): int(fields[3], 16) for line in lines if (fields := line.split())[:1] == ["tfd:"]}


def ready(watcher, seconds=0):
    """What something that watches reports: a set of descriptors."""
    if hasattr(watcher, "select"):
        return {key.fd for key, _ in watcher.select(seconds)}
    return {fd for fd, _ in watcher.poll(seconds if hasattr(watcher, "fileno") else 1000 * seconds)}


@pytest.fixture(params=["epoll", "poll", "EpollSelector", "PollSelector", "SelectSelector"])
def twins(request):
    """A standard class, and its mirror."""
    standard, mirror = (select, fastmux.select) if request.param.islower() else (selectors, fastmux.selectors)
    return getattr(standard, request.param), getattr(mirror, request.param)


@contextlib.contextmanager
def made(*classes):
    """Make one of each, and close them."""
    with contextlib.ExitStack() as stack:
        objects = [cls() for cls in classes]
        for each in objects:
            if hasattr(each, "close"):
                stack.callback(each.close)
        yield objects


def same(outcomes):
    """What is the same for both twins."""
    one, other = outcomes
    assert one == other
    return one


# Making


def test_without_descriptors_a_mirror_is_made_or_refused_like_its_standard(twins, leave_descriptors, open_descriptors):
    before = open_descriptors()
    leave_descriptors(0)
    outcome = same([error_of(make) for make in twins])
    leave_descriptors(None)

    assert outcome == (errno.EMFILE if twins[0].__name__ in ("epoll", "EpollSelector") else None)
    gc.collect()
    assert open_descriptors() == before


@pytest.mark.parametrize("error", [errno.ENFILE, errno.ENOMEM])
def test_a_mirror_that_the_kernel_refuses_says_why(twins, refused, error, open_descriptors):
    before = open_descriptors()
    outcome = same([refused("epoll_create1", error, make) for make in twins])

    assert outcome in (error, None)
    gc.collect()
    assert open_descriptors() == before


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
@pytest.mark.parametrize("call", ["epoll_create1", "eventfd2"])
def test_a_poller_that_is_refused_what_it_needs_leaves_nothing_and_can_be_had_later(
    make_poller, make_eventfd, refused, open_descriptors, call, error
):
    fd = make_eventfd(1)
    before = open_descriptors()

    def use():
        with make_poller() as poller:
            poller.register(fd, READ)
            for timeout in (0, 0.001, 1):
                assert poller.poll(timeout) == [(fd, READ)]
            poller.modify(fd, 0)
            poller.wakeup()
            assert poller.poll(PATIENCE) == []

    assert refused(call, error, use) in (error, None)
    for poller in make_poller.made:
        poller.close()
    make_poller.forget()
    gc.collect()
    assert open_descriptors() == before
    use()


def test_an_event_loop_is_made_or_refused_and_leaves_nothing(leave_descriptors, open_descriptors):
    """However many descriptors there are left."""
    before = open_descriptors()
    outcomes = []
    for count in range(8):
        leave_descriptors(count)
        try:
            with contextlib.closing(fastmux.new_event_loop()) as loop:
                loop.run_until_complete(asyncio.sleep(0.001))
            outcomes.append(None)
        except OSError as error:
            outcomes.append(error.errno)
        leave_descriptors(None)
        assert open_descriptors() == before, count

    assert outcomes[0] == errno.EMFILE
    assert outcomes[-1] is None
    assert set(outcomes) == {errno.EMFILE, None}


# Registering


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.ENOMEM])
def test_what_a_poller_is_refused_to_watch_is_not_registered(epoll_poller, socketpair, refused, error):
    ours, _ = socketpair

    assert refused("epoll_ctl", error, epoll_poller.register, ours, WRITE, operation=ADD) == error
    assert (len(epoll_poller), ours in epoll_poller) == (0, False)
    assert ours.fileno() not in kernel_set(epoll_poller)
    assert epoll_poller.poll(0) == []
    with pytest.raises(KeyError):
        epoll_poller.unregister(ours)

    epoll_poller.register(ours, WRITE)
    assert kernel_set(epoll_poller)[ours.fileno()] & WRITE
    assert epoll_poller.poll(PATIENCE) == [(ours.fileno(), WRITE)]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.ENOMEM])
@pytest.mark.parametrize("twins", ["epoll", "EpollSelector"], indirect=True)
def test_what_a_mirror_is_refused_to_watch_is_not_registered(twins, socketpair, refused, error):
    fd = socketpair[0].fileno()
    with made(*twins) as watchers:
        assert same([refused("epoll_ctl", error, w.register, fd, 1, operation=ADD) for w in watchers]) == error
        for watcher in watchers:
            assert fd not in kernel_set(watcher)
            if hasattr(watcher, "get_map"):
                assert len(watcher.get_map()) == 0
            assert ready(watcher) == set()
            watcher.register(fd, 1 | (select.EPOLLOUT if hasattr(watcher, "poll") else selectors.EVENT_WRITE))
            assert ready(watcher) == {fd}
            watcher.unregister(fd)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.ENOMEM])
@pytest.mark.parametrize("twins", ["EpollSelector"], indirect=True)
def test_a_selector_waits_though_there_is_no_watch_left(twins, refused, error):
    """What it would take to be woken up is its own affair."""
    with made(*twins) as watchers:
        for watcher in watchers:
            assert refused("epoll_ctl", error, watcher.select, 0.05, operation=ADD) is None


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.ENOMEM])
def test_a_change_that_is_refused_leaves_a_poller_as_it_was(epoll_poller, socketpair, refused, error):
    ours, theirs = socketpair
    theirs.send(b"x")
    key = epoll_poller.register(ours, READ)

    assert refused("epoll_ctl", error, epoll_poller.modify, ours, WRITE, operation=MODIFY) == error
    assert epoll_poller.get_key(ours) is key
    assert epoll_poller.select(0) == [(key, READ)]

    key = epoll_poller.modify(ours, WRITE)
    assert epoll_poller.select(0) == [(key, WRITE)]


def test_an_exclusive_registration_that_can_neither_change_nor_stay_is_gone(epoll_poller, socketpair, refused):
    """The kernel has no way to change one: it is taken out and put in again."""
    ours, _ = socketpair
    epoll_poller.register(ours, READ | EXCLUSIVE)

    error = refused("epoll_ctl", errno.ENOSPC, epoll_poller.modify, ours, WRITE | EXCLUSIVE, operation=ADD)
    assert error in (errno.ENOENT, errno.ENOSPC)
    assert ours not in epoll_poller
    assert ours.fileno() not in kernel_set(epoll_poller)

    epoll_poller.register(ours, WRITE)
    assert epoll_poller.poll(PATIENCE) == [(ours.fileno(), WRITE)]


@pytest.mark.skipif(
    fastmux.implementation != "c" or "epoll" not in fastmux.Poller.mechanisms,
    reason="the standard selector leaves it in its epoll set",
)
def test_a_change_that_a_selector_is_refused_ends_the_registration(socketpair, refused):
    """As in the standard selector, whose epoll set goes on with it; here it is gone everywhere."""
    ours, _ = socketpair
    with made(selectors.EpollSelector, fastmux.selectors.EpollSelector) as watchers:
        for watcher in watchers:
            watcher.register(ours, selectors.EVENT_WRITE)
        outcomes = [
            refused("epoll_ctl", errno.ENOMEM, w.modify, ours, selectors.EVENT_READ, operation=MODIFY) for w in watchers
        ]
        assert same(outcomes) == errno.ENOMEM
        for watcher in watchers:
            assert len(watcher.get_map()) == 0
            assert ready(watcher) == set()
        assert ours.fileno() not in kernel_set(watchers[1])
        watchers[1].register(ours, selectors.EVENT_WRITE)
        assert ready(watchers[1]) == {ours.fileno()}


def test_a_reader_that_an_event_loop_is_refused_can_be_added_later(loop, run, socketpair, refused):
    ours, theirs = socketpair
    theirs.send(b"x")

    async def main():
        called = asyncio.Event()
        assert refused("epoll_ctl", errno.ENOSPC, loop.add_reader, ours, called.set, operation=ADD) == errno.ENOSPC
        assert not loop.remove_reader(ours)
        loop.add_reader(ours, called.set)
        await called.wait()
        assert loop.remove_reader(ours)

    run(main())


# Waiting


@pytest.mark.parametrize("timeout", [0, 0.001, None])
def test_a_wait_that_is_refused_for_want_of_memory_can_be_repeated(scanning_poller, make_eventfd, refused, timeout):
    fd = make_eventfd(1)
    scanning_poller.register(fd, READ)
    for wait in (scanning_poller.poll, scanning_poller.select, scanning_poller.wait):
        for _ in range(3):
            assert refused("poll ppoll select pselect6", errno.ENOMEM, wait, timeout) == errno.ENOMEM
        assert wait(timeout)
    scanning_poller.unregister(fd)
    assert scanning_poller.poll(0.001) == []


@pytest.mark.parametrize("twins", ["poll", "PollSelector", "SelectSelector"], indirect=True)
def test_a_mirror_that_is_refused_an_answer_says_why_and_can_be_asked_again(twins, make_eventfd, refused):
    fds = [make_eventfd(1) for _ in range(3)]
    with made(*twins) as watchers:
        for watcher in watchers:
            for fd in fds:
                watcher.register(fd, 1)
        for seconds in (0, 1):
            for _ in range(3):  # the first question may go another way than the later ones
                calls = "poll ppoll select pselect6"
                assert same([refused(calls, errno.ENOMEM, ready, w, seconds) for w in watchers]) == errno.ENOMEM
                assert same([ready(w, seconds) for w in watchers]) == set(fds)


@pytest.mark.parametrize("module", [select, fastmux.select], ids=lambda module: module.__name__)
def test_select_that_is_refused_says_why_and_can_be_asked_again(module, make_eventfd, refused):
    fd = make_eventfd(1)
    for timeout in (0, 0.001, 1):
        question = ([fd], [], [], timeout)
        assert refused("poll ppoll select pselect6", errno.ENOMEM, module.select, *question) == errno.ENOMEM
        assert module.select(*question) == ([fd], [], [])


def test_a_wait_that_sleeps_without_a_descriptor_to_wake_it_is_woken_nevertheless(
    epoll_poller, leave_descriptors, start_thread
):
    """Only the reference has one from the beginning; the other looks up now and then."""
    leave_descriptors(0)
    for wait in (epoll_poller.poll, epoll_poller.select, epoll_poller.wait):
        begin = time.monotonic()
        assert not wait(0.05)
        assert time.monotonic() - begin >= 0.05
        waiter = start_thread(wait, 3 * PATIENCE)
        epoll_poller.wakeup()
        assert not waiter.result()
        epoll_poller.wakeup()
        assert not wait(PATIENCE)
    leave_descriptors(None)


# A lower limit than what is open


@pytest.fixture
def many(make_eventfd):
    """More descriptors than the limit that is about to be set, one of them ready."""
    return [make_eventfd(1), *(make_eventfd() for _ in range(40))]


#: poll(2) takes no more descriptors than may be open.
TOO_FEW = 20


def test_a_limit_below_what_is_open_concerns_poll_only_while_it_lasts(poller, many, descriptors_limit):
    for fd in many:
        poller.register(fd, READ)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for wait in (poller.poll, poller.select, poller.wait):
        assert wait(0.001)
        descriptors_limit(TOO_FEW)
        outcomes = [error_of(wait, timeout) for timeout in (0, 0.001, None)]
        descriptors_limit(before)

        assert outcomes == [errno.EINVAL if poller.mechanism == "poll" else None] * 3
        assert wait(0.001)
    assert poller.poll(0) == [(many[0], READ)]


def test_a_limit_below_what_is_open_is_to_a_mirror_what_it_is_to_its_standard(twins, many, descriptors_limit):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with made(*twins) as watchers:
        for watcher in watchers:
            for fd in many:
                watcher.register(fd, 1)
        for seconds in (0, 1):
            for _ in range(3):
                assert same([ready(w, seconds) for w in watchers]) == {many[0]}
                descriptors_limit(TOO_FEW)
                outcome = same([error_of(ready, w, seconds) for w in watchers])
                descriptors_limit(before)
                assert outcome in (None, errno.EINVAL)


def test_select_goes_on_below_the_limit(many, descriptors_limit):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    descriptors_limit(TOO_FEW)
    outcome = same([module.select(many, [], [], 0.001) for module in (select, fastmux.select)])
    descriptors_limit(before)

    assert outcome == ([many[0]], [], [])


# Memory of the process

#: Lowers the limit of its memory, and uses what it is told to by all ways.
SHORT_OF_MEMORY = """
import errno, fcntl, gc, os, resource, sys
import fastmux

_, hard = resource.getrlimit(resource.RLIMIT_AS)

def leave(more):
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (hard if more is None else used + more, hard))

def outcome_of(function, *args):
    try:
        function(*args)
    except MemoryError:
        return "refused"
    except OSError as error:
        assert error.errno == errno.ENOMEM, error
        return "refused"
    return "works"

def while_short(function, *args, left=1 << 20):
    gc.collect()
    leave(left)
    try:
        outcome = outcome_of(function, *args)
    finally:
        leave(None)
    return outcome
"""

POLLER_SHORT_OF_MEMORY = """
class_name, mechanism = sys.argv[1:]
make = getattr(fastmux, class_name)

fd = os.eventfd(1)
with make(mechanism, capacity=1 << 22) as poller:  # its arrays take 100 MB
    poller.register(fd)
    for wait in (poller.poll, poller.select, poller.wait):
        for timeout in (0, 0.001, None):
            outcome = while_short(wait, timeout)
            assert outcome == "refused" or make is fastmux.StdlibPoller, (wait, timeout)
    for timeout in (0, 0.001, None):
        assert poller.poll(timeout) == [(fd, fastmux.READ)]
        assert poller.select(timeout) == [(poller.get_key(fd), fastmux.READ)]
        assert poller.wait(timeout) == 1
        assert list(poller.fds[:1]) == [fd]

with make(mechanism) as poller:
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    highest = 900 if make is fastmux.StdlibPoller and mechanism == "select" else 16000
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, highest)
    poller.register(fd)
    outcome = while_short(poller.register, high, left=1 << 17)
    assert (high in poller) == (outcome == "works") == (len(poller) == 2)
    if outcome == "refused":
        assert poller.poll(0) == [(fd, fastmux.READ)]
        poller.register(high)
    assert sorted(poller.poll(0)) == sorted((key.fd, events) for key, events in poller.select(0))
    assert sorted(poller.poll(0)) == [(fd, fastmux.READ), (high, fastmux.READ)]
print("done")
"""


@pytest.mark.parametrize("mechanism", fastmux.Poller.mechanisms)
@pytest.mark.parametrize("class_name", ["Poller", "StdlibPoller"])
def test_a_poller_that_gets_no_memory_says_so_and_goes_on_when_there_is_some(run_python, class_name, mechanism):
    assert run_python(SHORT_OF_MEMORY + POLLER_SHORT_OF_MEMORY, class_name, mechanism) == "done\n"


REST_SHORT_OF_MEMORY = """
import asyncio

fd = os.eventfd(1)
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 16000)
for cls in (fastmux.selectors.EpollSelector, fastmux.selectors.PollSelector):
    with cls() as selector:
        selector.register(fd, 1)
        outcome = while_short(selector.register, high, 1, left=1 << 17)
        assert (high in selector.get_map()) == (outcome == "works")
        if outcome == "refused":
            assert [key.fd for key, _ in selector.select(0)] == [fd]
            selector.register(high, 1)
        for _ in range(3):
            assert sorted(key.fd for key, _ in selector.select(0)) == [fd, high]

with fastmux.select.epoll() as epoll:
    epoll.register(fd, 1)
    while_short(epoll.poll, 0, 1 << 20)  # room for a million events
    assert epoll.poll(0, 1 << 20) == [(fd, 1)]

fastmux.new_event_loop().close()
before = os.listdir("/proc/self/fd")
for left in (0, 1 << 17, 1 << 20):
    loops = []
    outcome = while_short(lambda: loops.append(fastmux.new_event_loop()), left=left)
    for loop in loops:
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
    loops.clear()
    assert os.listdir("/proc/self/fd") == before
fastmux.run(asyncio.sleep(0.001))
print("done")
"""


def test_what_else_gets_no_memory_says_so_and_goes_on_when_there_is_some(run_python):
    assert run_python(SHORT_OF_MEMORY + REST_SHORT_OF_MEMORY) == "done\n"
