"""``fastmux.select.epoll``: the standard epoll object on the core."""

from __future__ import annotations

import contextlib
import errno
import operator
from functools import partial
from typing import Any, Final, NoReturn, TypeVar

from ._arguments import ALL, INT_MAX, LONGEST, NOW, NotCopied, descriptor_of, nanoseconds_away
from ._checks import PRIORITY, READ, WRITE
from ._core import (
    BARE_EPOLL,
    CLOSED,
    ROWS,
    NoReady,
    add,
    close,
    fileno,
    modify,
    open_mux,
    os_error,
    remove,
    wait_now,
    wait_try,
    wait_try_some,
)
from ._standard import select
from ._waiting import Waiting, fd_pairs, pairs_of

#: What the standard epoll.poll() reports at most unless told otherwise: FD_SETSIZE - 1.
_DEFAULT: Final = 1023
#: What the kernel takes at most (EP_MAX_EVENTS), and how many of them get room here: more than can be open.
_MOST: Final = INT_MAX // 12
_ROOM: Final = 1 << 20
#: What trying returns if there is nothing.
_NOTHING: Final = -errno.EAGAIN

_Self = TypeVar("_Self", bound="epoll")


def _mask(eventmask: Any) -> int:
    """Convert an event mask; what does not fit is cut, and the standard library may have something to say of it."""
    mask = operator.index(eventmask)
    if mask >> 32:
        with contextlib.suppress(OSError), select.epoll() as other:
            other.register(other.fileno(), mask)
    return mask & 0xFFFFFFFF


