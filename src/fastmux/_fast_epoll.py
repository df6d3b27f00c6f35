"""EpollSelector on the core: select() as one flat function."""

from __future__ import annotations

import math
from selectors import SelectorKey
from typing import Any

from . import _core
from ._arguments import LONGEST, NOW
from ._checks import READ
from ._core import EPOLL, FEW, ROWS, add, modify, remove, wait_forever, wait_now, wait_try
from ._epoll import epoll
from ._extended import PlainEpoll, mask_of
from ._fast import Fast


class EpollSet(epoll):
    """An epoll set with a table around it, which knows stale reports and can be woken up."""

    __slots__ = ()

    _mechanism = EPOLL
    _room = 64  # for a start

    def modify(self, fd: Any, eventmask: int) -> None:
        # Where the mask stays the same the core makes no call, and would not notice that the file is gone.
        super().modify(fd, eventmask ^ READ)
        super().modify(fd, eventmask)


class FastEpoll(Fast, PlainEpoll):
    """For EpollSelector."""

    def _take_over(self, selector: Any) -> bool:
        self._mux = getattr(selector, "_mux", None)
        self._add, self._change, self._remove = add, modify, remove
        ours = selector.__class__ is EpollSet
        if ours and self._fork == "rebuild":
            _core.set_shared(self._mux, False)  # the core does it
        return ours

    def _after_fork(self) -> None:
        if self._mux is None:
            super()._after_fork()

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait for timeout seconds (None: for ever), and return ``(key, events)`` for everything that is ready."""
        removal = self._removal
        try:
            ready = self._selector._ready
        except AttributeError:
            return super().select(timeout)
        if timeout is NOW:
            n = wait_now(ready.handle)
        elif timeout is None:
            n = wait_forever(ready.handle)
        elif (timeout.__class__ is float or timeout.__class__ is int) and -LONGEST < timeout < LONGEST:
            n = wait_try(ready.handle) if timeout > 0 else wait_now(ready.handle)
        else:
            n = -1
        if n == 0:
            return []
        if n < 0:
            ready, n, _ = self._selector._wait_for(self._nanoseconds(timeout))
            if n == 0:
                return []
        if n < ROWS:
            try:
                if pair := self._pairs[n]:
                    return [pair]
            except IndexError:
                pass
        if n >= ROWS + FEW or n < ROWS:
            if n == ROWS + ready.capacity:
                return self._more_results(ready, n, removal)
            return self._results(ready, n, removal)
        # Few, as in _results: this is the commonest case, and the call would be a tenth of it.
        try:
            pairs = self._pairs
            result = []
            for i in (ready.first or ready.views())[n - ROWS]:
                result.append(pairs[i])
            if self._removal is removal:
                ready.memory[0] = 0
                return result
        except IndexError:
            pass
        return self._results(ready, n, removal)

    def _more_results(self, ready: Any, n: int, removal: object) -> list[tuple[SelectorKey, int]]:
        """Build the result of a wait that has filled its array: there may be more than that."""
        result = self._results(ready, n, removal)
        if len(self._fd_to_key) > ready.capacity:
            self._selector._enlarge(2 * len(self._fd_to_key))
            both = {key.fd: (key, events) for key, events in result}
            for key, events in FastEpoll.select(self, 0):
                _, before = both.get(key.fd, (key, 0))  # edges are not reported twice
                both[key.fd] = key, before | events
            result = list(both.values())
        return result

    def wakeup(self) -> None:
        if self._mux is None:
            super().wakeup()
        elif (result := _core.wakeup(self._mux)) < 0:
            self._selector._fail(result)

    def _rewatch(self, key: SelectorKey) -> None:
        if (result := modify(self._mux, key.fd, mask_of(key.events))) < 0:
            raise _core.os_error(result)

    def _nanoseconds_standard(self, timeout: float) -> int:
        ns: int = self._selector._limits(math.ceil(timeout * 1e3) * 1e-3)[0]
        return ns
