"""Unusual arguments: the selectors do what the standard ones do."""

from __future__ import annotations

import selectors

import pytest

import fastmux
from fastmux.selectors import EVENT_READ

NAMES = ["SelectSelector", "PollSelector", "EpollSelector"]


def outcomes(name, calls):
    """Return the results of calls, or their exceptions: of the standard selector, and of fastmux's."""

    def outcome(call, selector):
        try:
            return repr(call(selector))
        except Exception as error:
            return type(error), str(error)

    for module in (selectors, fastmux.selectors):
        with getattr(module, name)() as selector:
            yield [outcome(call, selector) for call in calls]


class BadFile:
    def __init__(self, error):
        self.error = error

    def fileno(self):
        raise self.error

    def __repr__(self):
        return "BadFile"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "error", [KeyError, ValueError, TypeError, AttributeError, OverflowError, OSError, LookupError]
)
def test_any_exception_of_a_fileno_method(name, error):
    file = BadFile(error("bad"))
    calls = [
        lambda selector: selector.register(file, EVENT_READ),
        lambda selector: selector.modify(file, EVENT_READ),
        lambda selector: selector.unregister(file),
        lambda selector: selector.get_key(file),
    ]

    expected, actual = outcomes(name, calls)

    assert expected == actual


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("events", [1 << 70, 1 << 70 | EVENT_READ, 1 << 64 | 3, -1, -(1 << 80)])
def test_events_of_any_size(name, events, socketpair):
    ours, theirs = socketpair
    theirs.close()
    calls = [
        lambda selector: selector.register(ours, EVENT_READ),
        lambda selector: selector.modify(ours, events),
        lambda selector: selector.select(0),
        lambda selector: selector.select(0),
        lambda selector: selector.unregister(ours),
    ]

    expected, actual = outcomes(name, calls)

    assert expected == actual
