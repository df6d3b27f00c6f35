"""register(), modify() and unregister()."""

from __future__ import annotations

import errno
import os
import selectors

import pytest

from fastmux import READ, WRITE


class HasDescriptor:
    """An object with a fileno() method only."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def fileno(self) -> int:
        return self.fd


def test_register_returns_the_standard_selector_key(poller, socketpair):
    ours, _ = socketpair
    data = object()

    key = poller.register(ours, READ | WRITE, data)

    assert type(key) is selectors.SelectorKey
    assert key == (ours, ours.fileno(), READ | WRITE, data)
    assert key.data is data


def test_register_watches_for_read_by_default(poller, socketpair):
    ours, _ = socketpair

    key = poller.register(ours)

    assert (key.events, key.data) == (READ, None)


@pytest.mark.parametrize("wrap", [int, HasDescriptor], ids=["int", "object"])
def test_a_descriptor_or_anything_with_a_fileno_method_can_be_registered(poller, socketpair, wrap):
    ours, theirs = socketpair
    fileobj = wrap(ours.fileno())
    theirs.send(b"x")

    key = poller.register(fileobj)

    assert (key.fileobj, key.fd) == (fileobj, ours.fileno())
    assert poller.select(0) == [(key, READ)]


def test_unregister_returns_the_key_and_ends_the_reports(poller, socketpair):
    ours, theirs = socketpair
    key = poller.register(ours)
    theirs.send(b"x")
    assert poller.poll(0) == [(ours.fileno(), READ)]

    assert poller.unregister(ours) is key

    assert poller.poll(0) == []
    assert ours not in poller


def test_unregister_twice_is_a_key_error(poller, socketpair):
    ours, _ = socketpair
    poller.register(ours)
    poller.unregister(ours)

    with pytest.raises(KeyError, match="not registered"):
        poller.unregister(ours)


def test_what_was_unregistered_can_be_registered_again(poller, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    for _ in range(3):
        key = poller.register(ours)
        assert poller.select(0) == [(key, READ)]
        poller.unregister(ours)

    assert poller.select(0) == []


def test_a_closed_socket_is_unregistered_by_itself_as_the_key(poller, socketpair):
    ours, _ = socketpair
    key = poller.register(ours)
    ours.close()

    assert poller.unregister(ours) is key
    assert len(poller) == 0
    assert poller.poll(0) == []


def test_a_closed_descriptor_is_unregistered_by_its_number(poller):
    fd = os.eventfd(1)
    key = poller.register(fd)
    os.close(fd)

    assert poller.unregister(fd) is key
    assert poller.poll(0) == []


def test_registering_twice_is_a_key_error_and_changes_nothing(poller, socketpair):
    ours, theirs = socketpair
    key = poller.register(ours, READ, "first")
    theirs.send(b"x")

    with pytest.raises(KeyError, match="already registered"):
        poller.register(ours, WRITE, "second")
    with pytest.raises(KeyError, match="already registered"):
        poller.register(ours.fileno(), WRITE)

    assert poller.select(0) == [(key, READ)]


def test_modify_of_what_is_not_registered_is_a_key_error(poller, socketpair):
    ours, theirs = socketpair
    poller.register(ours)

    with pytest.raises(KeyError, match="not registered"):
        poller.modify(theirs, READ)


def test_modify_that_changes_nothing_returns_the_same_key(poller, socketpair):
    ours, _ = socketpair
    key = poller.register(ours, READ, "data")

    assert poller.modify(ours, READ) is key
    assert poller.modify(ours, READ, key.data) is key
    assert poller.get_key(ours) is key


def test_modify_replaces_the_data_and_keeps_the_events(poller, socketpair):
    ours, theirs = socketpair
    poller.register(ours, READ, "old")
    theirs.send(b"x")
    assert [key.data for key, _ in poller.select(0)] == ["old"]

    key = poller.modify(ours, READ, "new")

    assert key == (ours, ours.fileno(), READ, "new")
    assert poller.select(0) == [(key, READ)]


def test_modify_keeps_the_data_by_default(poller, socketpair):
    ours, _ = socketpair
    poller.register(ours, READ, "data")

    assert poller.modify(ours, WRITE) == (ours, ours.fileno(), WRITE, "data")
    assert poller.modify(ours, WRITE, None).data is None


def test_modify_changes_what_is_reported(poller, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    poller.register(ours, READ)

    reports = [poller.poll(0)]
    for events in (WRITE, READ | WRITE, READ):
        poller.modify(ours, events)
        reports.append(poller.poll(0))

    fd = ours.fileno()
    assert reports == [[(fd, READ)], [(fd, WRITE)], [(fd, READ | WRITE)], [(fd, READ)]]


def test_modify_to_no_events_pauses(poller, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    poller.register(ours, READ)

    poller.modify(ours, 0)
    paused = poller.poll(0)
    poller.modify(ours, READ)

    assert paused == []
    assert poller.poll(0) == [(ours.fileno(), READ)]


def test_a_registration_for_no_events_waits_to_be_modified(poller, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    poller.register(ours, 0)
    assert poller.poll(0) == []

    poller.modify(ours, READ)

    assert poller.poll(0) == [(ours.fileno(), READ)]


def test_modify_with_impossible_events_changes_nothing(poller, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    key = poller.register(ours, READ)

    with pytest.raises(ValueError, match="invalid events"):
        poller.modify(ours, 1 << 20)

    assert poller.select(0) == [(key, READ)]


def test_modify_of_a_file_that_was_closed_unregisters_it_on_epoll(epoll_poller, socketpair):
    ours, _ = socketpair
    epoll_poller.register(ours, READ)
    ours.close()

    with pytest.raises(OSError, match=f"{os.strerror(errno.ENOENT)}|{os.strerror(errno.EBADF)}"):
        epoll_poller.modify(ours, WRITE)

    assert len(epoll_poller) == 0
    assert epoll_poller.poll(0) == []


def test_modify_of_a_closed_and_reused_descriptor_unregisters_it_on_epoll(epoll_poller):
    fd = os.eventfd(1)
    epoll_poller.register(fd, READ)
    other = os.eventfd(1)
    os.dup2(other, fd)
    os.close(other)

    with pytest.raises(FileNotFoundError):
        epoll_poller.modify(fd, WRITE)
    assert fd not in epoll_poller

    key = epoll_poller.register(fd)
    assert epoll_poller.select(0) == [(key, READ)]
    os.close(fd)


def test_select_reports_the_same_registrations_as_poll_and_wait(poller, make_socketpair):
    keys = []
    for i in range(5):
        ours, theirs = make_socketpair()
        theirs.send(b"x")
        keys.append(poller.register(ours, READ | WRITE * (i % 2), i))

    n = poller.wait(0)

    expected = sorted((key.fd, key.events) for key in keys)
    assert sorted(poller.poll(0)) == expected
    assert sorted(zip(poller.fds[:n], poller.events[:n])) == expected
    assert sorted((key.fd, events) for key, events in poller.select(0)) == expected
    assert all(key is keys[key.data] for key, _ in poller.select(0))
