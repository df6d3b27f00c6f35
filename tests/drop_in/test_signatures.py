"""Names, constants and arguments of the mirrors, compared with the standard modules."""

from __future__ import annotations

import inspect
import select
import selectors

import pytest

import fastmux

POLL = select.poll()


@pytest.mark.parametrize("module", [select, selectors], ids=lambda module: module.__name__)
def test_every_public_name_of_the_standard_module_is_there(module):
    mirror = getattr(fastmux, module.__name__)
    names = [name for name in dir(module) if not name.startswith("_")]
    modules = {name for name in names if inspect.ismodule(getattr(module, name))}  # imported there

    assert set(names) - modules <= set(dir(mirror))


def test_constants_are_equal():
    constants = [name for name in dir(select) if isinstance(getattr(select, name), int)]

    assert constants
    for name in constants:
        assert getattr(fastmux.select, name) == getattr(select, name), name


def test_errors_and_key_are_the_same_objects():
    assert fastmux.select.error is select.error
    for name in ("SelectorKey", "BaseSelector", "EVENT_READ", "EVENT_WRITE"):
        assert getattr(fastmux.selectors, name) is getattr(selectors, name)


FUNCTIONS = [
    ("select.select", select.select, fastmux.select.select),
    ("select.poll", select.poll, fastmux.select.poll),
    *((f"poll.{name}", getattr(POLL, name), getattr(fastmux.select.poll(), name))
      for name in dir(POLL) if not name.startswith("_")),
    *((f"epoll.{name}", getattr(select.epoll, name), getattr(fastmux.select.epoll, name))
      for name in dir(select.epoll) if not name.startswith("_") and name not in ("closed", "register")),
    *((f"{cls}.{name}", getattr(getattr(selectors, cls), name), getattr(getattr(fastmux.selectors, cls), name))
      for cls in ("SelectSelector", "PollSelector", "EpollSelector", "DefaultSelector")
      for name in dir(getattr(selectors, cls))
      if not name.startswith("_") and callable(getattr(getattr(selectors, cls), name))),
]  # fmt: skip


@pytest.mark.parametrize(("standard", "mirror"), [pair[1:] for pair in FUNCTIONS], ids=[pair[0] for pair in FUNCTIONS])
def test_arguments_are_the_same(standard, mirror):
    def shape(function):
        parameters = inspect.signature(function).parameters.values()
        return [(each.name, each.kind, each.default) for each in parameters if each.name != "self"]

    assert shape(mirror) == shape(standard)


@pytest.mark.parametrize("module", [select, fastmux.select], ids=lambda module: module.__name__)
def test_arguments_without_a_signature_are_the_same(module, socketpair):
    """The interpreter has no signature for these."""
    with module.epoll(sizehint=10, flags=0) as epoll:
        epoll.register(fd=socketpair[0], eventmask=select.EPOLLIN)
        epoll.unregister(socketpair[0])
        epoll.register(socketpair[0])
        assert epoll.poll(timeout=0, maxevents=1) == [(socketpair[0].fileno(), select.EPOLLOUT)]


@pytest.mark.parametrize("cls", ["SelectSelector", "PollSelector", "EpollSelector", "DefaultSelector"])
def test_a_selector_is_made_without_arguments(cls):
    getattr(fastmux.selectors, cls)().close()


@pytest.mark.skipif(
    fastmux.implementation != "c" or "epoll" not in fastmux.Poller.mechanisms,
    reason="the standard EpollSelector has no options",
)
@pytest.mark.parametrize("cls", ["EpollSelector", "DefaultSelector"])
def test_an_epoll_selector_has_a_fork_policy(cls):
    parameter = inspect.signature(getattr(fastmux.selectors, cls)).parameters["fork"]

    assert (parameter.kind, parameter.default) == (inspect.Parameter.KEYWORD_ONLY, "share")
