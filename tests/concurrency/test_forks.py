"""Pollers and selectors in forked children, under each fork policy."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

import fastmux
from fastmux import EDGE, ONESHOT, READ, WRITE

from .children import fork, in_child

needs_core_epoll = pytest.mark.skipif(
    fastmux.implementation != "c" or "epoll" not in fastmux.Poller.mechanisms,
    reason="the standard EpollSelector has no fork policies",
)


# rebuild


def test_a_child_has_the_registrations_of_its_parent(poller, socketpair):
    ours, theirs = socketpair
    key = poller.register(ours, READ, data="ours")

    def child():
        assert poller.select(0) == []
        theirs.send(b"x")
        assert poller.select(20) == [(key, READ)]
        assert poller.get_key(ours) == key
        assert poller.audit() == []

    in_child(child)


def test_a_child_changes_nothing_of_its_parent(poller, socketpair):
    ours, theirs = socketpair
    key = poller.register(ours, READ)

    def child():
        poller.modify(ours, WRITE)
        assert poller.poll(20) == [(ours.fileno(), WRITE)]
        poller.unregister(ours)
        poller.register(theirs, WRITE)
        poller.wakeup()
        poller.close()

    in_child(child)
    theirs.send(b"x")
    assert poller.select(20) == [(key, READ)]
    assert poller.audit() == []


def test_a_child_does_not_disturb_a_wait_of_its_parent(poller, socketpair, start_thread):
    ours, theirs = socketpair
    poller.register(ours, READ)
    waiting = start_thread(poller.poll, None).until_blocked()

    def child():
        poller.wakeup()
        assert poller.poll(20) == []
        poller.close()

    in_child(child)
    assert waiting.is_alive()
    theirs.send(b"x")
    assert waiting.result() == [(ours.fileno(), READ)]


def test_a_wakeup_of_the_parent_is_not_for_the_child(poller):
    poller.wakeup()

    in_child(lambda: poller.poll(0.001))

    assert poller.poll(20) == []


def test_a_child_can_wait_while_its_parent_does(poller, socketpair, start_thread):
    ours, _ = socketpair
    poller.register(ours, READ)
    waiting = start_thread(poller.poll, None).until_blocked()

    def child():
        woken = threading.Timer(0.01, poller.wakeup)
        woken.start()
        assert poller.poll(None) == []

    in_child(child)
    assert waiting.is_alive()
    poller.wakeup()
    assert waiting.result() == []


def test_a_child_of_a_child_has_the_registrations_too(poller, socketpair):
    ours, theirs = socketpair
    key = poller.register(ours, READ)

    def grandchild():
        assert poller.select(20) == [(key, READ)]
        poller.unregister(ours)

    def child():
        in_child(grandchild)
        assert poller.select(0) == [(key, READ)]
        in_child(grandchild)
        assert poller.select(0) == [(key, READ)]

    theirs.send(b"x")
    in_child(child)


def test_a_one_shot_registration_that_has_fired_stays_so_in_a_child(epoll_poller, socketpair):
    ours, theirs = socketpair
    poller = epoll_poller
    poller.register(ours, READ | ONESHOT)
    theirs.send(b"x")
    assert poller.poll(20)

    def child():
        assert poller.poll(0) == []
        poller.modify(ours, READ | ONESHOT)
        assert poller.poll(20) == [(ours.fileno(), READ)]
        assert poller.poll(0) == []

    in_child(child)
    assert poller.poll(0) == []


def test_a_file_that_the_child_has_closed_is_not_watched(poller, make_socketpair):
    ours, theirs = make_socketpair()
    other, _ = make_socketpair()
    poller.register(ours, READ)
    poller.register(other, READ | WRITE)
    fd = ours.fileno()

    def child():
        ours.close()
        theirs.send(b"x") if poller.mechanism != "epoll" else None
        poller.unregister(ours)
        assert poller.poll(20) == [(other.fileno(), WRITE)]
        assert fd not in poller.get_map()

    in_child(child)


def test_a_number_that_the_child_gave_to_another_file_is_not_watched(epoll_poller, make_socketpair):
    """Poll and select know numbers only, so this holds on epoll only."""
    ours, _ = make_socketpair()
    other, their_other = make_socketpair()
    poller = epoll_poller
    poller.register(ours, READ)
    their_other.send(b"x")

    def child():
        os.dup2(other.fileno(), ours.fileno())
        assert poller.poll(0) == []
        assert [(row.fd, row.problem) for row in poller.audit()] == [(ours.fileno(), "missing")]

    in_child(child)


@pytest.fixture(params=["fifo", "eventfd"])
def open_same_inode(request, tmp_path):
    """Open a readable file. All of them have the same inode."""
    if request.param == "eventfd" and not hasattr(os, "eventfd"):
        pytest.skip("this Python has no os.eventfd()")
    made = []

    def call():
        if request.param == "eventfd":
            made.append(os.eventfd(1))
            return made[-1]
        fifo = tmp_path / "same"
        if not fifo.exists():
            os.mkfifo(fifo)
        made.append(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))
        if len(made) == 1:
            os.write(made[-1], b"x")
        return made[-1]

    yield call
    for fd in made:
        os.close(fd)


def test_another_file_with_the_same_inode_is_not_watched_in_a_child(epoll_poller, open_same_inode):
    fd = open_same_inode()
    epoll_poller.register(fd, READ)

    def child():
        os.dup2(open_same_inode(), fd)
        assert epoll_poller.poll(0) == []
        assert [(row.fd, row.problem) for row in epoll_poller.audit()] == [(fd, "missing")]

    in_child(child)
    assert epoll_poller.poll(0) == [(fd, READ)]


def test_a_file_whose_number_was_that_of_another_one_with_the_same_inode_is_watched_in_a_child(
    epoll_poller, open_same_inode
):
    fd = open_same_inode()
    epoll_poller.register(fd, READ)
    kept = os.dup(fd)
    os.dup2(open_same_inode(), fd)
    epoll_poller.unregister(fd)
    epoll_poller.register(fd, READ)

    def child():
        assert epoll_poller.poll(0) == [(fd, READ)]
        epoll_poller.unregister(fd)
        assert epoll_poller.poll(0) == []

    in_child(child)
    os.close(kept)


@pytest.mark.parametrize("policy", ["rebuild", "share"])
def test_a_fifo_of_any_file_system_is_watched_in_a_child(make_poller, epoll_poller, tmp_path, policy):
    """On some file systems fstat() and the kernel's list of the set have different devices."""
    poller = make_poller(fork=policy)
    os.mkfifo(tmp_path / "fifo")
    fd = os.open(tmp_path / "fifo", os.O_RDWR | os.O_NONBLOCK)
    poller.register(fd, READ)
    os.write(fd, b"x")

    def child():
        assert poller.poll(20) == [(fd, READ)]
        assert poller.audit() == []

    in_child(child)
    assert poller.audit() == []
    os.close(fd)


