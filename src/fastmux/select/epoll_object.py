"""``fastmux.select.epoll``: the standard epoll object on the C core."""

from __future__ import annotations

import contextlib
import errno
import operator

from fastmux._binding import (
    ALL,
    BARE_EPOLL,
    BUSY,
    CLOSED,
    EPOLL,
    NO_ARRAY,
    NOW,
    Waits,
    add,
    close,
    epoll_some,
    epoll_wait,
    fileno,
    key_remove,
    modify,
    open_context,
    open_mux,
    open_ready,
    os_error,
    pairs_now,
    remove,
)
from fastmux._events import PRIORITY, READ, WRITE
from fastmux._original import select
from fastmux._timeouts import for_epoll

from .arguments import INT_MAX, NotCopied, descriptor_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, NoReturn, TypeVar

    _Self = TypeVar("_Self", bound="epoll")

#: The default of maxevents in the standard epoll.poll(): FD_SETSIZE - 1.
_DEFAULT: Final = 1023
#: The kernel's limit of maxevents (EP_MAX_EVENTS), and the limit of rows here: more than can be open.
_MOST: Final = INT_MAX // 12
_ROOM: Final = 1 << 20


def _mask(eventmask: Any) -> int:
    """Convert an event mask to 32 bits, with the standard library's warning for more."""
    mask = operator.index(eventmask)
    if mask >> 32:
        with contextlib.suppress(OSError), select.epoll() as other:
            other.register(other.fileno(), mask)
    return mask & 0xFFFFFFFF


class epoll(NotCopied, Waits):  # noqa: N801
    """An epoll set, as ``select.epoll``.

    Timeouts are seconds, rounded up to milliseconds; None and negative timeouts wait for ever.
    """

    __slots__ = ("_closed", "_large")

    _large: Any
    _closed: bool

    def __new__(cls: type[_Self], sizehint: int = -1, flags: int = 0) -> _Self:
        if sizehint.__class__ is not int or sizehint != -1 or flags.__class__ is not int or flags != 0:
            select.epoll(sizehint, flags).close()  # raises for invalid arguments
        return cls._around(open_mux(BARE_EPOLL))

    @classmethod
    def _around(cls: type[_Self], mux: Any, context: bytearray | None = None) -> _Self:
        self = object.__new__(cls)
        self._start(mux, _DEFAULT, context or open_context(mux))
        self._closed = False
        self._large = (NO_ARRAY, 0)  # for a large maxevents: array and rows
        return self

    @classmethod
    def fromfd(cls: type[_Self], fd: int, /) -> _Self:
        """Make an epoll object around the descriptor of an existing set; close() will close it."""
        if isinstance(fd, int) and 0 <= fd <= INT_MAX:
            return cls._around(open_mux(BARE_EPOLL, adopt=int(fd)))
        select.epoll.fromfd(fd).close()
        return cls()  # as the standard library does for -1

    def register(self, fd: Any, eventmask: int = READ | PRIORITY | WRITE) -> None:
        """Watch fd, an int or an object with a fileno() method, for the EPOLL* bits in eventmask.

        Raises OSError as the kernel does: EEXIST if it is watched already, EPERM for a regular file.
        """
        fd = fd if fd.__class__ is int and 0 <= fd <= INT_MAX else descriptor_of(fd)
        mask = eventmask if eventmask.__class__ is int and not eventmask >> 32 else _mask(eventmask)
        if (result := add(self._mux, fd, mask)) < 0:
            self._fail(result)

    def modify(self, fd: Any, eventmask: int) -> None:
        """Replace the mask of a registered fd; with EPOLLONESHOT, re-arm it. FileNotFoundError if it is unknown."""
        fd = fd if fd.__class__ is int and 0 <= fd <= INT_MAX else descriptor_of(fd)
        mask = eventmask if eventmask.__class__ is int and not eventmask >> 32 else _mask(eventmask)
        if (result := modify(self._mux, fd, mask)) < 0:
            self._fail(result)

    def unregister(self, fd: Any) -> None:
        """Stop watching fd. Raises FileNotFoundError if it is unknown, OSError (EBADF) if it is closed."""
        fd = fd if fd.__class__ is int and 0 <= fd <= INT_MAX else descriptor_of(fd)
        if (result := remove(self._mux, fd)) < 0:
            self._fail(result)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """Wait for timeout seconds, and return ``(fd, events)`` for each ready descriptor.

        At most maxevents of them; -1 means 1023.
        """
        if maxevents is ALL:
            result = pairs_now(self._ready) if timeout is NOW else epoll_wait(self._ready, timeout)
        else:
            result = epoll_some(self._ready, timeout, maxevents)
        return result if result.__class__ is list else self._poll(timeout, maxevents)

    def _poll(self, timeout: float | None, maxevents: int) -> list[tuple[int, int]]:
        """Slow path of poll(): the first wait, a busy array, unusual arguments."""
        timeout, limit = self._arguments(timeout, maxevents)
        if limit > _MOST:
            raise os_error(-errno.EINVAL)
        if limit <= _DEFAULT:
            return self._wait_again(epoll_some, timeout, limit)  # type: ignore[no-any-return]
        limit = min(limit, _ROOM)
        while True:
            ready, room = self._large
            result = epoll_some(ready, timeout, limit) if room >= limit else BUSY
            if result.__class__ is list:
                return result
            if result != BUSY:
                self._fail(result)
            self._large = open_ready(self._mux, limit, True, self._context, self._fail)[0], limit

    def _arguments(self, timeout: float | None, maxevents: int) -> tuple[float | None, int]:
        """Check the arguments of poll(), in the order of the standard object.

        That is: the type of maxevents, a closed object, the timeout, the value of maxevents.
        """
        try:
            limit = operator.index(maxevents)
            is_int = -INT_MAX - 1 <= limit <= INT_MAX
        except (TypeError, ValueError, OverflowError):
            is_int = False
        if is_int:
            if self._closed:
                self._fail(CLOSED)
            try:
                seconds = for_epoll(timeout)
                if limit >= 1 or limit == -1:
                    return seconds, limit
            except (TypeError, ValueError, OverflowError):
                pass
        with select.epoll() as other:
            other.poll(timeout, maxevents)  # raises
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
        """Close the descriptor of the epoll set. Later calls of all other methods raise ValueError."""
        self._closed = True
        close(self._mux)

    def __enter__(self: _Self) -> _Self:
        if self._closed:
            self._fail(CLOSED)
        return self

    def __exit__(self, exc_type: Any = None, exc_value: Any = None, exc_tb: Any = None, /) -> None:
        self.close()


class EpollSet(epoll):
    """An epoll set with the core's table, which drops stale reports and has a wake-up; for EpollSelector."""

    __slots__ = ("_table",)

    _table: list[Any]

    def __new__(cls, table: list[Any], keys: dict[int, Any]) -> EpollSet:
        mux = open_mux(EPOLL, shared=True)
        self = cls._around(mux, open_context(mux, table=table, keys=keys))
        self._table = table
        return self

    def unregister(self, fd: Any) -> None:
        if (result := key_remove(self._mux, self._table, descriptor_of(fd))) < 0:
            self._fail(result)
