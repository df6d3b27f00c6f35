"""Invalid arguments: an exception with a reason, and an unchanged poller."""

from __future__ import annotations

import errno
import os
from decimal import Decimal
from fractions import Fraction

import pytest

from fastmux import READ, WRITE

NAN, INFINITY = float("nan"), float("inf")


class Fileno:
    """An object whose fileno() returns or raises the given result."""

    def __init__(self, result):
        self.result = result

    def fileno(self):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def __repr__(self):
        return f"Fileno({self.result!r})"


@pytest.fixture
def working(poller, socketpair):
    """A poller with one registration, which must still work at the end."""
    ours, theirs = socketpair
    theirs.send(b"x")
    key = poller.register(ours, READ, "data")
    yield poller
    assert dict(poller.get_map()) == {ours.fileno(): key}
    assert poller.select(0) == [(key, READ)]
    assert poller.poll(0) == [(ours.fileno(), READ)]


METHODS = {
    "register": lambda poller, fileobj: poller.register(fileobj),
    "modify": lambda poller, fileobj: poller.modify(fileobj, READ),
    "unregister": lambda poller, fileobj: poller.unregister(fileobj),
    "get_key": lambda poller, fileobj: poller.get_key(fileobj),
    "get_map": lambda poller, fileobj: poller.get_map()[fileobj],
}


@pytest.fixture(params=METHODS)
def method(request):
    """One of the methods that take a file object."""
    return METHODS[request.param]


@pytest.mark.parametrize(
    "fileobj",
    ["0", b"0", None, 1.0, object(), [], int, Fileno(None), Fileno(AttributeError("x")), Fileno(ValueError("x"))],
    ids=["str", "bytes", "None", "float", "object", "list", "type", "no number", "AttributeError", "ValueError"],
)
def test_an_object_without_a_descriptor_is_refused(working, method, fileobj):
    with pytest.raises(ValueError, match="invalid file object"):
        method(working, fileobj)


@pytest.mark.parametrize("fileobj", [-1, -(2**40), Fileno(-1)], ids=repr)
def test_negative_descriptors_are_refused(working, method, fileobj):
    with pytest.raises(ValueError, match="invalid file descriptor: -"):
        method(working, fileobj)


@pytest.mark.parametrize("fd", [2**31, 2**40, 2**100], ids=["2**31", "2**40", "2**100"])
def test_descriptors_beyond_an_int_are_refused(working, fd):
    with pytest.raises(OverflowError):
        working.register(fd)
    assert fd not in working


@pytest.mark.parametrize("fd", [2**31 - 1, 10**8], ids=repr)
def test_descriptors_beyond_any_limit_are_not_open(working, fd):
    """select.select() refuses such a number as too high or as not open."""
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        working.register(fd)


@pytest.mark.parametrize("events", [1.0, "1", None, b"r", [1], Decimal(1)], ids=repr)
@pytest.mark.parametrize("name", ["register", "modify"])
def test_events_that_are_no_int_are_refused(working, socketpair, name, events):
    fileobj = socketpair[name == "register"]

    with pytest.raises(TypeError, match=f"events must be an int, not {type(events).__name__}"):
        getattr(working, name)(fileobj, events)


@pytest.mark.parametrize("events", [0x20, READ | 1 << 20, 1 << 32, 1 << 100, -1], ids=hex)
@pytest.mark.parametrize("name", ["register", "modify"])
def test_unknown_events_are_refused(working, socketpair, name, events):
    fileobj = socketpair[name == "register"]

    with pytest.raises(ValueError, match=r"invalid events: .*known are READ, "):
        getattr(working, name)(fileobj, events)


def test_the_refusal_of_events_spells_them(working, socketpair):
    with pytest.raises(ValueError, match=r"invalid events: READ\|WRITE\|0x20 "):
        working.register(socketpair[1], READ | WRITE | 0x20)