#: Two files with the same inode number on two devices: the first FIFO of each of two new file systems.
TWO_DEVICES = """
import ctypes, os, sys
import fastmux

libc = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWUSER = 0x20000, 0x10000000
if libc.unshare(NEWNS) and libc.unshare(NEWNS | NEWUSER):
    sys.exit(print("no name spaces:", os.strerror(ctypes.get_errno())))
fifos = []
for name in ("one", "other"):
    os.mkdir(name)
    if libc.mount(b"tmpfs", os.path.abspath(name).encode(), b"tmpfs", ctypes.c_ulong(0), None):
        sys.exit(print("no mounts:", os.strerror(ctypes.get_errno())))
    os.mkfifo(f"{name}/fifo")
    fifos.append(os.open(f"{name}/fifo", os.O_RDWR | os.O_NONBLOCK))
one, other = fifos
if os.fstat(one).st_ino != os.fstat(other).st_ino:
    sys.exit(print("different inodes"))
poller = getattr(fastmux, sys.argv[1])("epoll")
poller.register(one)
os.write(other, b"x")
copy = os.dup(one)
if (child := os.fork()) == 0:
    os.dup2(other, one)
    print(poller.poll(0), [row.problem for row in poller.audit()], flush=True)
    os._exit(0)
os.waitpid(child, 0)
os.dup2(other, one)
print([row.problem for row in poller.audit()])
"""


@pytest.mark.parametrize("name", ["Poller", "StdlibPoller"])
def test_a_file_with_the_same_inode_on_another_device_is_another_file(run_python, name):
    if "epoll" not in getattr(fastmux, name).mechanisms:
        pytest.skip("the extension was built without epoll")
    output = run_python(TWO_DEVICES, name).splitlines()
    if output[0].startswith(("no ", "different")):
        pytest.skip(output[0])
    assert output == ["[] ['missing']", "['left over', 'missing']"]


