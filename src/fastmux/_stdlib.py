"""StdlibPoller: the Poller written on the standard library alone.

It is the reference, so it is written to be read: plain data, one lock, the same steps for every mechanism. It is
also what runs where the extension is missing.

A wait enters, asks, and leaves. Whoever is inside is counted, because closing must not take a descriptor away
from a thread that is in the kernel with it: the last to leave releases them. The epoll set itself lives in the
kernel, and one edge-triggered eventfd in it wakes one waiter. The sets of poll and select are copied for each
wait, and each waiter has an eventfd of its own; a change of the set makes all of them copy it again.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sys
import threading
import weakref
from array import array
from selectors import SelectorKey
from time import monotonic_ns
from typing import Any

from ._base import BasePoller
from ._checks import (
    EDGE,
    EXCLUSIVE,
    ONESHOT,
    PRIORITY,
    READ,
    WRITE,
    check_maxevents,
    closed,
    nanoseconds,
    no_fileno,
    refuse_file,
)
from ._inspection import Stats, Watched, has_fired, is_current, watched
from ._standard import select

Events = list[tuple[int, int]]

#: What one call can wait at most, in seconds: the standard library counts milliseconds in a C int.
_LONGEST = 2_000_000
_FD_SETSIZE = 1024


class WakeUp:
    """A descriptor that can be made readable: an eventfd, or a pipe where there are none."""

    fd = _write_fd = -1

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self.fd = self._write_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self.fd, self._write_fd = os.pipe()
            os.set_blocking(self.fd, False)
            os.set_blocking(self._write_fd, False)

    def set(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full, so it is readable
            os.write(self._write_fd, (1).to_bytes(8, sys.byteorder))

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self.fd, 512)) == 512:
                pass

    def renew(self) -> None:
        """Have another file under the same numbers, apart from the one that a parent process may share."""
        other = type(self)()
        for new, old in {(other.fd, self.fd), (other._write_fd, self._write_fd)}:
            os.dup2(new, old, inheritable=False)

    def close(self) -> None:
        for fd in {self.fd, self._write_fd} - {-1}:
            os.close(fd)
        self.fd = self._write_fd = -1

    __del__ = close


class _Waiter:
    """One wait in progress: on poll and select, its wake-up and the version of the set that it has copied."""

    def __init__(self, wake_up: WakeUp) -> None:
        self.wake_up = wake_up
        self.version = 0
        self.woken = False
        self.thread = threading.get_ident()
        #: How many events it has found, and whether a wake-up has ended it; None until it has come to an end.
        self.answer: tuple[int, bool] | None = None


class StdlibPoller(BasePoller):
    """The Poller on the standard library alone: same signature, same behaviour, no compiled code.

    It differs where the standard library cannot do better: timeouts of epoll and poll are rounded up to
    milliseconds; the mechanism "select" takes descriptors below 1024 only (ValueError); and an epoll set that still
    holds a file which was closed while a dup lives on reports it under its old number, also if that has a new
    owner.
    """

    mechanisms: tuple[str, ...] = tuple(name for name in ("epoll", "poll", "select") if hasattr(select, name))

    def __init__(self, mechanism: str | None = None, *, capacity: int = 1024, fork: str = "rebuild") -> None:
        super().__init__(mechanism, capacity=capacity, fork=fork)
        self._local = threading.local()
        # All that follows is guarded by self._lock.
        # Those inside. Weak: an exception of a signal handler may come at any step, also when one is about to leave.
        self._entered: list[weakref.ref[_Waiter]] = []
        self._spares: list[WakeUp] = []  # for waiters to come
        self._version = 0  # counts changes of the set
        self._wake_pending = False  # a wake-up that found nobody waiting
        self._cursor = 0  # where a result that did not fit was cut off
        self._inherited = False  # the epoll set is a parent's, and not to be touched
        self._fired: set[int] = set()  # one-shot registrations that had fired before the set was ours
        self._counts = dict.fromkeys(Stats._fields, 0)
        self._epoll = select.epoll() if self.mechanism == "epoll" else None
        self._wake_up: Any = None  # of all waits by epoll
        if self._epoll is None:
            self._spares.append(WakeUp())
        else:
            self._wake_up = WakeUp()
            self._epoll.register(self._wake_up.fd, select.EPOLLIN | select.EPOLLET)

    def __del__(self) -> None:
        if hasattr(self, "_wake_up"):  # not if __init__ failed early
            self.close()

    # Registrations

    def _own_epoll(self) -> Any:
        """The epoll set, to change it; None on poll and select."""
        self._part()
        self._counts["control_calls"] += self._epoll is not None
        return self._epoll

    def _watch(self, key: SelectorKey) -> None:
        fd = key.fd
        if epoll := self._own_epoll():
            try:
                try:
                    epoll.register(fd, key.events)
                except FileExistsError:  # was closed while a dup lived on, and is back under its old number
                    epoll.unregister(fd)
                    epoll.register(fd, key.events)
            except OSError as error:
                raise refuse_file(error) from None
            return
        os.fstat(fd)  # EBADF here rather than later
        if self.mechanism == "select" and fd >= _FD_SETSIZE:
            raise ValueError(f"descriptor {fd} is too high: select.select takes those below {_FD_SETSIZE}")
        self._changed()

    def _rewatch(self, old: SelectorKey, new: SelectorKey) -> None:
        if self._epoll is None:
            self._changed()
        elif new.events == old.events and not new.events & (EDGE | ONESHOT):
            self._avoided += 1
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
                    except OSError:  # neither is watched any more
                        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
                    raise
            else:
                epoll.modify(new.fd, new.events)

    def _unwatch(self, fd: int) -> None:
        self._fired.discard(fd)
        if epoll := self._own_epoll():
            with contextlib.suppress(OSError):  # closed before
                epoll.unregister(fd)
        else:
            self._changed()

    def _changed(self) -> None:
        """Have all waiters on poll and select copy the set again."""
        self._version += 1
        for waiter in self._waiters():
            waiter.wake_up.set()

    # Waiting

    def _waiters(self) -> list[_Waiter]:
        """The waits in progress; with the lock held."""
        return [waiter for entered in self._entered if (waiter := entered()) is not None]

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> Events:
        ns = nanoseconds(timeout)
        limit = check_maxevents(maxevents)
        limit = self.capacity if limit == -1 else min(limit, self.capacity)
        deadline = None if ns < 0 else monotonic_ns() + ns
        waiter = self._enter()
        try:
            while True:
                left = None if deadline is None else min(max(deadline - monotonic_ns(), 0) / 1e9, _LONGEST)
                answer = self._ask(waiter, left, limit)
                if self.closed:
                    closed()
                if answer is not None:
                    events, woken = answer
                    if events or woken or (deadline is not None and monotonic_ns() >= deadline):
                        waiter.answer = len(events), woken
                        return events
                with self._lock:
                    self._counts["interruptions"] += 1
        finally:
            self._leave(waiter)

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        ns = nanoseconds(timeout)
        deadline = monotonic_ns() + ns
        while True:
            found = self.poll(None if ns < 0 else max(deadline - monotonic_ns(), 0) / 1e9)
            with self._lock:
                if self.closed:
                    closed()
                pairs = [(self._keys[fd], events) for fd, events in found if fd in self._keys]
            if pairs or not found:  # else another thread has unregistered all that was reported
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
        return memoryview(self._columns(0)[0]).toreadonly()

    @property
    def events(self) -> memoryview:
        return memoryview(self._columns(0)[1]).toreadonly()

    def _columns(self, rows: int) -> tuple[Any, Any]:
        """This thread's two columns for the results of wait(), with at least so many rows."""
        local = self._local
        if not hasattr(local, "fds") or len(local.fds) < rows:
            size = max(rows, self.capacity)
            local.fds, local.events = array("i", bytes(4 * size)), array("I", bytes(4 * size))
        return local.fds, local.events

    def _enter(self) -> _Waiter:
        with self._lock:
            if self.closed:
                closed()
            self._part()
            if self._epoll is not None:
                waiter = _Waiter(self._wake_up)
            else:
                try:
                    wake_up = self._spares.pop()
                except IndexError:
                    wake_up = WakeUp()
                waiter = _Waiter(wake_up)
            self._entered.append(weakref.ref(waiter))
            return waiter

    def _leave(self, waiter: _Waiter) -> None:
        with self._lock:
            others = [other for other in self._waiters() if other is not waiter]
            self._entered = [weakref.ref(other) for other in others]
            if waiter.answer is not None:
                self._counts["waits"] += 1
                self._counts["events"] += waiter.answer[0]
                self._counts["wakeups"] += waiter.answer[1]
            if self._epoll is None:
                self._spares.append(waiter.wake_up)
            if self.closed:
                if not others:
                    self._release()
                elif self._epoll is not None:
                    self._wake_up.set()  # one edge wakes one waiter: pass it on

    def _ask(self, waiter: _Waiter, timeout: float | None, limit: int) -> tuple[Events, bool] | None:
        """Ask the kernel once. Return what is ready among what is registered, and whether this was a wake-up.

        None means that the set was changed meanwhile: the answer may be about what is not registered any more.
        """
        if self._epoll is not None:
            found = self._epoll.poll(timeout, limit)
            with self._lock:
                current = [(fd, events) for fd, events in found if fd in self._keys]
                woken = any(fd == self._wake_up.fd for fd, _ in found)
                self._counts["stale_events"] += len(found) - len(current) - woken
                return current, woken
        with self._lock:
            if self.closed:  # by a signal handler, before this waiter was on the list
                closed()
            woken = self._wake_pending
            self._wake_pending = waiter.woken = False
            waiter.version = self._version
            # A copy in one step: a signal handler may change what is registered.
            interest = {waiter.wake_up.fd: READ} | {fd: key.events for fd, key in list(self._keys.items())}
        found = (_ask_poll if self.mechanism == "poll" else _ask_select)(interest, 0 if woken else timeout)
        with self._lock:
            if any(fd == waiter.wake_up.fd for fd, _ in found):
                waiter.wake_up.clear()
            woken |= waiter.woken
            if waiter.version != self._version:
                self._wake_pending |= woken  # for who asks next, and then reports what is ready
                return None
            return self._cut([pair for pair in found if pair[0] != waiter.wake_up.fd], limit), woken

    def _cut(self, found: Events, limit: int) -> Events:
        """Return at most limit of the events; the next call begins after those, so that nobody starves."""
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
            self._part()
            if self._epoll is not None:
                self._wake_up.set()
                return
            waiters = self._waiters()
            if any(waiter.woken for waiter in waiters):
                return  # it has not answered the last one yet: the same
            if waiters:
                waiters[0].woken = True
                waiters[0].wake_up.set()
            else:
                self._wake_pending = True

    def fileno(self) -> int:
        if self.closed:
            closed()
        if self._epoll is None:
            raise no_fileno(self.mechanism)
        with self._lock:
            self._part()
        fd: int = self._epoll.fileno()
        return fd

    # Forks

    def _after_fork(self) -> None:
        super()._after_fork()
        own = [waiter for waiter in self._waiters() if waiter.thread == threading.get_ident()]
        self._entered = [weakref.ref(waiter) for waiter in own]
        self._wake_pending = False
        if self._epoll is None:
            self._spares = []  # they are the parent's, too
        elif self._fork == "rebuild":
            self._inherited = not self.closed

    def _part(self) -> None:
        """In a child: have an epoll set and a wake-up of our own under the old numbers; with the lock held.

        Watched is what the parent's set watches, as far as a number still stands for the same file.
        """
        if not self._inherited:
            return
        inherited: Any = self._epoll
        try:
            rows = watched(inherited.fileno())
        except FileNotFoundError:  # no /proc
            rows = [Watched(fd, key.events, fd, None) for fd, key in self._keys.items()]
        with select.epoll() as epoll:
            for row in rows:
                if row.fd not in self._keys or not is_current(row):
                    continue
                if has_fired(row):
                    self._fired.add(row.fd)
                else:
                    epoll.register(row.fd, self._keys[row.fd].events)
            self._wake_up.renew()
            epoll.register(self._wake_up.fd, select.EPOLLIN | select.EPOLLET)
            os.dup2(epoll.fileno(), inherited.fileno(), inheritable=False)
        self._inherited = False
        self._counts["renewals"] += 1

    # Inspection

    def stats(self) -> Stats:
        with self._lock:
            counts = self._counts | {"control_calls_avoided": self._avoided, "growths": self._growths}
            return Stats(**counts)

    def _watched(self) -> list[Watched]:
        return [row for row in watched(self.fileno()) if row.fd != self._wake_up.fd]

    # End of life

    def _close(self) -> None:
        waiters = self._waiters()
        for waiter in waiters:
            waiter.wake_up.set()
        if not waiters:
            self._release()

    def _release(self) -> None:
        if self._epoll is not None:
            self._epoll.close()
            if self._wake_up is not None:
                self._wake_up.close()
        while self._spares:
            self._spares.pop().close()


def _ask_poll(interest: dict[int, int], timeout: float | None) -> Events:
    poll = select.poll()
    for fd, events in interest.items():
        poll.register(fd, events)
    found: Events = poll.poll(None if timeout is None else math.ceil(timeout * 1000))
    return found


def _ask_select(interest: dict[int, int], timeout: float | None) -> Events:
    reads, writes, urgent = ([fd for fd in interest if interest[fd] & bit] for bit in (READ, WRITE, PRIORITY))
    found: dict[int, int] = {}
    for fds, bit in zip(select.select(reads, writes, urgent, timeout), (READ, WRITE, PRIORITY)):
        for fd in fds:
            found[fd] = found.get(fd, 0) | bit
    return list(found.items())
