"""What Poller and the mirrors of epoll have in common: which ready array a wait uses, what happens when a wait does
not go straight through, and how results are built.

How a result is built. The core reports each event as an index, a small number made of the descriptor and the kind
of event. A table holds ready-made pairs at these indices, so an event costs one list look-up and no tuple:
``fd_pairs`` here holds ``(fd, events)``, and whoever reports keys has a table of ``(key, events)`` of its own. Events
with ERROR, HANGUP and the like have no index; the core reports one that no table has, and the IndexError leads to a
slower way that reads the columns.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable, Collection
from time import monotonic_ns
from types import SimpleNamespace
from typing import Any

from . import _core
from ._checks import READ, WRITE
from ._core import FEW, NoReady, Ready

BOTH = READ | WRITE
#: What the codes in an index stand for.
CODES = (0, READ, WRITE, BOTH)

#: (fd, events) at fd * 4 + 1, 2 and 3 for READ, WRITE and both. What is true of a pair here is true for ever, so
#: entries are never removed, and there are no gaps.
fd_pairs: list[Any] = []
#: Re-entrant, because a signal handler may register something while it is held.
_cover_lock = threading.RLock()


def cover(fds: Collection[int]) -> None:
    """Have fd_pairs reach as far as descriptors that were reported, so that they are found the next time.

    Not if a number stands alone, far above all others: a table up to it would be large for nothing. And since four
    entries take as much memory as a registration, there are none for what is registered but not reported in this way.
    """
    if max(fds, default=0) << 2 < len(fd_pairs):
        return
    with _cover_lock:
        for fd in sorted(fds):
            known = len(fd_pairs) >> 2
            if fd < 4 * known + 16384:
                # In one piece: if memory does not suffice, or a signal handler has been here, there is no half of it.
                more: list[Any] = []
                for new in range(known, (fd | 63) + 1):
                    more += (None, (new, READ), (new, WRITE), (new, BOTH))
                fd_pairs[4 * known :] = more


def reach(table: list[Any], index: int) -> None:
    """Have a table of key pairs reach as far as four entries from index."""
    # A number that is not in use is refused here already: the highest would make a table of gigabytes.
    os.fstat(index >> 2)
    table.extend([None] * (index + 4 - len(table)))


#: Tables of what was closed, with nothing in them. Many a selector is made for one question, and to make a table takes
#: time by the highest number in it: the next selector gets one of these.
_spare_tables: list[list[Any]] = []
_MOST_SPARES = 8
#: What is longer would hold too much memory, and many rows take long to clear.
_WORTH_KEEPING = range(256, 1 << 16)
_FEW_ROWS = 16


#: The row of a descriptor that is no key.
NOTHING = (None, None, None, None)


def new_table(length: int) -> list[Any]:
    """A table of key pairs with nothing in it, at least so long."""
    try:
        return _spare_tables.pop()
    except IndexError:
        return [None] * length


def end_table(owner: Any, fds: Collection[int]) -> None:
    """Take the table from what needs it no more, and keep it for others if nobody is reading it. fds are its rows."""
    owner._removal = object()  # for those who look into the table that was there
    table, references = _taken(owner)
    if references == _ALONE and len(table) in _WORTH_KEEPING and len(fds) <= _FEW_ROWS:
        for fd in fds:
            index = fd << 2
            if index < len(table):
                table[index : index + 4] = NOTHING
        if len(_spare_tables) < _MOST_SPARES:
            _spare_tables.append(table)


def _taken(owner: Any) -> tuple[list[Any], int]:
    table = owner._pairs
    owner._pairs = []
    return table, sys.getrefcount(table)


#: How many references there are to a table that only its owner had. Without the GIL they are not all counted.
_ALONE = _taken(SimpleNamespace(_pairs=[]))[1] if getattr(sys, "_is_gil_enabled", lambda: True)() else -1


def look_up(table: list[Any], indices: memoryview) -> list[Any]:
    """The entries of a table at these indices."""
    # Its own function, because a comprehension in poll() would make every call of poll() pay for a closure.
    return [table[i] for i in indices]


def pairs_of(area: Any, n: int) -> list[tuple[int, int]]:
    """Build the list of pairs that a wait which found something has left in an array, and give that back."""
    if n < _core.ROWS:
        cover([n >> 2])
        return [(n >> 2, CODES[n & 3])]
    n -= _core.ROWS
    first = area.first or area.views()
    try:
        if n < FEW:
            pairs = fd_pairs
            result = []
            for i in first[n]:
                result.append(pairs[i])
        else:
            result = look_up(fd_pairs, area.indices[:n])
    except IndexError:
        result = list(zip(area.fds[:n], area.events[:n]))
        cover(area.fds[:n])
    area.memory[0] = 0
    return result


def left(timeout: float | None, deadline: int | None) -> float | None:
    """What is left of a timeout; deadline is None if no time has passed."""
    return max(deadline - monotonic_ns(), 0) / 1e9 if timeout is not None and deadline is not None else timeout


class Waiting:
    """Something that waits with a mux: a mixin that picks the ready array and deals with refusals and signals."""

    __slots__ = ("_capacity", "_local", "_mux", "_ready", "_refusals")

    def _start(self, mux: Any, capacity: int) -> None:
        # No lock guards these. Each is read and replaced as a whole, and whoever comes second with a replacement, or
        # has read what was there before, has an array that is as good: the core lets one in, and refuses the others.
        self._mux = mux  # constant
        self._capacity = capacity  # of new arrays
        # Arrays are made when they are needed: first, the one that every wait tries first. Its memory[0] is the core's
        # to set, and the reader's to clear.
        self._ready: Any = NoReady
        self._refusals = 0  # about how often it was in use
        # Those of other threads: .spare and .front.
        self._local: Any = None

    def _fail(self, result: int) -> Any:
        """Raise what a negative result of the core stands for."""
        raise NotImplementedError

    def _wait_for(
        self, ns: int, limit: int = -1, ready: Any = None, instead: Callable[[Any], Any] | None = None
    ) -> tuple[Any, int, int]:
        """Wait with everything that can happen, for ns nanoseconds (-1: for ever) and limit events (-1: all).

        instead takes an array that is in use and returns another. Return the array that was used, what the core
        returned, and the deadline.
        """
        ready = ready or self._ready
        instead = instead or self._free_array
        deadline = monotonic_ns() + ns
        while True:
            n = _core.wait(ready.handle, ns, ready.capacity if limit == -1 else min(limit, ready.capacity))
            if n >= 0:
                return ready, n, deadline
            if n == -errno.EBUSY:
                ready = instead(ready)
            elif n != -errno.EINTR:
                self._fail(n)
            if ns > 0:
                ns = max(deadline - monotonic_ns(), 0)

    def _free_array(self, busy: Any) -> Any:
        """Return a shared array that nobody uses, after ``busy`` turned out to be in use.

        Whoever comes first uses self._ready. Others (a second thread, or a signal handler that interrupts the
        reading of a result) get an array of their thread.
        """
        if busy is self._ready:
            # An exception from a signal handler can keep a reader from giving its array back. That costs time,
            # not results; so now and then begin with a new one.
            self._refusals += 1
            if self._refusals % 1000 == 0:
                self._ready = NoReady
        if (ready := self._ready) is NoReady:
            ready = self._ready = self._new_array(self._capacity)
            return ready
        spare = getattr(self._local, "spare", None)
        if spare is None or spare is busy or spare.capacity != self._capacity:
            spare = self._thread_local().spare = self._new_array(self._capacity)
        return spare

    def _new_array(self, capacity: int, *, shared: bool = True) -> Ready:
        return Ready(self._mux, capacity, shared, self._fail)

    def _thread_local(self) -> Any:
        if self._local is None:
            self._local = threading.local()
        return self._local

    def _enlarge(self, capacity: int) -> None:
        """Have larger arrays from now on. Those who are waiting keep what they have."""
        self._capacity = capacity
        self._ready = NoReady
