"""Fast I/O multiplexing: wait on many file descriptors at once, by epoll, poll or select."""

import typing as _typing

from . import select, selectors
from ._checks import EDGE, ERROR, EXCLUSIVE, HANGUP, ONESHOT, PEER_CLOSED, PRIORITY, READ, WRITE
from ._core import implementation
from ._inspection import Difference, Stats
from ._patch import patch, unpatch
from ._poller import Poller
from ._stdlib import StdlibPoller
from ._version import __version__

if _typing.TYPE_CHECKING:
    from ._loop import EventLoop, new_event_loop, run

__all__ = [
    "EDGE",
    "ERROR",
    "EXCLUSIVE",
    "HANGUP",
    "ONESHOT",
    "PEER_CLOSED",
    "PRIORITY",
    "READ",
    "WRITE",
    "Difference",
    "EventLoop",
    "Poller",
    "Stats",
    "StdlibPoller",
    "__version__",
    "implementation",
    "new_event_loop",
    "patch",
    "run",
    "select",
    "selectors",
    "unpatch",
]


if not _typing.TYPE_CHECKING:  # who would take it that every name is there

    def __getattr__(name: str) -> object:
        """The event loop comes when it is asked for: importing asyncio takes several times as long as all else here."""
        if name in ("EventLoop", "new_event_loop", "run"):
            from . import _loop

            value: object = getattr(_loop, name)
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