def test_edges_are_reported_once_more_in_a_child(epoll_poller, socketpair):
    ours, theirs = socketpair
    poller = epoll_poller
    poller.register(ours, READ | EDGE)
    theirs.send(b"x")
    assert poller.poll(20) == [(ours.fileno(), READ)]

    def child():
        assert poller.poll(20) == [(ours.fileno(), READ)]
        assert poller.poll(0) == []

    in_child(child)
    assert poller.poll(0) == []


def test_the_descriptor_of_the_set_keeps_its_number(epoll_poller):
    fd = epoll_poller.fileno()

    def child():
        assert epoll_poller.fileno() == fd
        assert epoll_poller.stats().renewals == 1

    in_child(child)
    assert epoll_poller.stats().renewals == 0


def test_a_fork_in_the_midst_of_changes_leaves_a_poller_that_works(poller, make_socketpair, start_thread):
    ours, theirs = make_socketpair()
    busy, _ = make_socketpair()
    poller.register(ours, READ)
    stop = threading.Event()

    def change():
        while not stop.is_set():
            poller.register(busy, READ)
            poller.modify(busy, READ | WRITE)
            poller.poll(0)
            poller.unregister(busy)

    def child():
        theirs.send(b"x")
        deadline = 2000
        while (ours.fileno(), READ) not in poller.poll(1):
            deadline -= 1
            assert deadline
        ours.recv(1)
        poller.unregister(ours)
        poller.wakeup()

    changing = start_thread(change)
    try:
        for _ in range(20):
            in_child(child)
    finally:
        stop.set()
    changing.result()


def test_results_of_a_child_do_not_get_into_arrays_of_its_parent(make_poller, make_socketpair):
    poller = make_poller(capacity=4096)
    ours, theirs = make_socketpair()
    poller.register(ours, WRITE)
    assert poller.wait(20) == 1

    def child():
        poller.unregister(ours)
        poller.register(theirs, WRITE)
        assert poller.wait(20) == 1
        assert poller.fds[0] == theirs.fileno()

    in_child(child)
    assert poller.fds[0] == ours.fileno()


# close, share, raise


def test_a_policy_is_one_of_four(make_poller):
    with pytest.raises(ValueError, match="rebuild, close, share, raise; not 'ignore'"):
        make_poller(fork="ignore")


def test_a_shared_poller_is_one_for_both(make_poller, epoll_poller, socketpair):
    poller = make_poller(fork="share")
    ours, theirs = socketpair
    poller.register(ours, READ)
    theirs.send(b"x")

    in_child(poller.unregister, ours)

    assert poller.poll(0) == []
    assert [row.problem for row in poller.audit()] == ["missing"]


def test_a_poller_can_be_closed_in_children(make_poller, socketpair, start_thread):
    poller = make_poller(fork="close")
    ours, theirs = socketpair
    poller.register(ours, READ)
    waiting = start_thread(poller.poll, None).until_blocked()

    def child():
        assert poller.closed
        for call in (poller.poll, poller.select, poller.wakeup, poller.get_map, poller.fileno):
            with pytest.raises(ValueError, match="closed poller"):
                call()

    in_child(child)
    theirs.send(b"x")
    assert waiting.result() == [(ours.fileno(), READ)]


def check_that_every_use_is_refused(poller, pid):
    """Only close() does not raise, nor what has no effect: constants and repr()."""
    cls = type(poller)
    allowed = ("capacity", "close", "closed", "mechanism", "mechanisms")
    names = [name for name in dir(cls) if not name.startswith("_") and name not in allowed]
    calls = [lambda name=name: getattr(poller, name) for name in names]
    calls += [lambda special=special: getattr(cls, special)(poller) for special in ("__len__", "__enter__")
              if hasattr(cls, special)]  # fmt: skip
    if hasattr(cls, "__contains__"):
        calls.append(lambda: 0 in poller)
    assert len(calls) >= 9
    for call in calls:
        with pytest.raises(RuntimeError, match=f"this {cls.__name__} was made in process {pid}, before a fork"):
            call()
    assert poller.close() is None
    assert poller
    if hasattr(cls, "capacity"):
        assert poller.capacity == 1024
    assert cls.__name__ in repr(poller)


