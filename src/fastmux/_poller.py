"""Poller on the C core.

The three ways to wait are one flat function each, because every call and every attribute counts there. The rare
cases (a deadline, a signal, an array that another thread is using, an event without an index) leave them for the
methods below.

How a result is built. The core reports each event as an index, a small number made of the descriptor and the kind
of event. Two tables hold ready-made pairs at these indices: ``(fd, events)``, the same for all pollers, and
``(key, events)``, one table per poller. They are filled at registration, so an event costs one list look-up and no
tuple. Events with ERROR, HANGUP and the like have no index; the core reports one that no table has, and the
IndexError leads to ``_exact``.
"""

from __future__ import annotations

import errno
import os
import threading
from selectors import SelectorKey
from time import monotonic_ns
from typing import Any

from . import _core
from ._base import READ, WRITE, BasePoller, check_maxevents, closed, nanoseconds, no_fileno
from ._stdlib import StdlibPoller

# What is true of a pair here is true for ever, so it is never removed. Entries are replaced by equal ones,
# and list operations are atomic: no lock is needed.
_fd_pairs: list[Any] = []

BOTH = READ | WRITE


def _look_up(table: list[Any], indices: memoryview) -> list[Any]:
    # Its own function, because a comprehension in poll() would make every call of poll() pay for a closure.
    return [table[i] for i in indices]


def _left(deadline: int) -> float:
    """What is left of the time until a deadline, in the form of a timeout."""
    return max(deadline - monotonic_ns(), 0) / 1e9


def _reach(table: list[Any], index: int) -> None:
    """Have a table reach as far as four entries from index."""
    # A number that is not in use is refused here already: the highest would make a table of gigabytes.
    os.fstat(index >> 2)
    table.extend([None] * (index + 4 - len(table)))


