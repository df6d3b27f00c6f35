"""Standard objects and their mirrors under the same random calls.

Each machine has a few connections with random events (data, half-closes, closes, duplicates, reused numbers), watched
by a standard object and by its mirror. Each call is made on both, with valid or invalid arguments. Both must return the
same value, or raise the same exception with the same message.

    python -m pytest tests/drop_in/test_state_machines.py --hypothesis-profile=thorough  # 1,000 examples each
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import selectors
import socket
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

import fastmux

SLOTS = 4
#: The descriptors of the connections: high enough to be free.
FIRST = 200
# select(2) ignores numbers far above all earlier files of the process; the standard function reports them as ready.
os.close(fcntl.fcntl(0, fcntl.F_DUPFD, FIRST + SLOTS))


class WithoutDescriptor:
    """Has a fileno() that returns no descriptor."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def fileno(self) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def __repr__(self) -> str:
        return f"WithoutDescriptor({self._answer!r})"


BAD_FILES = [
    *(None, "text", 1.5, True, -1, -2, 2**31, 2**70, -(2**70), [], object),
    *map(WithoutDescriptor, (None, "text", True, -1, 1.5, 2**70, ValueError("closed"), OSError(9, "gone"))),
]
BAD_NUMBERS = [None, "text", 1.0, -1, 2**31, 2**32 + 1, 2**64 + 1, -(2**31), True, Fraction(1), Decimal(1), 1j]


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return the result or the exception of a call, in a form that can be compared."""
    try:
        return "returned", function(*args, **kwargs)
    except Exception as error:
        return type(error), str(error), getattr(error, "errno", None)


class World(RuleBasedStateMachine):
    """Connections and their random events. Subclasses watch them with two objects."""

    #: The standard object and its mirror.
    pair: tuple[Any, Any]

    def __init__(self) -> None:
        super().__init__()
        #: slot -> (our end, the other end); a closed slot keeps its object, as a program might.
        self.ours: list[socket.socket | None] = [None] * SLOTS
        self.theirs: list[socket.socket | None] = [None] * SLOTS
        self.copies: list[int] = []

    def teardown(self) -> None:
        for each in self.pair:
            if hasattr(each, "close"):
                each.close()
        for end in (*self.ours, *self.theirs):
            if end is not None:
                end.close()
        for fd in self.copies:
            os.close(fd)

    def both(self, function: Callable[[Any], Any]) -> Any:
        """Call a function with the standard object and with its mirror; return the equal outcome."""
        expected, actual = (outcome(function, each) for each in self.pair)
        assert expected == actual
        return expected

    # Events of connections

    @rule(slot=st.integers(0, SLOTS - 1))
    def connect(self, slot: int) -> None:
        """Open a connection, with the same number after a close."""
        if self.ours[slot] is None or self.ours[slot].fileno() < 0:  # type: ignore[union-attr]
            if self.theirs[slot] is not None:
                self.theirs[slot].close()  # type: ignore[union-attr]
            made, self.theirs[slot] = socket.socketpair()
            os.dup2(made.fileno(), FIRST + slot, inheritable=False)
            made.close()
            self.ours[slot] = socket.socket(fileno=FIRST + slot)
            self.ours[slot].setblocking(False)  # type: ignore[union-attr]
            self.theirs[slot].setblocking(False)  # type: ignore[union-attr]

    @rule(slot=st.integers(0, SLOTS - 1), action=st.sampled_from(["write", "drain", "fill", "half-close", "hang up"]))
    def happen(self, slot: int, action: str) -> None:
        ours, theirs = self.ours[slot], self.theirs[slot]
        if ours is None or theirs is None:
            return
        with contextlib.suppress(OSError):
            if action == "write":
                theirs.send(b"x")
            elif action == "drain":
                ours.recv(1 << 20)
            elif action == "fill":
                while True:
                    ours.send(bytes(1 << 16))
            elif action == "half-close":
                theirs.shutdown(socket.SHUT_WR)
            else:
                theirs.close()

    @rule(slot=st.integers(0, SLOTS - 1))
    def close_behind_its_back(self, slot: int) -> None:
        if self.ours[slot] is not None:
            self.ours[slot].close()  # type: ignore[union-attr]

    @rule(slot=st.integers(0, SLOTS - 1))
    def copy(self, slot: int) -> None:
        """Duplicate the descriptor, so that the file stays open after a close."""
        ours = self.ours[slot]
        if ours is not None and ours.fileno() >= 0 and len(self.copies) < 3:
            self.copies.append(os.dup(ours.fileno()))

    @precondition(lambda self: self.copies)
    @rule()
    def close_copy(self) -> None:
        os.close(self.copies.pop())

    # Arguments

    def file(self, choice: Any) -> Any:
        """Return the current file or number of a choice of the strategy below."""
        if not isinstance(choice, tuple):
            return choice
        kind, slot = choice
        return FIRST + slot if kind == "number" else self.ours[slot]


files = st.one_of(
    st.tuples(st.sampled_from(["number", "socket"]), st.integers(0, SLOTS - 1)),
    st.tuples(st.sampled_from(["number", "socket"]), st.integers(0, SLOTS - 1)),
    st.sampled_from(BAD_FILES),
)
masks = st.one_of(
    st.sampled_from([0, 1, 4, 5, 7, 0x10, 0x2000, 0x2001, 0x40 | 1]),
    st.sampled_from(BAD_NUMBERS),
)
#: Timeouts that do not wait, or raise an error.
seconds = st.sampled_from(
    [
        *(0, 0.0, -0.0, False, 1e-9, 0.0005, 0.001, -0.0005, -1e-9, 1e300, -1e300, 1e10, 10**20, -(10**20)),
        *(float("nan"), float("inf"), -float("inf"), "text", 1j, Fraction(1, 1000), Decimal("0.001"), [], b"1"),
    ]
)
#: Timeouts for calls with something ready only.
endless = st.sampled_from([None, -1, -2.5, 1, 30.0, True])
maxevents = st.sampled_from([-1, 1, 2, 3, 1023, 1024, 5000, 0, -2, None, 1.5, "text", 2**31, 2**70, True, 178956971])


class EpollMachine(World):
    """select.epoll"""

    def __init__(self) -> None:
        super().__init__()
        self.pair = select.epoll(), fastmux.select.epoll()
        self.triggered = False

    @rule(file=files, mask=masks, extra=st.sampled_from([0, 0, 0, select.EPOLLET, select.EPOLLONESHOT]))
    def register(self, file: Any, mask: Any, extra: int) -> None:
        mask = mask | extra if isinstance(mask, int) else mask
        self.triggered = self.triggered or extra != 0
        self.both(lambda epoll: epoll.register(self.file(file), mask))

    @rule(file=files)
    def register_for_the_usual(self, file: Any) -> None:
        self.both(lambda epoll: epoll.register(self.file(file)))

    @rule(file=files, mask=masks)
    def modify(self, file: Any, mask: Any) -> None:
        self.both(lambda epoll: epoll.modify(self.file(file), eventmask=mask))

    @rule(file=files)
    def unregister(self, file: Any) -> None:
        self.both(lambda epoll: epoll.unregister(fd=self.file(file)))

    @rule(timeout=seconds)
    def poll(self, timeout: Any) -> None:
        self.both(lambda epoll: epoll.poll(timeout))

    @rule(timeout=seconds, maxevents=maxevents)
    def poll_some(self, timeout: Any, maxevents: Any) -> None:
        self.both(lambda epoll: epoll.poll(timeout, maxevents))

    @precondition(lambda self: not self.triggered)
    @rule(timeout=endless, maxevents=maxevents)
    def poll_what_is_ready(self, timeout: Any, maxevents: Any) -> None:
        if self.both(lambda epoll: epoll.poll(0))[1]:
            self.both(lambda epoll: epoll.poll(timeout=timeout))
            self.both(lambda epoll: epoll.poll(timeout, maxevents=maxevents))

    @rule()
    def enter(self) -> None:
        self.both(lambda epoll: epoll.closed)
        self.both(lambda epoll: epoll.__enter__() is epoll)

    @rule(seldom=st.integers(0, 9))
    def close(self, seldom: int) -> None:
        if seldom == 9:
            self.both(lambda epoll: epoll.close())
            self.triggered = True  # all later calls fail


class PollMachine(World):
    """select.poll"""

    def __init__(self) -> None:
        super().__init__()
        self.pair = select.poll(), fastmux.select.poll()

    @rule(file=files, mask=masks)
    def register(self, file: Any, mask: Any) -> None:
        self.both(lambda poll: poll.register(self.file(file), mask))

    @rule(file=files)
    def register_for_the_usual(self, file: Any) -> None:
        self.both(lambda poll: poll.register(self.file(file)))

    @rule(file=files, mask=masks)
    def modify(self, file: Any, mask: Any) -> None:
        self.both(lambda poll: poll.modify(self.file(file), mask))

    @rule(file=files)
    def unregister(self, file: Any) -> None:
        self.both(lambda poll: poll.unregister(self.file(file)))

    @rule(timeout=seconds)
    def poll(self, timeout: Any) -> None:
        if isinstance(timeout, int | float) and (timeout < 0 or 2**31 <= timeout < 2**40):  # infinite, or an error
            self.poll_what_is_ready(timeout)
        else:
            self.both(lambda poll: poll.poll(timeout))

    @rule(timeout=endless)
    def poll_what_is_ready(self, timeout: Any) -> None:
        if self.both(lambda poll: poll.poll(0))[1]:
            self.both(lambda poll: poll.poll(timeout))
            if timeout is None:
                self.both(lambda poll: poll.poll())


class SelectMachine(World):
    """select.select"""

    def __init__(self) -> None:
        super().__init__()
        self.pair = select.select, fastmux.select.select

    few = st.lists(files, max_size=5)
    collections = st.sampled_from([list, tuple, iter, lambda files: (file for file in files), dict.fromkeys])

    def made(self, lists: tuple[list[Any], ...], collection: Callable[[list[Any]], Any]) -> list[Any]:
        """Return new arguments for each call: iterators can be read once."""
        found = [[self.file(choice) for choice in files] for files in lists]
        try:
            return [collection(files) for files in found]
        except TypeError:  # not hashable
            return found

    @rule(lists=st.tuples(few, few, few), collection=collections, timeout=seconds)
    def select(self, lists: Any, collection: Any, timeout: Any) -> None:
        self.both(lambda select: select(*self.made(lists, collection), timeout))

    @rule(lists=st.tuples(few, few, few), timeout=st.sampled_from([None, 30.0, 1, True]))
    def select_what_is_ready(self, lists: Any, timeout: Any) -> None:
        now = self.both(lambda select: select(*self.made(lists, list), 0))
        if now[0] != "returned" or any(now[1]):
            self.both(lambda select: select(*self.made(lists, list), timeout))

    @rule(lists=st.tuples(*[st.sampled_from([None, 5, "text", b"", {}, [], range(0)])] * 3))
    def select_nonsense(self, lists: Any) -> None:
        self.both(lambda select: select(*lists, 0))


class SelectorMachine(World):
    """A selector."""

    name = ""

    def __init__(self) -> None:
        super().__init__()
        self.pair = getattr(selectors, self.name)(), getattr(fastmux.selectors, self.name)()
        self.maps = [each.get_map() for each in self.pair]
        self.closed = False

    events = st.one_of(st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 3, 0, 4, 8, 12, *BAD_NUMBERS]))
    data = st.sampled_from([None, None, "data", 1, True, [], float("nan")])
    #: Whether results have the order of the kernel; those of select() come from sets.
    ordered = True

    def both(self, function: Callable[[Any], Any]) -> Any:
        found = super().both(function)
        for keys, each in zip(self.maps, self.pair):
            assert (each.get_map() is None) == self.closed or each.get_map() is keys
        expected, actual = ([*keys.items()] for keys in self.maps)
        assert [tuple(key) for _, key in expected] == [tuple(key) for _, key in actual] or "nan" in repr(expected)
        return found

    @rule(file=files, events=events, data=data)
    def register(self, file: Any, events: Any, data: Any) -> None:
        self.both(lambda selector: selector.register(self.file(file), events, data))

    @rule(file=files, events=events, data=data)
    def modify(self, file: Any, events: Any, data: Any) -> None:
        self.both(lambda selector: selector.modify(self.file(file), events, data))

    @rule(file=files)
    def unregister(self, file: Any) -> None:
        self.both(lambda selector: selector.unregister(self.file(file)))

    @rule(file=files)
    def look_up(self, file: Any) -> None:
        self.both(lambda selector: selector.get_key(self.file(file)))
        for lookup in (
            lambda keys: keys[self.file(file)],
            lambda keys: self.file(file) in keys,
            lambda keys: keys.get(self.file(file), "nothing"),
            lambda keys: (len(keys), list(keys)),
        ):
            expected, actual = (outcome(lookup, keys) for keys in self.maps)
            assert expected == actual

    def compare(self, timeout: Any) -> Any:
        def select(selector: Any) -> Any:
            found = selector.select(timeout)
            assert type(found) is list
            return found if self.ordered else sorted(found, key=lambda pair: pair[0].fd)

        return self.both(select)

    @rule(timeout=seconds)
    def select(self, timeout: Any) -> None:
        self.compare(timeout)

    @rule(timeout=st.sampled_from([None, 30, 30.0, True]))
    def select_what_is_ready(self, timeout: Any) -> None:
        found = self.compare(0)
        if found[0] != "returned" or found[1]:
            self.compare(timeout)

    @rule(seldom=st.integers(0, 9))
    def close(self, seldom: int) -> None:
        if seldom == 9:
            self.closed = True
            self.both(lambda selector: selector.close())


class EpollSelectorMachine(SelectorMachine):
    name = "EpollSelector"


class PollSelectorMachine(SelectorMachine):
    name = "PollSelector"


class SelectSelectorMachine(SelectorMachine):
    name = "SelectSelector"
    ordered = False


@pytest.mark.parametrize(
    "machine",
    [EpollMachine, PollMachine, SelectMachine, EpollSelectorMachine, PollSelectorMachine, SelectSelectorMachine],
)
def test_the_mirror_does_what_the_standard_object_does(machine):
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        machine,
        settings=settings(
            deadline=None, stateful_step_count=30, suppress_health_check=list(HealthCheck), print_blob=True
        ),
    )
