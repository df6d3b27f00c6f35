"""Programs that close the descriptors of a poller and open other files under their numbers, as daemons do.

These files stay as they are: no number is closed, written to or replaced that may stand for another file.
"""

from __future__ import annotations

import contextlib
import gc
import os

import pytest

import fastmux
from fastmux import READ, WRITE
from fastmux.poller.audit import entries_of

from .children import fork, in_child


@pytest.fixture
def opened(open_descriptors):
    """Call a function; return its result and the numbers that it has opened."""

    def call(function):
        before = open_descriptors()
        result = function()
        return result, sorted(open_descriptors().keys() - before)

    return call


def take(numbers):
    """Put an empty file under each number. Return the files."""
    files = {}
    for fd in numbers:
        file = os.memfd_create("taken")
        if file != fd:
            os.dup2(file, fd)
            os.close(file)
        files[fd] = os.fstat(fd).st_ino
    return files


def check(files):
    """Check that each number stands for its empty file."""
    assert {fd: (os.fstat(fd).st_ino, os.fstat(fd).st_size) for fd in files} == {
        fd: (inode, 0) for fd, inode in files.items()
    }


def use(poller):
    for call in (poller.wakeup, lambda: poller.select(0), lambda: poller.select(0.001), poller.wakeup):
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            call()


USES = {
    "nothing": lambda poller: None,
    "waits and wake-ups": use,
    "wakeup": lambda poller: poller.wakeup(),
    "register": lambda poller: poller.register(0, WRITE),
    "close": lambda poller: poller.close(),
}


def use_and_drop(holder, numbers, action):
    files = take(numbers)
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        USES[action](holder[0])
    check(files)
    holder.clear()  # the last reference
    gc.collect()
    check(files)


def make_used(make):
    poller = make()
    poller.select(0.001)
    return poller


@pytest.fixture(params=[*fastmux.Poller.mechanisms, "standard library", "selector"])
def make(request):
    """Create pollers and selectors that have a wake-up, with a fork policy."""
    if request.param == "standard library":
        return lambda fork="rebuild": fastmux.StdlibPoller(fork=fork)
    if request.param != "selector":
        return lambda fork="rebuild": fastmux.Poller(request.param, fork=fork)
    if not hasattr(fastmux.selectors.EpollSelector, "wakeup") or "epoll" not in fastmux.Poller.mechanisms:
        pytest.skip("the standard selector closes its number")
    return lambda fork="share": fastmux.selectors.EpollSelector(fork=fork)


@pytest.mark.parametrize("action", USES)
def test_files_under_the_numbers_of_a_poller_stay_as_they_are(make, opened, action):
    def child():
        poller, numbers = opened(lambda: make_used(make))
        assert numbers
        holder = [poller]
        del poller
        use_and_drop(holder, numbers, action)

    in_child(child)


@pytest.mark.parametrize("policy", ["rebuild", "share", "close", "raise"])
@pytest.mark.parametrize("action", USES)
def test_files_under_the_numbers_of_an_inherited_poller_stay_as_they_are(make, opened, action, policy):
    def parent():
        poller, numbers = opened(lambda: make_used(lambda: make(fork=policy)))
        holder = [poller]
        in_child(use_and_drop, holder, numbers, action)
        poller.wakeup()
        assert poller.select(None) == []

    in_child(parent)


def test_a_rebuilt_poller_whose_set_is_gone_says_that_it_is_closed(epoll_poller, make_socketpair):
    fd = epoll_poller.fileno()
    ours, _ = make_socketpair()

    def child():
        os.close(fd)
        for call in (lambda: epoll_poller.poll(0), lambda: epoll_poller.register(ours), epoll_poller.wakeup):
            with pytest.raises(ValueError, match="closed poller"):
                call()
        epoll_poller.close()

    in_child(child)


def test_pipes_that_the_program_has_closed_are_replaced(make_poller, scanning_poller, opened, make_socketpair):
    ours, theirs = make_socketpair()

    def child():
        poller, numbers = opened(lambda: make_used(make_poller))
        for fd in numbers:
            os.close(fd)
        poller.register(ours, READ)
        for _ in range(3):
            poller.wakeup()
            assert poller.poll(None) == []
            assert poller.poll(0.001) == []
        theirs.send(b"x")
        assert poller.poll(None) == [(ours.fileno(), READ)]

    in_child(child)


def test_a_wait_whose_pipe_is_another_file_can_be_woken(
    make_poller, scanning_poller, opened, make_socketpair, start_thread
):
    silent, _ = make_socketpair()

    def child():
        poller, numbers = opened(lambda: make_used(make_poller))
        for fd in numbers:
            os.dup2(silent.fileno(), fd)
        waiter = start_thread(poller.poll, None).until_blocked()
        poller.wakeup()
        assert waiter.result() == []

    in_child(child)


@pytest.mark.parametrize("name", ["Poller", "StdlibPoller"])
def test_a_number_that_a_shared_poller_got_at_a_fork_is_left_to_it(epoll_poller, name):
    other = getattr(fastmux, name)
    if "epoll" not in other.mechanisms:
        pytest.skip("without epoll in the core")

    def child():
        shared = other("epoll", fork="share")
        os.close(epoll_poller.fileno())
        if (other_child := fork()) == 0:
            os._exit(0)
        os.waitpid(other_child, 0)
        use(epoll_poller)
        epoll_poller.close()
        shared.wakeup()
        assert shared.poll(None) == []
        shared.close()

    in_child(child)


@pytest.mark.parametrize("name", ["Poller", "StdlibPoller"])
def test_a_number_that_another_poller_got_is_left_to_it(epoll_poller, name):
    other = getattr(fastmux, name)
    if "epoll" not in other.mechanisms:
        pytest.skip("without epoll in the core")

    def child():
        number = epoll_poller.fileno()
        os.close(number)
        second = other("epoll")
        use(epoll_poller)
        epoll_poller.close()
        second.wakeup()
        assert second.poll(None) == []
        second.close()

    in_child(child)


def test_the_socket_in_the_epoll_set_cannot_be_registered(epoll_poller):
    assert epoll_poller.poll(0.001) == []  # from here on it is in the set
    (hidden,) = [entry.fd for entry in entries_of(epoll_poller.fileno())]

    with pytest.raises(OSError, match="Bad file descriptor"):
        epoll_poller.register(hidden, WRITE)

    epoll_poller.wakeup()
    assert epoll_poller.poll(None) == []


#: Buffered files take the numbers, so that they are flushed when the interpreter exits.
AT_EXIT = """
import os, sys
import fastmux

before = set(os.listdir("/proc/self/fd"))
poller = getattr(fastmux, sys.argv[1])(sys.argv[2])
poller.poll(0.001)
numbers = sorted(int(fd) for fd in set(os.listdir("/proc/self/fd")) - before)
logs = []
for fd in numbers:
    if os.path.exists(f"/proc/self/fd/{fd}"):
        os.close(fd)
        logs.append(open(f"log{fd}", "w"))
        assert logs[-1].fileno() == fd
        logs[-1].write("x")
print(*[log.name for log in logs])
"""


def test_the_exit_of_the_interpreter_closes_no_file_of_the_program(make_poller, run_python, tmp_path):
    names = run_python(AT_EXIT, make_poller.cls.__name__, make_poller.mechanism).split()

    assert names
    assert [(tmp_path / name).read_text() for name in names] == ["x"] * len(names)
