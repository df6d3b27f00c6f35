"""The mirrors of builtins as objects: everything that a program can do with one, compared with the original."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import os
import pickle
import re
import select
import weakref
from unittest import mock

import pytest

import fastmux

MODULES = {"standard": select, "mirror": fastmux.select}
OBJECTS = {name: {which: getattr(module, name) for which, module in MODULES.items()} for name in ("select", "poll")}
OBJECTS["epoll"] = {which: module.epoll for which, module in MODULES.items()}
FILE = os.open(__file__, os.O_RDONLY | os.O_CLOEXEC)  # always ready, so no call blocks
POLLS = {which: module.poll() for which, module in MODULES.items()}
for _poll in POLLS.values():
    _poll.register(FILE)
OBJECTS["the type of poll()"] = {which: type(poll) for which, poll in POLLS.items()}
OBJECTS |= {
    f"poll().{name}": {which: getattr(poll, name) for which, poll in POLLS.items()}
    for name in dir(POLLS["standard"])
    if not name.startswith("_")
}


def outcome(call, *args, **kwargs):
    """Call, and return the type of the result, or the exception; without the name of this package."""
    try:
        result = call(*args, **kwargs)
    except Exception as error:
        return type(error), str(error).replace("fastmux.", "")
    if hasattr(result, "close"):
        result.close()
    return type(result).__name__


def is_its_own_copy(thing):
    """Whether both functions return the object itself, or the exception: of a method of PyPy they copy the object."""
    try:
        return copy.copy(thing) is copy.deepcopy(thing) is thing
    except TypeError as error:
        return str(error)


def as_method(thing, *args):
    """Call it through an instance, after a class has kept it."""
    return outcome(type("Loop", (), {"method": thing})().method, *args)


ARGUMENTS = [(), (0,), (0, 1), (0, 1, 2), ([FILE], [], []), ([], [], [], 0), ([], [], [], 0, 0), ("x", [], [])]
QUESTIONS = {
    "its type": lambda thing: type(thing).__name__,
    "its name": lambda thing: (thing.__name__, thing.__qualname__),
    "its module": lambda thing: str(thing.__module__).replace("fastmux.", ""),
    "its owner": lambda thing: getattr(getattr(thing, "__self__", None), "__name__", "").replace("fastmux.", ""),
    "its text": lambda thing: re.sub(" at 0x[0-9a-f]+", "", repr(thing)).replace("fastmux.", ""),
    "whether it is documented": lambda thing: bool(thing.__doc__),
    "what inspect says": lambda thing: [
        (name, check(thing)) for name, check in inspect.getmembers(inspect, inspect.isfunction) if name[:2] == "is"
    ],
    "its signature": lambda thing: callable(thing) and outcome(inspect.signature, thing),
    "its parameters": lambda thing: re.sub(r"eventmask=[^,]*|\s", "", str(getattr(thing, "__text_signature__", None))),
    "a call": lambda thing: [outcome(thing, *args) for args in ARGUMENTS],
    "a call by keyword": lambda thing: [outcome(thing, **{name: 0}) for name in ("timeout", "fd", "flags", "x")],
    "a call through an instance": lambda thing: [as_method(thing, *args) for args in ARGUMENTS],
    "a call through a class": lambda thing: outcome(type("Loop", (), {"method": thing}).method),
    "a call through partialmethod": lambda thing: [
        as_method(functools.partialmethod(thing, *args)) for args in ARGUMENTS
    ],
    "a weak reference": lambda thing: outcome(weakref.ref, thing),
    "a new attribute": lambda thing: inspect.isclass(thing) or outcome(setattr, thing, "attribute", 1),
    "a copy": is_its_own_copy,
    "a pickle": lambda thing: outcome(pickle.dumps, thing),
    "equality": lambda thing: [thing == thing, thing != thing, thing == select, hash(thing) == hash(thing)],
    "a subclass": lambda thing: inspect.isclass(thing) and outcome(lambda: type("Mine", (thing,), {})),
}


#: The mirror has these where the standard object, depending on the version, has none.
ADDED = {("epoll", "its signature"), ("the type of poll()", "whether it is documented")}


@pytest.mark.parametrize(("name", "question"), sorted({(name, text) for name in OBJECTS for text in QUESTIONS} - ADDED))
def test_a_mirror_of_a_builtin_is_like_the_original(name, question):
    standard, mirror = (QUESTIONS[question](OBJECTS[name][which]) for which in MODULES)

    assert mirror == standard


@pytest.mark.parametrize("name", ["select", "poll", "epoll"])
def test_a_mirror_of_a_builtin_is_pickled_by_its_name(name):
    mirror = OBJECTS[name]["mirror"]

    assert pickle.loads(pickle.dumps(mirror)) is mirror


def test_a_selector_takes_the_functions_as_class_attributes(socketpair):
    """As the standard selectors do with theirs."""

    class Selector(fastmux.selectors.PollSelector):
        _selector_cls = fastmux.select.poll

    class Other(fastmux.selectors.SelectSelector):
        _select = fastmux.select.select

    for cls in (Selector, Other):
        with cls() as selector:
            key = selector.register(socketpair[0], fastmux.selectors.EVENT_WRITE)
            assert selector.select(0) == [(key, fastmux.selectors.EVENT_WRITE)]


@pytest.mark.parametrize("way", ["close()", "with"])
def test_an_epoll_object_is_closed_after_the_program_has_closed_its_descriptor(way):
    """Since Python 3.15 the first close() raises."""

    def close(epoll):
        if way == "close()":
            return epoll.close()
        with epoll:
            return None

    seen = {}
    for which, module in MODULES.items():
        epoll = module.epoll()
        os.close(epoll.fileno())
        seen[which] = [outcome(close, epoll), epoll.closed, outcome(epoll.close)]

    assert seen["mirror"] == seen["standard"]


@pytest.mark.skipif(fastmux.implementation != "c", reason="the mirror is the standard object")
def test_an_epoll_object_is_dropped_silently_after_the_program_has_closed_its_descriptor():
    epoll = fastmux.select.epoll()
    os.close(epoll.fileno())
    with mock.patch("sys.unraisablehook") as hook:
        del epoll
        gc.collect()

    assert not hook.called
