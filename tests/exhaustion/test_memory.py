"""Calls while the address space of the process is limited."""

from __future__ import annotations

import importlib.util

import pytest

import fastmux

#: Functions that make calls with little address space left.
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
with make(mechanism, capacity=1 << 22) as poller:  # the array of wait() takes 100 MB
    poller.register(fd)
    for wait in (poller.poll, poller.select, poller.wait):
        for timeout in (0, 0.001, None):
            outcome = while_short(wait, timeout)
            assert outcome == "refused" or wait != poller.wait or make is fastmux.StdlibPoller, (wait, timeout)
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
import asyncio, contextlib

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

with contextlib.closing(fastmux.new_event_loop()) as loop:
    loop.run_until_complete(asyncio.sleep(0.001))  # opens the socket of all epoll sets
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


#: Make one allocation fail during a wait: the first one, the second one, and so on.
ONE_ALLOCATION_FAILS = """
import _testcapi, os, sys, time
import fastmux

TIMEOUT = 20.0
mechanism, name, what = sys.argv[1:]
fd = os.eventfd(0)
poller = fastmux.Poller(mechanism)
wait = getattr(poller, name)
events = fastmux.READ | getattr(fastmux, what, 0)
poller.register(fd, events)
wait(0)
failures = number = 0
while number < 300:
    os.eventfd_write(fd, 1)
    if what == "wakeup":
        poller.wakeup()
    failed = False
    _testcapi.set_nomemory(number, number + 1)
    try:
        wait(0)
    except MemoryError:
        failed = True
    finally:
        _testcapi.remove_mem_hooks()
    failures += failed
    if failed and what != "wakeup":
        assert wait(0), number
    os.eventfd_read(fd)
    if failed and what == "wakeup":
        begin = time.monotonic()
        assert not wait(TIMEOUT)
        assert time.monotonic() - begin < TIMEOUT, number
    poller.modify(fd, events)
    assert not wait(0)
    number += 1
assert failures
print("done")
"""


@pytest.mark.skipif(importlib.util.find_spec("_testcapi") is None, reason="this Python has no _testcapi")
@pytest.mark.skipif(fastmux.implementation != "c", reason="CPython itself crashes: it makes a function without memory")
@pytest.mark.parametrize("what", ["event", "wakeup", "EDGE", "ONESHOT"])
@pytest.mark.parametrize("name", ["poll", "select"])
@pytest.mark.parametrize("mechanism", fastmux.Poller.mechanisms)
def test_a_result_without_memory_loses_no_event(run_python, mechanism, name, what):
    if what in ("EDGE", "ONESHOT") and mechanism != "epoll":
        pytest.skip("poll and select have no triggers")
    assert run_python(ONE_ALLOCATION_FAILS, mechanism, name, what) == "done\n"
