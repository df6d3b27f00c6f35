"""EpollSelector and PollSelector on the core: what is called often, as flat functions.

Results come by look-up: a table holds ``(key, events)`` at the indices that the core reports (see _waiting.py). An
entry is made when it is first needed, and is taken out when its key goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from selectors import SelectorKey
from typing import Any

from . import _core
from ._arguments import LONGEST, NOW
from ._base import READ, new_tuple
from ._core import FEW, MECHANISMS, ROWS, add, modify, poll_once_now, remove, wait_forever, wait_now, wait_try
from ._epoll import epoll
from ._extended import BOTH, MASKS, PlainEpoll, PlainPoll, PollLike, found, mask_of
from ._poll import PollSet, nanoseconds_of
from ._waiting import CODES, look_up


class Fast(PollLike):
    """Results by look-up.

    The table has four entries for each descriptor, at the indices of the core: what is reported for reading, for
    writing, and for both. The first of the four serves modify(): the key that was there before, if it differs in its
    events only. Programs switch to and fro between two, and a key takes longer to make than to find.
    """

    #: The ways to change what is watched, and their first argument; the others are a descriptor and a mask.
    _add: Callable[[Any, int, int], int]
    _change: Callable[[Any, int, int], int]
    _remove: Callable[[Any, int], int]
    _mux: Any

    def __init__(self, *, heal: bool = False) -> None:
        self._pairs: list[Any] = []
        super().__init__(heal=heal)
        if not self._take_over(self._selector):  # a subclass has brought its own
            for name in ("register", "unregister", "modify", "select", "wakeup"):
                setattr(self, name, getattr(super(), name))
        elif heal:
            self.register = super().register  # type: ignore[method-assign]

    def _take_over(self, selector: Any) -> bool:
        """Keep what is needed of this object, unless it is not one of ours."""
        raise NotImplementedError

    def _results(self, area: Any, n: int) -> list[tuple[SelectorKey, int]]:
        """Build the result of a wait that found something, and give its array back."""
        if n < ROWS:
            rows = [(n, n >> 2, CODES[n & 3])]
        else:
            n -= ROWS
            first = area.first or area.views()
            result: list[Any]
            try:
                if n < FEW:
                    pairs = self._pairs
                    result = []
                    for i in first[n]:
                        result.append(pairs[i])
                else:
                    result = look_up(self._pairs, area.indices[:n])
                if all(result):
                    area.memory[0] = 0
                    return result
            except IndexError:
                pass
            rows = list(zip(area.indices[:n], area.fds[:n], area.events[:n]))
            area.memory[0] = 0
        return [pair for row in rows if (pair := self._pair(*row))]

    def _pair(self, index: int, fd: int, mask: int) -> tuple[SelectorKey, int] | None:
        """Return what is reported for a row, and keep it for the next time; None if fd is not registered."""
        keys = self._fd_to_key
        key = keys.get(fd)
        if key is None:
            return None
        pair = (key, found(key, mask))
        if index >> 2 == fd and self._covers(fd):  # reading and writing, and no more
            pairs = self._pairs
            pairs[index] = pair
            if keys.get(fd) is not key:  # another thread has changed it meanwhile
                pairs[index] = None
        return pair

    def _covers(self, fd: int) -> bool:
        """Have the table reach as far as fd, unless that number stands alone, far above all others."""
        missing = (fd << 2) + 4 - len(self._pairs)
        if missing > 4 * 16384:
            return False
        if missing > 0:
            self._pairs.extend([None] * (missing | 255))
        return True

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Watch fileobj (an int or an object with a fileno() method) for events, and return its key."""
        keys = self._fd_to_key
        mask = 0
        try:
            if 0 < events <= BOTH:
                fd = fileobj if fileobj.__class__ is int else fileobj.fileno()
                if fd not in keys:
                    mask = MASKS[events]
        except Exception:
            pass  # the standard selector will say what is wrong, and first of what
        if mask:
            keys[fd] = key = new_tuple(SelectorKey, (fileobj, fd, events, data))
            try:
                if self._add(self._mux, fd, mask) == 0:
                    return key
            except (TypeError, OverflowError):
                pass
            except BaseException:  # KeyboardInterrupt: it may come after the kernel has agreed
                del keys[fd]
                self._remove(self._mux, fd)
                raise
            # There is something wrong: let the standard selector say what.
            del keys[fd]
        return super().register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> SelectorKey:
        """Stop watching fileobj, and return its key. It may have been closed meanwhile."""
        try:
            key = self._fd_to_key.pop(fileobj if fileobj.__class__ is int else fileobj.fileno())
        except (AttributeError, TypeError, ValueError, KeyError):
            key = super().unregister(fileobj)
        else:
            self._remove(self._mux, key[1])
        try:
            index = key[1] << 2
            pairs = self._pairs
            pairs[index] = pairs[index + 1] = pairs[index + 2] = pairs[index + 3] = None
        except IndexError:
            self._covers(key[1])
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Change what a registered file is watched for, and its data; return the new key.

        With ONESHOT this re-arms, even if nothing changes, and with EDGE it asks for what is ready once more.
        """
        keys = self._fd_to_key
        try:
            old = keys[fileobj if fileobj.__class__ is int else fileobj.fileno()]
            file, fd, old_events, old_data = old
            mask = MASKS[events] if 0 < events <= BOTH and old_events <= BOTH else 0
        except (AttributeError, TypeError, ValueError, KeyError):
            mask = 0
        if not mask:
            self._pairs = []
            return super().modify(fileobj, events, data)
        if events != old_events:
            if (result := self._change(self._mux, fd, mask)) < 0:
                self.unregister(fd)
                raise _core.os_error(result)
        else:
            changed = data != old_data
            if not changed:
                return old
        pairs = self._pairs
        index = fd << 2
        try:
            key: SelectorKey = pairs[index]
            if key is None or key[2] != events or key[3] is not data or key[0] is not file:
                key = new_tuple(SelectorKey, (file, fd, events, data))
            # First the key, then the pairs: whoever makes a pair looks whether the key has changed meanwhile.
            keys[fd] = key
            pairs[index] = old if data is old_data else None
            pairs[index + 1] = pairs[index + 2] = pairs[index + 3] = None
        except IndexError:
            keys[fd] = key = new_tuple(SelectorKey, (file, fd, events, data))
            self._covers(fd)
        return key

    def close(self) -> None:
        super().close()
        self._pairs = []

    def _nanoseconds(self, timeout: float | None) -> int:
        """Convert a timeout to nanoseconds; -1 stands for None."""
        if timeout is None:
            return -1
        if timeout <= 0:
            return 0
        if timeout.__class__ in (int, float) and timeout < LONGEST:
            return math.ceil(timeout * 1e9)
        return self._nanoseconds_standard(timeout)

    def _nanoseconds_standard(self, timeout: float) -> int:
        """Convert an unusual timeout in the way of the standard selectors, with their errors."""
        raise NotImplementedError


class FastPoll(Fast, PlainPoll):
    """For PollSelector."""

    _add = staticmethod(PollSet._add)
    _change = staticmethod(PollSet._change)
    _remove = staticmethod(PollSet._remove)

    def _take_over(self, selector: Any) -> bool:
        self._mux = selector
        return selector.__class__ is PollSet

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait, and return ``(key, events)`` for everything that is ready."""
        poll: PollSet = self._selector
        area: Any = poll._quick
        n = -1
        if area is not None and (
            timeout is NOW
            or timeout is None
            or ((timeout.__class__ is float or timeout.__class__ is int) and -LONGEST < timeout < LONGEST)
        ):
            n = poll_once_now(area.handle)
        if n > 0 or (n == 0 and timeout is NOW):
            self._woken = False
            if n == 0:
                return []
        else:
            ns = self._nanoseconds(timeout)
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
        return self._results(area, n)

    def _nanoseconds_standard(self, timeout: float) -> int:
        return nanoseconds_of(math.ceil(timeout * 1e3))


