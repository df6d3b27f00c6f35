"""A drop-in replacement for the standard ``selectors`` module, on the core.

The selectors here are subclasses of the standard ones. They replace what is called often, and leave everything else
(the map, the errors, what happens to odd arguments) to the code that programs know. Beyond it they can be woken up
from other threads, wait in nanoseconds, heal (see below), and watch for more: register() and modify() also take
EVENT_PRIORITY and ``fastmux.PEER_CLOSED``, and on epoll ``fastmux.EDGE``, ``ONESHOT`` and ``EXCLUSIVE``.

Urgent data is EVENT_PRIORITY here, not ``fastmux.PRIORITY``: that is 2, and 2 is EVENT_WRITE.
"""

from __future__ import annotations

import selectors as _standard_selectors
from selectors import *  # noqa: F403
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from typing import Any, Final

from . import _core, _standard
from . import select as _select
from ._extended import EVENT_PRIORITY, Extended

if _core.implementation == "c":
    from ._fast import EpollSet
    from ._fast import FastEpoll as _Epoll
    from ._fast import FastPoll as _Poll
else:
    from ._extended import PlainEpoll as _Epoll  # type: ignore[assignment]
    from ._extended import PlainPoll as _Poll  # type: ignore[assignment]

    EpollSet = getattr(_standard.select, "epoll", None)  # type: ignore[assignment, misc]

#: The standard objects that have a mirror here.
STANDARD: Final = {
    name: getattr(_standard.selectors, name)
    for name in ("DefaultSelector", "SelectSelector", "PollSelector", "EpollSelector")
    if hasattr(_standard.selectors, name)
}


class SelectSelector(Extended, _standard_selectors.SelectSelector):  # type: ignore[no-redef]
    """The standard SelectSelector, on ``fastmux.select.select``: without its limit of 1024."""

    _more = EVENT_PRIORITY

    _readers: set[int]
    _writers: set[int]

    def __init__(self, *, heal: bool = False) -> None:
        super().__init__(heal=heal)
        self._urgent: set[int] = set()

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait, and return ``(key, events)`` for everything that is ready."""
        timeout = None if timeout is None else max(timeout, 0)
        readers = self._readers
        wake = self._wake_up() if timeout != 0 else self._wake
        if wake is not None:
            readers = {*readers, wake.fd}
        reading, writing, urgent = map(frozenset, _select.select(readers, self._writers, self._urgent, timeout))
        if wake is not None and wake.fd in reading:
            wake.clear()
        result = []
        for fd in reading | writing | urgent:
            if key := self._fd_to_key.get(fd):
                found = (fd in reading and EVENT_READ) | (fd in writing and EVENT_WRITE)
                result.append((key, (found | (fd in urgent and EVENT_PRIORITY)) & key.events))
        return result

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

    def _watch_wake_up(self, fd: int) -> None:
        pass  # select() sees to it


if hasattr(_standard.select, "poll"):

    class PollSelector(_Poll, _standard_selectors.PollSelector):  # type: ignore[no-redef]
        """The standard PollSelector, on ``fastmux.select.poll``."""

        _selector_cls = staticmethod(_select.poll)


if hasattr(_standard.select, "epoll"):

    class EpollSelector(_Epoll, _standard_selectors.EpollSelector):  # type: ignore[no-redef]
        """The standard EpollSelector, on the core."""

        _selector_cls = EpollSet


#: The best there is.
DefaultSelector = globals()[_standard.selectors.DefaultSelector.__name__]  # type: ignore[misc]
