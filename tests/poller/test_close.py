"""close() before and during waits, and closed and collected pollers."""

from __future__ import annotations

import copy
import gc
import io
import pickle

import pytest

from fastmux import READ, WRITE

TIMEOUT = 20.0


def test_close_ends_a_wait_in_another_thread_with_a_value_error(wait, poller, start_thread):
    waiter = start_thread(wait).until_blocked()

    poller.close()

    with pytest.raises(ValueError, match="closed poller"):
        waiter.result()


def test_close_ends_a_wait_on_registered_descriptors(poller, socketpair, start_thread):
    poller.register(socketpair[0], READ)
    waiter = start_thread(poller.poll, 3 * TIMEOUT).until_blocked()

    poller.close()

    with pytest.raises(ValueError, match="closed poller"):
        waiter.result()


def test_close_ends_all_waits_and_releases_everything(make_poller, start_thread, open_descriptors):
    before = open_descriptors()
    poller = make_poller()
    waiters = [start_thread(wait) for wait in [poller.poll, poller.select, poller.wait] * 2]
    for waiter in waiters:
        waiter.until_blocked()

    poller.close()

    for waiter in waiters:
        with pytest.raises(ValueError, match="closed poller"):
            waiter.result()
    assert open_descriptors() == before


def test_close_at_any_moment_ends_a_loop_of_waits(make_poller, make_eventfd, start_thread, open_descriptors):
    fd = make_eventfd(1)
    before = open_descriptors()

    def loop(poller):
        while True:
            assert poller.poll(0.001) == [(fd, READ)]

    for _ in range(30):
        poller = make_poller()
        poller.register(fd, READ)
        waiters = [start_thread(loop, poller) for _ in range(2)]
        poller.close()
        for waiter in waiters:
            with pytest.raises(ValueError, match="closed poller"):
                waiter.result()

    assert open_descriptors() == before


def test_close_releases_the_descriptors(make_poller, socketpair, open_descriptors):
    before = open_descriptors()
    poller = make_poller()
    poller.register(socketpair[0], READ | WRITE)
    poller.poll(0)
    poller.wait(0)
    poller.wakeup()

    poller.close()

    assert open_descriptors() == before


def test_close_leaves_the_registered_files_open(poller, socketpair):
    ours, theirs = socketpair
    poller.register(ours)
    poller.close()

    theirs.send(b"x")
    assert ours.recv(1) == b"x"


def test_close_can_be_repeated(poller):
    states = [poller.closed]
    for _ in range(3):
        assert poller.close() is None
        states.append(poller.closed)

    assert states == [False, True, True, True]


def test_the_context_manager_closes(make_poller):
    with make_poller() as poller:
        assert poller.closed is False
        assert poller.poll(0) == []

    assert poller.closed is True


def test_the_context_manager_closes_after_an_exception_and_passes_it_on(make_poller):
    with pytest.raises(ZeroDivisionError), make_poller() as poller:
        raise ZeroDivisionError

    assert poller.closed is True


@pytest.mark.parametrize(
    "call",
    [
        lambda poller, sock: poller.register(sock),
        lambda poller, sock: poller.modify(sock, WRITE),
        lambda poller, sock: poller.unregister(sock),
        lambda poller, sock: poller.get_key(sock),
        lambda poller, sock: poller.get_map(),
        lambda poller, sock: poller.poll(),
        lambda poller, sock: poller.poll(0),
        lambda poller, sock: poller.poll(0.01),
        lambda poller, sock: poller.poll(0, 1),
        lambda poller, sock: poller.select(),
        lambda poller, sock: poller.select(0),
        lambda poller, sock: poller.select(0.01),
        lambda poller, sock: poller.wait(),
        lambda poller, sock: poller.wait(0),
        lambda poller, sock: poller.wait(0.01),
        lambda poller, sock: poller.wakeup(),
        lambda poller, sock: poller.fileno(),
        lambda poller, sock: poller.__enter__(),
    ],
    ids=[
        *("register", "modify", "unregister", "get_key", "get_map"),
        *(f"{name}{arguments}" for name in ("poll",) for arguments in ("()", "(0)", "(0.01)", "(0, 1)")),
        *(f"{name}{arguments}" for name in ("select", "wait") for arguments in ("()", "(0)", "(0.01)")),
        *("wakeup", "fileno", "enter"),
    ],
)
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_a_closed_poller_refuses(poller, socketpair, call, used):
    ours, theirs = socketpair
    if used:
        theirs.send(b"x")
        poller.register(ours, READ)
        for wait in (poller.poll, poller.select, poller.wait):
            assert wait(0)
    poller.close()

    with pytest.raises(ValueError, match="closed poller") as raised:
        call(poller, ours)
    assert not isinstance(raised.value, io.UnsupportedOperation)


def test_a_closed_poller_is_empty(poller, socketpair):
    ours, _ = socketpair
    poller.register(ours)
    registered = poller.get_map()
    poller.close()

    assert (len(poller), ours in poller, ours.fileno() in poller) == (0, False, False)
    assert (len(registered), list(registered), ours in registered) == (0, [], False)


def test_leaving_the_context_of_a_closed_poller_is_no_error(poller):
    with poller:
        poller.close()

    assert poller.closed


# Garbage collection


def test_an_unclosed_poller_releases_its_descriptors_when_collected(make_poller, socketpair, open_descriptors):
    before = open_descriptors()
    poller = make_poller()
    poller.register(socketpair[0], READ | WRITE)
    for wait in (poller.poll, poller.select, poller.wait):
        assert wait(0)
    poller.wakeup()
    during = open_descriptors()

    make_poller.forget()
    del poller, wait
    gc.collect()

    assert len(during) > len(before)
    assert open_descriptors() == before


def test_an_unclosed_poller_in_a_cycle_releases_its_descriptors_when_collected(make_poller, open_descriptors):
    before = open_descriptors()
    poller = make_poller()
    poller.poll(0)
    poller.cycle = [poller]

    make_poller.forget()
    del poller
    gc.collect()

    assert open_descriptors() == before


@pytest.mark.parametrize("function", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_poller_cannot_be_copied(poller, socketpair, function):
    """A copy that is dropped would close the descriptors of the original."""
    ours, theirs = socketpair
    poller.register(ours, READ)

    with pytest.raises(TypeError, match="cannot pickle"):
        function(poller)

    gc.collect()
    theirs.send(b"x")
    assert poller.poll(TIMEOUT) == [(ours.fileno(), READ)]


def test_a_closed_poller_does_not_call_fileno(poller):
    class File:
        calls = 0

        def fileno(self):
            self.calls += 1
            raise OSError("not called")

    file = File()
    poller.close()

    for call in (lambda: poller.modify(file, READ), lambda: poller.unregister(file), lambda: poller.get_key(file)):
        with pytest.raises(ValueError, match="closed poller"):
            call()
    assert file.calls == 0
