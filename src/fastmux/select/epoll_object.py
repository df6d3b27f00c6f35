"""``fastmux.select.epoll``: the standard epoll object on the C core (csrc/python/epoll_object.c)."""

from __future__ import annotations

import contextlib
import errno
import operator
import sys

from fastmux import _binding
from fastmux._binding import ALL, INT_MAX, NOW, PAIRS, epoll_control, epoll_now, epoll_some, epoll_wait, os_error
from fastmux._events import PRIORITY, READ, WRITE
from fastmux._original import select
from fastmux._timeouts import for_epoll

from .arguments import NotCopied, descriptor_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, NoReturn

#: The default of maxevents: FD_SETSIZE - 1.
_DEFAULT: Final = 1023
#: The kernel's limit of maxevents (EP_MAX_EVENTS), and the most events of one call here: Linux's default for the most
#: open files of a process (fs.nr_open).
_MOST: Final = INT_MAX // 12
_ROOM: Final = 1 << 20
#: Since Python 3.15 close() raises if the descriptor was closed before.
_CLOSE_RAISES: Final = sys.version_info >= (3, 15)


def _mask(eventmask: Any) -> int:
    """Convert an event mask to 32 bits, with the standard library's warning for more."""
    mask = operator.index(eventmask)
    if mask >> 32:
        with contextlib.suppress(OSError), select.epoll() as other:
            other.register(other.fileno(), mask)
    return mask & 0xFFFFFFFF


class epoll(NotCopied):  # noqa: N801
    """An epoll set, as ``select.epoll``.

    Timeouts are seconds, rounded up to milliseconds; None and negative timeouts wait for ever.
    """

    __slots__ = ("_set",)

    _set: Any

    def __new__(cls, *args: int, **kwargs: int) -> epoll:
        """Take sizehint and flags, which have no effect."""
        if args or kwargs:
            select.epoll(*args, **kwargs).close()  # raises for invalid arguments
        return cls._around(-1)

    @classmethod
    def _around(cls, fd: int) -> epoll:
        self = object.__new__(cls)
        if (error := _binding.epoll_open(self, fd, PAIRS)).__class__ is int:
            raise os_error(error)
        _binding.hide(self)
        return self

    def __init_subclass__(cls) -> None:
        raise TypeError("type 'select.epoll' is not an acceptable base type")

    @classmethod
    def fromfd(cls, fd: int, /) -> epoll:
        """Make an epoll object around the descriptor of an existing set; close() will close it."""
        if isinstance(fd, int) and 0 <= fd <= INT_MAX:
            return cls._around(int(fd))
        select.epoll.fromfd(fd).close()
        return cls()  # as the standard library does for -1

    def register(self, fd: Any, eventmask: int = READ | PRIORITY | WRITE) -> None:
        """Watch fd, an int or an object with a fileno() method, for the EPOLL* bits in eventmask.

        Raises OSError as the kernel does: EEXIST if it is watched already, EPERM for a regular file.
        """
        fd = fd if fd.__class__ is int and 0 <= fd <= INT_MAX else descriptor_of(fd)
        mask = eventmask if eventmask.__class__ is int and not eventmask >> 32 else _mask(eventmask)
        if (result := epoll_control(self._set, _binding.SET_ADD, fd, mask)) < 0:
            self._fail(result)

    def modify(self, fd: Any, eventmask: int) -> None:
        """Replace the mask of a registered fd; with EPOLLONESHOT, re-arm it. FileNotFoundError if it is unknown."""
        fd = fd if fd.__class__ is int and 0 <= fd <= INT_MAX else descriptor_of(fd)
        mask = eventmask if eventmask.__class__ is int and not eventmask >> 32 else _mask(eventmask)
        if (result := epoll_control(self._set, _binding.SET_MODIFY, fd, mask)) < 0:
            self._fail(result)

    def unregister(self, fd: Any) -> None:
        """Stop watching fd. Raises FileNotFoundError if it is unknown, OSError (EBADF) if it is closed."""
        fd = fd if fd.__class__ is int and 0 <= fd <= INT_MAX else descriptor_of(fd)
        if (result := epoll_control(self._set, _binding.SET_REMOVE, fd, 0)) < 0:
            self._fail(result)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """Wait for timeout seconds, and return ``(fd, events)`` for each ready descriptor.

        At most maxevents of them; -1 means 1023.
        """
        if maxevents is ALL:
            result = epoll_now(self._set) if timeout is NOW else epoll_wait(self._set, timeout)
        elif maxevents.__class__ is int and 0 < maxevents <= _DEFAULT:
            result = epoll_some(self._set, timeout, maxevents)
        else:
            result = None
        if result.__class__ is list:
            return result
        seconds, limit = self._arguments(timeout, maxevents)
        if limit > _MOST:
            raise os_error(-errno.EINVAL)
        result = epoll_some(self._set, seconds, _DEFAULT if limit == ALL else min(limit, _ROOM))
        return result if result.__class__ is list else self._fail(result)

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
            if self.closed:
                self._fail(_binding.CLOSED)
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
        if result == _binding.CLOSED:
            raise ValueError("I/O operation on closed epoll object")
        raise os_error(result)

    def fileno(self) -> int:
        """Return the descriptor of the epoll set."""
        fd: int = _binding.epoll_fileno(self._set)
        return fd if fd >= 0 else self._fail(fd)

    @property
    def closed(self) -> bool:
        """True once close() has been called."""
        return bool(_binding.epoll_fileno(self._set) < 0)

    def close(self) -> None:
        """Close the descriptor of the epoll set. Later calls of all other methods raise ValueError."""
        if (result := _binding.epoll_close(self._set)) < 0 and _CLOSE_RAISES:
            raise os_error(result)

    def __del__(self) -> None:
        if hasattr(self, "_set"):
            _binding.epoll_close(self._set)

    def __enter__(self) -> epoll:
        self.fileno()  # raises if it is closed
        return self

    def __exit__(self, exc_type: Any = None, exc_value: Any = None, exc_tb: Any = None, /) -> None:
        self.close()