def test_a_poller_can_refuse_to_be_used_in_children(make_poller, socketpair):
    poller = make_poller(fork="raise")
    ours, theirs = socketpair
    key = poller.register(ours, READ)
    keys = poller.get_map()
    cls = type(poller)
    parent = os.getpid()

    def child():
        check_that_every_use_is_refused(poller, parent)
        with pytest.raises(RuntimeError, match="before a fork"):
            keys[ours]
        assert isinstance(poller, cls)
        assert poller.closed
        assert poller.mechanism in poller.mechanisms
        in_child(check_that_every_use_is_refused, poller, parent)

    in_child(child)
    theirs.send(b"x")
    assert poller.select(20) == [(key, READ)]


class HookError(BaseException):
    """Raised by the close() of a subclass."""


@pytest.mark.parametrize("policy", ["close", "raise"])
def test_a_close_that_fails_keeps_no_poller_from_its_policy(make_poller, open_descriptors, monkeypatch, policy):
    failures = []
    monkeypatch.setattr(sys, "unraisablehook", failures.append)  # of the child
    cls = make_poller.cls
    parent = os.getpid()
    fails = False

    class Failing(cls):
        def __init_subclass__(cls):
            raise HookError

        def close(self):
            if fails:
                raise HookError
            super().close()

    before = len(open_descriptors())
    pollers = []
    for number in range(5):
        make_poller.cls = Failing if number in (0, 3) else cls
        pollers.append(make_poller(fork=policy))
        pollers[-1].poll(0.001)

    def child():
        nonlocal fails
        fails = False
        assert [failure.exc_type for failure in failures] == [HookError]
        assert len(open_descriptors()) == before + 2  # the pipe of in_child
        for poller in pollers:
            if policy == "raise":
                check_that_every_use_is_refused(poller, parent)
            else:
                with pytest.raises(ValueError, match="closed poller"):
                    poller.poll(0)

    fails = True
    try:
        in_child(child)
    finally:
        fails = False
    for poller in pollers:
        assert poller.poll(0) == []


@pytest.mark.parametrize("policy", ["rebuild", "close", "raise"])
def test_a_child_without_a_free_descriptor_applies_the_policy(
    make_poller, socketpair, open_descriptors, descriptors_limit, policy
):
    pollers = [make_poller(fork=policy) for _ in range(5)]
    ours, theirs = socketpair
    for poller in pollers:
        poller.register(ours, READ)
        poller.poll(0.001)

    def child():
        for poller in pollers:
            if policy != "rebuild":
                with pytest.raises(RuntimeError if policy == "raise" else ValueError):
                    poller.poll(0)
        descriptors_limit(limit + 100)
        theirs.send(b"x")
        for poller in pollers:
            if policy == "rebuild":
                assert poller.poll(20) == [(ours.fileno(), READ)]

    free = sorted(set(range(500)) - set(open_descriptors()))
    limit = free[2]  # the pipe of in_child takes two
    descriptors_limit(limit)
    try:
        in_child(child)
    finally:
        descriptors_limit(limit + 100)


def test_a_fork_during_the_making_of_a_poller_disturbs_no_child(make_poller, monkeypatch):
    """The thread that makes it does not exist in the child."""
    failures = []
    monkeypatch.setattr(sys, "unraisablehook", failures.append)

    def child():
        assert failures == []

    def trace(frame, event, argument):
        if not frame.f_code.co_filename.startswith(os.path.dirname(fastmux.__file__)):
            return None
        if event == "line" and frame.f_code.co_name == "__init__":
            sys.settrace(None)
            in_child(child)
            sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        make_poller(fork="close")
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("policy", ["close", "raise"])
def test_nothing_of_it_stays_open_in_a_child(make_poller, open_descriptors, policy):
    before = len(open_descriptors())
    poller = make_poller(fork=policy)
    poller.poll(0.001)

    def child():
        assert len(open_descriptors()) == before + 2  # the pipe of in_child

    in_child(child)
    assert poller.poll(0) == []


