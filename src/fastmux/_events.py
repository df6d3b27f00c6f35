"""The names of events, and the check of an event mask."""

from __future__ import annotations

import operator
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

READ: Final = 0x0001
PRIORITY: Final = 0x0002
WRITE: Final = 0x0004
ERROR: Final = 0x0008
HANGUP: Final = 0x0010
PEER_CLOSED: Final = 0x2000
EXCLUSIVE: Final = 1 << 28
ONESHOT: Final = 1 << 30
EDGE: Final = 1 << 31
#: Urgent data in the events of a selector, where 2 is EVENT_WRITE.
EVENT_PRIORITY: Final = 1 << 16

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
_PORTABLE: Final = READ | PRIORITY | WRITE | ERROR | HANGUP
#: Outside Linux poll(2) does not report a half-closed peer, or has another bit for it.
_POLL: Final = _PORTABLE | (PEER_CLOSED if sys.platform in ("linux", "android") else 0)
#: The events of each mechanism.
SUPPORTED: Final = {"epoll": _ALL, "poll": _POLL, "select": _PORTABLE}
_WHY_NOT: Final = {
    "poll": "poll keeps no state between calls, so it has nothing to trigger on or to disarm"
    + ("" if _POLL & PEER_CLOSED else "; PEER_CLOSED needs Linux"),
    "select": "select knows readable, writable and exceptional, and keeps no state between calls",
}
_COMMON: Final = frozenset((0, READ, WRITE, READ | WRITE))


def event_names(events: int) -> str:
    """Spell an event mask for a message: ``READ|EDGE``; bits without a name in hexadecimal."""
    names = [name for name, bit in _NAMES.items() if events & bit]
    if rest := events & ~_ALL:
        names.append(hex(rest))
    return "|".join(names) or "0"


def check_events(mechanism: str, events: int) -> int:
    """Return events as an int if the mechanism supports them, else raise TypeError or ValueError."""
    if events.__class__ is int and events in _COMMON:
        return events
    try:
        events = operator.index(events)
    except TypeError:
        raise TypeError(f"events must be an int, not {type(events).__name__}") from None
    if events & ~_ALL:
        raise ValueError(f"invalid events: {event_names(events)} (known are {', '.join(_NAMES)})")
    if unsupported := events & ~SUPPORTED[mechanism]:
        raise ValueError(f"{event_names(unsupported)} is not possible with {mechanism}: {_WHY_NOT[mechanism]}")
    if events & EXCLUSIVE and (refused := events & (ONESHOT | PRIORITY | PEER_CLOSED)):
        raise ValueError(f"EXCLUSIVE cannot be combined with {event_names(refused)}: the kernel refuses it")
    return events