if _core.implementation == "c":
    from ._core import (
        FDS,
        FEW,
        ROWS,
        NoReady,
        Ready,
        add,
        close,
        fail,
        fileno,
        modify,
        remove,
        wait,
        wait_forever,
        wait_now,
        wakeup,
    )

    class Poller(BasePoller):
        """Waits on many file descriptors at once: epoll, poll or select through a C core.

        mechanism is "epoll", "poll", "select" or None for the best there is. capacity is how many events one
        wait can report; it grows with the number of registrations.

        All methods may be called from any thread, and several threads may wait at once.
        """

        mechanisms = tuple(_core.MECHANISMS)

        def __init__(self, mechanism: str | None = None, *, capacity: int = 1024) -> None:
            super().__init__(mechanism, capacity=capacity)
            self._mux = _core.open_mux(self.mechanism)
            # Arrays are made when they are needed: first, the one that poll() and select() try first.
            self._ready: Any = NoReady
            self._refusals = 0  # how often it was in use
            # The one that wait() tries first; it belongs to the first thread that called wait().
            self._front: Any = NoReady
            # Those of other threads: .spare and .front.
            self._local: Any = None
            self._key_pairs: list[Any] = []
            # Counts what was taken out of _key_pairs, for those who are reading it.
            self._removals = 0

        # Waiting

        def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
            ready = self._ready
            if timeout == 0 and maxevents == -1:
                n = wait_now(ready.handle)
            elif timeout is None and maxevents == -1:
                n = wait_forever(ready.handle)
            else:
                ready, n, deadline = self._wait(timeout, maxevents)
            if n == 0:
                return []
            if n < 0:
                ready, n, deadline = self._wait(timeout)
                if n == 0:
                    return []
            if n < ROWS:
                return [_fd_pairs[n]]
            n -= ROWS
            pairs = _fd_pairs
            try:
                if n < FEW:
                    result = []
                    for i in ready.first[n]:
                        result.append(pairs[i])
                else:
                    result = _look_up(pairs, ready.indices[:n])
            except IndexError:
                result = [(key.fd, events) for key, events in self._exact(ready, n)]
            ready.memory[0] = 0
            if not result and timeout != 0:
                # Another thread has unregistered all that was reported.
                return self.poll(timeout and _left(deadline), maxevents)
            return result

        def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
            result: list[Any]
            ready = self._ready
            removals = self._removals
            if timeout == 0:
                n = wait_now(ready.handle)
            elif timeout is None:
                n = wait_forever(ready.handle)
            else:
                ready, n, deadline = self._wait(timeout)
            if n == 0:
                return []
            if n < 0:
                ready, n, deadline = self._wait(timeout)
                if n == 0:
                    return []
            pairs = self._key_pairs
            if n < ROWS:
                pair = pairs[n]
                if pair is not None:
                    return [pair]
                result = []
            else:
                n -= ROWS
                try:
                    if n < FEW:
                        result = []
                        for i in ready.first[n]:
                            result.append(pairs[i])
                    else:
                        result = _look_up(pairs, ready.indices[:n])
                except IndexError:
                    result = self._exact(ready, n)
                ready.memory[0] = 0
            if self._removals != removals:
                # Another thread has unregistered something meanwhile, or everything.
                if self.closed:
                    closed()
                result = [pair for pair in result if pair is not None]
                if not result and timeout != 0:
                    return self.select(timeout and _left(deadline))
            return result

        def wait(self, timeout: float | None = None) -> int:
            front = self._front
            if front.capacity != self.capacity:
                front = self._own_front()
            if timeout == 0:
                n: int = wait_now(front.handle)
            elif timeout is None:
                n = wait_forever(front.handle)
            else:
                n = self._wait(timeout, -1, front)[1]
            return n if n >= 0 else self._wait(timeout, -1, front)[1]

        def _wait(self, timeout: float | None, maxevents: int = -1, front: Any = None) -> tuple[Any, int, int]:
            """Wait with everything that can happen.

            Return the array that was used, what the core returned, and the deadline.
            """
            ns = nanoseconds(timeout)
            limit = check_maxevents(maxevents)
            deadline = monotonic_ns() + ns
            ready = front or self._ready
            while True:
                n = wait(ready.handle, ns, ready.capacity if limit == -1 else min(limit, ready.capacity))
                if n >= 0:
                    return ready, n, deadline
                if n == -errno.EBUSY:
                    ready = self._own_front() if front else self._free_array(ready)
                elif n != -errno.EINTR:
                    fail(n)
                if ns > 0:
                    ns = max(deadline - monotonic_ns(), 0)

        # Ready arrays

        def _free_array(self, busy: Any) -> Any:
            """Return a shared array that nobody uses, after ``busy`` turned out to be in use.

            Whoever comes first uses self._ready. Others (a second thread, or a signal handler that interrupts
            the reading of a result) get an array of their thread.
            """
            with self._lock:
                if busy is self._ready:
                    # An exception from a signal handler can keep a reader from giving its array back. That costs
                    # time, not results; so now and then begin with a new one.
                    self._refusals += 1
                    if self._refusals % 1000 == 0:
                        self._ready = NoReady
                if self._ready is NoReady:
                    self._ready = Ready(self._mux, self.capacity, shared=True)
                    return self._ready
                spare = getattr(self._local, "spare", None)
                if spare is None or spare is busy or spare.capacity != self.capacity:
                    spare = self._thread_local().spare = Ready(self._mux, self.capacity, shared=True)
                return spare

        def _own_front(self) -> Any:
            """Return this thread's array for wait(), made anew if it is missing or too small."""
            with self._lock:
                if self._front is NoReady or (self._is_mine(self._front) and self._front.capacity < self.capacity):
                    self._front = Ready(self._mux, self.capacity, shared=False)
                if self._is_mine(self._front):
                    return self._front
                front = getattr(self._local, "front", None)
                if front is None or front.capacity < self.capacity:
                    front = self._thread_local().front = Ready(self._mux, self.capacity, shared=False)
                return front

        @staticmethod
        def _is_mine(front: Any) -> bool:
            return bool(front.thread == threading.get_ident())

        def _thread_local(self) -> Any:
            if self._local is None:
                self._local = threading.local()
            return self._local

        def _grow(self) -> None:
            # Those who are waiting keep what they have; the next call makes a larger one.
            self._ready = NoReady

        def _last_front(self) -> Any:
            """The array that this thread's last wait() has filled."""
            front = self._front
            if not self._is_mine(front):
                front = getattr(self._local, "front", None) or self._own_front()
            return front

        @property
        def fds(self) -> memoryview:
            return self._last_front().fds  # type: ignore[no-any-return]

        @property
        def events(self) -> memoryview:
            return self._last_front().events  # type: ignore[no-any-return]

        # Results

        def _keep_results(self, key: SelectorKey) -> None:
            """Make the pairs that can be looked up for a key, and only those; see FMUX_ROWS in fastmux.h."""
            fd, asked = key.fd, key.events & BOTH
            if fd >= FDS:
                return
            index = fd << 2
            if index >= len(_fd_pairs) or _fd_pairs[index + 1] is None:
                _reach(_fd_pairs, index)
                _fd_pairs[index + 1 : index + 4] = (fd, READ), (fd, WRITE), (fd, BOTH)
            pairs = self._key_pairs
            if index >= len(pairs):
                _reach(pairs, index)
            # First the count, then the entries: whoever finds an entry gone must find the count changed.
            self._removals += 1
            pairs[index + 1] = (key, READ) if asked & READ else None
            pairs[index + 2] = (key, WRITE) if asked & WRITE else None
            pairs[index + 3] = (key, BOTH) if asked == BOTH else None

        def _drop_results(self, fd: int) -> None:
            self._removals += 1
            index = fd << 2
            if index < len(self._key_pairs):  # else it was refused before it had any
                self._key_pairs[index + 1 : index + 4] = None, None, None

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
            # The pairs first: another thread may be told of the descriptor at once.
            self._keep_results(key)
            if (result := add(self._mux, key.fd, key.events)) < 0:
                fail(result)

        def _rewatch(self, old: SelectorKey, new: SelectorKey) -> None:
            self._keep_results(new)
            if (result := modify(self._mux, new.fd, new.events)) < 0:
                self._keep_results(old)
                fail(result)

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

        def _close(self) -> None:
            close(self._mux)
            self._removals += 1
            self._key_pairs[:] = [None] * len(self._key_pairs)
            self._ready = NoReady

else:
    Poller = StdlibPoller  # type: ignore[misc, assignment]
