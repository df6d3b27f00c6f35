"""Arguments whose methods return wrong types, raise, or call the poller: Poller behaves like StdlibPoller.

Hypothesis generates sequences of calls. Each call is made on both pollers, with new arguments, and must return the same
value or raise the same type of exception, and leave the same registrations.

    python -m pytest tests/poller/test_hostile_arguments.py --hypothesis-profile=thorough  # 2,000 sequences each
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import socket
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastmux
from fastmux import EDGE, EXCLUSIVE, ONESHOT, PEER_CLOSED, PRIORITY, READ, WRITE, Poller, StdlibPoller

pytestmark = pytest.mark.skipif(fastmux.implementation != "c", reason="without the extension both are the same class")

#: The numbers of the files: higher than all descriptors that the pollers open.
FIRST = 300
FILES = 6


class Stop(BaseException):
    """An exception that only a bare ``except`` catches."""


def act(outcome: Any) -> Any:
    """Return the outcome, or raise it if it is an exception."""
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


# Each class has one hostile method. ``poller`` is the poller that gets the object as an argument.


class Indexed:
    def __init__(self, poller: Any, outcome: Any) -> None:
        self.outcome = outcome

    def __index__(self) -> Any:
        return act(self.outcome)


class Floating(Indexed):
    def __float__(self) -> Any:
        return act(self.outcome)

    __index__ = None  # type: ignore[assignment]


class Truth(Indexed):
    def __bool__(self) -> Any:
        return act(self.outcome)


class Equal(Indexed):
    """Returns or raises anything from comparisons."""

    def __eq__(self, other: object) -> Any:
        return act(self.outcome)

    __ne__ = __lt__ = __gt__ = __le__ = __ge__ = __eq__
    __hash__ = object.__hash__

    def __index__(self) -> int:
        return 0


class Integer(int):
    """An int that returns or raises anything from comparisons."""

    outcome: Any

    def __new__(cls, poller: Any, outcome: Any) -> Integer:
        made = super().__new__(cls, READ)
        made.outcome = outcome
        return made

    def __eq__(self, other: object) -> Any:
        return act(self.outcome)

    __lt__ = __gt__ = __and__ = __eq__
    __hash__ = int.__hash__


class Real(float):
    outcome: Any

    def __new__(cls, poller: Any, outcome: Any) -> Real:
        made = super().__new__(cls, 0.001)
        made.outcome = outcome
        return made

    def __eq__(self, other: object) -> Any:
        return act(self.outcome)

    __gt__ = __le__ = __mul__ = __eq__
    __hash__ = float.__hash__


class File:
    def __init__(self, poller: Any, outcome: Any) -> None:
        self.outcome = outcome

    def fileno(self) -> Any:
        return act(self.outcome)


class Unspeakable(File):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Shadowed:
    """Has a fileno property instead of a method."""

    def __init__(self, poller: Any, outcome: Any) -> None:
        self.outcome = outcome

    @property
    def fileno(self) -> Any:
        return act(self.outcome)


#: The call of a fileno() method before it returns a number.
REENTRANT: dict[str, Callable[[Any, int], Any]] = {
    "close": lambda poller, fd: poller.close(),
    "register": lambda poller, fd: poller.register(fd, READ),
    "unregister": lambda poller, fd: poller.unregister(fd),
    "modify": lambda poller, fd: poller.modify(fd, WRITE),
    "poll": lambda poller, fd: poller.poll(0),
    "wait": lambda poller, fd: poller.wait(0),
    "select": lambda poller, fd: poller.select(0),
    "wakeup": lambda poller, fd: poller.wakeup(),
}


class Reentrant:
    """Has a fileno() that uses the poller that called it."""

    def __init__(self, poller: Any, outcome: tuple[str, int]) -> None:
        self.poller = poller
        self.action, self.fd = outcome

    def fileno(self) -> int:
        with contextlib.suppress(KeyError, ValueError, OSError):
            REENTRANT[self.action](self.poller, self.fd)
        return self.fd


class Recipe(NamedTuple):
    """A class and an outcome, for a new object for each poller."""

    cls: Any
    outcome: Any

    def make(self, poller: Any) -> Any:
        return self.cls(poller, self.outcome)


def made(value: Any, poller: Any) -> Any:
    return value.make(poller) if isinstance(value, Recipe) else value


class Number(enum.IntEnum):
    one = 1
    large = 2**40


NUMBERS = [FIRST + slot for slot in range(FILES)]
NOWHERE = [-1, -(2**31), -(2**63), -(2**70), 2**31, 2**63, 2**70]
RAISED = [
    ValueError("x"),
    TypeError("x"),
    OSError(9, "x"),
    AttributeError("x"),
    KeyError("x"),
    RuntimeError("x"),
    Stop(),
]
NONSENSE = [
    *(None, True, False, "1", "", b"1", bytearray(b"1"), 1j, [], [1], (), {}, {1}, object, NotImplemented, ...),
    *(Decimal(1), Decimal("NaN"), Fraction(1, 3), Number.one, Number.large, memoryview(b"1"), range(1)),
]
FLOATS = [0.0, -0.0, 1.0, 5e-324, 1e-9, 0.5, -1.5, 1e10, 1e300, -1e300, float("nan"), float("inf"), -float("inf")]
INTEGERS = [0, 1, 2, -1, -2, 3, 1023, 1024, 2**31 - 1, 2**31, 2**32 + 1, 2**63 - 1, 2**63, -(2**63), 2**64 + 1, 2**100]
outcomes = st.sampled_from([*INTEGERS, *FLOATS, *NONSENSE, *RAISED])
hostile = st.one_of(
    st.sampled_from(INTEGERS),
    st.sampled_from(FLOATS),
    st.sampled_from(NONSENSE),
    st.floats(),
    st.builds(Recipe, st.sampled_from([Indexed, Floating, Truth, Equal, Integer, Real]), outcomes),
)
descriptors = st.sampled_from([*NUMBERS, *NUMBERS, *NOWHERE])
files = st.one_of(
    st.sampled_from(NUMBERS),
    st.builds(Recipe, st.just(File), descriptors),
    st.builds(Recipe, st.just(Integer), outcomes),
    st.builds(Recipe, st.just(Reentrant), st.tuples(st.sampled_from([*REENTRANT]), descriptors)),
    st.sampled_from([*NOWHERE, *NONSENSE, *FLOATS]),
    st.builds(
        Recipe,
        st.sampled_from([File, Unspeakable, Shadowed]),
        st.sampled_from([*NOWHERE, *FLOATS, *RAISED, None, "1", b"1", True, Number.one]),
    ),
)
COMMON = [READ, WRITE, READ | WRITE, 0, PRIORITY, PEER_CLOSED | READ]
TRIGGERS = [READ | EDGE, READ | WRITE | ONESHOT, READ | EXCLUSIVE, READ | EXCLUSIVE | ONESHOT, EDGE | ONESHOT]
events = st.one_of(st.sampled_from(COMMON), st.sampled_from([*COMMON, *TRIGGERS]), hostile)
times = st.one_of(st.just(0), st.sampled_from(NONSENSE), hostile)
limits = st.one_of(st.just(-1), hostile)


class Call(NamedTuple):
    """A method name and its arguments, or recipes for them."""

    name: str
    arguments: tuple[Any, ...]


def calls(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    return st.builds(Call, st.just(name), st.tuples(*arguments))


any_call = st.one_of(
    calls("register", files),
    calls("register", files, events),
    calls("register", st.sampled_from(NUMBERS), events, hostile),
    calls("modify", files, events),
    calls("modify", files, events, hostile),
    calls("unregister", files),
    calls("get_key", files),
    calls("__contains__", files),
    calls("get_map"),
    calls("poll", times),
    calls("poll", times),
    calls("poll", times, limits),
    calls("select", times),
    calls("select", times),
    calls("wait", times),
    calls("wait", times),
    calls("wakeup"),
    calls("fileno"),
    calls("__enter__"),
    calls("__len__"),
    calls("close file", st.integers(0, FILES - 1)),
    st.integers(0, 9).map(lambda seldom: Call("close" if seldom == 9 else "__len__", ())),
)


WAITS = ("poll", "select", "wait")


def dead(poller: Any) -> bool:
    """Whether a registered file was closed."""
    for key in poller.get_map().values():
        try:
            os.fstat(key.fd)
        except OSError:
            return True
    return False


def perform(poller: Any, call: Call) -> Any:
    """Make a call, and return the part of its result that is equal on both pollers."""
    name, arguments = call.name, [made(argument, poller) for argument in call.arguments]
    if name in WAITS and not poller.closed:
        poller.wakeup()  # so that no timeout blocks
    try:
        found = getattr(poller, name)(*arguments)
    except (Exception, Stop) as error:
        return type(error), getattr(error, "errno", None)
    if name in ("register", "modify", "unregister", "get_key"):
        return found.fd, found.events
    if name == "poll":
        return sorted(found)
    if name == "select":
        return sorted((key.fd, mask) for key, mask in found)
    if name == "wait":
        return sorted(zip(poller.fds[:found], poller.events[:found]))
    if name == "get_map":
        return sorted(found)
    if name in ("fileno", "__enter__"):
        return None  # differs between pollers
    return found


def registered(poller: Any) -> list[Any]:
    return [] if poller.closed else [(key.fd, key.events) for key in poller.get_map().values()]


class World:
    """Files under fixed numbers: readable, writable, hung up, half closed, regular, and an eventfd."""

    def __init__(self) -> None:
        readable, writer = socket.socketpair()
        hung_up, gone = socket.socketpair()
        half, closer = socket.socketpair()
        writer.send(b"x")
        gone.close()
        closer.shutdown(socket.SHUT_WR)
        self.others = [writer, closer]
        sources = [readable, hung_up, half, os.memfd_create("file"), os.eventfd(0), os.eventfd(1)]
        for slot, source in enumerate(sources):
            fd = source if isinstance(source, int) else source.detach()
            os.dup2(fd, FIRST + slot, inheritable=False)
            os.close(fd)
        self.open = set(NUMBERS)

    def close_file(self, slot: int) -> None:
        """Close a file without unregistering it."""
        if FIRST + slot in self.open:
            self.open.remove(FIRST + slot)
            os.close(FIRST + slot)

    def close(self) -> None:
        for slot in range(FILES):
            self.close_file(slot)
        for other in self.others:
            other.close()


@pytest.mark.parametrize("mechanism", Poller.mechanisms)
@given(sequence=st.lists(any_call, min_size=1, max_size=15))
@settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
def test_both_implementations_answer_hostile_calls_alike(mechanism, sequence):
    world = World()
    pair = StdlibPoller(mechanism), Poller(mechanism)
    try:
        compare(world, pair, sequence)
        for poller in pair:
            if not poller.closed:  # it still works
                fd = os.eventfd(1)
                poller.register(fd, READ)
                assert poller.closed or fd in poller
                poller.unregister(fd)
                os.close(fd)
    finally:
        for poller in pair:
            poller.close()
        world.close()


def compare(world: World, pair: tuple[Any, Any], sequence: list[Call]) -> None:
    limited = False  # after maxevents the reports depend on the order, and with triggers those of later waits do, too
    for call in sequence:
        if call.name == "close file":
            world.close_file(call.arguments[0])
            continue
        expected, actual = (perform(poller, call) for poller in pair)
        if call.name in WAITS and pair[0].closed:
            # The order of two errors does not matter.
            assert isinstance(expected, tuple)
            assert isinstance(actual, tuple)
        elif call.name in WAITS and pair[0].mechanism == "select" and dead(pair[0]):
            # The pending wake-up and the error may come in either order.
            assert expected == actual or (OSError, errno.EBADF) in (expected, actual)
        elif call.name in WAITS and isinstance(expected, list) and isinstance(actual, list):
            limited = limited or (len(call.arguments) > 1 and call.arguments[1] != -1)
            assert limited or expected == actual, call
            assert {fd for fd, _ in actual} <= {fd for fd, _ in registered(pair[1])}
        else:
            assert expected == actual, call
        assert registered(pair[0]) == registered(pair[1])
        assert pair[0].closed == pair[1].closed


# Arguments in place of a mechanism, a capacity and a fork policy.
@given(mechanism=st.one_of(st.sampled_from([*Poller.mechanisms, None]), hostile), capacity=hostile, fork=hostile)
@settings(deadline=None, print_blob=True)
def test_both_constructors_refuse_alike(mechanism, capacity, fork):
    def construct(cls: Any, **options: Any) -> Any:
        try:
            poller = cls(made(mechanism, None), **{name: made(value, None) for name, value in options.items()})
        except (Exception, Stop) as error:
            return type(error)
        poller.close()
        return mechanism is None or poller.mechanism, poller.capacity

    for options in ({}, {"capacity": capacity}, {"fork": fork}, {"capacity": 1, "fork": fork}):
        assert construct(StdlibPoller, **options) == construct(Poller, **options), options