class EpollSet(epoll):
    """An epoll set with a table around it, which knows stale reports and can be woken up."""

    __slots__ = ()

    _mechanism = MECHANISMS["epoll"]
    _room = 64  # for a start

    def modify(self, fd: Any, eventmask: int) -> None:
        # Where the mask stays the same the core makes no call, and would not notice that the file is gone.
        super().modify(fd, eventmask ^ READ)
        super().modify(fd, eventmask)


class FastEpoll(Fast, PlainEpoll):
    """For EpollSelector."""

    _add, _change, _remove = add, modify, remove

    def _take_over(self, selector: Any) -> bool:
        self._mux = getattr(selector, "_mux", None)
        return selector.__class__ is EpollSet

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait, and return ``(key, events)`` for everything that is ready."""
        ready = self._selector._ready
        if timeout is NOW:
            n = wait_now(ready.handle)
        elif timeout is None:
            n = wait_forever(ready.handle)
        elif (timeout.__class__ is float or timeout.__class__ is int) and -LONGEST < timeout < LONGEST:
            n = wait_try(ready.handle)
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
        if n == ROWS + ready.capacity:
            return self._more_results(ready, n)
        return self._results(ready, n)

    def _more_results(self, ready: Any, n: int) -> list[tuple[SelectorKey, int]]:
        """Build the result of a wait that has filled its array: there may be more than that."""
        result = self._results(ready, n)
        if len(self._fd_to_key) > ready.capacity:
            self._selector._enlarge(2 * len(self._fd_to_key))
            seen = {key.fd for key, _ in result}
            result += [pair for pair in self.select(0) if pair[0].fd not in seen]
        return result

    def wakeup(self) -> None:
        if (result := _core.wakeup(self._mux)) < 0:
            self._selector._fail(result)

    def _rewatch(self, key: SelectorKey) -> None:
        if (result := modify(self._mux, key.fd, mask_of(key.events))) < 0:
            raise _core.os_error(result)

    def _nanoseconds_standard(self, timeout: float) -> int:
        ns: int = self._selector._limits(math.ceil(timeout * 1e3) * 1e-3)[0]
        return ns
