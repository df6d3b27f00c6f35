"""StdlibPoller: the Poller on the standard library alone.

It is the reference, so the code is plain: simple data, one lock, the same steps for every mechanism. It is also the
fallback without the extension.

A wait enters, makes system calls, and leaves. The waits in progress are listed, because closing must not close a
descriptor while a thread is in the kernel with it: the last wait to leave releases the descriptors. Each waiter has a
pipe of its own, by which another thread ends its wait. On epoll it sleeps on the epoll set and the pipe. The sets of
poll and select are copied for each wait, and after a change of the set every waiter copies it again.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sys
import threading
import weakref
from time import monotonic_ns

from fastmux._binding import closed, explain_refusal
from fastmux._events import EXCLUSIVE, PRIORITY, READ, WRITE
from fastmux._original import select
from fastmux._timeouts import ONE_CALL, nanoseconds

from .base import check_maxevents, no_fileno
from .descriptors import (
    OwnEpoll,
    WakePipe,
    check_limit_of_select,
    check_open,
    has_entry,
    is_of_handler,
    is_socket,
    open_pipe,
)
from .fork import apply_in_children
from .locked import LockedPoller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from selectors import SelectorKey
    from typing import Any, TypeAlias

    from .audit import Entry, Stats

    Events: TypeAlias = list[tuple[int, int]]

_COUNTERS = (
    *("waits", "events", "stale_events", "control_calls", "control_calls_avoided", "wakeups"),
    *("interruptions", "renewals", "growths"),
)


class _Waiter:
    """A wait in progress: its pipe, and on poll and select the version of the set that it has copied."""

    def __init__(self) -> None:
        self.pipe: Any = None  # a WakePipe, from when it enters until it leaves
        self.spares: list[WakePipe] = []  # where the pipe came from; a child process starts another list
        self.version = 0
        self.woken = False  # a wake-up is to end it
        self.ended = False
        self.thread = threading.get_ident()
        #: The number of events, and whether a wake-up has ended the wait; None before its end and after an exception.
        self.result: tuple[int, bool] | None = None
        #: Calls _leave() if an exception from a signal handler has kept the wait from that; None before and after.
        self.frame: weakref.ref[_Frame] | None = None


class _Frame:
    """A local variable of a wait. It is released with the call, which the traceback of an exception may keep."""


class StdlibPoller(LockedPoller):
    """The Poller on the standard library alone: same signature, same behaviour, no compiled code.

    Three differences remain: timeouts of epoll and poll are rounded up to milliseconds; the mechanism "select" takes
    descriptors below 1024 only (ValueError); and on epoll, a file that was closed while a duplicate of it stays open is
    reported under its old number, even after another file has taken that number.
    """

    mechanisms: tuple[str, ...] = tuple(name for name in ("epoll", "poll", "select") if hasattr(select, name))

    def __init__(self, mechanism: str | None = None, *, capacity: int = 1024, fork: str = "rebuild") -> None:
        super().__init__(mechanism, capacity, fork)
        self._local = threading.local()
        # All that follows is guarded by self._lock.
        self._entered: list[_Waiter] = []  # until they leave
        self._spares = [open_pipe()]  # for later waits
        self._version = 0  # counts changes of the set
        self._wake_pending = False  # a wake-up without a wait in progress
        self._cursor = 0  # where the last result was cut off
        self._inherited = False  # the epoll set is the parent's: do not change it
        self._fired: set[int] = set()  # one-shot registrations that had fired before the fork
        self._releasing = False
        self._counts = dict.fromkeys(_COUNTERS, 0)
        self._set: Any = OwnEpoll() if self.mechanism == "epoll" else None
        self._epoll: Any = self._set.epoll if self._set else None
        apply_in_children(self, LockedPoller.close)  # last: a child ignores pollers that are half made

    def __del__(self) -> None:
        if hasattr(self, "_epoll"):  # not if __init__ failed early
            self.close()

    # Registrations

    def _own_epoll(self) -> Any:
        """Return the epoll set for a change; None on poll and select."""
        self._rebuild()
        self._counts["control_calls"] += self._epoll is not None
        return self._epoll

    def _watch(self, key: SelectorKey) -> None:
        fd = key.fd
        if epoll := self._own_epoll():
            if self._set.is_witness(fd):
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            try:
                try:
                    epoll.register(fd, key.events)
                except FileExistsError:  # closed while a duplicate stayed open, and back under its old number
                    with contextlib.suppress(FileNotFoundError):  # removed by a child, see has_entry()
                        epoll.unregister(fd)
                    epoll.register(fd, key.events)
            except OSError as error:
                raise explain_refusal(error) from None
            return
        check_open(fd)  # EBADF here rather than later
        if self.mechanism == "select":
            check_limit_of_select(fd, len(self._keys))
        self._changed()

    def _rewatch(self, old: SelectorKey, new: SelectorKey) -> None:
        if self._epoll is None:
            self._changed()
        else:
            epoll = self._own_epoll()
            if new.fd in self._fired:
                epoll.register(new.fd, new.events)
                self._fired.remove(new.fd)
            elif (new.events | old.events) & EXCLUSIVE:
                epoll.unregister(new.fd)
                try:
                    epoll.register(new.fd, new.events)
                except OSError:
                    try:
                        epoll.register(new.fd, old.events)
                    except OSError:  # now neither mask is watched
                        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
                    raise
            else:
                epoll.modify(new.fd, new.events)

    def _unwatch(self, fd: int) -> None:
        self._fired.discard(fd)
        if epoll := self._own_epoll():
            try:
                if not self._set.is_witness(fd):
                    epoll.unregister(fd)
            except OSError as error:  # already closed
                if is_of_handler(error):
                    raise
        else:
            self._changed()

    def _changed(self) -> None:
        """Make all waits on poll and select copy the set again."""
        self._version += 1
        for waiter in self._waiters():
            waiter.pipe.set()

    # Waiting

    def _waiters(self) -> list[_Waiter]:
        """Return the waits in progress; with the lock held."""
        return [waiter for waiter in self._entered if not waiter.ended]

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> Events:
        return self._wait(timeout, maxevents)[0]

    def _wait(self, timeout: float | None, maxevents: int = -1) -> tuple[Events, bool]:
        """Wait, and return the events, and whether a wake-up has ended the wait."""
        ns = nanoseconds(timeout)
        limit = check_maxevents(maxevents)
        limit = self.capacity if limit == -1 else min(limit, self.capacity)
        deadline = None if ns < 0 else monotonic_ns() + ns
        waiter, frame = _Waiter(), _Frame()
        try:
            self._enter(waiter, frame)
            while True:
                left = None if deadline is None else min(max(deadline - monotonic_ns(), 0) / 1e9, ONE_CALL)
                result = self._ask(waiter, left, limit)
                if self.closed:
                    closed()
                if result is not None:
                    count, woken = len(result), waiter.woken
                    if count or woken or (deadline is not None and monotonic_ns() >= deadline):
                        waiter.result = count, woken
                        return result, woken
                with self._lock:
                    self._counts["interruptions"] += 1
        finally:
            waiter.ended = True  # at once: a wake-up must not go to it
            self._leave(waiter)

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        ns = nanoseconds(timeout)
        deadline = monotonic_ns() + ns
        while True:
            found, woken = self._wait(None if ns < 0 else max(deadline - monotonic_ns(), 0) / 1e9)
            with self._lock:
                if self.closed:
                    closed()
                pairs = [(self._keys[fd], events) for fd, events in found if fd in self._keys]
            if pairs or woken or not found:  # else another thread has unregistered every reported descriptor
                return pairs

    def wait(self, timeout: float | None = None) -> int:
        found = self.poll(timeout)
        fds, events = self._columns(max(self.capacity, len(found)))
        for row, (fd, mask) in enumerate(found):
            fds[row] = fd
            events[row] = mask
        return len(found)

    @property
    def fds(self) -> memoryview:
        columns: memoryview = self._columns(0)[0]
        return columns.toreadonly()

    @property
    def events(self) -> memoryview:
        columns: memoryview = self._columns(0)[1]
        return columns.toreadonly()

    def _columns(self, rows: int) -> tuple[Any, Any]:
        """Return this thread's two columns for wait(), with at least ``rows`` rows."""
        local = self._local
        if not hasattr(local, "fds") or len(local.fds) < rows:
            size = max(rows, self.capacity)
            # A signal handler that comes in between finds no fds, and makes both.
            local.events = memoryview(bytearray(4 * size)).cast("I")
            local.fds = memoryview(bytearray(4 * size)).cast("i")
        return local.fds, local.events

    def _enter(self, waiter: _Waiter, frame: _Frame) -> None:
        with self._lock:
            if self.closed:
                closed()
            self._rebuild()
            self._leave_again()
            waiter.frame = weakref.ref(frame, lambda _: self._leave(waiter))
            waiter.spares = self._spares
            waiter.pipe = self._spares.pop() if self._spares else open_pipe()
            for other in self._waiters():
                if other.woken and other.thread == waiter.thread and other.result is None:
                    # In a signal handler: the interrupted wait cannot end before this one.
                    other.woken, waiter.woken = False, True
            self._entered.append(waiter)

    def _leave(self, waiter: _Waiter) -> None:
        """Take over what a waiter has. A signal handler may raise at any step; another call does the rest."""
        with self._lock:
            if waiter.frame is None:
                return
            waiter.ended = True
            pipe, waiter.pipe = waiter.pipe, None
            if pipe is not None:
                waiter.spares.append(pipe)
            if self.closed:
                if not self._waiters():
                    self._release()
            elif waiter.woken and not (waiter.result and waiter.result[1]):
                self._wake()  # an exception has ended this wait, or it was too late
            waiter.frame = None
            if waiter in self._entered:
                self._entered.remove(waiter)
            if waiter.result is not None:
                self._counts["waits"] += 1
                self._counts["events"] += waiter.result[0]
                self._counts["wakeups"] += waiter.result[1]

    def _leave_again(self) -> None:
        """Complete _leave() for the waits in which an exception has interrupted it; with the lock held."""
        for waiter in self._entered.copy():
            if waiter.ended:
                self._leave(waiter)

    def _ask(self, waiter: _Waiter, timeout: float | None, limit: int) -> Events | None:
        """Wait once, and return the events of registered descriptors.

        Return None if the set has changed meanwhile, so that the events may be stale.
        """
        with self._lock:
            if self.closed:  # by a signal handler, before this waiter was listed
                closed()
            if not waiter.pipe.is_ours():  # the program has closed it
                waiter.pipe = open_pipe()
            if self._wake_pending:
                waiter.woken, self._wake_pending = True, False
            waiter.version = self._version
            # list() copies in one step: a signal handler may change the registrations.
            interest = {} if self._epoll else {fd: key.events for fd, key in list(self._keys.items())}
            interest[waiter.pipe.fd] = READ
        try:
            found = self._ask_kernel(interest, 0 if waiter.woken else timeout, limit)
        except OSError:
            if waiter.pipe.is_ours():
                raise
            found = []
        with self._lock:
            waiter.pipe.clear()
            if waiter.version != self._version:
                return None
            current = [(fd, events) for fd, events in found if fd in self._keys]
            if self._epoll is None:
                return self._cut(current, limit)
            self._counts["stale_events"] += len(found) - len(current)
            return current

    def _ask_kernel(self, interest: dict[int, int], timeout: float | None, limit: int) -> Events:
        if self._epoll is None:
            return (_ask_poll if self.mechanism == "poll" else _ask_select)(interest, timeout)
        found: Events = self._epoll.poll(0, limit)
        if not found and timeout != 0:
            _ask_poll(interest | {self._epoll.fileno(): READ}, timeout)
            found = self._epoll.poll(0, limit)
        return found

    def _cut(self, found: Events, limit: int) -> Events:
        """Return at most limit of the events; the next call begins after those, so that none starves."""
        start, self._cursor = self._cursor, 0
        if len(found) <= limit:
            return found
        start %= len(found)
        self._cursor = start + limit
        return (found[start:] + found[:start])[:limit]

    def wakeup(self) -> None:
        with self._lock:
            if self.closed:
                closed()
            self._rebuild()
            self._wake()

    def _wake(self) -> None:
        """End one wait; with the lock held."""
        waiters = self._waiters()
        if any(waiter.woken for waiter in waiters):
            return  # the last wake-up is not consumed yet
        # The last one: it is not interrupted by a signal handler that waits.
        if waiters and waiters[-1].pipe.set():
            waiters[-1].woken = True
        else:
            self._wake_pending = True

    def fileno(self) -> int:
        if self.closed:
            closed()
        if self._epoll is None:
            raise no_fileno(self.mechanism)
        with self._lock:
            self._rebuild()
        fd: int = self._epoll.fileno()
        return fd

    # Forks

    def _after_fork(self) -> None:
        super()._after_fork()
        inherited = self._entered
        self._entered = [waiter for waiter in self._waiters() if waiter.thread == threading.get_ident()]
        self._wake_pending = False
        self._spares = []  # shared with the parent
        for waiter in inherited:
            waiter.woken = False
            if waiter in self._entered:
                waiter.pipe.renew()
            else:  # its thread does not exist here, but what the thread refers to does
                waiter.frame = None
                if waiter.pipe is not None:
                    waiter.pipe.close()
        self._inherited = self._epoll is not None and self._fork == "rebuild" and not self.closed

    def _rebuild(self) -> None:
        """In a child, put an own epoll set under the number of the parent's; with the lock held.

        The new set has those entries of the parent's set whose number still stands for the same file.
        """
        if not self._inherited:
            return
        if not self._set.is_ours():
            closed()
        from .audit import Entry, entries_of, has_fired, is_current

        inherited: Any = self._epoll
        try:
            entries = entries_of(inherited.fileno())
        except FileNotFoundError:  # no /proc
            entries = [Entry(fd, key.events, fd, None, None) for fd, key in self._keys.items()]
        # A file that is watched no more may have had the same number, and may be in the set twice.
        current = {entry.fd: entry for entry in sorted(entries, key=has_fired, reverse=True) if is_current(entry)}
        with select.epoll() as epoll:
            for fd in current.keys() & self._keys.keys():
                is_exact = current[fd].inode is not None and is_socket(fd)  # each has an inode of its own
                if not is_exact and not has_entry(inherited, fd):
                    continue
                if has_fired(current[fd]):
                    self._fired.add(fd)
                else:
                    epoll.register(fd, self._keys[fd].events)
            self._set.add_witness(epoll)
            os.dup2(epoll.fileno(), inherited.fileno(), inheritable=False)
        self._inherited = False
        self._counts["renewals"] += 1

    # Inspection

    def stats(self) -> Stats:
        from .audit import Stats

        with self._lock:
            counts = self._counts | {"control_calls_avoided": self._avoided, "growths": self._growths}
            return Stats(**counts)

    def _entries(self) -> list[Entry]:
        from .audit import entries_of

        return [entry for entry in entries_of(self.fileno()) if not self._set.is_witness(entry.fd)]

    # End of life

    def _close(self) -> None:
        self._leave_again()
        waiters = self._waiters()
        for waiter in waiters:
            waiter.pipe.set()
        if not waiters:
            self._release()

    def _release(self) -> None:
        if self._releasing:  # a signal handler or the garbage collector has interrupted it
            return
        self._releasing = True
        try:
            if self._set is not None:
                self._set.close()
            while self._spares:
                self._spares[-1].close()
                self._spares.pop()
        finally:
            self._releasing = False


def _ask_poll(interest: dict[int, int], timeout: float | None) -> Events:
    poll = select.poll()
    for fd, events in interest.items():
        poll.register(fd, events)
    found: Events = poll.poll(None if timeout is None else math.ceil(timeout * 1000))
    return found


def _ask_select(interest: dict[int, int], timeout: float | None) -> Events:
    # Windows reports a connection that could not be made as exceptional, and not as writable.
    exceptional = PRIORITY | WRITE if sys.platform == "win32" else PRIORITY
    reads, writes, urgent = ([fd for fd in interest if interest[fd] & bits] for bits in (READ, WRITE, exceptional))
    found: dict[int, int] = {}
    for fds, bit in zip(select.select(reads, writes, urgent, timeout), (READ, WRITE, PRIORITY)):
        for fd in fds:
            found[fd] = found.get(fd, 0) | (interest[fd] & bit or WRITE)
    return list(found.items())