@pytest.mark.parametrize("name", ["poll", "select", "wait"])
class TestTimeouts:
    @pytest.mark.parametrize(
        "timeout",
        ["1", b"1", [], (), object, 1j, Decimal(1), Fraction(1)],
        ids=repr,
    )
    def test_a_timeout_that_is_no_number_of_seconds_is_refused(self, working, name, timeout):
        with pytest.raises(TypeError, match="timeout must be a number of seconds or None, not "):
            getattr(working, name)(timeout)

    def test_a_timeout_that_is_not_a_number_is_refused(self, working, name):
        with pytest.raises(ValueError, match="NaN"):
            getattr(working, name)(NAN)

    def test_an_infinite_timeout_is_refused(self, working, name):
        with pytest.raises(OverflowError, match="use None to wait for ever"):
            getattr(working, name)(INFINITY)

    @pytest.mark.parametrize("timeout", [1e300, 1e10, 10**10, 10**30], ids=repr)
    def test_a_timeout_beyond_the_clock_is_refused(self, working, name, timeout):
        with pytest.raises(OverflowError):
            getattr(working, name)(timeout)


@pytest.mark.parametrize("timeout", [0, 0.01, 1, None], ids=repr)
@pytest.mark.parametrize("maxevents", [0, -2, -(2**40)], ids=repr)
def test_maxevents_below_one_is_refused(working, timeout, maxevents):
    with pytest.raises(ValueError, match=f"maxevents must be greater than 0, got {maxevents}"):
        working.poll(timeout, maxevents)


@pytest.mark.parametrize("timeout", [0, 0.01, 1, None], ids=repr)
@pytest.mark.parametrize("maxevents", [1.0, "1", None, [], Decimal(1)], ids=repr)
def test_maxevents_that_is_no_int_is_refused(working, timeout, maxevents):
    with pytest.raises(TypeError):
        working.poll(timeout, maxevents)


@pytest.mark.parametrize("mechanism", ["", "EPOLL", "kqueue", b"epoll", 0, 1.5, ["epoll"], object], ids=repr)
def test_an_unknown_mechanism_is_refused(make_poller, mechanism):
    known = ", ".join(make_poller.cls.mechanisms)
    with pytest.raises(ValueError, match=f"mechanism must be one of {known}, or None; not "):
        make_poller.cls(mechanism)


@pytest.mark.parametrize("capacity", [0, -1, 2**31, 2**63, 2**100], ids=repr)
def test_an_impossible_capacity_is_refused(make_poller, capacity):
    with pytest.raises(ValueError, match="capacity must be between 1 and"):
        make_poller(capacity=capacity)


@pytest.mark.parametrize("capacity", [1.5, 1.0, "1", None, [1]], ids=repr)
def test_a_capacity_that_is_no_int_is_refused(make_poller, capacity):
    with pytest.raises(TypeError):
        make_poller(capacity=capacity)


def test_capacity_is_given_by_name_only(make_poller):
    with pytest.raises(TypeError):
        make_poller.cls(make_poller.mechanism, 16)


@pytest.mark.parametrize(
    "call",
    [
        lambda poller: poller.register(),
        lambda poller: poller.register(0, READ, None, None),
        lambda poller: poller.modify(0),
        lambda poller: poller.unregister(),
        lambda poller: poller.get_key(),
        lambda poller: poller.poll(0, -1, 0),
        lambda poller: poller.select(0, 1),
        lambda poller: poller.wait(0, 1),
        lambda poller: poller.wakeup(0),
        lambda poller: poller.fileno(0),
        lambda poller: poller.close(0),
        lambda poller: poller.poll(seconds=0),
    ],
    ids=[
        *("register()", "register(4)", "modify(1)", "unregister()", "get_key()", "poll(3)", "select(2)", "wait(2)"),
        *("wakeup(1)", "fileno(1)", "close(1)", "unknown name"),
    ],
)
def test_wrong_numbers_of_arguments_are_refused(working, call):
    with pytest.raises(TypeError):
        call(working)


def test_refused_descriptors_leave_no_trace_in_later_registrations(make_poller, make_eventfd):
    """After any number of refusals, a later registration is reported."""
    fd = make_eventfd(1)
    for refusals in range(2 * fd):
        poller = make_poller()
        for _ in range(refusals):
            with pytest.raises(OSError, match="Bad file descriptor"):
                poller.register(fd + 100, READ)
        poller.register(fd, READ)

        assert poller.poll(0) == [(fd, READ)]
        poller.close()
