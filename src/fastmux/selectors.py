"""A drop-in replacement for the standard ``selectors`` module, on the core.

The selectors here are subclasses of the standard ones. They replace what is called often, and leave everything else
(the map, the errors, what happens to odd arguments) to the code that programs know. Beyond it they can be woken up
from other threads, wait in nanoseconds, heal if asked to, and watch for more: register() and modify() also take
EVENT_PRIORITY and ``fastmux.PEER_CLOSED``, and on epoll ``fastmux.EDGE``, ``ONESHOT`` and ``EXCLUSIVE``.

Urgent data is EVENT_PRIORITY here, not ``fastmux.PRIORITY``: that is 2, and 2 is EVENT_WRITE.
"""

from __future__ import annotations

import selectors as _standard_selectors
import sys
from selectors import EVENT_READ as EVENT_READ
from selectors import EVENT_WRITE as EVENT_WRITE
from selectors import BaseSelector as BaseSelector
from selectors import SelectorKey as SelectorKey
from typing import TYPE_CHECKING, Any, Final

from . import _core, _standard
from . import select as _select
from ._arguments import LONGEST, interval
from ._extended import EVENT_PRIORITY as EVENT_PRIORITY
from ._extended import Extended
from ._wakeups import Wakeable

if not TYPE_CHECKING:  # type checkers would take the standard selectors for those that are defined here
    from selectors import *  # noqa: F403
elif sys.platform == "darwin":
    from selectors import KqueueSelector as KqueueSelector

if TYPE_CHECKING or _core.implementation == "c":
    from ._fast_poll import FastPoll as _Poll
else:
    from ._extended import PlainPoll as _Poll

if TYPE_CHECKING or (_core.implementation == "c" and "epoll" in _core.MECHANISMS):
    from ._fast_epoll import EpollSet
    from ._fast_epoll import FastEpoll as _Epoll
else:
    from ._extended import PlainEpoll as _Epoll

    EpollSet = getattr(_standard.select, "epoll", None)

#: The standard objects that have a mirror here.
STANDARD: Final = {
    name: getattr(_standard.selectors, name)
    for name in ("DefaultSelector", "SelectSelector", "PollSelector", "EpollSelector")
    if hasattr(_standard.selectors, name)
}


class SelectSelector(Wakeable, Extended, _standard_selectors.SelectSelector):
    """The standard SelectSelector, on ``fastmux.select.select``: without its limit of 1024."""

    _more = EVENT_PRIORITY

    _readers: set[int]
    _writers: set[int]

    def __init__(self, *, heal: bool = False, fork: str = "share") -> None:
        super().__init__(heal=heal, fork=fork)
        self._urgent: set[int] = set()

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait for timeout seconds (None: for ever), and return ``(key, events)`` for everything that is ready."""
        timeout = None if timeout is None else max(timeout, 0)
        reported: Any = None
        if timeout == 0 or (
            len(self._fd_to_key) <= _core.ASK_TWICE
            and (timeout is None or ((timeout.__class__ is float or timeout.__class__ is int) and timeout < LONGEST))
        ):
            reported = _select.select(self._readers, self._writers, self._urgent, 0)
            if timeout == 0 or any(reported):
                self._woken = False
            else:
                reported = None
        if reported is None:
            reported = self._wait(-1 if timeout is None else interval(timeout), self._ask)
            if reported is None:
                return []
        reading, writing, urgent = frozenset(reported[0]), frozenset(reported[1]), reported[2]
        keys = self._fd_to_key
        result = []
        for fd in reading.union(writing, urgent) if urgent else reading | writing:
            if key := keys.get(fd):
                events = (fd in reading and EVENT_READ) | (fd in writing and EVENT_WRITE)
                if urgent and fd in urgent:
                    events |= EVENT_PRIORITY
                result.append((key, events & key.events))
        return result

    def _ask(self, ns: int, wake_fd: int) -> tuple[list[int], list[int], list[int]] | None:
        readers = {*self._readers, wake_fd} if wake_fd >= 0 else self._readers
        reported = _select.select(readers, self._writers, self._urgent, None if ns < 0 else ns / 1e9)
        return reported if any(reported) else None

    def unregister(self, fileobj: Any) -> SelectorKey:
        """Stop watching fileobj, and return its key. It may have been closed meanwhile."""
        key = super().unregister(fileobj)
        self._urgent.discard(key.fd)
        return key

    def _watch(self, key: SelectorKey) -> None:
        for events, fds in ((EVENT_READ, self._readers), (EVENT_WRITE, self._writers), (EVENT_PRIORITY, self._urgent)):
            if key.events & events:
                fds.add(key.fd)
            else:
                fds.discard(key.fd)

    _rewatch = _watch


if hasattr(_standard.select, "poll"):

    class PollSelector(_Poll, _standard_selectors.PollSelector):
        """The standard PollSelector, on ``fastmux.select.poll``."""

        _selector_cls = staticmethod(_select.poll)


if hasattr(_standard.select, "epoll"):

    class EpollSelector(_Epoll, _standard_selectors.EpollSelector):
        """The standard EpollSelector, on the core."""

        _selector_cls = EpollSet


#: The best there is.
if not TYPE_CHECKING:
    DefaultSelector = globals()[_standard.selectors.DefaultSelector.__name__]
elif sys.platform == "linux":
    DefaultSelector = EpollSelector
else:
    from selectors import DefaultSelector as DefaultSelector
