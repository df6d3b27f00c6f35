"""The registrations of StdlibPoller: the map of keys under a lock.

StdlibPoller provides the mechanism in ``_watch``, ``_rewatch``, ``_unwatch``, ``_close`` and ``_entries``. Poller makes
each change in one call of the extension instead (csrc/python/registrations.c).
"""

from __future__ import annotations

import errno
import threading

from fastmux._binding import INT_MAX
from fastmux._events import EDGE, ONESHOT, READ, check_events
from fastmux._original import SelectorKey

from .base import UNCHANGED, BasePoller, check_capacity, fileno_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from .audit import Entry
    from .base import FileObject

#: new_tuple(SelectorKey, (fileobj, fd, events, data)) makes a key without a Python call in between.
new_tuple: Final[Callable[[type[SelectorKey], tuple[Any, int, int, Any]], SelectorKey]] = tuple.__new__


class LockedPoller(BasePoller):
    """A poller with its registrations under a lock."""

    def __init__(self, mechanism: str | None, capacity: int, fork: str) -> None:
        super().__init__(mechanism, fork)
        # Guards _keys, state that subclasses derive from it, and the counters. Re-entrant, because a signal handler may
        # use the poller while the interrupted code holds the lock.
        self._lock = threading.RLock()
        self._capacity = check_capacity(capacity)
        self._growths = 0
        self._avoided = 0  # calls of modify() without a system call

    @property
    def capacity(self) -> int:
        return self._capacity

    # Provided by the subclass; called with the lock held.

    def _watch(self, key: SelectorKey) -> None:
        """Start watching, or raise OSError."""
        raise NotImplementedError

    def _rewatch(self, old: SelectorKey, new: SelectorKey) -> None:
        """Change the events, re-arm, or raise OSError."""
        raise NotImplementedError

    def _unwatch(self, fd: int) -> None:
        """Stop watching fd, which may be closed."""
        raise NotImplementedError

    def _close(self) -> None:
        """End all waits, and release all descriptors after the last one. Idempotent."""
        raise NotImplementedError

    def _entries(self) -> list[Entry]:
        """Return the entries of the epoll set, without the poller's own."""
        raise NotImplementedError

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # a thread of the parent may hold the old one

    # Registrations

    def register(self, fileobj: FileObject, events: int = READ, data: Any = None) -> SelectorKey:
        fd = fileno_of(fileobj)
        if fd > INT_MAX:
            raise OverflowError(f"file descriptor {fd} does not fit a C int")
        events = check_events(self.mechanism, events)
        with self._lock:
            self._check_open()
            if (key := self._keys.get(fd)) is not None:
                raise KeyError(f"{fileobj!r} (FD {fd}) is already registered, for {key.fileobj!r}")
            key = new_tuple(SelectorKey, (fileobj, fd, events, data))
            try:
                self._keys[fd] = key
                self._watch(key)
            except BaseException:
                # KeyboardInterrupt, too: the kernel may already watch the descriptor.
                self._keys.pop(fd, None)
                self._unwatch(fd)
                raise
            if len(self._keys) > self._capacity:
                self._capacity *= 2
                self._growths += 1
        return key

    def modify(self, fileobj: FileObject, events: int, data: Any = UNCHANGED) -> SelectorKey:
        events = check_events(self.mechanism, events)
        with self._lock:
            key = self._find(fileobj)
            if data is UNCHANGED:
                data = key.data
            changed = events != key.events or events & (EDGE | ONESHOT)
            if not changed:
                self._avoided += 1
                if data is key.data:
                    return key
            new = new_tuple(SelectorKey, (key.fileobj, key.fd, events, data))
            try:
                if changed:
                    self._rewatch(key, new)
                self._keys[key.fd] = new
            except BaseException as error:
                # After KeyboardInterrupt, too: the kernel may have the old events or the new ones.
                if not isinstance(error, OSError) or error.errno in (None, errno.ENOENT, errno.EBADF, errno.EPERM):
                    self._drop(key.fd)
                raise
        return new

    def unregister(self, fileobj: FileObject) -> SelectorKey:
        with self._lock:
            key = self._find(fileobj)
            self._drop(key.fd)
        return key

    def _drop(self, fd: int) -> None:
        try:
            self._keys.pop(fd, None)
            self._unwatch(fd)
        except BaseException:  # KeyboardInterrupt: one of the two, or none, is done
            self._keys.pop(fd, None)
            self._unwatch(fd)
            raise

    def get_key(self, fileobj: FileObject) -> SelectorKey:
        with self._lock:
            return self._find(fileobj)

    def _snapshot(self) -> tuple[dict[int, SelectorKey], list[Entry] | None]:
        with self._lock:
            return self._keys.copy(), self._entries() if self.mechanism == "epoll" else None

    def close(self) -> None:
        # A signal handler may raise at any step; then close() once more does the rest.
        with self._lock:
            self.closed = True
            self._close()
            self._keys.clear()