@pytest.mark.parametrize("policy", ["rebuild", "share", "close", "raise"])
def test_nothing_of_a_wait_of_another_thread_stays_open_in_a_child(make_poller, open_descriptors, start_thread, policy):
    before = len(open_descriptors())
    poller = make_poller(fork=policy)
    waits = [start_thread(poller.poll, None).until_blocked() for _ in range(2)]

    def child():
        poller.close()
        assert len(open_descriptors()) == before + 2  # the pipe of in_child

    in_child(child)
    poller.close()
    for task in waits:
        with pytest.raises(ValueError, match="closed poller"):
            task.result()


@pytest.fixture(params=["Poller", "StdlibPoller", pytest.param("EpollSelector", marks=needs_core_epoll)])
def shared(request):
    """Shares its epoll set with forked children, and has a wake-up."""
    if request.param == "EpollSelector":
        poller = fastmux.selectors.EpollSelector()
    elif "epoll" not in getattr(fastmux, request.param).mechanisms:
        pytest.skip("the extension was built without epoll")
    else:
        poller = getattr(fastmux, request.param)(fork="share")
    yield poller
    poller.close()


def wake_and_close_own_waits(poller, start_thread):
    for timeout in (None, 0, None):
        poller.wakeup()
        assert poller.select(timeout) == []
    waiting = start_thread(poller.select, None).until_blocked()
    poller.wakeup()
    assert waiting.result() == []
    waiting = start_thread(poller.select, None).until_blocked()
    poller.close()
    with pytest.raises(ValueError, match="closed"):
        waiting.result()


def test_wakeups_and_close_are_of_one_process(shared, start_thread):
    waiting = start_thread(shared.select, None).until_blocked()

    in_child(lambda: (in_child(wake_and_close_own_waits, shared, start_thread), shared.wakeup(), shared.select()))

    assert waiting.is_alive()
    shared.wakeup()
    assert waiting.result() == []
    wake_and_close_own_waits(shared, start_thread)


def test_a_waiting_child_takes_no_wakeup_of_its_parent(shared, socketpair):
    ours, theirs = socketpair
    key = shared.register(ours, fastmux.selectors.EVENT_READ)
    shared.wakeup()  # pending at the fork
    reader, writer = os.pipe()
    child = fork()
    if child == 0:
        os.write(writer, b"x")
        shared.select(None)
        os._exit(1)
    assert shared.select(None) == []
    os.read(reader, 1)

    for _ in range(200):
        shared.wakeup()
        assert shared.select(None) == []

    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    theirs.send(b"x")
    assert shared.select(None) == [(key, fastmux.selectors.EVENT_READ)]
    os.close(reader)
    os.close(writer)


# Selectors


@needs_core_epoll
def test_a_selector_can_have_a_set_of_its_own_in_a_child(socketpair):
    ours, theirs = socketpair
    with fastmux.selectors.EpollSelector(fork="rebuild") as selector:
        key = selector.register(ours, fastmux.selectors.EVENT_READ)

        def child():
            selector.wakeup()
            assert selector.select(20) == []
            theirs.send(b"x")
            assert selector.select(20) == [(key, fastmux.selectors.EVENT_READ)]
            selector.unregister(ours)

        in_child(child)
        assert selector.select(0) == [(key, fastmux.selectors.EVENT_READ)]


def test_an_epoll_selector_shares_its_set_by_default(socketpair):
    ours, theirs = socketpair
    with fastmux.selectors.EpollSelector() as selector:
        selector.register(ours, fastmux.selectors.EVENT_READ)
        theirs.send(b"x")

        in_child(selector.unregister, ours)

        assert selector.select(0) == []


@needs_core_epoll
def test_a_selector_can_be_closed_in_children_or_refuse(socketpair):
    ours, theirs = socketpair
    cls = fastmux.selectors.EpollSelector
    with cls(fork="close") as closing, cls(fork="raise") as refusing:
        closing.register(ours, fastmux.selectors.EVENT_READ)
        key = refusing.register(ours, fastmux.selectors.EVENT_READ)

        parent = os.getpid()

        def child():
            with pytest.raises(RuntimeError, match="closed"):
                closing.get_key(ours)
            check_that_every_use_is_refused(refusing, parent)

        in_child(child)
        theirs.send(b"x")
        assert len(closing.select(20)) == 1
        assert refusing.select(20) == [(key, fastmux.selectors.EVENT_READ)]


@needs_core_epoll
def test_a_selector_knows_the_four_policies_only():
    with pytest.raises(ValueError, match="rebuild, close, share, raise"):
        fastmux.selectors.EpollSelector(fork="ignore")
