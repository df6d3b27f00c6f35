"""Subclasses of the selectors, as programs write them."""

from __future__ import annotations

import os
import select
import selectors

import pytest

import fastmux
from fastmux.selectors import EVENT_READ, EVENT_WRITE, EpollSelector

TIMEOUT = 20.0


@pytest.mark.parametrize("name", ["SelectSelector", "PollSelector", "EpollSelector"])
@pytest.mark.parametrize("own", [False, True], ids=["", "own"])
def test_methods_that_a_subclass_overrides_are_called(name, own, socketpair):
    """own: the subclass sets ``_selector_cls`` to the standard object."""
    ours, theirs = socketpair
    calls = []

    class Mine(getattr(fastmux.selectors, name)):
        def register(self, *args):
            calls.append("register")
            return super().register(*args)

        def select(self, timeout=None):
            calls.append("select")
            return [key.data for key, _ in super().select(timeout)]

    if own and name != "SelectSelector":
        Mine._selector_cls = getattr(selectors, name)._selector_cls
    with Mine() as selector:
        selector.register(ours, EVENT_READ, "data")
        assert selector.select(0) == []
        theirs.send(b"x")
        assert selector.select(TIMEOUT) == selector.select(0) == ["data"]
        assert selector.modify(ours, EVENT_WRITE, 1).data == 1
        assert selector.select(0) == [1]
        selector.unregister(ours)
        assert selector.select(0.001) == []
    assert calls[:2] == ["register", "select"]  # the standard SelectSelector.modify() registers anew
    assert calls.count("select") == 5


def test_an_overridden_select_is_not_called_by_the_selector_itself():
    """With more ready than the array has room for, the selector makes a second wait."""

    class Mine(EpollSelector):
        def select(self, timeout=None):
            return [key.data for key, _ in super().select(timeout)]

    r, w = os.pipe()
    os.write(w, b"x")
    copies = [os.dup(r) for _ in range(200)]
    with Mine() as selector:
        for fd in copies:
            selector.register(fd, EVENT_READ, fd)
        assert sorted(selector.select(0)) == copies
    for fd in (r, w, *copies):
        os.close(fd)


@pytest.mark.parametrize("module", [selectors, fastmux.selectors], ids=lambda module: module.__name__)
@pytest.mark.parametrize("name", ["SelectSelector", "PollSelector", "EpollSelector"])
def test_a_subclass_may_have_a_map_of_its_own(module, name, socketpair):
    """The extension goes on with the original one."""
    ours, theirs = socketpair
    theirs.send(b"x")

    class Mine(getattr(module, name)):
        def __init__(self):
            super().__init__()
            self._fd_to_key = dict(self._fd_to_key)

    with Mine() as selector:
        others = [dict.fromkeys(range(100)) for _ in range(100)]
        selector.register(ours, EVENT_READ, "data")
        assert [key.data for key, _ in selector.select(0)] == ["data"]
        assert selector.unregister(ours).data == "data"
    assert {len(other) for other in others} == {100}


class Key:
    """A key that is no SelectorKey."""

    def __init__(self, fileobj, fd, events, data):
        self.fileobj, self.fd, self.events, self.data = fileobj, fd, events, data

    def _replace(self, **changes):
        return Key(**{**vars(self), **changes})


@pytest.mark.parametrize("module", [selectors, fastmux.selectors], ids=lambda module: module.__name__)
@pytest.mark.parametrize("name", ["SelectSelector", "PollSelector", "EpollSelector"])
def test_a_subclass_may_keep_keys_of_its_own(name, module, socketpair):
    class Mine(getattr(module, name)):
        def register(self, *args):
            key = super().register(*args)
            self._fd_to_key[key.fd] = own = Key(*key)
            return own

    ours, _ = socketpair
    with Mine() as selector:
        selector.register(ours, EVENT_WRITE, 1)
        for events in (EVENT_READ, EVENT_READ | EVENT_WRITE, EVENT_WRITE):
            assert selector.modify(ours, events, 1).fd == ours.fileno()
            found = [(key.fd, ready) for key, ready in selector.select(0)]
            assert found == [(ours.fileno(), EVENT_WRITE)] * (events != EVENT_READ)
        assert selector.get_key(ours).events == EVENT_WRITE
        assert selector.unregister(ours).fd == ours.fileno()
        assert selector.select(0) == []


@pytest.mark.parametrize("module", [selectors, fastmux.selectors], ids=lambda module: module.__name__)
@pytest.mark.parametrize("is_read", [False, True], ids=["", "after _selector was read"])
@pytest.mark.parametrize("name", ["SelectSelector", "PollSelector", "EpollSelector"])
def test_a_selector_that_is_initialized_again_is_another(name, is_read, module, socketpair):
    """With a closed epoll set, a program may do so instead of making a selector."""
    ours, theirs = socketpair
    theirs.send(b"x")
    selector = getattr(module, name)()
    selector.register(ours, EVENT_READ)
    if is_read and name != "SelectSelector":
        assert selector._selector is selector._selector
    selector.close()
    selector.__init__()

    with selector:
        assert selector.select(0) == []
        selector.register(ours, EVENT_READ)
        assert [key.fileobj for key, _ in selector.select(0)] == [ours]
        if name == "EpollSelector":
            with select.epoll.fromfd(os.dup(selector.fileno())) as same:
                assert same.poll(0) == [(ours.fileno(), select.EPOLLIN)]
