"""Poller on the C core.

Each method is one call of the extension. register(), modify() and unregister() make their change in one step
(csrc/python/registrations.c); poll(), select() and wait() wait, run signal handlers, and build the result
(csrc/python/waits.c). The call returns an int if it could not: an unusual argument, an error.
"""

from __future__ import annotations

import errno
import operator
import threading

from fastmux import _binding
from fastmux._binding import (
    ALL,
    INT_MAX,
    NO_ARRAY,
    NOW,
    UNUSUAL,
    context_capacity,
    context_close,
    fail,
    fd_register,
    file_modify,
    file_register,
    file_unregister,
    keys_now,
    keys_wait,
    open_ready,
    pairs_now,
    pairs_some,
    pairs_wait,
    poller_context,
    rows_now,
    rows_wait,
)
from fastmux._events import READ, SUPPORTED, check_events
from fastmux._original import SelectorKey
from fastmux._timeouts import for_poller

from .base import UNCHANGED, BasePoller, check_capacity, check_maxevents, fileno_of, no_fileno
from .fork import apply_in_children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from .audit import Entry, Stats
    from .base import FileObject


#: The default, which needs no check.
_CAPACITY: Final = 1024


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


class Poller(BasePoller):
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

    __slots__ = ("_context", "_front", "_local", "_rows")

    mechanisms: tuple[str, ...] = tuple(_binding.MECHANISMS)

    def __init__(self, mechanism: str | None = None, *, capacity: int = _CAPACITY, fork: str = "rebuild") -> None:
        BasePoller.__init__(self, mechanism, fork)
        mechanism = self.mechanism
        if capacity is not _CAPACITY:
            capacity = check_capacity(capacity)
        shared = 1 if fork == "share" else 0
        self._context: Any = poller_context(self._keys, mechanism, shared, capacity, SUPPORTED[mechanism])
        #: The private array of the first thread that called wait(), which alone replaces it. Other threads have theirs
        #: in self._local.rows.
        self._front: _Rows | None = None
        self._local: Any = None
        #: The ready array that wait() tries first: the one of _front, or none if that is too small.
        self._rows: Any = NO_ARRAY
        if fork in ("close", "raise"):  # the core applies the others
            apply_in_children(self, Poller.close)

    @property
    def capacity(self) -> int:
        capacity: int = context_capacity(self._context)
        return capacity

    # Registrations

    def register(self, fileobj: FileObject, events: int = READ, data: Any = None) -> SelectorKey:
        key = file_register(self._context, fileobj, events, data)
        if key.__class__ is SelectorKey:
            return key
        return self._register(key, fileobj, events, data)

    def _register(self, result: Any, fileobj: FileObject, events: int, data: Any) -> SelectorKey:
        """Slow path of register(): a file or events of another type, an error."""
        if result == UNUSUAL:
            fd = fileno_of(fileobj)
            if fd > INT_MAX:
                raise OverflowError(f"file descriptor {fd} does not fit a C int")
            events = check_events(self.mechanism, events)
            self._check_open()
            result = fd_register(self._context, fileobj, fd, events, data)
        return result if result.__class__ is SelectorKey else fail(result)

    def modify(self, fileobj: FileObject, events: int, data: Any = UNCHANGED) -> SelectorKey:
        key = file_modify(self._context, fileobj, events, data)
        if key.__class__ is SelectorKey:
            return key
        return self._modify(key, fileobj, events, data)

    def _modify(self, result: Any, fileobj: FileObject, events: int, data: Any) -> SelectorKey:
        """Slow path of modify()."""
        while result == UNUSUAL:  # again, if another thread or a signal handler has changed the registration meanwhile
            events = check_events(self.mechanism, events)
            result = file_modify(self._context, self._find(fileobj).fd, events, data)
        return result if result.__class__ is SelectorKey else fail(result)

    def unregister(self, fileobj: FileObject) -> SelectorKey:
        key = file_unregister(self._context, fileobj)
        while key.__class__ is not SelectorKey:  # not registered, or closed, or of another type
            key = file_unregister(self._context, self._find(fileobj).fd)
        return key

    # Waiting

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        if maxevents is ALL:
            result = pairs_now(self._context) if timeout is NOW else pairs_wait(self._context, timeout)
        elif maxevents.__class__ is int and 0 < maxevents <= INT_MAX:
            result = pairs_some(self._context, timeout, maxevents)
        else:
            result = UNUSUAL
        if result.__class__ is list:
            return result
        if result == UNUSUAL:
            timeout, limit = for_poller(timeout), check_maxevents(maxevents)
            result = pairs_some(self._context, timeout, limit if 0 < limit <= INT_MAX else INT_MAX)
        return result if result.__class__ is list else fail(result)

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        result = keys_now(self._context) if timeout is NOW else keys_wait(self._context, timeout)
        if result.__class__ is list:
            return result
        if result == UNUSUAL:
            result = keys_wait(self._context, for_poller(timeout))
        return result if result.__class__ is list else fail(result)

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
        capacity = self.capacity
        ready, memory = open_ready(self._context, capacity, False, fail)
        return _Rows(ready, memory, capacity, thread)

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

    def wakeup(self) -> None:
        if (result := _binding.context_wakeup(self._context)) < 0:
            fail(result)

    def fileno(self) -> int:
        fd: int = _binding.context_fileno(self._context)
        if fd == -errno.EOPNOTSUPP:
            raise no_fileno(self.mechanism)
        return fd if fd >= 0 else fail(fd)

    # Inspection

    def stats(self) -> Stats:
        from .audit import Stats

        return Stats._make(_binding.context_stats(self._context))

    def _snapshot(self) -> tuple[dict[int, SelectorKey], list[Entry] | None]:
        if self.mechanism != "epoll":
            return self._keys.copy(), None
        from .audit import entries_of

        while True:
            keys = self._keys.copy()
            entries = [entry for entry in entries_of(self.fileno()) if entry.data != 0]  # 0 is the socket of wakeup()
            # Read both again if there was a change meanwhile.
            if all(map(operator.is_, keys.values(), now := list(self._keys.values()))) and len(keys) == len(now):
                return keys, entries

    # End of life

    def _after_fork(self) -> None:
        """Do nothing: the core detaches the child from the parent."""

    def close(self) -> None:
        self.closed = True
        context_close(self._context)
        self._keys.clear()
        self._rows = NO_ARRAY
