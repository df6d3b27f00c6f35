"""What EpollSelector and PollSelector on the core have in common: registrations, and results by look-up.

A table holds ``(key, events)`` at the indices that the core reports (see _waiting.py). They
are put there before the core is told of the key. They are taken out after the core was told, and in this order: first
another ``_removal``, then the entries. So whoever finds an entry gone began to wait before that, and finds that
``_removal`` has changed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from typing import Any, Final

from . import _core
from ._arguments import LONGEST
from ._checks import new_tuple
from ._core import FEW, ROWS
from ._extended import BOTH, MASKS, PollLike, found, identity
from ._waiting import NOTHING, end_table, look_up, new_table

#: How large the table is at first: enough for those that are made for one question.
_FIRST: Final = 256
#: By how many descriptors it may grow at a time.
_REACH: Final = 16384


class Fast(PollLike):
    """Results by look-up.

    The table has four entries for each descriptor, at the indices of the core: what is reported for reading (1), for
    writing (2), and for both (3), as far as it is asked for. Entry 0 serves modify(): it is the key that was there
    before, if that differs in its events only. Programs switch to and fro between two, and a key takes longer to make
    than to find.
    """

    #: The ways to change what is watched, and their first argument; the others are a descriptor and a mask. (Of the
    #: instance, where an attribute is found more quickly than in its class.)
    _add: Callable[[Any, int, int], int]
    _change: Callable[[Any, int, int], int]
    _remove: Callable[[Any, int], int]
    _mux: Any

    def __init__(self, *, heal: bool = False, fork: str = "share") -> None:
        #: Changed and read without a lock, an entry at a time, in the order that is told above.
        self._pairs: list[Any] = new_table(_FIRST)
        self._reach = _REACH
        #: Another object each time that something is taken out of the table, for those who are waiting: it may have
        #: been reported to them before. Not a count: adding one takes several steps, and there is no lock here.
        self._removal = object()
        super().__init__(heal=heal, fork=fork)
        self._keeps_table = self._take_over(self._selector)
        if not self._keeps_table:
            # A subclass has brought its own. So nothing goes into the table, and all goes the standard way.
            self._mux = None
            self._give_up_table()
            self._add = lambda mux, fd, mask: -1
            self._remove = self._remove_standard

    def _remove_standard(self, mux: Any, fd: int) -> int:
        with contextlib.suppress(OSError):
            self._selector.unregister(fd)
        return 0

    def _take_over(self, selector: Any) -> bool:
        """Keep what is needed of this object, unless it is not one of ours."""
        raise NotImplementedError

    # Results

    def _results(self, area: Any, n: int, removal: object) -> list[tuple[SelectorKey, int]]:
        """Build the result of a wait that found something, and give its array back."""
        keys = self._fd_to_key
        if n < ROWS:
            key = keys.get(n >> 2)
            return [(key, found(key, MASKS[n & 3]))] if key else []
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
            if self._removal is removal:
                area.memory[0] = 0
                return result
        except IndexError:
            pass
        rows = list(zip(area.fds[:n], area.events[:n]))
        area.memory[0] = 0
        return [(key, found(key, mask)) for fd, mask in rows if (key := keys.get(fd))]

    def _keep(self, key: SelectorKey) -> SelectorKey:
        """Put all that can be reported for a key into the table; return the key."""
        fd = key.fd
        if self._covers(fd):
            try:
                row = [(key, found(key, MASKS[code])) for code in (1, 2, 3)]
                self._pairs[fd << 2 : (fd << 2) + 4] = None, *row
            except TypeError:
                # Its events are equal to an int and are none. The standard selectors take that, and complain when
                # they report it.
                self._give_up_table()
        return key

    def _give_up_table(self) -> None:
        """Have nothing looked up any more."""
        self._reach = 0
        end_table(self, list(self._fd_to_key))

    def _forget(self, fd: int) -> None:
        """Take out of the table what is there for a descriptor."""
        self._removal = object()
        if fd << 2 < len(self._pairs):
            self._pairs[fd << 2 : (fd << 2) + 4] = NOTHING

    def _covers(self, fd: int) -> bool:
        """Have the table reach as far as fd, unless that number stands alone, far above all others."""
        missing = (fd << 2) + 4 - len(self._pairs)
        if missing > 4 * self._reach:
            return False
        if missing > 0:
            self._pairs.extend([None] * ((missing | 255) + 1))
        return True

    # Registrations

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Watch fileobj (an int or an object with a fileno() method) for events, and return its key.

        Raises KeyError if it is registered already, ValueError for a bad file or bad events, and OSError as the kernel
        does: EPERM for a regular file on epoll, EBADF for what is not open.
        """
        if self._files is not None:
            self._drop_stale(fileobj, self._files)
        keys = self._fd_to_key
        mask = 0
        try:
            if 0 < events <= BOTH:
                wanted = MASKS[events]
                fd = fileobj if fileobj.__class__ is int else fileobj.fileno()
                index = fd << 2
                if index >= 0 and fd not in keys:
                    mask = wanted
        except (AttributeError, TypeError, ValueError):
            pass  # the standard selector will say what is wrong, and first of what
        if mask:
            keys[fd] = key = new_tuple(SelectorKey, (fileobj, fd, events, data))
            try:
                try:
                    pairs = self._pairs
                    pairs[index + events] = (key, events)
                    if events == BOTH:
                        pairs[index + 1] = (key, EVENT_READ)
                        pairs[index + 2] = (key, EVENT_WRITE)
                except IndexError:
                    self._keep(key)
                if self._add(self._mux, fd, mask) == 0:
                    if self._files is not None:
                        self._files[fd] = identity(fd)
                    return key
            except OverflowError:
                pass
            except BaseException:  # MemoryError; or KeyboardInterrupt, which may come after the kernel has agreed
                with contextlib.suppress(KeyError):  # or before
                    Fast.unregister(self, fd)
                raise
            # There is something wrong: let the standard selector say what.
            self._forget(fd)
            del keys[fd]
        return super().register(fileobj, events, data)

    def _watch(self, key: SelectorKey) -> None:
        self._keep(key)
        try:
            super()._watch(key)
        except BaseException:
            self._forget(key.fd)
            raise

    def unregister(self, fileobj: Any) -> SelectorKey:
        """Stop watching fileobj, and return its key. It may have been closed meanwhile.

        Raises KeyError if it is not registered.
        """
        keys = self._fd_to_key
        try:
            fd = fileobj if fileobj.__class__ is int else fileobj.fileno()
            known = fd in keys
        except (AttributeError, TypeError, ValueError):
            known = False
        if not known:
            key = super().unregister(fileobj)
            self._forget(key.fd)
            return key
        try:
            key = keys.pop(fd)
            fd = key[1]  # as in modify()
            self._remove(self._mux, fd)
        except BaseException:  # KeyboardInterrupt, between the two
            with contextlib.suppress(KeyError):
                self._remove(self._mux, fd)
            raise
        finally:
            self._removal = object()
            try:
                index = fd << 2
                pairs = self._pairs
                pairs[index] = pairs[index + 1] = pairs[index + 2] = pairs[index + 3] = None
            except IndexError:
                pass
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Change what a registered file is watched for, and its data; return the new key.

        With ONESHOT this re-arms, even if nothing changes, and with EDGE it asks for what is ready once more.

        Raises KeyError if it is not registered, and OSError as the kernel does; it is not registered any more then.
        """
        keys = self._fd_to_key
        try:
            fd = fileobj if fileobj.__class__ is int else fileobj.fileno()
            old = keys[fd]
            fd = old[1]  # an int, where fileno() may have returned True
            index = fd << 2
            pairs = self._pairs
            key: Any = pairs[index]
            if key is None or key[2] != events or key[3] is not data or key[0] is not old[0]:
                key = None
                if not (0 < events <= BOTH and 0 < old[2] <= BOTH):
                    return self._modify(fileobj, events, data)
            mask = MASKS[events]
        except (AttributeError, TypeError, ValueError, KeyError, IndexError):
            return self._modify(fileobj, events, data)
        if key is None:
            if events == old[2]:
                changed = data != old[3]
                if not changed:
                    return old
            key = new_tuple(SelectorKey, (old[0], fd, events, data))
        try:
            pairs[index + events] = (key, events)
            if events == BOTH:
                pairs[index + 1] = (key, EVENT_READ)
                pairs[index + 2] = (key, EVENT_WRITE)
            if events != old[2] and (result := self._change(self._mux, fd, mask)) < 0:
                raise _core.os_error(result)
            keys[fd] = key
        except BaseException:
            Fast.unregister(self, fd)
            raise
        self._removal = object()
        pairs[index] = old if data is old[3] else None
        if events != BOTH:
            pairs[index + 3] = pairs[index + BOTH - events] = None
        return key  # type: ignore[no-any-return]

    def _modify(self, fileobj: Any, events: int, data: Any) -> SelectorKey:
        """Do it in the standard way."""
        old = self._fd_to_key.get(self._fileobj_lookup(fileobj))
        if old is None:
            return super().modify(fileobj, events, data)
        self._keep(old)  # for all events, whatever is reported next
        try:
            return self._keep(super().modify(fileobj, events, data))
        except BaseException:
            if old.fd not in self._fd_to_key:
                with contextlib.suppress(KeyError):
                    self._remove(self._mux, old.fd)
                self._forget(old.fd)
            raise

    def close(self) -> None:
        """Forget all registrations, end all waits, and release the descriptors. May be repeated."""
        self._give_up_table()  # the poll object still reports what is no key any more
        super().close()

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
