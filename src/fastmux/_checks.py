"""The names of events, and the checks of what a user passes to a poller."""

from __future__ import annotations

import errno
import io
import math
import operator
from collections.abc import Callable
from selectors import SelectorKey
from typing import Any, Final, NoReturn

READ: Final = 0x0001
PRIORITY: Final = 0x0002
WRITE: Final = 0x0004
ERROR: Final = 0x0008
HANGUP: Final = 0x0010
PEER_CLOSED: Final = 0x2000
EXCLUSIVE: Final = 1 << 28
ONESHOT: Final = 1 << 30
EDGE: Final = 1 << 31

_NAMES: Final = {
    "READ": READ,
    "PRIORITY": PRIORITY,
    "WRITE": WRITE,
    "ERROR": ERROR,
    "HANGUP": HANGUP,
    "PEER_CLOSED": PEER_CLOSED,
    "EXCLUSIVE": EXCLUSIVE,
    "ONESHOT": ONESHOT,
    "EDGE": EDGE,
}
_ALL: Final = sum(_NAMES.values())
_ALWAYS: Final = READ | PRIORITY | WRITE | ERROR | HANGUP
_POSSIBLE: Final = {"epoll": _ALL, "poll": _ALWAYS | PEER_CLOSED, "select": _ALWAYS}
_WHY_NOT: Final = {
    "poll": "poll keeps no state between calls, so it has nothing to trigger on or to disarm",
    "select": "select knows readable, writable and exceptional, and keeps no state between calls",
}

MAX_CAPACITY: Final = 1 << 24
INT_MAX: Final = (1 << 31) - 1
_INT64_MAX: Final = (1 << 63) - 1
_COMMON: Final = frozenset((0, READ, WRITE, READ | WRITE))

#: new_tuple(SelectorKey, (fileobj, fd, events, data)) makes a key without a Python call in between.
new_tuple: Final[Callable[[type[SelectorKey], tuple[Any, int, int, Any]], SelectorKey]] = tuple.__new__

FileObject = Any  # an int, or an object with a fileno() method


def event_names(events: int) -> str:
    """Spell an event mask for a message: ``READ|EDGE``; bits without a name in hexadecimal."""
    names = [name for name, bit in _NAMES.items() if events & bit]
    if rest := events & ~_ALL:
        names.append(hex(rest))
    return "|".join(names) or "0"


def check_events(mechanism: str, events: int) -> int:
    """Return events as an int if this mechanism can watch for them, else raise."""
    if events.__class__ is int and events in _COMMON:
        return events
    try:
        events = operator.index(events)
    except TypeError:
        raise TypeError(f"events must be an int, not {type(events).__name__}") from None
    if events & ~_ALL:
        raise ValueError(f"invalid events: {event_names(events)} (known are {', '.join(_NAMES)})")
    if impossible := events & ~_POSSIBLE[mechanism]:
        raise ValueError(f"{event_names(impossible)} is not possible with {mechanism}: {_WHY_NOT[mechanism]}")
    if events & EXCLUSIVE and (refused := events & (ONESHOT | PRIORITY | PEER_CLOSED)):
        raise ValueError(f"EXCLUSIVE cannot be combined with {event_names(refused)}: the kernel refuses it")
    return events


def nanoseconds(timeout: float | None) -> int:
    """Convert a timeout in seconds to nanoseconds, rounded up; -1 stands for None, and <= 0 becomes 0."""
    if timeout is None:
        return -1
    if timeout == 0:
        return 0
    if isinstance(timeout, float):
        if math.isnan(timeout):
            raise ValueError("timeout is NaN (not a number)")
        if timeout <= 0:
            return 0
        if math.isinf(timeout):
            raise OverflowError("timeout is infinite; use None to wait for ever")
        ns = math.ceil(timeout * 1e9)
    else:
        try:
            ns = operator.index(timeout) * 1_000_000_000
        except TypeError:
            raise TypeError(f"timeout must be a number of seconds or None, not {type(timeout).__name__}") from None
    if ns > _INT64_MAX:
        raise OverflowError("timeout is too large; use None to wait for ever")
    return max(ns, 0)


def check_maxevents(maxevents: int) -> int:
    """Return maxevents as an int if it is positive or -1, else raise as ``select.epoll.poll`` does."""
    if maxevents == -1:
        return -1
    maxevents = operator.index(maxevents)
    if maxevents < 1:
        raise ValueError(f"maxevents must be greater than 0, got {maxevents}")
    return maxevents


def descriptor(fileobj: FileObject) -> int:
    """Return the file descriptor of fileobj, an int or an object with a ``fileno()`` method."""
    if fileobj.__class__ is int:
        fd = fileobj
    elif isinstance(fileobj, int):
        fd = int.__int__(fileobj)  # a bool, or a subclass with methods of its own
    else:
        try:
            fd = int(fileobj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"invalid file object: {fileobj!r}") from None
    if fd < 0:
        raise ValueError(f"invalid file descriptor: {fd}")
    return fd


def closed() -> NoReturn:
    """Raise what every call on a closed poller raises."""
    raise ValueError("I/O operation on closed poller")


def no_fileno(mechanism: str) -> OSError:
    """Return what fileno() of a poller without an epoll set raises."""
    return io.UnsupportedOperation(f"{mechanism} has no descriptor of its own, only epoll has")


def refuse_file(error: OSError) -> OSError:
    """Say in an EPERM of epoll what it means."""
    if error.errno != errno.EPERM:
        return error
    return PermissionError(
        errno.EPERM, "epoll cannot watch this file: regular files and directories are always ready, so just use them"
    )
