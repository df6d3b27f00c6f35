"""Lookups of keys, and the attributes of a poller."""

from __future__ import annotations

import select

import pytest

import fastmux
from fastmux import PEER_CLOSED, PRIORITY, READ, WRITE


def test_a_key_is_found_by_file_object_and_by_descriptor(poller, socketpair):
    ours, _ = socketpair
    key = poller.register(ours)

    assert poller.get_key(ours) is key
    assert poller.get_key(ours.fileno()) is key


def test_get_key_of_what_is_not_registered_is_a_key_error(poller, socketpair):
    ours, theirs = socketpair
    poller.register(ours)

    with pytest.raises(KeyError, match="not registered"):
        poller.get_key(theirs)


def test_len_counts_registrations(poller, make_socketpair):
    lengths = [len(poller)]
    pairs = [make_socketpair() for _ in range(3)]
    for ours, _ in pairs:
        poller.register(ours)
        lengths.append(len(poller))
    poller.unregister(pairs[1][0])
    lengths.append(len(poller))

    assert lengths == [0, 1, 2, 3, 2]


def test_an_empty_poller_is_true(poller):
    assert len(poller) == 0
    assert bool(poller)


def test_contains_takes_file_objects_and_descriptors(poller, socketpair):
    ours, theirs = socketpair
    poller.register(ours)

    assert ours in poller
    assert ours.fileno() in poller
    assert theirs not in poller
    assert theirs.fileno() not in poller


@pytest.mark.parametrize("nonsense", ["x", None, -1, 2**40, 1.5], ids=repr)
def test_what_cannot_be_watched_is_not_in_a_poller(poller, nonsense):
    assert nonsense not in poller


def test_the_map_is_live(poller, socketpair):
    ours, _ = socketpair
    registered = poller.get_map()
    assert (len(registered), list(registered), ours in registered) == (0, [], False)

    key = poller.register(ours, data="x")

    assert (len(registered), list(registered), ours in registered) == (1, [ours.fileno()], True)
    assert registered[ours] is registered[ours.fileno()] is key
    assert list(registered.values()) == [key]


def test_the_map_cannot_be_changed(poller, socketpair):
    ours, _ = socketpair
    poller.register(ours)

    with pytest.raises(TypeError):
        poller.get_map()[ours.fileno()] = None


def test_the_map_can_be_iterated_while_registrations_change(poller, make_socketpair):
    fds = [poller.register(make_socketpair()[0]).fd for _ in range(4)]

    seen = []
    for fd in poller.get_map():
        seen.append(fd)
        poller.unregister(fd)

    assert sorted(seen) == sorted(fds)


def test_constants_are_those_of_the_standard_library():
    names = ["READ", "WRITE", "PRIORITY", "ERROR", "HANGUP", "PEER_CLOSED", "EDGE", "ONESHOT", "EXCLUSIVE"]
    expected = ["IN", "OUT", "PRI", "ERR", "HUP", "RDHUP", "ET", "ONESHOT", "EXCLUSIVE"]

    assert [getattr(fastmux, name) for name in names] == [getattr(select, f"EPOLL{name}") for name in expected]
    assert [READ, WRITE, PRIORITY, PEER_CLOSED] == [select.POLLIN, select.POLLOUT, select.POLLPRI, select.POLLRDHUP]


def test_the_best_mechanism_is_the_default(make_poller):
    with make_poller.cls() as poller:
        assert poller.mechanism == make_poller.cls.mechanisms[0]


def test_repr_shows_class_mechanism_and_state(make_poller, socketpair):
    poller = make_poller()
    poller.register(socketpair[0])
    opened = repr(poller)
    poller.close()

    name = f"fastmux.{make_poller.cls.__name__} {make_poller.mechanism}"
    assert (opened, repr(poller)) == (f"<{name}, 1 registered>", f"<{name}, closed>")
