"""Poller on the C core.

The three ways to wait are one flat function each, because every call and every attribute counts there. The rare
cases (a deadline, a signal, an array that another thread is using, an event without an index) leave them for the
methods below.
"""

from __future__ import annotations

import errno
import threading
from selectors import SelectorKey
from typing import TYPE_CHECKING, Any

from . import _core
from ._arguments import LONGEST
from ._base import BasePoller
from ._checks import READ, WRITE, check_maxevents, closed, nanoseconds, no_fileno
from ._inspection import Stats, Watched, watched
from ._stdlib import StdlibPoller

if TYPE_CHECKING or _core.implementation == "c":
    from ._core import (
        FDS,
        FEW,
        ROWS,
        NoReady,
        add,
        close,
        fail,
        fileno,
        modify,
        remove,
        wait_forever,
        wait_now,
        wait_try,
        wakeup,
    )
    from ._waiting import BOTH, CODES, Waiting, cover, end_table, fd_pairs, left, look_up, new_table, reach

    class Poller(BasePoller, Waiting):
        """Waits on many file descriptors at once: epoll, poll or select through a C core.

        mechanism is "epoll", "poll", "select" or None for the best there is. capacity is how many events one
        wait can report; it grows with the number of registrations.

        fork says what becomes of it in a child process after os.fork(). "rebuild": the child has the same
        registrations, in a set of its own that is made at its first use. "share": one epoll set and one wake-up for
        both, as the kernel leaves it; what one of the two removes is removed for the other. "close": it is closed in
        the child. "raise": all that the child does with it is a RuntimeError.

        All methods may be called from any thread, and several threads may wait at once.
        """

        # What is used in every wait: found sooner than in a dict.
        __slots__ = ("_front", "_pairs", "_removal")

        mechanisms: tuple[str, ...] = tuple(_core.MECHANISMS)

        def __init__(self, mechanism: str | None = None, *, capacity: int = 1024, fork: str = "rebuild") -> None:
            BasePoller.__init__(self, mechanism, capacity=capacity, fork=fork)
            self._start(_core.open_mux(_core.MECHANISMS[self.mechanism], shared=fork == "share"), self.capacity)
            # The array that wait() tries first; it belongs to the first thread that called wait(), which alone replaces
            # it. Given away under self._lock.
            self._front: Any = NoReady
            # What select() reports, by the index from the core. Written under self._lock, read without: see below.
            self._pairs: list[Any] = new_table(0)
            # Another object each time that something is taken out of _pairs, for those who are reading it. Not a
            # count: adding one takes several steps, and between them another thread may add one, too.
            self._removal = object()

        # Waiting

        def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
            ready = self._ready
            if timeout == 0 and maxevents == -1:
                n = wait_now(ready.handle)
            elif timeout is None and maxevents == -1:
                n = wait_forever(ready.handle)
            elif (timeout.__class__ is float or timeout.__class__ is int) and 0 < timeout < LONGEST and maxevents == -1:
                n = wait_try(ready.handle)
            else:
                n = -1
            if n == 0:
                return []
            deadline = None
            if n < 0:
                ready, n, deadline = self._wait(timeout, maxevents)
                if n == 0:
                    return []
            if n < ROWS:
                try:
                    return [fd_pairs[n]]
                except IndexError:
                    cover([n >> 2])
                    return [(n >> 2, CODES[n & 3])]
            n -= ROWS
            pairs = fd_pairs
            first = ready.first or ready.views()
            try:
                if n < FEW:
                    result = []
                    for i in first[n]:
                        result.append(pairs[i])
                else:
                    result = look_up(pairs, ready.indices[:n])
            except IndexError:
                result = [(key.fd, events) for key, events in self._exact(ready, n)]
                cover([fd for fd, _ in result])
            ready.memory[0] = 0
            if not result and timeout != 0:
                # Another thread has unregistered all that was reported.
                return self.poll(left(timeout, deadline), maxevents)
            return result

        def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
            result: list[Any]
            ready = self._ready
            removal = self._removal
            if timeout == 0:
                n = wait_now(ready.handle)
            elif timeout is None:
                n = wait_forever(ready.handle)
            elif (timeout.__class__ is float or timeout.__class__ is int) and 0 < timeout < LONGEST:
                n = wait_try(ready.handle)
            else:
                n = -1
            if n == 0:
                return []
            deadline = None
            if n < 0:
                ready, n, deadline = self._wait(timeout)
                if n == 0:
                    return []
            pairs = self._pairs
            if n < ROWS:
                try:
                    pair = pairs[n]
                except IndexError:
                    closed()  # by another thread, meanwhile
                if pair is not None:
                    return [pair]
                result = []
            else:
                n -= ROWS
                first = ready.first or ready.views()
                try:
                    if n < FEW:
                        result = []
                        for i in first[n]:
                            result.append(pairs[i])
                    else:
                        result = look_up(pairs, ready.indices[:n])
                except IndexError:
                    result = self._exact(ready, n)
                ready.memory[0] = 0
            if self._removal is not removal:
                # Another thread has unregistered something meanwhile, or everything.
                if self.closed:
                    closed()
                result = [pair for pair in result if pair is not None]
                if not result and timeout != 0:
                    return self.select(left(timeout, deadline))
            return result

        def wait(self, timeout: float | None = None) -> int:
            front = self._front
            if front.capacity != self._capacity:
                front = self._own_front()
            if timeout == 0:
                n: int = wait_now(front.handle)
            elif timeout is None:
                n = wait_forever(front.handle)
            elif (timeout.__class__ is float or timeout.__class__ is int) and 0 < timeout < LONGEST:
                n = wait_try(front.handle)
            else:
                n = -1
            return n if n >= 0 else self._wait(timeout, -1, front)[1]

        def _wait(self, timeout: float | None, maxevents: int = -1, front: Any = None) -> tuple[Any, int, int]:
            """Wait with everything that can happen; see _wait_for."""
            ns, limit = nanoseconds(timeout), check_maxevents(maxevents)
            return self._wait_for(ns, limit, front, self._own_front if front else None)

        def _fail(self, result: int) -> Any:
            fail(result)

        def _grow(self) -> None:
            self._enlarge(self.capacity)

        # Ready arrays

        def _own_front(self, busy: Any = None) -> Any:
            """Return this thread's array for wait(), made anew if it is missing or too small."""
            with self._lock:
                if self._front is NoReady or (self._is_mine(self._front) and self._front.capacity < self.capacity):
                    self._front = self._new_array(self.capacity, shared=False)
                if self._is_mine(self._front):
                    return self._front
                front = getattr(self._local, "front", None)
                if front is None or front.capacity < self.capacity:
                    front = self._thread_local().front = self._new_array(self.capacity, shared=False)
                return front

        @staticmethod
        def _is_mine(front: Any) -> bool:
            return bool(front.thread == threading.get_ident())

        def _last_front(self) -> Any:
            """The array that this thread's last wait() has filled."""
            front = self._front
            if not self._is_mine(front):
                front = getattr(self._local, "front", None) or self._own_front()
            if front.first is None:
                front.views()
            return front

        @property
        def fds(self) -> memoryview:
            return self._last_front().fds  # type: ignore[no-any-return]

        @property
        def events(self) -> memoryview:
            return self._last_front().events  # type: ignore[no-any-return]

        # Results

        # Pairs are in the table before the core is told what to report. They are taken out after the core was told, and
        # in this order: first another _removal, then the entries. So whoever finds an entry gone began to wait before
        # that, and finds that _removal has changed.

        def _keep_results(self, key: SelectorKey) -> None:
            """Make the pairs that can be looked up for a key; see FMUX_ROWS in fastmux.h."""
            fd, asked = key.fd, key.events & BOTH
            if fd >= FDS:
                return
            index = fd << 2
            pairs = self._pairs
            if index >= len(pairs):
                reach(pairs, index)
            if asked & READ:
                pairs[index + 1] = (key, READ)
            if asked & WRITE:
                pairs[index + 2] = (key, WRITE)
            if asked == BOTH:
                pairs[index + 3] = (key, BOTH)

        def _drop_results(self, fd: int, kept: int = 0) -> None:
            """Take out the pairs of a descriptor, but those for the events that are kept."""
            self._removal = object()
            pairs = self._pairs
            index = fd << 2
            if index < len(pairs):  # else it was refused before it had any
                if not kept & READ:
                    pairs[index + 1] = None
                if not kept & WRITE:
                    pairs[index + 2] = None
                if kept & BOTH != BOTH:
                    pairs[index + 3] = None

        def _exact(self, ready: Any, n: int) -> list[Any]:
            """Return the n rows of an array as ``(key, events)``, without those unregistered by another thread."""
            with self._lock:
                if self.closed:
                    ready.memory[0] = 0
                    closed()
                keys = self._keys
                return [(keys[fd], events) for fd, events in zip(ready.fds[:n], ready.events[:n]) if fd in keys]

        # What BasePoller asks for

        def _watch(self, key: SelectorKey) -> None:
            self._keep_results(key)
            if (result := add(self._mux, key.fd, key.events)) < 0:
                fail(result)

        def _rewatch(self, old: SelectorKey, new: SelectorKey) -> None:
            self._keep_results(new)
            if (result := modify(self._mux, new.fd, new.events)) < 0:
                self._keep_results(old)
                self._drop_results(old.fd, old.events)
                fail(result)
            if old.events & ~new.events & BOTH:
                self._drop_results(new.fd, new.events)

        def _unwatch(self, fd: int) -> None:
            remove(self._mux, fd)
            self._drop_results(fd)

        def wakeup(self) -> None:
            if (result := wakeup(self._mux)) < 0:
                fail(result)

        def fileno(self) -> int:
            fd: int = fileno(self._mux)
            if fd == -errno.EOPNOTSUPP:
                raise no_fileno(self.mechanism)
            if fd < 0:
                fail(fd)
            return fd

        def stats(self) -> Stats:
            with self._lock:
                return Stats._make((*_core.stats(self._mux, self._avoided), self._growths))

        def _watched(self) -> list[Watched]:
            return [row for row in watched(self.fileno()) if row.data != 0]  # 0 is the wake-up

        def _after_fork(self) -> None:
            super()._after_fork()
            # A thread of the parent may have been reading what is in the array. All else is done by the core.
            self._ready = NoReady

        def _close(self) -> None:
            close(self._mux)
            end_table(self, self._keys)
            self._ready = NoReady

else:
    Poller = StdlibPoller
