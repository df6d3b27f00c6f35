"""The garbage collector runs the destructors of a cycle in any order; each of them may use all objects of the cycle."""

from __future__ import annotations

import gc
import select
import selectors

import pytest

import fastmux
from fastmux import READ
from fastmux.selectors import EVENT_READ


class User:
    """An object in a cycle that uses another one in its destructor."""

    def __init__(self, use):
        self.use = use
        self.cycle = self

    def __del__(self):
        self.use()


@pytest.mark.parametrize("module", [selectors, fastmux.selectors], ids=lambda module: module.__name__)
@pytest.mark.parametrize("name", ["SelectSelector", "PollSelector", "EpollSelector"])
def test_a_destructor_can_use_a_selector(module, name, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    selector = getattr(module, name)()
    selector.register(ours, EVENT_READ)
    selector.select(0)
    found = []

    def use(selector=selector):
        found.extend(key.fd for key, _ in selector.select(0))
        found.extend(key.fd for key, _ in selector.select(0.01))
        selector.unregister(ours)
        selector.close()

    selector.modify(ours, EVENT_READ, User(use))
    del selector, use
    gc.collect()

    assert found == [ours.fileno()] * 2


def test_a_destructor_can_use_a_poller(make_poller, socketpair):
    if make_poller.cls is fastmux.StdlibPoller:
        pytest.skip("it has a destructor itself, which may come first: later calls raise ValueError")
    ours, theirs = socketpair
    theirs.send(b"x")
    poller = make_poller()
    poller.register(ours)
    poller.wait(0)
    poller.select(0)
    found = []

    def use(poller=poller):
        found.extend(poller.poll(0))
        found.append(poller.wait(0))
        poller.wakeup()
        poller.unregister(ours)
        poller.close()

    poller.modify(ours, READ, User(use))
    make_poller.forget()
    del poller, use
    gc.collect()

    assert found == [(ours.fileno(), READ), 1]


@pytest.mark.parametrize("module", [select, fastmux.select], ids=lambda module: module.__name__)
@pytest.mark.parametrize("name", ["poll", "epoll"])
def test_a_destructor_can_use_an_epoll_or_poll_object(module, name, socketpair):
    ours, theirs = socketpair
    theirs.send(b"x")
    made = getattr(module, name)()
    made.register(ours, select.POLLIN)
    found = []

    def use(made=made):
        found.extend(made.poll(0))
        made.unregister(ours)

    User(use)
    del made, use
    gc.collect()

    assert found == [(ours.fileno(), select.POLLIN)]
