"""PollSelector on the core: select() as one flat function."""

from __future__ import annotations

import math
from selectors import SelectorKey
from typing import Any

from ._arguments import LONGEST, NOW
from ._core import ROWS, poll_once_now
from ._extended import PlainPoll
from ._fast import Fast
from ._poll import PollSet, nanoseconds_of


class FastPoll(Fast, PlainPoll):
    """For PollSelector."""

    def _take_over(self, selector: Any) -> bool:
        self._mux = selector
        self._add, self._change, self._remove = PollSet._add, PollSet._change, PollSet._remove
        return selector.__class__ is PollSet

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait for timeout seconds (None: for ever), and return ``(key, events)`` for everything that is ready."""
        removal = self._removal
        try:
            poll: PollSet = self._selector
            area: Any = poll._quick
        except AttributeError:
            return super().select(timeout)
        n = -1
        if area is not None and (
            timeout is NOW
            or (
                area.few
                and (
                    timeout is None
                    or ((timeout.__class__ is float or timeout.__class__ is int) and -LONGEST < timeout < LONGEST)
                )
            )
        ):
            n = poll_once_now(area.handle)
        if n > 0 or (n == 0 and timeout is not None and timeout <= 0):
            self._woken = False
            if n == 0:
                return []
        else:
            ns = self._nanoseconds(timeout)
            if poll._asked == 0:
                found = poll._ask_standard(0)
                if found or ns == 0:
                    self._woken = False
                    return self._keys_of(found)
            if ns == 0:
                self._woken = False
            reported = self._wait(ns, poll._ask) if ns else poll._ask(0)
            if reported is None:
                return []
            area, n = reported
        if n < ROWS:
            try:
                if pair := self._pairs[n]:
                    return [pair]
            except IndexError:
                pass
        return self._results(area, n, removal)

    def _nanoseconds_standard(self, timeout: float) -> int:
        return nanoseconds_of(math.ceil(timeout * 1e3))
