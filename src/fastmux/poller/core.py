"""Poller on the C core.

poll(), select() and wait() are one call of the extension each, which waits, runs signal handlers, and builds the result
(csrc/python/waits.c). It returns an int if it could not: a busy ready array, an unusual argument, an error.
"""

from __future__ import annotations

import errno
import threading

from fastmux import _binding
from fastmux._binding import (
    ALL,
    NO_ARRAY,
    NOW,
    Waits,
    fail,
    keys_now,
    keys_wait,
    pairs_now,
    pairs_some,
    pairs_wait,
    rows_now,
    rows_wait,
)
from fastmux._timeouts import for_poller

from .base import BasePoller, check_maxevents, no_fileno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from selectors import SelectorKey
    from typing import Any

    from .audit import Entry, Stats


class _Rows:
    """A private ready array for wait(), with views of its columns."""

    __slots__ = ("capacity", "events", "fds", "ready", "thread")

    def __init__(self, ready: Any, memory: Any, capacity: int, thread: int) -> None:
        self.ready = ready
        self.capacity = capacity
        self.thread = thread
        view = memoryview(_binding.ffi.buffer(memory)).toreadonly()
        self.fds = view[: 4 * capacity].cast("i")
        self.events = view[4 * capacity : 8 * capacity].cast("I")


class Poller(BasePoller, Waits):
    """Waits on many file descriptors at once: epoll, poll or select through a C core.

    mechanism is "epoll", "poll", "select" or None for the best one available. capacity is the most events that one
    wait reports; it grows with the number of registrations.

    fork is the policy for a child process after os.fork():

    - "rebuild": the child gets the same registrations in a set of its own, made at its first use.
    - "share": parent and child share one epoll set, as the kernel leaves it: unregister() in one of them also
      unregisters in the other. Each has its own wake-ups.
    - "close": the child's poller is closed.
    - "raise": every method and property raises RuntimeError in the child, except close().

    All methods may be called from any thread, and several threads may wait at once.
    """

    __slots__ = ("_front", "_rows", "_table")  # found sooner than in a dict

    mechanisms: tuple[str, ...] = tuple(_binding.MECHANISMS)

    def __init__(self, mechanism: str | None = None, *, capacity: int = 1024, fork: str = "rebuild") -> None:
        BasePoller.__init__(self, mechanism, capacity=capacity, fork=fork)
        #: The table of pairs: tag -> key, or (key, events) once that was reported. See csrc/python/calls.h.
        self._table: list[Any] = []
        mux = _binding.open_mux(_binding.MECHANISMS[self.mechanism], fork == "share")
        self._start(mux, self.capacity, _binding.open_context(mux, table=self._table, keys=self._keys))
        #: The private array of the first thread that called wait(), which alone replaces it. Other threads have theirs
        #: in self._local.rows.
        self._front: _Rows | None = None
        #: The ready array that wait() tries first: the one of _front, or none if that is too small.
        self._rows: Any = NO_ARRAY
        self._made()

    # Waiting

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        if maxevents is ALL:
            result = pairs_now(self._ready) if timeout is NOW else pairs_wait(self._ready, timeout)
        elif maxevents.__class__ is int and 0 < maxevents <= self.capacity:
            result = pairs_some(self._ready, timeout, maxevents)
        else:
            result = None
        if result.__class__ is list:
            return result
        if result.__class__ is float:
            timeout = result  # the rest
        timeout, limit = for_poller(timeout), check_maxevents(maxevents)
        return self._wait_again(pairs_some, timeout, min(limit, self.capacity))  # type: ignore[no-any-return]

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        result = keys_now(self._ready) if timeout is NOW else keys_wait(self._ready, timeout)
        if result.__class__ is list:
            return result
        rest = result if result.__class__ is float else for_poller(timeout)
        return self._wait_again(keys_wait, rest)  # type: ignore[no-any-return]

    def wait(self, timeout: float | None = None) -> int:
        n: int = rows_now(self._rows) if timeout is NOW else rows_wait(self._rows, timeout)
        if n >= 0:
            return n
        if n in (_binding.BUSY, _binding.UNUSUAL):
            n = rows_wait(self._own_rows(), for_poller(timeout))
        return n if n >= 0 else fail(n)

    def _own_rows(self) -> Any:
        """Return this thread's array for wait(), made anew if it is missing or too small."""
        front, thread = self._front, threading.get_ident()
        if front is None or (front.thread == thread and front.capacity != self.capacity):
            self._front = front = self._make_rows(thread)
        if front.thread == thread:
            self._rows = front.ready
            return front.ready
        if self._local is None:
            self._local = threading.local()
        rows = getattr(self._local, "rows", None)
        if rows is None or rows.capacity != self.capacity:
            rows = self._local.rows = self._make_rows(thread)
        return rows.ready

    def _make_rows(self, thread: int) -> _Rows:
        with self._lock:
            self._check_open()
            ready, memory = _binding.open_ready(self._mux, self.capacity, False, self._context, fail)
            return _Rows(ready, memory, self.capacity, thread)

    def _last_rows(self) -> _Rows:
        """Return the array of this thread's last wait()."""
        front = self._front
        if front is None or front.thread != threading.get_ident():
            front = getattr(self._local, "rows", None)
        if front is None:
            self._own_rows()
            return self._last_rows()
        return front

    @property
    def fds(self) -> memoryview:
        return self._last_rows().fds

    @property
    def events(self) -> memoryview:
        return self._last_rows().events

    def _fail(self, result: int) -> Any:
        fail(result)

    # Provided for BasePoller

    def _watch(self, key: SelectorKey) -> None:
        if (result := _binding.key_add(self._mux, self._table, key, key.events)) < 0:
            fail(result)

    def _rewatch(self, old: SelectorKey, new: SelectorKey) -> None:
        if (result := _binding.key_modify(self._mux, self._table, new, new.events)) < 0:
            fail(result)

    def _rekey(self, key: SelectorKey) -> None:
        _binding.key_replace(self._mux, self._table, key.fd, key)

    def _unwatch(self, fd: int) -> None:
        _binding.key_remove(self._mux, self._table, fd)

    def _enlarge(self) -> None:
        self._grow(self.capacity)
        self._rows = NO_ARRAY  # each thread makes a larger one at its next wait()

    def wakeup(self) -> None:
        if (result := _binding.wakeup(self._mux)) < 0:
            fail(result)

    def fileno(self) -> int:
        fd: int = _binding.fileno(self._mux)
        if fd == -errno.EOPNOTSUPP:
            raise no_fileno(self.mechanism)
        return fd if fd >= 0 else fail(fd)

    def stats(self) -> Stats:
        from .audit import Stats

        with self._lock:
            return Stats._make((*_binding.stats(self._mux, self._avoided), self._growths))

    def _entries(self) -> list[Entry]:
        from .audit import entries_of

        return [entry for entry in entries_of(self.fileno()) if entry.data != 0]  # 0 is the socket of wakeup()

    def _close(self) -> None:
        _binding.close(self._mux)
        self._table.clear()
        self._ready = self._rows = NO_ARRAY