class epoll(NotCopied, Waiting):  # noqa: N801
    """An epoll set, as ``select.epoll``.

    Timeouts are seconds, rounded up to milliseconds; None and what is negative wait for ever.
    """

    __slots__ = ("_closed", "_large")

    #: What kind of mux is under it. The kernel's own set, so that nothing differs from the standard object.
    _mechanism = BARE_EPOLL
    #: How many events one wait has room for.
    _room = _DEFAULT

    _ready: Any
    _large: Any
    _closed: bool

    def __new__(cls: type[_Self], sizehint: int = -1, flags: int = 0) -> _Self:
        if sizehint is not ALL or flags != 0 or flags.__class__ is not int:
            select.epoll(sizehint, flags).close()  # does it agree?
        return cls._around(open_mux(cls._mechanism, shared=cls._mechanism != BARE_EPOLL))

    @classmethod
    def _around(cls: type[_Self], mux: Any) -> _Self:
        self = object.__new__(cls)
        self._start(mux, cls._room)
        self._closed = False
        self._large = NoReady  # for those who ask for more events
        return self

    @classmethod
    def fromfd(cls: type[_Self], fd: int, /) -> _Self:
        """Make an epoll object around the descriptor of a set that exists; close() will close it."""
        if isinstance(fd, int) and 0 <= fd <= INT_MAX:
            return cls._around(open_mux(BARE_EPOLL, adopt=int(fd)))
        select.epoll.fromfd(fd).close()
        return cls()  # the standard library makes a new set of -1

    def register(self, fd: Any, eventmask: int = READ | PRIORITY | WRITE) -> None:
        """Watch fd, an int or an object with a fileno() method, for the EPOLL* bits in eventmask.

        Raises OSError as the kernel does: EEXIST if it is watched already, EPERM for a regular file.
        """
        fd = fd if fd.__class__ is int and 0 <= fd <= INT_MAX else descriptor_of(fd)
        mask = eventmask if eventmask.__class__ is int and not eventmask >> 32 else _mask(eventmask)
        if (result := add(self._mux, fd, mask)) < 0:
            self._fail(result)

    def modify(self, fd: Any, eventmask: int) -> None:
        """Watch a registered fd for other events; with EPOLLONESHOT, re-arm it. FileNotFoundError if it is unknown."""
        fd = fd if fd.__class__ is int and 0 <= fd <= INT_MAX else descriptor_of(fd)
        mask = eventmask if eventmask.__class__ is int and not eventmask >> 32 else _mask(eventmask)
        if (result := modify(self._mux, fd, mask)) < 0:
            self._fail(result)

    def unregister(self, fd: Any) -> None:
        """Stop watching fd. Raises FileNotFoundError if it is unknown, OSError (EBADF) if it was closed."""
        fd = fd if fd.__class__ is int and 0 <= fd <= INT_MAX else descriptor_of(fd)
        if (result := remove(self._mux, fd)) < 0:
            self._fail(result)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """Wait for timeout seconds, and return ``(fd, events)`` of what is ready.

        At most maxevents of them; -1 means 1023.
        """
        ready = self._ready
        if timeout is NOW and maxevents is ALL:
            n = wait_now(ready.handle)
        elif timeout is None or (
            (timeout.__class__ is float or timeout.__class__ is int) and -LONGEST < timeout < LONGEST
        ):
            if maxevents is ALL:
                n = wait_try(ready.handle)
            elif maxevents.__class__ is int and 0 < maxevents <= ready.capacity:
                n = wait_try_some(ready.handle, maxevents)
            else:
                n = -1
        else:
            n = -1
        if n == 0:
            return []
        if n < 0:
            if n == _NOTHING and timeout == 0:
                return []
            ready, n = self._poll(timeout, maxevents)
            if n == 0:
                return []
        if n < ROWS:
            try:
                return [fd_pairs[n]]
            except IndexError:
                pass
        return pairs_of(ready, n)

    def _poll(self, timeout: float | None, maxevents: int) -> tuple[Any, int]:
        """Wait with everything that can happen; return the array used and what the core returned."""
        ns, limit = self._limits(timeout, maxevents)
        if limit > _MOST:
            raise os_error(-errno.EINVAL)
        ready, instead = self._ready, self._free_array
        if limit > _DEFAULT:
            limit = min(limit, _ROOM)
            ready, instead = self._large, partial(self._larger, limit)
            if ready.capacity < limit:
                ready = instead(ready)
        return self._wait_for(ns, limit, ready, instead)[:2]

    def _larger(self, limit: int, busy: Any) -> Any:
        """Have another array for more events than usual."""
        self._large = self._new_array(limit)
        return self._large

    def _limits(self, timeout: float | None, maxevents: int = -1) -> tuple[int, int]:
        """Check the arguments of poll(); return the timeout in nanoseconds (-1: for ever), and maxevents.

        In the order of the standard object: is maxevents an int, is this open, is the timeout right, is maxevents.
        """
        try:
            limit = operator.index(maxevents)
            known = -INT_MAX - 1 <= limit <= INT_MAX
        except (TypeError, ValueError, OverflowError):
            known = False
        if known:
            if self._closed:
                self._fail(CLOSED)
            try:
                # Up to whole milliseconds; so whatever is above -1 ms is 0.
                ms = -1 if timeout is None else -(-nanoseconds_away(timeout, 1_000_000_000) // 1_000_000)
                if -INT_MAX - 1 <= ms <= INT_MAX and (limit >= 1 or limit == -1):
                    return (ms * 1_000_000 if ms >= 0 else -1), limit
            except (TypeError, ValueError, OverflowError):
                pass
        with select.epoll() as other:
            other.poll(timeout, maxevents)
        raise OverflowError("timeout is too large")

    def _fail(self, result: int) -> NoReturn:
        if result == CLOSED:
            raise ValueError("I/O operation on closed epoll object")
        raise os_error(result)

    def fileno(self) -> int:
        """Return the descriptor of the epoll set."""
        if (fd := fileno(self._mux)) < 0:
            self._fail(fd)
        return fd  # type: ignore[no-any-return]

    @property
    def closed(self) -> bool:
        """True once close() has been called."""
        return self._closed

    def close(self) -> None:
        """Close the descriptor of the epoll set. Later calls of everything else raise ValueError."""
        self._closed = True
        close(self._mux)

    def __enter__(self: _Self) -> _Self:
        if self._closed:
            self._fail(CLOSED)
        return self

    def __exit__(self, exc_type: Any = None, exc_value: Any = None, exc_tb: Any = None, /) -> None:
        self.close()
